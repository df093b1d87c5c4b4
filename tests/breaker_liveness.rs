//! Review: services and the handle, paused time.
use buttress::{
    Backoff, CircuitBreaker, Error, Jitter, PolicyError, StackError, Verdict, Window,
    breaker::{CircuitBreakerBuilder, State, WhenOpen},
};
use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, advance, timeout};
use tower::{Layer, Service, ServiceExt};
const S: Duration = Duration::from_secs(1);
fn quick() -> CircuitBreakerBuilder {
    CircuitBreaker::builder("review")
        .window(Window::calls(10))
        .min_calls(2)
        .open_for(Backoff::constant(5 * S).jitter(Jitter::None))
        .probes(3)
        .half_open_for(10 * S)
}
fn trip(b: CircuitBreaker) {
    for _ in 0..2 {
        b.try_acquire().unwrap().record(Verdict::Transient)
    }
    assert_eq!(b.state(), State::Open)
}

#[derive(Clone, Default)]
struct Inner {
    unready: Arc<AtomicBool>,
    fail_ready: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
}
impl Service<()> for Inner {
    type Response = ();
    type Error = Error<&'static str>;
    type Future = Pin<Box<dyn Future<Output = Result<(), Self::Error>> + Send>>;
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        if self.fail_ready.load(SeqCst) {
            return Poll::Ready(Err(Error::Service("dead")));
        }
        if self.unready.load(SeqCst) { Poll::Pending } else { Poll::Ready(Ok(())) }
    }
    fn call(&mut self, (): ()) -> Self::Future {
        self.calls.fetch_add(1, SeqCst);
        Box::pin(async { Ok(()) })
    }
}

