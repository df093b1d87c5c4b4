use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::Instant;

use super::{TimeoutFuture, handle::TimeoutCell};
use crate::error::StackError;

pin_project! {
    /// The future of a call with a time limit and a [context](super::TimeoutLayer::context): a
    /// [`TimeoutFuture`], or the refusal of a call whose deadline leaves too little time.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the inner future and the timer, at whatever point.
    ///
    /// # Panics
    ///
    /// As [`TimeoutFuture`] does.
    #[must_use = "futures do nothing unless you `.await` or poll them"]
    pub struct DeadlineFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProject]
    enum State<F> {
        // `end` is what those below were told. They count from the call, so this must too, or one of
        // them would be the first to fire where the future is polled late.
        Call { #[pin] call: TimeoutFuture<F>, end: Option<Instant> },
        Refused { cell: &'static TimeoutCell, left: Duration },
        Done,
    }
}

impl<F> DeadlineFuture<F> {
    #[inline]
    pub(super) const fn new(call: TimeoutFuture<F>, end: Option<Instant>) -> Self {
        DeadlineFuture { state: State::Call { call, end } }
    }

    pub(super) const fn refused(cell: &'static TimeoutCell, left: Duration) -> Self {
        DeadlineFuture { state: State::Refused { cell, left } }
    }
}

impl<F, Res, Err> Future for DeadlineFuture<F>
where
    F: Future<Output = Result<Res, Err>>,
    Err: StackError,
{
    type Output = Result<Res, Err>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        let outcome = match state.as_mut().project() {
            StateProject::Call { call, end } => ready!(call.poll_until(*end, cx)),
            StateProject::Refused { cell, left } => Err(cell.refuse(*left).into()),
            StateProject::Done => panic!("`DeadlineFuture` polled after it was ready"),
        };
        state.set(State::Done);
        Poll::Ready(outcome)
    }
}

impl<F> fmt::Debug for DeadlineFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Call { call, .. } => return call.fmt(f),
            State::Refused { .. } => "refused",
            State::Done => "done",
        };
        f.debug_struct("DeadlineFuture").field("state", &state).finish_non_exhaustive()
    }
}
