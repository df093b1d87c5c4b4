//! Whole stacks around whole clients.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, http::StatusCode, response::IntoResponse, routing::get};
use buttress::{
    Backoff, CircuitBreaker, PolicyErrorKind, Retry, ServiceErrors, Stack, StackError,
    breaker::{CircuitBreakerBuilder, State},
    http,
    retry::RetryBuilder,
};
use tokio::{io::AsyncWriteExt, time::Instant};
use tower::{Service, ServiceExt, service_fn};

use super::{
    connections::{self, hyper, hyper_http2, reqwest},
    http2,
    servers::{answer_and_reset, closed_port, raw, read_head, serve},
};

const MS: Duration = Duration::from_millis(1);

fn breaker(name: &'static str) -> CircuitBreakerBuilder {
    CircuitBreaker::builder(name).min_calls(2).open_for(60_000 * MS)
}

fn retry() -> RetryBuilder {
    Retry::builder("http").max_attempts(3).backoff(Backoff::constant(MS)).without_budget()
}

fn request(address: impl std::fmt::Display) -> reqwest::Request {
    reqwest::Request::new(reqwest::Method::GET, format!("http://{address}/").parse().unwrap())
}

/// DESIGN, section 1: a server that only ever answers 503 means retries, the trip, the fallback.
#[tokio::test]
async fn a_server_that_only_answers_503() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let primary = serve(Router::new().fallback(move || {
        count.fetch_add(1, Ordering::SeqCst);
        async { StatusCode::SERVICE_UNAVAILABLE }
    }))
    .await;
    let backup = serve(Router::new().route("/", get(|| async { "from the replica" }))).await;

    let client = reqwest().build().unwrap();
    let replica = client.clone();
    let replica = service_fn(move |_: reqwest::Request| replica.execute(request(backup)));
    let retry = retry().build().unwrap();
    let breaker = breaker("only-503").min_calls(6).build().unwrap();
    let mut client = Stack::http()
        .fallback_to(Stack::new().layer(ServiceErrors).service(replica))
        .timeout(3000 * MS)
        .retry(retry)
        .breaker(breaker)
        .timeout(500 * MS)
        .layer(ServiceErrors)
        .service(client);

    for calls in [3, 6, 6, 6] {
        let response = client.ready().await.unwrap().call(request(primary)).await.unwrap();
        assert_eq!(response.text().await.unwrap(), "from the replica");
        assert_eq!(asked.load(Ordering::SeqCst), calls);
    }
    assert_eq!(retry.counts().retried, 4);
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test]
async fn the_same_around_hyper() {
    let address = closed_port().await;
    for client in [hyper(), hyper_http2()] {
        let retry = retry().build().unwrap();
        let breaker = breaker("hyper").min_calls(3).build().unwrap();
        let mut client =
            Stack::http().retry(retry).breaker(breaker).layer(ServiceErrors).service(client);
        let error = client.ready().await.unwrap().call(connections::get(address)).await;
        assert!(error.unwrap_err().policy_error().is_none());
        assert_eq!(retry.counts().retried, 2);
        assert_eq!(breaker.state(), State::Open);
        let why = breaker.snapshot().transitions[0].to_string();
        assert!(why.ends_with("lately 3 unreachable"), "{why}");
    }
}

/// One breaker for answers and one for connections, on one stack.
#[tokio::test]
async fn a_breaker_for_answers_and_one_for_connections() {
    let answers = breaker("answers").build().unwrap();
    let connecting = breaker("connecting").build().unwrap();
    let mut client = Stack::http()
        .breaker(answers)
        .layer(connecting.layer().classify(http::Connections))
        .layer(ServiceErrors)
        .service(reqwest().build().unwrap());

    let failing = serve(Router::new().fallback(|| async { StatusCode::BAD_GATEWAY })).await;
    for _ in 0..2 {
        client.ready().await.unwrap().call(request(failing)).await.unwrap();
    }
    assert_eq!((answers.state(), connecting.state()), (State::Open, State::Closed));

    answers.reset();
    let gone = closed_port().await;
    // Two good connections and two that failed, of which the answers' breaker has seen both.
    for _ in 0..2 {
        client.ready().await.unwrap().call(request(gone)).await.unwrap_err();
    }
    assert_eq!((answers.state(), connecting.state()), (State::Open, State::Open));
}

