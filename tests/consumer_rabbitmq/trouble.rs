//! A broker that is there and is not well. It is not the one that the other tests share, and one test
//! at a time has it.

use std::{
    process::Command,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use buttress::{
    Backoff, CircuitBreaker, ServiceErrors, Stack,
    consumer::{
        Consumer, Delivery as _, SettleErrorKind,
        rabbitmq::{DeadLetters, Error, Message, Source},
    },
};
use tokio::{
    sync::{Mutex, MutexGuard},
    time::{Instant, sleep},
};
use tower::service_fn;

use super::queue::{PATIENCE, Queue, eventually, next, polled, retry};
use crate::broker::Broker;

static BROKER: LazyLock<Broker> = LazyLock::new(|| Broker::start().unwrap());

/// The broker, for one test at a time.
async fn broker() -> (&'static Broker, MutexGuard<'static, ()>) {
    static TURN: Mutex<()> = Mutex::const_new(());
    let turn = TURN.lock().await;
    (&BROKER, turn)
}

/// Short of memory it lets nobody publish. It says so to those that try, and stops to read from them.
#[tokio::test]
async fn a_broker_short_of_memory_stores_each_copy_once() {
    let (broker, _turn) = broker().await;
    let queue = Queue::on(broker).await;
    queue.publish(["1", "2", "3"]).await;
    let mut source =
        queue.builder().delayed_retry().timeout(Duration::from_millis(500)).build().unwrap();
    let mut first = next(&mut source).await;
    first.settle(&retry(60_000)).await.unwrap();
    let mut rest = [next(&mut source).await, next(&mut source).await];

    broker.evaluate("vm_memory_monitor:set_vm_memory_high_watermark(0)").unwrap();
    for _ in 0..4 {
        for delivery in &mut rest {
            let error = delivery.settle(&retry(60_000)).await.unwrap_err();
            assert_eq!(error.kind(), SettleErrorKind::Unconfirmed, "{error}");
        }
    }
    broker.evaluate("vm_memory_monitor:set_vm_memory_high_watermark(0.4)").unwrap();
    for delivery in &mut rest {
        eventually("it is stored", async || delivery.settle(&retry(60_000)).await.is_ok()).await;
    }
    eventually("the originals are gone", async || queue.left() == 0).await;
    // What had been kept back would come now.
    sleep(Duration::from_secs(1)).await;
    assert_eq!(queue.count(&format!("{}.retry.102400ms", queue.name)), 3);
}

/// A handler that waits for its dependency, as long as that is down, behind a gate.
#[tokio::test]
async fn an_outage_longer_than_the_broker_waits_costs_a_delivery_each_time() {
    const MESSAGES: u32 = 20;
    let (broker, _turn) = broker().await;
    // It looks at each channel once in an interval. Both hold for channels that are opened from now on.
    broker.evaluate("application:set_env(rabbit, consumer_timeout, 1000)").unwrap();
    broker.evaluate("application:set_env(rabbit, channel_tick_interval, 500)").unwrap();
    let queue = Queue::on(broker).await;
    let bodies: Vec<String> = (0..MESSAGES).map(|body| body.to_string()).collect();
    queue.publish_all(&bodies).await;

    let breaker = CircuitBreaker::builder("trouble")
        .min_calls(2)
        .open_for(Backoff::exponential(Duration::from_millis(200)).max(Duration::from_millis(200)))
        .build()
        .unwrap();
    let (up, done, most) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU32::new(0)),
        Arc::new(AtomicU32::new(0)),
    );
    let handler = {
        let (up, done, most) = (up.clone(), done.clone(), most.clone());
        Stack::new().breaker(breaker).layer(ServiceErrors).service(service_fn(
            move |message: Message| {
                most.fetch_max(message.attempt().unwrap(), Ordering::Relaxed);
                let up = up.load(Ordering::Relaxed);
                done.fetch_add(u32::from(up), Ordering::Relaxed);
                std::future::ready(if up { Ok(()) } else { Err(std::io::Error::other("down")) })
            },
        ))
    };
    let consumer = Consumer::builder("trouble").gate(breaker).max_deliveries(100).build().unwrap();
    let begun = Instant::now();
    let running = consumer.start(queue.source(), handler);
    sleep(Duration::from_secs(8)).await;
    up.store(true, Ordering::Relaxed);
    let outage = begun.elapsed();
    eventually("all are handled", async || queue.left() == 0).await;
    let summary = running.shutdown(Duration::from_secs(5)).await;
    println!("{summary:?}, at most {most:?} deliveries in {outage:?}, {done:?} handled");
    broker.evaluate("application:set_env(rabbit, consumer_timeout, 1800000)").unwrap();
    broker.evaluate("application:set_env(rabbit, channel_tick_interval, 60000)").unwrap();
    assert_eq!(queue.count(&queue.dead()), 0);
    assert!(done.load(Ordering::Relaxed) >= MESSAGES);
    let most = most.load(Ordering::Relaxed);
    assert!(most > 2, "the broker did not end the pause");
    assert!(most <= 1 + outage.as_secs() as u32, "{most} deliveries in {outage:?}");
}

#[tokio::test]
async fn a_broker_that_hangs_is_noticed_by_the_heartbeat() {
    let (broker, _turn) = broker().await;
    let queue = Queue::on(broker).await;
    queue.publish(["1", "2"]).await;
    let uri = format!("{}?heartbeat=1", broker.uri());
    let mut source = Source::builder(uri, &queue.name, DeadLetters::to_queue(queue.dead()))
        .timeout(Duration::from_millis(500))
        .build()
        .unwrap();
    let delivery = next(&mut source).await;
    let stopped = Stopped::stop(broker);
    let begun = Instant::now();
    let error = polled(&mut source).await.map(drop);
    let error = match error {
        // The second had come before.
        Ok(()) => polled(&mut source).await.unwrap_err(),
        Err(error) => error,
    };
    println!("{error} after {:?}", begun.elapsed());
    assert!(matches!(error, Error::Client(_)), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(delivery.is_lost());
    for _ in 0..3 {
        let error = polled(&mut source).await.unwrap_err();
        assert!(matches!(error, Error::NoAnswer(_)), "{error}");
    }
    drop(stopped);
    let mut delivery = None;
    eventually("it goes on", async || {
        delivery = polled(&mut source).await.ok();
        delivery.is_some()
    })
    .await;
    assert_eq!(delivery.unwrap().attempt(), Some(2));
    let _ = PATIENCE;
}

/// The broker's process, stopped for as long as this lives.
struct Stopped(String);

impl Stopped {
    fn stop(broker: &Broker) -> Self {
        let pid = broker.evaluate("list_to_integer(os:getpid())").unwrap();
        signal("-STOP", &pid);
        Stopped(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        signal("-CONT", &self.0);
    }
}

fn signal(signal: &str, pid: &str) {
    assert!(Command::new("kill").args([signal, pid]).status().unwrap().success());
}
