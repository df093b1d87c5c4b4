//! HTTP: what a response means, which requests may be repeated, and refusals as responses.

mod authority;
mod refusals;

#[cfg(feature = "reqwest")]
pub use authority::reqwest_authority;
pub use authority::{Authority, authority};
pub use refusals::{Refusals, RefusalsFuture, RefusalsService, refusal_response};
