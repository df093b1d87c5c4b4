//! RabbitMQ: a durable quorum queue, on a broker of our own on the same machine.

use std::sync::Arc;

use buttress::consumer::rabbitmq::{DeadLetters, Message, Source};
use futures::{StreamExt, future::join_all};
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
        ConfirmSelectOptions, QueueDeclareOptions, QueuePurgeOptions,
    },
    types::{AMQPValue, FieldTable},
};
use tokio::{sync::Semaphore, task::JoinSet};

use crate::{
    contest::{self, CONCURRENCY, Contest, Work},
    rabbitmq_server::Broker,
};

/// On both sides: what the source has by itself.
const PREFETCH: u16 = 100;
const QUEUE: &str = "bench";

pub(crate) async fn measure() {
    let broker = Broker::start().unwrap();
    let uri = broker.uri();
    let channel = connect(&uri).await.create_channel().await.unwrap();
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    let options = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare(QUEUE.into(), options, arguments).await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    contest::hold(RabbitMq { uri, channel }).await;
}

async fn connect(uri: &str) -> Connection {
    Connection::connect(uri, ConnectionProperties::default()).await.unwrap()
}

struct RabbitMq {
    uri: String,
    channel: Channel,
}

impl Contest for RabbitMq {
    type Source = Source;

    const NAME: &'static str = "rabbitmq";

    async fn fill(&self, messages: u64) {
        self.channel.queue_purge(QUEUE.into(), QueuePurgeOptions::default()).await.unwrap();
        let (body, options) = ([b'x'; 100], BasicPublishOptions::default());
        let mut left = messages;
        while left > 0 {
            let mut confirmed = Vec::new();
            for _ in 0..left.min(500) {
                let properties = BasicProperties::default().with_delivery_mode(2);
                let published =
                    self.channel.basic_publish("".into(), QUEUE.into(), options, &body, properties);
                confirmed.push(published.await.unwrap());
            }
            left -= confirmed.len() as u64;
            assert!(join_all(confirmed).await.iter().all(Result::is_ok));
        }
    }

    async fn source(&self) -> Source {
        let dead_letters = DeadLetters::by_broker();
        Source::builder(&self.uri, QUEUE, dead_letters).prefetch(PREFETCH).build().unwrap()
    }

    fn body(payload: &Message) -> &[u8] {
        payload.body()
    }

    async fn bare(&self, work: Work) {
        let connection = connect(&self.uri).await;
        let channel = connection.create_channel().await.unwrap();
        channel.basic_qos(PREFETCH, BasicQosOptions::default()).await.unwrap();
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        let mut consumer =
            channel.basic_consume(QUEUE.into(), "".into(), options, arguments).await.unwrap();
        let free = Arc::new(Semaphore::new(CONCURRENCY));
        let mut tasks = JoinSet::new();
        for _ in 0..work.left() {
            let delivery = consumer.next().await.unwrap().unwrap();
            let permit = Arc::clone(&free).acquire_owned().await.unwrap();
            let work = work.clone();
            tasks.spawn(async move {
                work.handle(&delivery.data).await;
                delivery.ack(BasicAckOptions::default()).await.unwrap();
                drop(permit);
            });
            while tasks.try_join_next().is_some() {}
        }
        tasks.join_all().await;
        // The broker answers in turn, so it has heard them all.
        channel.close(200, "done".into()).await.unwrap();
        connection.close(200, "done".into()).await.unwrap();
    }
}
