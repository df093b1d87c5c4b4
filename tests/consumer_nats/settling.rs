//! What becomes of a delivery.

use std::time::Duration;

use async_nats::{HeaderMap, jetstream::stream};
use buttress::consumer::{
    Delivery as _, Settle, SettleErrorKind, Source as _,
    nats::{Acks, DeadLetters, Source},
};
use tokio::time::{Instant, sleep};

use crate::broker::{
    CONSUMER, MS, Nats, STREAM, ack, body, eventually, next, next_delivery, nothing, stream_of,
    usual,
};

fn dead(reason: &str) -> Settle {
    Settle::DeadLetter { reason: reason.to_owned().into() }
}

#[tokio::test]
async fn a_delivery_says_what_was_published() {
    let nats = Nats::start().await;
    let mut headers = HeaderMap::new();
    headers.insert("Customer", "7");
    nats.publish(["first"]).await;
    let published = nats.context.publish_with_headers("orders.b", headers, "second".into()).await;
    published.unwrap().await.unwrap();

    let mut source = nats.source(4).await;
    let first = next(&mut source, 4).await.unwrap();
    let second = next(&mut source, 3).await.unwrap();
    let message = second.payload();
    assert_eq!((message.subject(), &message.payload()[..]), ("orders.b", &b"second"[..]));
    assert_eq!((message.header("Customer"), message.header("Other")), (Some("7"), None));
    assert_eq!((message.sequence(), message.attempt()), (2, 1));
    assert_eq!((second.attempt(), second.ordering_key()), (Some(1), Some(&b"orders.b"[..])));
    assert!(message.published() > first.payload().published());
    assert!(message.published() > Duration::from_secs(1_700_000_000));
}

#[tokio::test]
async fn an_acknowledged_message_is_done() {
    for acks in [Acks::Confirmed, Acks::Sent] {
        let nats = Nats::with_ack_wait(300 * MS).await;
        nats.publish(["one"]).await;
        let mut source = nats.builder().acks(acks).open().await.unwrap();
        ack(next(&mut source, 1).await.unwrap()).await;
        if acks == Acks::Confirmed {
            assert_eq!(nats.left().await, 0, "confirmed before it was heard");
        }
        nothing(&mut source, 1, 700 * MS).await;
        assert_eq!(nats.left().await, 0);
    }
}

#[tokio::test]
async fn a_retry_comes_when_it_is_due_and_counts() {
    let nats = Nats::start().await;
    nats.publish(["one"]).await;
    let mut source = nats.source(4).await;
    let mut first = next(&mut source, 4).await.unwrap();
    first.settle(&Settle::Retry { after: 600 * MS }).await.unwrap();
    let asked = Instant::now();
    let second = next(&mut source, 4).await.unwrap();
    let waited = asked.elapsed();
    assert!(waited >= 550 * MS && waited < 1500 * MS, "came after {waited:?}");
    assert_eq!(second.attempt(), Some(2));
    ack(second).await;
    assert_eq!(nats.left().await, 0);
}

/// A heartbeat that was on its way is late, and would put off the retry.
#[tokio::test]
async fn a_retry_is_not_put_off_by_a_late_heartbeat() {
    let nats = Nats::with_ack_wait(Duration::from_secs(5)).await;
    nats.publish(["one"]).await;
    let mut source = nats.source(4).await;
    let mut first = next(&mut source, 4).await.unwrap();
    let heartbeat = first.extend();
    first.settle(&Settle::Retry { after: 300 * MS }).await.unwrap();
    heartbeat.await.unwrap();
    let asked = Instant::now();
    let second = next(&mut source, 4).await.unwrap();
    assert!(asked.elapsed() < 2000 * MS, "came after {:?}", asked.elapsed());
    ack(second).await;
}

#[tokio::test]
async fn what_is_released_comes_at_once_and_counts() {
    let nats = Nats::start().await;
    nats.publish(["one"]).await;
    let mut source = nats.source(4).await;
    let mut first = next(&mut source, 4).await.unwrap();
    first.settle(&Settle::Release).await.unwrap();
    let asked = Instant::now();
    let second = next(&mut source, 4).await.unwrap();
    assert!(asked.elapsed() < 1000 * MS, "came after {:?}", asked.elapsed());
    assert_eq!(second.attempt(), Some(2));
}

#[tokio::test]
async fn a_dead_letter_keeps_the_message_and_says_why() {
    let nats = Nats::start().await;
    let mut headers = HeaderMap::new();
    headers.insert("Customer", "7");
    headers.insert("Nats-Msg-Id", "only-once");
    let published = nats.context.publish_with_headers("orders.b", headers, "poison".into()).await;
    published.unwrap().await.unwrap();

    let mut source = nats.source(4).await;
    let mut delivery = next(&mut source, 4).await.unwrap();
    delivery.settle(&dead("no customer\n7")).await.unwrap();
    assert_eq!(nats.left().await, 0);
    let letters = nats.dead_letters().await;
    assert_eq!(letters.len(), 1);
    let (payload, headers) = &letters[0];
    assert_eq!(&payload[..], b"poison");
    for (name, value) in [
        ("Customer", "7"),
        ("Buttress-Reason", "no customer 7"),
        ("Buttress-Subject", "orders.b"),
        ("Buttress-Stream", STREAM),
        ("Buttress-Consumer", CONSUMER),
        ("Buttress-Sequence", "1"),
        ("Buttress-Deliveries", "1"),
    ] {
        assert_eq!(headers.get(name).map(async_nats::HeaderValue::as_str), Some(value), "{name}");
    }
}

