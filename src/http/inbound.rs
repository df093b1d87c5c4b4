use std::{
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderName, Request};
use tower_layer::Layer;
use tower_service::Service;

use super::{
    ExtensionContext,
    propagation::{self, Headers},
};
use crate::{
    cell::forever,
    context::{CallContext, CarryContext, Scope},
};

/// Reads back, in front of a server, what a [`PropagateLayer`](super::PropagateLayer) has written.
///
/// It puts the [`CallContext`] into the extensions of the request, for layers inside of it that
/// carry an [`ExtensionContext`], and around the handler's task, so that the calls the handler makes
/// inherit the deadline and know whether they are being repeated.
///
/// **Nothing is read unless you say [`trust_inbound`](Self::trust_inbound)**, for anybody can write
/// a header: without it they are taken away, so that a proxy does not hand them on to a tier that
/// trusts the proxy (and tonic does not find a stranger's `grpc-timeout`). What is read can only
/// shorten: a sooner deadline that the request, the task or [`limit`](Self::limit) has, holds. A
/// value that cannot be read is ignored (and told at DEBUG, with feature `tracing`), and a time of
/// more than a year is a year.
///
/// It refuses nothing and stops nothing: a handler whose time is up runs on, while its calls
/// through a stack with a context are refused. Inside of it a
/// [timeout](crate::timeout::TimeoutLayer::context) with an [`ExtensionContext`] ends the handler as
/// well.
///
/// Fits whatever takes an `http::Request`, with any body and error: a router or a route of axum, a
/// server of tonic.
///
/// ```
/// use axum::{Router, routing::get};
/// use buttress::{CallContext, http::InboundLayer};
/// use std::time::Duration;
///
/// async fn handler() -> String {
///     format!("{:?}", CallContext::current().time_left())
/// }
///
/// let inbound = InboundLayer::new().limit(Duration::from_secs(10)).trust_inbound();
/// let app: Router = Router::new().route("/", get(handler)).layer(inbound);
/// # let _ = app;
/// ```
#[derive(Clone, Copy, Debug)]
pub struct InboundLayer {
    headers: &'static Headers,
    limit: Option<Duration>,
    trusted: bool,
}

impl InboundLayer {
    /// Trusts nobody, and so reads nothing.
    pub const fn new() -> Self {
        InboundLayer { headers: &propagation::DEFAULT, limit: None, trusted: false }
    }

    /// Reads the headers.
    ///
    /// For servers whose callers are all your own. What a stranger could do is to make its own calls
    /// fail early and to keep them from being repeated. Breakers do not count a deadline that was too
    /// short as long as every tier says so with [`Refusals`](super::Refusals); still no way to run an
    /// edge.
    ///
    /// Read are `grpc-timeout` and `x-envoy-expected-rq-timeout-ms`, of which the sooner counts, and
    /// `buttress-attempt`, or else `grpc-previous-rpc-attempts`.
    ///
    /// Default: off.
    pub const fn trust_inbound(self) -> Self {
        InboundLayer { trusted: true, ..self }
    }

    /// The server's own limit: the deadline of every request, unless it has a sooner one.
    ///
    /// Default: none.
    pub const fn limit(self, limit: Duration) -> Self {
        InboundLayer { limit: Some(limit), ..self }
    }

    /// Reads the time left, in milliseconds, from this header. The name is kept for the life of the
    /// process.
    ///
    /// Default: `x-envoy-expected-rq-timeout-ms`.
    pub fn deadline_header(self, name: HeaderName) -> Self {
        let headers = Headers { deadline: name, attempt: self.headers.attempt.clone() };
        InboundLayer { headers: forever(headers), ..self }
    }

    /// Reads the number of the attempt from this header. The name is kept for the life of the
    /// process.
    ///
    /// Default: `buttress-attempt`.
    pub fn attempt_header(self, name: HeaderName) -> Self {
        let headers = Headers { deadline: self.headers.deadline.clone(), attempt: name };
        InboundLayer { headers: forever(headers), ..self }
    }

    fn context<B>(&self, request: &Request<B>) -> CallContext {
        // The limit of a timeout around this server, too, is one of a caller to the calls that the
        // handler makes: what they call is not to blame for it.
        let mut context = CallContext { own_limit: false, ..ExtensionContext.context(request) };
        // The handler's task will go by this, so what is known to the task must not get lost.
        let task = CallContext::current();
        context = task.deadline.map_or(context, |deadline| context.due(deadline));
        context.attempt = context.attempt.or(task.attempt);
        if let Some(limit) = self.limit {
            context = context.due_in(limit);
        }
        if self.trusted { self.headers.read(context, request.headers()) } else { context }
    }
}

impl Default for InboundLayer {
    fn default() -> Self {
        InboundLayer::new()
    }
}

impl<S> Layer<S> for InboundLayer {
    type Service = InboundService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        InboundService { inner, layer: *self }
    }
}

/// Learns from requests what their callers have said about them; made by [`InboundLayer`].
#[derive(Clone, Copy, Debug)]
pub struct InboundService<S> {
    inner: S,
    layer: InboundLayer,
}

impl<S> InboundService<S> {
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

impl<S, B> Service<Request<B>> for InboundService<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Scope<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let context = self.layer.context(&request);
        if !self.layer.trusted {
            self.layer.headers.strip(request.headers_mut());
        }
        // Both ways: the extensions for layers that carry those, the task for the calls it makes.
        let call = || ExtensionContext.carry(context, request, |request| self.inner.call(request));
        context.scope(context.sync_scope(call))
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use tower::{ServiceExt, service_fn};

    use super::*;
    use crate::{BoxError, TaskContext, Timeout};

    /// What a handler is told, through the extensions and with the task.
    async fn tell(request: Request<()>) -> Result<[CallContext; 2], BoxError> {
        Ok([ExtensionContext.context(&request), CallContext::current()])
    }

    #[tokio::test(start_paused = true)]
    async fn the_limit_of_a_timeout_around_a_server_is_a_caller_s_to_the_calls_of_its_handler() {
        let second = Duration::from_secs(1);
        let server = InboundLayer::new().layer(service_fn(tell));
        let timeout = Timeout::after(second).layer();
        let carried = timeout.context(ExtensionContext).layer(server);
        let with_the_task = timeout.context(TaskContext).layer(server);
        for told in [
            carried.oneshot(Request::new(())).await.unwrap(),
            with_the_task.oneshot(Request::new(())).await.unwrap(),
        ] {
            for context in told {
                assert_eq!(context.time_left(), Some(second));
                assert!(!context.own_limit);
            }
        }
    }
}
