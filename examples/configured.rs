//! The standard stack from a TOML file, overridden from the environment.
//!
//! ```text
//! cargo run --example configured --features serde,reqwest
//! cargo run --example configured --features serde,reqwest -- path/to/another.toml
//! ```
//!
//! An environment variable overrides a field of the file. Its name is `ORDERS`, the table and the
//! field, joined by two underscores, because one is part of many names:
//!
//! ```text
//! ORDERS__BREAKER__FAILURE_RATIO=0.3 ORDERS__RETRY__BACKOFF__BASE=5ms \
//! ORDERS__FALLBACK__WHEN=refused cargo run --example configured --features serde,reqwest
//! ```
//!
//! `ORDERS__FALLBACK=false` leaves a part out. A value that makes no sense, by itself or beside the
//! others, ends the program with exit code 2 and one line that names the field and what it allows:
//!
//! ```text
//! ORDERS__BREAKER__FAILURE_RATIO=1.5 cargo run --example configured --features serde,reqwest
//! ORDERS__TIMEOUT__AFTER=500ms cargo run --example configured --features serde,reqwest
//! ```

use std::{
    env,
    error::Error,
    io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use buttress::{
    CircuitBreaker, ServiceErrors, Stack, Standard, StandardConfig,
    http::{Idempotent, Responses},
};
use config::{Config, Environment, File};
use reqwest::{Client, Method, Request, Response, Url, redirect::Policy};
use tokio::net::TcpListener;
use tower::{Service, ServiceExt};

fn read(file: &Path) -> Result<StandardConfig, config::ConfigError> {
    let environment = Environment::with_prefix("ORDERS")
        .prefix_separator("__")
        .separator("__")
        // Numbers as numbers; and the one field that is a list, as a list.
        .try_parsing(true)
        .list_separator(",")
        .with_list_parse_key("fallback.when");
    Config::builder()
        .add_source(File::from(file))
        .add_source(environment)
        .build()?
        .try_deserialize()
}

/// The HTTP client with the policies around it.
fn protected(
    standard: Standard,
    client: Client,
) -> impl Service<Request, Response = Response, Error = buttress::Error<reqwest::Error>> + Clone {
    // What `Stack::http().standard(standard)` makes, and around it the fallback, unless the file
    // has none.
    let policies = standard
        .layer()
        .classify(Responses::new())
        .clone_with(Idempotent)
        .fallback(|fallback| fallback.to_fn(|_| Ok(sorry())));
    Stack::new().layer(policies).layer(ServiceErrors).service(client)
}

/// The answer of the fallback.
fn sorry() -> Response {
    axum::http::Response::new("the fallback's answer").into()
}

#[tokio::main]
async fn main() -> ExitCode {
    let here = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/configured.toml");
    let file = env::args_os().nth(1).map_or_else(|| PathBuf::from(here), PathBuf::from);
    let (effective, standard) = match configure(&file) {
        Ok(configured) => configured,
        Err(error) => return exit(2, &*error),
    };
    println!("# The configuration in effect\n{effective}");
    match make_some_calls(standard).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit(1, &*error),
    }
}

/// The policies, and the configuration they were built from with every default filled in.
fn configure(file: &Path) -> Result<(String, Standard), Box<dyn Error>> {
    let config = read(file)?;
    let effective = toml::to_string(&config)?;
    Ok((effective, Standard::from_config("orders", config)?))
}

fn exit(code: u8, error: &dyn Error) -> ExitCode {
    eprintln!("configured: {error}");
    ExitCode::from(code)
}

async fn make_some_calls(standard: Standard) -> Result<(), Box<dyn Error>> {
    let url = start_server().await?;
    // No proxy of the environment is asked to reach the loopback. And no redirect is followed: when
    // one leads nowhere, a client only says that nothing was sent, and so anything is sent again.
    let client = Client::builder().no_proxy().redirect(Policy::none()).build()?;
    let client = protected(standard, client);
    for number in 1..=20 {
        match client.clone().oneshot(Request::new(Method::GET, url.clone())).await {
            Ok(response) => println!("call {number:>2}: {}", response.text().await?),
            Err(error) => println!("call {number:>2}: {error}"),
        }
    }
    println!();
    // A part that is switched off has no handle.
    let breaker = standard.breaker().map(CircuitBreaker::snapshot);
    for transition in breaker.map(|breaker| breaker.transitions).unwrap_or_default() {
        println!("breaker: {transition}");
    }
    if let Some(retry) = standard.retry() {
        println!("retry: {:?}", retry.counts());
    }
    if let Some(fallback) = standard.fallback() {
        println!("fallback: {:?}", fallback.counts());
    }
    Ok(())
}

/// A server that is well for ten requests and then answers nothing but 503.
async fn start_server() -> io::Result<Url> {
    let answer = async |State(requests): State<Arc<AtomicU32>>| {
        let number = requests.fetch_add(1, Ordering::Relaxed) + 1;
        let status = if number <= 10 { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        (status, format!("the server's answer to request {number}"))
    };
    let router = Router::new().route("/orders", get(answer)).with_state(Arc::default());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let url = format!("http://{}/orders", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(url.parse().expect("an address makes a URL"))
}
