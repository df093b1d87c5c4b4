//! A stack of policies from a TOML file, overridden from the environment.
//!
//! ```text
//! cargo run --example configured --features serde
//! cargo run --example configured --features serde -- path/to/another.toml
//! ```
//!
//! An environment variable overrides a field of the file. Its name is `ORDERS`, the table and the
//! field, joined by two underscores, because one is part of many names:
//!
//! ```text
//! ORDERS__BREAKER__FAILURE_RATIO=0.3 ORDERS__RETRY__BACKOFF__BASE=5ms \
//! ORDERS__FALLBACK__WHEN=refused cargo run --example configured --features serde
//! ```
//!
//! A value that makes no sense ends the program with exit code 2 and one line that names the field
//! and what it allows:
//!
//! ```text
//! ORDERS__BREAKER__FAILURE_RATIO=1.5 cargo run --example configured --features serde
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

use axum::{
    Router,
    extract::State,
    http::{self, StatusCode},
    routing::get,
};
use buttress::{
    CircuitBreaker, ConfigError, Fallback, Retry, ServiceErrors, Stack, Timeout, Verdict,
    breaker::CircuitBreakerConfig, classify_response, fallback::FallbackConfig, retry::RetryConfig,
    timeout::TimeoutConfig,
};
use config::{Config, Environment, File};
use reqwest::{Client, Method, Request, Response, Url};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tower::{Service, ServiceExt};

/// All the policies of one client. The tables of the file are the fields of this struct.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    breaker: CircuitBreakerConfig,
    retry: RetryConfig,
    /// The whole operation.
    timeout: TimeoutConfig,
    /// Each attempt.
    attempt_timeout: TimeoutConfig,
    fallback: FallbackConfig,
}

impl Settings {
    fn read(file: &Path) -> Result<Self, config::ConfigError> {
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
}

/// The policies, built and checked.
struct Policies {
    breaker: CircuitBreaker,
    retry: Retry,
    timeout: Timeout,
    attempt_timeout: Timeout,
    fallback: Fallback,
}

impl Policies {
    fn from_settings(settings: Settings) -> Result<Self, ConfigError> {
        Ok(Policies {
            breaker: CircuitBreaker::from_config("orders", settings.breaker)?,
            retry: Retry::from_config("orders", settings.retry)?,
            timeout: Timeout::from_config("orders", settings.timeout)?,
            attempt_timeout: Timeout::from_config("orders attempt", settings.attempt_timeout)?,
            fallback: Fallback::from_config("orders", settings.fallback)?,
        })
    }

    /// The HTTP client with the policies around it.
    fn around(
        &self,
        client: Client,
    ) -> impl Service<Request, Response = Response, Error = buttress::Error<reqwest::Error>> + Clone
    {
        let classifier = classify_response(|response: &Response| {
            if response.status().is_server_error() { Verdict::Transient } else { Verdict::Success }
        });
        Stack::classified(classifier)
            .clone_with(Request::try_clone)
            .fallback(self.fallback.to_fn(|_| Ok(sorry())))
            .timeout(self.timeout)
            .retry(self.retry)
            .breaker(self.breaker)
            .timeout(self.attempt_timeout)
            .layer(ServiceErrors)
            .service(client)
    }
}

/// The answer of the fallback.
fn sorry() -> Response {
    http::Response::builder().body("the fallback's answer").expect("there are no headers").into()
}

#[tokio::main]
async fn main() -> ExitCode {
    let here = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/configured.toml");
    let file = env::args_os().nth(1).map_or_else(|| PathBuf::from(here), PathBuf::from);
    let (effective, policies) = match configure(&file) {
        Ok(configured) => configured,
        Err(error) => return exit(2, &*error),
    };
    println!("# The configuration in effect\n{effective}");
    match make_some_calls(&policies).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit(1, &*error),
    }
}

/// The policies, and the configuration they were built from with every default filled in.
fn configure(file: &Path) -> Result<(String, Policies), Box<dyn Error>> {
    let settings = Settings::read(file)?;
    let effective = toml::to_string(&settings)?;
    Ok((effective, Policies::from_settings(settings)?))
}

fn exit(code: u8, error: &dyn Error) -> ExitCode {
    eprintln!("configured: {error}");
    ExitCode::from(code)
}

async fn make_some_calls(policies: &Policies) -> Result<(), Box<dyn Error>> {
    let url = start_server().await?;
    // No proxy of the environment is asked to reach the loopback.
    let client = policies.around(Client::builder().no_proxy().build()?);
    for number in 1..=20 {
        let response = client.clone().oneshot(Request::new(Method::GET, url.clone())).await?;
        println!("call {number:>2}: {}", response.text().await?);
    }
    println!();
    for transition in policies.breaker.snapshot().transitions {
        println!("breaker: {transition}");
    }
    println!("retry: {:?}", policies.retry.counts());
    println!("fallback: {:?}", policies.fallback.counts());
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
