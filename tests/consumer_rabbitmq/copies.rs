//! Dead letters and delayed retries: copies that are stored before the original goes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use buttress::consumer::{
    Delivery as _, Settle, SettleError, SettleErrorKind,
    rabbitmq::{DeadLetters, Delivery, Message, Source},
};
use futures::future::join_all;
use lapin::{
    BasicProperties, ExchangeKind,
    options::{BasicPublishOptions, ExchangeDeclareOptions, QueueBindOptions},
    types::{AMQPValue, FieldTable},
};
use tokio::time::Instant;

use super::{
    queue::{BROKER, Queue, connect, count, dead, eventually, next, retry},
    unlucky,
};

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

/// All that a publisher may say, and some of what it had better not.
fn properties() -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert("tenant".into(), text("seven"));
    headers.insert("CC".into(), AMQPValue::FieldArray(vec![text("somewhere-else")].into()));
    BasicProperties::default()
        .with_headers(headers)
        .with_content_type("application/json".into())
        .with_content_encoding("identity".into())
        .with_correlation_id("correlation".into())
        .with_reply_to("answers".into())
        .with_message_id("id-1".into())
        .with_type("order".into())
        .with_app_id("shop".into())
        .with_user_id("guest".into())
        .with_priority(3)
        .with_timestamp(1_700_000_000)
        .with_expiration("60000".into())
}

fn assert_copied(copy: &BasicProperties) {
    let original = properties().with_delivery_mode(2);
    assert_eq!(copy.content_type(), original.content_type());
    assert_eq!(copy.content_encoding(), original.content_encoding());
    assert_eq!(copy.correlation_id(), original.correlation_id());
    assert_eq!(copy.reply_to(), original.reply_to());
    assert_eq!(copy.message_id(), original.message_id());
    assert_eq!(copy.kind(), original.kind());
    assert_eq!(copy.app_id(), original.app_id());
    assert_eq!(copy.priority(), original.priority());
    assert_eq!(copy.timestamp(), original.timestamp());
    assert_eq!(copy.delivery_mode(), original.delivery_mode());
    assert_eq!(copy.expiration(), &None);
    assert_eq!(copy.user_id(), &None);
}

#[tokio::test]
async fn a_dead_letter_is_the_message_and_why() {
    let queue = Queue::new().await;
    queue.publish_with("poison", properties()).await;
    let mut source = queue.source();
    next(&mut source).await.settle(&Settle::Release).await.unwrap();
    next(&mut source).await.settle(&dead("no such order")).await.unwrap();
    eventually("the original is gone", async || queue.left() == 0).await;
    let stored = queue.take(&queue.dead()).await.unwrap();
    assert_eq!(stored.data, b"poison");
    assert_copied(&stored.properties);
    let headers = stored.properties.headers().clone().unwrap();
    let header = |name: &str| headers.inner().get(name).cloned();
    assert_eq!(header("tenant"), Some(text("seven")));
    assert_eq!(header("x-buttress-reason"), Some(text("no such order")));
    assert_eq!(header("x-buttress-queue"), Some(text(&queue.name)));
    assert_eq!(header("x-buttress-exchange"), Some(text("")));
    assert_eq!(header("x-buttress-routing-key"), Some(text(&queue.name)));
    assert_eq!(header("x-buttress-deliveries"), Some(AMQPValue::LongLongInt(2)));
    assert_eq!(header("CC"), None);
}

#[tokio::test]
async fn a_dead_letter_that_is_put_back_starts_anew() {
    let queue = Queue::new().await;
    queue.publish(["one"]).await;
    let mut source = queue.builder().delayed_retry().build().unwrap();
    next(&mut source).await.settle(&retry(1)).await.unwrap();
    next(&mut source).await.settle(&dead("no such order")).await.unwrap();
    let stored = queue.take(&queue.dead()).await.unwrap();
    queue.publish_with("one", stored.properties.clone()).await;
    assert_eq!(next(&mut source).await.attempt(), Some(1));
}

