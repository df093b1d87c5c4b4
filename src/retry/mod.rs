//! Retry: what failed in passing is tried again, within a budget.
//!
//! **When to use it.** The call may be repeated without harm (a read, or a write with an
//! idempotency key), and its failures are mostly brief: a lost packet, a backend that restarts, one
//! bad replica behind a load balancer.
//!
//! **When not.** Where executing twice is worse than failing; where that is so of some requests only, a
//! [`CloneRequest`](crate::CloneRequest::repeats) says of which. Where a layer below retries already:
//! three attempts on each of three layers are 27. Retry in one place, next to the client; or let the
//! layers [tell each other](crate::context).
//!
//! # Example
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//!
//! use buttress::{Backoff, Retry, ServiceErrors, Verdict, classify_response};
//! use tower::{Service, ServiceBuilder, ServiceExt};
//!
//! #[derive(Clone)]
//! struct Get { path: &'static str, attempt: u32 }
//! struct Reply { status: u16, attempt: u32 }
//!
//! // A server that is back at the second attempt.
//! let server = tower::service_fn(|get: Get| async move {
//!     let status = if get.attempt == 1 { 503 } else { 200 };
//!     Ok::<_, std::io::Error>(Reply { status, attempt: get.attempt })
//! });
//!
//! let retry = Retry::builder("payments")
//!     .max_attempts(3)
//!     .backoff(Backoff::exponential(Duration::from_millis(50)))
//!     .build()?;
//!
//! let mut client = ServiceBuilder::new()
//!     .layer(
//!         retry
//!             .layer()
//!             .classify(classify_response(|reply: &Reply| match reply.status {
//!                 500.. => Verdict::Transient,
//!                 _ => Verdict::Success,
//!             }))
//!             .prepare(|get: &mut Get, attempt: u32| get.attempt = attempt),
//!     )
//!     .layer(ServiceErrors)
//!     .service(server);
//!
//! let reply = client.ready().await?.call(Get { path: "/", attempt: 1 }).await?;
//! assert_eq!((reply.status, reply.attempt), (200, 2));
//! assert_eq!(retry.counts().retried, 1);
//! # Ok(()) }
//! ```
//!
//! Without tower: [`Retry::call`].
//!
//! # What follows an attempt
//!
//! | its verdict | then |
//! |---|---|
//! | `Success`, `Permanent` | the service answered: a deposit into the budget, and the outcome is returned |
//! | `Final`, `Refused`, `Ignored` | the outcome is returned |
//! | `Transient`, `Unreachable` | another attempt after the backoff |
//! | `Throttled` | another attempt after the server's hint, at most [`max_retry_after`](RetryBuilder::max_retry_after), *and* the backoff on top |
//!
//! ```text
//!        transient, unreachable, throttled        ready, and paid for
//!  ┌─────────┐ ────────────────▶ ┌─────────┐      ┌───────────┐
//!  │ attempt │                   │ backoff │ ───▶ │ readiness │ ──┐
//!  └─────────┘ ◀──────────┐      └─────────┘      └───────────┘   │
//!       │                 └───────────────────────────────────────┘
//!       ▼ any other verdict; attempts, time or budget used up; no copy of the request
//!    the last outcome, unchanged
//! ```
//!
//! A readiness that fails between attempts is an outcome like any other, and counts as an attempt;
//! before the first one it is the caller's, who is asking for it.
//!
//! The last outcome is kept while waiting for the next attempt, for the caller may yet get it. A
//! response that holds a connection until its body is read holds it for as long; over a pool in which
//! that connection is the last one, the next attempt would wait for it in vain. Set
//! [`max_elapsed`](RetryBuilder::max_elapsed), or a timeout outside, and the operation ends.
//!
//! # The budget
//!
//! Three attempts make three times the load of a server that fails from load. A [`RetryBudget`] is
//! therefore **on by default**: retries are paid for with a share of the successes and a small
//! reserve, so they are there for the failure of a few and end with the failure of all.
//!
//! # Laws
//!
//! - **Readiness (1)**: every attempt is made on the very instance that was polled to readiness for
//!   it.
//! - **Reservations (2)**: nothing is reserved while waiting. The future of the failed attempt is
//!   dropped first, readiness is asked for after.
//! - **Cancel safety (3)**: a future dropped at any point makes no further attempt. The budget is
//!   charged right before an attempt starts, and not paid back once it has, or an outer timeout
//!   would make retries free.
//! - **Bounded amplification (7)**: in every interval of time, extra attempts <= cap + refill +
//!   ratio x successes.
//! - **Jitter (8)** is added on top of a server's hint, never taken from it.
//! - **No attempt that cannot finish (9)**: none starts, and no backoff, that
//!   [`max_elapsed`](RetryBuilder::max_elapsed) or the caller's [deadline](RetryLayer::context) would
//!   come before.
//!
//! # What it costs
//!
//! For an operation whose first attempt succeeds: a clone of the service, a copy of the request (it
//! may be needed; none for the last attempt or with an empty budget), one load of the budget's word
//! before and one after. No allocation, no timer, no write to shared memory while the budget is
//! full, and no clock while it can pay, unless `max_elapsed` is set. The timer lies inside the future.

mod bucket;
mod budget;
mod budget_config;
mod config;
mod future;
mod handle;
mod layer;
#[cfg(all(test, buttress_loom))]
mod loom;
mod operation;
mod prepare;
mod service;

pub use budget::{RetryBudget, RetryBudgetBuilder};
pub use budget_config::RetryBudgetConfig;
pub use config::RetryConfig;
pub use future::RetryFuture;
pub use handle::{Retry, RetryBuilder, RetryCounts};
pub use layer::RetryLayer;
pub use prepare::{PrepareRequest, Unchanged};
pub use service::RetryService;