#[tokio::test]
async fn a_dead_letter_is_stored_before_the_original_is_acknowledged() {
    let nats = Nats::with_ack_wait(Duration::from_secs(30)).await;
    nats.publish(["poison"]).await;
    let mut source = nats.source(4).await;
    let mut delivery = next(&mut source, 4).await.unwrap();

    // Nothing stores it now.
    nats.context.delete_stream("DEAD").await.unwrap();
    let error = delivery.settle(&dead("poison")).await.unwrap_err();
    assert_eq!(error.kind(), SettleErrorKind::Unconfirmed, "{error}");
    assert_eq!(nats.left().await, 1, "acknowledged, and kept nowhere");

    nats.make_stream("DEAD", "dead.>").await;
    delivery.settle(&dead("poison")).await.unwrap();
    assert_eq!(nats.left().await, 0);
    // Said again, as after an acknowledgement that was not confirmed: it is there once.
    delivery.settle(&dead("poison")).await.unwrap();
    assert_eq!(nats.dead_letters().await.len(), 1);
}

#[tokio::test]
async fn the_same_dead_letter_of_two_deliveries_is_stored_once() {
    let nats = Nats::with_ack_wait(300 * MS).await;
    nats.publish(["poison"]).await;
    let (mut source, mut another) = (nats.source(4).await, nats.source(4).await);
    let mut first = next(&mut source, 1).await.unwrap();
    // Its time is up, and it is delivered again, to somebody else, before it is settled.
    let mut second = next(&mut another, 4).await.unwrap();
    assert_eq!(second.attempt(), Some(2));
    first.settle(&dead("poison")).await.unwrap();
    second.settle(&dead("poison")).await.unwrap();
    assert_eq!(nats.dead_letters().await.len(), 1);
    assert_eq!(nats.left().await, 0);
}

/// Nobody but the settlement extends it meanwhile.
#[tokio::test]
async fn a_dead_letter_that_takes_long_to_store_stays_ours() {
    let nats = Nats::with_ack_wait(1000 * MS).await;
    nats.publish(["poison"]).await;
    // It stores what it is given, and never says so.
    nats.context.delete_stream("DEAD").await.unwrap();
    let silent = stream::Config { no_ack: true, ..stream_of("DEAD", "dead.>") };
    nats.context.create_stream(silent).await.unwrap();
    let mut source = nats.builder().confirm_within(3000 * MS).open().await.unwrap();
    let mut another = nats.source(4).await;
    let mut delivery = next(&mut source, 4).await.unwrap();
    let letter = dead("poison");
    let waiting = nothing(&mut another, 4, 2900 * MS);
    let (settled, ()) = tokio::join!(delivery.settle(&letter), waiting);
    assert_eq!(settled.unwrap_err().kind(), SettleErrorKind::Unconfirmed);
    assert_eq!(nats.dead_letters().await.len(), 1);
}

/// It begins with number 1 again.
#[tokio::test]
async fn dead_letters_of_a_stream_that_was_made_anew_are_others() {
    let nats = Nats::start().await;
    for body in ["one", "two"] {
        nats.publish([body]).await;
        let mut source = nats.source(4).await;
        let mut delivery = next(&mut source, 4).await.unwrap();
        assert_eq!(delivery.payload().sequence(), 1);
        delivery.settle(&dead("poison")).await.unwrap();
        nats.context.delete_stream(STREAM).await.unwrap();
        nats.make_stream(STREAM, "orders.>").await;
        nats.make_consumer(usual()).await;
    }
    let letters = nats.dead_letters().await;
    let bodies: Vec<&[u8]> = letters.iter().map(|(body, _)| &body[..]).collect();
    assert_eq!(bodies, [b"one", b"two"]);
}

/// What is held while a stream goes and comes again, as one in memory does with its server.
#[tokio::test]
async fn a_delivery_of_a_stream_that_was_made_anew_settles_nothing_of_the_new_one() {
    let nats = Nats::with_ack_wait(Duration::from_secs(30)).await;
    nats.publish(["a", "b"]).await;
    let mut source = nats.source(4).await;
    let mut old = [next(&mut source, 4).await.unwrap(), next(&mut source, 3).await.unwrap()];
    nats.context.delete_stream(STREAM).await.unwrap();
    nats.make_stream(STREAM, "orders.>").await;
    nats.make_consumer(usual()).await;
    nats.publish(["c", "d"]).await;
    let new = next_delivery(&mut source, 2).await;
    assert_eq!((body(&new), new.payload().sequence()), ("c".to_owned(), 1));
    let also_new = next_delivery(&mut source, 1).await;

    let error = old[0].settle(&Settle::Ack).await.unwrap_err();
    assert_eq!(error.kind(), SettleErrorKind::Lost, "{error}");
    assert_eq!(nats.left().await, 2, "one of the new ones was acknowledged");
    // A copy of it is kept all the same: there is nobody else who has it.
    let error = old[1].settle(&dead("poison")).await.unwrap_err();
    assert_eq!(error.kind(), SettleErrorKind::Lost, "{error}");
    assert_eq!(nats.dead_letters().await[0].0, "b");
    drop(old);
    ack(new).await;
    ack(also_new).await;
    assert_eq!(nats.left().await, 0);
}

