//! Behaviour a user trips over, each shown by running it. `cargo run --release --bin pitfalls`

use peers::{E, Inner, POISON, drive::{tower_call, trip}, leaked_rt};
use std::{
    cell::Cell,
    future::{Future, pending},
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
    time::Duration,
};
use tower_layer::Layer;
use tower_service::Service;

fn cx() -> Context<'static> {
    Context::from_waker(Waker::noop())
}
#[derive(Clone)]
struct Pend;
impl Service<u64> for Pend {
    type Response = u64;
    type Error = E;
    type Future = Pin<Box<dyn Future<Output = Result<u64, E>> + Send>>;
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, _: u64) -> Self::Future {
        Box::pin(pending())
    }
}

fn main() {
    let rt = leaked_rt();
    let _g = rt.enter();

    // 1. tower-resilience: the count-based "sliding window" never slides
    {
        use tower_resilience::circuitbreaker::CircuitBreakerLayer;
        let mut s = CircuitBreakerLayer::builder()
            .failure_rate_threshold(0.5)
            .sliding_window_size(10)
            .build()
            .unwrap()
            .layer(Inner);
        for i in 0..1000 {
            let _ = tower_call(&mut s, i);
        }
        let mut n = 0;
        while !s.is_open() {
            trip(&mut s, 1);
            n += 1;
        }
        println!("1. tower-resilience count window of 10: after 1000 successes it took {n} consecutive failures to open (a window of 10 at 50 % needs 5)");
    }
    // 2. tower-resilience: one layer, two services, two circuits
    {
        use tower_resilience::circuitbreaker::CircuitBreakerLayer;
        let l = CircuitBreakerLayer::builder().sliding_window_size(10).build().unwrap();
        let (mut a, b) = (l.layer(Inner), l.layer(Inner));
        trip(&mut a, 50);
        println!("2. tower-resilience layer applied twice: a open = {}, b open = {} (state is per .layer() unless build_with_handle())", a.is_open(), b.is_open());
    }
    // 3. cancelled calls (outer timeout) are invisible to the breaker
    {
        use tower_resilience::circuitbreaker::CircuitBreakerLayer;
        let mut s = CircuitBreakerLayer::builder().sliding_window_size(10).build().unwrap().layer(Pend);
        for i in 0..1000 {
            assert!(s.poll_ready(&mut cx()).is_ready());
            let f = pin!(s.call(i));
            assert!(f.poll(&mut cx()).is_pending());
        }
        let cb = failsafe::Config::new()
            .failure_policy(failsafe::failure_policy::consecutive_failures(5, failsafe::backoff::constant(Duration::from_secs(60))))
            .build();
        for _ in 0..1000 {
            let f = pin!(failsafe::futures::CircuitBreaker::call(&cb, pending::<Result<u64, E>>()));
            assert!(f.poll(&mut cx()).is_pending());
        }
        let rc = recloser::AsyncRecloser::from(recloser::Recloser::custom().closed_len(10).build());
        for _ in 0..1000 {
            let f = pin!(rc.call(pending::<Result<u64, E>>()));
            assert!(f.poll(&mut cx()).is_pending());
        }
        let r = pin!(rc.call(std::future::ready(Ok::<u64, E>(1)))).poll(&mut cx());
        println!("3. 1000 calls started then dropped: tower-resilience open = {}, failsafe permits = {}, recloser next call = {r:?}", s.is_open(), cb.is_call_permitted());
        use seatbelt::{RecoveryInfo, ResilienceContext, breaker::Breaker};
        let c: ResilienceContext<u64, Result<u64, E>> = ResilienceContext::new(tick::Clock::new_tokio());
        let mut s = Breaker::layer("b", &c)
            .recovery_with(|r: &Result<u64, E>, _| if r.is_ok() { RecoveryInfo::never() } else { RecoveryInfo::retry() })
            .rejected_input_error(|_, _| E)
            .layer(SyncPend);
        let mut rejected = 0;
        for i in 0..1000 {
            let f = pin!(s.call(i));
            if f.poll(&mut cx()).is_ready() {
                rejected += 1;
            }
        }
        println!("   seatbelt: {rejected} of the 1000 were rejected (it counts abandoned calls)");
    }
    // 4. half-open admission
    {
        let cb = failsafe::Config::new()
            .failure_policy(failsafe::failure_policy::consecutive_failures(1, failsafe::backoff::constant(Duration::from_millis(1))))
            .build();
        let _ = failsafe::CircuitBreaker::call(&cb, || Err::<(), E>(E));
        let rc = recloser::AsyncRecloser::from(recloser::Recloser::custom().closed_len(1).half_open_len(1).open_wait(Duration::from_millis(1)).build());
        for _ in 0..2 {
            let _ = pin!(rc.call(std::future::ready(Err::<u64, E>(E)))).poll(&mut cx());
        }
        std::thread::sleep(Duration::from_millis(3));
        let hit = Cell::new(0u32);
        let probe = || {
            let hit = &hit;
            async move {
                hit.set(hit.get() + 1);
                pending::<Result<u64, E>>().await
            }
        };
        let mut v: Vec<_> = (0..1000).map(|_| Box::pin(failsafe::futures::CircuitBreaker::call(&cb, probe()))).collect();
        v.iter_mut().for_each(|f| assert!(f.as_mut().poll(&mut cx()).is_pending()));
        let f = hit.replace(0);
        let mut v: Vec<_> = (0..1000).map(|_| Box::pin(rc.call(probe()))).collect();
        v.iter_mut().for_each(|f| assert!(f.as_mut().poll(&mut cx()).is_pending()));
        println!("4. half-open, 1000 concurrent calls reach the backend: failsafe {f}, recloser {} (half_open_len = 1)", hit.get());
    }
    // 5. recloser cannot trip before the ring is full
    {
        let cb = recloser::Recloser::custom().error_rate(0.5).closed_len(100).build();
        let mut n = 0;
        while !matches!(cb.call(|| Err::<(), E>(E)), Err(recloser::Error::Rejected)) {
            n += 1;
        }
        println!("5. recloser closed_len(100), every call failing from the start: {n} calls hit the dead backend before it opened");
    }
    // 6. failsafe's success-rate policy cannot trip before one window has passed
    {
        let cb = failsafe::Config::new()
            .failure_policy(failsafe::failure_policy::success_rate_over_time_window(0.8, 5, Duration::from_secs(1), failsafe::backoff::constant(Duration::from_secs(60))))
            .build();
        let t = std::time::Instant::now();
        let mut n = 0u64;
        while !matches!(failsafe::CircuitBreaker::call(&cb, || Err::<(), E>(E)), Err(failsafe::Error::Rejected)) {
            n += 1;
        }
        println!("6. failsafe success_rate_over_time_window(1 s), dead backend from the start: {n} calls let through in {:?}", t.elapsed());
    }
    // 7. seatbelt Retry (tower impl) calls a clone that was never made ready
    {
        use seatbelt::{RecoveryInfo, ResilienceContext, retry::Retry};
        let c: ResilienceContext<u64, Result<u64, E>> = ResilienceContext::new(tick::Clock::new_tokio());
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let r = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut s = Retry::layer("r", &c)
                .clone_input()
                .recovery_with(|r: &Result<u64, E>, _| if r.is_ok() { RecoveryInfo::never() } else { RecoveryInfo::retry() })
                .layer(tower::limit::ConcurrencyLimit::new(Inner, 10));
            tower_call(&mut s, 1)
        }));
        std::panic::set_hook(hook);
        println!(
            "7. seatbelt Retry over tower ConcurrencyLimit: {}",
            match r {
                Ok(v) => format!("{v:?}"),
                Err(p) => format!("panicked: {:?}", p.downcast_ref::<String>().map(String::as_str).or(p.downcast_ref::<&str>().copied())),
            }
        );
    }
    // 8. memory of tower-resilience's time window
    {
        let mut s = peers::cases::tr::breaker_window(Duration::from_secs(60));
        let t = std::time::Instant::now();
        for i in 0..20_000 {
            let _ = tower_call(&mut s, i);
        }
        println!("8. tower-resilience time window (60 s): 20000 calls took {:?}; every call is kept as a record and every call re-scans all records", t.elapsed());
    }
    let _ = POISON;
}
struct SyncPend;
impl Service<u64> for SyncPend {
    type Response = u64;
    type Error = E;
    type Future = std::future::Pending<Result<u64, E>>;
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, _: u64) -> Self::Future {
        pending()
    }
}
