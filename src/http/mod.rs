//! HTTP: what a response means, which requests may be repeated, and refusals as responses.

mod connections;
mod failure;
mod hints;
mod idempotent;
mod message;
mod responses;
mod stack;

pub use connections::Connections;
pub use failure::{ClientError, Failure};
pub use hints::{MAX_HINT, retry_after};
pub use idempotent::{Idempotent, IdempotentOr, Repeatable};
pub use message::{RequestHead, ResponseHead};
pub use responses::Responses;
