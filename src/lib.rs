//! Circuit breaker, retry, timeout and fallback for everything that calls things which fail: as
//! composable [`tower`] layers, and as handles for code without tower.
//!
//! "Everything fails all the time" (Werner Vogels). A call through buttress fails predictably,
//! cheaply and briefly, and recovers by itself. While all is well it costs next to nothing: no
//! allocation, no lock, no clock, and for the breaker and the retry budget not even a write. (A call
//! that has to wait under a timeout costs one tokio timer; a deadline that is carried, a reading of
//! the clock; a breaker per key, a lock for reading.)
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
//! For a client of HTTP, [`Stack::http`] in place of `Stack::new` knows which responses are failures
//! and which requests may be sent twice; [`Stack::standard`] is this stack in one line.
//!
//! # Which policy when
//!
//! | what goes wrong | what helps | module |
//! |---|---|---|
//! | it never answers | a timeout on each attempt, and one on the whole | [`timeout`] |
//! | it fails now and then | another attempt, later, under a budget | [`retry`] |
//! | it is down or overloaded | not to call it until it is back | [`breaker`] |
//! | one of many is down: a host, a shard, a tenant | a breaker for each | [`breaker::keyed`] |
//! | it cannot answer, and somebody needs an answer | a backup, or something degraded | [`fallback`] |
//! | its answer begins and does not end | a body that is watched | [`http::body`] |
//! | a consumer throws its messages at what is down | to stop pulling, and to hold what is in hand | `consumer` |
//! | callers have gone before it answers; every tier retries | telling each other | [`context`] |
//! | nobody knows which of these, and with which numbers | the standard stack | [`standard`] |
//!
//! What outcomes mean, and what is said to the outside, is known for HTTP by [`http`] and for gRPC by
//! [`grpc`].
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
//! | `http` | the module [`http`], over the crates `http` and `http-body`, whatever the client or server |
//! | `reqwest` | `http`, and what it has to know of reqwest 0.13: its requests, responses and errors |
//! | `hyper-util` | `http`, and the errors of hyper 1 and of hyper-util's legacy client |
//! | `h2` | `http`, and streams that an HTTP/2 server refused, so that any request survives them |
//! | `tonic` | the module [`grpc`], for tonic 0.14; `http` and `h2` with it |
//! | `axum` | `http`, and policy errors as responses that a handler of axum 0.8 can return |
//! | `consumer` | the module `consumer`: a driver between the deliveries of a broker and a handler |
//! | `nats` | `consumer`, for JetStream of NATS with async-nats 0.51 (which needs Rust 1.89) |
//! | `rabbitmq` | `consumer`, for quorum queues of RabbitMQ with lapin 4 |
//! | `kafka` | `consumer`, for Kafka with rdkafka 0.39, which compiles librdkafka |
//!
//! The last three, like `reqwest`, `tonic` and `axum`, follow the version of a foreign crate. When that
//! changes, so does the feature, in a minor version of buttress before 1.0 and a major one after it;
//! nothing of it is in the types of the core.
//!
//! Metrics, all with the label `name`, which is the policy's name:
//!
//! | metric | other labels |
//! |---|---|
//! | `buttress_calls_total` | `policy`: `circuit_breaker`, `retry`, `timeout`, `body_timeout`, `fallback`; `outcome`: of a breaker or retry a [verdict](VerdictKind); of a timeout `success` (any `Ok`, a 503 too), `error`, `timed_out`, of a body also `stalled`; of a fallback `good`, `degraded`, `failed` |
//! | `buttress_call_duration_seconds` | `policy` |
//! | `buttress_rejections_total` | `policy`; `reason`: `open`, `probes_taken`, `shadow` (which let it pass), `deadline_too_short` |
//! | `buttress_breaker_state` | `state`, one-hot |
//! | `buttress_breaker_failure_ratio` | |
//! | `buttress_breaker_transitions_total` | `from`, `to` |
//! | `buttress_breaker_unprotected_total` | |
//! | `buttress_retry_attempts_total` | `result`: `retried`, `exhausted`, `budget_denied`, `uncloneable`, `out_of_time`, `not_idempotent`, `retried_above` |
//! | `buttress_timeouts_total` | |
//! | `buttress_consumer_messages_total` | `settle`: `ack`, `retry`, `dead_letter`, `release`, `unconfirmed`, `lost` |
//! | `buttress_consumer_paused` | (how many consumers of the name are paused) |
//! | `buttress_fallbacks_total` | `kind`: `value`, `function`, `service`; of a backup that could not be asked, `uncloneable`, `not_idempotent` |
//!
//! The calls that a breaker refuses itself are in `buttress_rejections_total`, and not among its calls: there
//! `refused` is what a policy further in has refused. Timeouts and fallbacks without a name have an empty one, and
//! all of them count together, so give names to those that a person looks at: `.timeout(..)` and
//! [`named_fallback_to`](Stack::named_fallback_to) take handles that have one.
//!
//! A [keyed](breaker::keyed) breaker counts for all its keys together, and has neither of the
//! two gauges. A call that is dropped, or panics, before it has an
//! outcome is in no count of calls. A policy's handles belong to the first recorder it meets; a
//! recorder without a size (a unit struct) is taken for none.
//!
//! Events of `tracing` have targets that begin with `buttress`, which is what to filter by: the rest of a target
//! is not the module of the policy. Their field `name` is the policy's name. At INFO and above an outage
//! of a client is in the log only where a circuit opens, and fallbacks answer in silence: it is
//! `buttress_fallbacks_total` that an alert wants to watch.
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
//! - **A connection that failed is a verdict of its own.** What was not sent was not executed, so
//!   after [`Unreachable`](Verdict::Unreachable) any request may be sent again, a payment too; and a
//!   breaker can be set on [connections](http::Connections) alone. [`Final`](Verdict::Final) is the
//!   failure that must not be repeated (lost data, gRPC's negative pushback): as `Transient` it
//!   would be, and as `Permanent` a breaker would take it for good.
//! - **What may be executed twice is the request's to say**, not the retry's, so it is asked where
//!   copies are made ([`CloneRequest::repeats`]). A retry and a backup service both keep to it.
//! - **A 503 with `Retry-After` is throttled, one without is not.** The first comes from a server that
//!   is there and names a time, the second as a rule from a proxy with nobody behind it. So the
//!   second is one of the failures in a row that open a circuit, and the first is not; the share
//!   of failures counts both.
//! - **A missing status of gRPC is no success**, but a response that goes on is one at its headers: a
//!   breaker that saw only what fails at once would see nothing but failures. The trailers count for
//!   a breaker [through the body](http::body).
//! - **Bodies are opted in.** The futures of HTTP clients end at the headers, and a policy that held
//!   on to the body of every response would hold an hour's download. A body that stalls is the
//!   server's fault only while somebody waits for it.
//! - **A context costs nothing until it is carried.** That nothing is carried is a type
//!   ([`NoContext`]), so a plain layer has no room for a deadline and reads no clock. What carries it
//!   is said once per [`Stack`]: the extensions of a request where they can be seen, the task where a
//!   client hides them; the first falls back to the second, so that a handler's calls inherit what
//!   its server was told.
//! - **A deadline is only drawn nearer**, and what comes in over the wire is
//!   [read only where it is trusted](http::InboundLayer::trust_inbound). The attempt's number travels
//!   in a header of our own: others count attempts, but on the first do not say whether there may be
//!   a second.
//! - **A caller in a hurry opens no circuit, two tiers up either.** A refusal for want of time says so
//!   in a header, which a client's classifier reads as a refusal. And what a server answers when the
//!   time is over that it was told is not its failure, but that of whoever set the time:
//!   [`PropagateLayer`](http::PropagateLayer#who-is-to-blame).
//! - **Finding the breaker of a key takes a lock for reading.** Keys come and go, so the table is
//!   shared and changes; all the rest of a keyed breaker is as lock-free as a plain one. Places are
//!   bounded, an open circuit keeps its place, and where all are so taken a new key passes unprotected
//!   and is counted: refusing it would make one outage of many. Keys are logged, and never labels.
//! - **Refusals tell clients no names.** The names of policies and the counts behind a refusal are for
//!   logs; a [response](http::Refusals) or [status](grpc::Refusals) says what kind of refusal it is,
//!   and when to come back.
//! - **The standard stack is checked as a whole.** Each number may be right and two of them wrong
//!   together; [`StandardConfig::validate`] says which two.
//! - **A refusal never spends a delivery.** Brokers count deliveries, and a message that ran out of them
//!   is a dead letter; to give one back because a circuit is open would spend its deliveries in
//!   milliseconds. So a `consumer` holds what is in hand and stops pulling, and while the circuit is not
//!   closed not even a failed probe counts. The price: if *every* message in hand fails by itself, nothing
//!   tells that from an outage, and it is held like one.
//! - **A source is polled**, with the room there is, and hands over all that it has taken: what lies in a
//!   client's buffer gets no heartbeat. The driver is one task with one timer for all that it holds; handlers
//!   have tasks of their own, so that one that computes keeps nobody's heartbeat.
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
#[cfg(feature = "consumer")]
#[cfg_attr(docsrs, doc(cfg(feature = "consumer")))]
pub mod consumer;
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
pub use breaker::{CircuitBreaker, CircuitBreakerConfig, KeyedCircuitBreaker, Window};
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

/// The README's examples, compiled and run with the others: a client of reqwest, a message consumer.
#[cfg(all(doctest, feature = "consumer", feature = "reqwest"))]
#[doc = include_str!("../README.md")]
struct Readme;
