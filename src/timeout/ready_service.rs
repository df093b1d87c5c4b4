use std::{
    fmt,
    task::{Context, Poll},
};

use tower_service::Service;

use super::{Fixed, RequestTimeout, Timeout, TimeoutFuture};
use crate::{
    context::{CarryContext, NoContext},
    error::StackError,
    ready_call::ReadyCall,
};

/// A service whose calls are limited in time, the wait for readiness included; made by
/// [`ReadyTimeoutLayer`](super::ReadyTimeoutLayer).
///
/// Always ready: what waits is the future, with a clone of the service. The wrapped service itself
/// is a mould for clones and is neither polled nor called (law 1).
#[derive(Clone, Copy)]
pub struct ReadyTimeoutService<S, D = Fixed, X = NoContext> {
    inner: S,
    timeout: Timeout,
    per_request: D,
    carrier: X,
}

impl<S, D, X> ReadyTimeoutService<S, D, X> {
    pub(super) const fn new(inner: S, timeout: Timeout, per_request: D, carrier: X) -> Self {
        ReadyTimeoutService { inner, timeout, per_request, carrier }
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

impl<S, D, X, Req> Service<Req> for ReadyTimeoutService<S, D, X>
where
    S: Service<Req> + Clone,
    S::Error: StackError,
    D: RequestTimeout<Req>,
    X: CarryContext<Req>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = TimeoutFuture<X::Future<ReadyCall<S, Req>>>;

    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        let limit = self.per_request.request_timeout(&request);
        let call = |request| ReadyCall::new(self.inner.clone(), request);
        self.timeout.carry(&self.carrier, limit, request, call)
    }
}

impl<S: fmt::Debug, D, X> fmt::Debug for ReadyTimeoutService<S, D, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadyTimeoutService")
            .field("inner", &self.inner)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
