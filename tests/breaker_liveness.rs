//! Nothing lasts for ever (law 5), and nobody waits for somebody who does not come: services that
//! are kept without being polled, reservations that nobody uses, probes and panics at bad moments.

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use buttress::{
    Backoff, CircuitBreaker, Jitter, PolicyError, StackError, Verdict, Window,
    breaker::{CircuitBreakerBuilder, CircuitBreakerService, State, WhenOpen},
};
use support::{Act, Counts, Probe};
use tokio::{
    sync::Semaphore,
    time::{advance, sleep, timeout},
};
use tower::{
    Layer, Service, ServiceExt,
    limit::{ConcurrencyLimit, GlobalConcurrencyLimitLayer},
};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const OPEN_FOR: Duration = Duration::from_secs(5);

/// Opens at two failures of two calls, for exactly five seconds.
fn quick(probes: u32) -> CircuitBreakerBuilder {
    CircuitBreaker::builder("test")
        .window(Window::calls(10))
        .min_calls(2)
        .open_for(Backoff::constant(OPEN_FOR).jitter(Jitter::None))
        .probes(probes)
        .half_open_for(10 * SECOND)
}

fn waiting(probes: u32) -> CircuitBreakerBuilder {
    quick(probes).when_open(WhenOpen::Wait)
}

fn trip(breaker: CircuitBreaker) {
    (0..2).for_each(|_| breaker.try_acquire().unwrap().record(Verdict::Transient));
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

fn guarded(breaker: CircuitBreaker) -> (CircuitBreakerService<Probe>, Arc<Counts>) {
    let (probe, counts) = Probe::new();
    (breaker.layer().layer(probe), counts)
}

/// Behind the breaker a service that is not ready and will not be.
fn guarded_unready(breaker: CircuitBreaker) -> CircuitBreakerService<ConcurrencyLimit<Probe>> {
    let nothing = Arc::new(Semaphore::new(0));
    let limit = GlobalConcurrencyLimitLayer::with_semaphore(nothing);
    breaker.layer().layer(limit.layer(Probe::new().0))
}

async fn ready(service: &mut impl Service<Act>) {
    assert!(service.ready().await.is_ok(), "law 1: a refusal is no error of readiness");
}

// ---- Waiters that are kept and not polled --------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn law_05_an_idle_waiter_does_not_hold_up_others_once_the_circuit_is_closed() {
    let breaker = waiting(3).build().unwrap();
    let ((mut idle, _), (mut busy, _)) = (guarded(breaker), guarded(breaker));
    trip(breaker);
    // Somebody gave up waiting, and keeps the service for the next request.
    assert!(timeout(SECOND, ready(&mut idle)).await.is_err());
    let waiting = tokio::spawn(async move { ready(&mut busy).await });
    sleep(SECOND).await;
    breaker.reset();
    assert_eq!(breaker.state(), State::Closed);
    let waited = timeout(HOUR, waiting).await;
    drop(idle);
    assert!(waited.is_ok(), "the circuit has been closed for an hour");
}

#[tokio::test(start_paused = true)]
async fn law_05_an_idle_waiter_does_not_keep_the_circuit_half_open_for_ever() {
    let breaker = waiting(3).build().unwrap();
    let (mut idle, _) = guarded(breaker);
    trip(breaker);
    assert!(timeout(SECOND, ready(&mut idle)).await.is_err());
    let permit = timeout(HOUR, breaker.permitted()).await;
    drop(idle);
    assert!(permit.is_ok(), "half-open for an hour with three free probes");
}

#[tokio::test(start_paused = true)]
async fn law_05_waiters_that_are_dropped_in_the_middle_leave_nobody_behind() {
    let breaker = half_open(waiting(1)).await;
    let probe = breaker.try_acquire().unwrap();
    let waiters: Vec<_> = (0..50)
        .map(|_| {
            let (mut service, _) = guarded(breaker);
            tokio::spawn(async move { ready(&mut service).await })
        })
        .collect();
    sleep(SECOND).await;
    waiters.iter().step_by(3).for_each(tokio::task::JoinHandle::abort);
    probe.record(Verdict::Success);
    for waiter in waiters {
        // Aborted or through: only one that is stuck is wrong.
        let _ = timeout(SECOND, waiter).await.expect("stuck");
    }
}

#[tokio::test(start_paused = true)]
async fn law_05_an_expiry_that_is_brought_forward_wakes_who_waits_for_it() {
    let breaker = waiting(1).build().unwrap();
    breaker.force_open("for an hour", Some(HOUR));
    let waiter = tokio::spawn(breaker.permitted());
    sleep(SECOND).await;
    breaker.force_open("for a second", Some(SECOND));
    let permit = timeout(2 * SECOND, waiter).await.expect("woken").unwrap();
    permit.record(Verdict::Success);
    assert_eq!(breaker.state(), State::Closed);
}

