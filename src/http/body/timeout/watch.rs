use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    task::unconstrained,
    time::{Instant, Sleep, sleep},
};

use super::handle::BodyTimeoutCell;
use crate::{error::PolicyError, telemetry::Stopwatch};

/// The time of one call, from its beginning to the end of the body.
#[derive(Clone, Copy)]
pub(super) struct Watch {
    cell: &'static BodyTimeoutCell,
    /// When the total is used up, if there is one and the clock can hold it.
    deadline: Option<Instant>,
    stopwatch: Stopwatch,
}

impl Watch {
    /// A call begins. Reads the clock only if it is limited as a whole.
    #[inline]
    pub(super) fn start(cell: &'static BodyTimeoutCell) -> Self {
        let deadline = cell.config.total.and_then(|total| Instant::now().checked_add(total));
        Watch { cell, deadline, stopwatch: cell.start() }
    }

    #[inline]
    pub(super) fn finish(&self, success: bool) {
        self.cell.finish(success, self.stopwatch);
    }

    /// The error if the whole has taken too long. Reads the clock if there is a limit to it.
    #[inline]
    pub(super) fn overdue(&self) -> Option<PolicyError> {
        self.deadline.filter(|deadline| Instant::now() >= *deadline).map(|_| self.timed_out())
    }

    fn timed_out(&self) -> PolicyError {
        let total = self.cell.config.total.unwrap_or(Duration::MAX);
        self.cell.timed_out(total, self.stopwatch)
    }

    /// Waits for the headers: only the whole is limited. `timer` is `None` before the first wait.
    pub(super) fn poll_head(
        &self,
        mut timer: Pin<&mut Option<Sleep>>,
        cx: &mut Context<'_>,
    ) -> Poll<PolicyError> {
        let Some(deadline) = self.deadline else { return Poll::Pending };
        if timer.is_none() {
            timer.set(Some(tokio::time::sleep_until(deadline)));
        }
        poll_timer(timer, cx).map(|_| self.timed_out())
    }

    /// Waits for a piece of the body. `timer` is `None` if this is the first wait for it.
    pub(super) fn poll_piece(
        &self,
        mut timer: Pin<&mut Option<Sleep>>,
        cx: &mut Context<'_>,
    ) -> Poll<PolicyError> {
        let stall = self.cell.config.stall;
        loop {
            if timer.is_none() {
                let left = self.deadline.map(|at| at.saturating_duration_since(Instant::now()));
                // A duration that the clock cannot hold becomes tokio's far future.
                timer.set(Some(sleep(left.map_or(stall, |left| left.min(stall)))));
            }
            let Poll::Ready(due) = poll_timer(timer.as_mut(), cx) else { return Poll::Pending };
            let now = Instant::now();
            if self.deadline.is_some_and(|deadline| now >= deadline) {
                return Poll::Ready(self.timed_out());
            }
            // The timer has woken the reader. One that comes only now, later than all of the time
            // that it grants the server, was not waiting: it was away itself, and there are bodies
            // that get on only while they are polled. So the time begins anew.
            if now.duration_since(due) < stall {
                return Poll::Ready(self.cell.stalled(self.stopwatch));
            }
            timer.set(None);
        }
    }
}

/// When the timer was due, once it is.
fn poll_timer(timer: Pin<&mut Option<Sleep>>, cx: &mut Context<'_>) -> Poll<Instant> {
    let Some(mut sleep) = timer.as_pin_mut() else { return Poll::Pending };
    let due = sleep.deadline();
    // Outside of tokio's cooperative budget, as the timer of `Timeout` is: a body that has used up
    // the budget of this poll would otherwise keep the timer from looking at the clock.
    Pin::new(&mut unconstrained(sleep.as_mut())).poll(cx).map(|()| due)
}
