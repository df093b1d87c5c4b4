//! Kafka: the real client against librdkafka's mock cluster.
//!
//! Real sockets and paused time do not mix: these tests take real, short times. Where it
//! does not matter how the group agrees, its coordinator decides (KIP-848): the mock cluster does that at
//! once, while it has a group of the classic protocol wait three seconds for its first members.

#![cfg(feature = "kafka")]

#[path = "consumer_kafka/broker.rs"]
mod broker;
#[path = "../examples/consumers/brokers/kafka.rs"]
mod cluster;
mod consumer_support;
#[path = "consumer_kafka/dead_letters.rs"]
mod dead_letters;
#[path = "consumer_kafka/faults.rs"]
mod faults;
#[path = "consumer_kafka/offsets.rs"]
mod offsets;
#[path = "consumer_kafka/pause.rs"]
mod pause;
#[path = "consumer_kafka/rebalance.rs"]
mod rebalance;
#[path = "consumer_kafka/scenarios.rs"]
mod scenarios;
#[path = "consumer_kafka/settings.rs"]
mod settings;
