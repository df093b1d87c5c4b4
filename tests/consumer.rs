//! Consumers through their public interface, over a broker in memory.
#![cfg(feature = "consumer")]

#[path = "consumer/broker.rs"]
mod broker;
#[path = "consumer/chaos.rs"]
mod chaos;
mod consumer_support;
#[path = "consumer/gate.rs"]
mod gate;
#[path = "consumer/handling.rs"]
mod handling;
#[path = "consumer/mapping.rs"]
mod mapping;
#[path = "consumer/order.rs"]
mod order;
#[path = "consumer/rig.rs"]
mod rig;
#[path = "consumer/stopping.rs"]
mod stopping;
#[cfg(feature = "metrics")]
#[path = "consumer/telemetry.rs"]
mod telemetry;

use std::time::Duration;

use bytes::Bytes;
use consumer_support::{
    child,
    memory::{Memory, MemorySource, Options},
    message::Message,
    scenario::{self, Broker, Order},
};

/// The broker in memory, put through what the real ones are.
struct InMemory(Memory);

impl InMemory {
    fn new() -> Self {
        InMemory(Memory::new(Options {
            prefetch: Self::PREFETCH,
            ack_wait: Some(Duration::from_secs(2)),
            extend_every: Some(Duration::from_millis(500)),
            pulls: true,
            ..Options::default()
        }))
    }
}

impl Broker for InMemory {
    type Source = MemorySource;

    const PREFETCH: usize = 50;

    async fn publish(&self, messages: &[Message]) {
        self.0.publish(messages.iter().cloned());
    }

    async fn source(&self, _ordered: bool) -> MemorySource {
        self.0.source()
    }

    fn body(payload: &Bytes) -> Bytes {
        payload.clone()
    }

    async fn left(&self) -> usize {
        self.0.left()
    }

    async fn dead_letters(&self) -> Vec<(Bytes, String)> {
        self.0.dead_letters().into_iter().map(|dead| (dead.body, dead.reason)).collect()
    }

    async fn kill(&self) {
        self.0.stop();
    }

    async fn restart(&self) {
        self.0.start();
    }
}

#[tokio::test(start_paused = true)]
async fn outages_of_every_kind() {
    scenario::outages(&InMemory::new(), Order::Any).await;
}

#[tokio::test(start_paused = true)]
async fn outages_of_every_kind_in_order() {
    scenario::outages(&InMemory::new(), Order::PerKey).await;
}

/// In real time: handlers run beside the driver.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outages_of_every_kind_in_threads() {
    scenario::outages(&InMemory::new(), Order::Any).await;
}

#[tokio::test(start_paused = true)]
async fn broker_killed_and_restarted() {
    scenario::crash(&InMemory::new()).await;
}

#[tokio::test(start_paused = true)]
async fn shut_down_under_load() {
    scenario::shutdown(&InMemory::new()).await;
}

#[tokio::test(start_paused = true)]
async fn shut_down_past_the_deadline() {
    scenario::hard_shutdown(&InMemory::new()).await;
}

#[test]
fn quiet_while_open() {
    child::alone("quiet_while_open", async || {
        scenario::open_circuit(&InMemory::new(), &[]).await;
    });
}
