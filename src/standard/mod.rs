//! The standard stack: the recommended policies in the recommended order, as one layer from one
//! configuration.
//!
//! For most clients the answer to *which policies, in which order, with which numbers* is the same,
//! and what goes wrong is that the numbers do not fit each other: three attempts of a second each
//! within a limit of two, a breaker that needs more calls than ever come, retries that nobody pays
//! for. A [`Standard`] stack is made of one [`StandardConfig`], which is checked as a whole:
//! [`StandardConfig::validate`] refuses what contradicts itself and says which two numbers do.
//!
//! From the outside in, and each part can be switched off:
//!
//! 1. a **fallback**, where one is [given](StandardLayer::fallback) in code;
//! 2. a **timeout** of the whole operation, 3 s;
//! 3. **retries** under a budget, 3 attempts;
//! 4. a **circuit breaker**;
//! 5. a **timeout** of each attempt, 500 ms.
//!
//! The crate's page says [why in this order](crate#the-order-of-layers).
//!
//! ```
//! use buttress::{ServiceErrors, Stack, Standard};
//! use std::time::Duration;
//! use tower::{Service, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let client = tower::service_fn(|_: &str| async { Ok::<_, std::io::Error>("in stock") });
//! let standard = Standard::builder("inventory")
//!     .attempt_timeout(Duration::from_millis(250))
//!     .expected_rate(40.0) // calls a second, over all replicas
//!     .replicas(4)
//!     .build()?;
//!
//! let mut client = Stack::new().standard(standard).layer(ServiceErrors).service(client);
//! assert_eq!(client.ready().await?.call("apples").await?, "in stock");
//!
//! // Its parts are handles like any other.
//! assert_eq!(standard.retry().unwrap().counts().retried, 0);
//! # Ok(()) }
//! ```
//!
//! From a file, with feature `serde`; a part is a table, or `false` for none:
//!
//! ```toml
//! expected_rate = 40.0
//! replicas = 4
//! timeout = { after = "2s" }
//! attempt_timeout = { after = "250ms" }
//! fallback = false
//!
//! [retry]
//! max_attempts = 4
//! backoff = { base = "20ms", max = "1s" }
//!
//! [breaker]
//! open_for = "10s"
//! ```
//!
//! Not the right thing where the parts should be shared (one budget for two clients), where the
//! order should differ, or where each of many hosts needs a [breaker of its own](crate::breaker::keyed):
//! then build them one by one with a [`Stack`](crate::Stack).
//!
//! # What it costs
//!
//! What its parts cost, and a comparison for each part that tells whether it is there.

mod config;
mod consistency;
mod handle;
mod layer;
mod optional;

pub use config::{StandardBuilder, StandardConfig};
pub use handle::Standard;
pub use layer::{StandardLayer, StandardService};
pub use optional::{Optional, OptionalFuture, OptionalLayer};
