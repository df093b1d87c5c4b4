//! Retry through its public interface, in paused time.

use std::{
    collections::VecDeque,
    future::{Ready, pending, ready},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use buttress::{
    Backoff, Error, FailureKind, Jitter, Retry, RetryBudget, Verdict, classify_fn,
    classify_response,
    retry::{RetryBuilder, RetryConfig, RetryLayer},
};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, limit::ConcurrencyLimitLayer, service_fn};

const MS: Duration = Duration::from_millis(1);

type Outcome = Result<u32, Error<&'static str>>;

/// Answers from a script and panics if it is called without having been polled to readiness.
#[derive(Debug)]
struct Script {
    shared: Arc<Shared>,
    ready: bool,
    /// Its readiness failed, so nobody may use it any more.
    dead: bool,
}

#[derive(Debug, Default)]
struct Shared {
    answers: Mutex<VecDeque<Outcome>>,
    /// Outcomes of `poll_ready`; ready where there is none left.
    readiness: Mutex<VecDeque<Result<(), Error<&'static str>>>>,
    requests: Mutex<Vec<String>>,
    called_at: Mutex<Vec<Instant>>,
    /// Instances alive.
    instances: AtomicUsize,
}

impl Script {
    fn new(answers: impl IntoIterator<Item = Outcome>) -> Self {
        let shared = Shared { instances: AtomicUsize::new(1), ..Shared::default() };
        *shared.answers.lock().unwrap() = answers.into_iter().collect();
        Script { shared: Arc::new(shared), ready: false, dead: false }
    }

    fn failing() -> Self {
        Script::new((0..100).map(|n| Err(Error::Service(["a", "b", "c", "d"][n % 4]))))
    }
}

