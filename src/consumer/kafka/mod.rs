//! Kafka, with rdkafka 0.39.

mod config;
mod context;
mod dead_letters;
mod delivery;
mod error;
mod group;
mod message;
mod offsets;
mod signal;
mod source;

pub use config::{KafkaSourceBuilder, Order};
pub use dead_letters::DeadLetters;
pub use delivery::KafkaDelivery;
pub use error::Error;
pub use message::Message;
pub use source::KafkaSource;
