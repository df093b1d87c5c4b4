//! HTTP: what a response means, which requests may be repeated, and refusals as responses.

pub mod body;

pub use body::{BodyTimeout, BodyTimeoutConfig, ReplayBody, ReplayLayer};
