//! Transitions: made one at a time, remembered, and told to whoever listens.

use std::{borrow::Cow, collections::VecDeque, time::Duration};

use super::{
    OpenReason, State, Transition, cell::BreakerCell, evidence, gate::Gate, subscription::contain,
};
use crate::{
    backoff::Jitter,
    clock::{Tick, nanos},
    sync::{Ordering, lock},
};

/// How many transitions are remembered.
pub(super) const HISTORY: usize = 32;

/// What only transitions need.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) history: VecDeque<Transition>,
    /// The last opening from closed.
    pub(super) outage: Option<Transition>,
    /// When the present state began.
    pub(super) since: Tick,
    /// Openings in a row without a recovery between them.
    openings: u32,
    last_open_for: Option<Duration>,
    /// Transitions that the subscribers have not been told of yet.
    untold: VecDeque<Transition>,
    /// Whether somebody is telling them.
    telling: bool,
}

impl Ledger {
    pub(super) fn new(now: Tick, capacity: usize) -> Self {
        let history = VecDeque::with_capacity(capacity);
        Ledger {
            history,
            outage: None,
            since: now,
            openings: 0,
            last_open_for: None,
            untold: VecDeque::new(),
            telling: false,
        }
    }

    /// Draws how long the next opening will last.
    pub(super) fn next_open_for(&self, config: &super::CircuitBreakerConfig) -> Duration {
        let backoff = config.open_for.or_jitter(Jitter::Equal);
        backoff.next_delay(self.openings, self.last_open_for, &mut rand::rng())
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.history.capacity() * size_of::<Transition>()
    }
}

/// A transition to make, if the gate is still as it was when it was decided on.
struct Step {
    from: Gate,
    to: State,
    now: Tick,
    /// What the change is dated to: when it was due.
    at: Tick,
    /// When the new state ends, if it is open or forced.
    until: Tick,
    reason: Option<OpenReason>,
    note: Option<Cow<'static, str>>,
}

impl Step {
    fn new(from: Gate, to: State, now: Tick) -> Step {
        Step { from, to, now, at: now, until: Tick::NEVER, reason: None, note: None }
    }
}

impl BreakerCell {
    /// Makes one transition under the ledger's lock, if `still` says so of the present gate, and
    /// leaves it to be told of: the state that begins.
    fn step(&self, ledger: &mut Ledger, step: Step, still: impl Fn(Gate) -> bool) -> Option<State> {
        // Somebody else may have made the transition that this one was decided on before the lock
        // was ours. Nothing but a transition changes the generation, so from here on it stands.
        let present = self.gate();
        if present.generation() != step.from.generation() || !still(present) {
            return None;
        }
        let generation = step.from.next_generation();
        // First all that the new state implies, then the gate that makes it so.
        let evidence = self.evidence.load(Ordering::Acquire);
        match step.to {
            State::Open | State::ForcedOpen => {
                self.until.store(step.until.bits(), Ordering::Release);
                let why = step.reason.unwrap_or(OpenReason::Forced);
                self.evidence.store(evidence::pack(why), Ordering::Release);
            }
            State::HalfOpen => {
                self.deadline.set(generation, step.now.after(self.config.half_open_for));
            }
            State::Closed => self.reset_windows(generation, step.now),
            State::ForcedClosed => {
                self.until.store(step.until.bits(), Ordering::Release);
                self.reset_windows(generation, step.now);
            }
        }
        loop {
            let gate = self.gate();
            if !still(gate) {
                // A probe came back just in time. The half-open state has no use for `until`.
                self.evidence.store(evidence, Ordering::Release);
                return None;
            }
            if self.swap(gate, Gate::new(step.to, generation)) {
                break;
            }
        }
        match step.to {
            State::Open => {
                ledger.last_open_for = Some(self.next_open_for());
                ledger.openings = ledger.openings.saturating_add(1);
            }
            State::Closed => {
                ledger.last_open_for = None;
                ledger.openings = 0;
            }
            State::HalfOpen | State::ForcedOpen | State::ForcedClosed => {}
        }
        if matches!(step.to, State::Open | State::Closed) {
            let next = nanos(ledger.next_open_for(&self.config));
            self.next_open_for.store(next, Ordering::Release);
        }
        ledger.since = step.at;
        let opens = matches!(step.to, State::Open | State::ForcedOpen);
        let old = step.from.generation();
        let transition = Transition {
            at: step.at.instant().unwrap_or_else(tokio::time::Instant::now),
            from: step.from.state(),
            to: step.to,
            generation,
            reason: step.reason,
            failures: if opens { self.recent.of(old) } else { Vec::new() },
            note: step.note,
        };
        if ledger.history.len() == HISTORY {
            ledger.history.pop_front();
        }
        ledger.history.push_back(transition.clone());
        if (transition.from, transition.to) == (State::Closed, State::Open) {
            ledger.outage = Some(transition.clone());
        }
        // Under the same lock as the transition itself, or a later one might be told of first.
        ledger.untold.push_back(transition);
        Some(step.to)
    }

