//! What is handed out, and what becomes of it.

use std::time::Duration;

use buttress::consumer::{
    Delivery as _, Settle, SettleErrorKind, Source as _,
    rabbitmq::{DeadLetters, Source},
};
use futures::future::join_all;
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};

use super::queue::{BROKER, Queue, count, dead, eventually, next, nothing, retry};

#[tokio::test]
async fn an_ack_takes_it_away() {
    let queue = Queue::new().await;
    queue.publish(["one", "two"]).await;
    let mut source = queue.source();
    let mut delivery = next(&mut source).await;
    let message = delivery.payload();
    assert_eq!(&message.body()[..], b"one");
    assert_eq!((message.exchange(), message.routing_key()), ("", queue.name.as_str()));
    assert_eq!(delivery.attempt(), Some(1));
    delivery.settle(&Settle::Ack).await.unwrap();
    eventually("it is gone", async || queue.left() == 1).await;
    let mut delivery = next(&mut source).await;
    assert_eq!(&delivery.payload().body()[..], b"two");
    delivery.settle(&Settle::Ack).await.unwrap();
    source.close().await.unwrap();
    assert_eq!(queue.left(), 0);
}

#[tokio::test]
async fn what_is_released_is_delivered_again_and_counted() {
    let queue = Queue::new().await;
    queue.publish(["one"]).await;
    let mut source = queue.source();
    for attempt in 1..=3 {
        let mut delivery = next(&mut source).await;
        assert_eq!(delivery.attempt(), Some(attempt));
        assert_eq!(delivery.payload().attempt(), Some(attempt));
        delivery.settle(&Settle::Release).await.unwrap();
    }
}

#[tokio::test]
async fn a_classic_queue_does_not_count() {
    let queue = Queue::new().await;
    queue.delete(&queue.name).await;
    queue.declare(&queue.name, &[("x-queue-type", AMQPValue::LongString("classic".into()))]).await;
    queue.publish(["one"]).await;
    let mut source = queue.source();
    let mut delivery = next(&mut source).await;
    assert_eq!(delivery.attempt(), Some(1));
    delivery.settle(&Settle::Release).await.unwrap();
    assert_eq!(next(&mut source).await.attempt(), None);
}

/// Whoever moves a message from another queue brings the count of that along.
#[tokio::test]
async fn a_count_that_came_with_the_message_is_not_its_own() {
    let queue = Queue::new().await;
    let mut headers = FieldTable::default();
    headers.insert("x-delivery-count".into(), AMQPValue::LongLongInt(7));
    queue.publish_with("one", BasicProperties::default().with_headers(headers)).await;
    let mut source = queue.source();
    for attempt in 1..=3 {
        let mut delivery = next(&mut source).await;
        assert_eq!(delivery.attempt(), Some(attempt));
        delivery.settle(&Settle::Release).await.unwrap();
    }
}

#[tokio::test]
async fn no_more_than_the_prefetch_is_out() {
    let queue = Queue::new().await;
    queue.publish(["1", "2", "3", "4", "5"]).await;
    let mut source = queue.builder().prefetch(3).build().unwrap();
    assert_eq!(source.prefetch(), 3);
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(next(&mut source).await);
    }
    nothing(&mut source, 1_000).await;
    held[1].settle(&Settle::Ack).await.unwrap();
    assert_eq!(&next(&mut source).await.payload().body()[..], b"4");
    nothing(&mut source, 1_000).await;
}

#[tokio::test]
async fn nothing_without_room_and_all_that_was_pushed_with_it() {
    let queue = Queue::new().await;
    queue.publish(["1", "2"]).await;
    let mut source = queue.source();
    let first = next(&mut source).await;
    nothing(&mut source, 0).await;
    // The broker has sent it before the pause, and it is not kept back.
    source.pause();
    let second = next(&mut source).await;
    assert_eq!(&second.payload().body()[..], b"2");
    assert!(!first.is_lost() && !second.is_lost());
}

