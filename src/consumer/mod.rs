//! Message consumers: the same policies around the handler of a queue, and nothing lost.

mod config;
mod driver;
mod halt;
mod hand;
mod handle;
mod handling;
mod outcome;
mod running;
mod settle;
mod source;

pub use config::{ConsumerBuilder, ConsumerConfig};
pub use handle::Consumer;
pub use outcome::{Handled, Outcome};
pub use running::{Monitor, Running, Status, Summary};
pub use settle::{Decision, Settle, SettleError, SettleErrorKind};
pub use source::{Delivery, Source};

#[cfg(feature = "kafka")]
pub mod kafka;
