//! Orders come from NATS and go into a database that has a bad day.
//!
//! ```text
//! cargo run --features nats --example consumers_nats
//! cargo run --features nats --example consumers_nats -- nats://localhost:4222
//! ```
//!
//! Without an address it starts a `nats-server` of its own, in a temporary directory on a free port of
//! the loopback interface, and takes it away at the end. On a server of yours it makes two streams,
//! `BUTTRESS_EXAMPLE` and `BUTTRESS_EXAMPLE_DEAD`, and takes those away.

#[path = "brokers/nats.rs"]
#[allow(dead_code, reason = "it is not killed here")]
mod broker;
#[path = "brokers/port.rs"]
mod port;
mod shared;

use std::{env, error::Error};

use async_nats::jetstream::{
    self,
    consumer::{PullConsumer, pull},
    stream,
};
use broker::NatsServer;
use buttress::consumer::nats::{DeadLetters, Message, Source};
use shared::{Database, Order};

type BoxError = Box<dyn Error + Send + Sync>;

const ORDERS: &str = "BUTTRESS_EXAMPLE";
const DEAD: &str = "BUTTRESS_EXAMPLE_DEAD";
/// The orders of a customer are published to this, a dot and the customer.
const SUBJECT: &str = "buttress.example.orders";
const DEAD_SUBJECT: &str = "buttress.example.dead";
const CONSUMER: &str = "database";

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    // Ends when this does.
    let mut own = None;
    let url = match env::args().nth(1) {
        Some(url) => url,
        None => own.insert(NatsServer::start()?).url(),
    };
    println!("Orders come from {url}.");
    let jetstream = jetstream::new(async_nats::connect(url).await?);
    make_streams(&jetstream).await?;

    let dead_letters = DeadLetters::to(DEAD_SUBJECT);
    let source = Source::builder(jetstream.clone(), ORDERS, CONSUMER, dead_letters).open().await?;
    let breaker = shared::breaker()?;
    let database = Database::new();
    let handler = shared::handler(breaker, &database)?;
    let decode = |message: &Message| Order::decode(message.payload());
    let running = shared::consumer(breaker)?.start_decoded(source, decode, handler);

    let context = jetstream.clone();
    let produced = tokio::spawn(shared::produce(async move |customer, body: Vec<u8>| {
        let published = context.publish(format!("{SUBJECT}.{customer}"), body.into());
        published.await?.await?;
        Ok::<_, BoxError>(())
    }));
    let watched = shared::watch(running, breaker, &database, produced).await;

    if watched.is_ok() {
        show_dead_letter(&jetstream).await?;
    }
    take_away(&jetstream).await;
    watched
}

/// A stream of orders with a durable consumer, and a stream of dead letters.
async fn make_streams(jetstream: &jetstream::Context) -> Result<(), BoxError> {
    // What an earlier run, broken off, has left.
    take_away(jetstream).await;
    for (name, subject) in [(ORDERS, format!("{SUBJECT}.*")), (DEAD, DEAD_SUBJECT.to_owned())] {
        let config = stream::Config {
            name: name.to_owned(),
            subjects: vec![subject],
            ..stream::Config::default()
        };
        jetstream.create_stream(config).await?;
    }
    let config = pull::Config {
        durable_name: Some(CONSUMER.to_owned()),
        max_deliver: -1,
        ..pull::Config::default()
    };
    let _made: PullConsumer = jetstream.create_consumer_on_stream(config, ORDERS).await?;
    Ok(())
}

/// What is written on the first of them.
async fn show_dead_letter(jetstream: &jetstream::Context) -> Result<(), BoxError> {
    let letter = jetstream.get_stream(DEAD).await?.get_raw_message(1).await?;
    println!("The first dead letter is {:?}:", String::from_utf8_lossy(&letter.payload));
    for name in ["Buttress-Reason", "Buttress-Subject", "Buttress-Sequence", "Buttress-Deliveries"]
    {
        if let Some(value) = letter.headers.get(name) {
            println!("    {name}: {value}");
        }
    }
    Ok(())
}

async fn take_away(jetstream: &jetstream::Context) {
    for name in [ORDERS, DEAD] {
        // It may not be there.
        let _ = jetstream.delete_stream(name).await;
    }
}
