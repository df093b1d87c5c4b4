//! Circuit breaker, retry, timeout and fallback for everything that calls things which fail: as
//! composable [`tower`] layers, and as handles for code without tower.
//!
//! "Everything fails all the time" (Werner Vogels). A call through buttress fails predictably,
//! cheaply and briefly, and recovers by itself. While all is well it costs next to nothing: no
//! allocation, no lock, no clock, and for the breaker and the retry budget not even a write. (A call
//! that has to wait under a timeout costs one tokio timer.)
//!
//! ```
//! use buttress::{CircuitBreaker, Retry, ServiceErrors, Stack};
//! use std::time::Duration;
//! use tower::{Service, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let client = tower::service_fn(|_: &str| async { Ok::<_, std::io::Error>("in stock") });
//! // Handles: built once, validated, free to copy. All that is made from one shares its state.
//! let breaker = CircuitBreaker::builder("inventory").build()?;
//! let retry = Retry::builder("inventory").max_attempts(3).build()?;
//!
//! let mut client = Stack::new()
//!     .timeout(Duration::from_secs(3))        // the whole operation
//!     .retry(retry)                           // under a budget, with jitter
//!     .breaker(breaker)                       // refuses what is bound to fail
//!     .timeout(Duration::from_millis(500))    // each attempt
//!     .layer(ServiceErrors)                   // the client's error becomes `Error::Service`
//!     .service(client);
//!
//! assert_eq!(client.ready().await?.call("apples").await?, "in stock");
//! # Ok(()) }
//! ```
//!
//! # Which policy when
//!
//! | what goes wrong | what helps | module |
//! |---|---|---|
//! | it never answers | a timeout on each attempt, and one on the whole | [`timeout`] |
//! | it fails now and then | another attempt, later, under a budget | [`retry`] |
//! | it is down or overloaded | not to call it until it is back | [`breaker`] |
//! | it cannot answer, and somebody needs an answer | a backup, or something degraded | [`fallback`] |
//!
//! They speak of outcomes in [verdicts](verdict), of refusals in [errors](error), and of delays in
//! [backoffs](backoff).
//!
//! # The order of layers
//!
//! From the outside in; [`Stack`] takes them in this order:
//!
//! 1. **Fallback**, because it answers for everything below: a refusal by the breaker, a timeout of
//!    the whole, retries used up.
//! 2. **Timeout of the operation**, because a caller waits for the operation, not for an attempt.
//!    It covers the attempts and the waits between them.
//! 3. **Retry**, outside of the breaker, so that each attempt is admitted and counted for itself,
//!    and an open circuit ends the operation: a refusal is not retried.
//! 4. **Circuit breaker**, outside of the attempt's timeout, so that it sees timeouts as failures.
//!    The other way round it would see calls dropped, and those say nothing by themselves.
//! 5. **Timeout of the attempt**, next to the client.
//! 6. [`ServiceErrors`], which turns the client's error into [`Error`], so that all the above agree
//!    on one error type and none of them has to change it.
//!
//! A fallback that waits (a backup service, an async function) is outside of these timeouts and needs
//! one of its own. Around a limiter that makes callers wait in `poll_ready`, use a timeout
//! [`including_readiness`](timeout::TimeoutLayer::including_readiness), or the wait is not timed.
//!
//! # Features
//!
//! None is on by default; the policies need none.
//!
//! | feature | what it adds |
//! |---|---|
//! | `metrics` | counters, gauges and histograms through the [`metrics`](https://docs.rs/metrics) facade; free until a recorder is installed |
//! | `tracing` | an event per transition (WARN when a circuit opens, else INFO); refusals, retries, fallbacks at DEBUG |
//! | `serde` | configuration structs from TOML, YAML, JSON, the environment: durations as `"1m 30s"`, unknown fields refused |
//!
//! Metrics, all with the label `name`, which is the policy's name: `buttress_calls_total` and
//! `buttress_rejections_total` (also by `policy` and `outcome` or `reason`),
//! `buttress_call_duration_seconds` (by `policy`), `buttress_breaker_state` (by `state`, one-hot),
//! `buttress_breaker_transitions_total` (by `from`, `to`), `buttress_breaker_failure_ratio`,
//! `buttress_retry_attempts_total` (by `result`), `buttress_timeouts_total`,
//! `buttress_fallbacks_total` (by `kind`). A call that is dropped, or panics, before it has an
//! outcome is in no count of calls. A policy's handles belong to the first recorder it meets; a
//! recorder without a size (a unit struct) is taken for none.
//!
//! # Design
//!
//! Decisions that shape the crate, with their reasons:
//!
//! - **Handle first.** State lives in a cell that is allocated by `build()` and kept for the life of
//!   the process, like a metric or a tracing callsite; a handle is a `&'static` that copies for
//!   free. An `Arc` clone and drop per call costs more than the counting, and makes two threads on
//!   one breaker slower than one. What is kept is bounded by what the program builds; a warning says
//!   so when somebody builds policies by the thousand. What a fallback answers with (a value, a
//!   function, a backup service) is kept in the same way, when its layer is made.
//! - **A layer never changes the error type.** Nested error enums and boxes per layer make stacks
//!   unreadable; here every layer has `type Error = S::Error`, and asks only that a [`PolicyError`]
//!   can be turned into it and found in it: [`StackError`].
//! - **One classification for all.** A verdict is given once per outcome and means the same to every
//!   policy. Errors that policies raise never reach your classifier.
//! - **Write-free when healthy.** A full window without a failure, a full budget, a streak at zero:
//!   one more success would change nothing that anybody can see, so nothing is written.
//! - **The window of calls is exact and has no lock.** It numbers the calls and remembers the numbers
//!   of the failures. The K-th last failure lies within the last N calls exactly if the window holds
//!   K or more, so nothing needs to be evicted and one compare-and-swap decides the order.
//! - **Jitter by context.** A [`Backoff`] without an explicit jitter is fully jittered in a retry, and
//!   spread over its upper half as a breaker's open time, where a delay near zero would be no delay.
//! - **A timer that is not needed is not made.** A timeout polls the call first and creates its timer
//!   when that has to wait; its time runs from then.
//! - **What only `Clone` can do is asked for.** Letting go of what an inner service reserved before the
//!   circuit opened takes a clone of it: [`releasing`](breaker::CircuitBreakerLayer::releasing) is a
//!   choice, not a bound on everybody.
//! - **A caller's own short limit is not the service's failure.** A limit given
//!   [per request](timeout::TimeoutLayer::per_request), shorter than the timeout's own, is a refusal to
//!   outer policies.
//! - **Probes are overdue after the last sign of life**, not at a fixed time after the first began: in
//!   thin traffic a young probe would be taken for a hung one.
//! - **Transitions are told in order**, by one thread at a time, outside of every lock.
//! - **Models of the concurrency** are built with `--cfg buttress_loom`; `--cfg loom` would switch
//!   tokio over as well.
//!
//! [`tower`]: https://docs.rs/tower

