use std::task::{Context, Poll};

use http::Request;
use http_body::Body;
use tower_layer::Layer;
use tower_service::Service;

use super::ReplayBody;

/// Turns each `Request<B>` into a `Request<`[`ReplayBody<B>`]`>`, so that the policies below can send
/// a streaming body again.
///
/// The one line that a client with streaming bodies adds, above the retry (or the fallback to a
/// backup service):
///
/// ```
/// use buttress::{Retry, ServiceErrors, Stack, http::{Idempotent, ReplayBody, ReplayLayer}};
/// use http::{Request, Response};
/// # use http_body_util::Full;
/// # use bytes::Bytes;
///
/// # fn is_service<S: tower::Service<Request<Full<Bytes>>>>(_: &S) {}
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let client = tower::service_fn(|_: Request<ReplayBody<Full<Bytes>>>| async {
/// #     Ok::<_, std::io::Error>(Response::new(()))
/// # });
/// let retry = Retry::builder("uploads").build()?;
/// let client = Stack::new()
///     .clone_with(Idempotent)
///     .layer(ReplayLayer::new())
///     .retry(retry)
///     .layer(ServiceErrors)
///     .service(client);
/// # is_service(&client);
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayLayer {
    limit: usize,
}

impl ReplayLayer {
    /// A layer that keeps up to 64 KiB of each body.
    pub const fn new() -> Self {
        ReplayLayer { limit: 64 * 1024 }
    }

    /// How many bytes of a body are kept, at most. A longer one is sent once.
    ///
    /// Default: 64 KiB. API calls are far below that and uploads far above, so a few times more or
    /// less makes little difference to what can be sent again; and a thousand requests at the same
    /// time take no more than 64 MiB. It is also the flow-control window that a stream of HTTP/2
    /// starts with (RFC 9113, section 6.9.2): about what may be on its way before a server has taken
    /// any of it.
    pub const fn limit(self, bytes: usize) -> Self {
        ReplayLayer { limit: bytes }
    }
}

impl Default for ReplayLayer {
    fn default() -> Self {
        ReplayLayer::new()
    }
}

impl<S> Layer<S> for ReplayLayer {
    type Service = ReplayService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ReplayService { inner, limit: self.limit }
    }
}

/// A service whose requests' bodies can be sent again by those below; made by [`ReplayLayer`].
#[derive(Clone, Copy, Debug)]
pub struct ReplayService<S> {
    inner: S,
    limit: usize,
}

impl<S> ReplayService<S> {
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

impl<S, B> Service<Request<B>> for ReplayService<S>
where
    S: Service<Request<ReplayBody<B>>>,
    B: Body,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Request<B>) -> Self::Future {
        let limit = self.limit;
        self.inner.call(request.map(|body| ReplayBody::new(body, limit)))
    }
}
