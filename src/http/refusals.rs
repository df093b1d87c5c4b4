use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::error::{Error, PolicyError, PolicyErrorKind};

/// The top layer of a server's stack: a refusal becomes a response, as
/// [`refusal_response`] words it. The inverse of [`ServiceErrors`](crate::ServiceErrors): the error
/// type is the service's own again, so a route that cannot fail still cannot.
///
/// Around an axum route, whose error is `Infallible`:
///
/// ```
/// use axum::{Router, routing::get};
/// use buttress::{CircuitBreaker, ServiceErrors, Stack, http};
/// use std::time::Duration;
///
/// let breaker = CircuitBreaker::builder("orders").build()?;
/// let protected = Stack::new()
///     .layer(http::Refusals)
///     .breaker(breaker)
///     .timeout(Duration::from_secs(2))
///     .layer(ServiceErrors);
/// let app: Router = Router::new()
///     .route("/orders", get(|| async { "none yet" }))
///     .route("/orders/new", get(|| async { "how many?" }))
///     .layer(protected);
/// # let _ = app;
/// # Ok::<(), buttress::ConfigError>(())
/// ```
///
/// axum makes a service of the layer for each route. They share the one breaker all the same,
/// because a handle is what they are made from.
///
/// The response's body must be one that bytes can be turned into, as axum's and `Full<Bytes>` can.
#[derive(Clone, Copy, Debug, Default)]
pub struct Refusals;

impl<S> Layer<S> for Refusals {
    type Service = RefusalsService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RefusalsService { inner, unready: None }
    }
}

/// A service whose refusals are responses; made by [`Refusals`].
#[derive(Debug)]
pub struct RefusalsService<S> {
    inner: S,
    /// The inner service failed its readiness with this refusal: so will the next call.
    unready: Option<PolicyError>,
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

/// A clone has not been polled, so it has to learn for itself whether it is ready.
impl<S: Clone> Clone for RefusalsService<S> {
    fn clone(&self) -> Self {
        RefusalsService { inner: self.inner.clone(), unready: None }
    }
}

impl<S, Req, B, E> Service<Req> for RefusalsService<S>
where
    S: Service<Req, Response = Response<B>, Error = Error<E>>,
    B: From<Bytes>,
{
    type Response = Response<B>;
    type Error = E;
    type Future = RefusalsFuture<S::Future>;

    /// Ready when the inner service is. If its readiness fails with a refusal this is ready as
    /// well, and the next call gets the response to that.
    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), E>> {
        self.unready = None;
        match ready!(self.inner.poll_ready(cx)) {
            Ok(()) => {}
            Err(Error::Policy(error)) => self.unready = Some(error),
            Err(Error::Service(error)) => return Poll::Ready(Err(error)),
        }
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        let state = match self.unready.take() {
            Some(error) => State::Refused { error },
            None => State::Calling { inner: self.inner.call(request) },
        };
        RefusalsFuture { state }
    }
}

pin_project! {
    /// The future of a [`RefusalsService`]. Cancel safe: dropped, it drops the call.
    #[must_use = "futures do nothing unless you `.await` or poll them"]
    pub struct RefusalsFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProject]
    enum State<F> {
        Calling { #[pin] inner: F },
        Refused { error: PolicyError },
    }
}

impl<F, B, E> Future for RefusalsFuture<F>
where
    F: Future<Output = Result<Response<B>, Error<E>>>,
    B: From<Bytes>,
{
    type Output = Result<Response<B>, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let error = match self.project().state.project() {
            StateProject::Calling { inner } => match ready!(inner.poll(cx)) {
                Ok(response) => return Poll::Ready(Ok(response)),
                Err(Error::Service(error)) => return Poll::Ready(Err(error)),
                Err(Error::Policy(error)) => error,
            },
            StateProject::Refused { error } => *error,
        };
        Poll::Ready(Ok(refusal_response(&error).map(B::from)))
    }
}

impl<F> fmt::Debug for RefusalsFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Calling { .. } => "calling",
            State::Refused { .. } => "refused",
        };
        f.debug_struct("RefusalsFuture").field("state", &state).finish_non_exhaustive()
    }
}

