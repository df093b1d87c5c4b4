//! What a call costs on the paths that matter: `cargo bench --bench hot_path`.
//!
//! The inner service is ready at once and answers at once, so all that is measured is the policy.
//! Calls are polled by hand, without a scheduler, and the future goes through `black_box`, so that
//! it has to exist in memory as it would in a task. Read the figures as differences to `bare`.

use std::{
    future::{Ready, ready},
    hint::black_box,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use buttress::{
    CircuitBreaker, Error, Fallback, Retry, Stack, Timeout, Window, breaker::CircuitBreakerBuilder,
};
use criterion::{Criterion, criterion_group, criterion_main};
use tower::{Layer, Service};

type Failure = Error<&'static str>;

/// Fails every n-th call; never with zero.
#[derive(Clone)]
struct Inner {
    fail_every: u64,
    calls: u64,
}

impl Service<u64> for Inner {
    type Response = u64;
    type Error = Failure;
    type Future = Ready<Result<u64, Failure>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u64) -> Self::Future {
        self.calls += 1;
        if self.fail_every != 0 && self.calls.is_multiple_of(self.fail_every) {
            return ready(Err(Error::Service("failed")));
        }
        ready(Ok(request + 1))
    }
}

fn inner(fail_every: u64) -> Inner {
    Inner { fail_every, calls: 0 }
}

fn call<S: Service<u64, Response = u64, Error = Failure>>(service: &mut S, request: u64) -> u64 {
    let mut cx = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut cx).is_ready());
    let future = pin!(service.call(black_box(request)));
    match black_box(future).poll(&mut cx) {
        Poll::Ready(outcome) => outcome.unwrap_or(0),
        Poll::Pending => panic!("nothing here waits"),
    }
}

fn bench<S>(criterion: &mut Criterion, name: &str, mut service: S)
where
    S: Service<u64, Response = u64, Error = Failure>,
{
    let mut request = 0;
    criterion.bench_function(name, |bencher| {
        bencher.iter(|| {
            request += 1;
            call(&mut service, request)
        });
    });
}

/// Not to be tripped by the failures of these benches.
fn breaker() -> CircuitBreakerBuilder {
    CircuitBreaker::builder("bench").window(Window::calls(100)).failure_ratio(0.9)
}

fn paths(criterion: &mut Criterion) {
    // A policy that waits would need a timer; none of these does, but a retry reads the clock.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _entered = runtime.enter();

    bench(criterion, "bare", inner(0));
    for (name, fail_every) in [("healthy", 0), ("0.1 % failures", 1000), ("1 % failures", 100)] {
        let counting = breaker().build().unwrap();
        let layer = counting.layer();
        bench(criterion, &format!("breaker, {name}"), layer.layer(inner(fail_every)));
        let timed = breaker().window(Window::time(Duration::from_secs(10))).build().unwrap();
        let layer = timed.layer();
        bench(criterion, &format!("breaker, time window, {name}"), layer.layer(inner(fail_every)));
    }
    let open = breaker().build().unwrap();
    open.force_open("bench", Some(Duration::from_secs(86_400)));
    bench(criterion, "breaker, open", open.layer().layer(inner(0)));

    let retry = Retry::builder("bench").build().unwrap();
    bench(criterion, "retry", retry.layer().layer(inner(0)));
    let timeout = Timeout::after(Duration::from_secs(1));
    bench(criterion, "timeout", timeout.layer().layer(inner(0)));
    bench(criterion, "fallback", Fallback::unnamed().to_value(0).layer(inner(0)));

    let closed = breaker().build().unwrap();
    let stack = Stack::new().fallback_to_value(0).retry(retry).breaker(closed).timeout(timeout);
    bench(criterion, "fallback(retry(breaker(timeout)))", stack.service(inner(0)));
}

criterion_group!(benches, paths);
criterion_main!(benches);