#[tokio::test]
async fn the_end_is_heard_by_the_broker() {
    let queue = Queue::new().await;
    queue.publish(["1", "2", "3"]).await;
    let mut source = queue.source();
    let mut first = next(&mut source).await;
    let second = next(&mut source).await;
    first.settle(&Settle::Ack).await.unwrap();
    source.close().await.unwrap();
    assert_eq!(queue.left(), 2);
    assert!(second.is_lost());
    let mut source = queue.source();
    // Both were sent, so they were delivered, although one was not handed out.
    assert_eq!(next(&mut source).await.attempt(), Some(2));
    assert_eq!(next(&mut source).await.attempt(), Some(2));
}

/// RabbitMQ keeps acknowledgements back in the channel while a quorum queue has many to write down: more
/// than 32 of one that stands still.
#[tokio::test]
async fn acknowledgements_that_are_kept_back_are_not_lost_at_the_end() {
    const ALL: u16 = 1_000;
    let queue = Queue::new().await;
    let bodies: Vec<String> = (0..ALL).map(|body| body.to_string()).collect();
    queue.publish_all(&bodies).await;
    let mut source = queue.builder().prefetch(ALL).build().unwrap();
    let mut deliveries = Vec::new();
    while deliveries.len() < ALL.into() {
        deliveries.push(next(&mut source).await);
    }
    queue.stand_still(Duration::from_secs(2));
    let settled = deliveries.iter_mut().map(|delivery| delivery.settle(&Settle::Ack));
    assert!(join_all(settled).await.iter().all(Result::is_ok));
    source.close().await.unwrap();
    eventually("what was on its way is written down", async || queue.left() == 0).await;
}

/// What is said about order across several consumers.
#[tokio::test]
async fn of_several_consumers_one_is_active_and_then_the_next() {
    let queue = Queue::new().await;
    queue.delete(&queue.name).await;
    let single = [("x-single-active-consumer", AMQPValue::Boolean(true))];
    queue.declare(&queue.name, &single).await;
    let (mut active, mut other) = (queue.source(), queue.source());
    nothing(&mut active, 1_000).await;
    nothing(&mut other, 1_000).await;
    queue.publish(["1", "2", "3"]).await;
    // A pause does not give it away.
    active.pause();
    let mut first = next(&mut active).await;
    nothing(&mut other, 1_000).await;
    first.settle(&Settle::Ack).await.unwrap();
    active.close().await.unwrap();
    for body in [&b"2"[..], b"3"] {
        assert_eq!(&next(&mut other).await.payload().body()[..], body);
    }
}

#[tokio::test]
async fn settled_again_it_says_the_same() {
    let queue = Queue::new().await;
    queue.publish(["one"]).await;
    let mut source = queue.source();
    let mut delivery = next(&mut source).await;
    delivery.settle(&dead("poison")).await.unwrap();
    delivery.settle(&dead("poison")).await.unwrap();
    source.close().await.unwrap();
    assert_eq!((queue.left(), count(&queue.dead())), (0, 1));
    let error = delivery.settle(&dead("poison")).await.unwrap_err();
    assert_eq!(error.kind(), SettleErrorKind::Lost);
    assert_eq!(error.to_string(), "the delivery was lost: its channel was closed");
}

#[tokio::test]
async fn rejected_where_the_broker_takes_the_dead_letters() {
    let queue = Queue::new().await;
    let text = |text: &str| AMQPValue::LongString(text.into());
    queue.delete(&queue.name).await;
    let dead_queue = queue.dead();
    queue
        .declare(
            &queue.name,
            &[
                ("x-dead-letter-exchange", text("")),
                ("x-dead-letter-routing-key", text(&dead_queue)),
            ],
        )
        .await;
    queue.publish(["one"]).await;
    let mut source =
        Source::builder(BROKER.uri(), &queue.name, DeadLetters::by_broker()).build().unwrap();
    next(&mut source).await.settle(&dead("poison")).await.unwrap();
    eventually("it is a dead letter", async || count(&dead_queue) == 1).await;
    let headers = queue.take(&dead_queue).await.unwrap().properties.headers().clone().unwrap();
    assert!(headers.contains_key("x-death"), "{headers:?}");
}

