//! The circuit breaker: stop calling what is failing, and find out by itself when it is back.
//!
//! A service that fails is usually overloaded, restarting or gone. Calling it all the same makes
//! every caller wait for its timeout, ties up what they hold meanwhile, and keeps the service from
//! getting up. A circuit breaker watches the outcomes; when too large a share of them are failures
//! it *opens*, and calls are refused at once, with an error that says why. After a while it lets a
//! few *probes* pass, and closes if they succeed. (Michael Nygard, *Release It!*, 2007.)
//!
//! ```text
//!              a share of the window, or a row, of failures
//!              or a share of slow calls
//!   +--------+ -------------------------------------------> +------+ <------------------+
//!   | closed |                                              | open |                    |
//!   +--------+ <--------------+                             +------+                    |
//!        ^                    |                                 | the open time is over |
//!        |           enough   |                                 v and a call comes      |
//!        |           probes   |                           +-----------+                 |
//!        |           succeed  +-------------------------- | half-open | ----------------+
//!        |                                                +-----------+  too many probes fail,
//!        |                                                               or one hangs
//!   reset, from anywhere           forced open, forced closed: from anywhere, until an expiry
//! ```
//!
//! # When to use it
//!
//! Around every call over a network to something that can be down while you are up, one breaker for
//! each thing that fails as one: a service, a database, a shard; not one for each route.
//!
//! # When not
//!
//! - Around something local that cannot be "down": it has nothing to recover from.
//! - As a limit on load. A breaker sees failures, and by then it is late; a bulkhead or a rate limit
//!   acts before.
//! - Where some calls are healthy and others not for reasons of their own (one tenant's shard is
//!   gone, the others are fine): use a breaker for each, a [keyed] one if there are many, or it will
//!   refuse the healthy with the sick.
//!
//! # Example
//!
//! ```
//! use buttress::{CircuitBreaker, PolicyErrorKind, ServiceErrors, StackError, Window};
//! use std::time::Duration;
//! use tower::{Service, ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let breaker = CircuitBreaker::builder("inventory")
//!     .window(Window::calls(10))
//!     .min_calls(4)
//!     .failure_ratio(0.5)
//!     .open_for(Duration::from_secs(5))
//!     .build()?;
//!
//! let mut client = ServiceBuilder::new()
//!     .layer(breaker.layer())
//!     .layer(ServiceErrors)
//!     .service(tower::service_fn(|_: &str| async {
//!         Err::<(), _>(std::io::Error::other("connection refused"))
//!     }));
//!
//! for _ in 0..4 {
//!     let _ = client.ready().await?.call("apples").await;
//! }
//!
//! let error = client.ready().await?.call("apples").await.unwrap_err();
//! let refusal = error.policy_error().expect("refused, the client was not asked");
//! assert_eq!(refusal.kind(), PolicyErrorKind::CircuitOpen);
//! assert!(refusal.to_string().starts_with(
//!     r#"circuit "inventory" is open: 4 of the last 4 calls failed (100.0 %, limit 50.0 %); next probe in"#
//! ));
//! # Ok(()) }
//! ```
//!
//! Without tower: [`CircuitBreaker::call`] for a future, [`CircuitBreaker::try_acquire`] for
//! anything else, synchronous code too.
//!
//! # What counts
//!
//! The [verdict](crate::verdict) on each outcome decides. Transient, unreachable, throttled and final ones are
//! failures.
//! A *permanent* one (a 404, a validation error) is good: the service has answered. Refusals of
//! policies further in, and outcomes that are ignored, do not count at all. A panic is a failure. So
//! is an error of the wrapped service's readiness.
//!
//! A call that is dropped before it has an outcome says nothing by default, because a caller that
//! goes away is no fault of the service. But where the only timeout is *outside* of the breaker,
//! dropping is all it ever sees of a dead service. Either put a timeout inside, which is the
//! [recommended order](crate#the-order-of-layers), or tell the breaker how long is too long with
//! [`abandoned_after`](CircuitBreakerBuilder::abandoned_after).
//!
//! # Choosing window and ratio
//!
//! Every completed call is another look at the window, so a condition that is improbable at any one
//! look still comes true in the long run. How often a breaker trips within 10 000 calls to a service
//! that is *not* down but has a steady error rate:
//!
//! | window | ratio | `min_calls` | at 1 % | 5 % | 10 % | 20 % | 30 % | 40 % |
//! |--:|--:|--:|--:|--:|--:|--:|--:|--:|
//! | 10 | 50 % | 10 | < 0.2 % | 23.4 % | 99.8 % | > 99.8 % | > 99.8 % | > 99.8 % |
//! | 10 | 70 % | 10 | < 0.2 % | < 0.2 % | 5.2 % | 98.2 % | > 99.8 % | > 99.8 % |
//! | 20 | 50 % | 20 | < 0.2 % | < 0.2 % | 2.8 % | > 99.8 % | > 99.8 % | > 99.8 % |
//! | 50 | 50 % | 20 | < 0.2 % | < 0.2 % | < 0.2 % | 1.2 % | 94.0 % | > 99.8 % |
//! | 100 | 20 % | 20 | < 0.2 % | 0.6 % | 74.4 % | due | due | due |
//! | 100 | 30 % | 20 | < 0.2 % | 0.2 % | 1.2 % | 99.8 % | due | due |
//! | 100 | 50 % | 5 | < 0.2 % | 0.4 % | 2.0 % | 11.4 % | 29.8 % | > 99.8 % |
//! | **100** | **50 %** | **20** | < 0.2 % | < 0.2 % | < 0.2 % | < 0.2 % | 9.0 % | > 99.8 % |
//! | 100 | 50 % | 50 | < 0.2 % | < 0.2 % | < 0.2 % | < 0.2 % | 3.4 % | > 99.8 % |
//! | 200 | 50 % | 20 | < 0.2 % | < 0.2 % | < 0.2 % | < 0.2 % | 4.2 % | 74.6 % |
//!
//! (500 runs per cell; *due* where the rate is no lower than the ratio. The command that prints the
//! whole table: `cargo run --release --example false_trips`. Failures that come in bursts trip
//! sooner.)
//!
//! The defaults are the row in bold: quiet up to a steady 20 %, and an outage is noticed within 50
//! failures, within 20 after a start. Who lives with 30 % errors takes `min_calls(50)` and 200 calls;
//! a window of 10 is for services that never fail.
//!
//! # Looking at it
//!
//! [`state`](CircuitBreaker::state) is what the next call would meet, [`snapshot`] everything else,
//! with the last 32 transitions, each with its evidence, so that "why did it open an hour ago" has
//! an answer without a search through logs. [`subscribe`](CircuitBreaker::subscribe) tells of each
//! transition as it happens; features `metrics` and `tracing` do so by themselves.
//!
//! [`shadow`](CircuitBreakerBuilder::shadow) tries a configuration on production traffic without
//! refusing anything. [`force_open`](CircuitBreaker::force_open),
//! [`force_closed`](CircuitBreaker::force_closed) and [`reset`](CircuitBreaker::reset) are for
//! people who know better.
//!
//! # What it costs
//!
//! Closed and healthy, with a window of calls: a few loads and no write, no clock, no allocation. That
//! is why the state lies in a cell that lives as long as the process instead of behind an `Arc`, and
//! why the window, once full and without a failure, is not written to at all. A failure costs a few
//! compare-and-swaps; an open circuit one reading of the clock. No state takes a lock except to
//! change into another. See [`CircuitBreaker::bytes`] for memory.
//!
//! # Laws
//!
//! What this module keeps, whatever happens (numbers as in the names of its tests):
//!
//! - **Readiness (1)**: the wrapped service is called only on the instance that was ready. An open
//!   circuit is ready at once and refuses in `call`; a refusal never comes out of `poll_ready`.
//! - **Reservations (2)**: a caller that waits for the circuit holds nothing of the wrapped service.
//! - **Cancel safety (3)**: dropped anywhere, a call gives its probe back.
//! - **Generations (4)**: the result of a call admitted in an earlier life of the breaker changes
//!   nothing.
//! - **Liveness (5)**: no state lasts for ever. Hung probes are overdue at a deadline, reservations
//!   lapse, and what time alone changes is in effect whether or not anybody has looked.
//! - **Good news never trips (6)**, and shares are not rounded.
//! - **Time is tokio's (10)**, so `start_paused` tests of your own code work.
//! - **Callbacks (12)** run outside of every lock, and one that panics wedges nothing.
//!
//! [`snapshot`]: CircuitBreaker::snapshot

mod attempt;
mod builder;
mod cell;
mod config;
mod deadline;
mod evidence;
mod future;
mod gate;
mod handle;
pub mod keyed;
mod layer;
mod ledger;
#[cfg(all(test, buttress_loom))]
mod loom;
#[cfg(feature = "consumer")]
mod passage;
mod reason;
mod recent;
mod refusal;
mod service;
mod snapshot;
mod state;
mod streak;
mod subscription;
mod ticket;
mod transition;
mod wait;
mod window;

pub use attempt::Permit;
pub use builder::CircuitBreakerBuilder;
pub use config::{Abandoned, CircuitBreakerConfig, SlowCalls, WhenOpen, Window};
pub(crate) use evidence::Evidence;
pub use future::CircuitBreakerFuture;
pub use handle::CircuitBreaker;
pub use keyed::KeyedCircuitBreaker;
pub use layer::{CircuitBreakerLayer, ReleasingCircuitBreakerLayer};
#[cfg(feature = "consumer")]
pub(crate) use passage::Passage;
pub use reason::OpenReason;
pub use service::CircuitBreakerService;
pub use snapshot::{Probes, Snapshot};
pub use state::State;
pub use subscription::Subscription;
pub use transition::Transition;
