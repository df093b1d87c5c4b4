use std::fmt;

use tower_layer::Layer;

use super::{Key, KeyedCircuitBreaker, KeyedCircuitBreakerService};
use crate::verdict::Errors;

/// Wraps services in a keyed circuit breaker; made by [`KeyedCircuitBreaker::layer`].
///
/// Every service it makes shares the same breakers, however often a framework applies the layer.
#[derive(Clone)]
pub struct KeyedCircuitBreakerLayer<K: 'static, F, C = Errors> {
    breakers: KeyedCircuitBreaker<K>,
    key: F,
    classifier: C,
}

impl<K, F> KeyedCircuitBreakerLayer<K, F> {
    pub(super) const fn new(breakers: KeyedCircuitBreaker<K>, key: F) -> Self {
        KeyedCircuitBreakerLayer { breakers, key, classifier: Errors }
    }
}

impl<K, F, C> KeyedCircuitBreakerLayer<K, F, C> {
    /// What outcomes mean. Default: [`Errors`], `Ok` is a success and `Err` a failure.
    pub fn classify<D>(self, classifier: D) -> KeyedCircuitBreakerLayer<K, F, D> {
        KeyedCircuitBreakerLayer { breakers: self.breakers, key: self.key, classifier }
    }

    /// Lets go of what the wrapped service has reserved when a call is refused.
    ///
    /// A limiter gives out its permit in `poll_ready`. That is before the key is known, so a call
    /// that is refused leaves the permit with this service until it makes another. With this, the
    /// wrapped service is then replaced by a clone, which has none.
    ///
    /// Default: off, because it asks `Clone` of the service. Clients do not need it.
    pub fn releasing(self) -> ReleasingKeyedCircuitBreakerLayer<K, F, C> {
        ReleasingKeyedCircuitBreakerLayer { layer: self }
    }
}

impl<S, K: Key, F: Clone, C: Clone> Layer<S> for KeyedCircuitBreakerLayer<K, F, C> {
    type Service = KeyedCircuitBreakerService<S, K, F, C>;

    fn layer(&self, inner: S) -> Self::Service {
        let KeyedCircuitBreakerLayer { breakers, key, classifier } = self.clone();
        KeyedCircuitBreakerService::new(inner, breakers, key, classifier, |_| None)
    }
}

impl<K: Key, F, C: fmt::Debug> fmt::Debug for KeyedCircuitBreakerLayer<K, F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedCircuitBreakerLayer")
            .field("breakers", &self.breakers)
            .field("classifier", &self.classifier)
            .finish_non_exhaustive()
    }
}

/// Wraps services that reserve something when they are ready; made by
/// [`KeyedCircuitBreakerLayer::releasing`].
#[derive(Clone)]
pub struct ReleasingKeyedCircuitBreakerLayer<K: 'static, F, C = Errors> {
    layer: KeyedCircuitBreakerLayer<K, F, C>,
}

impl<S: Clone, K: Key, F: Clone, C: Clone> Layer<S> for ReleasingKeyedCircuitBreakerLayer<K, F, C> {
    type Service = KeyedCircuitBreakerService<S, K, F, C>;

    fn layer(&self, inner: S) -> Self::Service {
        let KeyedCircuitBreakerLayer { breakers, key, classifier } = self.layer.clone();
        KeyedCircuitBreakerService::new(inner, breakers, key, classifier, |inner| {
            Some(inner.clone())
        })
    }
}

impl<K: Key, F, C: fmt::Debug> fmt::Debug for ReleasingKeyedCircuitBreakerLayer<K, F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReleasingKeyedCircuitBreakerLayer").field(&self.layer).finish()
    }
}
