//! What is committed, and when.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use buttress::consumer::{
    Delivery, Settle, Source,
    kafka::{DeadLetters, Order, Source as KafkaSource},
};
use rdkafka::error::RDKafkaErrorCode;

use crate::{
    broker::{InHand, Kafka, PARTITIONS, TOPIC, ack, number},
    consumer_support::scenario::eventually,
};

#[tokio::test(flavor = "multi_thread")]
async fn only_the_contiguous_prefix_is_committed() {
    let kafka = Kafka::with_partitions(1);
    kafka.fill(0, 0..6).await;
    let mut source = kafka.source_now();
    let mut taken = source.take_all(6).await;
    assert_eq!(taken.iter().map(number).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
    assert_eq!(taken[0].attempt(), None, "Kafka does not count");

    for settled in [0, 1, 3, 4, 5] {
        ack(&mut taken[settled]).await;
    }
    let polled = source.poll_for(Duration::from_millis(500), 1).await;
    assert!(polled.is_none(), "{polled:?}");
    assert_eq!(kafka.committed(0), Some(2), "2 is not settled");

    ack(&mut taken[2]).await;
    source.poll_for(Duration::from_millis(500), 0).await;
    assert_eq!(kafka.committed(0), Some(6));
    source.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_commits_what_is_settled_and_the_next_one_begins_there() {
    let kafka = Kafka::with_partitions(1);
    kafka.fill(0, 0..5).await;
    let mut config = kafka.config();
    // So that nobody but `close` commits.
    config.set("auto.commit.interval.ms", "60000");
    let mut source = kafka.builder(&config).build().unwrap();
    let mut taken = source.take_all(5).await;
    ack(&mut taken[0]).await;
    ack(&mut taken[1]).await;
    taken[2].settle(&Settle::Release).await.unwrap();
    ack(&mut taken[3]).await;
    assert_eq!(kafka.committed(0), None);
    source.close().await.unwrap();
    assert_eq!(kafka.committed(0), Some(2));

    let mut next = kafka.source_now();
    let again = next.take_all(3).await;
    assert_eq!(again.iter().map(number).collect::<Vec<_>>(), [2, 3, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_dropped_commits_in_the_background() {
    let kafka = Kafka::with_partitions(1);
    kafka.fill(0, 0..2).await;
    let mut config = kafka.config();
    config.set("auto.commit.interval.ms", "60000");
    let mut source = kafka.builder(&config).build().unwrap();
    for delivery in &mut source.take_all(2).await {
        ack(delivery).await;
    }
    drop(source);
    eventually("it is committed", async || kafka.committed(0) == Some(2)).await;
}

/// A partition without an offset is read from its beginning, whether or not somebody thought of that:
/// librdkafka would begin at its end.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_without_an_offset_is_read_from_its_beginning() {
    let kafka = Kafka::with_partitions(1);
    kafka.fill(0, 0..1).await;
    let mut config = kafka.config();
    config.remove("auto.offset.reset");
    let mut source = kafka.builder(&config).build().unwrap();
    assert_eq!(number(&source.take().await), 0);
}

/// The log ends before the group's offset: the topic was deleted and made anew, say.
#[tokio::test(flavor = "multi_thread")]
async fn an_offset_that_is_not_in_the_log_begins_it_again() {
    let kafka = Kafka::with_partitions(1);
    kafka.fill(0, 0..2).await;
    kafka.commit(0, 500);
    let mut source = kafka.source_now();
    let mut taken = source.take_all(2).await;
    assert_eq!(taken.iter().map(number).collect::<Vec<_>>(), [0, 1]);
    ack(&mut taken[0]).await;
    source.close().await.unwrap();
    assert_eq!(kafka.committed(0), Some(1));
}

/// Asked to say so, it says so, once, and reads the others.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_without_an_offset_is_an_error_if_that_is_wanted() {
    let kafka = Kafka::with_partitions(2);
    kafka.fill(0, 0..1).await;
    kafka.fill(1, 10..12).await;
    kafka.commit(1, 1);
    let mut config = kafka.config();
    config.set("auto.offset.reset", "error");
    let mut source = kafka.builder(&config).build().unwrap();
    let (mut numbers, mut errors) = (Vec::new(), Vec::new());
    while let Some(polled) = source.poll_for(Duration::from_secs(1), 10).await {
        match polled {
            Ok(delivery) => numbers.push(number(&delivery)),
            Err(error) => errors.push(error.code()),
        }
    }
    assert_eq!(numbers, [11]);
    assert_eq!(errors, [Some(RDKafkaErrorCode::AutoOffsetReset)]);
}

/// However few deliveries there may be in hand, no partition waits until another is empty.
#[tokio::test(flavor = "multi_thread")]
async fn partitions_take_turns() {
    let kafka = Kafka::start();
    for partition in 0..PARTITIONS {
        kafka.fill(partition, 0..10).await;
    }
    let mut source = kafka.builder(&kafka.config()).prefetch(1).build().unwrap();
    // Until something of each is there.
    source.poll_for(Duration::from_secs(1), 0).await;
    for _ in 0..5 {
        let mut round = BTreeSet::new();
        for _ in 0..PARTITIONS {
            let mut delivery = source.take().await;
            round.insert(delivery.payload().partition());
            ack(&mut delivery).await;
        }
        assert_eq!(round, (0..PARTITIONS).collect());
    }
}

/// One that is not settled holds up its own partition only, and that only when it is far behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_goes_on_so_far_beyond_one_that_is_not_settled() {
    let kafka = Kafka::with_partitions(2);
    kafka.fill(0, 0..20).await;
    let mut source = kafka.builder(&kafka.config()).max_span(5).build().unwrap();
    let mut taken = source.take_all(5).await;
    for delivery in &mut taken[1..] {
        ack(delivery).await;
    }
    let polled = source.poll_for(Duration::from_millis(500), 10).await;
    assert!(polled.is_none(), "{polled:?} is too far ahead");
    kafka.fill(1, 100..102).await;
    assert_eq!(number(&source.take().await), 100, "the other partition goes on");

    ack(&mut taken[0]).await;
    let mut next = source.take_all(2).await;
    next.sort_by_key(number);
    assert_eq!(next.iter().map(number).collect::<Vec<_>>(), [5, 101]);
}

#[tokio::test(flavor = "multi_thread")]
async fn order_is_that_of_the_key() {
    let kafka = Kafka::with_partitions(1);
    kafka.fill(0, 0..1).await;
    let mut source = kafka.source_now();
    let delivery = source.take().await;
    assert_eq!(delivery.ordering_key(), Some(&b"key"[..]));
    let message = delivery.payload();
    assert_eq!(message.key(), Some(&b"key"[..]));
    assert_eq!((message.topic(), message.partition(), message.offset()), ("orders", 0, 0));
    assert!(message.timestamp().is_some() && !message.is_tombstone());
}

/// A message that is tried again holds up its own partition, and not that of the same number of another
/// topic.
#[tokio::test(flavor = "multi_thread")]
async fn each_partition_of_each_topic_has_an_order_of_its_own() {
    const OTHER: &str = "returns";
    let kafka = Kafka::start();
    kafka.fill(0, 0..2).await;
    kafka.fill(1, 10..11).await;
    kafka.cluster().create_topic(OTHER, 1).unwrap();
    kafka.fill_topic(OTHER, 0, 20..21).await;
    let topics = [TOPIC, OTHER];
    let source = KafkaSource::builder(&kafka.config(), topics, DeadLetters::dropped());
    let taken = source.order(Order::Partition).build().unwrap().take_all(4).await;
    let keys: BTreeMap<u32, Option<&[u8]>> =
        taken.iter().map(|delivery| (number(delivery), delivery.ordering_key())).collect();
    assert_eq!(keys[&0], keys[&1]);
    let different: BTreeSet<_> = keys.values().collect();
    assert_eq!(different.len(), 3, "{keys:?}");
    assert!(!different.contains(&None), "{keys:?}");
}
