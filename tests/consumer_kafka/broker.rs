//! The mock cluster with one topic, a group that consumes it, and what a test wants to know of both.

use std::{future::poll_fn, ops::Range, sync::Arc, time::Duration};

use buttress::consumer::{
    Delivery, Settle, Source,
    kafka::{
        DeadLetters, Delivery as KafkaDelivery, Error, Message, Source as KafkaSource,
        SourceBuilder,
    },
};
use bytes::Bytes;
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer},
    message::{Headers, OwnedMessage},
    producer::{FutureProducer, FutureRecord},
};
use tokio::{task::block_in_place, time::timeout};

use crate::{
    cluster::Cluster,
    consumer_support::{child::Reachable, message, scenario::Broker},
};

pub(crate) const TOPIC: &str = "orders";
pub(crate) const DEAD: &str = "orders.dead";
pub(crate) const GROUP: &str = "workers";
pub(crate) const PARTITIONS: i32 = 4;

/// For what the cluster does in the end.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How a group comes to an agreement about its partitions.
#[derive(Clone, Copy, Debug)]
enum Protocol {
    /// Its members do. The mock cluster has the first of them wait three seconds for others, which a session
    /// must outlive, and whenever members come or go a second less than the session.
    Classic { session: &'static str },
    /// The coordinator does, since Kafka 4.0. The mock cluster does so at once. Its sessions take 45
    /// seconds, so nobody may be missing.
    Consumer,
}

impl Protocol {
    const CLASSIC: Protocol = Protocol::Classic { session: "4000" };
}

pub(crate) struct Kafka {
    /// `None` where it is another process that has it.
    cluster: Option<Cluster>,
    address: String,
    protocol: Protocol,
    producer: FutureProducer,
    /// Of the group, but not a member of it.
    watcher: Arc<BaseConsumer>,
}

impl Kafka {
    /// A cluster with an empty topic.
    pub(crate) fn start() -> Self {
        Self::with_partitions(PARTITIONS)
    }

    pub(crate) fn with_partitions(partitions: i32) -> Self {
        let cluster = Cluster::start(&[(TOPIC, partitions), (DEAD, 1)]).unwrap();
        let address = cluster.address();
        Kafka { cluster: Some(cluster), protocol: Protocol::Consumer, ..Self::at(&address) }
    }

    /// The same, with the protocol that most groups have.
    pub(crate) fn classic(self) -> Self {
        Kafka { protocol: Protocol::CLASSIC, ..self }
    }

    /// The same, with sessions that outlive a broker that is away. librdkafka takes a while to find it again.
    pub(crate) fn patient(self) -> Self {
        Kafka { protocol: Protocol::Classic { session: "10000" }, ..self }
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        self.cluster.as_ref().expect("the process that started it")
    }

    /// A configuration of the group whose waits are short.
    pub(crate) fn config(&self) -> ClientConfig {
        let mut config = client(&self.address);
        // What a kill costs is what was settled since the last commit. So a process that will be killed
        // commits all the time, and nobody else.
        let commit_every = if self.cluster.is_some() { "100" } else { "5" };
        config
            .set("group.id", GROUP)
            .set("auto.offset.reset", "earliest")
            .set("auto.commit.interval.ms", commit_every)
            .set("fetch.wait.max.ms", "50");
        match self.protocol {
            Protocol::Classic { session } => {
                config.set("session.timeout.ms", session).set("heartbeat.interval.ms", "200")
            }
            Protocol::Consumer => config.set("group.protocol", "consumer"),
        };
        config
    }

    pub(crate) fn builder(&self, config: &ClientConfig) -> SourceBuilder {
        let dead_letters = DeadLetters::to_topic(DEAD, self.producer.clone());
        KafkaSource::builder(config, [TOPIC], dead_letters).prefetch(Self::PREFETCH)
    }

    pub(crate) fn source_now(&self) -> KafkaSource {
        self.builder(&self.config()).build().unwrap()
    }

    /// A producer of its own, for a test that wants it different.
    pub(crate) fn producer(&self, key: &str, value: &str) -> FutureProducer {
        client(&self.address).set(key, value).create().unwrap()
    }

    /// Stores so many messages in that partition: their bodies are their numbers.
    pub(crate) async fn fill(&self, partition: i32, bodies: Range<u32>) {
        self.fill_topic(TOPIC, partition, bodies).await;
    }

    /// The same, in a topic of your choice.
    pub(crate) async fn fill_topic(&self, topic: &str, partition: i32, bodies: Range<u32>) {
        let sent: Vec<_> = bodies
            .map(|body| {
                let body = body.to_string();
                let record = FutureRecord::<str, str>::to(topic).partition(partition);
                self.producer.send_result(record.payload(&body).key("key")).unwrap()
            })
            .collect();
        for sent in sent {
            sent.await.unwrap().unwrap();
        }
    }

    /// Stores so many messages of so many bytes in the first partition.
    pub(crate) async fn fill_large(&self, count: usize, bytes: usize) {
        let body = vec![b'x'; bytes];
        for _ in 0..count {
            let record = FutureRecord::<str, [u8]>::to(TOPIC).partition(0).payload(&body);
            self.producer.send(record, PATIENCE).await.unwrap();
        }
    }

    /// Stores a message that has neither a key nor a body in the first partition.
    pub(crate) async fn fill_empty(&self) {
        let record = FutureRecord::<str, str>::to(TOPIC).partition(0);
        self.producer.send(record, PATIENCE).await.unwrap();
    }

