//! Kafka: one topic of librdkafka's mock cluster, which runs in a thread of this process that does not
//! count.

use std::sync::atomic::{AtomicU64, Ordering};

use buttress::consumer::kafka::{DeadLetters, Message, Source};
use futures::{StreamExt, stream};
use rdkafka::{
    ClientConfig, Message as _,
    consumer::{CommitMode, Consumer, StreamConsumer},
    producer::{FutureProducer, FutureRecord},
};

use crate::{
    cluster::Cluster,
    contest::{self, CONCURRENCY, Contest, Work},
};

const TOPIC: &str = "bench";
const PARTITIONS: i32 = 4;

pub(crate) async fn measure() {
    let cluster = Cluster::start(&[(TOPIC, PARTITIONS)]).unwrap();
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", cluster.address());
    let producer = client.create().unwrap();
    client.set("group.id", "bench").set("auto.offset.reset", "earliest");
    // The bare consumer does not always leave its group when it is dropped, and is waited for then.
    client.set("session.timeout.ms", "6000").set("heartbeat.interval.ms", "1000");
    contest::hold(Kafka { producer, client, next: AtomicU64::new(0) }).await;
}

struct Kafka {
    producer: FutureProducer,
    client: ClientConfig,
    /// The key of the next message, so that the partitions get the same share.
    next: AtomicU64,
}

impl Contest for Kafka {
    type Source = Source;

    const NAME: &'static str = "kafka";

    const OTHERS: &'static [&'static str] = &["rdk:mock"];

    /// The mock cluster has the first member of a group wait for others for three seconds.
    const JOINS: bool = true;

    async fn fill(&self, messages: u64) {
        let body = [b'x'; 100];
        let send = |_| async {
            let key = self.next.fetch_add(1, Ordering::Relaxed).to_string();
            let record = FutureRecord::to(TOPIC).key(&key).payload(&body[..]);
            self.producer.send_result(record).map_err(|(error, _)| error).unwrap().await
        };
        let mut reports = stream::iter(0..messages).map(send).buffer_unordered(500);
        while let Some(report) = reports.next().await {
            report.unwrap().unwrap();
        }
    }

    async fn source(&self) -> Source {
        let dead_letters = DeadLetters::dropped();
        Source::builder(&self.client, [TOPIC], dead_letters).build().unwrap()
    }

    fn body(payload: &Message) -> &[u8] {
        payload.body()
    }

    /// Messages are done with in the order in which they came, so that what is stored of a partition
    /// is never beyond one that is not handled.
    async fn bare(&self, work: Work) {
        let mut client = self.client.clone();
        client.set("enable.auto.offset.store", "false");
        let consumer: StreamConsumer = client.create().unwrap();
        consumer.subscribe(&[TOPIC]).unwrap();
        let count = usize::try_from(work.left()).unwrap();
        let mut handled = consumer
            .stream()
            .take(count)
            .map(|message| {
                let message = message.unwrap();
                let (work, body) = (work.clone(), message.payload().unwrap().to_vec());
                let handled = tokio::spawn(async move { work.handle(&body).await });
                async move {
                    handled.await.unwrap();
                    message
                }
            })
            .buffered(CONCURRENCY);
        while let Some(message) = handled.next().await {
            consumer.store_offset_from_message(&message).unwrap();
        }
        drop(handled);
        consumer.commit_consumer_state(CommitMode::Sync).unwrap();
    }
}