/// A service that gave up waiting (timeout around `ready`) and is kept for the next request.
#[tokio::test(start_paused = true)]
async fn an_idle_waiter_does_not_hold_the_turnstile_for_ever() {
    let breaker = quick().when_open(WhenOpen::Wait).build().unwrap();
    let mut idle = breaker.layer().layer(Inner::default());
    let mut busy = breaker.layer().layer(Inner::default());
    trip(breaker);
    assert!(timeout(S, idle.ready()).await.is_err());
    let waiting = tokio::spawn(async move { busy.ready().await.map(|_| ()) });
    tokio::time::sleep(S).await;
    breaker.reset();
    assert_eq!(breaker.state(), State::Closed);
    let waited = timeout(3600 * S, waiting).await;
    drop(idle);
    assert!(waited.is_ok(), "the circuit has been closed for an hour");
}
/// The same without the help of an operator: half-open, three free probes, nobody may have one.
#[tokio::test(start_paused = true)]
async fn an_idle_waiter_does_not_keep_the_circuit_half_open_for_ever() {
    let breaker = quick().when_open(WhenOpen::Wait).build().unwrap();
    let mut idle = breaker.layer().layer(Inner::default());
    trip(breaker);
    assert!(timeout(S, idle.ready()).await.is_err());
    let permit = timeout(3600 * S, breaker.permitted()).await;
    drop(idle);
    assert!(permit.is_ok(), "half-open for an hour with three free probes");
}
#[tokio::test(start_paused = true)]
async fn forced_closed_lets_everybody_pass_whoever_is_not_ready() {
    let breaker = quick().when_open(WhenOpen::Wait).build().unwrap();
    breaker.force_closed("test", None);
    let slow = Inner::default();
    slow.unready.store(true, SeqCst);
    let mut slow = breaker.layer().layer(slow);
    let mut fast = breaker.layer().layer(Inner::default());
    let mut slow = tokio_test::task::spawn(slow.ready());
    assert!(slow.poll().is_pending());
    let mut fast = tokio_test::task::spawn(fast.ready());
    assert!(fast.poll().is_ready(), "behind another service's inner readiness");
}
/// law 2: between ready and call the circuit opens.
#[tokio::test(start_paused = true)]
async fn an_inner_permit_is_not_held_while_open() {
    let breaker = quick().build().unwrap();
    let limit = tower::limit::GlobalConcurrencyLimitLayer::new(1);
    let mut a = breaker.layer().releasing().layer(limit.layer(Inner::default()));
    let mut b = breaker.layer().layer(limit.layer(Inner::default()));
    a.ready().await.unwrap();
    trip(breaker);
    assert!(a.call(()).await.is_err());
    a.ready().await.unwrap(); // "until poll_ready is called again"
    advance(5 * S).await;
    let probe = timeout(3600 * S, b.ready()).await;
    assert!(probe.is_ok(), "the recovery probe waits for the permit of a service that was refused");
}
#[tokio::test(start_paused = true)]
async fn an_unready_error_counts_even_with_the_probe_put_aside() {
    let breaker = quick().probes(1).when_open(WhenOpen::Wait).build().unwrap();
    let inner = Inner::default();
    let fail = inner.fail_ready.clone();
    let mut service = breaker.layer().layer(inner);
    trip(breaker);
    advance(5 * S).await;
    service.ready().await.unwrap();
    fail.store(true, SeqCst);
    assert!(service.ready().await.is_err());
    assert_eq!(breaker.state(), State::Open, "one probe, and it failed");
}
#[tokio::test(start_paused = true)]
async fn snapshot_since_is_when_the_shown_state_began() {
    let breaker = quick().build().unwrap();
    trip(breaker);
    let opened = Instant::now();
    advance(7 * S).await;
    let snapshot = breaker.snapshot();
    assert_eq!(snapshot.state, State::HalfOpen);
    assert_eq!(snapshot.since - opened, 5 * S);
}
/// Documented: "if the first of those under way has been out for this long".
#[tokio::test(start_paused = true)]
async fn a_young_probe_is_not_overdue() {
    let breaker = quick().success_ratio(1.0).build().unwrap();
    trip(breaker);
    advance(5 * S).await;
    let first = breaker.try_acquire().unwrap();
    advance(9 * S).await;
    let second = breaker.try_acquire().unwrap();
    first.record(Verdict::Success);
    advance(2 * S).await;
    assert_eq!(breaker.state(), State::HalfOpen, "the only probe under way is 2 s old of 10");
    second.record(Verdict::Success);
}
/// `policy_error` is the user's code and is asked after `mem::forget`.
#[derive(Debug)]
struct Touchy(AtomicUsize);
impl From<PolicyError> for Touchy {
    fn from(_: PolicyError) -> Self {
        Touchy(AtomicUsize::new(0))
    }
}
impl StackError for Touchy {
    fn policy_error(&self) -> Option<&PolicyError> {
        assert!(self.0.fetch_add(1, SeqCst) == 0, "asked twice");
        None
    }
}
#[tokio::test(start_paused = true)]
async fn a_panic_while_the_kind_is_asked_leaks_no_probe() {
    let breaker = quick().probes(1).build().unwrap();
    trip(breaker);
    advance(5 * S).await;
    let task = tokio::spawn(async move {
        breaker.call(|| async { Err::<(), _>(Touchy(AtomicUsize::new(0))) }).await
    });
    assert!(task.await.is_err());
    let probes = breaker.snapshot().probes;
    assert!(probes.is_none_or(|p| p.outstanding == 0), "{probes:?}");
}
/// A callback that intervenes during a double transition; the last thing told is not the state.
#[tokio::test(start_paused = true)]
async fn reentrant_callback_sees_transitions_in_order() {
    let breaker = quick().build().unwrap();
    trip(breaker);
    advance(5 * S).await;
    let _hung = breaker.try_acquire().unwrap();
    advance(60 * S).await;
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let _s = breaker.subscribe({
        let told = told.clone();
        move |t| {
            told.lock().unwrap().push((t.generation, t.to));
            if t.to == State::Open {
                breaker.reset()
            }
        }
    });
    let _ = breaker.try_acquire();
    let told = told.lock().unwrap().clone();
    assert!(told.is_sorted_by_key(|t| t.0), "{told:?}, state {}", breaker.state());
}
