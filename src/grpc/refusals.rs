use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tonic::{Code, Status, metadata::MetadataValue};
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    error::{BoxError, Error, PolicyError, PolicyErrorKind, StackError},
    http::HURRY,
};

/// The top layer of a stack around a gRPC client's channel or a gRPC server: a refusal becomes a
/// [`tonic::Status`] with the fitting code, and so does what the service itself fails with.
///
/// Without it the caller of a generated client sees `Unknown`, which is what tonic makes of an error
/// that it does not know. With it:
///
/// | refusal | code |
/// |---|---|
/// | [`CircuitOpen`](PolicyErrorKind::CircuitOpen) | `UNAVAILABLE` |
/// | [`TimedOut`](PolicyErrorKind::TimedOut), [`DeadlineTooShort`](PolicyErrorKind::DeadlineTooShort) | `DEADLINE_EXCEEDED` |
///
/// The [`PolicyError`] is the status's [source](std::error::Error::source). The message says what
/// kind of refusal it is and no more, because a server sends it to whoever calls. Where the policy
/// knows when to come back, the metadata say so as `grpc-retry-pushback-ms` (gRPC proposal A6),
/// which is what `Retry-After` is to HTTP; and where the caller had left too little time they have
/// `buttress-refusal`, which [`Statuses`](super::Statuses) reads as a refusal.
///
/// ```no_run
/// use buttress::{CircuitBreaker, ServiceErrors, Stack, grpc};
/// use std::time::Duration;
///
/// # async fn connect() -> Result<(), Box<dyn std::error::Error>> {
/// let channel = tonic::transport::Endpoint::from_static("http://inventory:50051").connect_lazy();
/// let protected = Stack::new()
///     .layer(grpc::Refusals)
///     .breaker(CircuitBreaker::builder("inventory").build()?)
///     .timeout(Duration::from_millis(500))
///     .layer(ServiceErrors)
///     .service(channel);
/// // let client = InventoryClient::new(protected);
/// # let _ = protected;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Refusals;

impl<S> Layer<S> for Refusals {
    type Service = RefusalsService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RefusalsService { inner }
    }
}

/// A service whose errors are statuses; made by [`Refusals`].
#[derive(Clone, Copy, Debug)]
pub struct RefusalsService<S> {
    inner: S,
}

impl<S> RefusalsService<S> {
    /// The wrapped service.
    pub const fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The wrapped service.
    pub const fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Unwraps the service.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, Req, E> Service<Req> for RefusalsService<S>
where
    S: Service<Req, Error = Error<E>>,
    E: Into<BoxError>,
{
    type Response = S::Response;
    type Error = Status;
    type Future = RefusalsFuture<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        self.inner.poll_ready(cx).map_err(status)
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        RefusalsFuture { inner: self.inner.call(request) }
    }
}

pin_project! {
    /// The future of a [`RefusalsService`]. Cancel safe: dropped, it drops the call.
    #[must_use = "futures do nothing unless you `.await` or poll them"]
    pub struct RefusalsFuture<F> {
        #[pin]
        inner: F,
    }
}

impl<F, Res, E> Future for RefusalsFuture<F>
where
    F: Future<Output = Result<Res, Error<E>>>,
    E: Into<BoxError>,
{
    type Output = Result<Res, Status>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = ready!(self.project().inner.poll(cx));
        Poll::Ready(outcome.map_err(status))
    }
}

impl<F> fmt::Debug for RefusalsFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefusalsFuture").finish_non_exhaustive()
    }
}

#[cold]
fn status<E: Into<BoxError>>(error: Error<E>) -> Status {
    match error {
        Error::Policy(error) => error.into(),
        Error::Service(error) => Status::from_error(error.into()),
    }
}

/// As [`Refusals`] says.
impl From<PolicyError> for Status {
    fn from(error: PolicyError) -> Status {
        let (code, message) = match error.kind() {
            PolicyErrorKind::CircuitOpen => (Code::Unavailable, "the circuit is open"),
            PolicyErrorKind::TimedOut => (Code::DeadlineExceeded, "timed out"),
            PolicyErrorKind::DeadlineTooShort => {
                (Code::DeadlineExceeded, "the deadline is too short")
            }
        };
        let mut status = Status::new(code, message);
        if let Some(wait) = error.retry_after() {
            let wait = MetadataValue::from(whole_milliseconds(wait));
            status.metadata_mut().insert("grpc-retry-pushback-ms", wait);
        }
        if error.is_callers_hurry() {
            let kind = MetadataValue::from_static(error.kind().as_str());
            status.metadata_mut().insert(HURRY, kind);
        }
        status.set_source(Arc::new(error));
        status
    }
}

/// A generated client's error in a stack, or under [`Retry::call`](crate::Retry::call). The policy
/// error is found among its sources.
impl StackError for Status {
    fn policy_error(&self) -> Option<&PolicyError> {
        let mut next = std::error::Error::source(self);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref::<PolicyError>() {
                return Some(found);
            }
            next = error.source();
        }
        None
    }
}

/// Rounded up, for a client that comes a little too early is refused once more.
fn whole_milliseconds(wait: Duration) -> i32 {
    i32::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        breaker::{Evidence, OpenReason},
        clock::nanos,
        verdict::Verdict,
    };

    fn open(wait: Option<Duration>) -> PolicyError {
        PolicyError::circuit_open("payments", Evidence::of(OpenReason::Forced), wait.map(nanos))
    }

    #[test]
    fn a_refusal_is_found_again_in_its_status() {
        let status = Status::from(open(Some(Duration::from_micros(1500))));
        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(status.metadata().get("grpc-retry-pushback-ms").unwrap(), "2");
        assert_eq!(status.policy_error(), Some(&open(Some(Duration::from_micros(1500)))));
        assert!(!status.message().contains("payments"), "{status}");
    }

    #[test]
    fn without_a_hint_there_is_no_pushback() {
        let status = Status::from(PolicyError::timed_out("payments", Duration::from_secs(1)));
        assert_eq!(status.code(), Code::DeadlineExceeded);
        assert!(status.metadata().is_empty());
        assert_eq!(whole_milliseconds(Duration::MAX), i32::MAX);
    }

    #[test]
    fn a_callers_hurry_is_a_refusal_to_the_client_too() {
        let statuses = crate::grpc::Statuses::new();
        let hurry = Duration::from_millis(1);
        let too_short = PolicyError::deadline_too_short("payments", hurry, hurry * 2);
        for error in [PolicyError::caller_timed_out("payments", hurry), too_short] {
            let verdict = statuses.verdict_of_status(&Status::from(error));
            assert_eq!(verdict, Verdict::Refused { retry_after: None }, "{error}");
        }
        let own = Status::from(PolicyError::timed_out("payments", hurry));
        assert_eq!(statuses.verdict_of_status(&own), Verdict::Transient);
    }

    #[test]
    fn what_the_service_fails_with_is_not_taken_for_a_refusal() {
        let status = status(Error::<BoxError>::Service("no such table".into()));
        assert_eq!(status.code(), Code::Unknown);
        assert_eq!(status.policy_error(), None);
    }

    #[test]
    fn tonic_finds_the_status_through_the_wrappers_of_other_layers() {
        #[derive(Debug, thiserror::Error)]
        #[error("a layer in between")]
        struct Wrapped(#[source] Status);
        let found = Status::from_error(Box::new(Wrapped(open(None).into())));
        assert_eq!(found.code(), Code::Unavailable);
        assert_eq!(Status::from_error(Box::new(open(None))).code(), Code::Unknown);
    }
}
