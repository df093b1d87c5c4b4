//! What a consumer tells the world.

use std::collections::BTreeMap;

use buttress::Verdict;
use metrics::set_default_local_recorder;
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use tokio::time::sleep;

use crate::{
    consumer_support::memory::Unconfirmed,
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
    // 3 is being handled: its ack gets lost on the way, five times.
    rig.broker.do_not_confirm([Unconfirmed::Unheard; 5]);
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
    let rig = Rig::with(8);
    let breaker = breaker();
    let running = rig.start_gated(consumer(), breaker, |_, before| match before {
        0 => Act::TRANSIENT,
        _ => Act::Succeed,
    });
    sleep(SECOND).await;
    assert_eq!(recorded(&snapshotter).get("paused"), Some(&1.0));
    rig.finish(running).await;
    assert_eq!(recorded(&snapshotter).get("paused"), Some(&0.0));
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

    /// Level and message of each event.
    #[derive(Clone, Default)]
    struct Heard(Arc<Mutex<Vec<(Level, String)>>>);

    impl<S: Subscriber> Layer<S> for Heard {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            struct Message(String);
            impl Visit for Message {
                fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
                    if field.name() == "message" {
                        self.0 = format!("{value:?}");
                    }
                }
            }
            let mut message = Message(String::new());
            event.record(&mut message);
            self.0.lock().unwrap().push((*event.metadata().level(), message.0));
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
        let of = |message: &str| heard.iter().filter(|(_, said)| said == message).count();
        assert_eq!((of("consumer paused"), of("consumer goes on")), (1, 1), "{heard:?}");
        drop(running);
    }
}
