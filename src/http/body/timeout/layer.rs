use std::task::{Context, Poll};

use http::Response;
use http_body::Body;
use tower_layer::Layer;
use tower_service::Service;

use super::{BodyTimeout, BodyTimeoutFuture, watch::Watch};
use crate::error::StackError;

/// Limits the bodies of a service's responses; made by [`BodyTimeout::layer`].
#[derive(Clone, Copy, Debug)]
pub struct BodyTimeoutLayer {
    timeout: BodyTimeout,
}

impl BodyTimeoutLayer {
    pub(super) const fn new(timeout: BodyTimeout) -> Self {
        BodyTimeoutLayer { timeout }
    }
}

impl<S> Layer<S> for BodyTimeoutLayer {
    type Service = BodyTimeoutService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        BodyTimeoutService { inner, timeout: self.timeout }
    }
}

/// A service whose responses' bodies are limited in time; made by [`BodyTimeoutLayer`].
#[derive(Clone, Copy, Debug)]
pub struct BodyTimeoutService<S> {
    inner: S,
    timeout: BodyTimeout,
}

impl<S> BodyTimeoutService<S> {
    /// The timeout it was made from.
    pub const fn timeout(&self) -> BodyTimeout {
        self.timeout
    }

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

impl<S, Req, B> Service<Req> for BodyTimeoutService<S>
where
    S: Service<Req, Response = Response<B>>,
    S::Error: StackError,
    B: Body,
{
    type Response = Response<super::TimeoutBody<B>>;
    type Error = S::Error;
    type Future = BodyTimeoutFuture<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        let watch = Watch::start(self.timeout.cell);
        BodyTimeoutFuture::new(self.inner.call(request), watch)
    }
}