#[tokio::test]
async fn a_terminated_message_does_not_come_again() {
    let nats = Nats::with_ack_wait(300 * MS).await;
    nats.publish(["poison"]).await;
    let terminate = DeadLetters::Terminate;
    let source = Source::builder(nats.context.clone(), STREAM, CONSUMER, terminate);
    let mut source = source.open().await.unwrap();
    let mut delivery = next(&mut source, 4).await.unwrap();
    delivery.settle(&dead("poison")).await.unwrap();
    assert_eq!(nats.left().await, 0);
    nothing(&mut source, 4, 700 * MS).await;
    assert_eq!(nats.dead_letters().await, []);
}

#[tokio::test]
async fn a_delivery_that_is_extended_stays_ours() {
    let nats = Nats::with_ack_wait(600 * MS).await;
    nats.publish(["slow"]).await;
    let (mut source, mut another) = (nats.source(4).await, nats.source(4).await);
    let every = source.extend_every().unwrap();
    assert_eq!(every, 200 * MS);
    let slow = next(&mut source, 1).await.unwrap();
    for _ in 0..10 {
        nothing(&mut another, 4, every).await;
        slow.extend().await.unwrap();
    }
    // The proof that it was this that kept it.
    let again = next(&mut another, 4).await.unwrap();
    assert_eq!((again.attempt(), body(&again)), (Some(2), "slow".to_owned()));
    // Late, and taken all the same.
    ack(slow).await;
    assert_eq!(nats.left().await, 0);
}

/// It is being handled: nobody shall do so a second time beside that.
#[tokio::test]
async fn what_comes_again_while_it_is_in_hand_is_not_handed_over() {
    let nats = Nats::with_ack_wait(300 * MS).await;
    nats.publish(["a", "b"]).await;
    let mut source = nats.source(4).await;
    let first = next(&mut source, 4).await.unwrap();
    let second = next(&mut source, 3).await.unwrap();
    // Nobody extends them.
    nothing(&mut source, 2, 1000 * MS).await;
    ack(first).await;
    assert_eq!(nats.left().await, 1);
    // Given up, as what could not be settled is.
    drop(second);
    let again = next(&mut source, 4).await.unwrap();
    assert_eq!(body(&again), "b");
    assert!(again.attempt() > Some(2), "{again:?}");
    ack(again).await;
    assert_eq!(nats.left().await, 0);
}

#[tokio::test]
async fn a_settlement_into_a_dead_connection_is_unconfirmed() {
    for acks in [Acks::Confirmed, Acks::Sent] {
        let nats = Nats::with_ack_wait(Duration::from_secs(30)).await;
        nats.publish(["one"]).await;
        let mut source = nats.builder().acks(acks).open().await.unwrap();
        let mut delivery = next(&mut source, 1).await.unwrap();
        // Until the server has written down that it delivered: of what it has forgotten it confirms an
        // acknowledgement, and ignores it.
        sleep(500 * MS).await;
        nats.kill();
        eventually("the client notices", async || {
            let state = nats.context.client().connection_state();
            state != async_nats::connection::State::Connected
        })
        .await;
        let error = delivery.settle(&Settle::Ack).await.unwrap_err();
        assert_eq!(error.kind(), SettleErrorKind::Unconfirmed, "{error}");
        let error = delivery.extend().await.unwrap_err();
        assert_eq!(error.kind(), SettleErrorKind::Unconfirmed, "{error}");

        nats.restart();
        // Said again, as the driver does.
        for _ in 0..100 {
            if delivery.settle(&Settle::Ack).await.is_ok() {
                break;
            }
            sleep(50 * MS).await;
        }
        eventually("it is acknowledged", async || nats.left().await == 0).await;
    }
}

#[tokio::test]
async fn the_end_gives_back_what_still_arrived() {
    let nats = Nats::with_ack_wait(Duration::from_secs(30)).await;
    let mut source = nats.source(4).await;
    nothing(&mut source, 4, 200 * MS).await;
    source.pause();
    nats.publish(["a", "b", "c"]).await;
    sleep(200 * MS).await;
    source.close().await.unwrap();
    drop(source);
    let mut another = nats.source(4).await;
    let asked = Instant::now();
    for room in (2..=4).rev() {
        let delivery = next_delivery(&mut another, room).await;
        // Not always 2: the server takes back what it tried to deliver to nobody.
        assert!(delivery.attempt() <= Some(2), "{delivery:?}");
        ack(delivery).await;
    }
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
}
