//! Message consumers: the same policies around the handler of a queue, and nothing lost.

mod settle;
mod source;

pub use settle::{Decision, Settle, SettleError, SettleErrorKind};
pub use source::{Delivery, Source};

#[cfg(feature = "kafka")]
pub mod kafka;