#[tokio::test]
async fn accepts_and_never_answers() {
    let (address, accepted) = raw(|mut stream| async move {
        read_head(&mut stream).await;
        std::future::pending::<()>().await;
    })
    .await;
    let breaker = breaker("silent").build().unwrap();
    let mut client = Stack::http()
        .breaker(breaker)
        .timeout(50 * MS)
        .layer(ServiceErrors)
        .service(reqwest().build().unwrap());
    for _ in 0..2 {
        let error = client.ready().await.unwrap().call(request(address)).await.unwrap_err();
        assert_eq!(error.policy_error().unwrap().kind(), PolicyErrorKind::TimedOut);
    }
    assert_eq!(breaker.state(), State::Open);
    let error = client.ready().await.unwrap().call(request(address)).await.unwrap_err();
    assert_eq!(error.policy_error().unwrap().kind(), PolicyErrorKind::CircuitOpen);
    assert_eq!(accepted.load(Ordering::SeqCst), 2);
}

/// The caller goes away in the middle of a call: the connection is closed, nobody calls again on its
/// behalf, and nothing is counted; the probe that it was is somebody else's.
#[tokio::test]
async fn law_03_a_caller_that_cancels_in_mid_call() {
    let (told, mut closed) = tokio::sync::mpsc::unbounded_channel();
    let (address, accepted) = raw(move |mut stream| {
        let told = told.clone();
        async move {
            read_head(&mut stream).await;
            let end = tokio::io::AsyncReadExt::read(&mut stream, &mut [0]).await;
            told.send(matches!(end, Ok(0) | Err(_))).unwrap();
        }
    })
    .await;
    let breaker = breaker("cancelled").open_for(MS).probes(1).build().unwrap();
    let mut client = Stack::http()
        .timeout(10_000 * MS)
        .retry(retry().build().unwrap())
        .breaker(breaker)
        .timeout(5000 * MS)
        .layer(ServiceErrors)
        .service(reqwest().build().unwrap());
    let mut cancelled = async |calls| {
        let call = client.ready().await.unwrap().call(request(address));
        tokio::time::timeout(50 * MS, call).await.unwrap_err();
        let gone = tokio::time::timeout(2000 * MS, closed.recv()).await;
        assert_eq!(gone.expect("the connection is closed"), Some(true));
        assert_eq!(accepted.load(Ordering::SeqCst), calls);
    };
    cancelled(1).await;
    assert_eq!((breaker.snapshot().calls, breaker.state()), (0, State::Closed));

    breaker.force_open("to have it half-open", Some(MS));
    tokio::time::sleep(10 * MS).await;
    assert_eq!(breaker.state(), State::HalfOpen);
    // The one probe there is, twice.
    cancelled(2).await;
    cancelled(3).await;
    assert_eq!(breaker.state(), State::HalfOpen);
}

#[tokio::test]
async fn headers_that_come_one_letter_at_a_time() {
    let (address, _) = raw(|mut stream| async move {
        read_head(&mut stream).await;
        for letter in b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".chunks(1) {
            if stream.write_all(letter).await.is_err() {
                return;
            }
            tokio::time::sleep(20 * MS).await;
        }
    })
    .await;
    for client in [reqwest().build().unwrap(), reqwest().read_timeout(500 * MS).build().unwrap()] {
        let mut client = Stack::http().timeout(100 * MS).layer(ServiceErrors).service(client);
        let began = Instant::now();
        let error = client.ready().await.unwrap().call(request(address)).await.unwrap_err();
        assert_eq!(error.policy_error().unwrap().kind(), PolicyErrorKind::TimedOut);
        assert!(began.elapsed() < 400 * MS, "progress by letters does not extend the time");
    }
}

#[tokio::test]
async fn law_08_a_retry_waits_for_as_long_as_the_server_asks_in_both_forms() {
    let arrivals = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&arrivals);
    let address = serve(Router::new().fallback(move || {
        let mut log = log.lock().unwrap();
        log.push(Instant::now());
        let answer = match log.len() {
            1 => (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "1")]).into_response(),
            // By the server's clock, which is a little behind.
            2 => {
                let headers = [
                    ("date", "Sunday, 06-Nov-94 08:49:37 GMT"),
                    ("retry-after", "Sun, 06 Nov 1994 08:49:38 GMT"),
                ];
                (StatusCode::TOO_MANY_REQUESTS, headers).into_response()
            }
            _ => StatusCode::OK.into_response(),
        };
        async { answer }
    }))
    .await;
    let retry = retry().build().unwrap();
    let mut client =
        Stack::http().retry(retry).layer(ServiceErrors).service(reqwest().build().unwrap());
    let response = client.ready().await.unwrap().call(request(address)).await.unwrap();
    assert_eq!(response.status(), 200);
    let arrivals = arrivals.lock().unwrap();
    for gap in arrivals.windows(2).map(|pair| pair[1] - pair[0]) {
        assert!((1000 * MS..1500 * MS).contains(&gap), "{gap:?}");
    }
    assert_eq!(arrivals.len(), 3);
}

