use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::{
    task::unconstrained,
    time::{Instant, Sleep, sleep, sleep_until},
};

use super::handle::TimeoutCell;
use crate::{error::StackError, telemetry::Stopwatch};

pin_project! {
    /// The future of a call with a time limit.
    ///
    /// As large as the inner future, a tokio timer and some words: the timer lies inside, so that a
    /// call that has to wait allocates nothing.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the inner future and the timer, at whatever point.
    ///
    /// # Panics
    ///
    /// When polled after it was ready; and when the inner future has to wait outside of a tokio
    /// runtime with its timer enabled.
    #[must_use = "futures do nothing unless you `.await` or poll them"]
    pub struct TimeoutFuture<F> {
        #[pin]
        state: State<F>,
        limit: Limit,
        cell: &'static TimeoutCell,
        stopwatch: Stopwatch,
    }
}

/// How long a call may take, and who says so.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    pub(super) after: Duration,
    /// The request itself, which allows less time than the timeout would.
    pub(super) callers: bool,
}

pin_project! {
    #[project = StateProject]
    enum State<F> {
        // `sleep` is `None` until the inner future is pending for the first time.
        Running { #[pin] inner: F, #[pin] sleep: Option<Sleep> },
        Done,
    }
}

impl<F> TimeoutFuture<F> {
    #[inline]
    pub(super) fn new(cell: &'static TimeoutCell, limit: Limit, inner: F) -> Self {
        let state = State::Running { inner, sleep: None };
        TimeoutFuture { state, limit, cell, stopwatch: cell.start() }
    }

    /// Polls it. The time is up at `end`, where that was settled when the call was made; or else the
    /// limit after the inner future had to wait for the first time.
    #[inline]
    pub(super) fn poll_until<Res, Err>(
        self: Pin<&mut Self>,
        end: Option<Instant>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Res, Err>>
    where
        F: Future<Output = Result<Res, Err>>,
        Err: StackError,
    {
        let mut this = self.project();
        let StateProject::Running { inner, sleep } = this.state.as_mut().project() else {
            panic!("`TimeoutFuture` polled after it was ready")
        };
        // The inner future first: an answer that arrives together with the deadline is an answer.
        if let Poll::Ready(outcome) = inner.poll(cx) {
            // What it still holds is given back now, and not when somebody drops this future.
            this.state.set(State::Done);
            this.cell.finish(outcome.is_ok(), *this.stopwatch);
            return Poll::Ready(outcome);
        }
        if !expired(sleep, this.limit.after, end, cx) {
            return Poll::Pending;
        }
        this.state.set(State::Done);
        let error = this.cell.time_out(*this.limit, *this.stopwatch);
        Poll::Ready(Err(error.into()))
    }
}

impl<F, Res, Err> Future for TimeoutFuture<F>
where
    F: Future<Output = Result<Res, Err>>,
    Err: StackError,
{
    type Output = Result<Res, Err>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_until(None, cx)
    }
}

/// Whether the time is up; starts it if nobody has. Does not depend on the inner future, so there is
/// one of it for all of them.
fn expired(
    mut timer: Pin<&mut Option<Sleep>>,
    after: Duration,
    end: Option<Instant>,
    cx: &mut Context<'_>,
) -> bool {
    // Needs no timer, which would round zero up to its next millisecond.
    if after.is_zero() {
        return true;
    }
    if timer.is_none() {
        // A duration that the clock cannot hold becomes tokio's far future, thirty years from now.
        timer.set(Some(end.map_or_else(|| sleep(after), sleep_until)));
    }
    // Outside of tokio's cooperative budget: an inner future that has used up the budget of this
    // poll would otherwise keep the timer from looking at the clock, this time and every time.
    // The timer itself does a bounded amount of work, so nobody is starved in turn.
    timer.as_pin_mut().is_some_and(|sleep| Pin::new(&mut unconstrained(sleep)).poll(cx).is_ready())
}

impl<F> fmt::Debug for TimeoutFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Running { sleep: None, .. } => "running",
            State::Running { sleep: Some(_), .. } => "waiting",
            State::Done => "done",
        };
        f.debug_struct("TimeoutFuture")
            .field("state", &state)
            .field("after", &self.limit.after)
            .finish_non_exhaustive()
    }
}
