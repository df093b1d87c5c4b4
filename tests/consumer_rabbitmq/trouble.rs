//! A broker that is there and is not well. It is not the one that the other tests share, and one test
//! at a time has it.

use std::{
    io,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use buttress::{
    CircuitBreaker, ServiceErrors, Stack,
    consumer::{
        Consumer, Delivery as _, SettleErrorKind,
        rabbitmq::{DeadLetters, Error, Message, Source, SourceBuilder},
    },
};
use tokio::{
    sync::{Mutex, MutexGuard},
    time::{Instant, sleep},
};
use tower::service_fn;

use super::queue::{Queue, eventually, next, polled, retry};
use crate::{broker::Broker, consumer_support::signal::signal};

static BROKER: LazyLock<Broker> = LazyLock::new(|| Broker::start().unwrap());

/// The broker, for one test at a time.
async fn broker() -> (&'static Broker, MutexGuard<'static, ()>) {
    static TURN: Mutex<()> = Mutex::const_new(());
    let turn = TURN.lock().await;
    (&BROKER, turn)
}

/// A source that waits two seconds for an answer, and as long for a sign of life.
fn with_heartbeat(queue: &Queue) -> SourceBuilder {
    let uri = format!("{}?heartbeat=1", BROKER.uri());
    Source::builder(uri, &queue.name, DeadLetters::to_queue(queue.dead()))
        .timeout(Duration::from_secs(2))
}

/// Short of memory it lets nobody publish. It says so to those that try, and stops to read from them.
#[tokio::test]
async fn a_broker_short_of_memory_stores_each_copy_once() {
    let (broker, _turn) = broker().await;
    let queue = Queue::on(broker).await;
    queue.publish(["1", "2", "3"]).await;
    // No heartbeat is sent on a connection that is blocked either.
    let mut source = with_heartbeat(&queue).delayed_retry().build().unwrap();
    next(&mut source).await.settle(&retry(60_000)).await.unwrap();
    let (mut one, mut two) = (next(&mut source).await, next(&mut source).await);

    broker.evaluate("vm_memory_monitor:set_vm_memory_high_watermark(0)").unwrap();
    let later = retry(60_000);
    for _ in 0..3 {
        let settled = tokio::join!(one.settle(&later), two.settle(&later));
        for settled in [settled.0, settled.1] {
            let error = settled.unwrap_err();
            assert_eq!(error.kind(), SettleErrorKind::Unconfirmed, "{error}");
        }
    }
    broker.evaluate("vm_memory_monitor:set_vm_memory_high_watermark(0.4)").unwrap();
    for delivery in [&mut one, &mut two] {
        eventually("it is stored", async || delivery.settle(&later).await.is_ok()).await;
    }
    eventually("the originals are gone", async || queue.left() == 0).await;
    // What had been kept back would come now.
    sleep(Duration::from_secs(1)).await;
    assert_eq!(queue.count(&format!("{}.retry.102400ms", queue.name)), 3);
}

/// There is no heartbeat for what is held: RabbitMQ closes the channel, and counts a delivery of all that
/// was on it. So often, and not more often, and nothing is lost.
#[tokio::test]
async fn an_outage_longer_than_the_broker_waits_costs_a_delivery_each_time() {
    const MESSAGES: usize = 20;
    let (broker, _turn) = broker().await;
    // Both are for channels that are opened from now on. It looks once in each interval.
    let patience = |timeout: u32, interval: u32| {
        let set = "application:set_env(rabbit";
        broker.evaluate(&format!("{set}, consumer_timeout, {timeout})")).unwrap();
        broker.evaluate(&format!("{set}, channel_tick_interval, {interval})")).unwrap();
    };
    patience(1_000, 500);
    let queue = Queue::on(broker).await;
    let bodies: Vec<String> = (0..MESSAGES).map(|body| body.to_string()).collect();
    queue.publish_all(&bodies).await;

    let breaker = CircuitBreaker::builder("trouble")
        .min_calls(2)
        .open_for(Duration::from_millis(200))
        .build()
        .unwrap();
    let (is_up, most) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let handler = {
        let (is_up, most) = (is_up.clone(), most.clone());
        service_fn(move |message: Message| {
            most.fetch_max(message.attempt().unwrap(), Ordering::Relaxed);
            let is_up = is_up.load(Ordering::Relaxed);
            std::future::ready(if is_up { Ok(()) } else { Err(io::Error::other("down")) })
        })
    };
    let handler = Stack::new().breaker(breaker).layer(ServiceErrors).service(handler);
    let consumer = Consumer::builder("trouble").gate(breaker).max_deliveries(100).build().unwrap();
    let begun = Instant::now();
    let running = consumer.start(queue.source(), handler);
    sleep(Duration::from_secs(5)).await;
    is_up.store(true, Ordering::Relaxed);
    let outage = begun.elapsed();
    eventually("all are handled", async || queue.left() == 0).await;
    let summary = running.shutdown(Duration::from_secs(5)).await;
    patience(1_800_000, 60_000);
    assert!(summary.acked >= MESSAGES as u64, "{summary:?}");
    assert_eq!(summary.dead_lettered, 0, "{summary:?}");
    let most = most.load(Ordering::Relaxed);
    assert!(most > 1, "the broker did not end the pause");
    // The first, one for each second, and one for those that were handled after it.
    assert!(u64::from(most) <= 2 + outage.as_secs(), "{most} deliveries in {outage:?}");
}

#[tokio::test]
async fn a_broker_that_hangs_is_noticed_by_the_heartbeat() {
    let (broker, _turn) = broker().await;
    let queue = Queue::on(broker).await;
    queue.publish(["1"]).await;
    let mut source = with_heartbeat(&queue).build().unwrap();
    let delivery = next(&mut source).await;
    let stopped = Stopped::stop(broker);
    let begun = Instant::now();
    let error = polled(&mut source).await.unwrap_err();
    assert!(matches!(error, Error::Client(_)), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(delivery.is_lost());
    for _ in 0..3 {
        let error = polled(&mut source).await.unwrap_err();
        assert!(matches!(error, Error::NoAnswer(_)), "{error}");
    }
    drop(stopped);
    let mut attempt = None;
    eventually("it goes on", async || {
        let delivery = polled(&mut source).await.ok();
        attempt = delivery.and_then(|delivery| delivery.attempt());
        attempt.is_some()
    })
    .await;
    assert_eq!(attempt, Some(2));
}

/// The broker's process, stopped for as long as this lives.
struct Stopped(String);

impl Stopped {
    fn stop(broker: &Broker) -> Self {
        let pid = broker.evaluate("list_to_integer(os:getpid())").unwrap();
        signal(&pid, "STOP");
        Stopped(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        signal(&self.0, "CONT");
    }
}
