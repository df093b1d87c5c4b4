//! What goes away and comes back.

use std::time::Duration;

use async_nats::jetstream::consumer::pull;
use buttress::consumer::{Delivery as _, nats::Error};
use tokio::time::{Instant, sleep};

use crate::broker::{MS, Nats, ack, body, next, next_delivery, nothing, usual};

#[tokio::test]
async fn goes_on_after_the_server_was_killed() {
    let nats = Nats::start().await;
    let mut source = nats.source(4).await;
    nats.publish(["before"]).await;
    ack(next(&mut source, 4).await.unwrap()).await;
    // A request is with the server, and gone with it.
    nothing(&mut source, 4, 100 * MS).await;
    nats.kill();
    nothing(&mut source, 4, 300 * MS).await;
    nats.restart();
    let back = Instant::now();
    let publishing = async {
        while nats.context.publish("orders.a", "after".into()).await.unwrap().await.is_err() {
            sleep(50 * MS).await;
        }
    };
    let delivered = async {
        loop {
            let delivery = next_delivery(&mut source, 4).await;
            // It may have forgotten that the first one was acknowledged.
            let through = body(&delivery) == "after";
            ack(delivery).await;
            if through {
                break;
            }
        }
    };
    let ((), ()) = tokio::join!(publishing, delivered);
    let waited = back.elapsed();
    assert!(waited < 3500 * MS, "resumed after {waited:?}");
}

/// The server is the same and may remember what was asked of it on the old connection.
#[tokio::test]
async fn goes_on_after_the_connection_was_lost_and_takes_no_more_than_it_may() {
    let nats = Nats::with_ack_wait(Duration::from_secs(30)).await;
    let mut source = nats.source(4).await;
    for _ in 0..3 {
        nothing(&mut source, 4, 100 * MS).await;
        nats.reconnect().await;
        // While nobody looks.
        nats.publish(["x"; 10]).await;
        let begin = Instant::now();
        let mut in_hand = Vec::new();
        for taken in 0..4 {
            let delivery = next_delivery(&mut source, 4 - taken).await;
            assert_eq!(delivery.attempt(), Some(1), "one was lost on the way");
            in_hand.push(delivery);
        }
        assert!(begin.elapsed() < 2500 * MS, "resumed after {:?}", begin.elapsed());
        nothing(&mut source, 0, 100 * MS).await;
        assert_eq!(nats.info().await.num_ack_pending, 4);
        for delivery in in_hand {
            ack(delivery).await;
        }
        for taken in 0..6 {
            let delivery = next_delivery(&mut source, (4 - taken % 4).max(1)).await;
            ack(delivery).await;
        }
        assert_eq!(nats.left().await, 0);
    }
}

/// The client's own pings are minutes apart. When the server goes on it has forgotten nothing.
#[tokio::test]
async fn a_server_that_stands_still_is_noticed_and_its_requests_stand() {
    let nats = Nats::with_ack_wait(Duration::from_secs(30)).await;
    let mut source = nats.source(4).await;
    nothing(&mut source, 4, 100 * MS).await;
    nats.signal("STOP");
    let stopped = Instant::now();
    let told = next(&mut source, 4).await.unwrap_err();
    assert!(matches!(told, Error::Unavailable { .. }), "{told}");
    assert!(stopped.elapsed() < 8000 * MS, "noticed after {:?}", stopped.elapsed());
    nats.signal("CONT");
    nats.publish(["x"; 5]).await;
    for taken in 0..4 {
        let delivery = next_delivery(&mut source, 4 - taken).await;
        assert_eq!(delivery.attempt(), Some(1), "one was lost on the way");
        ack(delivery).await;
    }
    ack(next_delivery(&mut source, 1).await).await;
    assert_eq!(nats.left().await, 0);
}

/// It takes what is in hand for lost, and delivers all of it again before it hears a word.
#[tokio::test]
async fn after_a_server_stood_still_past_ack_wait_nothing_is_twice_in_hand() {
    let nats = Nats::with_ack_wait(1000 * MS).await;
    nats.publish(["a", "b", "c"]).await;
    let mut source = nats.source(4).await;
    let mut in_hand = Vec::new();
    for taken in 0..3 {
        in_hand.push(next(&mut source, 4 - taken).await.unwrap());
    }
    nats.signal("STOP");
    sleep(1500 * MS).await;
    nats.signal("CONT");
    nothing(&mut source, 1, 500 * MS).await;
    for delivery in in_hand {
        ack(delivery).await;
    }
    assert_eq!(nats.left().await, 0);
    nats.publish(["d"]).await;
    let delivery = next_delivery(&mut source, 4).await;
    assert_eq!((body(&delivery), delivery.attempt()), ("d".to_owned(), Some(1)));
}

#[tokio::test]
async fn a_consumer_that_vanished_is_an_error_until_it_is_back() {
    let nats = Nats::start().await;
    let mut source = nats.source(4).await;
    nothing(&mut source, 4, 100 * MS).await;
    nats.delete_consumer().await;
    let told = next(&mut source, 4).await.unwrap_err();
    assert!(matches!(told, Error::Refused { .. }), "{told}");
    for _ in 0..3 {
        let told = next(&mut source, 4).await.unwrap_err();
        assert!(matches!(told, Error::Unavailable { .. }), "{told}");
        assert!(told.to_string().contains("consumer not found"), "{told}");
    }
    nats.make_consumer(usual()).await;
    nats.publish(["x"]).await;
    ack(next(&mut source, 4).await.unwrap()).await;
}

/// This server says nothing at all to a request for a consumer that it does not have. So it is with
/// any request that got lost: what is missing is the heartbeat.
#[tokio::test]
async fn a_request_that_is_lost_is_noticed() {
    let nats = Nats::start().await;
    let mut source = nats.source(4).await;
    nats.delete_consumer().await;
    let asked = Instant::now();
    let told = next(&mut source, 4).await.unwrap_err();
    assert!(matches!(told, Error::Unavailable { .. }), "{told}");
    assert!(asked.elapsed() < 7000 * MS, "{:?}", asked.elapsed());
    nats.make_consumer(usual()).await;
    nats.publish(["x"]).await;
    ack(next(&mut source, 4).await.unwrap()).await;
}

/// Where requests expire sooner than silence is noticed, it is that nobody says that they did.
#[tokio::test]
async fn a_short_request_that_is_lost_is_noticed() {
    let nats = Nats::start().await;
    nats.delete_consumer().await;
    let short = pull::Config { max_expires: 500 * MS, ..usual() };
    nats.make_consumer(short.clone()).await;
    let mut source = nats.source(4).await;
    nothing(&mut source, 4, 1200 * MS).await;
    nats.delete_consumer().await;
    for _ in 0..100 {
        // The request that was with it is ended, with an error; those after it are not.
        let told = next(&mut source, 4).await.unwrap_err();
        if matches!(told, Error::Unavailable { .. }) {
            break;
        }
        assert!(matches!(told, Error::Refused { .. }), "{told}");
    }
    nats.make_consumer(short).await;
    nats.publish(["x"]).await;
    ack(next(&mut source, 4).await.unwrap()).await;
}

#[tokio::test]
async fn a_client_that_was_closed_is_an_error_and_no_end() {
    let nats = Nats::start().await;
    let mut source = nats.source(4).await;
    nothing(&mut source, 4, 100 * MS).await;
    nats.context.client().drain().await.unwrap();
    for _ in 0..3 {
        let told = next(&mut source, 4).await.unwrap_err();
        assert!(matches!(told, Error::Unavailable { .. } | Error::Client(_)), "{told}");
    }
}
