//! One breaker's state, shared by every handle, layer and service made from it.
//!
//! Admission and recording take no lock in any state: they are loads, and compare-and-swaps on the
//! gate and the windows. Transitions are made one at a time under the ledger's lock, and published
//! by a single compare-and-swap on the gate after everything they imply has been written, so that
//! whoever sees the new gate sees that too.

use tokio::sync::{Notify, Semaphore};

use super::{
    CircuitBreakerConfig, OpenReason, State, Transition, WhenOpen, Window,
    deadline::Deadline,
    evidence,
    gate::{Decision, Gate, Probe, least_reaching},
    ledger::{HISTORY, Ledger},
    recent::RecentFailures,
    refusal::Refusal,
    streak::Streak,
    subscription::Subscribers,
    ticket::{Ticket, TicketKind},
    window::{CountWindow, Counts, Limit, SlidingWindow, TimeWindow},
};
use crate::{
    clock::{Tick, nanos},
    sync::{AtomicU64, Mutex, Ordering, lock},
    telemetry::{self, Meter},
    verdict::FailureKind,
};

#[derive(Debug)]
pub(super) struct BreakerCell {
    pub(super) gate: AtomicU64,
    failures: SlidingWindow,
    slow: Option<SlowWindow>,
    streak: Streak,
    /// Whether recording a success needs nothing but the failure window.
    plain: bool,
    /// Whether an attempt must know when it started.
    pub(super) timed: bool,
    /// How many of the probes must succeed to close.
    needed: u32,
    /// When an open or forced state is over.
    pub(super) until: AtomicU64,
    /// When outstanding probes are overdue.
    pub(super) deadline: Deadline,
    /// When the last reservation of a probe runs out.
    pub(super) lease: AtomicU64,
    /// How often lapsed reservations were taken back, so that their owners know.
    pub(super) reclaims: AtomicU64,
    /// How long the circuit will be open when it opens next: drawn beforehand, so that what a
    /// missed deadline leads to is known to every reader and not only to the one that acts on it.
    pub(super) next_open_for: AtomicU64,
    /// Why it is open, packed.
    pub(super) evidence: AtomicU64,
    pub(super) config: CircuitBreakerConfig,
    pub(super) name: &'static str,
    pub(super) meter: Meter,
    pub(super) recent: RecentFailures,
    pub(super) ledger: Mutex<Ledger>,
    pub(super) subscribers: Subscribers<Transition>,
    /// One waiter at a time watches for a free probe; the others queue here, in order.
    pub(super) turnstile: Semaphore,
    /// Told of every transition and of every probe given back.
    pub(super) changed: Notify,
    /// Told when calls pass freely again: then nobody has to queue.
    pub(super) passable: Notify,
}

#[derive(Debug)]
struct SlowWindow {
    threshold: u64,
    window: SlidingWindow,
}

/// What a call would meet now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    /// The gate as stored.
    pub(super) gate: Gate,
    /// The state in effect, time considered.
    pub(super) state: State,
    /// When an open or forced state ends; when probes are overdue.
    pub(super) until: Tick,
    /// When the state in effect began, if the stored one is out of date.
    pub(super) since: Tick,
    /// Whether the stored state is out of date.
    pub(super) due: bool,
}

/// What a service meets that asks whether it is ready while the circuit is not simply closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reception {
    /// The call may be made, if the wrapped service is ready for it.
    Welcome,
    /// The call will be refused, so readiness is promised without more ado.
    Refused {
        /// When that was decided.
        asked: Tick,
    },
    /// Not ready until calls may pass.
    MustWait,
}

impl BreakerCell {
    pub(super) fn new(name: &'static str, config: CircuitBreakerConfig) -> Self {
        BreakerCell::with(name, config, telemetry::BREAKER, HISTORY)
    }

    /// One of the many of a keyed breaker, most of which never open: reports under the name of all,
    /// and takes memory for its history when there is one.
    pub(super) fn of_a_place(name: &'static str, config: CircuitBreakerConfig) -> Self {
        BreakerCell::with(name, config, telemetry::KEYED_BREAKER, 0)
    }

