//! Partitions that come and go with the members of the group.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use buttress::consumer::{
    Delivery, Settle, SettleErrorKind, Source,
    kafka::{Delivery as KafkaDelivery, Source as KafkaSource},
};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use tokio::time::{Instant, sleep};

use crate::{
    broker::{InHand, Kafka, PARTITIONS, PATIENCE, ack, number},
    consumer_support::scenario::eventually,
};

const EACH: u32 = 10;

async fn filled(kafka: Kafka) -> Kafka {
    for partition in 0..PARTITIONS {
        let first = partition as u32 * EACH;
        kafka.fill(partition, first..first + EACH).await;
    }
    kafka
}

fn member(kafka: &Kafka, strategy: Option<&str>) -> KafkaSource {
    let mut config = kafka.config();
    config.set("max.poll.interval.ms", "30000");
    if let Some(strategy) = strategy {
        config.set("partition.assignment.strategy", strategy);
    }
    kafka.builder(&config).build().unwrap()
}

/// The coordinator has the group change, which has no other member.
fn change(kafka: &Kafka) {
    let changes = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS; 1];
    kafka.cluster().fail(RDKafkaApiKey::Heartbeat, &changes);
}

/// Polls a source, which hands nothing out, until this delivery of it is lost.
async fn until_lost(source: &mut KafkaSource, delivery: &KafkaDelivery) {
    let patience = Instant::now() + PATIENCE;
    while !delivery.is_lost() {
        assert!(Instant::now() < patience, "no rebalance");
        source.poll_for(Duration::from_millis(10), 0).await;
    }
}

/// All deliveries, whoever they went to, by the numbers of their messages.
#[derive(Default)]
struct Delivered(BTreeMap<u32, Vec<KafkaDelivery>>);

impl Delivered {
    /// The mock cluster changes the group again at times, and then some messages come again. But only
    /// those that their owner has lost before somebody has them again.
    fn note(&mut self, delivery: KafkaDelivery) {
        let number = number(&delivery);
        let before = self.0.entry(number).or_default();
        assert!(before.iter().all(Delivery::is_lost), "{number} is in two hands");
        before.push(delivery);
    }

    fn numbers(&self) -> BTreeSet<u32> {
        self.0.keys().copied().collect()
    }
}

/// Polls both, which hand nothing out, until a delivery of the first is lost.
async fn until_revoked(first: &mut KafkaSource, second: &mut KafkaSource, held: &[KafkaDelivery]) {
    let patience = Instant::now() + PATIENCE;
    while !held.iter().any(Delivery::is_lost) {
        assert!(Instant::now() < patience, "no rebalance");
        tokio::join!(
            first.poll_for(Duration::from_millis(50), 0),
            second.poll_for(Duration::from_millis(50), 0)
        );
    }
}

