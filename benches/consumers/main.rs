//! What a consumer costs on top of its client: processor time per message and throughput against the
//! bare loop that one would write with the client alone, with the same concurrency, in one run.
//!
//! ```text
//! cargo bench --features nats,rabbitmq,kafka --bench consumers
//! cargo bench --features nats --bench consumers -- nats
//! ```
//!
//! Each side works off a queue that was filled before, and is through when the broker has confirmed
//! the last acknowledgement. They take turns, so that a machine that is busy for a while is busy for
//! both; what is told is medians of rounds. Only this process counts: the broker is another.
#![allow(missing_docs, unreachable_pub)]

#[cfg(feature = "kafka")]
#[path = "../../examples/consumers/brokers/kafka.rs"]
#[allow(dead_code, reason = "it does not break down here")]
mod cluster;
mod contest;
#[cfg(feature = "kafka")]
mod kafka;
mod memory;
#[cfg(feature = "nats")]
mod nats;
#[cfg(feature = "nats")]
#[path = "../../examples/consumers/brokers/nats.rs"]
#[allow(dead_code, reason = "it is not killed here")]
mod nats_server;
#[cfg(any(feature = "nats", feature = "rabbitmq"))]
#[path = "../../examples/consumers/brokers/port.rs"]
mod port;
#[path = "../../tests/consumer_support/process.rs"]
mod process;
#[cfg(feature = "rabbitmq")]
mod rabbitmq;
#[cfg(feature = "rabbitmq")]
#[path = "../../examples/consumers/brokers/rabbitmq.rs"]
#[allow(dead_code, reason = "it is not killed here")]
mod rabbitmq_server;

use std::env;

use tokio::runtime::Runtime;

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    // `cargo test --benches` runs this without it, and measures nothing.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return;
    }
    let named: Vec<&String> = arguments.iter().filter(|name| !name.starts_with('-')).collect();
    let wanted = |name: &str| named.is_empty() || named.iter().any(|wanted| *wanted == name);
    let runtime = Runtime::new().unwrap();
    contest::headline();
    if wanted("memory") {
        runtime.block_on(contest::hold(memory::InMemory::new()));
    }
    #[cfg(feature = "nats")]
    if wanted("nats") {
        runtime.block_on(nats::measure());
    }
    #[cfg(feature = "rabbitmq")]
    if wanted("rabbitmq") {
        runtime.block_on(rabbitmq::measure());
    }
    #[cfg(feature = "kafka")]
    if wanted("kafka") {
        runtime.block_on(kafka::measure());
    }
}