fn post(address: impl std::fmt::Display) -> reqwest::Request {
    let mut request = request(address);
    *request.method_mut() = reqwest::Method::POST;
    *request.body_mut() = Some("a payment".into());
    request
}

#[tokio::test]
async fn a_post_that_was_sent_is_not_sent_again() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let failing = serve(Router::new().fallback(move || {
        count.fetch_add(1, Ordering::SeqCst);
        async { StatusCode::SERVICE_UNAVAILABLE }
    }))
    .await;
    let mut client = Stack::http()
        .retry(retry().build().unwrap())
        .layer(ServiceErrors)
        .service(reqwest().build().unwrap());
    let mut with_key = post(failing);
    with_key.headers_mut().insert("idempotency-key", "8e03978e".parse().unwrap());
    let mut put = post(failing);
    *put.method_mut() = reqwest::Method::PUT;
    for (request, expected) in [(post(failing), 1), (with_key, 3), (put, 3)] {
        let response = client.ready().await.unwrap().call(request).await.unwrap();
        assert_eq!(response.status(), 503);
        assert_eq!(asked.swap(0, Ordering::SeqCst), expected);
    }
    // Nor where the answer is lost, and the server may have made the payment.
    let (resetting, accepted) = raw(|stream| answer_and_reset(stream, "")).await;
    for (request, expected) in [(post(resetting), 1), (request(resetting), 3)] {
        client.ready().await.unwrap().call(request).await.unwrap_err();
        assert_eq!(accepted.swap(0, Ordering::SeqCst), expected);
    }
    // But where the sender says that it may.
    let mut client = Stack::classified(http::Responses::new())
        .clone_with(http::Idempotent::or(|_: &reqwest::Request| true))
        .retry(retry().build().unwrap())
        .layer(ServiceErrors)
        .service(reqwest().build().unwrap());
    client.ready().await.unwrap().call(post(failing)).await.unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 3);
}

/// As the documentation of `http` asks for: a client that followed this redirect would only say that
/// there is no connection.
#[tokio::test]
async fn a_post_that_is_redirected_is_not_sent_again() {
    let gone = closed_port().await;
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let paid = serve(Router::new().fallback(move || {
        count.fetch_add(1, Ordering::SeqCst);
        async move { axum::response::Redirect::to(&format!("http://{gone}/receipt")) }
    }))
    .await;
    let direct = reqwest().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let retry = retry().build().unwrap();
    let mut client = Stack::http().retry(retry).layer(ServiceErrors).service(direct);
    let response = client.ready().await.unwrap().call(post(paid)).await.unwrap();
    assert_eq!((response.status(), asked.load(Ordering::SeqCst)), (StatusCode::SEE_OTHER, 1));
}

#[tokio::test]
async fn a_post_that_was_not_sent_is_sent_again() {
    let retry_of_posts = retry().build().unwrap();
    let mut client = Stack::http()
        .retry(retry_of_posts)
        .layer(ServiceErrors)
        .service(reqwest().build().unwrap());
    let gone = closed_port().await;
    client.ready().await.unwrap().call(post(gone)).await.unwrap_err();
    assert_eq!(retry_of_posts.counts().retried, 2);

    // A stream that the server refused, over HTTP/2.
    let (refusing, streams) = http2::resets(h2::Reason::REFUSED_STREAM).await;
    let mut client =
        Stack::http().retry(retry().build().unwrap()).layer(ServiceErrors).service(hyper_http2());
    let mut request = connections::get(refusing);
    *request.method_mut() = ::http::Method::POST;
    client.ready().await.unwrap().call(request).await.unwrap_err();
    assert_eq!(streams.load(Ordering::SeqCst), 3);
}

#[test]
fn what_reaches_every_layer_is_free_to_copy() {
    const RESPONSES: http::Responses = http::Responses::new();
    const fn is<T: Copy + Send + Sync + 'static>(_: T) {}
    is(RESPONSES);
    is(http::Connections);
    is(http::Idempotent);
    is(buttress::grpc::Statuses::new());
}
