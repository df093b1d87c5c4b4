//! What a consumer tells the world.

use std::{
    collections::BTreeMap,
    panic::resume_unwind,
    task::{Context, Poll},
};

use buttress::{Verdict, consumer::Source};
use metrics::set_default_local_recorder;
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use tokio::time::sleep;

use crate::{
    consumer_support::memory::{MemoryDelivery, Unconfirmed},
    rig::{Act, Rig, SECOND, breaker, consumer},
};

/// Counters above zero and gauges of consumers: `name settle`, and the value.
fn recorded(snapshotter: &Snapshotter) -> BTreeMap<String, f64> {
    let told = snapshotter.snapshot().into_vec().into_iter();
    told.filter_map(|(key, _, _, value)| {
        let key = key.key();
        let value = match value {
            DebugValue::Counter(count) if count > 0 => count as f64,
            DebugValue::Gauge(value) => value.into_inner(),
            _ => return None,
        };
        let labels: Vec<&str> =
            key.labels().filter(|label| label.key() != "name").map(metrics::Label::value).collect();
        let name = key.name().strip_prefix("buttress_consumer_")?;
        Some(([&[name], &labels[..]].concat().join(" "), value))
    })
    .collect()
}

/// How many consumers are paused. A snapshot of this recorder sets a gauge to zero, so that the next one
/// says what has changed since.
fn paused(snapshotter: &Snapshotter) -> impl FnMut() -> i64 {
    let mut paused = 0;
    move || {
        paused += recorded(snapshotter).get("paused").copied().unwrap_or(0.0) as i64;
        paused
    }
}

#[tokio::test(start_paused = true)]
async fn every_settlement_is_counted() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _recording = set_default_local_recorder(&recorder);
    let rig = Rig::with(20);
    let running = rig.start(consumer().concurrency(1), |id, before| match (id, before) {
        (1, 0) => Act::TRANSIENT,
        (2, _) => Act::Fail(Verdict::Permanent),
        (3.., _) => Act::Take(10 * SECOND),
        _ => Act::Succeed,
    });
    sleep(5 * SECOND).await;
    // 3 is being handled: its ack gets lost on the way, ten times.
    rig.broker.do_not_confirm([Unconfirmed::Unheard; 10]);
    sleep(6 * SECOND).await;
    running.shutdown(60 * SECOND).await;
    let told = recorded(&snapshotter);
    let count = |settle: &str| {
        told.get(&format!("messages_total {settle}")).copied().unwrap_or(0.0) as usize
    };
    for settle in ["ack", "retry", "dead_letter", "release"] {
        assert_eq!(count(settle), rig.ledger.settled_as(settle), "{settle}: {told:?}");
        assert!(count(settle) > 0, "{settle}: {told:?}");
    }
    assert_eq!(count("unconfirmed"), 1, "{told:?}");
    assert_eq!(count("lost"), 0, "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lost_delivery_is_counted() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _recording = set_default_local_recorder(&recorder);
    let rig = Rig::with(1);
    let running = rig.start(consumer(), |_, _| Act::Take(SECOND));
    sleep(SECOND / 2).await;
    rig.broker.disconnect(0);
    rig.finish(running).await;
    let told = recorded(&snapshotter);
    assert_eq!(told.get("messages_total lost"), Some(&1.0), "{told:?}");
    assert_eq!(told.get("messages_total ack"), Some(&1.0), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_pause_is_a_gauge() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _recording = set_default_local_recorder(&recorder);
    let mut paused = paused(&snapshotter);
    let rig = Rig::with(8);
    let breaker = breaker();
    let running = rig.start_gated(consumer(), breaker, |_, before| match before {
        0 => Act::TRANSIENT,
        _ => Act::Succeed,
    });
    sleep(SECOND).await;
    assert_eq!(paused(), 1);
    rig.finish(running).await;
    assert_eq!(paused(), 0);
}

#[tokio::test(start_paused = true)]
async fn paused_consumers_of_one_name_are_counted() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _recording = set_default_local_recorder(&recorder);
    let mut paused = paused(&snapshotter);
    let (first, second) = (Rig::with(8), Rig::with(8));
    let gates = [breaker(), breaker()];
    let running = [(first, gates[0]), (second, gates[1])]
        .map(|(rig, gate)| rig.start_gated(consumer(), gate, |_, _| Act::Succeed));
    for gate in gates {
        gate.force_open("maintenance", None);
    }
    sleep(SECOND).await;
    assert_eq!(paused(), 2);
    gates[0].reset();
    sleep(SECOND).await;
    assert_eq!(paused(), 1, "the other one is still paused");
    for running in running {
        running.shutdown(SECOND).await;
    }
    assert_eq!(paused(), 0, "shut down while it was paused");
}

