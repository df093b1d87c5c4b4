//! The paths that are measured, and how: one list for the clock and for the instruction counter.
//!
//! The inner service answers at once, or at its second poll where the name says so, so that what is
//! measured is the policy. Calls are polled by hand, without a scheduler, and the future goes
//! through `black_box`, so that it has to exist in memory as it would in a task.
#![allow(missing_docs, unreachable_pub, dead_code)]

use std::{
    hint::black_box,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
    time::Duration,
};

use buttress::{
    CircuitBreaker, Error, Fallback, Retry, Stack, Timeout, Window, breaker::CircuitBreakerBuilder,
};
use tower::{Layer, Service};

pub type Failure = Error<()>;

/// Fails where the request says so.
#[derive(Clone, Copy)]
pub struct Inner {
    pub pending_once: bool,
}

pub const READY: Inner = Inner { pending_once: false };
pub const PENDING_ONCE: Inner = Inner { pending_once: true };
const FAIL: u64 = u64::MAX;

impl Service<u64> for Inner {
    type Response = u64;
    type Error = Failure;
    type Future = Answer;

    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, request: u64) -> Answer {
        Answer { request, pending: self.pending_once }
    }
}

pub struct Answer {
    request: u64,
    pending: bool,
}

impl Future for Answer {
    type Output = Result<u64, Failure>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        if std::mem::take(&mut self.pending) {
            return Poll::Pending;
        }
        Poll::Ready(if self.request == FAIL { Err(Error::Service(())) } else { Ok(self.request) })
    }
}

#[inline]
pub fn call<S>(service: &mut S, request: u64) -> Result<u64, Failure>
where
    S: Service<u64, Response = u64, Error = Failure>,
{
    let mut cx = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut cx).is_ready());
    let future = pin!(service.call(black_box(request)));
    let mut future = black_box(future);
    loop {
        if let Poll::Ready(outcome) = future.as_mut().poll(&mut cx) {
            return outcome;
        }
        // As opaque between two polls as before the first, or the two become one.
        future = black_box(future);
    }
}

/// One path: runs so many calls.
pub struct Case {
    pub name: String,
    pub future_bytes: usize,
    pub run: Box<dyn FnMut(u64)>,
}

/// One call in `fail_every` fails; none with zero.
fn case<S>(name: &str, mut service: S, fail_every: u64) -> Case
where
    S: Service<u64, Response = u64, Error = Failure> + 'static,
{
    let mut sent = 0_u64;
    let run = move |calls| {
        let service = black_box(&mut service);
        for _ in 0..calls {
            sent += 1;
            let fails = fail_every != 0 && sent.is_multiple_of(fail_every);
            let _ = black_box(call(service, if fails { FAIL } else { sent }));
        }
    };
    Case { name: String::from(name), future_bytes: size_of::<S::Future>(), run: Box::new(run) }
}

/// Not to be tripped by the failures of these cases.
pub fn breaker() -> CircuitBreakerBuilder {
    CircuitBreaker::builder("bench").window(Window::calls(100)).failure_ratio(0.9)
}

/// Everything at once. Build it inside of a tokio runtime.
pub fn stack<S>(
    service: S,
) -> impl Service<u64, Response = u64, Error = Failure, Future: Send> + Clone + 'static
where
    S: Service<u64, Response = u64, Error = Failure, Future: Send> + Clone + Send + 'static,
{
    Stack::new()
        .fallback_to_value(0_u64)
        .retry(Retry::builder("bench").build().expect("valid"))
        .breaker(breaker().build().expect("valid"))
        .timeout(Duration::from_secs(1))
        .service(service)
}

/// All paths, in the order of a report. Call it inside of a tokio runtime.
pub fn cases() -> Vec<Case> {
    let second = Duration::from_secs(1);
    let mut cases = vec![case("bare", READY, 0), case("bare, pending once", PENDING_ONCE, 0)];
    let windows = [
        ("breaker", breaker()),
        ("breaker, row of 5", breaker().consecutive_failures(5)),
        ("breaker, slow calls", breaker().slow_calls(second, 0.9)),
        ("breaker, time window", breaker().window(Window::time(10 * second))),
    ];
    let rates =
        [("", 0), (", 0.1 % failures", 1000), (", 1 % failures", 100), (", 5 % failures", 20)];
    for (kind, builder) in windows {
        for (rate, fail_every) in rates {
            let layer = builder.clone().build().expect("valid").layer();
            cases.push(case(&format!("{kind}{rate}"), layer.layer(READY), fail_every));
        }
        let layer = builder.build().expect("valid").layer();
        cases.push(case(&format!("{kind}, pending once"), layer.layer(PENDING_ONCE), 0));
    }
    let open = breaker().build().expect("valid");
    open.force_open("bench", Some(86_400 * second));
    cases.push(case("breaker, open", open.layer().layer(READY), 0));

    let retry = Retry::builder("bench").build().expect("valid").layer();
    let no_budget = Retry::builder("bench").without_budget().build().expect("valid").layer();
    cases.push(case("retry", retry.layer(READY), 0));
    cases.push(case("retry, no budget", no_budget.layer(READY), 0));
    cases.push(case("retry, pending once", retry.layer(PENDING_ONCE), 0));
    let timeout = Timeout::after(second).layer();
    cases.push(case("timeout", timeout.layer(READY), 0));
    cases.push(case("timeout, readiness", timeout.including_readiness().layer(READY), 0));
    cases.push(case("timeout, pending once", timeout.layer(PENDING_ONCE), 0));
    let fallback = Fallback::unnamed().to_value(0_u64);
    cases.push(case("fallback", fallback.layer(READY), 0));
    cases.push(case("fallback, every call", fallback.layer(READY), 1));
    cases.push(case("fallback, pending once", fallback.layer(PENDING_ONCE), 0));

    cases.push(case("stack", stack(READY), 0));
    cases.push(case("stack, pending once", stack(PENDING_ONCE), 0));
    cases
}

/// A runtime to build and poll in. Nothing here waits, but timers are made in it.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime")
}