    fn with(
        name: &'static str,
        config: CircuitBreakerConfig,
        table: telemetry::Table,
        history: usize,
    ) -> Self {
        let now = Tick::now();
        let window = |ratio: f64| {
            let limit = Limit { ratio, min_calls: config.min_calls };
            match config.window {
                Window::Calls(size) => SlidingWindow::Calls(CountWindow::new(size, limit, 0)),
                Window::Time(length) => SlidingWindow::Time(TimeWindow::new(length, limit, 0, now)),
            }
        };
        let failures = window(config.failure_ratio);
        let slow = config.slow_calls.map(|slow| SlowWindow {
            threshold: nanos(slow.threshold),
            window: window(slow.ratio),
        });
        let ledger = Ledger::new(now, history);
        let next_open_for = nanos(ledger.next_open_for(&config));
        BreakerCell {
            gate: AtomicU64::new(Gate::new(State::Closed, 0).bits()),
            plain: slow.is_none() && config.consecutive_failures.is_none(),
            timed: slow.is_some() || config.abandoned_after.is_some(),
            failures,
            slow,
            streak: Streak::new(config.consecutive_failures),
            needed: least_reaching(config.success_ratio, config.probes),
            until: AtomicU64::new(0),
            deadline: Deadline::new(now),
            lease: AtomicU64::new(0),
            reclaims: AtomicU64::new(0),
            next_open_for: AtomicU64::new(next_open_for),
            evidence: AtomicU64::new(0),
            config,
            name,
            meter: Meter::new(name, table),
            recent: RecentFailures::new(),
            ledger: Mutex::new(ledger),
            subscribers: Subscribers::new(),
            turnstile: Semaphore::const_new(1),
            changed: Notify::const_new(),
            passable: Notify::const_new(),
        }
    }

    #[inline]
    pub(super) fn gate(&self) -> Gate {
        Gate::from_bits(self.gate.load(Ordering::Acquire))
    }

    /// What a call would meet at `now`. A pure read.
    pub(super) fn look(&self, now: Tick) -> Look {
        loop {
            let gate = self.gate();
            let stored = gate.state();
            let in_effect =
                |state, until| Look { gate, state, until, since: until, due: state != stored };
            match stored {
                State::Closed => return in_effect(State::Closed, Tick::NEVER),
                State::Open | State::ForcedOpen | State::ForcedClosed => {
                    let until = Tick::from_bits(self.until.load(Ordering::Acquire));
                    let then = match stored {
                        State::ForcedClosed => State::Closed,
                        _ => State::HalfOpen,
                    };
                    let over = now >= until && until != Tick::NEVER;
                    return in_effect(if over { then } else { stored }, until);
                }
                State::HalfOpen => {
                    // A deadline of another generation: the gate has moved on meanwhile.
                    let Some(deadline) = self.deadline.of(gate.generation()) else { continue };
                    if gate.outstanding() == 0 || now < deadline {
                        return in_effect(State::HalfOpen, deadline);
                    }
                    let until = deadline.after(self.next_open_for());
                    let (state, since) = if now < until {
                        (State::Open, deadline)
                    } else {
                        (State::HalfOpen, until)
                    };
                    return Look { gate, state, until, since, due: true };
                }
            }
        }
    }

    pub(super) fn next_open_for(&self) -> std::time::Duration {
        std::time::Duration::from_nanos(self.next_open_for.load(Ordering::Acquire))
    }

    // ---- Admission ---------------------------------------------------------------------------

    /// Leave to make a call, or the reason why not. One load while the circuit is closed.
    #[inline]
    pub(super) fn admit(&self) -> Result<Ticket, Refusal> {
        let gate = self.gate();
        if gate.is_closed() {
            return Ok(Ticket::counted(gate));
        }
        self.admit_while_not_closed()
    }

    #[inline(never)]
    fn admit_while_not_closed(&self) -> Result<Ticket, Refusal> {
        let now = Tick::now();
        self.enter(now).or_else(|look| self.refuse(look, now))
    }

    /// A ticket for what is no call but has an outcome: a readiness that failed.
    pub(super) fn ticket(&self) -> Option<Ticket> {
        self.enter(Tick::now()).ok()
    }

