use tower_layer::Layer;

use super::{Complete, ThroughBodyService};
use crate::breaker::{CircuitBreakerLayer, CircuitBreakerService, ReleasingCircuitBreakerLayer};

/// Wraps HTTP services in a circuit breaker whose verdict is given at the end of the response's body;
/// made by [`CircuitBreakerLayer::through_body`].
#[derive(Clone, Copy, Debug)]
pub struct ThroughBodyLayer<L, T = Complete> {
    breaker: L,
    trailers: T,
}

impl<C> CircuitBreakerLayer<C> {
    /// Keeps the verdict on a good response back until its body has been read.
    ///
    /// For services with responses `http::Response<B>`. See [`crate::http::body`] for what counts
    /// as what.
    ///
    /// Default: off, a call is over when the headers have come.
    #[cfg_attr(docsrs, doc(cfg(feature = "http")))]
    pub fn through_body(self) -> ThroughBodyLayer<Self> {
        ThroughBodyLayer { breaker: self, trailers: Complete }
    }
}

impl<C> ReleasingCircuitBreakerLayer<C> {
    /// Keeps the verdict on a good response back until its body has been read; see
    /// [`CircuitBreakerLayer::through_body`].
    #[cfg_attr(docsrs, doc(cfg(feature = "http")))]
    pub fn through_body(self) -> ThroughBodyLayer<Self> {
        ThroughBodyLayer { breaker: self, trailers: Complete }
    }
}

impl<L> ThroughBodyLayer<L> {
    /// What the trailers of a good response mean, as a
    /// [`ClassifyTrailers`](super::ClassifyTrailers) or a closure `Fn(&HeaderMap) -> Verdict`.
    ///
    /// Default: [`Complete`], nothing: what was read to its end is a success.
    pub fn classify_trailers<T>(self, trailers: T) -> ThroughBodyLayer<L, T> {
        ThroughBodyLayer { breaker: self.breaker, trailers }
    }
}

impl<S, C, L, T> Layer<S> for ThroughBodyLayer<L, T>
where
    L: Layer<S, Service = CircuitBreakerService<S, C>>,
    T: Clone,
{
    type Service = ThroughBodyService<S, C, T>;

    fn layer(&self, inner: S) -> Self::Service {
        ThroughBodyService::new(self.breaker.layer(inner), self.trailers.clone())
    }
}
