use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{HeaderName, HeaderValue, StatusCode};
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    ExtensionContext, RequestHead, ResponseHead,
    propagation::{self, Headers},
};
use crate::{
    cell::forever,
    context::{CallContext, CarryContext},
    error::{PolicyError, StackError},
};

/// Writes what the callers of a request have said about it into its headers, for the next tier.
///
/// The innermost layer of a client, just above [`ServiceErrors`](crate::ServiceErrors), so that every
/// attempt says what is left of the time when it goes out.
///
/// | what | header | format |
/// |---|---|---|
/// | time left | `x-envoy-expected-rq-timeout-ms` | milliseconds, rounded down |
/// | | with [`grpc`](Self::grpc): `grpc-timeout` | gRPC's: at most eight digits and a unit |
/// | attempt | `buttress-attempt` | a number, counted from 1; says that somebody repeats this call if it fails |
/// | | with [`grpc`](Self::grpc), from the second attempt on, also `grpc-previous-rpc-attempts` | its number less one |
///
/// HTTP has no standard header for either. For the time, Envoy's says exactly this ("the time in
/// milliseconds the router expects the request to be completed"), is written by every mesh that is
/// made of Envoys, and read by services that never heard of buttress. For the attempt, the name is
/// our own on purpose: Envoy's `x-envoy-attempt-count` and gRPC's `grpc-previous-rpc-attempts` count
/// attempts, but on the first they do not tell whether there may be a second, and a tier that
/// stopped repeating for a 1 that means nothing would lose its retries.
///
/// A call whose time left rounds to zero, which in neither format means zero, is refused:
/// [`DeadlineTooShort`](crate::PolicyErrorKind::DeadlineTooShort). A shorter time that stands in the
/// header already, as tonic's `Request::set_timeout` writes it, stays.
///
/// # Who is to blame
///
/// A server that was told how long it has says so when that is over, and its answer arrives at about
/// the time at which a timeout here would have fired, before or after it. So what a server says about
/// time that is up (504; gRPC's `DEADLINE_EXCEEDED` and `CANCELLED`), and any error of the client,
/// become [`TimedOut`](crate::PolicyErrorKind::TimedOut) once the time that was told has passed: a
/// failure if it was the limit of a timeout of this stack, and else the caller's business, a refusal
/// that opens no circuit.
///
/// ```
/// use buttress::{Retry, ServiceErrors, Stack, http};
/// use std::time::Duration;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let client = Stack::http()
///     .context(http::ExtensionContext)
///     .timeout(Duration::from_secs(3))
///     .retry(Retry::builder("inventory").build()?)
///     .timeout(Duration::from_millis(500))
///     .layer(http::PropagateLayer::new())
///     .layer(ServiceErrors);
/// # let _ = client;
/// # Ok(()) }
/// ```
///
/// For reqwest, whose requests hide their extensions, both the stack and this layer take
/// [`TaskContext`](crate::TaskContext) in its place.
#[derive(Clone, Copy)]
pub struct PropagateLayer<X = ExtensionContext> {
    carrier: X,
    headers: &'static Headers,
    grpc: bool,
}

impl PropagateLayer {
    /// For plain HTTP.
    pub const fn new() -> Self {
        PropagateLayer { carrier: ExtensionContext, headers: &propagation::DEFAULT, grpc: false }
    }

    /// For gRPC.
    pub const fn grpc() -> Self {
        PropagateLayer { carrier: ExtensionContext, headers: &propagation::DEFAULT, grpc: true }
    }
}

impl Default for PropagateLayer {
    fn default() -> Self {
        PropagateLayer::new()
    }
}

impl<X> PropagateLayer<X> {
    /// Where the context of a request is read from: a [`CarryContext`].
    ///
    /// Default: [`ExtensionContext`], the extensions of an `http::Request` or else the task.
    pub fn context<Y>(self, carrier: Y) -> PropagateLayer<Y> {
        PropagateLayer { carrier, headers: self.headers, grpc: self.grpc }
    }

    /// Says the time left in this header, in milliseconds, and not in gRPC's. The name is kept for
    /// the life of the process.
    ///
    /// Default: `x-envoy-expected-rq-timeout-ms`.
    pub fn deadline_header(self, name: HeaderName) -> Self {
        let headers = Headers { deadline: name, attempt: self.headers.attempt.clone() };
        PropagateLayer { headers: forever(headers), grpc: false, ..self }
    }

