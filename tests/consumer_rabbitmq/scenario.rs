//! What every broker goes through.

use std::sync::{Arc, Mutex};

use buttress::consumer::rabbitmq::{self, DeadLetters, Source};
use bytes::Bytes;
use futures::future::join_all;
use lapin::{
    BasicProperties, Channel, Connection, ExchangeKind,
    options::{
        BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions,
        QueueBindOptions,
    },
    types::{AMQPValue, FieldTable},
};

use super::queue::{BROKER, Queue, connect, declare_quorum};
use crate::{
    broker::Broker,
    consumer_support::{
        child::{self, Reachable},
        message::Message,
        scenario::{self, Order},
    },
};

/// A queue behind an exchange of the same name, on the shared broker or on one that may be killed.
struct RabbitMq {
    uri: String,
    queue: String,
    own: Option<Arc<Mutex<Broker>>>,
}

impl RabbitMq {
    async fn shared() -> Self {
        RabbitMq { uri: BROKER.uri(), queue: Queue::name(), own: None }.declared().await
    }

    async fn own() -> Self {
        let broker = Broker::start().unwrap();
        let uri = broker.uri();
        let own = Some(Arc::new(Mutex::new(broker)));
        let broker = RabbitMq { uri, queue: Queue::name(), own }.declared().await;
        // RabbitMQ 3.10 writes down behind our back where its quorum queues are: one that was declared
        // a moment before a SIGKILL is there after it, and never answers.
        broker.evaluate("[dets:sync(Table) || Table <- dets:all()]").unwrap();
        broker.evaluate("mnesia:dump_log()").unwrap();
        broker
    }

    async fn declared(self) -> Self {
        let (_connection, channel) = self.channel().await;
        declare_quorum(&channel, &self.queue, &[]).await;
        declare_quorum(&channel, &self.dead(), &[]).await;
        let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let (name, arguments) = (self.queue.as_str(), FieldTable::default());
        channel
            .exchange_declare(name.into(), ExchangeKind::Topic, options, arguments.clone())
            .await
            .unwrap();
        let options = QueueBindOptions::default();
        channel.queue_bind(name.into(), name.into(), "#".into(), options, arguments).await.unwrap();
        self
    }

    async fn channel(&self) -> (Connection, Channel) {
        let connection = connect(&self.uri, "test").await;
        let channel = connection.create_channel().await.unwrap();
        (connection, channel)
    }

    fn dead(&self) -> String {
        format!("{}.dead", self.queue)
    }

    fn evaluate(&self, expression: &str) -> std::io::Result<String> {
        match &self.own {
            Some(broker) => broker.lock().unwrap().evaluate(expression),
            None => BROKER.evaluate(expression),
        }
    }
}

impl scenario::Broker for RabbitMq {
    type Source = Source;

    const PREFETCH: usize = 50;

    async fn publish(&self, messages: &[Message]) {
        let (_connection, channel) = self.channel().await;
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        for some in messages.chunks(500) {
            let mut confirmed = Vec::new();
            for message in some {
                let published = channel.basic_publish(
                    self.queue.as_str().into(),
                    message.key.as_str().into(),
                    options,
                    &message.body,
                    BasicProperties::default().with_delivery_mode(2),
                );
                confirmed.push(published.await.unwrap());
            }
            for confirmation in join_all(confirmed).await {
                let confirmation = confirmation.unwrap();
                assert!(confirmation.is_ack() && confirmation.take_message().is_none());
            }
        }
    }

    async fn source(&self, ordered: bool) -> Source {
        let dead_letters = DeadLetters::to_queue(self.dead());
        let source =
            Source::builder(&self.uri, &self.queue, dead_letters).prefetch(Self::PREFETCH as u16);
        let source = if ordered { source } else { source.delayed_retry() };
        source.build().unwrap()
    }

    fn body(payload: &rabbitmq::Message) -> Bytes {
        payload.body().clone()
    }

    /// In the queue and in those where its messages wait.
    async fn left(&self) -> usize {
        let queue = &self.queue;
        let counted = self.evaluate(&format!(
            "lists:sum([begin {{ok, {{_, N}}, _}} = \
             ra:local_query(amqqueue:get_pid(Q), fun rabbit_fifo:query_messages_total/1), N end \
             || Q <- rabbit_amqqueue:list(), \
             Name <- [binary_to_list(element(4, amqqueue:get_name(Q)))], \
             Name =:= \"{queue}\" orelse lists:prefix(\"{queue}.retry.\", Name)])"
        ));
        // After a restart its queues need a moment.
        counted.ok().and_then(|counted| counted.parse().ok()).unwrap_or(usize::MAX)
    }

    async fn dead_letters(&self) -> Vec<(Bytes, String)> {
        let (_connection, channel) = self.channel().await;
        let mut dead = Vec::new();
        // Not acknowledged, so that they go back when the channel is closed.
        let options = BasicGetOptions::default();
        while let Some(got) = channel.basic_get(self.dead().into(), options).await.unwrap() {
            let headers = got.properties.headers().clone().unwrap_or_default();
            let reason = match headers.inner().get("x-buttress-reason") {
                Some(AMQPValue::LongString(reason)) => reason.to_string(),
                other => panic!("{other:?} is no reason"),
            };
            dead.push((Bytes::from(got.delivery.data), reason));
        }
        channel.close(200, "looked at".into()).await.unwrap();
        dead
    }

    async fn kill(&self) {
        self.own.as_ref().expect("a broker of its own").lock().unwrap().kill();
    }

    async fn restart(&self) {
        let broker = Arc::clone(self.own.as_ref().expect("a broker of its own"));
        tokio::task::spawn_blocking(move || broker.lock().unwrap().restart())
            .await
            .unwrap()
            .unwrap();
    }
}

impl Reachable for RabbitMq {
    fn address(&self) -> String {
        format!("{} {}", self.uri, self.queue)
    }

    fn at(address: &str) -> Self {
        let (uri, queue) = address.split_once(' ').unwrap();
        RabbitMq { uri: uri.to_owned(), queue: queue.to_owned(), own: None }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn outages_of_every_kind() {
    scenario::outages(&RabbitMq::shared().await, Order::Any).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn outages_of_every_kind_in_order() {
    scenario::outages(&RabbitMq::shared().await, Order::PerKey).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn broker_killed_and_restarted() {
    scenario::crash(&RabbitMq::own().await).await;
}

#[test]
fn consumer_killed() {
    child::killed("consumer_rabbitmq::scenario::consumer_killed", RabbitMq::shared);
}

#[test]
fn quiet_while_open() {
    child::alone("consumer_rabbitmq::scenario::quiet_while_open", async || {
        scenario::open_circuit(&RabbitMq::shared().await, &[]).await;
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn shut_down_under_load() {
    scenario::shutdown(&RabbitMq::shared().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shut_down_past_the_deadline() {
    scenario::hard_shutdown(&RabbitMq::shared().await).await;
}
