use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_service::Service;

use super::{
    answer::{Answer, Labelled, Unanswered},
    cell::FallbackCell,
};
use crate::{
    error::StackError,
    telemetry::Stopwatch,
    verdict::{Classify, Verdict, VerdictKind},
};

pin_project! {
    /// The future of a [`FallbackService`](super::FallbackService): the primary's call, and if that
    /// fails the fallback's.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops whichever of the two is under way; the primary's call is dropped before
    /// the fallback starts.
    ///
    /// # Panics
    ///
    /// When polled after it was ready.
    #[must_use = "futures do nothing unless you `.await` or poll them"]
    pub struct FallbackFuture<S, A, C, Req>
    where
        S: Service<Req>,
        A: Answer<Req, S::Response, S::Error>,
    {
        #[pin]
        state: State<S::Future, A::Kept, A::Future>,
        classifier: C,
        cell: &'static FallbackCell,
        stopwatch: Stopwatch,
    }
}

pin_project! {
    #[project = StateProject]
    #[project_replace = StateReplace]
    enum State<F, Kept, Fallback> {
        Primary { #[pin] call: F, kept: Kept },
        Fallback { #[pin] answer: Fallback, original: VerdictKind },
        Done,
    }
}

impl<S, A, C, Req> FallbackFuture<S, A, C, Req>
where
    S: Service<Req>,
    A: Answer<Req, S::Response, S::Error>,
{
    #[inline]
    pub(super) fn new(
        cell: &'static FallbackCell,
        classifier: C,
        primary: impl FnOnce() -> S::Future,
        kept: A::Kept,
    ) -> Self {
        let stopwatch = cell.start();
        FallbackFuture {
            state: State::Primary { call: primary(), kept },
            classifier,
            cell,
            stopwatch,
        }
    }

    /// The primary could not be called.
    #[cold]
    pub(super) fn fallen_back(
        cell: &'static FallbackCell,
        classifier: C,
        original: VerdictKind,
        answer: impl FnOnce() -> A::Future,
    ) -> Self {
        let stopwatch = cell.start();
        cell.taken(<A as Labelled>::STANDBY, original);
        let state = State::Fallback { answer: answer(), original };
        FallbackFuture { state, classifier, cell, stopwatch }
    }
}

impl<S, A, C, Req> Future for FallbackFuture<S, A, C, Req>
where
    S: Service<Req>,
    S::Error: StackError,
    A: Answer<Req, S::Response, S::Error>,
    C: Classify<S::Response, S::Error>,
{
    type Output = Result<S::Response, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let cell = *this.cell;
        loop {
            match this.state.as_mut().project() {
                StateProject::Primary { call, .. } => {
                    let outcome = ready!(call.poll(cx));
                    let kind = Verdict::of(this.classifier, &outcome).kind();
                    // Drops the primary's call, with whatever it holds, before anything follows.
                    let finished = this.state.as_mut().project_replace(State::Done);
                    if !cell.answers(kind) {
                        cell.passed(kind, *this.stopwatch);
                        return Poll::Ready(outcome);
                    }
                    let StateReplace::Primary { kept, .. } = finished else {
                        unreachable!("it was the primary that has just been polled")
                    };
                    let answer = match A::answer(kept, outcome, kind) {
                        Ok(answer) => answer,
                        Err(Unanswered::Uncloneable(outcome)) => {
                            cell.uncloneable(*this.stopwatch);
                            return Poll::Ready(outcome);
                        }
                        Err(Unanswered::NotIdempotent(outcome)) => {
                            cell.not_idempotent(*this.stopwatch);
                            return Poll::Ready(outcome);
                        }
                    };
                    cell.taken(<A as Labelled>::STANDBY, kind);
                    this.state.set(State::Fallback { answer, original: kind });
                }
                StateProject::Fallback { answer, original } => {
                    let outcome = ready!(answer.poll(cx));
                    let original = *original;
                    this.state.set(State::Done);
                    let kind = Verdict::of(this.classifier, &outcome).kind();
                    cell.answered(<A as Labelled>::STANDBY, original, kind, *this.stopwatch);
                    return Poll::Ready(outcome);
                }
                StateProject::Done => panic!("`FallbackFuture` polled after it was ready"),
            }
        }
    }
}

impl<S, A, C, Req> fmt::Debug for FallbackFuture<S, A, C, Req>
where
    S: Service<Req>,
    A: Answer<Req, S::Response, S::Error>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Primary { .. } => "primary",
            State::Fallback { .. } => "fallback",
            State::Done => "done",
        };
        f.debug_struct("FallbackFuture").field("state", &state).finish_non_exhaustive()
    }
}