/// Waits for ever, and panics when it is asked while it is paused for the second time.
struct Gloomy {
    pauses: usize,
}

impl Source for Gloomy {
    type Delivery = MemoryDelivery;
    type Error = std::io::Error;

    fn prefetch(&self) -> usize {
        1
    }

    fn poll_next(
        &mut self,
        _: &mut Context<'_>,
        _: usize,
    ) -> Poll<Option<Result<MemoryDelivery, std::io::Error>>> {
        if self.pauses == 2 {
            resume_unwind(Box::new("a bug of the client"));
        }
        Poll::Pending
    }

    fn pause(&mut self) {
        self.pauses += 1;
    }

    fn resume(&mut self) {}

    async fn close(&mut self) -> Result<(), std::io::Error> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_ends_with_a_panic_of_the_source() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _recording = set_default_local_recorder(&recorder);
    let (rig, gate) = (Rig::with(0), breaker());
    let handler = rig.handler(|_, _| Act::Succeed);
    let consumer = consumer().gate(gate).build().unwrap();
    let running = consumer.start(Gloomy { pauses: 1 }, handler);
    let monitor = running.monitor();
    gate.force_open("maintenance", None);
    let ended = tokio::spawn(running.wait()).await;
    assert!(ended.unwrap_err().is_panic());
    assert_eq!(recorded(&snapshotter).get("paused"), Some(&0.0));
    assert_eq!(monitor.status().paused_since, None);
}

#[test]
fn a_pause_ends_with_its_runtime() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _recording = set_default_local_recorder(&recorder);
    let mut paused = paused(&snapshotter);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let running = runtime.block_on(async {
        let gate = breaker();
        gate.force_open("maintenance", None);
        let running = Rig::with(8).start_gated(consumer(), gate, |_, _| Act::Succeed);
        sleep(SECOND).await;
        running
    });
    assert_eq!(paused(), 1);
    drop(runtime);
    assert_eq!((paused(), running.status().paused_since), (0, None));
}

/// What was not counted is not taken off, or the gauge would stand below zero for ever.
#[tokio::test(start_paused = true)]
async fn a_pause_that_is_older_than_the_recorder_is_not_taken_off() {
    let (rig, gate) = (Rig::with(8), breaker());
    gate.force_open("maintenance", None);
    let running = rig.start_gated(consumer(), gate, |_, _| Act::Succeed);
    sleep(SECOND).await;
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _recording = set_default_local_recorder(&recorder);
    gate.reset();
    rig.finish(running).await;
    assert_eq!(recorded(&snapshotter).get("paused"), None);
}

#[cfg(feature = "tracing")]
mod events {
    use std::sync::{Arc, Mutex};

    use tracing::{
        Event, Level, Subscriber,
        field::{Field, Visit},
    };
    use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

    use super::*;

    type Fields = BTreeMap<&'static str, String>;

    /// Level, message and other fields of each event.
    #[derive(Clone, Default)]
    struct Heard(Arc<Mutex<Vec<(Level, String, Fields)>>>);

