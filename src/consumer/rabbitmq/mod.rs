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

pub use config::QueueSourceBuilder;
pub use dead_letters::DeadLetters;
pub use delivery::QueueDelivery;
pub use error::Error;
pub use message::Message;
pub use source::QueueSource;
