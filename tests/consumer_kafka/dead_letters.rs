//! Where poisonous messages go.

use std::time::Duration;

use buttress::consumer::{
    Delivery, Settle, SettleErrorKind, Source,
    kafka::{DeadLetters, Source as KafkaSource},
};
use rdkafka::{
    Message as _,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};

use crate::broker::{DEAD, InHand, Kafka, TOPIC, ack, header};

fn dead(reason: &'static str) -> Settle {
    Settle::DeadLetter { reason: reason.into() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_tells_where_it_came_from_and_why() {
    let kafka = Kafka::with_partitions(1);
    kafka.fill(0, 7..9).await;
    let mut source = kafka.source_now();
    let mut taken = source.take_all(2).await;
    ack(&mut taken[0]).await;
    taken[1].settle(&dead("it is not valid")).await.unwrap();
    source.close().await.unwrap();
    assert_eq!(kafka.committed(0), Some(2));

    let letters = kafka.dead();
    assert_eq!(letters.len(), 1);
    let letter = &letters[0];
    assert_eq!((letter.key(), letter.payload()), (Some(&b"key"[..]), Some(&b"8"[..])));
    for (name, value) in [
        ("buttress-reason", "it is not valid"),
        ("buttress-topic", "orders"),
        ("buttress-partition", "0"),
        ("buttress-offset", "1"),
    ] {
        assert_eq!(header(letter, name).as_deref(), Some(value));
    }
    assert!(header(letter, "buttress-timestamp").is_some());
}

/// The offset moves on when the dead letter is stored, and not before.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_confirmed_before_the_offset_moves_on() {
    let kafka = Kafka::with_partitions(1);
    kafka.fill(0, 0..1).await;
    let producer = kafka.producer("message.timeout.ms", "300");
    let letters = DeadLetters::to_topic(DEAD, producer);
    let mut source = KafkaSource::builder(&kafka.config(), [TOPIC], letters).build().unwrap();
    let mut delivery = source.take().await;

    let refused = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_POLICY_VIOLATION; 1];
    kafka.cluster().fail(RDKafkaApiKey::Produce, &refused);
    let error = delivery.settle(&dead("no")).await.unwrap_err();
    assert_eq!(error.kind(), SettleErrorKind::Unconfirmed, "{error}");
    source.poll_for(Duration::from_millis(300), 0).await;
    assert_eq!((kafka.committed(0), kafka.dead().len()), (None, 0));

    delivery.settle(&dead("no")).await.unwrap();
    source.close().await.unwrap();
    assert_eq!((kafka.committed(0), kafka.dead().len()), (Some(1), 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_dropped_if_that_is_wanted() {
    let kafka = Kafka::with_partitions(1);
    kafka.fill(0, 0..1).await;
    let letters = DeadLetters::dropped();
    let mut source = KafkaSource::builder(&kafka.config(), [TOPIC], letters).build().unwrap();
    source.take().await.settle(&dead("no")).await.unwrap();
    source.close().await.unwrap();
    assert_eq!((kafka.committed(0), kafka.dead().len()), (Some(1), 0));
}

/// What is not there stays so: an empty body is not a tombstone, and an empty key not none.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_tombstone_is_one_and_its_reason_is_bounded() {
    let kafka = Kafka::with_partitions(1);
    kafka.fill_empty().await;
    let mut source = kafka.source_now();
    let mut delivery = source.take().await;
    let message = delivery.payload();
    assert!(message.is_tombstone() && message.body().is_empty());
    assert_eq!((message.key(), delivery.ordering_key()), (None, None));
    let reason = "ü".repeat(100_000);
    delivery.settle(&Settle::DeadLetter { reason: reason.into() }).await.unwrap();
    source.close().await.unwrap();

    let letters = kafka.dead();
    assert_eq!((letters[0].key(), letters[0].payload()), (None, None));
    assert_eq!(header(&letters[0], "buttress-reason"), Some("ü".repeat(512)));
}

/// One that is too large for the producer's limit is not lost, and not passed over.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_that_is_too_large_keeps_the_offset_where_it_is() {
    let kafka = Kafka::with_partitions(1);
    kafka.fill_large(1, 10_000).await;
    let letters = DeadLetters::to_topic(DEAD, kafka.producer("message.max.bytes", "10000"));
    let mut source = KafkaSource::builder(&kafka.config(), [TOPIC], letters).build().unwrap();
    let mut delivery = source.take().await;
    for _ in 0..2 {
        let error = delivery.settle(&dead("no")).await.unwrap_err();
        assert_eq!(error.kind(), SettleErrorKind::Unconfirmed);
        assert!(error.to_string().contains("MessageSizeTooLarge"), "{error}");
    }
    source.close().await.unwrap();
    assert_eq!(kafka.committed(0), None);
}