    /// Says the number of the attempt in this header. The name is kept for the life of the process.
    ///
    /// Default: `buttress-attempt`.
    pub fn attempt_header(self, name: HeaderName) -> Self {
        let headers = Headers { deadline: self.headers.deadline.clone(), attempt: name };
        PropagateLayer { headers: forever(headers), ..self }
    }
}

impl<S, X: Clone> Layer<S> for PropagateLayer<X> {
    type Service = PropagateService<S, X>;

    fn layer(&self, inner: S) -> Self::Service {
        PropagateService { inner, layer: self.clone() }
    }
}

impl<X> fmt::Debug for PropagateLayer<X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PropagateLayer")
            .field("headers", &self.headers)
            .field("grpc", &self.grpc)
            .finish_non_exhaustive()
    }
}

/// Tells the next tier what is known of a call; made by [`PropagateLayer`].
#[derive(Clone, Copy, Debug)]
pub struct PropagateService<S, X = ExtensionContext> {
    inner: S,
    layer: PropagateLayer<X>,
}

impl<S, X> PropagateService<S, X> {
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

impl<S, X, Req> Service<Req> for PropagateService<S, X>
where
    S: Service<Req>,
    S::Response: ResponseHead,
    S::Error: StackError,
    Req: RequestHead,
    X: CarryContext<Req>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = PropagateFuture<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Req) -> Self::Future {
        let PropagateLayer { carrier, headers, grpc } = &self.layer;
        let (context, now) = (carrier.context(&request), Instant::now());
        let state = match headers.write(*grpc, context, request.headers_mut()) {
            Ok(told) => {
                let until = |after| Some(Told { after, end: now.checked_add(after)?, context });
                State::Call { call: self.inner.call(request), told: told.and_then(until) }
            }
            Err(error) => State::Refused { error: Some(error) },
        };
        PropagateFuture { state }
    }
}

pin_project! {
    /// The future of a [`PropagateService`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the inner future.
    ///
    /// # Panics
    ///
    /// When polled after it was ready, if it was a refusal; else as the inner future does.
    #[must_use = "futures do nothing unless you `.await` or poll them"]
    pub struct PropagateFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProject]
    enum State<F> {
        Call { #[pin] call: F, told: Option<Told> },
        Refused { error: Option<PolicyError> },
    }
}

/// The time that the next tier was told it has.
#[derive(Clone, Copy, Debug)]
struct Told {
    after: Duration,
    end: Instant,
    context: CallContext,
}

impl Told {
    /// The error in the place of this outcome, if it comes of that time being up.
    fn time_is_up<Res, Err>(self, outcome: &Result<Res, Err>) -> Option<PolicyError>
    where
        Res: ResponseHead,
        Err: StackError,
    {
        let of_time = match outcome {
            Ok(response) => says_time_is_up(response),
            Err(error) => error.policy_error().is_none(),
        };
        if !of_time || Instant::now() < self.end {
            return None;
        }
        Some(if self.context.own_limit {
            PolicyError::timed_out("", self.after)
        } else {
            PolicyError::caller_timed_out("", self.after)
        })
    }
}

/// 504, or one of gRPC: 1 is `CANCELLED`, which tonic says of its own accord, 4 `DEADLINE_EXCEEDED`.
fn says_time_is_up(response: &impl ResponseHead) -> bool {
    let grpc = response.headers().get("grpc-status").map(HeaderValue::as_bytes);
    response.status() == StatusCode::GATEWAY_TIMEOUT || matches!(grpc, Some(b"1" | b"4"))
}

impl<F, Res, Err> Future for PropagateFuture<F>
where
    F: Future<Output = Result<Res, Err>>,
    Res: ResponseHead,
    Err: StackError,
{
    type Output = Result<Res, Err>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProject::Call { call, told } => {
                let outcome = ready!(call.poll(cx));
                match told.and_then(|told| told.time_is_up(&outcome)) {
                    Some(error) => Poll::Ready(Err(error.into())),
                    None => Poll::Ready(outcome),
                }
            }
            StateProject::Refused { error } => {
                let error = error.take().expect("`PropagateFuture` polled after it was ready");
                Poll::Ready(Err(error.into()))
            }
        }
    }
}

impl<F> fmt::Debug for PropagateFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Call { .. } => "call",
            State::Refused { .. } => "refused",
        };
        f.debug_struct("PropagateFuture").field("state", &state).finish_non_exhaustive()
    }
}
