use std::time::Duration;

use tokio::{
    task::coop::{Unconstrained, unconstrained},
    time::{Instant, Sleep},
};

use super::{RetryBudget, handle::RetryCell};
use crate::{
    backoff::Backoff,
    clock::Tick,
    error::StackError,
    telemetry::{
        RETRY_BUDGET_DENIED, RETRY_EXHAUSTED, RETRY_NOT_IDEMPOTENT, RETRY_OUT_OF_TIME,
        RETRY_RETRIED, RETRY_RETRIED_ABOVE, RETRY_UNCLONEABLE, Stopwatch,
    },
    verdict::{FailureKind, Verdict, VerdictKind},
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
    verdict: VerdictKind,
    /// The backoff before, for jitter that goes by it.
    last_backoff: Option<Duration>,
    /// [`Tick::NEVER`] where there is no limit to hold it against.
    started: Tick,
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

/// Why no attempt follows although the verdict asks for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    Exhausted,
    BudgetDenied,
    Uncloneable,
    OutOfTime,
    NotIdempotent,
    RetriedAbove,
}

/// The caller's deadline, after which an attempt is of no use.
pub(super) type Deadline = Option<Instant>;

impl Stop {
    const fn row(self) -> usize {
        match self {
            Stop::Exhausted => RETRY_EXHAUSTED,
            Stop::BudgetDenied => RETRY_BUDGET_DENIED,
            Stop::Uncloneable => RETRY_UNCLONEABLE,
            Stop::OutOfTime => RETRY_OUT_OF_TIME,
            Stop::NotIdempotent => RETRY_NOT_IDEMPOTENT,
            Stop::RetriedAbove => RETRY_RETRIED_ABOVE,
        }
    }
}

impl Operation {
    /// The operation begins with its first attempt.
    #[inline]
    pub(super) fn begin(cell: &'static RetryCell) -> Self {
        Operation {
            cell,
            attempt: 1,
            kind: FailureKind::Failed,
            verdict: VerdictKind::Ignored,
            last_backoff: None,
            started: cell.config.max_elapsed.map_or(Tick::NEVER, |_| Tick::now()),
            stopwatch: cell.meter.start(),
        }
    }

