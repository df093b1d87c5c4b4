use std::fmt;

use tower_layer::Layer;

use super::{Retry, RetryService, Unchanged};
use crate::{request::Cloned, verdict::Errors};

/// Wraps services with a [`Retry`]; made by [`Retry::layer`].
///
/// The parameters are the classifier, how requests are copied, and how they are prepared for
/// another attempt.
#[derive(Clone, Copy)]
pub struct RetryLayer<C = Errors, K = Cloned, P = Unchanged> {
    retry: Retry,
    classifier: C,
    copier: K,
    preparer: P,
}

impl RetryLayer {
    pub(super) const fn new(retry: Retry) -> Self {
        RetryLayer { retry, classifier: Errors, copier: Cloned, preparer: Unchanged }
    }
}

impl From<Retry> for RetryLayer {
    fn from(retry: Retry) -> Self {
        retry.layer()
    }
}

impl<C, K, P> RetryLayer<C, K, P> {
    /// Which outcomes are worth a retry; see [`crate::verdict`].
    ///
    /// Default: [`Errors`], every error is.
    pub fn classify<D>(self, classifier: D) -> RetryLayer<D, K, P> {
        let RetryLayer { retry, classifier: _, copier, preparer } = self;
        RetryLayer { retry, classifier, copier, preparer }
    }

    /// How a request is copied, as a closure `Fn(&Req) -> Option<Req>` or another
    /// [`CloneRequest`](crate::CloneRequest). A request that cannot be copied makes one attempt; one
    /// that [must not be executed twice](crate::Repeats) another only while it has reached nobody.
    ///
    /// Called before an attempt, and only if another could follow it.
    ///
    /// Default: [`Cloned`], by the request's `Clone`.
    pub fn clone_with<L>(self, copier: L) -> RetryLayer<C, L, P> {
        let RetryLayer { retry, classifier, copier: _, preparer } = self;
        RetryLayer { retry, classifier, copier, preparer }
    }

    /// Changes a request before each attempt after the first, as a closure `Fn(&mut Req, u32)`
    /// over the request and the number of the attempt, from 2. An idempotency key is best set
    /// above this layer, so that every attempt has the same; a header with the attempt's number
    /// is set here.
    ///
    /// Each attempt is prepared from a copy of the original, so changes do not add up.
    ///
    /// Default: [`Unchanged`].
    pub fn prepare<Q>(self, preparer: Q) -> RetryLayer<C, K, Q> {
        let RetryLayer { retry, classifier, copier, preparer: _ } = self;
        RetryLayer { retry, classifier, copier, preparer }
    }
}

impl<S, C, K, P> Layer<S> for RetryLayer<C, K, P>
where
    C: Clone,
    K: Clone,
    P: Clone,
{
    type Service = RetryService<S, C, K, P>;

    fn layer(&self, inner: S) -> Self::Service {
        let RetryLayer { retry, classifier, copier, preparer } = self.clone();
        RetryService { inner, retry, classifier, copier, preparer }
    }
}

impl<C, K, P> fmt::Debug for RetryLayer<C, K, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryLayer").field("retry", &self.retry).finish_non_exhaustive()
    }
}
