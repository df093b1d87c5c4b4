//! A circuit breaker for each of many keys: hosts, shards, tenants.
//!
//! One breaker in front of a hundred upstreams does the wrong thing twice: it stays closed while one
//! of them is down, because ninety-nine answer, and once enough are down it refuses the healthy with
//! the sick. A keyed breaker gives each its own. Nobody has to say beforehand which keys there are:
//! a key gets a breaker with its first call.
//!
//! # When to use it
//!
//! - Behind one client that calls many hosts: a crawler, a gateway, webhooks. The key is the host
//!   and port, `http::authority` with feature `http`.
//! - In front of something that fails in parts: the shards of a database, the partitions of a queue.
//!
//! # When not
//!
//! - For a handful of upstreams that you can name: build a [`CircuitBreaker`](super::CircuitBreaker)
//!   for each. It takes no lock, it has gauges, and its name says which it is.
//! - For keys that see a call now and then. A breaker learns from calls; one that sees fewer than
//!   [`min_calls`](super::CircuitBreakerBuilder::min_calls) within its window never opens. The
//!   condition [`consecutive_failures`](super::CircuitBreakerBuilder::consecutive_failures) needs
//!   the fewest.
//! - With a key that differs from call to call (a path, a user of millions): that is a breaker for
//!   nobody.
//!
//! # Example
//!
//! ```
//! use buttress::{CircuitBreaker, ServiceErrors, breaker::State};
//! use tower::{Service, ServiceBuilder, ServiceExt};
//!
//! #[derive(Clone)]
//! struct Query {
//!     shard: u32,
//! }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let shards = CircuitBreaker::builder("shards").min_calls(4).build_keyed(256)?;
//!
//! let mut database = ServiceBuilder::new()
//!     .layer(shards.layer(|query: &Query| query.shard))
//!     .layer(ServiceErrors)
//!     .service(tower::service_fn(|query: Query| async move {
//!         if query.shard == 7 { Err(std::io::Error::other("disk full")) } else { Ok("rows") }
//!     }));
//!
//! for _ in 0..4 {
//!     let _ = database.ready().await?.call(Query { shard: 7 }).await;
//! }
//! assert_eq!(shards.state(&7), Some(State::Open));
//!
//! // The others go on as if nothing had happened.
//! assert_eq!(database.ready().await?.call(Query { shard: 8 }).await?, "rows");
//! assert_eq!(shards.open_keys(), [(7, State::Open)]);
//! # Ok(()) }
//! ```
//!
//! In a [`Stack`](crate::Stack) it is [`keyed_breaker`](crate::Stack::keyed_breaker), where `.breaker(..)` would
//! stand, and has the stack's classifier. Its own [layer](KeyedCircuitBreaker::layer) is not told that: where an
//! `Ok` can be a failure, as in HTTP, it needs [`classify`](KeyedCircuitBreakerLayer::classify), or it never opens.
//!
//! Without tower: [`KeyedCircuitBreaker::call`] and [`KeyedCircuitBreaker::try_acquire`].
//!
//! # Places
//!
//! Keys come from outside, and there may be any number of them, so there are only so many places.
//! When all are taken, a new key gets the place of one whose circuit is *closed*: first of one that
//! has not been called since a place was last looked for (the *second chance* or *clock* algorithm,
//! which is how operating systems choose pages). What is lost with that is the count of a window;
//! the old key starts anew when it comes back.
//!
//! A circuit that is open, half-open or forced keeps its place, because that is what all this is
//! for: forgotten, a dead host would be called again. When every place is taken by such a one, calls
//! with a new key pass *unprotected*, for refusing them would turn the outage of some hosts into one
//! of all. They are counted ([`unprotected`](KeyedCircuitBreaker::unprotected)), and a warning is
//! logged when it begins. A circuit does not close without calls: one that opened for a host that
//! nobody calls any more keeps its place until it is
//! [removed](KeyedCircuitBreaker::remove).
//!
//! A new tenant of a place finds nothing of the old one's: not its counts, its history, how often it
//! had opened, nor the results of calls that are still under way.
//!
//! # Laws
//!
//! The [laws](super#laws) of the breaker hold for each key, with these differences:
//!
//! - **Readiness (1)**: the key shows in the request, so readiness is the wrapped service's alone,
//!   and an error of it is nobody's failure. For the same reason nobody can wait for a circuit:
//!   [`WhenOpen::Wait`](super::WhenOpen::Wait) is refused when it is built.
//! - **No lock** but one: finding the breaker of a key takes a lock for reading, for as long as
//!   hashing and comparing a key take. A key without a place takes it for writing.
//!
//! # Telemetry
//!
//! Keys are never labels of metrics: there would be as many series as hosts. Calls, rejections and
//! transitions of all keys are counted under the one name. There is no gauge of a state, for there
//! is no one state. What a key did is in the logs, in the field `key` of every transition, and in
//! [`snapshot`](KeyedCircuitBreaker::snapshot).
//!
//! # What it costs
//!
//! A call whose key has a closed breaker: the [cost](super#what-it-costs) of a plain one, a hash of
//! the key and a lock for reading, which is a write to a line that all threads share. No allocation
//! and no copy of the key; a layer's function may have its own opinion on that. A key without a
//! place costs about as much as building a breaker the first time a place is used, and a search of
//! the places later; while all are taken by circuits that are not closed it costs a few loads.
//!
//! Memory with the default window of 100 calls: 2 KiB for each place that was ever used, and up to
//! 4 KiB more once it has a history of transitions. ([`bytes`](KeyedCircuitBreaker::bytes) says what
//! it is.) A window of time takes half of the 2 KiB. A recorder of metrics may keep another few
//! hundred bytes for each.

mod cell;
mod handle;
mod key;
mod layer;
#[cfg(all(test, buttress_loom))]
mod loom;
mod place;
mod service;

pub use handle::KeyedCircuitBreaker;
pub use key::Key;
pub use layer::{KeyedCircuitBreakerLayer, ReleasingKeyedCircuitBreakerLayer};
pub use service::KeyedCircuitBreakerService;
