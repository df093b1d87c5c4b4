use std::{
    fmt,
    task::{Context, Poll},
};

use tower_service::Service;

use super::{Key, KeyedCircuitBreaker, handle::running};
use crate::{
    breaker::CircuitBreakerFuture,
    error::StackError,
    verdict::{Classify, Errors},
};

/// A service behind a keyed circuit breaker; made by
/// [`KeyedCircuitBreakerLayer`](super::KeyedCircuitBreakerLayer).
///
/// # Readiness
///
/// It is ready when the wrapped service is: which breaker is to be asked shows only in the request,
/// so that is asked in [`call`](Service::call). For the same reason an error from the wrapped
/// service's `poll_ready` is passed on and counted by no breaker.
///
/// After a refusal the wrapped service is still ready, with whatever it has reserved, until it is
/// called or dropped. A service that reserves something in `poll_ready` (a limiter's permit) should
/// be wrapped by [`releasing`](super::KeyedCircuitBreakerLayer::releasing), which lets go of it when
/// a call is refused.
pub struct KeyedCircuitBreakerService<S, K: 'static, F, C = Errors> {
    inner: S,
    breakers: KeyedCircuitBreaker<K>,
    key: F,
    classifier: C,
    /// A fresh instance in place of one that is ready and will not be called.
    renew: fn(&S) -> Option<S>,
}

impl<S, K: Key, F, C> KeyedCircuitBreakerService<S, K, F, C> {
    pub(super) const fn new(
        inner: S,
        breakers: KeyedCircuitBreaker<K>,
        key: F,
        classifier: C,
        renew: fn(&S) -> Option<S>,
    ) -> Self {
        KeyedCircuitBreakerService { inner, breakers, key, classifier, renew }
    }

    /// The breakers this service is behind.
    pub const fn breakers(&self) -> KeyedCircuitBreaker<K> {
        self.breakers
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

impl<S, K, F, C, Req> Service<Req> for KeyedCircuitBreakerService<S, K, F, C>
where
    S: Service<Req>,
    S::Error: StackError,
    K: Key,
    F: Fn(&Req) -> K,
    C: Classify<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = CircuitBreakerFuture<S::Future, C>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        let key = (self.key)(&request);
        match self.breakers.cell.admit(&key) {
            Ok(attempt) => running(attempt, self.classifier.clone(), || self.inner.call(request)),
            Err(refused) => {
                if let Some(fresh) = (self.renew)(&self.inner) {
                    self.inner = fresh;
                }
                CircuitBreakerFuture::refused(refused)
            }
        }
    }
}

/// The clone shares the breakers and starts with a readiness of its own.
impl<S: Clone, K, F: Clone, C: Clone> Clone for KeyedCircuitBreakerService<S, K, F, C> {
    #[inline]
    fn clone(&self) -> Self {
        KeyedCircuitBreakerService {
            inner: self.inner.clone(),
            breakers: self.breakers,
            key: self.key.clone(),
            classifier: self.classifier.clone(),
            renew: self.renew,
        }
    }
}

impl<S: fmt::Debug, K: Key, F, C> fmt::Debug for KeyedCircuitBreakerService<S, K, F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedCircuitBreakerService")
            .field("breakers", &self.breakers)
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}
