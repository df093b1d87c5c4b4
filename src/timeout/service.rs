use std::{
    fmt,
    task::{Context, Poll},
};

use tower_service::Service;

use super::{Fixed, RequestTimeout, Timeout, TimeoutFuture};
use crate::{
    context::{CarryContext, NoContext},
    error::StackError,
};

/// A service whose calls are limited in time; made by [`TimeoutLayer`](super::TimeoutLayer).
#[derive(Clone, Copy)]
pub struct TimeoutService<S, D = Fixed, X = NoContext> {
    inner: S,
    timeout: Timeout,
    per_request: D,
    carrier: X,
}

impl<S, D, X> TimeoutService<S, D, X> {
    pub(super) const fn new(inner: S, timeout: Timeout, per_request: D, carrier: X) -> Self {
        TimeoutService { inner, timeout, per_request, carrier }
    }

    /// The timeout it was made from.
    pub const fn timeout(&self) -> Timeout {
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

impl<S, D, X, Req> Service<Req> for TimeoutService<S, D, X>
where
    S: Service<Req>,
    S::Error: StackError,
    D: RequestTimeout<Req>,
    X: CarryContext<Req>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = TimeoutFuture<X::Future<S::Future>>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        let limit = self.per_request.request_timeout(&request);
        self.timeout.carry(&self.carrier, limit, request, |request| self.inner.call(request))
    }
}

impl<S: fmt::Debug, D, X> fmt::Debug for TimeoutService<S, D, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimeoutService")
            .field("inner", &self.inner)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