impl Clone for Script {
    fn clone(&self) -> Self {
        self.shared.instances.fetch_add(1, Ordering::Relaxed);
        Script { shared: self.shared.clone(), ready: false, dead: false }
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.shared.instances.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shared {
    fn calls(&self) -> usize {
        self.requests.lock().unwrap().len()
    }

    /// Time between one call and the next.
    fn gaps(&self) -> Vec<Duration> {
        let called_at = self.called_at.lock().unwrap();
        called_at.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }
}

impl<R: ToString> Service<R> for Script {
    type Response = u32;
    type Error = Error<&'static str>;
    type Future = Ready<Outcome>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let readiness = self.shared.readiness.lock().unwrap().pop_front().unwrap_or(Ok(()));
        assert!(!self.dead, "polled after its readiness failed");
        self.ready = readiness.is_ok();
        self.dead = readiness.is_err();
        Poll::Ready(readiness)
    }

    fn call(&mut self, request: R) -> Self::Future {
        assert!(self.ready, "called without being ready (law 1)");
        self.ready = false;
        self.shared.requests.lock().unwrap().push(request.to_string());
        self.shared.called_at.lock().unwrap().push(Instant::now());
        let answer = self.shared.answers.lock().unwrap().pop_front();
        ready(answer.expect("the script goes on"))
    }
}

/// Without jitter, so that times are exact; a budget that does not refill.
fn retry() -> RetryBuilder {
    let budget = RetryBudget::builder("test").ratio(0.1).cap(20.0).refill_per_second(0.0);
    let budget = budget.build().unwrap();
    Retry::builder("test")
        .backoff(Backoff::exponential(100 * MS).jitter(Jitter::None))
        .budget(budget)
}

fn one_token() -> RetryBudget {
    let budget = RetryBudget::builder("b").cap(1.0).timed_out_cost(1.0);
    budget.refill_per_second(0.0).build().unwrap()
}

/// In thousandths, so that tests can compare.
fn tokens(retry: Retry) -> u64 {
    (retry.budget().unwrap().tokens() * 1e3).round() as u64
}

async fn ask(
    service: &mut impl Service<&'static str, Response = u32, Error = Error<&'static str>>,
) -> Outcome {
    std::future::poll_fn(|cx| service.poll_ready(cx)).await?;
    service.call("request").await
}

#[tokio::test(start_paused = true)]
async fn the_first_success_is_returned_after_the_backoffs() {
    let script = Script::new([Err(Error::Service("a")), Err(Error::Service("b")), Ok(7)]);
    let retry = retry().build().unwrap();
    assert_eq!(ask(&mut retry.layer().layer(script.clone())).await, Ok(7));
    assert_eq!(script.shared.gaps(), [100 * MS, 200 * MS]);
    assert_eq!(retry.counts().retried, 2);
    assert_eq!(tokens(retry), 18_100);
}

#[tokio::test(start_paused = true)]
async fn the_last_error_is_returned_unchanged() {
    let script = Script::failing();
    let retry = retry().max_attempts(3).build().unwrap();
    assert_eq!(ask(&mut retry.layer().layer(script.clone())).await, Err(Error::Service("c")));
    assert_eq!(script.shared.calls(), 3);
    assert_eq!((retry.counts().retried, retry.counts().exhausted), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn law_01_over_a_concurrency_limit_every_attempt_is_on_a_ready_instance() {
    // The limit panics if it is called without the permit that its readiness takes.
    let script = Script::failing();
    let retry = retry().max_attempts(4).build().unwrap();
    let mut service = ServiceBuilder::new()
        .layer(retry.layer())
        .layer(ConcurrencyLimitLayer::new(1))
        .service(script.clone());
    for _ in 0..3 {
        assert!(ask(&mut service).await.is_err());
    }
    assert_eq!(script.shared.calls(), 12);
}

#[tokio::test(start_paused = true)]
async fn law_02_nothing_is_reserved_while_waiting() {
    let script = Script::new([Err(Error::Service("a")), Ok(1), Ok(2)]);
    let retry = retry().build().unwrap();
    let service = ServiceBuilder::new()
        .layer(retry.layer())
        .layer(ConcurrencyLimitLayer::new(1))
        .service(script.clone());
    let started = Instant::now();
    let mut waiting = Box::pin(ask_owned(service.clone()));
    assert!(futures::poll!(&mut waiting).is_pending());
    let mut other = service;
    assert_eq!(ask(&mut other).await, Ok(1));
    assert_eq!(started.elapsed(), Duration::ZERO, "the other went first, during the backoff");
    assert_eq!(waiting.await, Ok(2));
    assert_eq!(started.elapsed(), 100 * MS);
}

async fn ask_owned<S>(mut service: S) -> Outcome
where
    S: Service<&'static str, Response = u32, Error = Error<&'static str>>,
{
    ask(&mut service).await
}

#[tokio::test(start_paused = true)]
async fn law_02_a_finished_future_keeps_no_instance() {
    let script = Script::failing();
    let budget = one_token();
    let retry = retry().budget(budget).build().unwrap();
    let mut service = retry.layer().layer(script.clone());
    let mut future =
        Box::pin(ServiceExt::<&'static str>::ready(&mut service).await.unwrap().call("request"));
    assert!(futures::poll!(&mut future).is_pending());
    // Somebody else takes the token during the backoff.
    assert!(budget.try_withdraw(FailureKind::Failed));
    let before = script.shared.instances.load(Ordering::Relaxed);
    assert_eq!((&mut future).await, Err(Error::Service("a")));
    assert_eq!(script.shared.instances.load(Ordering::Relaxed), before - 1);
    assert_eq!(script.shared.calls(), 1);
    assert_eq!(retry.counts().budget_denied, 1);
}

#[tokio::test(start_paused = true)]
async fn law_03_dropped_while_waiting_nothing_is_charged() {
    let retry = retry().build().unwrap();
    let script = Script::failing();
    let mut waiting = Box::pin(ask_owned(retry.layer().layer(script.clone())));
    assert!(futures::poll!(&mut waiting).is_pending());
    drop(waiting);
    tokio::time::advance(1000 * MS).await;
    assert_eq!(tokens(retry), 20_000);
    assert_eq!(script.shared.calls(), 1);
    assert_eq!(script.shared.instances.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn law_03_dropped_while_waiting_for_readiness_nothing_is_charged() {
    let retry = retry().backoff(Duration::ZERO).build().unwrap();
    // The permit goes to the other, which never gives it back.
    let calls = Arc::new(AtomicU32::new(0));
    let service = ServiceBuilder::new()
        .layer(retry.layer())
        .layer(ConcurrencyLimitLayer::new(1))
        .service(service_fn({
            let calls = calls.clone();
            move |name: &'static str| {
                calls.fetch_add(1, Ordering::Relaxed);
                async move {
                    if name == "hang" {
                        pending::<()>().await;
                    }
                    tokio::task::yield_now().await;
                    Err::<u32, _>(Error::Service("no"))
                }
            }
        }));
    let mut first = service.clone();
    let mut other = service.clone();
    let mut failing = Box::pin(first.ready().await.unwrap().call("fail"));
    assert!(futures::poll!(&mut failing).is_pending());
    // In line for the permit before the retry is.
    let mut hanging = Box::pin(async { other.ready().await.unwrap().call("hang").await });
    assert!(futures::poll!(&mut hanging).is_pending());
    assert!(futures::poll!(&mut failing).is_pending());
    assert!(futures::poll!(&mut hanging).is_pending());
    assert!(futures::poll!(&mut failing).is_pending());
    assert_eq!(calls.load(Ordering::Relaxed), 2);
    drop(failing);
    assert_eq!(tokens(retry), 20_000);
}

#[tokio::test(start_paused = true)]
async fn law_03_dropped_in_a_repeated_attempt_its_price_is_paid_for_good() {
    let retry = retry().build().unwrap();
    let calls = AtomicU32::new(0);
    let service = service_fn(|_: &'static str| {
        let call = calls.fetch_add(1, Ordering::Relaxed);
        async move {
            if call > 0 {
                pending::<()>().await;
            }
            Err::<u32, _>(Error::Service("no"))
        }
    });
    let operation = retry.layer().layer(service).oneshot("request");
    assert!(tokio::time::timeout(1000 * MS, operation).await.is_err());
    assert_eq!(calls.load(Ordering::Relaxed), 2);
    assert_eq!(tokens(retry), 19_000);
}

#[tokio::test(start_paused = true)]
async fn law_07_a_dead_server_sees_the_calls_and_the_cap() {
    let retry = retry().max_attempts(5).build().unwrap();
    let script = Script::new((0..2500).map(|_| Err(Error::Service("dead"))));
    let service = retry.layer().layer(script.clone());
    let callers = (0..500).map(|_| ask_owned(service.clone()));
    assert!(futures::future::join_all(callers).await.iter().all(Result::is_err));
    assert_eq!(script.shared.calls(), 520);
    assert_eq!(retry.counts().retried, 20);
    assert_eq!(retry.counts().budget_denied + retry.counts().exhausted, 500);
}

#[tokio::test(start_paused = true)]
async fn law_07_an_empty_budget_neither_waits_nor_copies() {
    let budget = one_token();
    budget.try_withdraw(FailureKind::Failed);
    let retry = retry().budget(budget).build().unwrap();
    let copies = Arc::new(AtomicU32::new(0));
    let layer = counting_copies(retry.layer(), &copies);
    let started = Instant::now();
    assert!(ask(&mut layer.layer(Script::failing())).await.is_err());
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert_eq!(copies.load(Ordering::Relaxed), 0);
    assert_eq!(retry.counts().budget_denied, 1);
}

fn counting_copies<C, K, P>(
    layer: RetryLayer<C, K, P>,
    copies: &Arc<AtomicU32>,
) -> RetryLayer<C, impl Fn(&&'static str) -> Option<&'static str> + Clone, P> {
    let copies = copies.clone();
    layer.clone_with(move |request: &&'static str| {
        copies.fetch_add(1, Ordering::Relaxed);
        Some(*request)
    })
}

#[tokio::test(start_paused = true)]
async fn law_13_the_last_attempt_takes_no_copy() {
    for (attempts, expected) in [(1, 0), (2, 1), (3, 2)] {
        let retry = retry().max_attempts(attempts).build().unwrap();
        let copies = Arc::new(AtomicU32::new(0));
        let layer = counting_copies(retry.layer(), &copies);
        assert!(ask(&mut layer.layer(Script::failing())).await.is_err());
        assert_eq!(copies.load(Ordering::Relaxed), expected);
    }
}

fn throttled(
    hint: Option<Duration>,
) -> impl Fn(Result<&u32, &Error<&'static str>>) -> Verdict + Clone {
    classify_fn(move |outcome: Result<&u32, &Error<&'static str>>| match outcome {
        Ok(_) => Verdict::Success,
        Err(_) => Verdict::Throttled { retry_after: hint },
    })
}

#[tokio::test(start_paused = true)]
async fn a_service_that_cannot_be_reached_is_tried_again() {
    let retry = retry().without_budget().build().unwrap();
    let unreachable = classify_fn(|_: Result<&u32, &Error<&'static str>>| Verdict::Unreachable);
    let script = Script::failing();
    let _ = ask(&mut retry.layer().classify(unreachable).layer(script.clone())).await;
    assert_eq!(script.shared.gaps(), [100 * MS, 200 * MS]);
}

#[tokio::test(start_paused = true)]
async fn a_final_failure_is_not_repeated_and_deposits_nothing() {
    let retry = retry().build().unwrap();
    let budget = retry.budget().unwrap();
    assert!(budget.try_withdraw(FailureKind::Failed));
    let tokens = budget.tokens();
    let last = classify_fn(|_: Result<&u32, &Error<&'static str>>| Verdict::Final);
    let script = Script::failing();
    let _ = ask(&mut retry.layer().classify(last).layer(script.clone())).await;
    assert!(script.shared.gaps().is_empty());
    assert!((budget.tokens() - tokens).abs() < 1e-9);
}

#[tokio::test(start_paused = true)]
async fn law_08_the_hint_is_a_floor_with_the_backoff_on_top() {
    let retry = retry().max_retry_after(5000 * MS).build().unwrap();
    for (hint, expected) in [
        (Some(3000 * MS), [3100 * MS, 3200 * MS]),
        (Some(60_000 * MS), [5100 * MS, 5200 * MS]),
        (None, [100 * MS, 200 * MS]),
    ] {
        let script = Script::failing();
        let _ = ask(&mut retry.layer().classify(throttled(hint)).layer(script.clone())).await;
        assert_eq!(script.shared.gaps(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn law_08_jitter_never_undercuts_the_hint() {
    let retry = retry().without_budget().backoff(Backoff::exponential(1000 * MS)).build().unwrap();
    let mut gaps = Vec::new();
    for _ in 0..50 {
        let script = Script::failing();
        let layer = retry.layer().classify(throttled(Some(3000 * MS)));
        let _ = ask(&mut layer.layer(script.clone())).await;
        gaps.push(script.shared.gaps()[0]);
    }
    // A millisecond over, because tokio's timers are rounded up to one.
    assert!(gaps.iter().all(|gap| (3000 * MS..=4001 * MS).contains(gap)), "{gaps:?}");
    let (first, last) = (gaps.iter().min().unwrap(), gaps.iter().max().unwrap());
    assert!(*last > *first + 500 * MS, "from {first:?} to {last:?}");
}

#[tokio::test(start_paused = true)]
async fn law_09_no_wait_for_an_attempt_after_max_elapsed() {
    // The attempts would be at 0, 100 and 300 ms.
    for (max, calls, elapsed) in [(100, 1, 0), (101, 2, 100), (300, 2, 100), (301, 3, 300)] {
        let script = Script::failing();
        let retry = retry().max_elapsed(max * MS).build().unwrap();
        let started = Instant::now();
        assert!(ask(&mut retry.layer().layer(script.clone())).await.is_err());
        assert_eq!((script.shared.calls(), started.elapsed()), (calls, elapsed * MS));
        assert_eq!(retry.counts().out_of_time, u64::from(calls < 3));
    }
}

#[tokio::test(start_paused = true)]
async fn law_09_time_spent_on_readiness_counts() {
    let retry = retry().max_elapsed(1000 * MS).build().unwrap();
    let calls = Arc::new(AtomicU32::new(0));
    let counted = calls.clone();
    let service = ServiceBuilder::new()
        .layer(retry.layer())
        .layer(ConcurrencyLimitLayer::new(1))
        .service(service_fn(move |name: &'static str| {
            counted.fetch_add(1, Ordering::Relaxed);
            async move {
                if name == "slow" {
                    tokio::time::sleep(2000 * MS).await;
                    return Ok(1);
                }
                Err::<u32, _>(Error::Service("no"))
            }
        }));
    let mut failing = Box::pin(service.clone().oneshot("fail"));
    assert!(futures::poll!(&mut failing).is_pending());
    let (slow, failed) = futures::join!(service.oneshot("slow"), failing);
    assert_eq!((slow, failed), (Ok(1), Err(Error::Service("no"))));
    assert_eq!(calls.load(Ordering::Relaxed), 2);
    assert_eq!((retry.counts().out_of_time, tokens(retry)), (1, 20_000));
}

#[tokio::test(start_paused = true)]
async fn an_uncloneable_request_makes_one_attempt_and_still_deposits() {
    let retry = retry().build().unwrap();
    let budget = retry.budget().unwrap();
    assert!(budget.try_withdraw(FailureKind::Failed));
    let script = Script::new([Ok(1), Err(Error::Service("a")), Ok(2)]);
    let mut service = retry.layer().clone_with(|_: &&'static str| None).layer(script.clone());
    assert_eq!(ask(&mut service).await, Ok(1));
    assert_eq!((retry.counts().uncloneable, tokens(retry)), (0, 19_100));
    assert_eq!(ask(&mut service).await, Err(Error::Service("a")));
    assert_eq!((retry.counts().uncloneable, script.shared.calls()), (1, 2));
    assert_eq!(tokens(retry), 19_100);
}

#[tokio::test(start_paused = true)]
async fn a_readiness_that_fails_between_attempts_is_an_outcome() {
    let script = Script::new([Err(Error::Service("a")), Ok(1)]);
    let retry = retry().build().unwrap();
    let mut service = retry.layer().layer(script.clone());
    *script.shared.readiness.lock().unwrap() = [Ok(()), Err(Error::Service("reset"))].into();
    assert_eq!(ask(&mut service).await, Ok(1));
    assert_eq!(script.shared.gaps(), [300 * MS]);
    // It reached nobody, so only the attempt that was called has been paid for.
    assert_eq!((retry.counts().retried, tokens(retry)), (1, 19_100));

    let script = Script::failing();
    let mut service = retry.layer().layer(script.clone());
    *script.shared.readiness.lock().unwrap() =
        [Ok(()), Err(Error::Service("reset")), Err(Error::Service("again"))].into();
    assert_eq!(ask(&mut service).await, Err(Error::Service("again")));
    assert_eq!(script.shared.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_readiness_that_fails_at_first_is_the_callers() {
    let script = Script::failing();
    *script.shared.readiness.lock().unwrap() = [Err(Error::Service("down"))].into();
    let mut service = retry().build().unwrap().layer().layer(script.clone());
    assert_eq!(ask(&mut service).await, Err(Error::Service("down")));
    assert_eq!(script.shared.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn verdicts_that_stop_and_what_they_deposit() {
    for (verdict, deposit) in [
        (Verdict::Success, 100),
        (Verdict::Permanent, 100),
        (Verdict::Ignored, 0),
        (Verdict::Refused { retry_after: Some(MS) }, 0),
    ] {
        let retry = retry().build().unwrap();
        assert!(retry.budget().unwrap().try_withdraw(FailureKind::Failed));
        let script = Script::failing();
        let classifier = classify_fn(move |_: Result<&u32, &Error<&'static str>>| verdict);
        let mut service = retry.layer().classify(classifier).layer(script.clone());
        assert_eq!(ask(&mut service).await, Err(Error::Service("a")));
        assert_eq!((script.shared.calls(), tokens(retry)), (1, 19_000 + deposit), "{verdict:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_may_be_worth_a_retry() {
    let script = Script::new([Ok(503), Ok(200)]);
    let classifier = classify_response(|status: &u32| match status {
        500.. => Verdict::Transient,
        _ => Verdict::Success,
    });
    let mut service = retry().build().unwrap().layer().classify(classifier).layer(script);
    assert_eq!(ask(&mut service).await, Ok(200));
}

#[tokio::test(start_paused = true)]
async fn the_hook_changes_repeated_requests_and_changes_do_not_add_up() {
    let script = Script::failing();
    let retry = retry().max_attempts(4).build().unwrap();
    let service = retry
        .layer()
        .prepare(|request: &mut String, attempt: u32| request.extend(["/", &attempt.to_string()]))
        .layer(script.clone());
    let _ = service.oneshot(String::from("get")).await;
    assert_eq!(*script.shared.requests.lock().unwrap(), ["get", "get/2", "get/3", "get/4"]);
}

#[tokio::test(start_paused = true)]
async fn decorrelated_jitter_goes_by_the_delay_before() {
    let backoff = Backoff::exponential(10 * MS).max(60_000 * MS).jitter(Jitter::Decorrelated);
    let retry = retry().without_budget().max_attempts(20).backoff(backoff).build().unwrap();
    let script = Script::failing();
    let _ = ask(&mut retry.layer().layer(script.clone())).await;
    let gaps = script.shared.gaps();
    for pair in gaps.windows(2) {
        assert!(pair[1] >= 10 * MS && pair[1] <= pair[0] * 3 + MS, "{gaps:?}");
    }
    assert!(gaps.iter().any(|gap| *gap > 90 * MS), "they grow: {gaps:?}");
}

#[tokio::test(start_paused = true)]
async fn law_07_the_handle_does_not_wait_for_a_token_that_is_not_there() {
    let budget = one_token();
    assert!(budget.try_withdraw(FailureKind::Failed));
    let retry = retry().budget(budget).build().unwrap();
    let started = Instant::now();
    let failed: Outcome = retry.call(|_| ready(Err(Error::Service("no")))).await;
    assert_eq!((failed, started.elapsed()), (Err(Error::Service("no")), Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn the_handle_retries_without_tower() {
    let retry = retry().build().unwrap();
    let started = Instant::now();
    let answer = retry
        .call(async |attempt: u32| match attempt {
            3 => Ok(attempt),
            _ => Err(Error::Service("no")),
        })
        .await;
    assert_eq!((answer, started.elapsed()), (Ok(3), 300 * MS));
    assert_eq!((retry.counts().retried, tokens(retry)), (2, 18_100));

    let failed: Outcome = retry.call(|_| ready(Err(Error::Service("no")))).await;
    assert_eq!(failed, Err(Error::Service("no")));
    assert_eq!(retry.counts().exhausted, 1);

    let permanent = classify_fn(|_: Result<&u32, &Error<&'static str>>| Verdict::Permanent);
    let mut calls = 0;
    let failed = retry
        .call_with(&permanent, |_| {
            calls += 1;
            ready(Err(Error::Service("no")))
        })
        .await;
    assert_eq!((failed, calls), (Err(Error::Service("no")), 1));
}

#[test]
fn each_rule_has_its_message() {
    let message = |builder: RetryBuilder| builder.build().unwrap_err().to_string();
    let builder = || Retry::builder("orders");
    assert_eq!(
        message(builder().max_attempts(0)),
        r#"retry "orders": max_attempts must be at least 1, but is 0"#
    );
    assert_eq!(
        message(builder().max_elapsed(Duration::ZERO)),
        r#"retry "orders": max_elapsed must be above 0, but is 0ns"#
    );
    assert_eq!(
        message(builder().backoff(Backoff::exponential(MS).factor(0.5))),
        r#"retry "orders": backoff must have a finite factor of at least 1, but is 0.5"#
    );
    let mut config = RetryConfig::default();
    config.budget.as_mut().unwrap().cap = 0.0;
    assert_eq!(
        Retry::from_config("orders", config).unwrap_err().to_string(),
        r#"retry budget "orders": cap must be at least 1 and at most 100000, but is 0.0"#
    );
}

#[test]
fn the_defaults() {
    let retry = Retry::builder("orders").build().unwrap();
    assert_eq!(*retry.config(), RetryConfig::default());
    let RetryConfig { max_attempts, max_retry_after, max_elapsed, backoff, budget, .. } =
        RetryConfig::default();
    assert_eq!((max_attempts, max_retry_after, max_elapsed), (3, Duration::from_secs(30), None));
    assert_eq!((backoff, budget.is_some()), (Backoff::default(), true));
}

#[test]
fn types_are_send_sync_and_clone_where_the_service_is() {
    fn check<T: Send + Sync + Clone>(_: &T) {}
    fn check_future<T: Send>(_: &T) {}
    let retry = Retry::builder("orders").build().unwrap();
    check(&retry);
    let mut service = retry.layer().layer(Script::new([Ok(1)]));
    check(&service);
    service.get_mut().ready = true;
    check_future(&service.call("request"));
    assert!(format!("{service:?}").starts_with("RetryService { inner: Script"));
    assert_eq!(service.into_inner().shared.calls(), 1);
}

#[cfg(feature = "serde")]
mod serde {
    use super::*;

    #[test]
    fn a_table_is_read_and_written() {
        let text = r#"
            max_attempts = 4
            max_retry_after = "1m 30s"
            max_elapsed = "10s"
            backoff = { kind = "linear", base = "20ms", max = "2s" }
            budget = { ratio = 0.3 }
        "#;
        let config: RetryConfig = toml::from_str(text).unwrap();
        assert_eq!((config.max_attempts, config.max_retry_after), (4, 90_000 * MS));
        assert_eq!(config.max_elapsed, Some(10_000 * MS));
        assert_eq!(config.backoff, Backoff::linear(20 * MS).max(2000 * MS));
        let budget = config.budget.unwrap();
        assert_eq!((budget.ratio, budget.cap), (0.3, 10.0));
        for config in [config, RetryConfig::default()] {
            let written = toml::to_string(&config).unwrap();
            assert_eq!(toml::from_str::<RetryConfig>(&written).unwrap(), config);
        }
        assert_eq!(toml::from_str::<RetryConfig>("").unwrap(), RetryConfig::default());
    }

    #[test]
    fn no_budget_is_false() {
        let config: RetryConfig = toml::from_str("budget = false").unwrap();
        assert_eq!(config.budget, None);
        let written = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<RetryConfig>(&written).unwrap(), config);
        let error = toml::from_str::<RetryConfig>("budget = true").unwrap_err().to_string();
        assert!(error.contains("or `false` for none"), "{error}");
    }

    #[test]
    fn what_is_unknown_is_refused() {
        let error = toml::from_str::<RetryConfig>("max_atempts = 3").unwrap_err().to_string();
        assert!(error.contains("unknown field `max_atempts`"), "{error}");
        let error = toml::from_str::<RetryConfig>("budget = { rato = 3 }").unwrap_err().to_string();
        assert!(error.contains("unknown field `rato`"), "{error}");
    }
}
