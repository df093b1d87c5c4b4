//! What is asked for, and when.

use std::time::Duration;

use buttress::consumer::{Delivery as _, Source as _};
use tokio::time::{Instant, sleep};

use crate::broker::{MS, Nats, ack, body, eventually, next, nothing};

#[tokio::test]
async fn no_more_is_asked_for_than_there_is_room_for() {
    let nats = Nats::start().await;
    nats.publish(["x"; 40]).await;
    let mut source = nats.source(20).await;
    let mut in_hand = Vec::new();
    for taken in 0..10 {
        // The consumer has room for ten, not for twenty.
        in_hand.push(next(&mut source, 10 - taken).await.unwrap());
    }
    nothing(&mut source, 0, 100 * MS).await;
    let info = nats.info().await;
    assert_eq!((info.num_ack_pending, info.num_pending), (10, 30));

    // Room for the rest of the prefetch.
    for taken in 0..10 {
        in_hand.push(next(&mut source, 10 - taken).await.unwrap());
    }
    nothing(&mut source, 0, 100 * MS).await;
    let info = nats.info().await;
    assert_eq!((info.num_ack_pending, info.num_pending), (20, 20));
}

#[tokio::test]
async fn a_paused_source_asks_for_nothing() {
    let nats = Nats::start().await;
    nats.publish(["x"]).await;
    let mut source = nats.source(20).await;
    source.pause();
    nothing(&mut source, 20, 200 * MS).await;
    let info = nats.info().await;
    assert_eq!((info.num_waiting, info.num_ack_pending), (0, 0));
    source.resume();
    ack(next(&mut source, 20).await.unwrap()).await;
}

/// A request cannot be taken back. Nobody would extend what lay in a buffer meanwhile.
#[tokio::test]
async fn what_arrives_after_the_pause_is_handed_over_and_no_more_asked_for() {
    let nats = Nats::start().await;
    let mut source = nats.source(4).await;
    nothing(&mut source, 4, 100 * MS).await;
    assert_eq!(nats.info().await.num_waiting, 1);
    source.pause();
    nats.publish(["a", "b", "c", "d", "e"]).await;
    for expected in ["a", "b", "c", "d"] {
        let delivery = next(&mut source, 0).await.unwrap();
        assert_eq!(body(&delivery), expected);
        ack(delivery).await;
    }
    // Nor with room, as long as it is paused.
    nothing(&mut source, 4, 200 * MS).await;
    let info = nats.info().await;
    assert_eq!((info.num_waiting, info.num_pending), (0, 1));
    source.resume();
    ack(next(&mut source, 4).await.unwrap()).await;
}

#[tokio::test]
async fn messages_that_come_one_by_one_share_a_request() {
    let nats = Nats::start().await;
    let mut source = nats.source(64).await;
    nothing(&mut source, 64, 50 * MS).await;
    for _ in 0..12 {
        nats.publish(["x"]).await;
        let asked = Instant::now();
        ack(next(&mut source, 64).await.unwrap()).await;
        assert!(asked.elapsed() < 500 * MS, "{:?}", asked.elapsed());
        nothing(&mut source, 64, 10 * MS).await;
    }
    let waiting = nats.info().await.num_waiting;
    assert!(waiting <= 2, "{waiting} requests for twelve messages");
}

#[tokio::test]
async fn room_for_one_is_asked_for_when_nothing_else_is_to_come() {
    let nats = Nats::start().await;
    nats.publish(["x"; 70]).await;
    let mut source = nats.source(64).await;
    let mut in_hand = Vec::new();
    for taken in 0..64 {
        in_hand.push(next(&mut source, 64 - taken).await.unwrap());
    }
    // All slots are taken by slow ones; one is done.
    ack(in_hand.pop().unwrap()).await;
    let asked = Instant::now();
    in_hand.push(next(&mut source, 1).await.unwrap());
    assert!(asked.elapsed() < 500 * MS, "{:?}", asked.elapsed());
    drop(in_hand);
}

/// Whoever publishes may write there what he likes, and a stream keeps it.
#[tokio::test]
async fn what_a_publisher_writes_into_the_status_line_is_not_the_servers_word() {
    let nats = Nats::with_ack_wait(Duration::from_secs(30)).await;
    let lines = ["NATS/1.0 408 Request Timeout", "NATS/1.0 100 Idle Heartbeat", "NATS/1.0 503"];
    for line in lines {
        nats.publish_raw(&format!("{line}\r\nCustomer: 7\r\n\r\n")).await;
    }
    let mut source = nats.source(4).await;
    for taken in 0..lines.len() {
        let delivery = next(&mut source, 4 - taken).await.unwrap();
        assert_eq!(body(&delivery), "");
        assert_eq!(delivery.payload().header("Customer"), Some("7"));
        ack(delivery).await;
    }
    assert_eq!(nats.left().await, 0);
}

/// Longer than a request waits: the next one follows by itself.
#[tokio::test]
async fn a_request_that_has_expired_is_made_again() {
    let nats = Nats::with_ack_wait(Duration::from_secs(30)).await;
    let config = async_nats::jetstream::consumer::pull::Config {
        durable_name: Some("hasty".to_owned()),
        max_expires: 500 * MS,
        max_batch: 3,
        ..crate::broker::usual()
    };
    nats.make_consumer(config).await;
    let dead = buttress::consumer::nats::DeadLetters::to(crate::broker::DEAD);
    let context = nats.context.clone();
    let source = buttress::consumer::nats::Source::builder(context, "ORDERS", "hasty", dead);
    let mut source = source.prefetch(10).open().await.unwrap();
    for _ in 0..3 {
        nothing(&mut source, 10, 700 * MS).await;
        nats.publish(["x"; 10]).await;
        for taken in 0..10 {
            ack(next(&mut source, 10 - taken).await.unwrap()).await;
        }
    }
    sleep(10 * MS).await;
    eventually("all requests have been ended", async || {
        let context = &nats.context;
        let consumer: async_nats::jetstream::consumer::PullConsumer =
            context.get_consumer_from_stream("hasty", "ORDERS").await.unwrap();
        let info = consumer.cached_info();
        info.num_waiting == 0 && info.num_ack_pending == 0 && info.num_pending == 0
    })
    .await;
}
