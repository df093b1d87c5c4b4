use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;

use super::{attempt::Attempt, refusal::Refused};
use crate::{
    error::{PolicyError, StackError},
    telemetry::Stopwatch,
    verdict::{Classify, FailureKind, Verdict},
};

pin_project! {
    /// The future of [`CircuitBreakerService`](super::CircuitBreakerService).
    ///
    /// Dropped before it is ready it gives its probe back; see
    /// [`abandoned`](super::CircuitBreakerBuilder::abandoned) for what else that may mean.
    #[must_use = "futures do nothing unless you `.await` or poll them"]
    pub struct CircuitBreakerFuture<F, C> {
        #[pin]
        state: State<F, C>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F, C> {
        Running {
            #[pin]
            inner: F,
            classifier: C,
            // Taken when the outcome is there.
            attempt: Option<Attempt>,
            stopwatch: Stopwatch,
        },
        Refused {
            refused: Option<Refused>,
        },
    }
}

impl<F, C> CircuitBreakerFuture<F, C> {
    #[inline]
    pub(super) fn running(inner: F, classifier: C, attempt: Attempt, stopwatch: Stopwatch) -> Self {
        let attempt = Some(attempt);
        CircuitBreakerFuture { state: State::Running { inner, classifier, attempt, stopwatch } }
    }

    #[inline]
    pub(super) const fn refused(refused: Refused) -> Self {
        CircuitBreakerFuture { state: State::Refused { refused: Some(refused) } }
    }
}

const COMPLETED: &str = "polled after completion";

impl<F, C, Res, Err> Future for CircuitBreakerFuture<F, C>
where
    F: Future<Output = Result<Res, Err>>,
    C: Classify<Res, Err>,
    Err: StackError,
{
    type Output = Result<Res, Err>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Running { inner, classifier, attempt, stopwatch } => {
                let running = attempt.as_mut().expect(COMPLETED);
                let outcome = ready!(running.run(|| inner.poll(cx)));
                let verdict = Verdict::of(classifier, &outcome);
                if let Some(attempt) = attempt.take() {
                    attempt.cell.meter.finish(verdict.kind() as usize, *stopwatch);
                    attempt.finish(verdict, || FailureKind::of(verdict, &outcome));
                }
                Poll::Ready(outcome)
            }
            StateProjection::Refused { refused } => {
                Poll::Ready(Err(PolicyError::from(refused.take().expect(COMPLETED)).into()))
            }
        }
    }
}

impl<F, C> fmt::Debug for CircuitBreakerFuture<F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Running { .. } => "running",
            State::Refused { .. } => "refused",
        };
        f.debug_struct("CircuitBreakerFuture").field("state", &state).finish_non_exhaustive()
    }
}
