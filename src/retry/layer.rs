use std::fmt;

use tower_layer::Layer;

use super::{Retry, RetryService, Unchanged};
use crate::{context::NoContext, request::Cloned, verdict::Errors};

/// Wraps services with a [`Retry`]; made by [`Retry::layer`].
///
/// The parameters are the classifier, how requests are copied, how they are prepared for another
/// attempt, and how their context is carried.
#[derive(Clone, Copy)]
pub struct RetryLayer<C = Errors, K = Cloned, P = Unchanged, X = NoContext> {
    retry: Retry,
    classifier: C,
    copier: K,
    preparer: P,
    carrier: X,
}

impl RetryLayer {
    pub(super) const fn new(retry: Retry) -> Self {
        RetryLayer {
            retry,
            classifier: Errors,
            copier: Cloned,
            preparer: Unchanged,
            carrier: NoContext,
        }
    }
}

impl From<Retry> for RetryLayer {
    fn from(retry: Retry) -> Self {
        retry.layer()
    }
}

impl<C, K, P, X> RetryLayer<C, K, P, X> {
    /// Which outcomes are worth a retry; see [`crate::verdict`].
    ///
    /// Default: [`Errors`], every error is.
    pub fn classify<D>(self, classifier: D) -> RetryLayer<D, K, P, X> {
        let RetryLayer { retry, classifier: _, copier, preparer, carrier } = self;
        RetryLayer { retry, classifier, copier, preparer, carrier }
    }

    /// How a request is copied, as a closure `Fn(&Req) -> Option<Req>` or another
    /// [`CloneRequest`](crate::CloneRequest). A request that cannot be copied makes one attempt; one
    /// that [must not be executed twice](crate::Repeats) another only while it has reached nobody.
    ///
    /// Called before an attempt, and only if another could follow it.
    ///
    /// Default: [`Cloned`], by the request's `Clone`.
    pub fn clone_with<L>(self, copier: L) -> RetryLayer<C, L, P, X> {
        let RetryLayer { retry, classifier, copier: _, preparer, carrier } = self;
        RetryLayer { retry, classifier, copier, preparer, carrier }
    }

    /// Changes a request before each attempt after the first, as a closure `Fn(&mut Req, u32)`
    /// over the request and the number of the attempt, from 2. An idempotency key is best set
    /// above this layer, so that every attempt has the same; a header with the attempt's number
    /// is set here.
    ///
    /// Each attempt is prepared from a copy of the original, so changes do not add up.
    ///
    /// Default: [`Unchanged`].
    pub fn prepare<Q>(self, preparer: Q) -> RetryLayer<C, K, Q, X> {
        let RetryLayer { retry, classifier, copier, preparer: _, carrier } = self;
        RetryLayer { retry, classifier, copier, preparer, carrier }
    }

    /// How what callers have said about a request is read, and told to those below: a
    /// [`CarryContext`](crate::CarryContext). See [`crate::context`].
    ///
    /// No attempt and no backoff begins that the caller's deadline would come before; the last
    /// outcome is returned instead. Each attempt carries its number, which tells a retry below that
    /// it need not repeat what is repeated here. Where the request carries such a number already,
    /// this one makes one attempt, and
    /// [`RetryCounts::retried_above`](super::RetryCounts::retried_above) grows if that fails.
    ///
    /// Default: [`NoContext`], nothing is read or told, at no cost.
    pub fn context<Y>(self, carrier: Y) -> RetryLayer<C, K, P, Y> {
        let RetryLayer { retry, classifier, copier, preparer, carrier: _ } = self;
        RetryLayer { retry, classifier, copier, preparer, carrier }
    }
}

impl<S, C, K, P, X> Layer<S> for RetryLayer<C, K, P, X>
where
    C: Clone,
    K: Clone,
    P: Clone,
    X: Clone,
{
    type Service = RetryService<S, C, K, P, X>;

    fn layer(&self, inner: S) -> Self::Service {
        let RetryLayer { retry, classifier, copier, preparer, carrier } = self.clone();
        RetryService { inner, retry, classifier, copier, preparer, carrier }
    }
}

impl<C, K, P, X> fmt::Debug for RetryLayer<C, K, P, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryLayer").field("retry", &self.retry).finish_non_exhaustive()
    }
}
