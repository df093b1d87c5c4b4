use std::fmt;

use tower_layer::Layer;

use super::{
    Fallback, FallbackService,
    answer::{Backup, Kind},
};
use crate::verdict::Errors;

/// Answers for a service when it cannot; made by [`Fallback::to_value`], [`Fallback::to_fn`],
/// [`Fallback::to_async_fn`] and [`Fallback::to_service`].
#[derive(Clone, Copy)]
pub struct FallbackLayer<A, C = Errors> {
    fallback: Fallback,
    answer: A,
    classifier: C,
}

impl<A> FallbackLayer<A> {
    pub(super) const fn new(fallback: Fallback, answer: A) -> Self {
        FallbackLayer { fallback, answer, classifier: Errors }
    }
}

impl<A, C> FallbackLayer<A, C> {
    /// What outcomes mean: the primary's, and the fallback's own.
    ///
    /// Default: [`Errors`], `Ok` is a success and every error of the service transient.
    pub fn classify<D>(self, classifier: D) -> FallbackLayer<A, D> {
        FallbackLayer { fallback: self.fallback, answer: self.answer, classifier }
    }
}

impl<B, K, C> FallbackLayer<Backup<B, K>, C> {
    /// How a request is copied for the backup: a [`CloneRequest`](crate::CloneRequest), such as a
    /// closure `Fn(&Req) -> Option<Req>`. Where it gives `None` the primary's outcome goes through
    /// as it is, and [`FallbackCounts::uncloneable`](super::FallbackCounts::uncloneable) grows. So it
    /// does where the primary may have executed a request that must not be executed twice
    /// ([`Repeats::IfUnsent`](crate::Repeats::IfUnsent)).
    ///
    /// Default: [`Cloned`](crate::Cloned), by the request's `Clone`.
    pub fn clone_with<L>(self, clone_request: L) -> FallbackLayer<Backup<B, L>, C> {
        FallbackLayer {
            fallback: self.fallback,
            answer: self.answer.clone_with(clone_request),
            classifier: self.classifier,
        }
    }
}

impl<S, A, C> Layer<S> for FallbackLayer<A, C>
where
    A: Kind + Clone,
    C: Clone,
{
    type Service = FallbackService<S, A, C>;

    fn layer(&self, inner: S) -> Self::Service {
        FallbackService::new(inner, self.fallback, self.answer.clone(), self.classifier.clone())
    }
}

impl<A: fmt::Debug, C> fmt::Debug for FallbackLayer<A, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FallbackLayer")
            .field("fallback", &self.fallback)
            .field("answer", &self.answer)
            .finish_non_exhaustive()
    }
}