#![cfg_attr(docsrs, feature(doc_cfg))]

mod cell;
mod clock;
#[cfg(feature = "serde")]
mod or_false;
mod ready_call;
mod request;
mod stack;
mod sync;
mod telemetry;

pub mod backoff;
pub mod breaker;
pub mod context;
pub mod error;
pub mod fallback;
#[cfg(feature = "tonic")]
#[cfg_attr(docsrs, doc(cfg(feature = "tonic")))]
pub mod grpc;
#[cfg(feature = "http")]
#[cfg_attr(docsrs, doc(cfg(feature = "http")))]
pub mod http;
pub mod retry;
pub mod standard;
pub mod timeout;
pub mod verdict;

pub use backoff::{Backoff, Jitter};
pub use breaker::{CircuitBreaker, CircuitBreakerConfig, Window};
pub use context::{CallContext, CarryContext, NoContext, TaskContext};
pub use error::{
    BoxError, ConfigError, Error, PolicyError, PolicyErrorKind, ServiceErrors, StackError,
};
pub use fallback::{Fallback, FallbackConfig};
pub use request::{CloneRequest, Cloned, Repeats};
pub use retry::{Retry, RetryBudget, RetryBudgetConfig, RetryConfig};
pub use stack::Stack;
pub use standard::{Standard, StandardConfig};
pub use timeout::{Timeout, TimeoutConfig};
pub use verdict::{
    Classify, ClassifyResponse, Errors, FailureKind, Verdict, VerdictKind, classify_fn,
    classify_response,
};

/// The README's examples, compiled and run with the others.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
