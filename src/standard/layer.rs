use std::fmt;

use tower_layer::{Layer, Stack};

use super::{Optional, OptionalLayer, Standard};
use crate::{
    breaker::{CircuitBreakerLayer, CircuitBreakerService},
    fallback::{Fallback, FallbackLayer},
    request::Cloned,
    retry::{RetryService, Unchanged},
    timeout::TimeoutService,
    verdict::Errors,
};

/// Wraps services with a [`Standard`] stack; made by [`Standard::layer`] and
/// [`Stack::standard`](crate::Stack::standard).
///
/// The parameters are the classifier and how requests are copied.
#[derive(Clone, Copy)]
pub struct StandardLayer<C = Errors, K = Cloned> {
    standard: Standard,
    classifier: C,
    copier: K,
}

/// A service with a [`Standard`] stack around it.
pub type StandardService<S, C = Errors, K = Cloned> = Timed<Retried<Broken<Timed<S>, C>, C, K>>;

type Timed<S> = Optional<TimeoutService<S>, S>;
type Broken<S, C> = Optional<CircuitBreakerService<S, C>, S>;
type Retried<S, C, K> = Optional<RetryService<S, C, K, Unchanged>, S>;

impl StandardLayer {
    pub(super) const fn new(standard: Standard) -> Self {
        StandardLayer { standard, classifier: Errors, copier: Cloned }
    }
}

impl<C, K> StandardLayer<C, K> {
    /// What outcomes mean, to all of the policies; see [`crate::verdict`].
    ///
    /// Default: [`Errors`], every error is transient.
    pub fn classify<D>(self, classifier: D) -> StandardLayer<D, K> {
        StandardLayer { standard: self.standard, classifier, copier: self.copier }
    }

    /// How retries copy requests: a [`CloneRequest`](crate::CloneRequest).
    ///
    /// Default: [`Cloned`], by the request's `Clone`.
    pub fn clone_with<J>(self, copier: J) -> StandardLayer<C, J> {
        StandardLayer { standard: self.standard, classifier: self.classifier, copier }
    }
}

impl<C: Clone, K> StandardLayer<C, K> {
    /// Puts a fallback around all of it, made by this function from the configured one; nothing,
    /// where that is switched off.
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
    ) -> Stack<Self, OptionalLayer<FallbackLayer<A, C>>> {
        let fallback = self.standard.fallback();
        let layer = fallback.map(|fallback| answer(fallback).classify(self.classifier.clone()));
        Stack::new(self, layer.into())
    }
}

impl<S, C, K> Layer<S> for StandardLayer<C, K>
where
    C: Clone,
    K: Clone,
{
    type Service = StandardService<S, C, K>;

    fn layer(&self, inner: S) -> Self::Service {
        let Standard { timeout, attempt_timeout, retry, breaker, .. } = self.standard;
        let timed = optional(attempt_timeout.map(crate::Timeout::layer)).layer(inner);
        let broken = breaker.map(|breaker| breaker.layer().classify(self.classifier.clone()));
        let broken = optional::<CircuitBreakerLayer<C>>(broken).layer(timed);
        let retried = retry.map(|retry| {
            retry.layer().classify(self.classifier.clone()).clone_with(self.copier.clone())
        });
        let retried = optional(retried).layer(broken);
        optional(timeout.map(crate::Timeout::layer)).layer(retried)
    }
}

fn optional<L>(layer: Option<L>) -> OptionalLayer<L> {
    layer.into()
}

impl<C, K> fmt::Debug for StandardLayer<C, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StandardLayer").field("standard", &self.standard).finish_non_exhaustive()
    }
}