/// Says of a response that the caller had left too little time: a refusal to its policies. Whoever
/// answers with it only makes light of its own failures.
pub(crate) const HURRY: &str = "buttress-refusal";

/// The response that tells a client of a server about a refusal.
///
/// | refusal | status |
/// |---|---|
/// | [`CircuitOpen`](PolicyErrorKind::CircuitOpen) | 503 |
/// | [`TimedOut`](PolicyErrorKind::TimedOut), [`DeadlineTooShort`](PolicyErrorKind::DeadlineTooShort) | 504 |
///
/// With `Retry-After` in seconds, rounded up, where the policy knows; and a small body of type
/// `application/problem+json` ([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)), whose member
/// `code` is the kind of the error. Where the caller had left too little time, the header
/// `buttress-refusal` says so, and a client's [`Responses`](super::Responses) reads it: to its
/// policies the call was refused, and no breaker counts it. The names of policies and the counts
/// behind the refusal stay inside: they are for your logs, not for whoever calls.
///
/// ```
/// use buttress::{CircuitBreaker, Error, http};
///
/// # tokio_test::block_on(async {
/// let breaker = CircuitBreaker::builder("payments").build()?;
/// breaker.force_open("maintenance", Some(std::time::Duration::from_secs(90)));
/// let Err(Error::Policy(error)) = breaker.call(|| async { Ok::<(), Error<()>>(()) }).await else {
///     panic!("the circuit is open");
/// };
/// let response = http::refusal_response(&error);
/// assert_eq!(response.status(), 503);
/// assert_eq!(response.headers()["retry-after"], "90");
/// # Ok::<(), buttress::ConfigError>(()) }).unwrap();
/// ```
pub fn refusal_response(error: &PolicyError) -> Response<Bytes> {
    let (status, detail) = match error.kind() {
        PolicyErrorKind::CircuitOpen => {
            (StatusCode::SERVICE_UNAVAILABLE, "Something that this depends on is not available.")
        }
        PolicyErrorKind::TimedOut => {
            (StatusCode::GATEWAY_TIMEOUT, "It took longer than it may. It may have been done.")
        }
        PolicyErrorKind::DeadlineTooShort => {
            (StatusCode::GATEWAY_TIMEOUT, "There is not enough time left to do it.")
        }
    };
    let (title, code) = (status.canonical_reason().unwrap_or_default(), error.kind().as_str());
    // Every part is a constant of ours without anything to escape.
    let body = format!(
        r#"{{"type":"about:blank","title":"{title}","status":{},"detail":"{detail}","code":"{code}"}}"#,
        status.as_u16()
    );
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let problem = HeaderValue::from_static("application/problem+json");
    headers.insert(header::CONTENT_TYPE, problem);
    if let Some(wait) = error.retry_after() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
    }
    if error.is_callers_hurry() {
        headers.insert(HURRY, HeaderValue::from_static(code));
    }
    response
}

/// Rounded up, for a client that comes a little too early is refused once more; so never zero.
fn whole_seconds(wait: Duration) -> u64 {
    let rounded = wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0));
    rounded.max(1)
}

#[cfg(feature = "axum")]
mod axum {
    use axum_core::{
        body::Body,
        response::{IntoResponse, Response},
    };

    use super::{Error, PolicyError, refusal_response};

    /// As [`refusal_response`] words it.
    #[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
    impl IntoResponse for PolicyError {
        fn into_response(self) -> Response {
            refusal_response(&self).map(Body::from)
        }
    }

    /// For handlers that return what a protected client says: the service's error as its own type
    /// wants it, a refusal as [`refusal_response`] words it.
    #[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
    impl<E: IntoResponse> IntoResponse for Error<E> {
        fn into_response(self) -> Response {
            match self {
                Error::Service(error) => error.into_response(),
                Error::Policy(error) => error.into_response(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_rounded_up_to_whole_seconds() {
        let seconds = |nanos: u64| whole_seconds(Duration::from_nanos(nanos));
        assert_eq!(seconds(0), 1);
        assert_eq!(seconds(1), 1);
        assert_eq!(seconds(1_000_000_000), 1);
        assert_eq!(seconds(1_000_000_001), 2);
        assert_eq!(whole_seconds(Duration::MAX), u64::MAX);
    }
}
