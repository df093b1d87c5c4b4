use std::task::{Context, Poll};

use http::Response;
use http_body::Body;
use tower_service::Service;

use super::{ClassifyTrailers, GuardedBody, ThroughBodyFuture};
use crate::{
    breaker::{CircuitBreaker, CircuitBreakerService},
    error::StackError,
    verdict::{Classify, Errors},
};

/// A service behind a circuit breaker whose verdict is given at the end of the response's body; made
/// by [`ThroughBodyLayer`](super::ThroughBodyLayer).
///
/// Its readiness is that of [`CircuitBreakerService`].
#[derive(Clone, Debug)]
pub struct ThroughBodyService<S, C = Errors, T = Errors> {
    breaker: CircuitBreakerService<S, C>,
    trailers: T,
}

impl<S, C, T> ThroughBodyService<S, C, T> {
    pub(super) const fn new(breaker: CircuitBreakerService<S, C>, trailers: T) -> Self {
        ThroughBodyService { breaker, trailers }
    }

    /// The breaker this service is behind.
    pub const fn breaker(&self) -> CircuitBreaker {
        self.breaker.breaker()
    }

    /// The wrapped service.
    pub const fn get_ref(&self) -> &S {
        self.breaker.get_ref()
    }

    /// The wrapped service.
    pub const fn get_mut(&mut self) -> &mut S {
        self.breaker.get_mut()
    }

    /// Unwraps the service.
    pub fn into_inner(self) -> S {
        self.breaker.into_inner()
    }
}

impl<S, C, T, Req, B> Service<Req> for ThroughBodyService<S, C, T>
where
    S: Service<Req, Response = Response<B>>,
    S::Error: StackError,
    C: Classify<Response<B>, S::Error> + Clone,
    T: ClassifyTrailers + Clone,
    B: Body,
    B::Error: 'static,
{
    type Response = Response<GuardedBody<B, T>>;
    type Error = S::Error;
    type Future = ThroughBodyFuture<S::Future, C, T>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.breaker.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        match self.breaker.begin(request) {
            Ok((inner, permit)) => {
                let classifier = self.breaker.classifier().clone();
                ThroughBodyFuture::running(inner, classifier, self.trailers.clone(), permit)
            }
            Err(error) => ThroughBodyFuture::refused(error),
        }
    }
}
