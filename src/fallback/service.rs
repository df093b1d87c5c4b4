use std::{
    fmt,
    task::{Context, Poll, ready},
};

use tower_service::Service;

use super::{
    Fallback, FallbackFuture,
    answer::{Answer, Kind},
};
use crate::{
    error::StackError,
    verdict::{Classify, Errors, Verdict, VerdictKind},
};

/// A service with a fallback; made by [`FallbackLayer`](super::FallbackLayer).
pub struct FallbackService<S, A: Kind, C = Errors> {
    inner: S,
    fallback: Fallback,
    answer: A,
    classifier: C,
    /// The inner service failed its readiness in a way the fallback answers: so will the next call.
    unready: Option<(VerdictKind, A::Unready)>,
}

impl<S, A: Kind, C> FallbackService<S, A, C> {
    pub(super) const fn new(inner: S, fallback: Fallback, answer: A, classifier: C) -> Self {
        FallbackService { inner, fallback, answer, classifier, unready: None }
    }

    /// The fallback it was made from.
    pub const fn fallback(&self) -> Fallback {
        self.fallback
    }

    /// The wrapped service, the primary.
    pub const fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The wrapped service, the primary.
    pub const fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Unwraps the primary.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, A, C, Req> Service<Req> for FallbackService<S, A, C>
where
    S: Service<Req>,
    S::Error: StackError,
    A: Answer<Req, S::Response, S::Error>,
    C: Classify<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = FallbackFuture<S, A, C, Req>;

    /// Ready when the primary is. If its readiness fails, and the fallback answers such errors, this
    /// is ready as well and the next call goes to the fallback alone; other errors go through.
    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        // Decided anew by every poll: the primary may have come back since the last one (law 1).
        self.unready = None;
        let Err(error) = ready!(self.inner.poll_ready(cx)) else {
            return Poll::Ready(Ok(()));
        };
        let outcome = Err(error);
        let kind = Verdict::of(&self.classifier, &outcome).kind();
        if let Err(error) = outcome {
            if !self.fallback.cell.answers(kind) {
                self.fallback.cell.unready(kind);
                return Poll::Ready(Err(error));
            }
            self.unready = Some((kind, A::unready(error)));
        }
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        let cell = self.fallback.cell;
        let classifier = self.classifier.clone();
        if let Some((original, unready)) = self.unready.take() {
            let answer = || self.answer.answer_unready(request, unready);
            return FallbackFuture::fallen_back(cell, classifier, original, answer);
        }
        let kept = self.answer.keep(&request);
        FallbackFuture::new(cell, classifier, || self.inner.call(request), kept)
    }
}

/// A clone has not been polled, so it has to learn for itself whether its primary is ready.
impl<S: Clone, A: Kind + Clone, C: Clone> Clone for FallbackService<S, A, C> {
    fn clone(&self) -> Self {
        FallbackService::new(
            self.inner.clone(),
            self.fallback,
            self.answer.clone(),
            self.classifier.clone(),
        )
    }
}

impl<S: fmt::Debug, A: Kind + fmt::Debug, C> fmt::Debug for FallbackService<S, A, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FallbackService")
            .field("inner", &self.inner)
            .field("fallback", &self.fallback)
            .field("answer", &self.answer)
            .field("unready", &self.unready.as_ref().map(|(kind, _)| kind))
            .finish_non_exhaustive()
    }
}
