//! The circuit breaker through its handle: laws of DESIGN section 5 and bugs of the field.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use buttress::{
    Backoff, CircuitBreaker, Error, Jitter, PolicyErrorKind, StackError, Verdict, Window,
    breaker::{Abandoned, CircuitBreakerBuilder, OpenReason, Permit, State},
};
use tokio::time::{Instant, advance};

const SECOND: Duration = Duration::from_secs(1);
const OPEN_FOR: Duration = Duration::from_secs(5);

/// Opens at two failures of two calls, for exactly five seconds; two of three probes close it.
fn quick() -> CircuitBreakerBuilder {
    CircuitBreaker::builder("test")
        .window(Window::calls(10))
        .min_calls(2)
        .open_for(Backoff::constant(OPEN_FOR).jitter(Jitter::None))
        .probes(3)
        .half_open_for(10 * SECOND)
}

fn record(breaker: CircuitBreaker, verdict: Verdict) {
    breaker.try_acquire().expect("admitted").record(verdict);
}

fn trip(breaker: CircuitBreaker) {
    record(breaker, Verdict::Transient);
    record(breaker, Verdict::Transient);
    assert_eq!(breaker.state(), State::Open);
}

/// A breaker that has just become half-open.
async fn half_open(builder: CircuitBreakerBuilder) -> CircuitBreaker {
    let breaker = builder.build().unwrap();
    trip(breaker);
    advance(OPEN_FOR).await;
    assert_eq!(breaker.state(), State::HalfOpen);
    breaker
}

fn probes(breaker: CircuitBreaker, count: usize) -> Vec<Permit> {
    (0..count).map(|_| breaker.try_acquire().expect("a probe")).collect()
}

fn is_full(breaker: CircuitBreaker) -> bool {
    breaker.try_acquire().is_err()
}

// ---- Opening -------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn it_opens_refuses_probes_and_closes() {
    let breaker = quick().build().unwrap();
    record(breaker, Verdict::Success);
    record(breaker, Verdict::Transient);
    let error = breaker.try_acquire().unwrap_err();
    assert_eq!(error.kind(), PolicyErrorKind::CircuitOpen);
    assert_eq!(error.retry_after(), Some(OPEN_FOR));
    assert_eq!(
        error.to_string(),
        "circuit \"test\" is open: 1 of the last 2 calls failed (50.0 %, limit 50.0 %); \
         next probe in 5.0 s"
    );
    assert!(!error.reached_service());
    advance(OPEN_FOR.saturating_sub(Duration::from_nanos(1))).await;
    assert!(is_full(breaker));
    advance(Duration::from_nanos(1)).await;
    for permit in probes(breaker, 2) {
        permit.record(Verdict::Success);
    }
    assert_eq!(breaker.state(), State::Closed);
    assert_eq!(breaker.snapshot().calls, 0, "a new life begins with an empty window");
}

