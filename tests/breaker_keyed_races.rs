//! Threads with many keys and few places, so that places change hands all the time, in the middle
//! of everything. No key may ever meet anything of another's.
//!
//! As in `breaker_races.rs` a finding is noted down and told at the end.
#![allow(missing_docs)]

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use buttress::{
    Backoff, CircuitBreaker, Jitter, KeyedCircuitBreaker, Verdict, Window,
    breaker::{CircuitBreakerBuilder, OpenReason, State, Transition},
};

const CALLS: usize = 15_000;
const THREADS: u32 = 4;
/// Keys below this fail, mostly; the others never do.
const BAD: u32 = 4;
const KEYS: u32 = 16;

fn hammered() -> CircuitBreakerBuilder {
    CircuitBreaker::builder("hammered")
        .window(Window::calls(8))
        .min_calls(2)
        .open_for(Backoff::constant(Duration::from_micros(20)).jitter(Jitter::None))
        .probes(1)
}

/// Knuth's and Lewis's quick and dirty generator; its upper bits will do.
struct Random(u32);

impl Random {
    fn below(&mut self, end: u32) -> u32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 16) % end
    }
}

#[derive(Default)]
struct Findings(Mutex<Vec<String>>);

impl Findings {
    fn expect(&self, holds: bool, else_what: impl FnOnce() -> String) {
        if !holds {
            self.0.lock().unwrap().push(else_what());
        }
    }

    fn are_none(&self) {
        let findings = self.0.lock().unwrap();
        let example = findings.first();
        assert!(findings.is_empty(), "{} times, such as: {example:?}", findings.len());
    }
}

fn hammer(work: impl Fn(&mut Random) + Sync) {
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let work = &work;
            scope.spawn(move || {
                let mut random = Random(thread);
                (0..CALLS).for_each(|_| work(&mut random));
            });
        }
    });
}

fn never_of_the_good(places: usize, window: Window, operators: bool) {
    let breakers: KeyedCircuitBreaker<u32> = hammered().window(window).build_keyed(places).unwrap();
    let findings: &'static Findings = Box::leak(Box::default());
    let last: Mutex<HashMap<u32, State>> = Mutex::default();
    let _told = breakers.subscribe(move |key, transition: &Transition| {
        let told = || format!("of key {key}: {transition}");
        findings.expect(*key < BAD, told);
        let before = last.lock().unwrap().insert(*key, transition.to).unwrap_or(State::Closed);
        findings.expect(before == transition.from, told);
        if let Some(OpenReason::FailureRatio { failures, calls, .. }) = transition.reason {
            findings.expect(failures * 2 >= calls && calls <= 8, told);
        }
    });
    let [admitted, refused] = [AtomicU64::new(0), AtomicU64::new(0)];
    hammer(|random| {
        let key = random.below(KEYS);
        if operators && key < BAD && random.below(50) == 0 {
            breakers.reset(&key);
        }
        match breakers.try_acquire(&key) {
            Ok(permit) => {
                admitted.fetch_add(1, Ordering::Relaxed);
                let fails = key < BAD && random.below(4) != 0;
                if random.below(8) == 0 {
                    thread::yield_now();
                }
                permit.record(if fails { Verdict::Transient } else { Verdict::Success });
            }
            Err(error) => {
                refused.fetch_add(1, Ordering::Relaxed);
                findings.expect(key < BAD, || format!("key {key} refused: {error}"));
            }
        }
        if let Some(snapshot) = breakers.snapshot(&key) {
            let clean = snapshot.failures == 0 && snapshot.transitions.is_empty();
            findings.expect(key < BAD || clean, || format!("key {key}: {snapshot:?}"));
        }
    });
    findings.are_none();
    let (admitted, refused) = (admitted.into_inner(), refused.into_inner());
    assert_eq!(admitted + refused, u64::from(THREADS) * CALLS as u64);
    assert!(breakers.unprotected() <= admitted && refused > 0);
    assert!(breakers.len() <= places);
    assert!(breakers.open_keys().iter().all(|(key, _)| *key < BAD));
}

#[test]
fn law_04_no_key_meets_what_is_another_s() {
    for places in [1, 3, 6] {
        never_of_the_good(places, Window::calls(8), false);
    }
}

#[test]
fn law_04_no_key_meets_what_is_another_s_with_operators_at_work() {
    never_of_the_good(3, Window::calls(8), true);
}

#[test]
fn law_04_no_key_meets_what_is_another_s_over_windows_of_time() {
    never_of_the_good(3, Window::time(Duration::from_millis(20)), false);
}

/// Every way to use it at once, on a place or two: nobody waits for anybody for ever, and after it
/// all is as usual.
#[test]
fn law_05_operators_and_callbacks_in_the_middle_of_everything() {
    let breakers: KeyedCircuitBreaker<u32> = hammered().build_keyed(2).unwrap();
    let used = breakers.subscribe(move |key, _| {
        let _ = breakers.state(key);
        drop(breakers.try_acquire(&(key + KEYS)));
    });
    let micros = Duration::from_micros(5);
    hammer(|random| {
        let key = random.below(KEYS);
        match random.below(16) {
            0 => _ = breakers.remove(&key),
            1 => _ = breakers.reset(&key),
            2 => _ = breakers.force_open(&key, "at random", Some(micros)),
            3 => _ = breakers.force_closed(&key, "at random", Some(micros)),
            4 => drop((breakers.keys(), breakers.open_keys(), breakers.snapshot(&key))),
            choice => match breakers.try_acquire(&key) {
                Ok(permit) if choice < 8 => permit.record(Verdict::Success),
                Ok(permit) if choice < 14 => permit.record(Verdict::Transient),
                permit => drop(permit),
            },
        }
    });
    drop(used);
    for key in breakers.keys() {
        breakers.remove(&key);
    }
    assert!(breakers.is_empty());
    let before = breakers.unprotected();
    for key in 0..2 {
        breakers.try_acquire(&key).unwrap().record(Verdict::Success);
        assert_eq!(breakers.snapshot(&key).unwrap().calls, 1);
    }
    assert_eq!((breakers.unprotected(), breakers.len()), (before, 2));
}
