//! Two clients under the same load, while their server goes through good times and bad.
//!
//! ```text
//! cargo run --example quickstart                           half a minute
//! cargo run --example quickstart -- --seconds 12 --check   shorter; exit code 1 if a promise is missed
//! cargo run --example quickstart -- --help
//! ```
//!
//! One client is what is written first: a loop of three attempts. The other is a stack of
//! buttress policies, made by [`buttress_client`] right below. Each has a server of its own, real
//! and on a loopback port, that follows the same script: healthy, 10 % errors, 100 % errors, a
//! brownout, a black hole that takes requests and never answers, and healthy again.
//!
//! To read on: `script.rs` is what the servers do, `load.rs` how they are called, `naive.rs` the
//! other client, `promises.rs` what is expected of the stack.

// A program has no public interface: `pub` is what its modules show each other.
#![allow(unreachable_pub)]

mod args;
mod figures;
mod live;
mod load;
mod naive;
mod paint;
mod promises;
mod script;
mod server;
mod table;

use std::{
    error::Error,
    process::ExitCode,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::http::{self, StatusCode};
use buttress::{
    Backoff, CircuitBreaker, ConfigError, Fallback, Retry, RetryBudget, ServiceErrors, Stack,
    Verdict, Window, classify_response,
};
use reqwest::{Client, Method, Request, Response, Url};
use tokio::time::Instant;
use tower::{Service, ServiceExt};

use crate::{
    args::{Args, Asked},
    figures::Measured,
    live::Watched,
    load::Answer,
    paint::Paint,
    script::Script,
    server::Server,
};

/// How long either client waits for one attempt.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(250);
/// How many attempts either client makes at most.
const ATTEMPTS: u32 = 3;
/// How long the stack lets a call take in all.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(1);

/// Tells an answer of the fallback from one of the server.
const DEGRADED: &str = "x-degraded";

/// The stack: what this crate is for.
///
/// Read it from the outside in. Whatever fails below is answered by the fallback; the operation as
/// a whole has a second; within it up to three attempts are made; each asks the breaker first; and
/// each has its own timeout, which the breaker counts and the retry repeats.
fn buttress_client(
    client: Client,
) -> Result<
    (impl Service<Request, Response = Response, Future: Send> + Clone + Send, CircuitBreaker),
    ConfigError,
> {
    let breaker = CircuitBreaker::builder("orders")
        .window(Window::calls(100))
        .failure_ratio(0.5)
        .min_calls(20)
        .open_for(Duration::from_secs(1))
        .probes(3)
        .build()?;
    // A retry for every fifth success, and no more than three saved up: enough where one call in
    // ten fails, and next to nothing for a server that is dead.
    let budget = RetryBudget::builder("orders").ratio(0.2).cap(3.0).build()?;
    let retry = Retry::builder("orders")
        .max_attempts(ATTEMPTS)
        .backoff(Backoff::exponential(Duration::from_millis(50)))
        .budget(budget)
        .build()?;
    let fallback = Fallback::builder("orders").build()?;

    let client = Stack::classified(classify_response(meaning))
        .clone_with(Request::try_clone)
        .fallback(fallback.to_fn(|_failed| Ok(yesterdays_answer())))
        .timeout(TOTAL_TIMEOUT)
        .retry(retry)
        .breaker(breaker)
        .timeout(ATTEMPT_TIMEOUT)
        .layer(ServiceErrors)
        .service(client);
    Ok((client, breaker))
}

/// What an answer means, said once for all policies. To reqwest a 503 is a success.
fn meaning(response: &Response) -> Verdict {
    match response.status() {
        StatusCode::TOO_MANY_REQUESTS => Verdict::Throttled { retry_after: None },
        status if status.is_server_error() => Verdict::Transient,
        status if status.is_client_error() => Verdict::Permanent,
        _ => Verdict::Success,
    }
}

/// The answer of the fallback: second best, and it says so.
fn yesterdays_answer() -> Response {
    let answer = http::Response::builder().header(DEGRADED, "yesterday's answer").body("");
    answer.expect("the header is valid").into()
}

async fn call(client: impl Service<Request, Response = Response>, url: Url) -> Answer {
    match client.oneshot(Request::new(Method::GET, url)).await {
        Ok(response) if response.headers().contains_key(DEGRADED) => Answer::Degraded,
        Ok(response) if response.status().is_success() => Answer::Good,
        _ => Answer::Failed,
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = match args::parse(std::env::args().skip(1)) {
        Ok(Asked::Run(args)) => args,
        Ok(Asked::Help(text)) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(message) => {
            eprintln!("quickstart: {message}");
            return ExitCode::from(2);
        }
    };
    match run(&args).await {
        Ok(kept) if kept || !args.check => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("quickstart: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs both clients through the script, and says whether every promise was kept.
async fn run(args: &Args) -> Result<bool, Box<dyn Error>> {
    let paint = Paint::for_stdout();
    // A moment for the servers to come up.
    let script = Script::new(Instant::now() + Duration::from_millis(100), args.length);

    let (naive_server, naive_url) = Server::start(script.clone()).await?;
    let naive_client = http_client()?;
    let (server, url) = Server::start(script.clone()).await?;
    let (client, breaker) = buttress_client(http_client()?)?;

    // What the breaker does, with its evidence.
    let transitions = Arc::new(Mutex::new(Vec::new()));
    let subscription = breaker.subscribe({
        let transitions = Arc::clone(&transitions);
        move |transition| transitions.lock().unwrap().push(transition.clone())
    });

    println!(
        "{} calls a second to each client for {:?}: at most {ATTEMPTS} attempts of at most \
         {ATTEMPT_TIMEOUT:?} each; for buttress {TOTAL_TIMEOUT:?} in all.",
        args.rate, args.length,
    );
    let mut watched = [
        Watched::new("naive", naive_server, None),
        Watched::new("buttress", server, Some(breaker)),
    ];
    let [naive_calls, calls] = watched.each_ref().map(|client| Arc::clone(&client.calls));
    tokio::join!(
        live::report(&script, &mut watched, paint),
        load::offer(&script, args.rate, &naive_calls, || {
            naive::call(naive_client.clone(), naive_url.clone())
        }),
        load::offer(&script, args.rate, &calls, || call(client.clone(), url.clone())),
    );
    drop(subscription);

    let [naive, buttress] = watched.map(|client| client.measured(&script));
    let transitions = std::mem::take(&mut *transitions.lock().unwrap());
    let buttress = Measured { transitions, ..buttress };
    table::print(&naive, &buttress, paint);
    table::print_history(&buttress);
    let promises = promises::all(&naive, &buttress, breaker);
    promises::print(&promises, paint);
    Ok(promises.iter().all(|promise| promise.kept))
}

/// An HTTP client as anybody would make it, but that a proxy of the environment is not asked to
/// reach the loopback.
fn http_client() -> reqwest::Result<Client> {
    Client::builder().no_proxy().build()
}
