use std::time::Duration;

use tokio::{
    task::coop::{Unconstrained, unconstrained},
    time::Sleep,
};

use super::handle::RetryCell;
use crate::{
    backoff::Backoff,
    clock::Tick,
    error::StackError,
    telemetry::{
        RETRY_BUDGET_DENIED, RETRY_EXHAUSTED, RETRY_OUT_OF_TIME, RETRY_RETRIED, RETRY_UNCLONEABLE,
        Stopwatch,
    },
    verdict::{FailureKind, Verdict},
};

/// One operation: its attempts so far, and the decision what follows each of them. The future of
/// the service and [`Retry::call`](super::Retry::call) both go by it.
#[derive(Debug)]
pub(super) struct Operation {
    cell: &'static RetryCell,
    /// The attempt under way or just over, counted from 1.
    attempt: u32,
    /// Of the attempt before: what a retry of it costs, and what is returned if none follows.
    kind: FailureKind,
    verdict: Verdict,
    /// The backoff before, for jitter that goes by it.
    last_backoff: Option<Duration>,
    /// Read only where there is a limit to hold it against.
    started: Option<Tick>,
    stopwatch: Stopwatch,
}

/// What follows an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Its outcome is the operation's.
    Return,
    /// Another attempt, after this delay.
    Retry(Duration),
}

/// Why no attempt follows although the verdict asks for one. The number is its row in telemetry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    Exhausted = RETRY_EXHAUSTED as isize,
    BudgetDenied = RETRY_BUDGET_DENIED as isize,
    Uncloneable = RETRY_UNCLONEABLE as isize,
    OutOfTime = RETRY_OUT_OF_TIME as isize,
}

impl Operation {
    /// The operation begins with its first attempt.
    #[inline]
    pub(super) fn begin(cell: &'static RetryCell) -> Self {
        Operation {
            cell,
            attempt: 1,
            kind: FailureKind::Failed,
            verdict: Verdict::Ignored,
            last_backoff: None,
            started: cell.config.max_elapsed.map(|_| Tick::now()),
            stopwatch: cell.meter.start(),
        }
    }

    pub(super) const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Whether an attempt could follow the one that is about to start, and so a copy of its
    /// request may be needed.
    ///
    /// Not after the last one, and not while the budget could not pay for the cheapest retry:
    /// during an outage that spares a copy, which costs more than the stack, for every call. A
    /// token that comes in while the attempt is under way then goes to some other operation, so
    /// nothing is lost but this one's claim to it.
    #[inline]
    pub(super) fn may_repeat(&self) -> Result<(), Stop> {
        if self.attempt >= self.cell.config.max_attempts {
            Err(Stop::Exhausted)
        } else if self.cell.budget.is_none_or(|budget| budget.pays_for_any()) {
            Ok(())
        } else {
            Err(Stop::BudgetDenied)
        }
    }

    /// The attempt is over. `repeatable` says whether its request can be sent again.
    #[inline]
    pub(super) fn after<Res, Err: StackError>(
        &mut self,
        verdict: Verdict,
        outcome: &Result<Res, Err>,
        repeatable: Result<(), Stop>,
    ) -> Next {
        self.verdict = verdict;
        match verdict {
            Verdict::Success | Verdict::Permanent => {
                if let Some(budget) = self.cell.budget {
                    budget.deposit();
                }
            }
            Verdict::Refused { .. } | Verdict::Ignored => {}
            Verdict::Transient | Verdict::Throttled { .. } => {
                self.kind = FailureKind::of(verdict, outcome);
                return self.after_failure(repeatable);
            }
        }
        self.finish();
        Next::Return
    }

    #[cold]
    fn after_failure(&mut self, repeatable: Result<(), Stop>) -> Next {
        match self.delay(repeatable) {
            Ok(delay) => {
                self.cell.meter.retrying(self.attempt + 1, self.verdict.kind(), delay);
                Next::Retry(delay)
            }
            Err(stop) => {
                self.stop(stop);
                Next::Return
            }
        }
    }

    /// How long to wait before the next attempt, or why there is none. Takes nothing yet.
    fn delay(&mut self, repeatable: Result<(), Stop>) -> Result<Duration, Stop> {
        let config = &self.cell.config;
        if self.attempt >= config.max_attempts {
            return Err(Stop::Exhausted);
        }
        repeatable?;
        if self.cell.budget.is_some_and(|budget| !budget.peek(self.kind)) {
            return Err(Stop::BudgetDenied);
        }
        let backoff = next_backoff(&config.backoff, self.attempt, self.last_backoff);
        self.last_backoff = Some(backoff);
        // Law 8: on top of the hint, never below it, or all who were sent away come back at once.
        let hint = self.verdict.retry_after().unwrap_or(Duration::ZERO);
        let delay = hint.min(config.max_retry_after).saturating_add(backoff);
        if self.too_late(delay) { Err(Stop::OutOfTime) } else { Ok(delay) }
    }

    /// Right before another attempt starts: whether it may. Its price is then paid for good.
    pub(super) fn start_another(&mut self) -> bool {
        // Waiting for readiness has taken its time too.
        let stop = if self.too_late(Duration::ZERO) {
            Stop::OutOfTime
        } else if self.cell.budget.is_some_and(|budget| !budget.try_withdraw(self.kind)) {
            Stop::BudgetDenied
        } else {
            self.attempt += 1;
            self.cell.count(RETRY_RETRIED);
            return true;
        };
        self.stop(stop);
        false
    }

    /// The attempt that was to follow failed in its readiness: it counts as one, or a service that
    /// is never ready would be asked for ever, but it reached nobody and so costs nothing.
    pub(super) fn failed_unstarted(&mut self) {
        self.attempt += 1;
    }

    /// Law 9: whether an attempt would start after the operation's time, this long from now.
    fn too_late(&self, delay: Duration) -> bool {
        match (self.started, self.cell.config.max_elapsed) {
            (Some(started), Some(max)) => Tick::now().since(started).saturating_add(delay) >= max,
            _ => false,
        }
    }

    fn stop(&self, stop: Stop) {
        self.cell.count(stop as usize);
        self.finish();
    }

    #[inline]
    fn finish(&self) {
        self.cell.meter.finish(self.verdict.kind() as usize, self.stopwatch);
    }
}

/// Attempt 1 is followed by retry 0.
fn next_backoff(backoff: &Backoff, attempt: u32, last: Option<Duration>) -> Duration {
    backoff.next_delay(attempt - 1, last, &mut rand::rng())
}

/// Sleeps outside tokio's cooperative budget, which an attempt may have used up: the delay would
/// be over and the task not told.
pub(super) fn sleep(delay: Duration) -> Unconstrained<Sleep> {
    unconstrained(tokio::time::sleep(delay))
}