    /// A ticket, or what stands against it. Tells nobody.
    fn enter(&self, now: Tick) -> Result<Ticket, Look> {
        loop {
            let look = self.look(now);
            if look.due {
                self.settle(now);
                continue;
            }
            let generation = look.gate.generation();
            match look.state {
                State::Closed | State::ForcedClosed => {
                    return Ok(Ticket { generation, kind: TicketKind::Counted });
                }
                State::Open | State::ForcedOpen => return Err(look),
                State::HalfOpen => match look.gate.start_probe(self.config.probes) {
                    Some(next) => {
                        if self.begin_probe(look.gate, next, now) {
                            return Ok(Ticket { generation, kind: TicketKind::Probe });
                        }
                    }
                    None if self.reclaim_reservations(look.gate, now) => {}
                    None => return Err(look),
                },
            }
        }
    }

    /// Moves the gate to one more outstanding probe. Where none was under way, the time until they
    /// are overdue starts over.
    pub(super) fn begin_probe(&self, gate: Gate, next: Gate, now: Tick) -> bool {
        if gate.outstanding() == 0 {
            self.deadline.extend(gate.generation(), now.after(self.config.half_open_for));
        }
        self.swap(gate, next)
    }

    /// Takes back reservations nobody has used within their lease. True if something changed.
    pub(super) fn reclaim_reservations(&self, gate: Gate, now: Tick) -> bool {
        let lapsed = || gate.reserved() > 0 && now.bits() >= self.lease.load(Ordering::Acquire);
        if !lapsed() {
            return false;
        }
        // The lock keeps those away that give theirs back. It also makes one step of this: the
        // gate's word may have come to be the same again, with reservations that are still good.
        let _ledger = lock(&self.ledger);
        if lapsed() && self.swap(gate, gate.reclaim_reserved()) {
            self.reclaims.fetch_add(1, Ordering::AcqRel);
        }
        true
    }

