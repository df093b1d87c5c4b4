use tower_layer::Layer;

use super::{CircuitBreaker, CircuitBreakerService};
use crate::verdict::Errors;

/// Wraps services in a circuit breaker; made by [`CircuitBreaker::layer`].
///
/// Every service it makes shares the one breaker, however often a framework applies the layer.
#[derive(Clone, Copy, Debug)]
pub struct CircuitBreakerLayer<C = Errors> {
    breaker: CircuitBreaker,
    classifier: C,
}

impl CircuitBreakerLayer {
    pub(super) const fn new(breaker: CircuitBreaker) -> Self {
        CircuitBreakerLayer { breaker, classifier: Errors }
    }
}

impl<C> CircuitBreakerLayer<C> {
    /// What outcomes mean. Default: [`Errors`], `Ok` is a success and `Err` a failure.
    pub fn classify<D>(self, classifier: D) -> CircuitBreakerLayer<D> {
        CircuitBreakerLayer { breaker: self.breaker, classifier }
    }

    #[cfg(feature = "http")]
    pub(crate) const fn classifier(&self) -> &C {
        &self.classifier
    }
}

impl<C> CircuitBreakerLayer<C> {
    /// Lets go of what the wrapped service has reserved when the circuit opens before the call.
    ///
    /// A limiter gives out its permit in `poll_ready`. If the circuit opens between that and the
    /// call, the permit would lie idle in this service for as long as the circuit is open, and
    /// perhaps be the one that a probe needs. With this, the wrapped service is then replaced by a
    /// clone, which has none.
    ///
    /// Default: off, because it asks `Clone` of the service. Clients do not need it.
    pub fn releasing(self) -> ReleasingCircuitBreakerLayer<C> {
        ReleasingCircuitBreakerLayer { layer: self }
    }
}

impl<S, C: Clone> Layer<S> for CircuitBreakerLayer<C> {
    type Service = CircuitBreakerService<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        CircuitBreakerService::new(inner, self.breaker, self.classifier.clone(), |_| None)
    }
}

/// Wraps services that reserve something when they are ready; made by
/// [`CircuitBreakerLayer::releasing`].
#[derive(Clone, Copy, Debug)]
pub struct ReleasingCircuitBreakerLayer<C = Errors> {
    layer: CircuitBreakerLayer<C>,
}

#[cfg(feature = "http")]
impl<C> ReleasingCircuitBreakerLayer<C> {
    pub(crate) const fn classifier(&self) -> &C {
        self.layer.classifier()
    }
}

impl<S: Clone, C: Clone> Layer<S> for ReleasingCircuitBreakerLayer<C> {
    type Service = CircuitBreakerService<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        let CircuitBreakerLayer { breaker, classifier } = self.layer.clone();
        CircuitBreakerService::new(inner, breaker, classifier, |inner| Some(inner.clone()))
    }
}
