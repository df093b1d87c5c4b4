//! Pauses, and times without room.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress::consumer::{
    Delivery, Settle, Source,
    kafka::{Delivery as KafkaDelivery, Error, Source as KafkaSource},
};
use rdkafka::{ClientContext, Statistics};
use tokio::time::Instant;

use crate::broker::{InHand, Kafka, TOPIC, ack, number};

/// The shortest that librdkafka allows with a session that outlives the start of the group.
const MAX_POLL: Duration = Duration::from_secs(4);

fn impatient(kafka: &Kafka) -> rdkafka::ClientConfig {
    let mut config = kafka.config();
    let max_poll = MAX_POLL.as_millis().to_string();
    config.set("max.poll.interval.ms", max_poll);
    config
}

/// Polled with nobody to take anything, it does not leave the group, and its partitions are its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_pause_and_no_room_outlive_the_poll_interval() {
    let paused = async |source: &mut KafkaSource| {
        source.pause();
        source.poll_for(MAX_POLL * 5 / 4, 10).await
    };
    let without_room = async |source: &mut KafkaSource| source.poll_for(MAX_POLL * 5 / 4, 0).await;
    tokio::join!(
        outlives_the_poll_interval(Kafka::with_partitions(1), paused),
        outlives_the_poll_interval(Kafka::with_partitions(1).classic(), without_room)
    );
}

async fn outlives_the_poll_interval(
    kafka: Kafka,
    long: impl AsyncFnOnce(&mut KafkaSource) -> Option<Result<KafkaDelivery, Error>>,
) {
    kafka.fill(0, 0..10).await;
    let mut source = kafka.builder(&impatient(&kafka)).build().unwrap();
    let mut first = source.take().await;
    let polled = long(&mut source).await;
    assert!(polled.is_none(), "{polled:?}");
    source.resume();
    assert!(!first.is_lost(), "the partition was revoked");
    ack(&mut first).await;
    let mut rest = source.take_all(9).await;
    assert_eq!(rest.iter().map(number).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    for delivery in &mut rest {
        ack(delivery).await;
    }
    source.close().await.unwrap();
    assert_eq!(kafka.committed(0), Some(10));
}

/// And one that nobody polls does leave: or the test above would prove nothing.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_not_polled_loses_its_partitions() {
    let kafka = Kafka::with_partitions(1).classic();
    kafka.fill(0, 0..1).await;
    let mut source = kafka.builder(&impatient(&kafka)).build().unwrap();
    let mut delivery = source.take().await;
    tokio::time::sleep(MAX_POLL * 5 / 4).await;
    let begin = Instant::now();
    while !delivery.is_lost() && begin.elapsed() < 2 * MAX_POLL {
        source.poll_for(Duration::from_millis(100), 0).await;
    }
    let error = delivery.settle(&Settle::Ack).await.unwrap_err();
    assert_eq!(error.to_string(), "the delivery was lost: partition 0 of orders was revoked");
    assert_eq!(kafka.committed(0), None);
}

/// What the client says about itself.
#[derive(Clone, Default)]
struct Observed(Arc<Mutex<Statistics>>);

impl ClientContext for Observed {
    fn stats(&self, statistics: Statistics) {
        *self.0.lock().unwrap() = statistics;
    }
}

impl Observed {
    /// How many bytes the client has fetched, and has not handed over.
    fn bytes(&self) -> u64 {
        self.0.lock().unwrap().topics[TOPIC].partitions[&0].fetchq_size
    }

    /// How many messages the client has fetched, and has not handed over.
    fn fetched(&self) -> (u64, i64) {
        let statistics = self.0.lock().unwrap();
        let partition = &statistics.topics[TOPIC].partitions[&0];
        (partition.rxmsgs, partition.fetchq_cnt)
    }
}

/// A short pause leaves alone what the client has fetched in advance. A long one has it asking for
/// nothing more.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_pause_stops_the_fetching() {
    let kafka = Kafka::with_partitions(1);
    kafka.fill(0, 0..10).await;
    let mut config = kafka.config();
    config.set("statistics.interval.ms", "50");
    let observed = Observed::default();
    let mut source = kafka.builder(&config).build_with_context(observed.clone()).unwrap();
    let mut first = source.take().await;
    ack(&mut first).await;

    source.pause();
    assert!(source.poll_for(Duration::from_millis(400), 10).await.is_none());
    assert_eq!(observed.fetched(), (10, 9), "it keeps what it has");
    assert!(source.poll_for(Duration::from_millis(1200), 10).await.is_none());
    let (before, _) = observed.fetched();
    kafka.fill(0, 10..20).await;
    assert!(source.poll_for(Duration::from_millis(600), 10).await.is_none());
    assert_eq!(observed.fetched().0, before, "nothing is fetched");

    source.resume();
    let rest = source.take_all(19).await;
    assert_eq!(rest.iter().map(number).collect::<Vec<_>>(), (1..20).collect::<Vec<_>>());
}

/// What is fetched in advance is fetched of each partition, so it must not be much.
#[tokio::test(flavor = "multi_thread")]
async fn not_much_of_a_partition_is_fetched_in_advance() {
    const EACH: usize = 100_000;
    let kafka = Kafka::with_partitions(1);
    // As much as the mock cluster keeps.
    kafka.fill_large(49, EACH).await;
    let mut config = kafka.config();
    config.set("statistics.interval.ms", "50").set("fetch.message.max.bytes", EACH.to_string());
    let observed = Observed::default();
    let mut source = kafka.builder(&config).build_with_context(observed.clone()).unwrap();
    let first = source.take().await;
    source.poll_for(Duration::from_secs(1), 0).await;
    let bytes = observed.bytes();
    assert!((3_900_000..4_400_000).contains(&bytes), "{bytes}");
    drop(first);
}

/// And a buffer that was full is filled again before long.
#[tokio::test(flavor = "multi_thread")]
async fn a_buffer_that_was_full_is_filled_again_soon() {
    const EACH: usize = 100_000;
    let kafka = Kafka::with_partitions(1);
    kafka.fill_large(20, EACH).await;
    let mut config = kafka.config();
    // Full with one message.
    config.set("queued.max.messages.kbytes", "90").set("fetch.message.max.bytes", EACH.to_string());
    let mut source = kafka.builder(&config).build().unwrap();
    let begin = Instant::now();
    assert_eq!(source.take_all(20).await.len(), 20);
    assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
}