    impl<S: Subscriber> Layer<S> for Heard {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            struct Read(Fields);
            impl Visit for Read {
                fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
                    self.0.insert(field.name(), format!("{value:?}"));
                }
            }
            let mut read = Read(Fields::new());
            event.record(&mut read);
            let Read(mut fields) = read;
            let message = fields.remove("message").unwrap_or_default();
            self.0.lock().unwrap().push((*event.metadata().level(), message, fields));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn law_11_a_healthy_consumer_says_nothing_and_a_pause_is_told_once() {
        let heard = Heard::default();
        let subscriber = tracing_subscriber::registry().with(heard.clone());
        let _listening = tracing::subscriber::set_default(subscriber);
        let rig = Rig::with(100);
        let breaker = breaker();
        let running = rig.start_gated(consumer(), breaker, |_, _| Act::Succeed);
        sleep(SECOND).await;
        assert_eq!(*heard.0.lock().unwrap(), []);
        breaker.force_open("maintenance", None);
        sleep(SECOND).await;
        breaker.reset();
        sleep(SECOND).await;
        let heard = heard.0.lock().unwrap().clone();
        let of = |message: &str| heard.iter().filter(|(_, said, _)| said == message).count();
        assert_eq!((of("consumer paused"), of("consumer goes on")), (1, 1), "{heard:?}");
        drop(running);
    }

    #[tokio::test(start_paused = true)]
    async fn why_a_message_is_tried_again_is_told_and_what_came_before_a_pause() {
        let heard = Heard::default();
        let subscriber = tracing_subscriber::registry().with(heard.clone());
        let _listening = tracing::subscriber::set_default(subscriber);
        let (rig, breaker) = (Rig::with(1), breaker());
        let running = rig.start_gated(consumer(), breaker, |_, before| match before {
            0 => Act::TRANSIENT,
            _ => Act::Succeed,
        });
        sleep(10 * SECOND).await;
        breaker.force_open("maintenance", None);
        sleep(SECOND).await;
        running.shutdown(SECOND).await;
        let heard = heard.0.lock().unwrap().clone();
        let fields = |message: &str| {
            let mut of = heard.iter().filter(|(_, said, _)| said == message);
            let (level, _, fields) = of.next().unwrap_or_else(|| panic!("{message}: {heard:?}"));
            assert!(of.next().is_none(), "{heard:?}");
            (*level, fields.clone())
        };
        let (level, again) = fields("message failed, to be tried again");
        assert_eq!(level, Level::DEBUG);
        assert_eq!((&*again["attempt"], &*again["reason"]), ("1", "\"it failed\""));
        let (level, paused) = fields("consumer paused");
        assert_eq!(level, Level::WARN);
        assert_eq!(paused["gate"], format!("{:?}", breaker.name()));
        assert_eq!(paused["last_error"], again["reason"]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_ends_in_a_pause_does_not_say_that_it_goes_on() {
        let heard = Heard::default();
        let subscriber = tracing_subscriber::registry().with(heard.clone());
        let _listening = tracing::subscriber::set_default(subscriber);
        let (rig, breaker) = (Rig::with(8), breaker());
        breaker.force_open("maintenance", None);
        let running = rig.start_gated(consumer(), breaker, |_, _| Act::Succeed);
        sleep(SECOND).await;
        running.shutdown(SECOND).await;
        let heard = heard.0.lock().unwrap().clone();
        let of = |message: &str| heard.iter().filter(|(_, said, _)| said == message).count();
        assert_eq!((of("consumer paused"), of("consumer goes on")), (1, 0), "{heard:?}");
    }

    /// On a quiet queue nothing tells that a broker is back, and the next time is worth a warning too.
    #[tokio::test(start_paused = true)]
    async fn each_outage_of_the_broker_is_a_warning_and_no_more_than_one() {
        let heard = Heard::default();
        let subscriber = tracing_subscriber::registry().with(heard.clone());
        let _listening = tracing::subscriber::set_default(subscriber);
        let rig = Rig::with(0);
        let running = rig.start(consumer(), |_, _| Act::Succeed);
        for _ in 0..3 {
            rig.broker.disconnect(5);
            sleep(3600 * SECOND).await;
        }
        let heard = heard.0.lock().unwrap().clone();
        let of = |level, message: &str| {
            heard.iter().filter(|it| (it.0, &*it.1) == (level, message)).count()
        };
        assert_eq!(of(Level::WARN, "source failed"), 3, "{heard:?}");
        assert_eq!(of(Level::DEBUG, "source failed again"), 3 * 4, "{heard:?}");
        rig.finish(running).await;
    }
}
