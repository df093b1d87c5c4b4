//! JetStream, with a real `nats-server` for each test.
//!
//! Real sockets and paused time do not mix: these tests take real, short times.
#![cfg(feature = "nats")]

mod consumer_support;
#[path = "../examples/consumers/brokers/nats.rs"]
mod nats_server;
#[path = "../examples/consumers/brokers/port.rs"]
mod port;

#[path = "consumer_nats/broker.rs"]
mod broker;
#[path = "consumer_nats/connection.rs"]
mod connection;
#[path = "consumer_nats/opening.rs"]
mod opening;
#[path = "consumer_nats/pulling.rs"]
mod pulling;
#[path = "consumer_nats/scenario.rs"]
mod scenario;
#[path = "consumer_nats/settling.rs"]
mod settling;