    /// Tells of transitions, in the order in which they were made, outside of the lock (law 12).
    ///
    /// One thread at a time does the telling. Transitions made meanwhile, by others or by the
    /// callbacks themselves, are left to it.
    fn publish(&self, begun: impl IntoIterator<Item = State>) {
        for state in begun {
            self.wake_waiters(state);
        }
        {
            let mut ledger = lock(&self.ledger);
            if ledger.telling {
                return;
            }
            ledger.telling = true;
        }
        loop {
            let next = {
                let mut ledger = lock(&self.ledger);
                let next = ledger.untold.pop_front();
                ledger.telling = next.is_some();
                next
            };
            let Some(transition) = next else { return };
            // A recorder is other people's code as well, and must not keep the rest untold.
            contain(|| self.meter.transition(&transition));
            self.subscribers.tell(&transition);
        }
    }

    fn wake_waiters(&self, state: State) {
        self.changed.notify_waiters();
        if matches!(state, State::Closed | State::ForcedClosed) {
            self.passable.notify_waiters();
        }
    }

    /// Puts into effect what time alone has caused by `now`.
    #[cold]
    pub(super) fn settle(&self, now: Tick) {
        let mut begun = Vec::new();
        {
            let mut ledger = lock(&self.ledger);
            // At most: overdue probes re-open, and that opening has run out as well.
            while let Some(state) = self.settle_once(&mut ledger, now) {
                begun.push(state);
            }
        }
        self.publish(begun);
    }

    fn settle_once(&self, ledger: &mut Ledger, now: Tick) -> Option<State> {
        let look = self.look(now);
        if !look.due {
            return None;
        }
        let gate = look.gate;
        if gate.state() != State::HalfOpen {
            let step = Step { at: look.since, ..Step::new(gate, look.state, now) };
            return self.step(ledger, step, |_| true);
        }
        let deadline = self.deadline.of(gate.generation())?;
        let mut step = Step { at: deadline, ..Step::new(gate, State::Open, now) };
        step.until = deadline.after(self.next_open_for());
        step.reason = Some(self.probes_overdue(gate));
        self.step(ledger, step, |gate| {
            // Those that were overdue may have come back, and a new one begun.
            let deadline = self.deadline.of(gate.generation());
            gate.outstanding() > 0 && deadline.is_some_and(|deadline| now >= deadline)
        })
    }

    /// A condition has tripped in this generation.
    #[cold]
    pub(super) fn trip(&self, generation: u32, why: OpenReason) {
        let gate = self.gate();
        if gate.is_closed() && gate.generation() == generation {
            self.open(gate, why, Tick::now(), Gate::is_closed);
        }
    }

    pub(super) fn reopen(&self, gate: Gate, why: OpenReason, now: Tick) {
        self.open(gate, why, now, |gate| gate.state() == State::HalfOpen);
    }

    fn open(&self, gate: Gate, why: OpenReason, now: Tick, still: impl Fn(Gate) -> bool) {
        let begun = {
            let mut ledger = lock(&self.ledger);
            let mut step = Step::new(gate, State::Open, now);
            step.until = now.after(self.next_open_for());
            step.reason = Some(why);
            self.step(&mut ledger, step, still)
        };
        self.publish(begun);
    }

    pub(super) fn close(&self, gate: Gate, now: Tick) {
        let begun = {
            let mut ledger = lock(&self.ledger);
            self.step(&mut ledger, Step::new(gate, State::Closed, now), |gate| {
                gate.state() == State::HalfOpen
            })
        };
        self.publish(begun);
    }

