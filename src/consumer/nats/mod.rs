//! JetStream of NATS.
mod builder;
mod dead_letter;
mod delivery;
mod error;
mod link;
mod message;
mod pulls;
mod source;
mod terms;

pub use builder::{Acks, DeadLetters, SourceBuilder};
pub use delivery::Delivery;
pub use error::Error;
pub use message::Message;
pub use source::Source;
