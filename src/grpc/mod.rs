//! gRPC: what a status means, and refusals as statuses.

mod classify;
mod refusals;
mod status_error;

pub use classify::{Statuses, status};
pub use refusals::{Refusals, RefusalsFuture, RefusalsService};
pub use status_error::StatusError;
