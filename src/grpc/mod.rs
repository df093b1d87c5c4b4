//! gRPC: what a status means, and refusals as statuses.

mod classify;
mod status_error;

pub use classify::{Statuses, status};
pub use status_error::StatusError;
