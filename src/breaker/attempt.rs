use std::mem;

#[cfg(feature = "http")]
use super::ticket::TicketKind;
use super::{Abandoned, cell::BreakerCell, refusal::Refused, ticket::Ticket};
use crate::{
    clock::Tick,
    telemetry::Stopwatch,
    verdict::{FailureKind, Verdict},
};

/// A call that a breaker has let pass and that has no outcome yet.
///
/// Dropped without one, it gives its probe back, and is a failure if it panicked or if the breaker
/// was told to count calls that are given up.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) cell: &'static BreakerCell,
    ticket: Ticket,
    /// [`Tick::NEVER`] where nobody needs to know.
    started: Tick,
    /// Set while the user's code runs: still set when dropped, it means that code panicked.
    /// `thread::panicking()` would not do: it is also true when an innocent call is dropped by the
    /// unwinding of something else.
    running: bool,
}

impl Attempt {
    #[inline]
    pub(super) fn admit(cell: &'static BreakerCell) -> Result<Attempt, Refused> {
        match cell.admit() {
            Ok(ticket) => Ok(Attempt::with(cell, ticket)),
            Err(refusal) => Err(Refused::new(cell, refusal)),
        }
    }

    #[inline]
    pub(super) fn with(cell: &'static BreakerCell, ticket: Ticket) -> Attempt {
        let started = if cell.timed { Tick::now() } else { Tick::NEVER };
        Attempt { cell, ticket, started, running: false }
    }

    /// Runs a piece of the call. If it panics, that is the outcome.
    #[inline]
    pub(super) fn run<T>(&mut self, code: impl FnOnce() -> T) -> T {
        self.running = true;
        let value = code();
        self.running = false;
        value
    }

    /// See [`Permit::gets_on`].
    #[cfg(feature = "http")]
    fn gets_on(&self, since: Tick) -> bool {
        if self.ticket.kind != TicketKind::Probe {
            return false;
        }
        let (now, limit) = (Tick::now(), self.cell.config.half_open_for);
        self.cell.deadline.extend(self.ticket.generation, now.after(limit));
        now.since(since) >= limit
    }

    /// The outcome. `kind` is asked for only if it is a failure.
    #[inline]
    pub(super) fn finish(self, verdict: Verdict, kind: impl FnOnce() -> FailureKind) {
        let (cell, ticket, started) = (self.cell, self.ticket, self.started);
        match verdict {
            Verdict::Success | Verdict::Permanent => {
                mem::forget(self);
                cell.good(ticket, started);
            }
            Verdict::Transient
            | Verdict::Unreachable
            | Verdict::Throttled { .. }
            | Verdict::Final => {
                // Asks the user's error type, which may panic: the attempt is still whole then.
                let kind = kind();
                mem::forget(self);
                cell.bad(ticket, started, kind);
            }
            Verdict::Refused { .. } | Verdict::Ignored => {
                mem::forget(self);
                cell.neutral(ticket);
            }
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let config = &self.cell.config;
        let given_up_late = || {
            let waited = || Tick::now().since(self.started);
            config.abandoned_after.is_some_and(|after| waited() >= after)
        };
        if self.running {
            self.cell.bad(self.ticket, self.started, FailureKind::Panicked);
        } else if config.abandoned == Abandoned::Failure || given_up_late() {
            self.cell.bad(self.ticket, self.started, FailureKind::Abandoned);
        } else {
            self.cell.neutral(self.ticket);
        }
    }
}

/// Leave to make one call, for code without tower; made by
/// [`CircuitBreaker::try_acquire`](super::CircuitBreaker::try_acquire) and
/// [`CircuitBreaker::permitted`](super::CircuitBreaker::permitted).
///
/// Tell it what came of the call with [`record`](Permit::record). Dropped without that, the call
/// counts as given up: by default that says nothing about the service, and a probe is given back
/// for somebody else.
///
/// A result recorded after the breaker has changed its state is dropped: it belongs to an older
/// life of the breaker.
#[derive(Debug)]
#[must_use = "a permit that is dropped without a verdict counts as a call given up"]
pub struct Permit {
    attempt: Attempt,
    stopwatch: Stopwatch,
}

impl Permit {
    pub(super) fn new(attempt: Attempt) -> Permit {
        let stopwatch = attempt.cell.meter.start();
        Permit { attempt, stopwatch }
    }

    /// Says what came of the call.
    pub fn record(self, verdict: Verdict) {
        let kind = match verdict {
            Verdict::Throttled { .. } => FailureKind::Throttled,
            Verdict::Unreachable => FailureKind::Unreachable,
            _ => FailureKind::Failed,
        };
        self.attempt.cell.meter.finish(verdict.kind() as usize, self.stopwatch);
        self.attempt.finish(verdict, || kind);
    }
}

/// For who holds a permit until the body of a response has ended.
#[cfg(feature = "http")]
impl Permit {
    /// Runs a piece of the call. If it panics, that is the outcome.
    pub(crate) fn run<T>(&mut self, code: impl FnOnce() -> T) -> T {
        self.attempt.run(code)
    }

    /// [`record`](Permit::record), where it is known better what kind of failure it is.
    pub(crate) fn record_as(self, verdict: Verdict, kind: impl FnOnce() -> FailureKind) {
        self.attempt.cell.meter.finish(verdict.kind() as usize, self.stopwatch);
        self.attempt.finish(verdict, kind);
    }

    /// The service has done its part for now. When that was, if anybody needs to know how long the
    /// call takes it; [`Tick::NEVER`] if not.
    pub(crate) fn pause(&self) -> Tick {
        let timed = self.attempt.started != Tick::NEVER;
        if timed { Tick::now() } else { Tick::NEVER }
    }

    /// The service is waited for again: the time since the pause was not its own.
    pub(crate) fn resume(&mut self, paused: Tick) {
        if paused != Tick::NEVER {
            let away = Tick::now().since(paused);
            self.attempt.started = self.attempt.started.after(away);
        }
    }

    /// When this began to get on, if it is a probe; [`Tick::NEVER`] if not.
    pub(crate) fn probes_since(&self) -> Tick {
        let probes = self.attempt.ticket.kind == TicketKind::Probe;
        if probes { Tick::now() } else { Tick::NEVER }
    }

    /// A sign of life before there is an outcome: a probe that gets on does not hang. True of one
    /// that has done so for as long as one may hang, which is answer enough: it may have no end, and
    /// everybody else is refused until it has (law 5).
    pub(crate) fn gets_on(&self, since: Tick) -> bool {
        self.attempt.gets_on(since)
    }
}
