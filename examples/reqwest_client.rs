//! A reqwest client that repeats what may be repeated, keeps to its time, and stops calling what is
//! down.
//!
//! ```text
//! cargo run --example reqwest_client --features reqwest
//! ```
//!
//! It starts the server that it calls.

use std::{
    error::Error as StdError,
    io,
    net::Ipv4Addr,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use axum::{
    Router,
    http::StatusCode,
    routing::{any, get},
};
use buttress::{
    CircuitBreaker, Error, PolicyError, PolicyErrorKind, Retry, ServiceErrors, Stack, StackError,
};
use reqwest::{Client, Method, Request, Response, Url, redirect::Policy};
use tokio::net::TcpListener;
use tower::{Service, ServiceExt};

/// The client of the shop. Build the two handles once: all clients made with them share their state.
fn protected(
    breaker: CircuitBreaker,
    retry: Retry,
    client: Client,
) -> impl Service<Request, Response = Response, Error = Error<reqwest::Error>> + Clone {
    Stack::http()
        .timeout(Duration::from_secs(3)) // the whole operation
        .retry(retry) // under a budget, only what may be executed twice
        .breaker(breaker) // refuses what is bound to fail
        .timeout(Duration::from_millis(500)) // each attempt
        .layer(ServiceErrors)
        .service(client)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn StdError>> {
    let shop = start_shop().await?;
    let breaker = CircuitBreaker::builder("shop").consecutive_failures(4).build()?;
    let retry = Retry::builder("shop").max_attempts(3).build()?;
    // No proxy of the environment is asked to reach the loopback. And no redirect is followed: when
    // one leads nowhere, a client only says that nothing was sent, and so an order is sent again.
    let client = Client::builder().no_proxy().redirect(Policy::none()).build()?;
    let client = protected(breaker, retry, client);

    println!("Every third request to /orders is answered, the others get a 503.");
    let list = Request::new(Method::GET, shop.join("/orders")?);
    let response = client.clone().oneshot(list).await?;
    println!("GET  /orders: {} at attempt {}", response.status(), requests());
    assert_eq!((response.status(), requests()), (StatusCode::OK, 3));

    let order = Request::new(Method::POST, shop.join("/orders")?);
    let response = client.clone().oneshot(order).await?;
    println!("POST /orders: {}, and not sent again: it may be a payment", response.status());
    assert_eq!((response.status(), requests()), (StatusCode::SERVICE_UNAVAILABLE, 4));

    let mut order = Request::new(Method::POST, shop.join("/orders")?);
    order.headers_mut().insert("idempotency-key", "8e03978e".parse()?);
    let response = client.clone().oneshot(order).await?;
    println!("POST /orders with an Idempotency-Key: {}, sent twice", response.status());
    assert_eq!((response.status(), requests()), (StatusCode::OK, 6));

    println!("\nEvery request to /reports gets a 500.");
    let report = || Request::new(Method::GET, shop.join("/reports").expect("a path"));
    let response = client.clone().oneshot(report()).await?;
    println!("GET  /reports: {} at the last of three attempts", response.status());
    assert_eq!((response.status(), requests()), (StatusCode::INTERNAL_SERVER_ERROR, 9));

    // One more failure, the fourth in a row, opens the circuit: the retry ends, and so would every
    // call from here on, without a request.
    for _ in 0..2 {
        let error = client.clone().oneshot(report()).await.expect_err("the circuit is open");
        println!("GET  /reports: {error}");
        let refusal = error.policy_error().map(PolicyError::kind);
        assert_eq!((refusal, requests()), (Some(PolicyErrorKind::CircuitOpen), 10));
    }

    println!("\nThat was {} requests, {} of them retries.", requests(), retry.counts().retried);
    Ok(())
}

/// How many requests have reached the shop.
static REQUESTS: AtomicU32 = AtomicU32::new(0);

fn requests() -> u32 {
    REQUESTS.load(Ordering::SeqCst)
}

/// A server on a free port.
async fn start_shop() -> io::Result<Url> {
    let orders = || async {
        let number = REQUESTS.fetch_add(1, Ordering::SeqCst) + 1;
        if number.is_multiple_of(3) { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
    };
    let reports = || async {
        REQUESTS.fetch_add(1, Ordering::SeqCst);
        StatusCode::INTERNAL_SERVER_ERROR
    };
    let app = Router::new().route("/orders", any(orders)).route("/reports", get(reports));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let url = format!("http://{}/", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(url.parse().expect("an address makes a URL"))
}
