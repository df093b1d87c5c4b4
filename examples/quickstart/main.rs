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
    Backoff, CircuitBreaker, Fallback, Retry, ServiceErrors, Stack, Verdict, Window,
    classify_response, retry::RetryBudget,
};
use reqwest::{Client, Method, Request, Response, Url};
use tokio::time::Instant;
use tower::{Service, ServiceExt};

use crate::{
    args::{Args, Asked},
    figures::Measured,
    live::Watched,
    load::{Answer, Calls},
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
