//! Orders come from Kafka and go into a database that has a bad day.
//!
//! ```text
//! cargo run --features kafka --example consumers_kafka
//! cargo run --features kafka --example consumers_kafka -- localhost:9092
//! ```
//!
//! Without an address it starts librdkafka's mock cluster within this process. On brokers of yours it
//! uses two topics, `buttress-example` and `buttress-example-dead`, which they must have or create.

#[path = "brokers/kafka.rs"]
#[allow(dead_code, reason = "it does not break down here")]
mod broker;
mod shared;

use std::{env, error::Error, time::Duration};

use broker::Cluster;
use buttress::consumer::kafka::{DeadLetters, Message, Source};
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    message::Headers,
    producer::{FutureProducer, FutureRecord},
};
use shared::{Database, Order};

type BoxError = Box<dyn Error + Send + Sync>;

const ORDERS: &str = "buttress-example";
const DEAD: &str = "buttress-example-dead";
const GROUP: &str = "database";
const FOR_BROKERS: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    // Ends when this does.
    let mut own = None;
    let address = match env::args().nth(1) {
        Some(address) => address,
        None => own.insert(Cluster::start(&[(ORDERS, 4), (DEAD, 1)])?).address(),
    };
    println!("Orders come from {address}.");
    if own.is_some() {
        println!("It has the first member of a group wait for others, which takes three seconds.");
    }
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", &address);
    let sender: FutureProducer = client.create()?;

    let mut member = client.clone();
    member.set("group.id", GROUP).set("auto.offset.reset", "earliest");
    let dead_letters = DeadLetters::to_topic(DEAD, sender.clone());
    let source = Source::builder(&member, [ORDERS], dead_letters).build()?;
    let breaker = shared::breaker()?;
    let database = Database::new();
    let handler = shared::handler(breaker, &database)?;
    let decode = |message: &Message| Order::decode(message.body());
    let running = shared::consumer(breaker)?.start_decoded(source, decode, handler);

    let produced = tokio::spawn(shared::produce(async move |customer: String, body: Vec<u8>| {
        let record = FutureRecord::to(ORDERS).key(&customer).payload(&body);
        let sent = sender.send(record, FOR_BROKERS).await;
        sent.map(drop).map_err(|(error, _)| BoxError::from(error))
    }));
    shared::watch(running, breaker, &database, produced).await?;
    println!("Kafka does not deliver again: what failed was tried again in hand.");
    tokio::task::spawn_blocking(move || show_dead_letter(&client)).await?
}

/// What is written on the last of them.
fn show_dead_letter(client: &ClientConfig) -> Result<(), BoxError> {
    let reader: BaseConsumer = client.clone().set("group.id", GROUP).create()?;
    let (_, end) = reader.fetch_watermarks(DEAD, 0, FOR_BROKERS)?;
    let mut last = TopicPartitionList::new();
    last.add_partition_offset(DEAD, 0, Offset::Offset(end - 1))?;
    reader.assign(&last)?;
    let Some(letter) = reader.poll(FOR_BROKERS) else {
        return Err("the dead letters cannot be read".into());
    };
    let letter = letter?;
    println!("The last dead letter is {:?}:", letter.payload().map(String::from_utf8_lossy));
    for header in letter.headers().iter().flat_map(|headers| headers.iter()) {
        println!(
            "    {}: {}",
            header.key,
            String::from_utf8_lossy(header.value.unwrap_or_default())
        );
    }
    Ok(())
}
