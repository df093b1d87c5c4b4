//! Models of a place that changes hands while somebody is using it, each explored by loom in every
//! order of its threads' steps: whatever happens, nothing of one key reaches another.
//!
//! There is one place, and at most two calls per key are ever counted, of which it takes both to
//! trip. Built with `--cfg buttress_loom`; see `src/breaker/loom.rs`.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{KeyedCircuitBreaker, cell::KeyedCell};
use crate::{
    backoff::{Backoff, Jitter},
    breaker::{CircuitBreakerConfig, State, Window, attempt::Attempt},
    sync::model_of_two,
    verdict::{FailureKind, Verdict},
};

const HOUR: Duration = Duration::from_secs(3600);

/// Two failures of two calls trip it, for longer than any model lasts.
fn one_place() -> KeyedCircuitBreaker<u32> {
    let config = CircuitBreakerConfig {
        window: Window::Calls(2),
        failure_ratio: 1.0,
        min_calls: 2,
        open_for: Backoff::constant(HOUR).jitter(Jitter::None),
        probes: 1,
        half_open_for: HOUR,
        ..CircuitBreakerConfig::default()
    };
    // Not registered for ever: each order of steps has one of its own.
    KeyedCircuitBreaker { cell: Box::leak(Box::new(KeyedCell::new("loom", config, 1))) }
}

fn begin(breakers: KeyedCircuitBreaker<u32>, key: u32) -> Option<Attempt> {
    breakers.cell.admit(&key).ok()
}

fn fail(attempt: Attempt) {
    attempt.finish(Verdict::Transient, || FailureKind::Failed);
}

/// Failures of this key that were counted, if it has the place.
fn counted(breakers: KeyedCircuitBreaker<u32>, key: u32) -> Option<u32> {
    breakers.snapshot(&key).map(|snapshot| snapshot.failures)
}

#[test]
fn law_04_a_call_that_passed_for_one_key_is_not_counted_for_another() {
    model_of_two(|two| {
        let breakers = one_place();
        fail(begin(breakers, 1).unwrap());
        two.run(
            move || begin(breakers, 1).into_iter().for_each(fail),
            move || begin(breakers, 2).into_iter().for_each(fail),
        );
        // Whoever came last has the place. Key 2 failed once and cannot have tripped; key 1 may
        // have, if its second failure came before the other took the place.
        assert_ne!(breakers.state(&2), Some(State::Open));
        assert!(counted(breakers, 2).is_none_or(|failures| failures == 1));
    });
}

/// Somebody finds a circuit that is not closed, and has not asked it for leave when that closes and
/// its place is let to another.
#[test]
fn law_04_nobody_is_admitted_or_refused_by_the_breaker_of_another_key() {
    model_of_two(|two| {
        let breakers = one_place();
        assert!(breakers.force_closed(&1, "by hand", None));
        two.run(
            move || begin(breakers, 1).into_iter().for_each(fail),
            move || {
                breakers.reset(&1);
                begin(breakers, 2).into_iter().for_each(fail);
            },
        );
        // Each has failed once, so neither has tripped. (Its counts would not show it: a trip empties
        // them.)
        assert_ne!(breakers.state(&1), Some(State::Open));
        assert_ne!(breakers.state(&2), Some(State::Open));
    });
}

#[test]
fn law_12_transitions_are_told_of_the_key_whose_they_are() {
    model_of_two(|two| {
        let breakers = one_place();
        let told = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&told);
        let _subscription = breakers.subscribe(move |key, transition| {
            log.lock().unwrap().push((*key, transition.to));
        });
        assert!(breakers.force_open(&1, "by hand", None));
        two.run(
            move || _ = breakers.reset(&1),
            move || _ = breakers.force_open(&2, "by hand", None),
        );
        let mut expected = vec![(1, State::ForcedOpen), (1, State::Closed)];
        if breakers.state(&2).is_some() {
            expected.push((2, State::ForcedOpen));
        }
        assert_eq!(*told.lock().unwrap(), expected);
    });
}
