//! Message consumers: the same policies around the handler of a queue, and nothing lost.

#[cfg(feature = "rabbitmq")]
#[cfg_attr(docsrs, doc(cfg(feature = "rabbitmq")))]
pub mod rabbitmq;
mod settle;
mod source;

pub use settle::{Decision, Settle, SettleError, SettleErrorKind};
pub use source::{Delivery, Source};