#[tokio::test]
async fn without_delayed_retry_the_consumer_does_it() {
    let queue = Queue::new().await;
    assert!(!queue.source().redelivers());
    assert!(queue.builder().delayed_retry().build().unwrap().redelivers());
    assert_eq!(queue.source().extend_every(), None);
    // It is not asked to, but were it, nothing would be lost.
    queue.publish(["one"]).await;
    let mut source = queue.source();
    next(&mut source).await.settle(&retry(10)).await.unwrap();
    assert_eq!(next(&mut source).await.attempt(), Some(2));
}

#[tokio::test]
async fn ordered_by_routing_key_or_by_a_header() {
    let queue = Queue::new().await;
    let with = |value| {
        let mut headers = FieldTable::default();
        headers.insert("customer".into(), value);
        BasicProperties::default().with_headers(headers)
    };
    queue.publish_with("1", with(AMQPValue::LongString("ada".into()))).await;
    queue.publish_with("2", with(AMQPValue::LongLongInt(-7))).await;
    queue.publish_with("3", with(AMQPValue::Boolean(true))).await;
    queue.publish(["4"]).await;
    let mut source = queue.builder().order_by_header("customer").build().unwrap();
    for key in [Some(&b"ada"[..]), Some(b"-7"), None, None] {
        let mut delivery = next(&mut source).await;
        assert_eq!(delivery.ordering_key(), key);
        delivery.settle(&Settle::Ack).await.unwrap();
    }
    source.close().await.unwrap();
    queue.publish(["5"]).await;
    let mut source = queue.source();
    assert_eq!(next(&mut source).await.ordering_key(), Some(queue.name.as_bytes()));
}

#[test]
fn what_cannot_be_is_refused() {
    let error = |source: buttress::consumer::rabbitmq::SourceBuilder| {
        source.build().unwrap_err().to_string()
    };
    let builder = || Source::builder("amqp://nowhere", "orders", DeadLetters::by_broker());
    let refused = [
        (builder().prefetch(0), "RabbitMQ source: prefetch must be at least 1, but is 0"),
        (
            builder().timeout(Duration::ZERO),
            "RabbitMQ source: timeout must be above zero, but is 0ns",
        ),
        (
            Source::builder("amqp://nowhere", "", DeadLetters::by_broker()),
            "RabbitMQ source: queue must have 1 to 255 bytes, but is \"\"",
        ),
        (
            Source::builder("amqp://nowhere", "orders", DeadLetters::to_queue("orders")),
            "RabbitMQ source: dead_letters must go to another queue than the one consumed, \
             but is \"orders\"",
        ),
        (
            Source::builder("amqp://nowhere", "orders", DeadLetters::to_exchange("", "orders")),
            "RabbitMQ source: dead_letters must go to another queue than the one consumed, \
             but is \"orders\"",
        ),
        (
            builder().order_by_header(""),
            "RabbitMQ source: order_by_header must have 1 to 255 bytes, but is \"\"",
        ),
    ];
    let error_of_uri = error(Source::builder("nowhere", "orders", DeadLetters::by_broker()));
    assert!(
        error_of_uri.starts_with("RabbitMQ source: uri must be a URI of AMQP"),
        "{error_of_uri}"
    );
    for (builder, because) in refused {
        assert_eq!(error(builder), because);
    }
    let long = "q".repeat(240);
    let builder = || Source::builder("amqp://nowhere", &long, DeadLetters::by_broker());
    builder().build().unwrap();
    assert!(error(builder().delayed_retry()).contains("queue must have 1 to 230 bytes"));
}
