//! RabbitMQ.
mod config;
mod connection;
mod copy;
mod dead_letters;
mod delay;
mod delivery;
mod error;
mod link;
mod message;
mod publisher;
mod source;

pub use config::SourceBuilder;
pub use dead_letters::DeadLetters;
pub use delivery::Delivery;
pub use error::Error;
pub use message::Message;
pub use source::Source;
