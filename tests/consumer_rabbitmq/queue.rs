//! Queues of a test's own, on a broker that the tests of this file share.

use std::{
    future::poll_fn,
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use buttress::consumer::{
    Settle, Source as _,
    rabbitmq::{DeadLetters, Delivery, Error, Source, SourceBuilder},
};
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    message::BasicGetMessage,
    options::{
        BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
        QueueDeleteOptions,
    },
    types::{AMQPValue, FieldTable},
};
use tokio::time::timeout;

use crate::broker::Broker;

/// Stopped by its warden when the tests are through.
pub static BROKER: LazyLock<Broker> = LazyLock::new(|| Broker::start().unwrap());

/// How long an answer may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A quorum queue with a quorum queue for its dead letters, both empty.
pub struct Queue {
    pub name: String,
    broker: &'static Broker,
    pub channel: Channel,
    /// Ends with it.
    _connection: Connection,
}

impl Queue {
    /// One that no other test of this file has.
    pub fn name() -> String {
        static QUEUES: AtomicU32 = AtomicU32::new(0);
        format!("queue-{}", QUEUES.fetch_add(1, Ordering::Relaxed))
    }

    /// On the broker that the tests of this file share.
    pub async fn new() -> Self {
        Queue::on(&BROKER).await
    }

    pub async fn on(broker: &'static Broker) -> Self {
        let name = Queue::name();
        let connection = connect(&broker.uri(), "test").await;
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        let queue = Queue { name, broker, channel, _connection: connection };
        queue.declare(&queue.name, &[]).await;
        queue.declare(&queue.dead(), &[]).await;
        queue
    }

    pub fn dead(&self) -> String {
        format!("{}.dead", self.name)
    }

    pub async fn declare(&self, name: &str, arguments: &[(&str, AMQPValue)]) {
        declare_quorum(&self.channel, name, arguments).await;
    }

    pub async fn delete(&self, name: &str) {
        self.channel.queue_delete(name.into(), QueueDeleteOptions::default()).await.unwrap();
    }

    pub async fn publish(&self, bodies: impl IntoIterator<Item = &str>) {
        for body in bodies {
            self.publish_with(body, BasicProperties::default()).await;
        }
    }

    /// Many at once.
    pub async fn publish_all(&self, bodies: &[String]) {
        let publishing = bodies.iter().map(|body| self.publish([body.as_str()]));
        futures::future::join_all(publishing).await;
    }

    pub async fn publish_with(&self, body: &str, properties: BasicProperties) {
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let published = self.channel.basic_publish(
            "".into(),
            self.name.as_str().into(),
            options,
            body.as_bytes(),
            properties,
        );
        let confirmed = published.await.unwrap().await.unwrap();
        assert!(confirmed.is_ack() && confirmed.take_message().is_none());
    }

    /// How many are in the queue itself.
    pub fn left(&self) -> usize {
        self.count(&self.name)
    }

    /// How many are in this queue, handed out or not.
    pub fn count(&self, name: &str) -> usize {
        count_on(self.broker, name)
    }

    /// The queue's process does nothing for so long; what it is sent waits.
    pub fn stand_still(&self, time: Duration) {
        let (name, time) = (&self.name, time.as_millis());
        let expression = format!(
            "{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"/\">>, queue, <<\"{name}\">>)), \
             P = amqqueue:get_pid(Q), ok = sys:suspend(P), \
             spawn(fun() -> timer:sleep({time}), sys:resume(P) end), ok"
        );
        assert_eq!(BROKER.evaluate(&expression).unwrap(), "ok");
    }

    /// Takes one out of this queue, as somebody would who looks at it.
    pub async fn take(&self, name: &str) -> Option<BasicGetMessage> {
        let options = BasicGetOptions { no_ack: true };
        self.channel.basic_get(name.into(), options).await.unwrap()
    }

    pub fn builder(&self) -> SourceBuilder {
        Source::builder(self.broker.uri(), &self.name, DeadLetters::to_queue(self.dead()))
    }

    pub fn source(&self) -> Source {
        self.builder().build().unwrap()
    }
}

/// A connection that the broker lists under this name.
pub async fn connect(uri: &str, name: &str) -> Connection {
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    Connection::connect(uri, properties).await.unwrap()
}

/// A durable queue, of quorum type if the arguments do not say otherwise.
pub async fn declare_quorum(channel: &Channel, name: &str, arguments: &[(&str, AMQPValue)]) {
    let mut table = FieldTable::default();
    table.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    for (name, value) in arguments {
        table.insert((*name).into(), value.clone());
    }
    let options = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare(name.into(), options, table).await.unwrap();
}

/// How many are in this queue of the shared broker, handed out or not.
pub fn count(queue: &str) -> usize {
    count_on(&BROKER, queue)
}

fn count_on(broker: &Broker, queue: &str) -> usize {
    let counted = broker.evaluate(&format!(
        "case rabbit_amqqueue:lookup(rabbit_misc:r(<<\"/\">>, queue, <<\"{queue}\">>)) of \
         {{ok, Q}} -> {{ok, {{_, N}}, _}} = \
         ra:local_query(amqqueue:get_pid(Q), fun rabbit_fifo:query_messages_total/1), N; \
         _ -> 0 end"
    ));
    counted.unwrap().parse().unwrap()
}

/// What the source hands out next, error or not.
pub async fn polled(source: &mut Source) -> Result<Delivery, Error> {
    let next = poll_fn(|cx| source.poll_next(cx, 1_000));
    timeout(PATIENCE, next).await.expect("something to be handed out").expect("no end")
}

pub async fn next(source: &mut Source) -> Delivery {
    polled(source).await.unwrap()
}

/// It hands nothing out for some time.
pub async fn nothing(source: &mut Source, room: usize) {
    let next = timeout(Duration::from_millis(300), poll_fn(|cx| source.poll_next(cx, room)));
    if let Ok(next) = next.await {
        panic!("{next:?} was handed out");
    }
}

/// A dead letter's settlement.
pub fn dead(reason: &'static str) -> Settle {
    Settle::DeadLetter { reason: reason.into() }
}

pub fn retry(millis: u64) -> Settle {
    Settle::Retry { after: Duration::from_millis(millis) }
}

/// Waits until that holds.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("waited in vain: {what}"));
}

/// Of one broker's tests several run at a time.
#[test]
fn questions_at_the_same_time_are_all_answered() {
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for number in 0..10 {
                    let answer = BROKER.evaluate(&format!("{number} + 1")).unwrap();
                    assert_eq!(answer, (number + 1).to_string());
                }
            });
        }
    });
}
