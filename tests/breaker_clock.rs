//! A breaker in a `static`, used from runtimes whose (paused) clocks differ.
use buttress::{Backoff, CircuitBreaker, Jitter, Verdict, Window, breaker::State};
use std::time::Duration;
const S: Duration = Duration::from_secs(1);
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}
fn breaker_built_an_hour_ahead(window: Window) -> CircuitBreaker {
    runtime().block_on(async {
        tokio::time::advance(3600 * S).await;
        CircuitBreaker::builder("static")
            .window(window)
            .min_calls(10)
            .probes(1)
            .half_open_for(10 * S)
            .open_for(Backoff::constant(5 * S).jitter(Jitter::None))
            .build()
            .unwrap()
    })
}
#[test]
fn law_05_a_hung_probe_is_overdue_for_a_runtime_whose_clock_is_behind() {
    let breaker = breaker_built_an_hour_ahead(Window::calls(10));
    runtime().block_on(async {
        for _ in 0..10 {
            breaker.try_acquire().unwrap().record(Verdict::Transient)
        }
        tokio::time::advance(5 * S).await;
        let _hung = breaker.try_acquire().unwrap();
        tokio::time::advance(60 * S).await;
        assert!(
            breaker.try_acquire().is_ok() || breaker.state() == State::Open,
            "a minute later, of 10 s: {:?}",
            breaker.state()
        );
    });
}
