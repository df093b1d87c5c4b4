//! Policies together: one classifier and one way to copy requests reach every layer, and what one
//! policy does is what the next one expects.

use std::{
    future::{Ready, pending, ready},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, http::StatusCode};
use buttress::{
    Backoff, CircuitBreaker, Error, Fallback, Retry, RetryBudget, ServiceErrors, Stack, Timeout,
    Verdict, breaker::State, classify_response,
};
use tower::{Service, ServiceExt, service_fn};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

type Failure = Error<&'static str>;

/// Real sockets, and so real time: a server that only ever answers 503, which to reqwest is an `Ok`.
#[tokio::test]
async fn a_server_that_only_answers_503_is_retried_trips_and_is_stood_in_for() {
    let hits = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&hits);
    let app = Router::new().fallback(move || {
        counter.fetch_add(1, Ordering::SeqCst);
        async { StatusCode::SERVICE_UNAVAILABLE }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: reqwest::Url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });

    let breaker = CircuitBreaker::builder("dead").min_calls(10).open_for(60 * SECOND);
    let breaker = breaker.build().unwrap();
    let budget = RetryBudget::builder("dead").cap(4.0).refill_per_second(0.0).build().unwrap();
    let retry = Retry::builder("dead").backoff(Backoff::constant(MS)).budget(budget);
    let retry = retry.build().unwrap();
    let fallback = Fallback::builder("dead").build().unwrap();
    let degraded = |_| -> Result<reqwest::Response, Error<reqwest::Error>> {
        Ok(axum::http::Response::builder().header("x-degraded", "yes").body("").unwrap().into())
    };
    let by_status = classify_response(|response: &reqwest::Response| {
        if response.status().is_server_error() { Verdict::Transient } else { Verdict::Success }
    });
    let mut client = Stack::classified(by_status)
        .clone_with(reqwest::Request::try_clone)
        .fallback(fallback.to_fn(degraded))
        .timeout(5 * SECOND)
        .retry(retry)
        .breaker(breaker)
        .timeout(2 * SECOND)
        .layer(ServiceErrors)
        .service(reqwest::Client::new());

    for _ in 0..20 {
        let request = reqwest::Request::new(reqwest::Method::GET, url.clone());
        let answer = client.ready().await.unwrap().call(request).await.unwrap();
        assert!(answer.headers().contains_key("x-degraded"));
    }
    assert_eq!(fallback.counts().degraded, 20);
    // Two calls of three attempts use the budget up, and no deposit comes in.
    assert_eq!((retry.counts().retried, budget.tokens()), (4, 0.0));
    assert_eq!(breaker.state(), State::Open);
    assert_eq!(hits.load(Ordering::SeqCst), 10, "as many as it takes to trip, and none after");
}

#[tokio::test(start_paused = true)]
async fn the_stacks_copier_reaches_a_named_backup() {
    let fallback = Fallback::builder("named").build().unwrap();
    let backup = service_fn(|_: u32| async { Ok::<_, Failure>("backup") });
    let mut client = Stack::new()
        .clone_with(|_: &u32| None::<u32>)
        .named_fallback_to(fallback, backup)
        .service(service_fn(|_: u32| async { Err::<&str, Failure>(Error::Service("no")) }));
    let outcome = client.ready().await.unwrap().call(1).await;
    assert_eq!(outcome, Err(Error::Service("no")));
    assert_eq!(fallback.counts().uncloneable, 1);
}

#[tokio::test(start_paused = true)]
async fn a_prepared_retry_gets_the_stacks_classifier() {
    let retry = Retry::builder("prepared").build().unwrap();
    let mut client = Stack::classified(classify_response(|attempt: &u32| match attempt {
        1 => Verdict::Transient,
        _ => Verdict::Success,
    }))
    .retry(retry.layer().prepare(|request: &mut u32, attempt: u32| *request = attempt))
    .service(service_fn(|request: u32| async move { Ok::<_, Failure>(request) }));
    assert_eq!(client.ready().await.unwrap().call(1).await, Ok(2));
}

