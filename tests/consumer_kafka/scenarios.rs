//! What every broker's consumers are put through.

use crate::{
    broker::Kafka,
    consumer_support::{
        child,
        scenario::{self, Order},
    },
};

/// The mock cluster has a thread of its own.
const OTHERS: &[&str] = &["rdk:mock"];

#[tokio::test(flavor = "multi_thread")]
async fn outages_without_order() {
    scenario::outages(&Kafka::start().classic(), Order::Any).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn outages_in_order() {
    scenario::outages(&Kafka::start(), Order::PerKey).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn broker_killed() {
    scenario::crash(&Kafka::start().patient()).await;
}

#[test]
fn consumer_killed() {
    child::killed("scenarios::consumer_killed", async || Kafka::start().classic());
}

#[test]
fn open_circuit_is_quiet() {
    child::alone("scenarios::open_circuit_is_quiet", async || {
        scenario::open_circuit(&Kafka::start().classic(), OTHERS).await;
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_under_load() {
    scenario::shutdown(&Kafka::start()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hard_shutdown_under_load() {
    scenario::hard_shutdown(&Kafka::start()).await;
}
