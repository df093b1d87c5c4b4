//! Deadlines and attempts over the wire: real servers, real clients.
#![cfg(all(feature = "http", feature = "reqwest"))]
#![allow(missing_docs)]

use std::{
    convert::Infallible,
    net::SocketAddr,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, extract::State, response::IntoResponse};
use buttress::{
    Backoff, CallContext, CircuitBreaker, Error, PolicyErrorKind, Retry, ServiceErrors, Stack,
    StackError, TaskContext, Timeout,
    http::{ExtensionContext, InboundLayer, PropagateLayer},
    retry::RetryBuilder,
    standard::OptionalLayer,
};
use http::{HeaderName, Request, StatusCode};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::{net::TcpListener, time::Instant};
use tower::{Layer, Service, ServiceExt, service_fn};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

async fn serve(app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    address
}

/// What the clients send, which can be copied.
type Nothing = http_body_util::Empty<bytes::Bytes>;

fn get(address: SocketAddr) -> Request<Nothing> {
    Request::get(format!("http://{address}/")).body(Nothing::new()).unwrap()
}

fn client() -> Client<HttpConnector, Nothing> {
    Client::builder(TokioExecutor::new()).build_http()
}

async fn text(response: http::Response<hyper::body::Incoming>) -> String {
    let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap();
    String::from_utf8(body.to_bytes().to_vec()).unwrap()
}

/// Answers with what it was told: the headers on the wire, in alphabetical order.
async fn echo(request: Request<Body>) -> String {
    let told = |name: &HeaderName| {
        let name = name.as_str();
        name.contains("timeout") || name.contains("attempt") || name.starts_with("time-")
    };
    let headers = request.headers().iter().filter(|(name, _)| told(name));
    let mut headers: Vec<_> =
        headers.map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    headers.sort();
    headers.join("\n")
}

/// Answers with what a layer in front of it has put into the extensions and around the task, which
/// must be the same: the time left, in tenths of a second rounded up, and the attempt.
async fn context(request: Request<Body>) -> String {
    let extension = request.extensions().get::<CallContext>().copied();
    assert_eq!(extension.unwrap_or_default(), CallContext::current());
    let context = CallContext::current();
    let tenths = context.time_left().map(|left| left.as_millis().div_ceil(100));
    format!("{tenths:?} {:?}", context.attempt.map(NonZeroU32::get))
}

