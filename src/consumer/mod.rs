//! Message consumers: the same policies around the handler of a queue, and nothing lost.

#[cfg(feature = "nats")]
#[cfg_attr(docsrs, doc(cfg(feature = "nats")))]
pub mod nats;
mod settle;
mod source;

pub use settle::{Decision, Settle, SettleError, SettleErrorKind};
pub use source::{Delivery, Source};
