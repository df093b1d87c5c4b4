//! What goes away and comes back.

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
    let ((), delivery) = tokio::join!(publishing, next_delivery(&mut source, 4));
    assert!(body(&delivery) == "after" || delivery.attempt() > Some(1), "{delivery:?}");
    let waited = back.elapsed();
    assert!(waited < 5000 * MS, "resumed after {waited:?}");
    ack(delivery).await;
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