#[test]
fn law_06_ninety_nine_of_two_hundred_is_below_half() {
    let breaker = CircuitBreaker::builder("test").window(Window::calls(200)).min_calls(200);
    let breaker = breaker.build().unwrap();
    (0..101).for_each(|_| record(breaker, Verdict::Success));
    (0..99).for_each(|_| record(breaker, Verdict::Transient));
    assert_eq!(breaker.state(), State::Closed);
    record(breaker, Verdict::Transient);
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn law_06_seven_of_a_hundred_reaches_seven_percent() {
    let breaker = CircuitBreaker::builder("test").failure_ratio(0.07).min_calls(100);
    let breaker = breaker.build().unwrap();
    (0..93).for_each(|_| record(breaker, Verdict::Success));
    (0..6).for_each(|_| record(breaker, Verdict::Transient));
    assert_eq!(breaker.state(), State::Closed);
    record(breaker, Verdict::Transient);
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn law_06_good_news_never_trips() {
    let breaker = CircuitBreaker::builder("test").window(Window::calls(10)).min_calls(3);
    let breaker = breaker.build().unwrap();
    record(breaker, Verdict::Transient);
    record(breaker, Verdict::Transient);
    // The third completed call makes the share count, and two of three have failed; but this is
    // a success.
    record(breaker, Verdict::Success);
    assert_eq!(breaker.state(), State::Closed);
    record(breaker, Verdict::Transient);
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn a_count_window_slides() {
    let breaker = CircuitBreaker::builder("test").build().unwrap();
    (0..10_000).for_each(|_| record(breaker, Verdict::Success));
    (0..49).for_each(|_| record(breaker, Verdict::Transient));
    assert_eq!(breaker.state(), State::Closed);
    record(breaker, Verdict::Transient);
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn min_calls_below_the_window_is_obeyed() {
    let breaker = CircuitBreaker::builder("test").window(Window::calls(100)).min_calls(5);
    let breaker = breaker.build().unwrap();
    (0..4).for_each(|_| record(breaker, Verdict::Transient));
    assert_eq!(breaker.state(), State::Closed);
    record(breaker, Verdict::Transient);
    assert_eq!(breaker.state(), State::Open, "five calls are enough, the window need not be full");
}

#[test]
fn consecutive_failures_trip_by_themselves() {
    let breaker = CircuitBreaker::builder("test").consecutive_failures(3).build().unwrap();
    (0..90).for_each(|_| record(breaker, Verdict::Success));
    record(breaker, Verdict::Transient);
    record(breaker, Verdict::Transient);
    // Neither adds to the row nor ends it.
    record(breaker, Verdict::Throttled { retry_after: None });
    assert_eq!(breaker.state(), State::Closed);
    assert_eq!(breaker.snapshot().consecutive_failures, 2);
    record(breaker, Verdict::Transient);
    assert_eq!(breaker.snapshot().reason, Some(OpenReason::ConsecutiveFailures { failures: 3 }));
}

#[tokio::test(start_paused = true)]
async fn slow_calls_trip_by_themselves() {
    let breaker = quick().failure_ratio(1.0).slow_calls(SECOND, 0.5).build().unwrap();
    for (took, verdict) in [(999, Verdict::Success), (1000, Verdict::Permanent)] {
        assert_eq!(breaker.state(), State::Closed);
        let permit = breaker.try_acquire().unwrap();
        advance(Duration::from_millis(took)).await;
        permit.record(verdict);
    }
    assert_eq!(breaker.state(), State::Open);
    let why = breaker.snapshot().reason.unwrap();
    assert_eq!(why.to_string(), "1 of the last 2 calls were slow (50.0 %, limit 50.0 %)");
}

#[tokio::test(start_paused = true)]
async fn a_slow_probe_is_no_recovery() {
    let breaker = half_open(quick().slow_calls(SECOND, 0.5).probes(1)).await;
    let permit = breaker.try_acquire().unwrap();
    advance(2 * SECOND).await;
    permit.record(Verdict::Success);
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_time_window_forgets() {
    let breaker = quick().window(Window::time(10 * SECOND)).min_calls(3).build().unwrap();
    record(breaker, Verdict::Transient);
    record(breaker, Verdict::Transient);
    advance(10 * SECOND).await;
    record(breaker, Verdict::Transient);
    assert_eq!((breaker.state(), breaker.snapshot().calls), (State::Closed, 1));
    advance(5 * SECOND).await;
    record(breaker, Verdict::Transient);
    record(breaker, Verdict::Transient);
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn verdicts_count_as_the_table_says() {
    let breaker = CircuitBreaker::builder("test").build().unwrap();
    let counts = || (breaker.snapshot().calls, breaker.snapshot().failures);
    record(breaker, Verdict::Success);
    assert_eq!(counts(), (1, 0));
    record(breaker, Verdict::Permanent);
    assert_eq!(counts(), (2, 0));
    record(breaker, Verdict::Transient);
    assert_eq!(counts(), (3, 1));
    record(breaker, Verdict::Throttled { retry_after: None });
    assert_eq!(counts(), (4, 2));
    record(breaker, Verdict::Ignored);
    record(breaker, Verdict::Refused { retry_after: None });
    assert_eq!(counts(), (4, 2));
}

// ---- Half-open -----------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn no_more_than_the_probes_pass() {
    let breaker = half_open(quick()).await;
    let permits = probes(breaker, 3);
    let error = breaker.try_acquire().unwrap_err();
    assert_eq!(error.retry_after(), None);
    assert!(error.to_string().starts_with(
        "circuit \"test\" is half-open, all its probes are under way; it was open because 2 of"
    ));
    drop(permits);
}

#[tokio::test(start_paused = true)]
async fn finished_probes_are_not_replaced_before_the_decision() {
    let breaker = half_open(quick()).await;
    let mut permits = probes(breaker, 3);
    permits.pop().unwrap().record(Verdict::Success);
    assert!(is_full(breaker), "three probes in all, not three at a time");
}

#[tokio::test(start_paused = true)]
async fn law_05_an_ignored_outcome_does_not_wedge_half_open() {
    let breaker = half_open(quick().probes(1)).await;
    for verdict in [Verdict::Ignored, Verdict::Refused { retry_after: None }] {
        breaker.try_acquire().unwrap().record(verdict);
        assert_eq!(breaker.state(), State::HalfOpen);
    }
    record(breaker, Verdict::Success);
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn law_03_a_cancelled_probe_neither_closes_nor_wedges() {
    let breaker = half_open(quick().probes(1)).await;
    drop(breaker.try_acquire().unwrap());
    assert_eq!(breaker.state(), State::HalfOpen);
    record(breaker, Verdict::Success);
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn law_04_a_late_success_does_not_close() {
    let breaker = quick().probes(1).build().unwrap();
    let late = breaker.try_acquire().unwrap();
    trip(breaker);
    advance(OPEN_FOR).await;
    let probe = breaker.try_acquire().unwrap();
    late.record(Verdict::Success);
    assert_eq!(breaker.state(), State::HalfOpen, "that was a call of an older life");
    assert_eq!(breaker.snapshot().probes.unwrap().outstanding, 1);
    drop(probe);
}

#[tokio::test(start_paused = true)]
async fn law_04_a_late_failure_neither_reopens_nor_counts() {
    let breaker = quick().probes(1).build().unwrap();
    let (late, later) = (breaker.try_acquire().unwrap(), breaker.try_acquire().unwrap());
    trip(breaker);
    advance(OPEN_FOR).await;
    let probe = breaker.try_acquire().unwrap();
    late.record(Verdict::Transient);
    assert_eq!(breaker.state(), State::HalfOpen);
    probe.record(Verdict::Success);
    later.record(Verdict::Transient);
    assert_eq!((breaker.state(), breaker.snapshot().calls), (State::Closed, 0));
}

#[tokio::test(start_paused = true)]
async fn law_05_a_hung_probe_does_not_pin_half_open() {
    let breaker = half_open(quick().probes(1)).await;
    let hung = breaker.try_acquire().unwrap();
    advance(10 * SECOND).await;
    assert_eq!(breaker.state(), State::Open, "the deadline has passed");
    let why = breaker.try_acquire().unwrap_err().open_reason();
    assert_eq!(why, Some(OpenReason::ProbesOverdue { outstanding: 1, probes: 1 }));
    advance(OPEN_FOR).await;
    let probe = breaker.try_acquire().unwrap();
    hung.record(Verdict::Transient);
    assert_eq!(breaker.state(), State::HalfOpen, "law 4: the hung probe is of an older phase");
    probe.record(Verdict::Success);
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn law_05_a_probe_back_after_its_deadline_is_late_even_if_nobody_looked() {
    let breaker = half_open(quick().probes(1)).await;
    let hung = breaker.try_acquire().unwrap();
    advance(11 * SECOND).await;
    hung.record(Verdict::Success);
    assert_eq!(breaker.state(), State::Open);
    assert_eq!(breaker.try_acquire().unwrap_err().retry_after(), Some(4 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn law_05_without_traffic_it_stays_half_open() {
    let breaker = half_open(quick().probes(2).success_ratio(1.0)).await;
    record(breaker, Verdict::Success);
    advance(3600 * SECOND).await;
    assert_eq!(breaker.state(), State::HalfOpen);
    // The deadline is the probe's, not the phase's.
    let probe = breaker.try_acquire().unwrap();
    advance(9 * SECOND).await;
    assert_eq!(breaker.state(), State::HalfOpen);
    probe.record(Verdict::Success);
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn law_05_state_is_lazy_and_a_pure_read() {
    let breaker = quick().build().unwrap();
    trip(breaker);
    advance(OPEN_FOR).await;
    let before = breaker.snapshot();
    assert_eq!((before.state, breaker.state()), (State::HalfOpen, State::HalfOpen));
    assert_eq!(before.transitions.len(), 1, "nobody has called, so nothing has happened");
    let _probe = breaker.try_acquire().unwrap();
    let after = breaker.snapshot();
    assert_eq!(after.generation, before.generation + 1);
    assert_eq!(after.transitions[1].to, State::HalfOpen);
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_says_since_when_the_state_it_shows_has_been_so() {
    let breaker = quick().build().unwrap();
    trip(breaker);
    let opened = Instant::now();
    advance(7 * SECOND).await;
    let snapshot = breaker.snapshot();
    assert_eq!(snapshot.state, State::HalfOpen);
    assert_eq!(snapshot.since - opened, OPEN_FOR);
}

#[tokio::test(start_paused = true)]
async fn the_decision_falls_as_soon_as_it_is_certain() {
    let breaker = half_open(quick()).await;
    let mut permits = probes(breaker, 3);
    permits.pop().unwrap().record(Verdict::Transient);
    assert_eq!(breaker.state(), State::HalfOpen);
    permits.pop().unwrap().record(Verdict::Transient);
    assert_eq!(breaker.state(), State::Open, "one success could not close it any more");
    let why = breaker.snapshot().reason;
    assert_eq!(why, Some(OpenReason::ProbesFailed { failed: 2, probes: 3 }));
}

#[tokio::test(start_paused = true)]
async fn the_open_time_escalates_and_is_forgotten_after_recovery() {
    let backoff = Backoff::exponential(SECOND).max(4 * SECOND).jitter(Jitter::None);
    let breaker = quick().open_for(backoff).probes(1).build().unwrap();
    trip(breaker);
    for expected in [1, 2, 4, 4] {
        let wait = breaker.try_acquire().unwrap_err().retry_after().unwrap();
        assert_eq!(wait, expected * SECOND);
        advance(wait).await;
        record(breaker, Verdict::Transient);
    }
    advance(4 * SECOND).await;
    record(breaker, Verdict::Success);
    trip(breaker);
    assert_eq!(breaker.try_acquire().unwrap_err().retry_after(), Some(SECOND));
}

#[tokio::test(start_paused = true)]
async fn an_overdue_phase_escalates_too() {
    let backoff = Backoff::exponential(SECOND).jitter(Jitter::None);
    let breaker = quick().open_for(backoff).probes(1).build().unwrap();
    trip(breaker);
    advance(SECOND).await;
    let _hung = breaker.try_acquire().unwrap();
    advance(10 * SECOND).await;
    assert_eq!(breaker.try_acquire().unwrap_err().retry_after(), Some(2 * SECOND));
}

#[test]
fn the_open_time_is_jittered_downwards_from_what_was_said() {
    let mut waits = Vec::new();
    for _ in 0..50 {
        let breaker = quick().open_for(OPEN_FOR).build().unwrap();
        trip(breaker);
        let wait = breaker.try_acquire().unwrap_err().retry_after().unwrap();
        // Real time passes here, a little.
        assert!(wait <= OPEN_FOR && wait + SECOND > OPEN_FOR / 2, "{wait:?}");
        waits.push(wait);
    }
    let (first, last) = (*waits.iter().min().unwrap(), *waits.iter().max().unwrap());
    assert!(last > first + SECOND, "fifty breakers must not probe in step: {first:?} to {last:?}");
}

// ---- Calls given up ------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn law_03_an_outer_timeout_trips_the_breaker_if_it_was_told_so() {
    async fn give_up(breaker: CircuitBreaker, after: Duration) {
        let hang = || std::future::pending::<Result<(), Error<&str>>>();
        assert!(tokio::time::timeout(after, breaker.call(hang)).await.is_err());
    }
    let ignoring = quick().build().unwrap();
    let strict = quick().abandoned(Abandoned::Failure).build().unwrap();
    let patient = quick().abandoned_after(SECOND).build().unwrap();
    for _ in 0..4 {
        give_up(ignoring, 10 * SECOND).await;
        give_up(patient, SECOND / 2).await;
    }
    assert_eq!(ignoring.state(), State::Closed);
    assert_eq!(patient.state(), State::Closed);
    for breaker in [strict, patient] {
        give_up(breaker, 2 * SECOND).await;
        give_up(breaker, 2 * SECOND).await;
        assert_eq!(breaker.state(), State::Open);
        let failures = breaker.snapshot().transitions[0].failures.clone();
        assert_eq!(failures, [(buttress::FailureKind::Abandoned, 2)]);
    }
}

#[tokio::test(start_paused = true)]
async fn law_03_a_call_never_polled_changes_nothing() {
    let breaker = half_open(quick().probes(1)).await;
    drop(breaker.call(|| async { Ok::<(), Error<&str>>(()) }));
    assert!(!is_full(breaker));
}

// ---- Taking over ---------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn forced_open_refuses_until_its_expiry_and_then_probes() {
    let breaker = quick().build().unwrap();
    breaker.force_open("maintenance", Some(60 * SECOND));
    let error = breaker.try_acquire().unwrap_err();
    assert_eq!(error.to_string(), "circuit \"test\" is forced open; the force ends in 60.0 s");
    assert_eq!(breaker.snapshot().transitions[0].note.as_deref(), Some("maintenance"));
    advance(60 * SECOND).await;
    assert_eq!(breaker.state(), State::HalfOpen);
    for permit in probes(breaker, 2) {
        permit.record(Verdict::Success);
    }
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn forced_closed_passes_everything_until_its_expiry_and_then_decides() {
    let breaker = quick().build().unwrap();
    trip(breaker);
    breaker.force_closed("the alarm is false", Some(60 * SECOND));
    (0..50).for_each(|_| record(breaker, Verdict::Transient));
    let snapshot = breaker.snapshot();
    assert_eq!((snapshot.state, snapshot.failures), (State::ForcedClosed, 10));
    advance(60 * SECOND).await;
    assert_eq!(breaker.state(), State::Closed);
    trip(breaker);
}

#[tokio::test(start_paused = true)]
async fn forced_without_expiry_stays_until_reset() {
    let breaker = quick().build().unwrap();
    breaker.force_open("until further notice", None);
    advance(1_000_000 * SECOND).await;
    assert_eq!(breaker.try_acquire().unwrap_err().retry_after(), None);
    breaker.reset();
    assert_eq!(breaker.state(), State::Closed);
    record(breaker, Verdict::Success);
}

#[tokio::test(start_paused = true)]
async fn reset_ends_an_opening_and_forgets_its_calls() {
    let breaker = quick().build().unwrap();
    let late = breaker.try_acquire().unwrap();
    trip(breaker);
    breaker.reset();
    late.record(Verdict::Transient);
    assert_eq!((breaker.state(), breaker.snapshot().calls), (State::Closed, 0));
}

#[tokio::test(start_paused = true)]
async fn shadow_decides_and_reports_but_refuses_nothing() {
    let breaker = quick().shadow().build().unwrap();
    trip(breaker);
    (0..10).for_each(|_| record(breaker, Verdict::Transient));
    assert_eq!(breaker.state(), State::Open, "calls it would have refused do not count");
    advance(OPEN_FOR).await;
    let beyond = probes(breaker, 5);
    assert_eq!(breaker.snapshot().probes.unwrap().outstanding, 3);
    for permit in beyond {
        permit.record(Verdict::Success);
    }
    assert_eq!(breaker.state(), State::Closed);
    assert!(tokio::time::timeout(SECOND, breaker.permitted()).await.is_ok());
}

// ---- Observers -----------------------------------------------------------------------------------

#[test]
fn law_12_a_callback_that_panics_wedges_nothing() {
    let breaker = quick().build().unwrap();
    let heard = Arc::new(AtomicUsize::new(0));
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let _bad = breaker.subscribe(|_| panic!("as told"));
    let counter = Arc::clone(&heard);
    let _good = breaker.subscribe(move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
    });
    trip(breaker);
    std::panic::set_hook(hook);
    breaker.reset();
    assert_eq!((breaker.state(), heard.load(Ordering::SeqCst)), (State::Closed, 2));
}

#[test]
fn law_12_callbacks_run_outside_of_every_lock() {
    let breaker = quick().build().unwrap();
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    // All of these would deadlock under the ledger's or the subscribers' lock.
    let subscription = breaker.subscribe(move |transition| {
        let inner = breaker.subscribe(|_| {});
        log.lock().unwrap().push((transition.to, breaker.snapshot().state));
        if transition.to == State::Open {
            breaker.reset();
        }
        drop(inner);
    });
    // In a thread of its own, so that a deadlock is a failure and does not hang the test.
    let (sender, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        record(breaker, Verdict::Transient);
        record(breaker, Verdict::Transient);
        drop(subscription);
        sender.send(()).unwrap();
    });
    told.recv_timeout(5 * SECOND).expect("a deadlock");
    let expected = [(State::Open, State::Open), (State::Closed, State::Closed)];
    assert_eq!(*seen.lock().unwrap(), expected);
}

/// A probe hung for so long that two transitions are due at once: while the first is told of, the
/// callback makes a third.
#[tokio::test(start_paused = true)]
async fn law_12_a_callback_that_intervenes_hears_of_transitions_in_order() {
    let breaker = half_open(quick()).await;
    let _hung = breaker.try_acquire().unwrap();
    advance(60 * SECOND).await;
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = Arc::clone(&told);
    let _subscription = breaker.subscribe(move |transition| {
        log.lock().unwrap().push(transition.generation);
        if transition.to == State::Open {
            breaker.reset();
        }
    });
    drop(breaker.try_acquire());
    let told = told.lock().unwrap();
    assert!(told.len() >= 3 && told.is_sorted(), "{told:?}, now {}", breaker.state());
}

#[test]
fn law_12_a_callback_that_panics_when_it_is_dropped_wedges_nothing() {
    struct PanicsOnDrop;
    impl Drop for PanicsOnDrop {
        fn drop(&mut self) {
            panic!("as told");
        }
    }
    let breaker = quick().build().unwrap();
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let own = Arc::new(std::sync::Mutex::new(None));
    let (slot, guard) = (Arc::clone(&own), PanicsOnDrop);
    // Unsubscribes itself, so that the last that is left of it is being called.
    let subscription = breaker.subscribe(move |_| {
        let _ = &guard;
        drop(slot.lock().unwrap().take());
    });
    *own.lock().unwrap() = Some(subscription);
    breaker.reset();
    std::panic::set_hook(hook);
    let heard = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&heard);
    let _later = breaker.subscribe(move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
    });
    breaker.reset();
    assert_eq!(heard.load(Ordering::SeqCst), 1, "transitions are still told");
}

#[test]
fn a_dropped_subscription_hears_nothing_more() {
    let breaker = quick().build().unwrap();
    let heard = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&heard);
    let subscription = breaker.subscribe(move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
    });
    breaker.reset();
    drop(subscription);
    breaker.reset();
    assert_eq!(heard.load(Ordering::SeqCst), 1);
    assert_eq!(Arc::strong_count(&heard), 1, "the callback is gone");
}

#[tokio::test(start_paused = true)]
async fn the_history_answers_why_it_opened_an_hour_ago() {
    let breaker = quick().probes(1).build().unwrap();
    record(breaker, Verdict::Throttled { retry_after: None });
    record(breaker, Verdict::Unreachable);
    advance(OPEN_FOR).await;
    record(breaker, Verdict::Success);
    advance(3600 * SECOND).await;
    let history = breaker.snapshot().transitions;
    let told: Vec<String> = history.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "closed -> open: 2 of the last 2 calls failed (100.0 %, limit 50.0 %); \
             lately 1 unreachable, 1 throttled",
            "open -> half-open",
            "half-open -> closed",
        ]
    );
    assert_eq!(history[0].at.elapsed(), 3605 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn the_history_is_bounded_and_remembers_how_a_long_outage_began() {
    let breaker = quick().probes(1).build().unwrap();
    trip(breaker);
    for _ in 0..50 {
        advance(OPEN_FOR).await;
        record(breaker, Verdict::Transient);
    }
    let snapshot = breaker.snapshot();
    assert_eq!((snapshot.transitions.len(), snapshot.transitions[31].generation), (32, 101));
    let outage = snapshot.outage.unwrap();
    assert_eq!((outage.from, outage.to, outage.generation), (State::Closed, State::Open, 1));
    assert_eq!(outage.at.elapsed(), 50 * OPEN_FOR);
}

// ---- Waiting -------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn permitted_waits_for_the_probe_and_for_the_recovery() {
    let breaker = quick().probes(1).build().unwrap();
    trip(breaker);
    let start = Instant::now();
    let waiting = tokio::spawn(async move { breaker.permitted().await });
    let second = tokio::spawn(async move { breaker.permitted().await });
    let permit = waiting.await.unwrap();
    assert_eq!(start.elapsed().as_secs(), OPEN_FOR.as_secs());
    tokio::task::yield_now().await;
    assert!(!second.is_finished(), "one probe, one waiter");
    permit.record(Verdict::Success);
    second.await.unwrap().record(Verdict::Success);
}

#[tokio::test(start_paused = true)]
async fn waiters_do_not_stampede_and_pass_in_order() {
    let breaker = quick().probes(2).success_ratio(1.0).build().unwrap();
    trip(breaker);
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut waiters: Vec<_> = (0..100)
        .map(|number| {
            let order = Arc::clone(&order);
            tokio::spawn(async move {
                let permit = breaker.permitted().await;
                order.lock().unwrap().push(number);
                permit
            })
        })
        .collect();
    tokio::time::sleep(OPEN_FOR + SECOND).await;
    assert_eq!(*order.lock().unwrap(), [0, 1], "as many as there are probes");
    // Law 3: a waiter that is dropped hands its place on.
    waiters[2].abort();
    let first = waiters.remove(0).await.unwrap();
    drop(first);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(*order.lock().unwrap(), [0, 1, 3], "the probe given back goes to the next");
    breaker.reset();
    tokio::time::sleep(Duration::from_millis(1)).await;
    let order = order.lock().unwrap();
    assert_eq!(order.len(), 99);
    assert!(order.is_sorted());
}

#[tokio::test(start_paused = true)]
async fn law_05_a_hung_probe_does_not_hold_up_the_waiters_for_ever() {
    let breaker = half_open(quick().probes(1)).await;
    let _hung = breaker.try_acquire().unwrap();
    let start = Instant::now();
    breaker.permitted().await.record(Verdict::Success);
    // Ten seconds to the deadline, five of open time.
    assert_eq!(start.elapsed().as_secs(), 15);
    assert_eq!(breaker.state(), State::Closed);
}

// ---- Calls without tower -------------------------------------------------------------------------

#[tokio::test]
async fn call_records_and_refuses() {
    let breaker = quick().build().unwrap();
    for _ in 0..2 {
        let outcome = breaker.call(|| async { Err::<(), _>(Error::Service("down")) }).await;
        assert_eq!(outcome, Err(Error::Service("down")));
    }
    let error = breaker.call(|| async { Ok::<(), Error<&str>>(()) }).await.unwrap_err();
    assert_eq!(error.policy_error().unwrap().kind(), PolicyErrorKind::CircuitOpen);
}

#[tokio::test]
async fn an_inner_circuits_refusal_is_not_the_outer_ones_failure() {
    let (outer, inner) = (quick().build().unwrap(), quick().build().unwrap());
    inner.force_open("test", None);
    for _ in 0..10 {
        let outcome = outer.call(|| inner.call(|| async { Ok::<(), Error<&str>>(()) })).await;
        assert!(outcome.is_err());
    }
    assert_eq!((outer.state(), outer.snapshot().calls), (State::Closed, 0));
}

#[test]
fn handles_are_small_and_shared_across_threads() {
    fn is_shared<T: Copy + Send + Sync + 'static>() {}
    is_shared::<CircuitBreaker>();
    assert_eq!(size_of::<CircuitBreaker>(), size_of::<usize>());
    assert!(size_of::<buttress::PolicyError>() <= 48);
}

#[test]
fn a_breaker_takes_as_many_bytes_as_documented() {
    let kib = |builder: CircuitBreakerBuilder| builder.build().unwrap().bytes().div_ceil(1024);
    assert_eq!(kib(CircuitBreaker::builder("test")), 5);
    assert_eq!(kib(CircuitBreaker::builder("test").window(Window::time(SECOND))), 4);
    let largest = CircuitBreaker::builder("test").window(Window::calls(1024));
    assert_eq!(kib(largest.slow_calls(SECOND, 0.5)), 20);
}

#[test]
fn many_threads_lose_no_call() {
    let breaker = CircuitBreaker::builder("test").window(Window::calls(1024)).min_calls(1024);
    let breaker = breaker.failure_ratio(1.0).build().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                for call in 0..250 {
                    let bad = (call + thread) % 2 == 0;
                    record(breaker, if bad { Verdict::Transient } else { Verdict::Success });
                }
            });
        }
    });
    let snapshot = breaker.snapshot();
    assert_eq!((snapshot.calls, snapshot.failures), (1000, 500));
}
