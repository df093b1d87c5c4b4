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
}

impl<S, C: Clone> Layer<S> for CircuitBreakerLayer<C> {
    type Service = CircuitBreakerService<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        CircuitBreakerService::new(inner, self.breaker, self.classifier.clone())
    }
}