#[tokio::test]
async fn a_reason_of_any_length_is_kept_as_far_as_it_fits() {
    let queue = Queue::new().await;
    queue.publish(["one"]).await;
    let mut source = queue.source();
    let reason = "ä".repeat(200_000).into();
    next(&mut source).await.settle(&Settle::DeadLetter { reason }).await.unwrap();
    let stored = queue.take(&queue.dead()).await.unwrap();
    let headers = stored.properties.headers().clone().unwrap();
    assert_eq!(headers.inner().get("x-buttress-reason"), Some(&text(&"ä".repeat(2048))));
}

#[tokio::test]
async fn a_dead_letter_that_cannot_be_stored_leaves_the_original() {
    let queue = Queue::new().await;
    queue.publish(["one"]).await;
    let dead_queue = queue.dead();
    queue.delete(&dead_queue).await;
    let mut source = queue.source();
    let mut delivery = next(&mut source).await;

    let error = delivery.settle(&dead("poison")).await.unwrap_err();
    assert_eq!(error.kind(), SettleErrorKind::Unconfirmed);
    assert_eq!(
        error.to_string(),
        format!(
            "the broker did not confirm it: no queue takes what is published to exchange \"\" with \
             key {dead_queue:?}"
        )
    );
    assert_eq!(queue.left(), 1);

    // There is a queue, but it refuses.
    let full = [
        ("x-queue-type", text("classic")),
        ("x-max-length", AMQPValue::LongInt(0)),
        ("x-overflow", text("reject-publish")),
    ];
    queue.declare(&dead_queue, &full).await;
    queue
        .channel
        .basic_publish(
            "".into(),
            dead_queue.as_str().into(),
            BasicPublishOptions::default(),
            b"fills it",
            BasicProperties::default(),
        )
        .await
        .unwrap()
        .await
        .unwrap();
    let error = delivery.settle(&dead("poison")).await.unwrap_err();
    assert_eq!(error.kind(), SettleErrorKind::Unconfirmed, "{error}");
    assert!(error.to_string().ends_with("the broker could not store the copy"), "{error}");
    assert_eq!(queue.left(), 1);

    // Saying it again is enough when there is a queue.
    queue.delete(&dead_queue).await;
    queue.declare(&dead_queue, &[]).await;
    delivery.settle(&dead("poison")).await.unwrap();
    eventually("the original is gone", async || queue.left() == 0).await;
    assert_eq!(count(&dead_queue), 1);
}

