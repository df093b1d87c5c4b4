//! gRPC: what a status means, and refusals as statuses.

mod refusals;

pub use refusals::{Refusals, RefusalsFuture, RefusalsService};
