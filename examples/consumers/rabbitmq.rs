//! Orders come from RabbitMQ and go into a database that has a bad day.
//!
//! ```text
//! cargo run --features rabbitmq --example consumers_rabbitmq
//! cargo run --features rabbitmq --example consumers_rabbitmq -- amqp://guest:guest@localhost:5672/%2f
//! ```
//!
//! Without an address it starts a RabbitMQ of its own, in a temporary directory on a free port of the
//! loopback interface, and takes it away at the end. On a broker of yours it makes an exchange and
//! queues whose names begin with `buttress-example`, and takes those away.

#[path = "brokers/rabbitmq.rs"]
#[allow(dead_code, reason = "it is not killed here")]
mod broker;
#[path = "brokers/port.rs"]
mod port;
mod shared;

use std::{env, error::Error};

use broker::Broker;
use buttress::consumer::rabbitmq::{DeadLetters, Message, Source};
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind,
    options::{
        BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions,
        ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
    },
    types::{AMQPValue, FieldTable},
};
use shared::{Database, Order};

type BoxError = Box<dyn Error + Send + Sync>;

/// The exchange that orders are published to by customer, and the queue behind it.
const ORDERS: &str = "buttress-example";
const DEAD: &str = "buttress-example.dead";

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    // Ends when this does.
    let mut own = None;
    let uri = if let Some(uri) = env::args().nth(1) {
        uri
    } else {
        println!("A RabbitMQ is started, which takes some seconds.");
        own.insert(Broker::start()?).uri()
    };
    println!("Orders come from {uri}.");
    let connection = Connection::connect(&uri, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    take_away(&channel).await;
    make_queues(&channel).await?;

    let dead_letters = DeadLetters::to_queue(DEAD);
    let source = Source::builder(uri, ORDERS, dead_letters).delayed_retry().build()?;
    let breaker = shared::breaker()?;
    let database = Database::new();
    let handler = shared::handler(breaker, &database)?;
    let decode = |message: &Message| Order::decode(message.body());
    let running = shared::consumer(breaker)?.start_decoded(source, decode, handler);

    let orders = connection.create_channel().await?;
    orders.confirm_select(ConfirmSelectOptions::default()).await?;
    let produced = tokio::spawn(shared::produce(async move |customer: String, body: Vec<u8>| {
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let properties = BasicProperties::default().with_delivery_mode(2);
        let published = orders.basic_publish(
            ORDERS.into(),
            customer.as_str().into(),
            options,
            &body,
            properties,
        );
        match published.await?.await? {
            confirmed if confirmed.is_ack() => Ok::<_, BoxError>(()),
            refused => Err(format!("an order was not stored: {refused:?}").into()),
        }
    }));
    let watched = shared::watch(running, breaker, &database, produced).await;

    if watched.is_ok() {
        show_dead_letter(&channel).await?;
    }
    take_away(&channel).await;
    watched
}

/// An exchange with a queue of orders, and a queue of dead letters.
async fn make_queues(channel: &Channel) -> Result<(), BoxError> {
    let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
    let none = FieldTable::default;
    channel.exchange_declare(ORDERS.into(), ExchangeKind::Topic, options, none()).await?;
    for queue in [ORDERS, DEAD] {
        let mut arguments = none();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        let options = QueueDeclareOptions { durable: true, ..Default::default() };
        channel.queue_declare(queue.into(), options, arguments).await?;
    }
    let options = QueueBindOptions::default();
    channel.queue_bind(ORDERS.into(), ORDERS.into(), "#".into(), options, none()).await?;
    Ok(())
}

/// What is written on the first of them.
async fn show_dead_letter(channel: &Channel) -> Result<(), BoxError> {
    let Some(letter) = channel.basic_get(DEAD.into(), BasicGetOptions { no_ack: true }).await?
    else {
        return Ok(());
    };
    println!("The first dead letter is {:?}:", String::from_utf8_lossy(&letter.data));
    for (name, value) in letter.properties.headers().iter().flatten() {
        match value {
            AMQPValue::LongString(text) if name.as_str().starts_with("x-buttress") => {
                println!("    {name}: {text}");
            }
            AMQPValue::LongLongInt(number) if name.as_str().starts_with("x-buttress") => {
                println!("    {name}: {number}");
            }
            _ => {}
        }
    }
    Ok(())
}

/// All that this has made; also what an earlier run, broken off, has left. What is not there is no
/// error of deleting.
async fn take_away(channel: &Channel) {
    let options = QueueDeleteOptions::default();
    let delays = (0..10).map(|doublings| format!("{ORDERS}.retry.{}ms", 100 << doublings));
    for queue in [ORDERS, DEAD].map(str::to_owned).into_iter().chain(delays) {
        let _ = channel.queue_delete(queue.as_str().into(), options).await;
    }
    let _ = channel.exchange_delete(ORDERS.into(), ExchangeDeleteOptions::default()).await;
}
