//! A breaker in a `static` outlives the runtime it was built in, and is used from others whose
//! (paused) clocks differ. Here the builder's is an hour ahead of the users': time must pass for
//! them all the same.

use std::time::Duration;

use buttress::{Backoff, CircuitBreaker, Jitter, Verdict, Window, breaker::State};
use tokio::{runtime::Runtime, time::advance};

const SECOND: Duration = Duration::from_secs(1);
const OPEN_FOR: Duration = Duration::from_secs(5);

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

fn built_an_hour_ahead(window: Window) -> CircuitBreaker {
    runtime().block_on(async {
        advance(3600 * SECOND).await;
        CircuitBreaker::builder("static")
            .window(window)
            .min_calls(10)
            .probes(1)
            .half_open_for(10 * SECOND)
            .open_for(Backoff::constant(OPEN_FOR).jitter(Jitter::None))
            .build()
            .unwrap()
    })
}

fn fail(breaker: CircuitBreaker, times: usize) {
    (0..times).for_each(|_| breaker.try_acquire().expect("admitted").record(Verdict::Transient));
}

#[test]
fn law_05_a_hung_probe_is_overdue_for_a_runtime_whose_clock_is_behind() {
    let breaker = built_an_hour_ahead(Window::calls(10));
    runtime().block_on(async {
        fail(breaker, 10);
        advance(OPEN_FOR).await;
        let _hung = breaker.try_acquire().unwrap();
        advance(60 * SECOND).await;
        let state = breaker.state();
        let moved_on = breaker.try_acquire().is_ok() || breaker.state() == State::Open;
        assert!(moved_on, "{state}, a minute after a probe that had ten seconds");
    });
}

#[test]
fn law_10_a_time_window_forgets_for_a_runtime_whose_clock_is_behind() {
    let breaker = built_an_hour_ahead(Window::time(10 * SECOND));
    runtime().block_on(async {
        // The window begins anew, on this clock: until then it waits for the builder's time.
        breaker.reset();
        fail(breaker, 9);
        advance(20 * SECOND).await;
        fail(breaker, 1);
        assert_eq!((breaker.state(), breaker.snapshot().calls), (State::Closed, 1));
        fail(breaker, 9);
        assert_eq!(breaker.state(), State::Open);
    });
}
