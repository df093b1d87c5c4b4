//! Timeout: a call ends, one way or the other, within a given time.
//!
//! **Use it** around everything that crosses a network, twice: around each attempt, so that a lost
//! answer is noticed while there is time for another, and around the whole operation, so that the
//! caller knows when to stop hoping. Without one, a service that hangs takes every task, connection
//! and permit that touches it along.
//!
//! **Do not use it** to stop work that blocks its thread: a future that never returns from `poll`
//! cannot be given up, here or in any other timeout. And mind that giving up is not undoing: the
//! service may have done what it was asked for, which is why
//! [`reached_service`](crate::PolicyError::reached_service) is true for a timeout.
//!
//! ```
//! use std::time::Duration;
//! use buttress::{Error, PolicyErrorKind, ServiceErrors, StackError, Timeout};
//! use tower::{service_fn, Service, ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let timeout = Timeout::builder("search").after(Duration::from_millis(250)).build()?;
//!
//! let mut search = ServiceBuilder::new()
//!     .layer(timeout.layer())
//!     .layer(ServiceErrors)
//!     .service(service_fn(|words: &'static str| async move {
//!         if words.is_empty() {
//!             std::future::pending::<()>().await; // It never answers this one.
//!         }
//!         Ok::<_, std::io::Error>(words.len())
//!     }));
//!
//! assert_eq!(search.ready().await?.call("flying buttress").await?, 15);
//!
//! let error = search.ready().await?.call("").await.unwrap_err();
//! assert_eq!(error.policy_error().map(|policy| policy.kind()), Some(PolicyErrorKind::TimedOut));
//! assert_eq!(error.to_string(), r#"timeout "search" elapsed after 250ms"#);
//! # Ok(()) }
//! ```
//!
//! # What it does
//!
//! - The inner future is polled first, and always before the timer: an answer that is there counts,
//!   however late this task was polled.
//! - The clock starts when the inner future is pending for the first time, which for a call that
//!   is awaited at once is when the call was made. A call that never has to wait reads no clock,
//!   makes no timer, and needs no runtime.
//! - On expiry the inner future is dropped before the error is returned, so its connection and its
//!   permits are free when the caller hears of it.
//! - The timer fires even when the inner future uses up tokio's cooperative budget at every poll.
//! - To outer policies an expired timeout is [`Transient`](crate::Verdict::Transient): a breaker
//!   counts it as a failure and a retry tries again. Unless it was the caller's own, shorter limit,
//!   given [per request](TimeoutLayer::per_request) or as a [deadline](TimeoutLayer::context): that
//!   is [`Refused`](crate::Verdict::Refused).
//! - With a [context](TimeoutLayer::context) the deadline of the call is told to whatever is below,
//!   and a call whose deadline has passed is refused without touching the service.
//! - Time spent in `poll_ready` does not count, unless you say
//!   [`including_readiness`](TimeoutLayer::including_readiness).
//!
//! # Laws
//!
//! Readiness (1): the instance that was ready is the one that is called; `including_readiness`
//! polls and calls one clone. Cancel safety (3): dropping the future drops everything it holds.
//! No call begins after its deadline, where one is known (9). Time is tokio's (10), so paused-time
//! tests work.
//!
//! # What it costs
//!
//! While calls are ready at once, a few nanoseconds. A call that has to wait costs a tokio timer,
//! which lives inside the future: no allocation. A named timeout keeps some 100 bytes (200 with
//! feature `metrics`) for the life of the process, an unnamed one nothing.

mod config;
mod future;
mod handle;
mod layer;
mod ready_service;
mod service;

pub use config::{TimeoutBuilder, TimeoutConfig};
pub use future::TimeoutFuture;
pub use handle::Timeout;
pub use layer::{Fixed, ReadyTimeoutLayer, RequestTimeout, TimeoutLayer};
pub use ready_service::ReadyTimeoutService;
pub use service::TimeoutService;

pub use crate::ready_call::ReadyCall;