#[tokio::test]
async fn dead_letters_go_to_an_exchange() {
    let queue = Queue::new().await;
    queue.publish(["one"]).await;
    let exchange = format!("{}.letters", queue.name);
    let mut source =
        Source::builder(BROKER.uri(), &queue.name, DeadLetters::to_exchange(&exchange, "poison"))
            .build()
            .unwrap();
    let mut delivery = next(&mut source).await;
    let error = delivery.settle(&dead("poison")).await.unwrap_err();
    assert!(error.to_string().contains("NOT_FOUND"), "{error}");

    queue
        .channel
        .exchange_declare(
            exchange.as_str().into(),
            ExchangeKind::Direct,
            ExchangeDeclareOptions::default(),
            FieldTable::default(),
        )
        .await
        .unwrap();
    let error = delivery.settle(&dead("poison")).await.unwrap_err();
    assert!(error.to_string().contains("no queue takes"), "{error}");
    assert_eq!(queue.left(), 1);

    queue
        .channel
        .queue_bind(
            queue.dead().as_str().into(),
            exchange.as_str().into(),
            "poison".into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await
        .unwrap();
    delivery.settle(&dead("poison")).await.unwrap();
    eventually("the original is gone", async || queue.left() == 0).await;
    assert_eq!(count(&queue.dead()), 1);
}

/// lapin hands a returned message out with any confirmation that comes.
#[tokio::test]
async fn of_many_copies_those_that_came_back_are_known() {
    const ALL: usize = 200;
    let queue = Queue::new().await;
    let bodies: Vec<String> = (0..ALL).map(|body| body.to_string()).collect();
    queue.publish(bodies.iter().map(String::as_str)).await;
    queue.delete(&queue.dead()).await;
    let mut source = queue.builder().delayed_retry().prefetch(ALL as u16).build().unwrap();
    let mut deliveries = Vec::new();
    while deliveries.len() < ALL {
        deliveries.push(next(&mut source).await);
    }
    let settled = deliveries.iter_mut().enumerate().map(async |(index, delivery)| {
        let settle = if index % 3 == 0 { dead("poison") } else { retry(60_000) };
        delivery.settle(&settle).await
    });
    for (index, settled) in join_all(settled).await.into_iter().enumerate() {
        assert_eq!(settled.is_err(), index % 3 == 0, "{index}: {settled:?}");
    }
    eventually("the others wait", async || queue.left() == ALL.div_ceil(3)).await;
    assert_eq!(count(&format!("{}.retry.102400ms", queue.name)), ALL - ALL.div_ceil(3));
}

#[tokio::test]
async fn a_retry_comes_back_not_before_its_time_and_with_its_count() {
    let queue = Queue::new().await;
    queue.publish_with("one", properties()).await;
    let mut source = queue.builder().delayed_retry().build().unwrap();
    let mut delivery = next(&mut source).await;
    for (attempt, after) in [(1, 150), (2, 400), (3, 150)] {
        assert_eq!(delivery.attempt(), Some(attempt));
        let begin = Instant::now();
        delivery.settle(&retry(after)).await.unwrap();
        delivery = next(&mut source).await;
        let took = begin.elapsed();
        assert!(took >= Duration::from_millis(after), "after {took:?}");
        assert_original(&delivery, &queue.name);
    }
    // Given back by a consumer, it is counted by the broker.
    delivery.settle(&Settle::Release).await.unwrap();
    delivery = next(&mut source).await;
    assert_eq!(delivery.attempt(), Some(5));
    delivery.settle(&retry(1)).await.unwrap();
    delivery = next(&mut source).await;
    assert_eq!(delivery.attempt(), Some(6));
    assert_eq!(queue.left(), 1);
}

fn assert_original(delivery: &Delivery, queue: &str) {
    let message: Message = delivery.payload();
    assert_eq!(&message.body()[..], b"one");
    assert_eq!((message.exchange(), message.routing_key()), ("", queue));
    assert_eq!(message.header("tenant"), Some(&text("seven")));
    assert_eq!(message.header("CC"), None);
    assert_eq!(message.message_id(), Some("id-1"));
    assert_eq!(delivery.ordering_key(), Some(queue.as_bytes()));
    assert_copied(message.properties());
}

/// The shorter delay is over first, although it began later.
#[tokio::test]
async fn a_long_delay_does_not_hold_up_a_short_one() {
    let queue = Queue::new().await;
    queue.publish(["long", "short"]).await;
    let mut source = queue.builder().delayed_retry().build().unwrap();
    let (mut long, mut short) = (next(&mut source).await, next(&mut source).await);
    long.settle(&retry(1_500)).await.unwrap();
    short.settle(&retry(50)).await.unwrap();
    assert_eq!(&next(&mut source).await.payload().body()[..], b"short");
    assert_eq!(&next(&mut source).await.payload().body()[..], b"long");
}

#[tokio::test]
async fn a_delay_queue_that_is_gone_or_another_is_noticed() {
    let queue = Queue::new().await;
    queue.publish(["one"]).await;
    let delay = format!("{}.retry.100ms", queue.name);
    let mut source = queue.builder().delayed_retry().build().unwrap();
    let mut delivery = next(&mut source).await;
    delivery.settle(&retry(1)).await.unwrap();
    delivery = next(&mut source).await;

    queue.delete(&delay).await;
    let error = delivery.settle(&retry(1)).await.unwrap_err();
    assert_eq!(error.kind(), SettleErrorKind::Unconfirmed);
    assert_eq!(queue.left(), 1);
    delivery.settle(&retry(1)).await.unwrap();
    delivery = next(&mut source).await;

    queue.delete(&delay).await;
    queue.declare(&delay, &[]).await;
    assert!(delivery.settle(&retry(1)).await.is_ok(), "on this channel it is known already");
    let stuck = queue.take(&delay).await;
    assert!(stuck.is_some());
}

/// RabbitMQ takes a message that has expired on its way to where it was a dead letter once for one that
/// goes round in circles, and does not deliver it. Somebody has put this one back into its queue.
#[tokio::test]
async fn a_message_that_was_a_dead_letter_once_comes_back_from_its_delay() {
    let queue = Queue::new().await;
    let mut death = FieldTable::default();
    death.insert("queue".into(), text(&queue.name));
    death.insert("reason".into(), text("delivery_limit"));
    death.insert("exchange".into(), text(""));
    death.insert("count".into(), AMQPValue::LongLongInt(1));
    let mut headers = FieldTable::default();
    let deaths = vec![AMQPValue::FieldTable(death)];
    headers.insert("x-death".into(), AMQPValue::FieldArray(deaths.into()));
    queue.publish_with("one", BasicProperties::default().with_headers(headers)).await;
    let mut source = queue.builder().delayed_retry().build().unwrap();
    for attempt in 1..=3 {
        let mut delivery = next(&mut source).await;
        assert_eq!(delivery.attempt(), Some(attempt));
        delivery.settle(&retry(1)).await.unwrap();
    }
}

#[tokio::test]
async fn bodies_of_any_size_are_copied() {
    let queue = Queue::new().await;
    let large = "x".repeat(3_000_000);
    let mut source = queue.builder().delayed_retry().build().unwrap();
    for body in ["", &large] {
        queue.publish([body]).await;
        next(&mut source).await.settle(&retry(1)).await.unwrap();
        let mut delivery = next(&mut source).await;
        assert!(delivery.payload().body() == body.as_bytes(), "a body of {}", body.len());
        delivery.settle(&dead("poison")).await.unwrap();
        let stored = queue.take(&queue.dead()).await.unwrap();
        assert!(stored.data == body.as_bytes(), "a body of {}", body.len());
    }
}

/// What becomes of two dead letters whose broker answers like this.
async fn settled_with(
    returned: &'static [u8],
    confirmed: &'static [u8],
) -> [Result<(), SettleError>; 2] {
    let queue = Queue::new().await;
    queue.publish(["1", "2"]).await;
    let publishers = unlucky::start(returned, confirmed);
    let begun = AtomicUsize::new(0);
    // Copies are published over the second connection.
    let connect = move || {
        let first = begun.fetch_add(1, Ordering::Relaxed) == 0;
        let uri = if first { BROKER.uri() } else { publishers.clone() };
        async move { Ok(connect(&uri, "test").await) }
    };
    let dead_letters = DeadLetters::to_queue(queue.dead());
    let mut source = Source::connecting_with(connect, &queue.name, dead_letters).build().unwrap();
    let (mut one, mut two) = (next(&mut source).await, next(&mut source).await);
    let poison = dead("poison");
    tokio::join!(one.settle(&poison), two.settle(&poison)).into()
}

/// lapin hands a returned message out with the next confirmation, and the broker confirms what it has
/// stored at a time of its own.
#[tokio::test]
async fn a_copy_that_came_back_is_not_taken_for_another() {
    let [stored, returned] = settled_with(&[2], &[1, 2]).await;
    stored.unwrap();
    let error = returned.unwrap_err();
    assert!(error.to_string().contains("no queue takes"), "{error}");
}

/// Both came back. The confirmation of the second brought the first, and none will bring the second.
#[tokio::test]
async fn a_copy_that_came_back_behind_another_is_not_taken_for_stored() {
    let [one, two] = settled_with(&[1, 2], &[2]).await;
    let error = one.unwrap_err();
    assert!(error.to_string().contains("no queue takes"), "{error}");
    two.unwrap_err();
}

/// Copies for a target that is missing: each must not cost a connection.
#[tokio::test]
async fn many_dead_letters_for_nowhere_do_not_cost_a_connection_each() {
    const ALL: usize = 30;
    let queue = Queue::new().await;
    let bodies: Vec<String> = (0..ALL).map(|body| body.to_string()).collect();
    queue.publish(bodies.iter().map(String::as_str)).await;
    let connections = Arc::new(AtomicUsize::new(0));
    let connect = {
        let connections = connections.clone();
        move || {
            connections.fetch_add(1, Ordering::Relaxed);
            async { Ok(connect(&BROKER.uri(), "test").await) }
        }
    };
    let dead_letters = DeadLetters::to_exchange("nowhere", "poison");
    let mut source = Source::connecting_with(connect, &queue.name, dead_letters).build().unwrap();
    let mut deliveries = Vec::new();
    while deliveries.len() < ALL {
        deliveries.push(next(&mut source).await);
    }
    let poison = dead("poison");
    let settled = deliveries.iter_mut().map(|delivery| delivery.settle(&poison));
    for settled in join_all(settled).await {
        let error = settled.unwrap_err();
        assert!(error.to_string().contains("NOT_FOUND"), "{error}");
    }
    let connections = connections.load(Ordering::Relaxed);
    assert!(connections <= 4, "{connections} connections");
}

/// All of them as long as they may be, and not all ASCII.
#[tokio::test]
async fn names_of_any_kind() {
    let queue = Queue::new().await;
    let long = |bytes: usize| format!("{}-{:x>2$}", queue.name, "ä", bytes - queue.name.len() - 2);
    let (name, letters, exchange, key) = (long(230), long(255), long(254), long(253));
    assert_eq!((name.len(), letters.len()), (230, 255));
    queue.declare(&name, &[]).await;
    queue.declare(&letters, &[]).await;
    let (kind, none) = (ExchangeKind::Direct, FieldTable::default);
    let (options, short) =
        (ExchangeDeclareOptions::default(), |text: &String| text.as_str().into());
    queue.channel.exchange_declare(short(&exchange), kind, options, none()).await.unwrap();
    let (from, by, options) = (short(&exchange), short(&key), QueueBindOptions::default());
    queue.channel.queue_bind(short(&name), from, by, options, none()).await.unwrap();
    for body in ["one", "two"] {
        let (to, by, options) = (short(&exchange), short(&key), BasicPublishOptions::default());
        let properties = BasicProperties::default();
        let published =
            queue.channel.basic_publish(to, by, options, body.as_bytes(), properties).await;
        published.unwrap().await.unwrap();
    }

    let dead_letters = DeadLetters::to_queue(&letters);
    let mut source =
        Source::builder(BROKER.uri(), &name, dead_letters).delayed_retry().build().unwrap();
    next(&mut source).await.settle(&retry(1)).await.unwrap();
    // Into that of the longest delay.
    next(&mut source).await.settle(&retry(u64::MAX)).await.unwrap();
    let mut delivery = next(&mut source).await;
    let message = delivery.payload();
    assert_eq!((message.exchange(), message.routing_key()), (&*exchange, &*key));
    delivery.settle(&dead("poison")).await.unwrap();
    let headers = queue.take(&letters).await.unwrap().properties.headers().clone().unwrap();
    assert_eq!(headers.inner().get("x-buttress-queue"), Some(&text(&name)));
    assert_eq!(headers.inner().get("x-buttress-routing-key"), Some(&text(&key)));
}
