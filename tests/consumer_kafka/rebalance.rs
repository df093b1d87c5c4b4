//! Partitions that come and go with the members of the group.

use std::{collections::BTreeSet, time::Duration};

use buttress::consumer::{
    Delivery, Settle, SettleErrorKind, Source,
    kafka::{Delivery as KafkaDelivery, Source as KafkaSource},
};
use tokio::time::Instant;

use crate::{
    broker::{InHand, Kafka, PARTITIONS, PATIENCE, ack, number},
    consumer_support::scenario::eventually,
};

const EACH: u32 = 10;

async fn filled() -> Kafka {
    let kafka = Kafka::start();
    for partition in 0..PARTITIONS {
        let first = partition as u32 * EACH;
        kafka.fill(partition, first..first + EACH).await;
    }
    kafka
}

fn member(kafka: &Kafka, strategy: &str) -> KafkaSource {
    let mut config = kafka.config();
    config.set("session.timeout.ms", "4000").set("max.poll.interval.ms", "30000");
    config.set("partition.assignment.strategy", strategy);
    kafka.builder(&config).build().unwrap()
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
async fn handed_over(strategy: &str, keeps: bool) {
    let kafka = filled().await;
    let mut first = member(&kafka, strategy);
    let mut held = first.take_all((PARTITIONS as u32 * EACH) as usize).await;
    // Of each partition 0 to 3 are settled, and 5, which comes after an unsettled one.
    for delivery in &mut held {
        if [0, 1, 2, 3, 5].contains(&(number(delivery) % EACH)) {
            ack(delivery).await;
        }
    }
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
    let mut again = BTreeSet::new();
    let patience = Instant::now() + PATIENCE;
    while !again.is_superset(&expected) {
        assert!(Instant::now() < patience, "{again:?} of {expected:?}");
        for source in [&mut first, &mut second] {
            while let Some(Ok(mut delivery)) = source.poll_for(Duration::from_millis(50), 10).await
            {
                again.insert(number(&delivery));
                ack(&mut delivery).await;
            }
        }
    }
    // A group that is slow may change once more, so there may be others; but not these.
    assert!(again.iter().all(|number| number % EACH >= 4), "{again:?}");
    eventually("everything is committed", async || {
        for source in [&mut first, &mut second] {
            source.poll_for(Duration::from_millis(50), 0).await;
        }
        (0..PARTITIONS).all(|partition| kafka.committed(partition) == Some(i64::from(EACH)))
    })
    .await;
    first.close().await.unwrap();
    second.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn eager_gives_up_everything_and_hands_over_what_is_settled() {
    handed_over("range", false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cooperative_gives_up_some_and_keeps_the_others_in_hand() {
    handed_over("cooperative-sticky", true).await;
}

/// Partitions that are assigned during a pause are paused.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_assigned_during_a_pause_is_paused() {
    let kafka = filled().await;
    let mut first = member(&kafka, "range");
    let held = first.take_all(1).await;
    let mut second = member(&kafka, "range");
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
    let mut seen = BTreeSet::new();
    let patience = Instant::now() + PATIENCE;
    while seen.len() < all {
        assert!(Instant::now() < patience, "{seen:?}");
        for source in [&mut first, &mut second] {
            if let Some(Ok(delivery)) = source.poll_for(Duration::from_millis(50), 10).await {
                // The mock cluster changes its mind at times, and then some come again.
                seen.insert(number(&delivery));
            }
        }
    }
}