    /// Begins a life for somebody else: all that is counted and remembered starts anew, results of
    /// the old life no longer count, and nobody is told.
    ///
    /// False, and nothing done, unless the circuit is closed or has been `given_up`; and while there
    /// are transitions of the old life to tell, for whoever tells them has to know whose they are.
    pub(super) fn recycle(&self, given_up: bool, now: Tick) -> bool {
        let mut ledger = lock(&self.ledger);
        let present = self.gate();
        let untold = ledger.telling || !ledger.untold.is_empty();
        if untold || !(given_up || present.is_closed()) {
            return false;
        }
        // As in a transition: first all that the new life implies, then the gate that begins it.
        let generation = present.next_generation();
        self.reset_windows(generation, now);
        self.evidence.store(evidence::pack(OpenReason::Forced), Ordering::Release);
        // One that was given up half-open may still have probes come back; nothing but a transition
        // changes more of it than that, and the lock is ours.
        while !self.swap(self.gate(), Gate::new(State::Closed, generation)) {}
        ledger.history.clear();
        let history = std::mem::take(&mut ledger.history);
        *ledger = Ledger { history, ..Ledger::new(now, 0) };
        let next = nanos(ledger.next_open_for(&self.config));
        self.next_open_for.store(next, Ordering::Release);
        true
    }

    /// Somebody says which state it is, until `until`.
    pub(super) fn force(&self, to: State, note: Option<Cow<'static, str>>, until: Tick) {
        let now = Tick::now();
        self.settle(now);
        let begun = {
            let mut ledger = lock(&self.ledger);
            let mut step = Step::new(self.gate(), to, now);
            step.until = until;
            step.reason = (to == State::ForcedOpen).then_some(OpenReason::Forced);
            step.note = note;
            // Under the lock nothing else can change the generation, so this always succeeds.
            self.step(&mut ledger, step, |_| true)
        };
        self.publish(begun);
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;
    use crate::{
        backoff::Backoff,
        breaker::{CircuitBreaker, CircuitBreakerConfig, Window},
        verdict::Verdict,
    };

    const SECOND: Duration = Duration::from_secs(1);
    const TRIPPED: OpenReason = OpenReason::FailureRatio { failures: 2, calls: 2, limit: 0.5 };

    /// Opens for 5 s, then 10, 20, ..
    fn breaker() -> CircuitBreaker {
        let config = CircuitBreakerConfig {
            window: Window::Calls(10),
            min_calls: 2,
            open_for: Backoff::exponential(5 * SECOND).max(60 * SECOND).jitter(Jitter::None),
            ..CircuitBreakerConfig::default()
        };
        CircuitBreaker::from_config("test", config).unwrap()
    }

    /// Opens it and waits until it is half-open: the gate of that phase.
    async fn half_open(breaker: CircuitBreaker) -> Gate {
        let cell = breaker.cell;
        cell.trip(cell.gate().generation(), TRIPPED);
        tokio::time::advance(60 * SECOND).await;
        cell.settle(Tick::now());
        assert_eq!(cell.gate().state(), State::HalfOpen);
        cell.gate()
    }

    // In each of these a thread has decided on a transition and comes to the lock when somebody
    // else has been there meanwhile.

    #[tokio::test(start_paused = true)]
    async fn law_04_a_late_trip_gives_no_expiry_to_what_was_forced() {
        let breaker = breaker();
        let closed = breaker.cell.gate();
        breaker.force_open("maintenance", None);
        breaker.cell.open(closed, TRIPPED, Tick::now(), Gate::is_closed);
        tokio::time::advance(3600 * SECOND).await;
        assert_eq!(breaker.state(), State::ForcedOpen);
    }

    #[tokio::test(start_paused = true)]
    async fn law_04_of_two_probes_that_both_reopen_only_the_first_does() {
        let breaker = breaker();
        let phase = half_open(breaker).await;
        let failed = |failed| OpenReason::ProbesFailed { failed, probes: 3 };
        breaker.cell.reopen(phase, failed(2), Tick::now());
        let first = breaker.try_acquire().unwrap_err();
        assert_eq!(first.retry_after(), Some(10 * SECOND));
        assert_eq!(first.open_reason(), Some(failed(2)));
        breaker.cell.reopen(phase, failed(3), Tick::now());
        let second = breaker.try_acquire().unwrap_err();
        assert_eq!(second.retry_after(), Some(10 * SECOND));
        assert_eq!(second.open_reason(), Some(failed(2)));
    }

    #[tokio::test(start_paused = true)]
    async fn law_04_a_late_decision_to_close_leaves_a_later_life_alone() {
        let breaker = breaker();
        let first = half_open(breaker).await;
        breaker.cell.close(first, Tick::now());
        let second = half_open(breaker).await;
        breaker.cell.close(second, Tick::now());
        breaker.try_acquire().unwrap().record(Verdict::Transient);
        breaker.cell.close(first, Tick::now());
        assert_eq!(breaker.snapshot().calls, 1);
        breaker.try_acquire().unwrap().record(Verdict::Transient);
        assert_eq!(breaker.state(), State::Open);
    }
}