#[tokio::test(start_paused = true)]
async fn callers_in_a_hurry_do_not_open_the_circuit_for_everybody() {
    let breaker = CircuitBreaker::builder("hurried").build().unwrap();
    let retry = Retry::builder("hurried").build().unwrap();
    let attempt = Timeout::after(SECOND).layer().per_request(|left: &Duration| Some(*left));
    let mut client = Stack::new().retry(retry).breaker(breaker).layer(attempt).service(service_fn(
        |_: Duration| async {
            tokio::time::sleep(5 * MS).await;
            Ok::<_, Failure>(())
        },
    ));
    for _ in 0..30 {
        let error = client.ready().await.unwrap().call(MS).await.unwrap_err();
        assert_eq!(error.to_string(), "the caller's own limit of 1ms elapsed");
    }
    assert_eq!((breaker.state(), breaker.snapshot().failures), (State::Closed, 0));
    assert_eq!(retry.counts().retried, 0);
    // A limit longer than the timeout's own is the service's failure as always.
    let slow = Timeout::after(MS).layer().per_request(|left: &Duration| Some(*left));
    let mut client =
        Stack::new().breaker(breaker).layer(slow).service(service_fn(|_: Duration| async {
            tokio::time::sleep(50 * MS).await;
            Ok::<_, Failure>(())
        }));
    let _ = client.ready().await.unwrap().call(2 * MS).await;
    assert_eq!(breaker.snapshot().failures, 1);
}

/// Ready once, fails, and is then never ready again.
#[derive(Clone, Default)]
struct ReadyOnce(Arc<AtomicUsize>);

impl Service<()> for ReadyOnce {
    type Response = ();
    type Error = Failure;
    type Future = Ready<Result<(), Failure>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        if self.0.load(Ordering::SeqCst) == 0 { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn call(&mut self, (): ()) -> Self::Future {
        self.0.fetch_add(1, Ordering::SeqCst);
        ready(Err(Error::Service("failed")))
    }
}

#[tokio::test(start_paused = true)]
async fn law_09_a_retry_does_not_wait_for_readiness_past_its_time() {
    let retry = Retry::builder("limited").max_elapsed(SECOND).build().unwrap();
    let mut client = Stack::new().retry(retry).service(ReadyOnce::default());
    let start = tokio::time::Instant::now();
    let call = client.ready().await.unwrap().call(());
    let outcome = tokio::time::timeout(3600 * SECOND, call).await;
    assert_eq!(outcome, Ok(Err(Error::Service("failed"))), "the outcome there was");
    assert_eq!(start.elapsed().as_secs(), 1);
    assert_eq!(retry.counts().out_of_time, 1);
}

#[tokio::test]
async fn law_05_a_retry_without_a_delay_lets_others_have_their_turn() {
    let retry = || {
        let retry = Retry::builder("eager").max_attempts(1_000_000).backoff(Duration::ZERO);
        retry.without_budget().build().unwrap()
    };
    let failing = || ready(Err::<(), Failure>(Error::Service("no")));
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let by_handle = retry();
    let mut by_handle = Box::pin(by_handle.call(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        failing()
    }));
    assert!(futures::poll!(&mut by_handle).is_pending());
    assert_eq!(calls.load(Ordering::SeqCst), 1, "one attempt in one poll");

    let mut client =
        Stack::new().timeout(20 * MS).retry(retry()).service(service_fn(move |()| failing()));
    let outcome = client.ready().await.unwrap().call(()).await;
    assert_eq!(outcome.unwrap_err().to_string(), "timed out after 20ms");
}

#[tokio::test(start_paused = true)]
async fn a_backup_with_a_timeout_of_its_own_does_not_keep_the_caller() {
    let replica =
        Stack::new().timeout(SECOND).service(service_fn(|(): ()| pending::<Result<(), Failure>>()));
    let mut client = Stack::new()
        .fallback_to(replica)
        .timeout(3 * SECOND)
        .service(service_fn(|(): ()| async { Err::<(), Failure>(Error::Service("no")) }));
    let start = tokio::time::Instant::now();
    assert!(client.ready().await.unwrap().call(()).await.is_err());
    assert_eq!(start.elapsed().as_secs(), 1);
}

#[test]
fn an_error_of_the_service_says_its_message_once_in_a_chain() {
    use std::error::Error as _;
    let inner = std::io::Error::other("connection refused");
    let error = Error::Service(inner);
    assert_eq!(error.to_string(), "connection refused");
    assert!(error.source().is_none_or(|source| source.to_string() != "connection refused"));
}
