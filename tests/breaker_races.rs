//! Threads that fall upon one breaker at the same moment, thousands of times: what each of them
//! sees of the others' transitions must be whole.
//!
//! Each test looks for an interleaving that unit tests build step by step where they can
//! (`src/breaker/ledger.rs`, `src/breaker/window`); here nobody has to have thought of it. A finding
//! is noted down and told at the end, because a thread that panics leaves the others waiting at the
//! barrier for ever.

use std::{
    sync::{
        Barrier, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use buttress::{
    Backoff, CircuitBreaker, Jitter, Verdict, Window,
    breaker::{CircuitBreakerBuilder, OpenReason, State},
};

const SECOND: Duration = Duration::from_secs(1);
const NANOSECOND: Duration = Duration::from_nanos(1);

/// Enough to see each of the bugs these tests were written for several times over.
const ROUNDS: usize = 6_000;

/// What was wrong, in some round.
#[derive(Default)]
struct Findings(Mutex<Vec<String>>);

impl Findings {
    fn expect(&self, holds: bool, else_what: impl FnOnce() -> String) {
        if !holds {
            self.0.lock().unwrap().push(else_what());
        }
    }

    fn are_none(self) {
        let findings = self.0.into_inner().unwrap();
        let example = findings.first();
        assert!(findings.is_empty(), "in {} of {ROUNDS} rounds: {example:?}", findings.len());
    }
}

/// Has so many threads go through all rounds. They are told their number, and where to meet.
fn hammer(threads: usize, round: impl Fn(usize, &Barrier) + Sync) {
    let barrier = Barrier::new(threads);
    thread::scope(|scope| {
        for thread in 0..threads {
            let (barrier, round) = (&barrier, &round);
            scope.spawn(move || (0..ROUNDS).for_each(|_| round(thread, barrier)));
        }
    });
}

fn hammered() -> CircuitBreakerBuilder {
    CircuitBreaker::builder("hammered").window(Window::calls(100)).min_calls(1)
}

fn record(breaker: CircuitBreaker, verdict: Verdict) {
    breaker.try_acquire().expect("admitted").record(verdict);
}

#[test]
fn law_04_of_several_failures_at_the_limit_one_opens_the_circuit() {
    let backoff = Backoff::exponential(5 * SECOND).max(60 * SECOND).jitter(Jitter::None);
    let breaker = hammered().open_for(backoff).build().unwrap();
    let findings = Findings::default();
    hammer(4, |thread, barrier| {
        let permit = breaker.try_acquire().unwrap();
        barrier.wait();
        permit.record(Verdict::Transient);
        barrier.wait();
        if thread == 0 {
            let snapshot = breaker.snapshot();
            let open_for = snapshot.ready_at.unwrap() - snapshot.since;
            let what = || format!("open for {open_for:?} at the first opening");
            findings.expect(open_for <= 5 * SECOND + SECOND / 2, what);
            let told = snapshot.transitions.last().unwrap().reason;
            let what = || format!("open because {:?}, told {told:?}", snapshot.reason);
            findings.expect(snapshot.reason == told, what);
            breaker.reset();
        }
        barrier.wait();
    });
    findings.are_none();
}

#[test]
fn law_04_a_failure_at_the_same_time_does_not_end_what_was_forced() {
    let breaker = hammered().open_for(5 * SECOND).build().unwrap();
    let findings = Findings::default();
    hammer(2, |thread, barrier| {
        let permit = (thread == 0).then(|| breaker.try_acquire().unwrap());
        barrier.wait();
        match permit {
            Some(permit) => permit.record(Verdict::Transient),
            None => breaker.force_open("maintenance", None),
        }
        barrier.wait();
        if thread == 0 {
            let snapshot = breaker.snapshot();
            let (state, ready_at) = (snapshot.state, snapshot.ready_at);
            let what = || format!("{state} until {ready_at:?}, forced open without an expiry");
            findings.expect((state, ready_at) == (State::ForcedOpen, None), what);
            breaker.reset();
        }
        barrier.wait();
    });
    findings.are_none();
}

#[test]
fn law_04_a_late_decision_to_close_does_not_empty_the_new_window() {
    let at_once = Backoff::constant(NANOSECOND).jitter(Jitter::None);
    let breaker = hammered().min_calls(10).open_for(at_once).probes(3).build().unwrap();
    let findings = Findings::default();
    let recorded = AtomicU32::new(0);
    hammer(3, |thread, barrier| {
        if thread == 0 {
            recorded.store(0, Ordering::SeqCst);
            (0..10).for_each(|_| record(breaker, Verdict::Transient));
            findings.expect(breaker.state() == State::HalfOpen, || breaker.state().to_string());
        }
        barrier.wait();
        let probe = breaker.try_acquire().unwrap();
        barrier.wait();
        probe.record(Verdict::Success);
        if breaker.state() == State::Closed {
            record(breaker, Verdict::Transient);
            recorded.fetch_add(1, Ordering::SeqCst);
        }
        barrier.wait();
        if thread == 0 {
            let (calls, expected) = (breaker.snapshot().calls, recorded.load(Ordering::SeqCst));
            findings.expect(calls == expected, || format!("{calls} of {expected} calls counted"));
            breaker.reset();
        }
        barrier.wait();
    });
    findings.are_none();
}

#[test]
fn law_06_the_counts_that_a_trip_tells_of_reach_the_limit() {
    let breaker = hammered().window(Window::calls(20)).min_calls(20).open_for(5 * SECOND);
    let breaker = breaker.build().unwrap();
    let findings = Findings::default();
    hammer(4, |thread, barrier| {
        if thread == 0 {
            (0..20).for_each(|_| record(breaker, Verdict::Success));
            (0..6).for_each(|_| record(breaker, Verdict::Transient));
        }
        barrier.wait();
        let permits = [breaker.try_acquire().unwrap(), breaker.try_acquire().unwrap()];
        barrier.wait();
        for permit in permits {
            permit.record(Verdict::Transient);
        }
        barrier.wait();
        if thread == 0 {
            let why = breaker.snapshot().transitions.last().unwrap().reason;
            let reached = matches!(why, Some(OpenReason::FailureRatio { failures, calls, .. })
                if failures * 2 >= calls);
            findings.expect(reached, || format!("opened because {why:?}"));
            breaker.reset();
        }
        barrier.wait();
    });
    findings.are_none();
}

/// At the shortest times there are, every state is over as soon as it has begun.
#[test]
fn law_05_nobody_goes_round_for_ever_however_short_the_times() {
    const CALLS: usize = 20_000;
    let breaker = hammered()
        .window(Window::calls(4))
        .probes(2)
        .open_for(Backoff::constant(NANOSECOND).jitter(Jitter::None))
        .half_open_for(NANOSECOND)
        .build()
        .unwrap();
    thread::scope(|scope| {
        for seed in 0..4_u32 {
            scope.spawn(move || {
                let mut random = seed;
                for _ in 0..CALLS {
                    // Knuth's and Lewis's quick and dirty generator; its upper bits will do.
                    random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    match random >> 28 {
                        0 => breaker.reset(),
                        1 => breaker.force_open("at random", Some(NANOSECOND)),
                        2 => breaker.force_closed("at random", Some(NANOSECOND)),
                        choice => match (breaker.try_acquire(), choice) {
                            (Ok(permit), 6..10) => permit.record(Verdict::Success),
                            (Ok(permit), 10..) => permit.record(Verdict::Transient),
                            (permit, _) => drop(permit),
                        },
                    }
                    let _ = breaker.state();
                }
            });
        }
    });
    let history = breaker.snapshot().transitions;
    let follow = |pair: &[buttress::breaker::Transition]| {
        pair[0].to == pair[1].from && pair[1].generation == pair[0].generation + 1
    };
    assert!(history.windows(2).all(follow), "{history:?}");
    breaker.reset();
    assert!(breaker.try_acquire().is_ok());
}
