//! The source for RabbitMQ, against a real broker.
#![cfg(feature = "rabbitmq")]
#![allow(missing_docs, unreachable_pub)]

#[path = "../examples/consumers/brokers/rabbitmq.rs"]
mod broker;
mod consumer_rabbitmq {
    mod connection;
    mod copies;
    mod deliveries;
    pub mod queue;
    mod scenario;
    mod trouble;
    mod unlucky;
}
mod consumer_support;
#[path = "../examples/consumers/brokers/port.rs"]
mod port;
