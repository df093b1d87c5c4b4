use tower_layer::Layer;

use super::{ClassifyTrailers, ThroughBodyService};
use crate::{
    breaker::{
        CircuitBreaker, CircuitBreakerLayer, CircuitBreakerService, ReleasingCircuitBreakerLayer,
    },
    stack::Stack,
    verdict::Errors,
};

/// Wraps HTTP services in a circuit breaker whose verdict is given at the end of the response's body;
/// made by [`CircuitBreakerLayer::through_body`].
#[derive(Clone, Copy, Debug)]
pub struct ThroughBodyLayer<L = CircuitBreakerLayer, T = Errors> {
    breaker: L,
    trailers: T,
}

#[cfg_attr(docsrs, doc(cfg(feature = "http")))]
impl<C> CircuitBreakerLayer<C> {
    /// Keeps the verdict on a good response back until its body has been read.
    ///
    /// For services with responses `http::Response<B>`; what counts as what is on the page of
    /// [`http::body`](crate::http::body#what-a-breaker-counts). The classifier says what the trailers
    /// mean, too: [`grpc::Statuses`](crate::grpc::Statuses) reads the status in them, to the others
    /// they mean nothing. A closure cannot; that takes [`through_body_with`](Self::through_body_with).
    ///
    /// Default: off, a call is over when the head of its response has come.
    pub fn through_body(self) -> ThroughBodyLayer<Self, C>
    where
        C: ClassifyTrailers + Clone,
    {
        let trailers = self.classifier().clone();
        self.through_body_with(trailers)
    }

    /// [`through_body`](Self::through_body), with somebody else to say what the trailers mean: a
    /// closure `Fn(&HeaderMap) -> Verdict`, or [`Complete`](crate::http::body::Complete), to whom they
    /// mean nothing.
    pub const fn through_body_with<T>(self, trailers: T) -> ThroughBodyLayer<Self, T>
    where
        T: ClassifyTrailers,
    {
        ThroughBodyLayer { breaker: self, trailers }
    }
}

#[cfg_attr(docsrs, doc(cfg(feature = "http")))]
impl<C> ReleasingCircuitBreakerLayer<C> {
    /// Keeps the verdict on a good response back until its body has been read; see
    /// [`CircuitBreakerLayer::through_body`].
    pub fn through_body(self) -> ThroughBodyLayer<Self, C>
    where
        C: ClassifyTrailers + Clone,
    {
        let trailers = self.classifier().clone();
        self.through_body_with(trailers)
    }

    /// See [`CircuitBreakerLayer::through_body_with`].
    pub const fn through_body_with<T>(self, trailers: T) -> ThroughBodyLayer<Self, T>
    where
        T: ClassifyTrailers,
    {
        ThroughBodyLayer { breaker: self, trailers }
    }
}

/// A breaker, watching bodies to their end, with the classifier `C` of a stack.
type Watching<C> = ThroughBodyLayer<CircuitBreakerLayer<C>, C>;

#[cfg_attr(docsrs, doc(cfg(feature = "http")))]
impl<C: Clone, K, X, L> Stack<C, K, L, X> {
    /// [`breaker`](Self::breaker), with the verdict on a good response at the end of its body; see
    /// [`CircuitBreakerLayer::through_body`].
    pub fn breaker_through_body(
        self,
        breaker: CircuitBreaker,
    ) -> Stack<C, K, tower_layer::Stack<Watching<C>, L>, X>
    where
        C: ClassifyTrailers,
    {
        let layer = breaker.layer().classify(self.classifier().clone()).through_body();
        self.layer(layer)
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
