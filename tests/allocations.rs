//! Law 11 and section 6 of the design: no call allocates; not a healthy one, not one that is refused, repeated, limited in time or
//! answered by a fallback.
//!
//! Counted per thread by the `allocation-counter` crate, which brings the global allocator, so that
//! this crate's `forbid(unsafe_code)` holds here too. Each path is run once before it is counted:
//! the first random number of a thread seeds its generator, and the first recording of a metric
//! looks up its handles. Tokio's timer is inside of what is counted, where a path sleeps; moving
//! the clock is not.
//!
//! What does allocate, and is not counted here: a transition of a breaker, which keeps its record
//! and tells the subscribers; and a `WhenOpen::Wait` service while the circuit is not closed, whose
//! place in the queue is a box.

use std::{
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use allocation_counter::measure;
use buttress::{
    Backoff, CircuitBreaker, Error, Fallback, Jitter, PolicyErrorKind, Retry, ServiceErrors, Stack,
    StackError, Timeout, Verdict, breaker::State,
};
use tokio::time::advance;
use tower::{Layer, Service, service_fn};

const STEP: Duration = Duration::from_millis(100);
const LIMIT: Duration = Duration::from_secs(5);

type Outcome = Result<&'static str, Error<&'static str>>;

#[derive(Clone, Copy, Debug)]
enum Do {
    Succeed,
    Fail,
    /// Is pending once, and succeeds.
    Yield,
    Hang,
}

/// A service of nothing but its answer, over the error of the layers.
fn obedient() -> impl Service<Do, Response = &'static str, Error = Error<&'static str>> + Clone {
    ServiceErrors.layer(raw())
}

fn raw() -> impl Service<Do, Response = &'static str, Error = &'static str> + Clone {
    service_fn(|what| {
        let mut pending = matches!(what, Do::Yield);
        std::future::poll_fn(move |_| match what {
            Do::Hang => Poll::Pending,
            _ if std::mem::take(&mut pending) => Poll::Pending,
            Do::Fail => Poll::Ready(Err("failed")),
            Do::Succeed | Do::Yield => Poll::Ready(Ok("good")),
        })
    })
}

/// Makes a call and polls it until it is ready, a step of time apart. Its outcome, and how often it
/// allocated.
async fn call<S>(service: &mut S, what: Do) -> (Outcome, u64)
where
    S: Service<Do, Response = &'static str, Error = Error<&'static str>>,
{
    let mut count = 0;
    let mut counted = |code: &mut dyn FnMut()| count += measure(code).count_total;
    let mut cx = Context::from_waker(Waker::noop());
    let mut made = None;
    counted(&mut || {
        assert!(service.poll_ready(&mut cx).is_ready());
        made = Some(service.call(what));
    });
    let mut made = pin!(made.expect("it was just made"));
    loop {
        let mut outcome = Poll::Pending;
        counted(&mut || outcome = made.as_mut().poll(&mut cx));
        match outcome {
            Poll::Ready(outcome) => return (outcome, count),
            Poll::Pending => advance(STEP).await,
        }
    }
}

/// After a first run, no run of this path allocates.
async fn none<S>(path: &str, service: &mut S, what: Do, expected: Outcome)
where
    S: Service<Do, Response = &'static str, Error = Error<&'static str>>,
{
    for round in 0..20 {
        let (outcome, count) = call(service, what).await;
        assert_eq!(outcome, expected, "{path}");
        assert!(count == 0 || round == 0, "{path}: {count} allocations in round {round}");
    }
}

/// Two attempts of each operation; without a budget, so that every failure is repeated.
fn retry(backoff: Duration) -> Retry {
    let backoff = Backoff::constant(backoff).jitter(Jitter::Full);
    Retry::builder("allocations").max_attempts(2).backoff(backoff).without_budget().build().unwrap()
}

const FAILED: Outcome = Err(Error::Service("failed"));
const GOOD: Outcome = Ok("good");

#[test]
fn the_counter_counts() {
    assert_eq!(measure(|| drop(std::hint::black_box(Box::new(1)))).count_total, 1);
}

#[tokio::test(start_paused = true)]
async fn law_11_breaker() {
    let breaker = CircuitBreaker::builder("allocations").build().unwrap();
    let mut service = breaker.layer().layer(obedient());
    none("closed", &mut service, Do::Succeed, GOOD).await;
    none("closed, pending", &mut service, Do::Yield, GOOD).await;
    // Twenty failures of sixty calls stay below one half.
    none("closed, failing", &mut service, Do::Fail, FAILED).await;
    assert_eq!(breaker.state(), State::Closed);
    none("after failures", &mut service, Do::Succeed, GOOD).await;

    breaker.force_open("by hand", None);
    let (refusal, _) = call(&mut service, Do::Succeed).await;
    assert_eq!(refusal.unwrap_err().policy_error().unwrap().kind(), PolicyErrorKind::CircuitOpen);
    none("open", &mut service, Do::Succeed, refusal).await;
    assert_eq!(measure(|| drop(breaker.try_acquire())).count_total, 0);
}

#[tokio::test(start_paused = true)]
async fn law_11_keyed_breaker() {
    let breakers = CircuitBreaker::builder("allocations").build_keyed::<String>(2).unwrap();
    let allocations = |key: &str, verdict| {
        let count =
            || measure(|| breakers.try_acquire(key).into_iter().for_each(|it| it.record(verdict)));
        count(); // The first call gives the key its place.
        (0..20).map(|_| count().count_total).sum::<u64>()
    };
    assert_eq!(allocations("closed", Verdict::Success), 0);
    assert_eq!(allocations("closed", Verdict::Permanent), 0);
    for key in ["open", "open as well"] {
        assert!(breakers.force_open(key, "by hand", None));
        assert_eq!(allocations(key, Verdict::Success), 0);
    }
    assert_eq!(allocations("no place", Verdict::Transient), 0);
    assert_eq!(breakers.unprotected(), 21);

    let numbered = CircuitBreaker::builder("allocations").build_keyed::<u32>(2).unwrap();
    let mut service = numbered.layer(|what: &Do| *what as u32).layer(obedient());
    none("keyed, closed", &mut service, Do::Succeed, GOOD).await;
    none("keyed, pending", &mut service, Do::Yield, GOOD).await;
}

#[tokio::test(start_paused = true)]
async fn law_11_a_breaker_opened_by_failures() {
    let breaker = CircuitBreaker::builder("allocations").min_calls(2);
    let breaker = breaker.open_for(Duration::from_secs(3600)).build().unwrap();
    let mut service = breaker.layer().layer(obedient());
    for _ in 0..2 {
        assert_eq!(call(&mut service, Do::Fail).await.0, FAILED);
    }
    let (refusal, _) = call(&mut service, Do::Succeed).await;
    none("open", &mut service, Do::Succeed, refusal).await;
}

#[tokio::test(start_paused = true)]
async fn law_11_breaker_with_every_window() {
    let builder = || CircuitBreaker::builder("allocations").failure_ratio(1.0);
    let time = builder().window(buttress::Window::time(LIMIT)).slow_calls(LIMIT, 1.0);
    let time = time.consecutive_failures(1000).abandoned_after(LIMIT).build().unwrap();
    let mut service = time.layer().layer(obedient());
    none("time window", &mut service, Do::Succeed, GOOD).await;
    none("time window, failing", &mut service, Do::Fail, FAILED).await;
    let mut shadow = builder().min_calls(1).shadow().build().unwrap().layer().layer(obedient());
    none("shadow", &mut shadow, Do::Fail, FAILED).await;
}

#[tokio::test(start_paused = true)]
async fn law_11_retry() {
    for backoff in [Duration::ZERO, STEP] {
        let retry = retry(backoff);
        let mut service = retry.layer().layer(obedient());
        none("first attempt", &mut service, Do::Succeed, GOOD).await;
        none("repeated", &mut service, Do::Fail, FAILED).await;
        assert_eq!(retry.counts().retried, 20);
    }
    let retry = Retry::builder("allocations").build().unwrap();
    let mut service = retry.layer().layer(obedient());
    none("budget", &mut service, Do::Succeed, GOOD).await;
    none("budget, used up", &mut service, Do::Fail, FAILED).await;
    assert!(retry.counts().budget_denied > 0);
}

#[tokio::test(start_paused = true)]
async fn law_11_timeout() {
    let named = Timeout::builder("allocations").after(LIMIT).build().unwrap();
    for timeout in [Timeout::after(LIMIT), named] {
        let mut service = timeout.layer().layer(obedient());
        none("ready at once", &mut service, Do::Succeed, GOOD).await;
        none("not fired", &mut service, Do::Yield, GOOD).await;
        let (late, _) = call(&mut service, Do::Hang).await;
        none("fired", &mut service, Do::Hang, late).await;
        assert!(late.unwrap_err().policy_error().is_some());

        let mut service = timeout.layer().including_readiness().layer(obedient());
        none("including readiness, ready at once", &mut service, Do::Succeed, GOOD).await;
        none("including readiness, not fired", &mut service, Do::Yield, GOOD).await;
        none("including readiness, fired", &mut service, Do::Hang, late).await;
    }
}

#[tokio::test(start_paused = true)]
async fn law_11_fallback() {
    let fallback = Fallback::builder("allocations").build().unwrap();
    let mut value = fallback.to_value("value").layer(obedient());
    none("to a value, healthy", &mut value, Do::Succeed, GOOD).await;
    none("to a value", &mut value, Do::Fail, Ok("value")).await;
    let mut function = fallback.to_fn(|_: Outcome| Ok("function")).layer(obedient());
    none("to a function, healthy", &mut function, Do::Succeed, GOOD).await;
    none("to a function", &mut function, Do::Fail, Ok("function")).await;
    let mut function = fallback.to_async_fn(|_: Outcome| async { Ok("async") }).layer(obedient());
    none("to an async function", &mut function, Do::Fail, Ok("async")).await;
    let backup = service_fn(|_: Do| async { Ok::<_, Error<&'static str>>("backup") });
    let mut backup = fallback.to_service(backup).layer(obedient());
    none("to a service, healthy", &mut backup, Do::Succeed, GOOD).await;
    none("to a service", &mut backup, Do::Fail, Ok("backup")).await;
}

#[tokio::test(start_paused = true)]
async fn law_11_a_whole_stack() {
    // Opens by hand only: a transition allocates.
    let breaker = CircuitBreaker::builder("allocations").failure_ratio(1.0).min_calls(100);
    let breaker = breaker.build().unwrap();
    let retry = retry(STEP);
    let stack = Stack::new().timeout(10 * LIMIT).retry(retry).breaker(breaker).timeout(LIMIT);
    let stack = stack.layer(ServiceErrors);
    let mut answered = Fallback::unnamed().to_value("value").layer(stack.service(raw()));
    let mut plain = stack.service(raw());
    none("healthy", &mut answered, Do::Succeed, GOOD).await;
    none("timeouts not fired", &mut answered, Do::Yield, GOOD).await;
    none("repeated, then failed", &mut plain, Do::Fail, FAILED).await;
    none("repeated, then answered", &mut answered, Do::Fail, Ok("value")).await;
    assert_eq!((breaker.state(), retry.counts().retried), (State::Closed, 40));
    breaker.reset();
    let late = call(&mut plain, Do::Hang).await.0;
    assert!(late.unwrap_err().policy_error().is_some());
    none("timeouts fired, repeated", &mut plain, Do::Hang, late).await;
    breaker.force_open("by hand", None);
    let refusal = call(&mut plain, Do::Succeed).await.0;
    none("refused", &mut plain, Do::Succeed, refusal).await;
    none("refused, then answered", &mut answered, Do::Succeed, Ok("value")).await;
}