// ---- Inner services that are not ready -----------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn law_05_forced_closed_everybody_passes_whoever_is_not_ready() {
    let breaker = waiting(3).build().unwrap();
    breaker.force_closed("test", None);
    let (mut slow, (mut fast, _)) = (guarded_unready(breaker), guarded(breaker));
    let mut slow = tokio_test::task::spawn(slow.ready());
    assert!(slow.poll().is_pending());
    let mut fast = tokio_test::task::spawn(fast.ready());
    assert!(fast.poll().is_ready(), "behind another service's inner readiness");
}

#[tokio::test(start_paused = true)]
async fn law_05_a_waiter_over_a_service_that_is_not_ready_is_not_woken_by_the_clock() {
    let breaker = half_open(waiting(1)).await;
    let mut service = guarded_unready(breaker);
    let mut ready = tokio_test::task::spawn(service.ready());
    let mut wakes = 0;
    assert!(ready.poll().is_pending());
    for _ in 0..60 {
        advance(SECOND + Duration::from_millis(2)).await;
        if ready.is_woken() {
            wakes += 1;
            assert!(ready.poll().is_pending());
        }
    }
    assert!(wakes <= 1, "{wakes} wakes in a minute for nothing");
}

#[tokio::test(start_paused = true)]
async fn law_02_released_an_inner_permit_is_not_held_while_the_circuit_is_open() {
    let breaker = quick(3).build().unwrap();
    let limit = GlobalConcurrencyLimitLayer::new(1);
    let mut refused = breaker.layer().releasing().layer(limit.layer(Probe::new().0));
    let mut probing = breaker.layer().layer(limit.layer(Probe::new().0));
    ready(&mut refused).await;
    trip(breaker);
    assert!(refused.call(Act::Succeed).await.is_err());
    ready(&mut refused).await;
    advance(OPEN_FOR).await;
    let probe = timeout(HOUR, ready(&mut probing)).await;
    assert!(probe.is_ok(), "the recovery waits for the permit of a service that was refused");
}

#[tokio::test(start_paused = true)]
async fn law_01_an_error_of_readiness_counts_with_a_probe_put_aside_too() {
    let breaker = waiting(1).build().unwrap();
    let (mut service, counts) = guarded(breaker);
    trip(breaker);
    advance(OPEN_FOR).await;
    ready(&mut service).await;
    counts.unready_errors.store(1, Ordering::SeqCst);
    assert!(service.ready().await.is_err());
    assert_eq!(breaker.state(), State::Open, "one probe, and it failed");
}

// ---- Probes and reservations ---------------------------------------------------------------------

/// While others keep the lease going, one that lapsed and was dropped is not counted among them.
#[tokio::test(start_paused = true)]
async fn law_03_a_lapsed_reservation_that_was_dropped_is_free_again() {
    const ROUNDS: usize = 100;
    let breaker = half_open(waiting(2)).await;
    let (mut lapses, _) = guarded(breaker);
    ready(&mut lapses).await;
    let mut lapses = Some(lapses);
    advance(SECOND * 9 / 10).await;
    let mut phantoms = 0;
    for _ in 0..ROUNDS {
        let (mut renews, _) = guarded(breaker);
        ready(&mut renews).await;
        advance(SECOND / 5).await;
        drop(lapses.take());
        // The reservation just made and this permit are two of two.
        phantoms += usize::from(breaker.try_acquire().is_err());
        drop(renews);
        advance(SECOND * 7 / 10).await;
    }
    assert_eq!(phantoms, 0, "of {ROUNDS} rounds found a probe taken that nobody had");
}

#[tokio::test(start_paused = true)]
async fn law_05_a_young_probe_is_not_overdue_when_an_older_one_has_come_back() {
    let breaker = half_open(quick(3).success_ratio(1.0)).await;
    let first = breaker.try_acquire().unwrap();
    advance(9 * SECOND).await;
    let second = breaker.try_acquire().unwrap();
    first.record(Verdict::Success);
    advance(2 * SECOND).await;
    assert_eq!(breaker.state(), State::HalfOpen, "the probe under way is 2 s old, and has 10");
    second.record(Verdict::Success);
}

/// An error that answers the question what kind of failure it is once, and then panics.
#[derive(Debug, Default)]
struct Touchy {
    asked: AtomicUsize,
}

impl From<PolicyError> for Touchy {
    fn from(_: PolicyError) -> Self {
        Touchy::default()
    }
}

impl StackError for Touchy {
    fn policy_error(&self) -> Option<&PolicyError> {
        assert_eq!(self.asked.fetch_add(1, Ordering::SeqCst), 0, "asked twice");
        None
    }
}

#[tokio::test(start_paused = true)]
async fn law_03_an_error_that_panics_when_it_is_looked_at_does_not_leak_the_probe() {
    let breaker = half_open(quick(1)).await;
    let call = breaker.call(|| async { Err::<(), _>(Touchy::default()) });
    assert!(tokio::spawn(call).await.is_err());
    let probes = breaker.snapshot().probes;
    assert!(probes.is_none_or(|probes| probes.outstanding == 0), "{probes:?}");
}