    /// From where the group would go on, by partition. `None` where it has committed nothing.
    pub(crate) fn committed(&self, partition: i32) -> Option<i64> {
        let mut list = TopicPartitionList::new();
        list.add_partition(TOPIC, partition);
        let found = block_in_place(|| self.watcher.committed_offsets(list, PATIENCE)).ok()?;
        match found.find_partition(TOPIC, partition)?.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        }
    }

    /// Has the group, which must have no members, go on from there.
    pub(crate) fn commit(&self, partition: i32, offset: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(TOPIC, partition, Offset::Offset(offset)).unwrap();
        block_in_place(|| self.watcher.commit(&list, CommitMode::Sync)).unwrap();
    }

    /// All of the dead letters.
    pub(crate) fn dead(&self) -> Vec<OwnedMessage> {
        block_in_place(|| {
            let reader: BaseConsumer =
                client(&self.address).set("group.id", "undertaker").create().unwrap();
            let (low, high) = reader.fetch_watermarks(DEAD, 0, PATIENCE).unwrap();
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(DEAD, 0, Offset::Offset(low)).unwrap();
            reader.assign(&list).unwrap();
            let read = |_| reader.poll(PATIENCE).expect("in time").unwrap().detach();
            (low..high).map(read).collect()
        })
    }
}

fn client(address: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", address).set("reconnect.backoff.max.ms", "200");
    // What a test does to the cluster is no news.
    config.set("log_level", "0");
    config
}

/// The value of a header, in words.
pub(crate) fn header(message: &OwnedMessage, name: &str) -> Option<String> {
    let header = message.headers()?.iter().find(|header| header.key == name)?;
    Some(String::from_utf8(header.value?.to_vec()).unwrap())
}

impl Broker for Kafka {
    type Source = KafkaSource;

    const PREFETCH: usize = 50;

    async fn publish(&self, messages: &[message::Message]) {
        let mut sent = Vec::with_capacity(messages.len());
        for message in messages {
            let record = FutureRecord::to(TOPIC).key(&message.key).payload(&message.body[..]);
            sent.push(self.producer.send_result(record).map_err(|(error, _)| error).unwrap());
        }
        for sent in sent {
            sent.await.unwrap().unwrap();
        }
    }

    async fn source(&self, _ordered: bool) -> KafkaSource {
        self.source_now()
    }

    fn body(payload: &Message) -> Bytes {
        payload.body().clone()
    }

    async fn left(&self) -> usize {
        block_in_place(|| {
            let left = (0..PARTITIONS).map(|partition| {
                let marks = self.watcher.fetch_watermarks(TOPIC, partition, PATIENCE);
                let (low, high) = marks.unwrap();
                high - self.committed(partition).unwrap_or(low)
            });
            usize::try_from(left.sum::<i64>()).unwrap()
        })
    }

    async fn dead_letters(&self) -> Vec<(Bytes, String)> {
        let dead = self.dead().into_iter();
        let told = dead.map(|letter| {
            let body = Bytes::copy_from_slice(letter.payload().unwrap());
            (body, header(&letter, "buttress-reason").unwrap())
        });
        told.collect()
    }

    async fn kill(&self) {
        self.cluster().down().unwrap();
    }

    async fn restart(&self) {
        self.cluster().up().unwrap();
    }
}

impl Reachable for Kafka {
    fn address(&self) -> String {
        self.address.clone()
    }

    fn at(address: &str) -> Self {
        Kafka {
            cluster: None,
            address: address.to_owned(),
            // One that may be killed.
            protocol: Protocol::CLASSIC,
            producer: client(address).create().unwrap(),
            watcher: Arc::new(client(address).set("group.id", GROUP).create().unwrap()),
        }
    }
}

/// A source in the hands of a test, which plays the consumer.
pub(crate) trait InHand {
    /// The next delivery. Errors on the way are waited out.
    async fn take(&mut self) -> KafkaDelivery;

    /// The same, so many of them.
    async fn take_all(&mut self, count: usize) -> Vec<KafkaDelivery>;

    /// Polls for so long, and returns what came of it.
    async fn poll_for(
        &mut self,
        time: Duration,
        room: usize,
    ) -> Option<Result<KafkaDelivery, Error>>;
}

impl<C: rdkafka::ClientContext + 'static> InHand for KafkaSource<C> {
    async fn take(&mut self) -> KafkaDelivery {
        let taken = async {
            loop {
                match poll_fn(|cx| self.poll_next(cx, 1)).await {
                    Some(Ok(delivery)) => return delivery,
                    Some(Err(error)) => assert!(!error.is_fatal(), "{error}"),
                    None => panic!("the source ended"),
                }
            }
        };
        timeout(PATIENCE, taken).await.expect("a delivery in time")
    }

    async fn take_all(&mut self, count: usize) -> Vec<KafkaDelivery> {
        let mut taken = Vec::new();
        while taken.len() < count {
            taken.push(self.take().await);
        }
        taken
    }

    async fn poll_for(
        &mut self,
        time: Duration,
        room: usize,
    ) -> Option<Result<KafkaDelivery, Error>> {
        match timeout(time, poll_fn(|cx| self.poll_next(cx, room))).await {
            Ok(polled) => Some(polled.expect("the source ended")),
            Err(_elapsed) => None,
        }
    }
}

pub(crate) fn number(delivery: &KafkaDelivery) -> u32 {
    std::str::from_utf8(delivery.payload().body()).unwrap().parse().unwrap()
}

pub(crate) async fn ack(delivery: &mut KafkaDelivery) {
    delivery.settle(&Settle::Ack).await.unwrap();
}
