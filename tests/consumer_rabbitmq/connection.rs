//! Connections that come, go and do not come.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    time::Duration,
};

use buttress::consumer::{
    Delivery as _, Settle, SettleErrorKind, Source as _,
    rabbitmq::{DeadLetters, Error, Source},
};
use tokio::{io::AsyncReadExt as _, time::Instant};

use super::queue::{
    BROKER, PATIENCE, Queue, connect, count, dead, eventually, next, nothing, polled,
};

/// A source whose connections the broker lists under the name of its queue.
fn named(queue: &Queue) -> Source {
    let name = queue.name.clone();
    let connect = move || {
        let name = name.clone();
        async move { Ok(connect(&BROKER.uri(), &name).await) }
    };
    let dead_letters = DeadLetters::to_queue(queue.dead());
    Source::connecting_with(connect, &queue.name, dead_letters).build().unwrap()
}

/// Has the broker close the connections of that source.
fn cut(queue: &Queue) {
    let name = &queue.name;
    // Connections of other tests may end while they are looked at.
    BROKER
        .evaluate(&format!(
            "[catch case rabbit_networking:connection_info(Pid, [client_properties]) of \
             [{{client_properties, Properties}}] -> \
             lists:member({{<<\"connection_name\">>, longstr, <<\"{name}\">>}}, Properties) \
             andalso rabbit_networking:close_connection(Pid, \"test\") end || \
             Pid <- rabbit_networking:connections()]"
        ))
        .unwrap();
}

#[tokio::test]
async fn a_lost_connection_is_one_error_and_then_comes_back() {
    let queue = Queue::new().await;
    queue.publish(["1", "2"]).await;
    let mut source = named(&queue);
    let mut delivery = next(&mut source).await;
    cut(&queue);
    eventually("it is lost", async || delivery.is_lost()).await;
    for settle in [Settle::Ack, dead("poison"), Settle::Release] {
        assert_eq!(delivery.settle(&settle).await.unwrap_err().kind(), SettleErrorKind::Lost);
    }
    // The second one was pushed before, and cannot be settled either: it is not handed out.
    let error = polled(&mut source).await.unwrap_err();
    assert!(matches!(error, Error::Client(_)), "{error}");
    for body in [&b"1"[..], b"2"] {
        let mut delivery = next(&mut source).await;
        assert_eq!((&delivery.payload().body()[..], delivery.attempt()), (body, Some(2)));
        delivery.settle(&Settle::Ack).await.unwrap();
    }
    source.close().await.unwrap();
    assert_eq!((queue.left(), count(&queue.dead())), (0, 0));
}

#[tokio::test]
async fn copies_are_stored_after_a_lost_connection_too() {
    let queue = Queue::new().await;
    queue.publish(["1", "2"]).await;
    let mut source = named(&queue);
    next(&mut source).await.settle(&dead("poison")).await.unwrap();
    cut(&queue);
    eventually("it is noticed", async || polled(&mut source).await.is_err()).await;
    let mut delivery = next(&mut source).await;
    delivery.settle(&dead("poison")).await.unwrap();
    eventually("both are dead letters", async || count(&queue.dead()) == 2).await;
}

#[tokio::test]
async fn while_paused_it_does_not_connect() {
    let queue = Queue::new().await;
    queue.publish(["1"]).await;
    let mut source = named(&queue);
    source.pause();
    nothing(&mut source, 10).await;
    let polling = tokio::spawn(async move {
        let resume = tokio::time::sleep(Duration::from_millis(50));
        tokio::pin!(resume);
        let mut resumed = false;
        std::future::poll_fn(|cx| {
            if !resumed && resume.as_mut().poll(cx).is_ready() {
                resumed = true;
                source.resume();
            }
            source.poll_next(cx, 10)
        })
        .await
    });
    let next = tokio::time::timeout(PATIENCE, polling).await.unwrap().unwrap();
    assert!(matches!(next, Some(Ok(_))), "{next:?}");
}

#[tokio::test]
async fn a_deleted_queue_is_an_error_until_it_is_there_again() {
    let queue = Queue::new().await;
    queue.publish(["1"]).await;
    let mut source = queue.source();
    let mut delivery = next(&mut source).await;
    queue.delete(&queue.name).await;
    let error = polled(&mut source).await.unwrap_err();
    assert!(matches!(error, Error::Cancelled), "{error}");
    let error = polled(&mut source).await.unwrap_err();
    assert!(error.to_string().contains("NOT_FOUND"), "{error}");
    queue.declare(&queue.name, &[]).await;
    queue.publish(["2"]).await;
    assert_eq!(&next(&mut source).await.payload().body()[..], b"2");
    let error = delivery.settle(&Settle::Ack).await.unwrap_err();
    assert_eq!(error.kind(), SettleErrorKind::Lost);
}

#[tokio::test]
async fn a_broker_that_is_not_there_is_an_error_each_time() {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let uri = format!("amqp://127.0.0.1:{port}");
    let mut source = Source::builder(uri, "orders", DeadLetters::by_broker()).build().unwrap();
    for _ in 0..3 {
        let error = polled(&mut source).await.unwrap_err();
        assert!(error.to_string().contains("Connection refused"), "{error}");
    }
    source.close().await.unwrap();
    assert!(std::future::poll_fn(|cx| source.poll_next(cx, 1)).await.is_none());
}

/// A source whose broker is there, and which does not wait long.
fn impatient(broker: SocketAddr) -> Source {
    Source::builder(format!("amqp://{broker}"), "orders", DeadLetters::by_broker())
        .timeout(Duration::from_millis(200))
        .build()
        .unwrap()
}

#[tokio::test]
async fn a_broker_that_says_nothing_is_an_error_in_time() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut source = impatient(listener.local_addr().unwrap());
    for _ in 0..3 {
        let begin = Instant::now();
        let error = polled(&mut source).await.unwrap_err();
        assert!(matches!(error, Error::NoAnswer(_)), "{error}");
        assert!(begin.elapsed() >= Duration::from_millis(200));
    }
}

/// A connection that was given up is closed, and so ends the thread that lapin has for it.
#[tokio::test]
async fn a_connection_that_is_never_answered_is_given_up() {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let mut source = impatient(listener.local_addr().unwrap());
    for _ in 0..3 {
        let (error, accepted) = tokio::join!(polled(&mut source), listener.accept());
        assert!(matches!(error, Err(Error::NoAnswer(_))), "{error:?}");
        let (mut stream, mut read) = (accepted.unwrap().0, Vec::new());
        let end = stream.read_to_end(&mut read);
        tokio::time::timeout(PATIENCE, end).await.expect("the end").unwrap();
        assert_eq!(read, b"AMQP\x00\x00\x09\x01");
    }
}

/// lapin without TLS would speak plainly, and tell anybody who answers the password.
#[tokio::test]
async fn without_tls_an_address_that_asks_for_it_is_an_error() {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let uri = format!("amqps://127.0.0.1:{}", listener.local_addr().unwrap().port());
    let mut source = Source::builder(uri, "orders", DeadLetters::by_broker()).build().unwrap();
    let (error, accepted) = tokio::join!(polled(&mut source), listener.accept());
    let error = error.unwrap_err().to_string();
    assert!(error.contains("amqps needs one of lapin's features for TLS"), "{error}");
    let (mut stream, mut read) = (accepted.unwrap().0, Vec::new());
    stream.read_to_end(&mut read).await.unwrap();
    assert_eq!(read, b"");
}
