//! Brokers that go away, and requests that fail.

use std::time::Duration;

use buttress::consumer::{Source, kafka::Error};
use rdkafka::{
    error::RDKafkaErrorCode,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};
use tokio::time::Instant;

use crate::{
    broker::{InHand, Kafka, PATIENCE, ack, number},
    consumer_support::scenario::eventually,
};

/// The source says that the broker is away, and goes on by itself when it is back.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_was_away_costs_nothing() {
    let kafka = Kafka::with_partitions(1);
    kafka.fill(0, 0..3).await;
    let mut source = kafka.source_now();
    let mut taken = source.take_all(3).await;

    kafka.cluster().down().unwrap();
    for delivery in &mut taken {
        // Nobody is asked, so nobody can be missed.
        ack(delivery).await;
    }
    let polled = source.poll_for(PATIENCE, 1).await;
    let error = polled.expect("it is noticed").expect_err("there is nothing to hand over");
    assert!(!error.is_fatal(), "{error}");

    kafka.cluster().up().unwrap();
    kafka.fill(0, 3..6).await;
    let mut more = source.take_all(3).await;
    assert_eq!(more.iter().map(number).collect::<Vec<_>>(), [3, 4, 5], "none twice");
    for delivery in &mut more {
        ack(delivery).await;
    }
    eventually("it is committed", async || {
        source.poll_for(Duration::from_millis(50), 0).await;
        kafka.committed(0) == Some(6)
    })
    .await;
}

/// A commit that fails is told, and made up for.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_fails_is_told_and_done_again() {
    let kafka = Kafka::with_partitions(1);
    kafka.fill(0, 0..2).await;
    let mut source = kafka.source_now();
    let mut taken = source.take_all(2).await;
    let failures = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED; 1];
    kafka.cluster().fail(RDKafkaApiKey::OffsetCommit, &failures);
    ack(&mut taken[0]).await;
    let polled = source.poll_for(Duration::from_secs(2), 1).await;
    assert!(matches!(polled, Some(Err(Error::Commit { .. }))), "{polled:?}");

    ack(&mut taken[1]).await;
    source.close().await.unwrap();
    assert_eq!(kafka.committed(0), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_last_commit_that_fails_is_told() {
    let kafka = Kafka::with_partitions(1);
    kafka.fill(0, 0..1).await;
    let mut config = kafka.config();
    config.set("auto.commit.interval.ms", "60000");
    let mut source = kafka.builder(&config).build().unwrap();
    ack(&mut source.take().await).await;
    let failures = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED; 2];
    kafka.cluster().fail(RDKafkaApiKey::OffsetCommit, &failures);
    let error = source.close().await.unwrap_err();
    assert!(matches!(error, Error::Commit { .. }), "{error}");
    assert!(error.to_string().contains("(orders[0] at 1)"), "{error}");
}

/// Nobody waits long for a broker that is away, and what it was not told is said.
#[tokio::test(flavor = "multi_thread")]
async fn the_end_without_a_broker_is_bounded_and_says_what_is_not_committed() {
    let kafka = Kafka::with_partitions(2);
    kafka.fill(1, 0..3).await;
    let mut source = kafka.source_now();
    let mut taken = source.take_all(3).await;
    kafka.cluster().down().unwrap();
    ack(&mut taken[0]).await;
    // So that a commit is on its way as well.
    source.poll_for(Duration::from_millis(100), 0).await;
    ack(&mut taken[1]).await;
    let begun = Instant::now();
    let error = source.close().await.unwrap_err();
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(5), "a consumer waits no longer, and this took {took:?}");
    assert_eq!(error.code(), Some(RDKafkaErrorCode::OperationTimedOut), "{error}");
    assert!(error.to_string().contains("(orders[1] at 2)"), "{error}");
}

/// Requests of every kind that fail now and then cost neither a message nor the order.
#[tokio::test(flavor = "multi_thread")]
async fn requests_that_fail_are_made_up_for() {
    let kafka = Kafka::with_partitions(1);
    kafka.fill(0, 0..100).await;
    let cluster = kafka.cluster();
    let gone = [RDKafkaRespErr::RD_KAFKA_RESP_ERR__TRANSPORT; 2];
    let moved = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION; 2];
    let no_coordinator = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_COORDINATOR; 2];
    cluster.fail(RDKafkaApiKey::JoinGroup, &no_coordinator);
    cluster.fail(RDKafkaApiKey::Fetch, &moved);
    let mut source = kafka.source_now();
    for expected in 0..100 {
        let mut delivery = source.take().await;
        assert_eq!(number(&delivery), expected);
        ack(&mut delivery).await;
        if expected == 50 {
            cluster.fail(RDKafkaApiKey::OffsetCommit, &no_coordinator);
            cluster.fail(RDKafkaApiKey::Fetch, &gone);
        }
    }
    eventually("it is committed", async || {
        source.poll_for(Duration::from_millis(50), 0).await;
        kafka.committed(0) == Some(100)
    })
    .await;
}

/// A member whose place another has taken is told so for ever, and does not fight for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_fatal_error_is_told_at_each_poll() {
    let kafka = Kafka::with_partitions(1).classic();
    kafka.fill(0, 0..1).await;
    let mut config = kafka.config();
    config.set("group.instance.id", "one");
    let mut source = kafka.builder(&config).build().unwrap();
    source.take().await;
    let fenced = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID; 2];
    kafka.cluster().fail(RDKafkaApiKey::Heartbeat, &fenced);
    let polled = source.poll_for(Duration::from_secs(5), 1).await;
    assert!(matches!(polled, Some(Err(Error::Fatal { .. }))), "{polled:?}");
    for _ in 0..3 {
        let polled = source.poll_for(Duration::from_secs(5), 1).await;
        let error = polled.expect("at once").unwrap_err();
        assert!(error.is_fatal(), "{error}");
    }
}
