//! An axum server whose routes share one breaker, that heeds its callers' deadlines and hands them
//! on, and that says in plain HTTP why it refuses something.
//!
//! ```text
//! cargo run --example axum_server --features axum,reqwest
//! ```
//!
//! Two servers run in it: a shop, and the warehouse that the shop asks.

use std::{error::Error as StdError, future::pending, io, net::Ipv4Addr, time::Duration};

use axum::{
    Router,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::get,
};
use buttress::{
    CircuitBreaker, Error, ServiceErrors, Stack, TaskContext,
    http::{ExtensionContext, InboundLayer, PropagateLayer, Refusals},
};
use reqwest::{Client, Method, Request, redirect::Policy};
use tokio::{net::TcpListener, time::Instant};
use tower::ServiceExt;

/// What a caller has left, in milliseconds: Envoy's header, as `PropagateLayer` writes it.
const TIME_LEFT: &str = "x-envoy-expected-rq-timeout-ms";

/// The shop. Its routes know nothing of deadlines.
fn shop(breaker: CircuitBreaker, warehouse: &str) -> Router {
    // The calls it makes itself: they inherit what is left of the caller's time, with the task.
    let client = Stack::http()
        .context(TaskContext)
        .timeout(Duration::from_secs(1))
        .layer(PropagateLayer::new().context(TaskContext))
        .layer(ServiceErrors)
        .service(http_client().expect("nothing is configured"));
    let ask = |path: &str| {
        let url = format!("{warehouse}{path}").parse().expect("an address makes a URL");
        let client = client.clone();
        move || async move { answer(client.oneshot(Request::new(Method::GET, url)).await).await }
    };

    // axum makes a service of this for every route; they share the one breaker all the same.
    let policies = Stack::http()
        .context(ExtensionContext)
        .layer(Refusals) // refusals are responses, so a route is still one that cannot fail
        .breaker(breaker)
        .timeout(Duration::from_secs(5))
        .layer(ServiceErrors);
    Router::new()
        .route("/stock", get(ask("/stock")))
        .route("/history", get(ask("/never")))
        .route("/prices", get(|| async { StatusCode::INTERNAL_SERVER_ERROR }))
        .layer(policies)
        // Outermost: reads what callers say of their time, which can only shorten the limit here.
        .layer(InboundLayer::new().limit(Duration::from_secs(5)).trust_inbound())
}

/// The warehouse's answer, as the shop's.
async fn answer(outcome: Result<reqwest::Response, Error<reqwest::Error>>) -> Response {
    match outcome {
        Ok(response) => response.text().await.unwrap_or_default().into_response(),
        Err(Error::Policy(refusal)) => refusal.into_response(),
        Err(Error::Service(_)) => StatusCode::BAD_GATEWAY.into_response(),
    }
}

fn warehouse() -> Router {
    let stock = |headers: HeaderMap| async move {
        let left = headers.get(TIME_LEFT).and_then(|left| left.to_str().ok());
        format!("42 in stock, said with {} ms left", left.unwrap_or("no"))
    };
    Router::new().route("/stock", get(stock)).route("/never", get(pending::<()>))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn StdError>> {
    let breaker = CircuitBreaker::builder("shop").consecutive_failures(3).build()?;
    let warehouse = serve(warehouse()).await?;
    let shop = serve(shop(breaker, &warehouse)).await?;

    println!("The warehouse never answers, and the caller has 200 ms:");
    let start = Instant::now();
    let (status, text) = get_from(&shop, "/history", 200).await?;
    println!("GET /history: {status} after {:.0?}: {text}", start.elapsed());
    assert!(status == StatusCode::GATEWAY_TIMEOUT && start.elapsed() < Duration::from_secs(1));

    println!("\nA caller who has 800 ms, as the warehouse behind the shop sees it:");
    let (status, text) = get_from(&shop, "/stock", 800).await?;
    println!("GET /stock: {status}: {text}");
    let left = text.split(' ').rev().nth(2).and_then(|left| left.parse::<u64>().ok());
    assert!(status == StatusCode::OK && left.is_some_and(|left| left < 800));

    // That good answer has also ended the row of failures that the 504 had begun: to whoever reads
    // a 504, the shop's own breaker too, it is one.
    println!("\nThree failures of one route open the circuit for all of them:");
    for _ in 0..3 {
        let (status, _) = get_from(&shop, "/prices", 800).await?;
        println!("GET /prices: {status}");
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    }
    let (status, text) = get_from(&shop, "/stock", 800).await?;
    println!("GET /stock: {status}: {text}");
    println!("What the caller is not told: {}", breaker.snapshot().transitions[0]);
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    Ok(())
}

/// It asks no proxy of the environment to reach the loopback. And it follows no redirect: when one
/// leads nowhere, a client only says that nothing was sent.
fn http_client() -> reqwest::Result<Client> {
    Client::builder().no_proxy().redirect(Policy::none()).build()
}

/// Any client that says how long it waits. Responses to refusals also have a `Retry-After`.
async fn get_from(server: &str, path: &str, ms: u64) -> reqwest::Result<(StatusCode, String)> {
    let request = http_client()?.get(format!("{server}{path}")).header(TIME_LEFT, ms);
    let response = request.send().await?;
    Ok((response.status(), response.text().await?))
}

/// Serves on a free port.
async fn serve(app: Router) -> io::Result<String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(url)
}