/// The number at the end of a header's line.
fn number(line: &str) -> u64 {
    let digits = line.trim_end_matches(|last: char| !last.is_ascii_digit());
    digits.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn what_is_known_goes_out_with_each_attempt() {
    let address = serve(Router::new().fallback(echo)).await;
    let retry = Retry::builder("echo").build().unwrap();
    let stack = || Stack::http().context(ExtensionContext).timeout(ms(30_000)).retry(retry);

    let plain = stack().timeout(ms(20_000)).layer(PropagateLayer::new()).layer(ServiceErrors);
    let told = text(plain.service(client()).oneshot(get(address)).await.unwrap()).await;
    let lines: Vec<_> = told.lines().collect();
    assert_eq!(lines.len(), 2, "{told}");
    assert_eq!(lines[0], "buttress-attempt: 1");
    assert!(lines[1].starts_with("x-envoy-expected-rq-timeout-ms: "), "{told}");
    assert!((19_000..20_000).contains(&number(lines[1])), "{told}");

    let grpc = stack().layer(PropagateLayer::grpc()).layer(ServiceErrors).service(client());
    let told = text(grpc.clone().oneshot(get(address)).await.unwrap()).await;
    let lines: Vec<_> = told.lines().collect();
    assert_eq!(lines[0], "buttress-attempt: 1");
    assert!(lines[1].starts_with("grpc-timeout: ") && lines[1].ends_with('u'), "{told}");
    assert!((29_000_000..30_000_000).contains(&number(lines[1])), "{told}");
    // A shorter limit of the request's own stays, as tonic's clients write it.
    let mut hurried = get(address);
    hurried.headers_mut().insert("grpc-timeout", "900m".parse().unwrap());
    let told = text(grpc.oneshot(hurried).await.unwrap()).await;
    assert_eq!(told, "buttress-attempt: 1\ngrpc-timeout: 900m");

    let [time, attempt] = ["time-left", "the-attempt"].map(HeaderName::from_static);
    let named = PropagateLayer::new().deadline_header(time).attempt_header(attempt);
    let named = stack().layer(named).layer(ServiceErrors).service(client());
    let told = text(named.oneshot(get(address)).await.unwrap()).await;
    assert!(told.starts_with("the-attempt: 1\ntime-left: 29"), "{told}");

    // Nothing is made up where nothing is known.
    let unknown = Stack::http().context(ExtensionContext).layer(PropagateLayer::new());
    let unknown = unknown.layer(ServiceErrors).service(client());
    assert_eq!(text(unknown.oneshot(get(address)).await.unwrap()).await, "");
}

#[tokio::test]
async fn nothing_is_sent_that_cannot_be_answered_in_time() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let server = Router::new().fallback(move || {
        counted.fetch_add(1, Ordering::SeqCst);
        std::future::ready("too late")
    });
    let address = serve(server).await;
    let service = Stack::http().context(ExtensionContext).layer(PropagateLayer::new());
    let service = service.layer(ServiceErrors).service(client());
    let mut late = get(address);
    late.extensions_mut().insert(CallContext::new().due_in(Duration::from_micros(500)));
    let error = service.oneshot(late).await.unwrap_err();
    let policy = error.policy_error().unwrap();
    assert_eq!(
        (policy.kind(), policy.reached_service()),
        (PolicyErrorKind::DeadlineTooShort, false)
    );
    assert_eq!(calls.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn inbound_headers_are_ignored_without_trust() {
    let ignoring = serve(Router::new().fallback(context).layer(InboundLayer::new())).await;
    let limited = InboundLayer::new().limit(ms(5_000));
    let limited = serve(Router::new().fallback(context).layer(limited)).await;
    let trusting = InboundLayer::new().limit(ms(5_000)).trust_inbound();
    let trusting = serve(Router::new().fallback(context).layer(trusting)).await;
    let ask = async |address, headers: &[(&'static str, &'static str)]| {
        let mut request = get(address);
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        text(client().request(request).await.unwrap()).await
    };

    let short = [("x-envoy-expected-rq-timeout-ms", "2000"), ("buttress-attempt", "3")];
    assert_eq!(ask(ignoring, &short).await, "None None");
    assert_eq!(ask(limited, &short).await, "Some(50) None");
    assert_eq!(ask(trusting, &short).await, "Some(20) Some(3)");
    let grpc = [("grpc-timeout", "1S"), ("grpc-previous-rpc-attempts", "1")];
    assert_eq!(ask(trusting, &grpc).await, "Some(10) Some(2)");
    assert_eq!(ask(limited, &grpc).await, "Some(50) None");
    // It can only shorten, and what cannot be read is as good as none.
    assert_eq!(ask(trusting, &[("grpc-timeout", "99999999H")]).await, "Some(50) None");
    assert_eq!(ask(trusting, &[("grpc-timeout", "never"), short[1]]).await, "Some(50) Some(3)");
    assert_eq!(ask(trusting, &[("x-envoy-expected-rq-timeout-ms", "0")]).await, "Some(50) None");
}

/// A request that knows something already, in front of a task that knows more.
#[tokio::test(start_paused = true)]
async fn inbound_the_sooner_deadline_of_request_and_task_holds() {
    let inbound = InboundLayer::new().layer(service_fn(async |request: Request<Body>| {
        Ok::<_, Infallible>(context(request).await)
    }));
    let ask = async |request: CallContext, task: CallContext| {
        let mut asked = Request::new(Body::empty());
        asked.extensions_mut().insert(request);
        task.scope(inbound.oneshot(asked)).await.unwrap()
    };
    let (near, far) = (CallContext::new().due_in(ms(1_000)), CallContext::new().due_in(ms(9_000)));
    assert_eq!(ask(far, near.attempt(2)).await, "Some(10) Some(2)");
    assert_eq!(ask(near.attempt(3), far.attempt(2)).await, "Some(10) Some(3)");
}

/// A handler's calls to the next tier, with reqwest, whose requests carry nothing.
#[tokio::test]
async fn the_calls_of_an_axum_handler_inherit_what_the_server_was_told() {
    let next = serve(Router::new().fallback(echo)).await;
    let retry = Retry::builder("next").build().unwrap();
    let client = Stack::http()
        .context(TaskContext)
        .timeout(ms(30_000))
        .retry(retry)
        .timeout(ms(20_000))
        .layer(PropagateLayer::new().context(TaskContext))
        .layer(ServiceErrors)
        .service(reqwest::Client::new());
    let handler = move || {
        let client = client.clone();
        async move {
            tokio::task::yield_now().await;
            let request = reqwest::Request::new(
                reqwest::Method::GET,
                format!("http://{next}/").parse().unwrap(),
            );
            client.oneshot(request).await.unwrap().text().await.unwrap()
        }
    };
    let front = Router::new().fallback(handler).layer(InboundLayer::new().trust_inbound());
    let front = serve(front).await;

    let mut request = get(front);
    request.headers_mut().insert("x-envoy-expected-rq-timeout-ms", "2000".parse().unwrap());
    request.headers_mut().insert("buttress-attempt", "2".parse().unwrap());
    let told = text(self::client().request(request).await.unwrap()).await;
    let lines: Vec<_> = told.lines().collect();
    assert_eq!(lines[0], "buttress-attempt: 2", "the handler's retry leaves it to the one above");
    assert!((1_000..2_000).contains(&number(lines[1])), "{told}");

    // Left alone, the handler's own limits and attempts go out.
    let told = text(self::client().request(get(front)).await.unwrap()).await;
    let lines: Vec<_> = told.lines().collect();
    assert_eq!(lines[0], "buttress-attempt: 1");
    assert!((19_000..20_000).contains(&number(lines[1])), "{told}");
}

/// The same over hyper, and the deadline ends the handler's call and the handler.
#[tokio::test]
async fn a_deadline_from_the_wire_ends_the_call_two_tiers_down() {
    let hangs = Router::new().fallback(|| async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        "never"
    });
    let hangs = serve(hangs).await;
    let breaker = buttress::CircuitBreaker::builder("hangs").min_calls(1).build().unwrap();
    let client = Stack::http()
        .context(ExtensionContext)
        .breaker(breaker)
        .timeout(ms(30_000))
        .layer(PropagateLayer::new())
        .layer(ServiceErrors)
        .service(self::client());
    let handler = move || {
        let client = client.clone();
        async move {
            let error = client.oneshot(get(hangs)).await.unwrap_err();
            error.policy_error().unwrap().kind().as_str()
        }
    };
    // And once more in front of the handler, with the extensions that the inbound layer has set.
    let in_time = service_fn(|request: Request<Nothing>| async move {
        assert!(request.extensions().get::<CallContext>().unwrap().deadline.is_some());
        Ok::<_, Error<Infallible>>(())
    });
    let in_time = Timeout::after(ms(30_000)).layer().context(ExtensionContext).layer(in_time);
    let front = Router::new().fallback(handler).layer(InboundLayer::new().trust_inbound());
    let front = serve(front).await;
    let mut request = get(front);
    request.headers_mut().insert("grpc-timeout", "150m".parse().unwrap());
    let start = Instant::now();
    assert_eq!(text(self::client().request(request).await.unwrap()).await, "timed_out");
    assert!((ms(140)..ms(5_000)).contains(&start.elapsed()), "{:?}", start.elapsed());
    assert_eq!(breaker.snapshot().failures, 0, "a caller in a hurry is no failure");
    let mut inbound = InboundLayer::new().limit(ms(100)).layer(in_time);
    inbound.ready().await.unwrap().call(get(front)).await.unwrap();
}

/// Three attempts, a millisecond apart.
fn three_attempts(tier: usize) -> RetryBuilder {
    let backoff = Backoff::constant(ms(1)).jitter(buttress::Jitter::None);
    Retry::builder(format!("tier {tier}")).max_attempts(3).backoff(backoff)
}

const TIERS: usize = 5;

/// How often the server at the bottom is called when so many requests enter at the top of five
/// tiers, each an axum server that calls the next through a stack with a retry, and it always fails.
async fn amplification(requests: usize, propagation: bool, budgets: bool) -> usize {
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = |State(calls): State<Arc<AtomicUsize>>| async move {
        calls.fetch_add(1, Ordering::SeqCst);
        StatusCode::SERVICE_UNAVAILABLE
    };
    let mut next = serve(Router::new().fallback(counter).with_state(Arc::clone(&calls))).await;
    for tier in 0..TIERS {
        let retry = three_attempts(tier);
        let retry = if budgets { retry } else { retry.without_budget() }.build().unwrap();
        let address = next;
        next = if propagation {
            let client = Stack::http()
                .context(ExtensionContext)
                .timeout(Duration::from_secs(30))
                .retry(retry)
                .layer(PropagateLayer::new())
                .layer(ServiceErrors)
                .service(client());
            let handler = move || pass_on(client.clone(), get(address));
            serve(Router::new().fallback(handler).layer(InboundLayer::new().trust_inbound())).await
        } else {
            let client = Stack::http().retry(retry).layer(ServiceErrors).service(client());
            serve(Router::new().fallback(move || pass_on(client.clone(), get(address)))).await
        };
    }
    let client = client();
    for _ in 0..requests {
        let response = client.request(get(next)).await.unwrap();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
    calls.load(Ordering::SeqCst)
}

/// What a tier does with a request: it asks the next one.
async fn pass_on<S, E>(client: S, request: Request<Nothing>) -> impl IntoResponse
where
    S: Service<
            Request<Nothing>,
            Response = http::Response<hyper::body::Incoming>,
            Error = Error<E>,
        >,
{
    client.oneshot(request).await.map_or(StatusCode::BAD_GATEWAY, |response| response.status())
}

#[tokio::test]
async fn law_07_five_tiers_of_three_attempts_amplify_an_outage_243_times_or_hardly_at_all() {
    assert_eq!(amplification(1, false, false).await, 243);
    // Told of each other they repeat in one place, the topmost.
    assert_eq!(amplification(1, true, false).await, 3);
    // And over a run of requests that place runs out of budget.
    let (requests, calls) = (100, amplification(100, true, true).await);
    assert!((requests..2 * requests).contains(&calls), "{calls} calls for {requests} requests");
    println!("amplification: {:.2} with both, 243 with neither", calls as f64 / requests as f64);
}

/// The server heeds the deadline it is told, so that its answer, and not a timer here, is what ends
/// the call. Whose limit that was decides what it means.
#[tokio::test]
async fn an_answer_that_the_time_is_up_counts_against_nobody_but_a_timeout_of_our_own() {
    let server = Stack::new()
        .context(ExtensionContext)
        .layer(InboundLayer::new().trust_inbound())
        .layer(buttress::http::Refusals)
        .timeout(ms(10_000))
        .layer(ServiceErrors);
    let never = || std::future::pending::<&str>();
    let address = serve(Router::new().fallback(never).layer(server)).await;

    // A limit of our own, where there is one, and the caller's; and the failures a breaker counts.
    for (own, callers, failures) in [(None, 60, 0), (Some(ms(60)), 2000, 4)] {
        let breaker = CircuitBreaker::builder("next tier").build().unwrap();
        let limit = own.map(|own| Timeout::after(own).layer().context(ExtensionContext));
        let client = Stack::http()
            .breaker(breaker)
            .layer(OptionalLayer::from(limit))
            .layer(PropagateLayer::new())
            .layer(ServiceErrors)
            .service(client());
        for _ in 0..4 {
            let mut request = get(address);
            request.extensions_mut().insert(CallContext::new().due_in(ms(callers)));
            let error = client.clone().oneshot(request).await.unwrap_err();
            assert_eq!(error.policy_error().unwrap().kind(), PolicyErrorKind::TimedOut);
        }
        assert_eq!(breaker.snapshot().failures, failures, "limits of {own:?} and {callers} ms");
        assert_eq!(breaker.snapshot().calls, failures);
    }
}

/// A tier that needs more time than it is left refuses at once, and says whose fault that is.
#[tokio::test]
async fn a_refusal_of_the_next_tier_for_want_of_time_counts_against_nobody() {
    let patient = Timeout::builder("patient").after(ms(1000)).min_remaining(ms(500));
    let server = Stack::new()
        .context(ExtensionContext)
        .layer(InboundLayer::new().trust_inbound())
        .layer(buttress::http::Refusals)
        .timeout(patient.build().unwrap())
        .layer(ServiceErrors);
    let address = serve(Router::new().fallback(async || "in time").layer(server)).await;
    let breaker = CircuitBreaker::builder("patient").build().unwrap();
    let retry = Retry::builder("patient").build().unwrap();
    let client = Stack::http()
        .context(ExtensionContext)
        .retry(retry)
        .breaker(breaker)
        .layer(PropagateLayer::new())
        .layer(ServiceErrors)
        .service(client());

    let mut hurried = get(address);
    hurried.extensions_mut().insert(CallContext::new().due_in(ms(300)));
    let response = client.clone().oneshot(hurried).await.unwrap();
    assert_eq!((response.status().as_u16(), breaker.snapshot().calls), (504, 0));
    assert_eq!(response.headers()["buttress-refusal"], "deadline_too_short");
    assert_eq!(retry.counts().retried, 0);

    // Nor can a stranger make it so, over a proxy that does not trust him but is trusted.
    let proxy = InboundLayer::new().layer(service_fn(move |inbound: Request<()>| {
        let mut request = get(address);
        *request.headers_mut() = inbound.headers().clone();
        *request.extensions_mut() = inbound.extensions().clone();
        client.clone().oneshot(request)
    }));
    let stranger = Request::get("/").header("x-envoy-expected-rq-timeout-ms", "1");
    let stranger = stranger.header("grpc-timeout", "1m").header("buttress-attempt", "1");
    let response = proxy.oneshot(stranger.body(()).unwrap()).await.unwrap();
    assert_eq!(text(response).await, "in time");
}
