use std::fmt;

use tower_layer::{Layer, Stack};

use super::{Optional, OptionalLayer, Standard};
use crate::{
    breaker::{CircuitBreaker, CircuitBreakerService},
    context::{Carried, NoContext},
    fallback::{Backup, Fallback, FallbackLayer},
    request::Cloned,
    retry::{Retry, RetryService, Unchanged},
    timeout::{Fixed, Timeout, TimeoutService},
    verdict::Errors,
};

/// Wraps services with a [`Standard`] stack; made by [`Standard::layer`] and
/// [`Stack::standard`](crate::Stack::standard).
///
/// The parameters are the classifier, how requests are copied, and how they carry a
/// [context](crate::context).
#[derive(Clone, Copy)]
pub struct StandardLayer<C = Errors, K = Cloned, X = NoContext> {
    standard: Standard,
    classifier: C,
    copier: K,
    carrier: X,
}

/// A service with a [`Standard`] stack around it.
pub type StandardService<S, C = Errors, K = Cloned, X = NoContext> =
    Timed<Retried<Broken<Timed<S, X>, C>, C, K, X>, X>;

/// A fallback, or none, around a layer.
type WithFallback<L, A, C> = Stack<L, OptionalLayer<FallbackLayer<A, C>>>;

type Timed<S, X> = Optional<TimeoutService<S, Fixed, X>, S>;
type Broken<S, C> = Optional<CircuitBreakerService<S, C>, S>;
type Retried<S, C, K, X> = Optional<RetryService<S, C, K, Unchanged, X>, S>;

impl StandardLayer {
    pub(super) const fn new(standard: Standard) -> Self {
        StandardLayer { standard, classifier: Errors, copier: Cloned, carrier: NoContext }
    }
}

impl<C, K, X> StandardLayer<C, K, X> {
    /// What outcomes mean, to all of the policies; see [`crate::verdict`].
    ///
    /// Default: [`Errors`], every error is transient.
    pub fn classify<D>(self, classifier: D) -> StandardLayer<D, K, X> {
        let StandardLayer { standard, classifier: _, copier, carrier } = self;
        StandardLayer { standard, classifier, copier, carrier }
    }

    /// How retries copy requests: a [`CloneRequest`](crate::CloneRequest).
    ///
    /// Default: [`Cloned`], by the request's `Clone`.
    pub fn clone_with<J>(self, copier: J) -> StandardLayer<C, J, X> {
        let StandardLayer { standard, classifier, copier: _, carrier } = self;
        StandardLayer { standard, classifier, copier, carrier }
    }

    /// How timeouts and retries learn what callers have said about a request, and tell those below:
    /// a [`CarryContext`](crate::CarryContext).
    ///
    /// Default: [`NoContext`], they learn and tell nothing.
    pub fn context<Y>(self, carrier: Y) -> StandardLayer<C, K, Carried<Y>> {
        self.carried(Carried(carrier))
    }

    pub(crate) fn carried<Y>(self, carrier: Y) -> StandardLayer<C, K, Y> {
        let StandardLayer { standard, classifier, copier, carrier: _ } = self;
        StandardLayer { standard, classifier, copier, carrier }
    }
}

impl<C: Clone, K, X> StandardLayer<C, K, X> {
    /// Puts a fallback around all of it, made by this function from the configured one; nothing,
    /// where that is switched off. For a backup service [`fallback_to`](Self::fallback_to) is the one
    /// to use: it copies requests as this stack does.
    ///
    /// ```
    /// use buttress::{ServiceErrors, Standard};
    /// use tower::{Layer, Service, ServiceExt};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let layer = Standard::builder("menu").build()?.layer().fallback(|menu| menu.to_value("soup"));
    /// let kitchen = tower::service_fn(|()| async { Err(std::io::Error::other("on fire")) });
    /// let mut client = layer.layer(ServiceErrors.layer(kitchen));
    /// assert_eq!(client.ready().await?.call(()).await?, "soup");
    /// # Ok(()) }
    /// ```
    pub fn fallback<A, D>(
        self,
        answer: impl FnOnce(Fallback) -> FallbackLayer<A, D>,
    ) -> WithFallback<Self, A, C> {
        let fallback = self.standard.fallback();
        let layer = fallback.map(|fallback| answer(fallback).classify(self.classifier.clone()));
        Stack::new(self, layer.into())
    }

    /// Puts a backup service around all of it, as the configured fallback; nothing, where that is
    /// switched off. The backup gets copies made as this stack makes them, and so no request that
    /// must not be executed twice and may have been.
    ///
    /// Give the backup a timeout of its own: none of this stack's covers it.
    pub fn fallback_to<B>(self, backup: B) -> WithFallback<Self, Backup<B, K>, C>
    where
        B: Clone + Send + Sync + 'static,
        K: Clone,
    {
        let copier = self.copier.clone();
        self.fallback(|fallback| fallback.to_service(backup).clone_with(copier))
    }
}

impl<S, C, K, X> Layer<S> for StandardLayer<C, K, X>
where
    C: Clone,
    K: Clone,
    X: Clone,
{
    type Service = StandardService<S, C, K, X>;

    fn layer(&self, inner: S) -> Self::Service {
        let StandardLayer { standard, classifier, copier, carrier } = self.clone();
        let timed = |timeout: Timeout| timeout.layer().carried(self.carrier.clone());
        let broken = |breaker: CircuitBreaker| breaker.layer().classify(self.classifier.clone());
        let retried =
            |retry: Retry| retry.layer().classify(classifier).clone_with(copier).carried(carrier);
        let inner = optional(standard.attempt_timeout().map(timed)).layer(inner);
        let inner = optional(standard.breaker().map(broken)).layer(inner);
        let inner = optional(standard.retry().map(retried)).layer(inner);
        optional(standard.timeout().map(timed)).layer(inner)
    }
}

fn optional<L>(layer: Option<L>) -> OptionalLayer<L> {
    layer.into()
}

impl<C, K, X> fmt::Debug for StandardLayer<C, K, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StandardLayer").field("standard", &self.standard).finish_non_exhaustive()
    }
}