/// What the first has settled is committed before the second begins, what it has in hand is lost to it
/// and delivered to the second, and the rest stays where it is.
async fn handed_over(kafka: Kafka, strategy: Option<&str>, keeps: bool) {
    let kafka = filled(kafka).await;
    let mut first = member(&kafka, strategy);
    let mut held = first.take_all((PARTITIONS as u32 * EACH) as usize).await;
    // Of each partition 0 to 3 are settled, and 5, which comes after an unsettled one.
    for delivery in &mut held {
        if [0, 1, 2, 3, 5].contains(&(number(delivery) % EACH)) {
            ack(delivery).await;
        }
    }
    // Unlike a broker, the mock cluster takes no commits while members join.
    eventually("what is settled is committed", async || {
        first.poll_for(Duration::from_millis(10), 0).await;
        (0..PARTITIONS).all(|partition| kafka.committed(partition) == Some(4))
    })
    .await;
    let mut second = member(&kafka, strategy);
    until_revoked(&mut first, &mut second, &held).await;

    let mut lost = BTreeSet::new();
    for delivery in &mut held {
        let partition = delivery.payload().partition();
        match delivery.settle(&Settle::Ack).await {
            Ok(()) => assert!(keeps && !lost.contains(&partition)),
            Err(error) => {
                assert_eq!(error.kind(), SettleErrorKind::Lost);
                lost.insert(partition);
            }
        }
    }
    let given_up = if keeps { 2 } else { 4 };
    assert_eq!(lost.len(), given_up, "{lost:?}");
    for partition in &lost {
        assert_eq!(kafka.committed(*partition), Some(4), "what was settled, and no more");
    }

    // Nothing is lost, and only what was not committed is delivered again.
    let expected: BTreeSet<u32> = lost
        .iter()
        .flat_map(|partition| (0..EACH).map(move |number| *partition as u32 * EACH + number))
        .filter(|number| number % EACH >= 4)
        .collect();
    let mut delivered = Delivered::default();
    for delivery in held {
        delivered.note(delivery);
    }
    let mut again = BTreeSet::new();
    eventually("everything is delivered and committed", async || {
        for source in [&mut first, &mut second] {
            while let Some(Ok(mut delivery)) = source.poll_for(Duration::from_millis(50), 10).await
            {
                again.insert(number(&delivery));
                // It may be lost meanwhile, and then it comes once more.
                let _ = delivery.settle(&Settle::Ack).await;
                delivered.note(delivery);
            }
        }
        (0..PARTITIONS).all(|partition| kafka.committed(partition) == Some(i64::from(EACH)))
    })
    .await;
    assert!(again.is_superset(&expected), "{again:?} of {expected:?}");
    // A group that is slow may change once more, so there may be others; but not these.
    assert!(again.iter().all(|number| number % EACH >= 4), "{again:?}");
    first.close().await.unwrap();
    second.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn eager_gives_up_everything_and_hands_over_what_is_settled() {
    handed_over(Kafka::start().classic(), Some("range"), false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cooperative_gives_up_some_and_keeps_the_others_in_hand() {
    handed_over(Kafka::start().classic(), Some("cooperative-sticky"), true).await;
}

/// It is the coordinator that decides, and tells each member by itself.
#[tokio::test(flavor = "multi_thread")]
async fn the_coordinator_takes_some_and_leaves_the_others_in_hand() {
    handed_over(Kafka::start(), None, true).await;
}

/// What is settled when a partition is given up is committed then, although the next commit is a
/// minute away, and what is not is delivered again.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_settled_is_committed_when_the_partition_is_given_up() {
    let kafka = Kafka::with_partitions(1).classic();
    kafka.fill(0, 0..3).await;
    let mut config = kafka.config();
    config.set("auto.commit.interval.ms", "60000");
    let mut source = kafka.builder(&config).build().unwrap();
    let mut taken = source.take_all(3).await;
    ack(&mut taken[0]).await;
    eventually("the first commit, which is made at once", async || {
        source.poll_for(Duration::from_millis(10), 0).await;
        kafka.committed(0) == Some(1)
    })
    .await;
    ack(&mut taken[1]).await;
    change(&kafka);
    until_lost(&mut source, &taken[2]).await;
    eventually("it is committed", async || kafka.committed(0) == Some(2)).await;
    assert_eq!(number(&source.take().await), 2);
}

/// The partition is given up while a commit is on its way, which fails then. It is made up for, although
/// what it was about is settled no more.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_fails_after_the_partition_was_given_up_is_made_up_for() {
    let kafka = Kafka::with_partitions(1).classic();
    kafka.fill(0, 0..3).await;
    let mut source = kafka.source_now();
    let mut taken = source.take_all(3).await;
    let failures = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED; 1];
    kafka.cluster().fail(RDKafkaApiKey::OffsetCommit, &failures);
    // Answers take two seconds, so the change is heard of before the commit, which is asked for later.
    kafka.cluster().answers_take(Duration::from_secs(2));
    change(&kafka);
    sleep(Duration::from_millis(1500)).await;
    ack(&mut taken[0]).await;
    source.poll_for(Duration::from_millis(10), 0).await;
    until_lost(&mut source, &taken[1]).await;
    kafka.cluster().answers_take(Duration::ZERO);
    eventually("it is committed", async || kafka.committed(0) == Some(1)).await;
    assert_eq!(number(&source.take().await), 1);
}

/// librdkafka remembers the pause of a partition beyond its assignment.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_is_given_up_during_a_pause_and_comes_back_after_it_is_read() {
    let kafka = Kafka::with_partitions(1).classic();
    kafka.fill(0, 0..3).await;
    let mut source = kafka.source_now();
    let held = source.take().await;
    source.pause();
    assert!(source.poll_for(Duration::from_millis(1200), 10).await.is_none());
    change(&kafka);
    until_lost(&mut source, &held).await;
    // The group takes its time, so the partition is nobody's now.
    source.resume();
    let again = source.take_all(3).await;
    assert_eq!(again.iter().map(number).collect::<Vec<_>>(), [0, 1, 2]);
}

/// Partitions that are assigned during a pause are paused.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_assigned_during_a_pause_is_paused() {
    let kafka = filled(Kafka::start().classic()).await;
    let mut first = member(&kafka, Some("range"));
    let held = first.take_all(1).await;
    let mut second = member(&kafka, Some("range"));
    first.pause();
    second.pause();
    first.poll_for(Duration::from_millis(1500), 10).await;
    until_revoked(&mut first, &mut second, &held).await;
    for _ in 0..20 {
        let (one, other) = tokio::join!(
            first.poll_for(Duration::from_millis(100), 10),
            second.poll_for(Duration::from_millis(100), 10)
        );
        assert!(!matches!(one, Some(Ok(_))) && !matches!(other, Some(Ok(_))));
    }
    first.resume();
    second.resume();
    let all = (PARTITIONS as u32 * EACH) as usize;
    let mut delivered = Delivered::default();
    for delivery in held {
        delivered.note(delivery);
    }
    let patience = Instant::now() + PATIENCE;
    while delivered.numbers().len() < all {
        assert!(Instant::now() < patience, "{:?}", delivered.numbers());
        for source in [&mut first, &mut second] {
            if let Some(Ok(delivery)) = source.poll_for(Duration::from_millis(50), 10).await {
                delivered.note(delivery);
            }
        }
    }
}
