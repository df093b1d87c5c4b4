use std::{
    fmt,
    task::{Context, Poll},
};

use tower_service::Service;

use super::{PrepareRequest, Retry, RetryFuture};
use crate::{
    context::{Carrier, NoContext},
    error::StackError,
    request::CloneRequest,
    verdict::Classify,
};

/// A service that repeats what failed in passing; made by [`Retry::layer`].
///
/// Each operation calls the instance that is ready and takes a clone along for later attempts, so
/// cloning the inner service should be cheap, as it is for every client and for
/// `tower::buffer::Buffer`.
#[derive(Clone, Copy)]
pub struct RetryService<S, C, K, P, X = NoContext> {
    pub(super) inner: S,
    pub(super) retry: Retry,
    pub(super) classifier: C,
    pub(super) copier: K,
    pub(super) preparer: P,
    pub(super) carrier: X,
}

impl<S, C, K, P, X> RetryService<S, C, K, P, X> {
    /// The policy it was made from.
    pub const fn retry(&self) -> Retry {
        self.retry
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

impl<S, Req, C, K, P, X> Service<Req> for RetryService<S, C, K, P, X>
where
    S: Service<Req> + Clone,
    S::Error: StackError,
    C: Classify<S::Response, S::Error> + Clone,
    K: CloneRequest<Req> + Clone,
    P: PrepareRequest<Req> + Clone,
    X: Carrier<Req> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = RetryFuture<S, Req, C, K, P, X>;

    /// Ready when the inner service is. Its error is the caller's: there is no request to retry.
    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        RetryFuture::start(
            &mut self.inner,
            request,
            self.retry.begin(),
            self.classifier.clone(),
            self.copier.clone(),
            self.preparer.clone(),
            self.carrier.clone(),
        )
    }
}

impl<S: fmt::Debug, C, K, P, X> fmt::Debug for RetryService<S, C, K, P, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryService")
            .field("inner", &self.inner)
            .field("retry", &self.retry)
            .finish_non_exhaustive()
    }
}
