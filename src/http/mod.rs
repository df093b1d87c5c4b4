//! HTTP: what a response means, which requests may be repeated, and refusals as responses.

mod refusals;

pub use refusals::{Refusals, RefusalsFuture, RefusalsService, refusal_response};