    pub(super) const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Whether it makes more than one attempt, if need be.
    pub(super) const fn repeats(&self) -> bool {
        self.cell.config.max_attempts > 1
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
        } else if self.cell.budget.is_none_or(RetryBudget::pays_for_any) {
            Ok(())
        } else {
            Err(Stop::BudgetDenied)
        }
    }

    /// The attempt is over. `repeatable` says whether its request can be sent again, and until when;
    /// it is asked only if that is wanted.
    #[inline]
    pub(super) fn after<Res, Err: StackError>(
        &mut self,
        verdict: Verdict,
        outcome: &Result<Res, Err>,
        repeatable: impl FnOnce() -> Result<Deadline, Stop>,
    ) -> Next {
        self.verdict = verdict.kind();
        match verdict {
            Verdict::Success | Verdict::Permanent => {
                if let Some(budget) = self.cell.budget {
                    budget.deposit();
                }
            }
            Verdict::Final | Verdict::Refused { .. } | Verdict::Ignored => {}
            Verdict::Transient | Verdict::Unreachable | Verdict::Throttled { .. } => {
                self.kind = FailureKind::of(verdict, outcome);
                return self.after_failure(verdict.retry_after(), repeatable());
            }
        }
        self.finish();
        Next::Return
    }

    #[cold]
    fn after_failure(
        &mut self,
        hint: Option<Duration>,
        repeatable: Result<Deadline, Stop>,
    ) -> Next {
        match self.delay(hint, repeatable) {
            Ok(delay) => {
                self.cell.meter.retrying(self.attempt + 1, self.verdict, delay);
                Next::Retry(delay)
            }
            Err(stop) => {
                self.stop(stop);
                Next::Return
            }
        }
    }

    /// How long to wait before the next attempt, or why there is none. Takes nothing yet.
    fn delay(
        &mut self,
        hint: Option<Duration>,
        repeatable: Result<Deadline, Stop>,
    ) -> Result<Duration, Stop> {
        let config = &self.cell.config;
        if self.attempt >= config.max_attempts {
            return Err(Stop::Exhausted);
        }
        let deadline = repeatable?;
        if self.cell.budget.is_some_and(|budget| !budget.peek(self.kind)) {
            return Err(Stop::BudgetDenied);
        }
        let backoff = next_backoff(&config.backoff, self.attempt, self.last_backoff);
        self.last_backoff = Some(backoff);
        // Law 8: on top of the hint, never below it, or all who were sent away come back at once.
        let hint = hint.unwrap_or(Duration::ZERO);
        let delay = hint.min(config.max_retry_after).saturating_add(backoff);
        if self.too_late(delay, deadline) { Err(Stop::OutOfTime) } else { Ok(delay) }
    }

    /// Right before another attempt starts: whether it may. Its price is then paid for good.
    pub(super) fn start_another(&mut self, deadline: Deadline) -> bool {
        // Waiting for readiness has taken its time too.
        let stop = if self.too_late(Duration::ZERO, deadline) {
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
    fn too_late(&self, delay: Duration, deadline: Deadline) -> bool {
        self.time_left(deadline).is_some_and(|left| delay >= left)
    }

    /// How long until it is too late for an attempt to start, if it ever is.
    pub(super) fn time_left(&self, deadline: Deadline) -> Option<Duration> {
        let elapsed = || Tick::now().since(self.started);
        let own = self.cell.config.max_elapsed.map(|max| max.saturating_sub(elapsed()));
        let callers = deadline.map(|end| end.saturating_duration_since(Instant::now()));
        own.into_iter().chain(callers).min()
    }

    pub(super) fn stop(&self, stop: Stop) {
        self.cell.count(stop.row());
        self.cell.meter.not_retrying(self.attempt, self.verdict, stop.row());
        self.finish();
    }

    #[inline]
    fn finish(&self) {
        self.cell.meter.finish(self.verdict as usize, self.stopwatch);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        breaker::{Evidence, OpenReason},
        error::{BoxError, Error, PolicyError},
        retry::Retry,
        verdict::{Classify, classify_fn},
    };

    const MS: Duration = Duration::from_millis(1);

    fn retry() -> Retry {
        let budget = RetryBudget::builder("b").refill_per_second(0.0).build().unwrap();
        Retry::builder("r").budget(budget).build().unwrap()
    }

    /// Attempts made, tokens spent, and the error in the end.
    async fn run<E, C>(retry: Retry, classifier: C, raise: impl Fn() -> E) -> (u32, f64, E)
    where
        E: StackError + std::fmt::Debug,
        C: Classify<(), E>,
    {
        let mut attempts = 0;
        let outcome = retry.call_with(classifier, |attempt| {
            attempts = attempt;
            std::future::ready(Err(raise()))
        });
        let error = outcome.await.unwrap_err();
        (attempts, 10.0 - retry.budget().unwrap().tokens(), error)
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_within_is_not_retried_whatever_the_classifier() {
        let why = Evidence::of(OpenReason::Forced);
        let refusal = PolicyError::circuit_open("inner", why, Some(1_000_000));
        let natural = classify_fn(|outcome: Result<&(), &Error<&str>>| match outcome {
            Ok(()) => Verdict::Success,
            Err(_) => Verdict::Transient,
        });
        let (attempts, spent, error) = run(retry(), natural, || Error::Policy(refusal)).await;
        assert_eq!((attempts, spent, error), (1, 0.0, Error::Policy(refusal)));

        let natural = classify_fn(|_: Result<&(), &BoxError>| Verdict::Transient);
        let boxed = || -> BoxError { Box::new(Error::<std::io::Error>::Policy(refusal)) };
        assert_eq!(run(retry(), natural, boxed).await.0, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_timeout_within_is_retried_at_its_own_price() {
        let timed_out = PolicyError::timed_out("inner", MS);
        let permanent = classify_fn(|_: Result<&(), &Error<&str>>| Verdict::Permanent);
        let (attempts, spent, error) = run(retry(), permanent, || Error::Policy(timed_out)).await;
        assert_eq!((attempts, spent, error), (3, 4.0, Error::Policy(timed_out)));
    }

    #[test]
    fn an_operation_waits_for_nothing_that_it_cannot_have() {
        let failure: Result<(), Error<&str>> = Err(Error::Service("no"));
        for stop in [Stop::Uncloneable, Stop::BudgetDenied, Stop::NotIdempotent] {
            let next = retry().begin().after(Verdict::Transient, &failure, || Err(stop));
            assert_eq!(next, Next::Return);
        }
        let next = retry().begin().after(Verdict::Transient, &failure, || Ok(None));
        assert!(matches!(next, Next::Retry(delay) if delay <= 50 * MS), "{next:?}");
    }

    #[test]
    fn a_hint_of_forever_is_no_overflow() {
        let retry = Retry::builder("r").max_retry_after(Duration::MAX).build().unwrap();
        let failure: Result<(), Error<&str>> = Err(Error::Service("no"));
        let forever = Verdict::Throttled { retry_after: Some(Duration::MAX) };
        let next = retry.begin().after(forever, &failure, || Ok(None));
        assert_eq!(next, Next::Retry(Duration::MAX));
    }
}
