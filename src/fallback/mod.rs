//! Fallback: something to answer with when a service cannot.
//!
//! **Use it** at the top of a stack, where there is an answer that is worse than the real one and
//! better than none: yesterday's prices, an empty list of recommendations, a replica, a second
//! provider. It is what turns an open circuit from an error page into a page.
//!
//! **Do not use it** where a wrong answer costs more than an error (a balance, a permission), and
//! not as a second attempt at the same service: that is what a retry is for. A backup that shares
//! the primary's fate, its database say, is no backup. And a fallback that runs once a year will
//! not work on that day: Amazon's advice is to avoid fallbacks that nothing exercises (Jacob
//! Gabrielson, *Avoiding fallback in distributed systems*, Amazon Builders' Library, 2019), so
//! watch the counts, and try it on purpose.
//!
//! ```
//! use buttress::{Error, Fallback, ServiceErrors, VerdictKind};
//! use tower::{service_fn, Service, ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let fallback = Fallback::builder("recommendations").build()?;
//!
//! let mut recommendations = ServiceBuilder::new()
//!     .layer(fallback.to_value(vec!["our bestsellers"]))
//!     .layer(ServiceErrors)
//!     .service(service_fn(|user: u32| async move {
//!         match user {
//!             7 => Ok(vec!["just for you"]),
//!             _ => Err(std::io::Error::other("connection refused")),
//!         }
//!     }));
//!
//! assert_eq!(recommendations.ready().await?.call(7).await?, ["just for you"]);
//! assert_eq!(recommendations.ready().await?.call(8).await?, ["our bestsellers"]);
//! assert_eq!(fallback.counts().degraded, 1);
//! # Ok(()) }
//! ```
//!
//! # Four kinds
//!
//! | | answers with | copies the request |
//! |---|---|---|
//! | [`to_value`](Fallback::to_value) | a clone of a value | never |
//! | [`to_fn`](Fallback::to_fn) | a function of the failed outcome | never |
//! | [`to_async_fn`](Fallback::to_async_fn) | an async function of it | never |
//! | [`to_service`](Fallback::to_service) | a backup service | once before each call |
//!
//! A function sees the failed outcome and not the request. What depends on the request, such as the
//! last good answer to it, is a backup service, which gets a copy of it:
//!
//! ```
//! # use buttress::{Error, Fallback, ServiceErrors};
//! # use tower::{service_fn, Service, ServiceBuilder, ServiceExt};
//! use std::{collections::HashMap, sync::{Arc, Mutex}};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Written wherever a good answer has come.
//! let last_good = Arc::new(Mutex::new(HashMap::from([("apples", 42)])));
//!
//! let cache = service_fn(move |name: &'static str| {
//!     let found = last_good.lock().expect("nobody panics with it").get(name).copied();
//!     async move { found.ok_or(Error::Service(std::io::Error::other("not in the cache"))) }
//! });
//! let mut stock = ServiceBuilder::new()
//!     .layer(Fallback::builder("stock").build()?.to_service(cache))
//!     .layer(ServiceErrors)
//!     .service(service_fn(|_: &'static str| async {
//!         Err::<u32, _>(std::io::Error::other("connection refused"))
//!     }));
//!
//! assert_eq!(stock.ready().await?.call("apples").await?, 42);
//! // What the cache says is the caller's answer, good or bad.
//! let error = stock.ready().await?.call("pears").await.unwrap_err();
//! assert_eq!(error.to_string(), "not in the cache");
//! # Ok(()) }
//! ```
//!
//! # What it does
//!
//! **Give a backup, or an async function, a time limit of its own.** The fallback is the outermost
//! policy, so none of the primary's timeouts covers it.
//!
//! The outcome of the primary is [classified](crate::verdict); if the kind of its verdict is among
//! those of [`when`](FallbackBuilder::when), the fallback answers, and its outcome is the caller's,
//! good or bad. A primary whose readiness fails is an outcome like any other; the backup then gets
//! the request itself, uncopied. Where the request cannot be copied for a backup, or may have been
//! executed and [must not be twice](crate::Repeats), the primary's outcome goes through.
//!
//! A degraded state that nobody sees is an outage that nobody sees, so calls are told apart: by
//! [`counts`](Fallback::counts) the last two of these, by feature `metrics` all three.
//!
//! - **good**: the primary's outcome, and no failure: `Success`; and `Permanent` and `Ignored`
//!   unless `when` names them, for a 404 is an answer;
//! - **degraded**: the fallback's outcome, and by the same rule no failure;
//! - **failed**: everything else, among it a backup's own `Ok(503)` where the classifier says so,
//!   and a function that gave the failed outcome back.
//!
//! # Laws
//!
//! Readiness (1): the instance that was ready is the one that is called, the backup's clone
//! included. Cancel safety (3): dropping the future drops what is under way. Bounds (13): `Clone`
//! is asked of the value and the backup, and of the request only where there is a backup.
//!
//! # What it costs
//!
//! While the primary is well, a verdict and a bit test; nothing is written. The value, function or
//! backup is kept once for each layer, for the life of the process, so that healthy calls carry no
//! copy of it: make the layer once, like the handle. A handle keeps some 100 bytes (200 with feature `metrics`).
//!
//! A primary whose readiness fails is polled again for the next call, so it should be one whose
//! readiness can come back. What is above does not see such an error, and so evicts nobody.

mod answer;
mod cell;
mod config;
mod future;
mod handle;
mod kinds;
mod layer;
mod service;

pub use answer::{Answer, AsyncFunction, Backup, Function, Kind, Unanswered, Value};
pub use cell::FallbackCounts;
pub use config::{FallbackBuilder, FallbackConfig};
pub use future::FallbackFuture;
pub use handle::Fallback;
pub use kinds::{VerdictKinds, VerdictKindsIter};
pub use layer::FallbackLayer;
pub use service::FallbackService;