    pub(super) fn swap(&self, from: Gate, to: Gate) -> bool {
        self.gate
            .compare_exchange(from.bits(), to.bits(), Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    fn refuse(&self, look: Look, now: Tick) -> Result<Ticket, Refusal> {
        if self.config.shadow {
            self.meter.count(telemetry::BREAKER_SHADOW);
            let generation = look.gate.generation();
            return Ok(Ticket { generation, kind: TicketKind::Uncounted });
        }
        Err(self.refusal(look, now))
    }

    fn refusal(&self, look: Look, now: Tick) -> Refusal {
        let why = self.why(look);
        match look.state {
            State::HalfOpen => Refusal::probes_taken(why),
            _ => Refusal::open(why, look.until, now),
        }
    }

    /// The refusal of a call whose service was told to go ahead without being ready, because the
    /// circuit was open then. It may have closed since; the call cannot be made all the same.
    ///
    /// As of the moment when it was asked, which saves another reading of the clock.
    pub(super) fn refuse_unready(&self, asked: Tick) -> Refusal {
        match self.open_until(asked) {
            Some(until) => Refusal::open(self.evidence.load(Ordering::Acquire), until, asked),
            None => self.refuse_unready_in_full(asked),
        }
    }

    fn refuse_unready_in_full(&self, asked: Tick) -> Refusal {
        let look = self.look(asked);
        let look = match look.state {
            State::Closed | State::ForcedClosed => {
                Look { state: State::Open, until: asked, ..look }
            }
            _ => look,
        };
        self.refusal(look, asked)
    }

    /// Until when the circuit is open, if it is stored as open and that is not over at `now`: what
    /// a long outage asks thousands of times a second, and [`look`](Self::look) answers as well.
    #[inline]
    fn open_until(&self, now: Tick) -> Option<Tick> {
        if !matches!(self.gate().state(), State::Open | State::ForcedOpen) {
            return None;
        }
        let until = Tick::from_bits(self.until.load(Ordering::Acquire));
        (now < until).then_some(until)
    }

    /// What a service meets that asks whether it is ready. In one piece with the reading of the
    /// clock: this is what a long outage asks thousands of times a second.
    #[inline(never)]
    pub(super) fn receive(&self) -> Reception {
        let now = Tick::now_inline();
        let waits = self.config.when_open == WhenOpen::Wait;
        let may_pass = self.config.shadow
            || match self.open_until(now) {
                Some(_) => false,
                None if waits => self.passes_freely(now),
                None => self.free_at(now).is_none(),
            };
        match may_pass {
            true => Reception::Welcome,
            false if waits => Reception::MustWait,
            false => Reception::Refused { asked: now },
        }
    }

    /// Whether calls pass without being counted out.
    pub(super) fn passes_freely(&self, now: Tick) -> bool {
        matches!(self.look(now).state, State::Closed | State::ForcedClosed)
    }

    /// `None` if a call may pass at `now`, else when it is worth looking again if nothing changes
    /// before that.
    pub(super) fn free_at(&self, now: Tick) -> Option<Tick> {
        let look = self.look(now);
        match look.state {
            State::Closed | State::ForcedClosed => None,
            State::Open | State::ForcedOpen => Some(look.until),
            // A half-open phase that is only due has all its probes free.
            State::HalfOpen if look.due || look.gate.has_free_probe(self.config.probes) => None,
            State::HalfOpen => {
                let lease = Tick::from_bits(self.lease.load(Ordering::Acquire));
                let reserved = look.gate.reserved() > 0;
                let overdue = if look.gate.outstanding() > 0 { look.until } else { Tick::NEVER };
                match reserved {
                    true if now >= lease => None,
                    true => Some(lease.min(overdue)),
                    false => Some(overdue),
                }
            }
        }
    }

    /// Why it is open, or was before it became half-open.
    pub(super) fn open_reason(&self, look: Look) -> OpenReason {
        evidence::unpack(self.why(look), &self.config)
    }

    /// [`open_reason`](Self::open_reason), packed.
    fn why(&self, look: Look) -> u64 {
        if look.due && look.gate.state() == State::HalfOpen {
            return evidence::pack(self.probes_overdue(look.gate));
        }
        self.evidence.load(Ordering::Acquire)
    }

    pub(super) fn probes_overdue(&self, gate: Gate) -> OpenReason {
        let probes = self.config.probes;
        OpenReason::ProbesOverdue { outstanding: gate.outstanding(), probes }
    }

    // ---- Recording ---------------------------------------------------------------------------

    /// The service answered. One load while the window is clean.
    #[inline]
    pub(super) fn good(&self, ticket: Ticket, started: Tick) {
        if self.plain && ticket.kind == TicketKind::Counted {
            let now = self.failures.good_now(ticket.generation);
            self.report_failure_ratio(false, ticket, now);
        } else {
            self.good_in_full(ticket, started);
        }
    }

    #[inline(never)]
    fn good_in_full(&self, ticket: Ticket, started: Tick) {
        let now = self.now_if_needed();
        let slow = self.is_slow(started, now);
        match ticket.kind {
            TicketKind::Uncounted => {}
            TicketKind::Probe if slow => {
                self.finish_probe(ticket, Probe::Failed, FailureKind::Slow);
            }
            TicketKind::Probe => self.finish_probe(ticket, Probe::Succeeded, FailureKind::Failed),
            TicketKind::Counted => {
                self.streak.success(ticket.generation);
                self.failures.good(ticket.generation, now);
                self.report_failure_ratio(false, ticket, now);
                if let Some(why) = self.record_duration(ticket.generation, slow, now) {
                    self.trip(ticket.generation, why);
                }
            }
        }
    }

    /// The call failed.
    #[cold]
    pub(super) fn bad(&self, ticket: Ticket, started: Tick, kind: FailureKind) {
        let generation = ticket.generation;
        match ticket.kind {
            TicketKind::Uncounted => {}
            TicketKind::Probe => self.finish_probe(ticket, Probe::Failed, kind),
            TicketKind::Counted if self.gate().generation() != generation => {}
            TicketKind::Counted => {
                let now = self.now_if_needed();
                let slow = self.is_slow(started, now);
                self.recent.remember(generation, kind);
                let failed = self
                    .failures
                    .bad(generation, now)
                    .map(|counts| evidence::failure_ratio(counts.bad, counts.calls, &self.config));
                // Being told to slow down is no sign of being down: it neither advances the
                // streak nor ends it.
                let in_a_row = if kind == FailureKind::Throttled {
                    None
                } else {
                    let failures = self.streak.failure(generation);
                    failures.map(|failures| OpenReason::ConsecutiveFailures { failures })
                };
                let was_slow = self.record_duration(generation, slow, now);
                self.report_failure_ratio(true, ticket, now);
                if let Some(why) = failed.or(in_a_row).or(was_slow) {
                    self.trip(generation, why);
                }
            }
        }
    }

    /// The call says nothing about the service.
    pub(super) fn neutral(&self, ticket: Ticket) {
        if ticket.kind == TicketKind::Probe {
            self.finish_probe(ticket, Probe::GivenBack, FailureKind::Failed);
        }
    }

    #[inline]
    fn report_failure_ratio(&self, failed: bool, ticket: Ticket, now: Tick) {
        self.meter.failure_ratio(failed, || {
            // Law 4: a result of an older life has changed nothing.
            let current = self.gate().generation() == ticket.generation;
            let counts = current.then(|| self.failures.counts(ticket.generation, now))?;
            Some((counts.bad, counts.calls))
        });
    }

    fn now_if_needed(&self) -> Tick {
        if self.slow.is_some() || self.failures.needs_clock() { Tick::now() } else { Tick::NEVER }
    }

    fn is_slow(&self, started: Tick, now: Tick) -> bool {
        let took = || nanos(now.since(started));
        self.slow.as_ref().is_some_and(|slow| took() >= slow.threshold)
    }

    fn record_duration(&self, generation: u32, was_slow: bool, now: Tick) -> Option<OpenReason> {
        let slow = self.slow.as_ref()?;
        if !was_slow {
            slow.window.good(generation, now);
            return None;
        }
        self.recent.remember(generation, FailureKind::Slow);
        let counts = slow.window.bad(generation, now)?;
        Some(evidence::slow_ratio(counts.bad, counts.calls, &self.config))
    }

    #[cold]
    fn finish_probe(&self, ticket: Ticket, probe: Probe, kind: FailureKind) {
        // A probe that comes back after its deadline finds the circuit open again, whether or not
        // anybody else has noticed yet.
        let now = Tick::now();
        if self.look(now).due {
            self.settle(now);
        }
        let next = loop {
            let gate = self.gate();
            if gate.generation() != ticket.generation || gate.state() != State::HalfOpen {
                return;
            }
            let next = gate.finish_probe(probe);
            if probe != Probe::GivenBack && next.outstanding() > 0 {
                // A sign of life. Those still under way may have begun only just now.
                self.deadline.extend(ticket.generation, now.after(self.config.half_open_for));
            }
            if self.swap(gate, next) {
                break next;
            }
        };
        match probe {
            Probe::Failed => self.recent.remember(ticket.generation, kind),
            Probe::GivenBack => self.changed.notify_waiters(),
            Probe::Succeeded => {}
        }
        match next.decision(self.config.probes, self.needed) {
            Some(Decision::Close) => self.close(next, now),
            Some(Decision::Reopen) => {
                let why =
                    OpenReason::ProbesFailed { failed: next.failed(), probes: self.config.probes };
                self.reopen(next, why, now);
            }
            None => {}
        }
    }

    // ---- What a snapshot shows -----------------------------------------------------------------

    pub(super) fn failure_counts(&self, generation: u32, now: Tick) -> Counts {
        self.failures.counts(generation, now)
    }

    pub(super) fn slow_counts(&self, generation: u32, now: Tick) -> Option<Counts> {
        self.slow.as_ref().map(|slow| slow.window.counts(generation, now))
    }

    pub(super) fn failures_in_a_row(&self, generation: u32) -> u32 {
        self.streak.count(generation)
    }

    /// Empties everything that is counted, for the generation that begins.
    pub(super) fn reset_windows(&self, generation: u32, now: Tick) {
        self.failures.reset(generation, now);
        if let Some(slow) = &self.slow {
            slow.window.reset(generation, now);
        }
    }

    pub(super) fn bytes(&self) -> usize {
        let slow = self.slow.as_ref().map_or(0, |slow| slow.window.heap_bytes());
        let ledger = lock(&self.ledger).heap_bytes();
        size_of::<Self>() + self.failures.heap_bytes() + slow + ledger
    }
}
