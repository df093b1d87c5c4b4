use buttress::{
    Backoff, CircuitBreaker, Error, Jitter, Verdict, Window,
    breaker::{State, WhenOpen},
};
use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};
use tower::{Layer, Service, ServiceExt};
const S: Duration = Duration::from_secs(1);
#[derive(Clone, Default)]
struct Inner {
    unready: Arc<AtomicBool>,
}
impl Service<()> for Inner {
    type Response = ();
    type Error = Error<&'static str>;
    type Future = Pin<Box<dyn Future<Output = Result<(), Self::Error>> + Send>>;
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        if self.unready.load(SeqCst) { Poll::Pending } else { Poll::Ready(Ok(())) }
    }
    fn call(&mut self, (): ()) -> Self::Future {
        Box::pin(async { Ok(()) })
    }
}
fn wait(probes: u32) -> CircuitBreaker {
    CircuitBreaker::builder("review")
        .window(Window::calls(10))
        .min_calls(2)
        .when_open(WhenOpen::Wait)
        .open_for(Backoff::constant(5 * S).jitter(Jitter::None))
        .probes(probes)
        .half_open_for(10 * S)
        .build()
        .unwrap()
}
async fn half_open(b: CircuitBreaker) {
    for _ in 0..2 {
        b.try_acquire().unwrap().record(Verdict::Transient)
    }
    tokio::time::advance(5 * S).await;
    assert_eq!(b.state(), State::HalfOpen);
}
/// Law 5: "woken by the event it waits for, never by itself". The only waiter, inner not ready.
#[tokio::test(start_paused = true)]
async fn law_05_a_waiter_for_an_unready_inner_is_not_woken_every_second() {
    let breaker = wait(1);
    half_open(breaker).await;
    let inner = Inner::default();
    inner.unready.store(true, SeqCst);
    let mut service = breaker.layer().layer(inner);
    let mut ready = tokio_test::task::spawn(service.ready());
    let mut wakes = 0;
    assert!(ready.poll().is_pending());
    for _ in 0..60 {
        tokio::time::advance(S + Duration::from_millis(2)).await;
        if ready.is_woken() {
            wakes += 1;
            assert!(ready.poll().is_pending());
        }
    }
    assert!(wakes <= 1, "{wakes} wakes in a minute for nothing");
}
/// A reservation that lapses is not given back when its owner drops it; while others renew the
/// lease it stays counted.
#[tokio::test(start_paused = true)]
async fn a_lapsed_reservation_that_was_dropped_is_free_again() {
    let breaker = wait(2);
    half_open(breaker).await;
    let mut a = breaker.layer().layer(Inner::default());
    let mut b = breaker.layer().layer(Inner::default());
    a.ready().await.unwrap();
    tokio::time::advance(900 * S / 1000).await;
    let mut full = 0;
    for round in 0..100 {
        b.ready().await.unwrap();
        tokio::time::advance(200 * S / 1000).await;
        if round == 0 {
            drop(a.clone());
            let gone = std::mem::replace(&mut a, breaker.layer().layer(Inner::default()));
            drop(gone);
        }
        let free = breaker.try_acquire();
        // b's own reservation and this permit are two of two; a's has lapsed and been dropped.
        full += usize::from(free.is_err());
        drop(free);
        let fresh = breaker.layer().layer(Inner::default());
        drop(std::mem::replace(&mut b, fresh));
        tokio::time::advance(700 * S / 1000).await;
    }
    assert_eq!(full, 0, "of 100 rounds, 90 s, found a phantom");
}
#[tokio::test(start_paused = true)]
async fn waiters_pass_one_by_one_when_closed_and_dropped_in_the_middle() {
    let breaker = wait(1);
    half_open(breaker).await;
    let hold = breaker.try_acquire().unwrap();
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let mut s = breaker.layer().layer(Inner::default());
            tokio::spawn(async move { s.ready().await.map(|_| ()).is_ok() })
        })
        .collect();
    tokio::time::sleep(S).await;
    for t in tasks.iter().step_by(3) {
        t.abort()
    }
    hold.record(Verdict::Success);
    for t in tasks {
        let _ = tokio::time::timeout(S, t).await.expect("stuck");
    }
}
#[tokio::test(start_paused = true)]
async fn a_forced_expiry_shortened_while_waiting_is_seen() {
    let breaker = wait(1);
    breaker.force_open("a", Some(3600 * S));
    let w = tokio::spawn(async move { breaker.permitted().await });
    tokio::time::sleep(S).await;
    breaker.force_open("b", Some(S));
    tokio::time::timeout(2 * S, w).await.expect("woken").unwrap().record(Verdict::Success);
    assert_eq!(breaker.state(), State::Closed);
}
