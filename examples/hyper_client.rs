//! A hyper client that knows how much time is left, does not use more, and tells the next tier.
//!
//! ```text
//! cargo run --example hyper_client --features hyper-util
//! ```
//!
//! It starts the server that it calls. Two headers tell that server what the client knows: how long
//! the answer is wanted, and that somebody repeats the call already. An `http::InboundLayer` would
//! read them; see the example `axum_server`.

use std::{error::Error as StdError, future::pending, io, net::Ipv4Addr, time::Duration};

use axum::{Router, http::HeaderMap, routing::get};
use buttress::{
    CallContext, CircuitBreaker, PolicyErrorKind, Retry, ServiceErrors, Stack, StackError, http,
};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, Response, body::Incoming};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::{net::TcpListener, time::Instant};
use tower::{Service, ServiceExt};

type Error = buttress::Error<hyper_util::client::legacy::Error>;

/// The client, and its policies. The context of a call, its deadline and its attempt, travels in
/// the extensions of the request, from the outermost layer to the innermost.
fn protected(
    breaker: CircuitBreaker,
    retry: Retry,
) -> impl Service<Request<Empty<Bytes>>, Response = Response<Incoming>, Error = Error> + Clone {
    Stack::http()
        .context(http::ExtensionContext)
        .timeout(Duration::from_secs(1)) // sets the deadline
        .retry(retry) // starts nothing that cannot end by then
        .breaker(breaker)
        .timeout(Duration::from_millis(400)) // draws it nearer, for each attempt
        .layer(http::PropagateLayer::new()) // writes what is left into the headers
        .layer(ServiceErrors)
        .service(Client::builder(TokioExecutor::new()).build_http())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn StdError>> {
    let server = start_server().await?;
    let breaker = CircuitBreaker::builder("server").build()?;
    let retry = Retry::builder("server").build()?;
    let client = protected(breaker, retry);
    let get = |path| Request::get(format!("{server}{path}")).body(Empty::new());

    println!("What the server is told:");
    let response = client.clone().oneshot(get("/headers")?).await?;
    let told = response.into_body().collect().await?.to_bytes();
    let told = str::from_utf8(&told)?;
    println!("{told}");
    assert!(told.contains("buttress-attempt: 1\n"));
    assert!(told.contains("x-envoy-expected-rq-timeout-ms: 3"), "below 400");

    println!("A server that never answers, and a limit of 1 s for the operation:");
    let (error, took) = fails(client.clone().oneshot(get("/never")?)).await;
    println!("after {took:.0?}: {error}");
    println!("the breaker counts {} failures", breaker.snapshot().failures);
    assert!(took < Duration::from_millis(1500) && breaker.snapshot().failures >= 2);

    // Where the caller has less time than these policies would take, that is what counts: nobody's
    // attempt and nobody's wait goes past it. It is the caller's hurry, and no failure of the server.
    println!("\nThe same, with a caller in a hurry:");
    let failures = breaker.snapshot().failures;
    let mut hurried = get("/never")?;
    hurried.extensions_mut().insert(CallContext::new().due_in(Duration::from_millis(100)));
    let (error, took) = fails(client.clone().oneshot(hurried)).await;
    println!("after {took:.0?}: {error}");
    println!("the breaker counts {} failures", breaker.snapshot().failures);
    assert!(took < Duration::from_millis(400) && breaker.snapshot().failures == failures);

    println!("\nAnd with one who is too late:");
    let mut late = get("/headers")?;
    late.extensions_mut().insert(CallContext::new().due(Instant::now()));
    let (error, took) = fails(client.oneshot(late)).await;
    println!("after {took:.0?}, and nothing was sent: {error}");
    let refusal = error.policy_error().expect("a policy refused it");
    assert_eq!(refusal.kind(), PolicyErrorKind::DeadlineTooShort);
    assert!(!refusal.reached_service());
    Ok(())
}

/// The error that this call ends with, and how long that took.
async fn fails(call: impl Future<Output = Result<Response<Incoming>, Error>>) -> (Error, Duration) {
    let start = Instant::now();
    let error = call.await.expect_err("there is no answer in time");
    (error, start.elapsed())
}

/// A server on a free port: one page shows the headers of its request, the other never comes.
async fn start_server() -> io::Result<String> {
    let show = |headers: HeaderMap| async move {
        let line = |(name, value)| format!("  {name}: {value:?}\n").replace('"', "");
        headers.iter().filter(|(name, _)| *name != "host").map(line).collect::<String>()
    };
    let app = Router::new().route("/headers", get(show)).route("/never", get(pending::<()>));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(url)
}
