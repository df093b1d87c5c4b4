//! How the handler is called.

use buttress::consumer::{Handled, Settle};

use crate::{
    consumer_support::{
        ledger::{Event, Said},
        memory::Options,
    },
    rig::{Act, MS, Rig, SECOND, consumer},
};

#[tokio::test(start_paused = true)]
async fn no_more_handlers_run_than_are_allowed_and_no_fewer() {
    let rig = Rig::with(50);
    let running = rig.start(consumer(), |_, _| Act::Take(10 * MS));
    rig.finish(running).await;
    assert_eq!(rig.log.most_running(), 4);
    assert_eq!(rig.ledger.most_in_hand(), Options::default().prefetch);
}

#[tokio::test(start_paused = true)]
async fn no_more_handlers_run_than_the_prefetch() {
    let rig = Rig::with(20);
    let running = rig.start(consumer().concurrency(100), |_, _| Act::Take(10 * MS));
    rig.finish(running).await;
    assert_eq!(rig.log.most_running(), Options::default().prefetch);
}

/// The handler of the rig says so by itself, in every test: called unready it panics.
#[tokio::test(start_paused = true)]
async fn law_01_a_handler_is_called_only_where_it_was_ready() {
    let rig = Rig::with(20);
    let handler = rig.handler(|_, _| Act::Take(MS)).readiness(|_| Act::ReadyAfter(3 * MS));
    let running = consumer().build().unwrap().start(rig.source(), handler);
    let summary = rig.finish(running).await;
    assert_eq!((summary.acked, summary.panicked), (20, 0), "{summary:?}");
}

#[tokio::test(start_paused = true)]
async fn a_readiness_that_fails_is_an_outcome_of_that_message() {
    let rig = Rig::with(3);
    let handler = rig
        .handler(|_, _| Act::Succeed)
        .readiness(|calls| if calls == 0 { Act::Unready } else { Act::Succeed });
    let consumer = consumer().concurrency(1).decide(|outcome| match outcome.reason {
        "not ready" => Some(Settle::Ack.into()),
        _ => None,
    });
    // Nobody is called while it is not ready, so the first call never comes.
    let running = consumer.build().unwrap().start(rig.source(), handler);
    let summary = rig.finish(running).await;
    assert_eq!((rig.log.calls().len(), summary.acked), (0, 3), "{summary:?}");
}

#[tokio::test(start_paused = true)]
async fn law_03_a_panic_is_a_failure_of_its_message_alone() {
    let rig = Rig::with(8);
    let running = rig.start(consumer().concurrency(8), |id, before| match (id, before) {
        (1, 0) => Act::Panic,
        (2, 0) => Act::PanicInCall,
        _ => Act::Take(10 * MS),
    });
    let summary = rig.finish(running).await;
    assert_eq!((summary.acked, summary.panicked, summary.retried), (8, 2, 2), "{summary:?}");
    assert_eq!(summary.delivered, 10, "{summary:?}");
    assert_eq!(rig.log.running(), 0);
}

#[tokio::test(start_paused = true)]
async fn law_03_a_readiness_that_panics_is_a_failure_of_its_message_alone() {
    let rig = Rig::with(2);
    let panicking = |calls| if calls == 0 { Act::PanicInReadiness } else { Act::Succeed };
    let handler = rig.handler(|_, _| Act::Succeed).readiness(panicking);
    let consumer = consumer().decide(|outcome| match outcome.handled {
        Handled::Panicked => Some(Settle::Ack.into()),
        _ => None,
    });
    let running = consumer.build().unwrap().start(rig.source(), handler);
    let summary = rig.finish(running).await;
    assert_eq!((summary.acked, summary.panicked), (2, 2), "{summary:?}");
}

/// An ack wait of 2 s, extended each second.
fn leased() -> Options {
    Options { ack_wait: Some(2 * SECOND), extend_every: Some(SECOND), ..Options::default() }
}

#[tokio::test(start_paused = true)]
async fn a_slow_handler_keeps_its_delivery() {
    let rig = Rig::new(leased());
    for id in 0..3 {
        rig.publish(id, "a");
    }
    let running = rig.start(consumer().concurrency(1), |_, _| Act::Take(20 * SECOND));
    let summary = rig.finish(running).await;
    assert_eq!((summary.delivered, summary.acked), (3, 3), "{summary:?}");
    let extended = |wanted| {
        rig.ledger.count(|event| *event == Event::Extended { id: wanted, said: Said::Yes })
    };
    for id in 0..3 {
        // The last one waits for two others, and is heard of all the same.
        let seconds = 20 * (usize::try_from(id).unwrap() + 1);
        let times = extended(id);
        assert!(times >= seconds - 2 && times <= 2 * seconds, "{id}: {times} in {seconds} s");
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_to_be_tried_again_in_hand_keeps_its_delivery() {
    let rig = Rig::new(Options { redelivers: false, ..leased() });
    rig.publish(0, "a");
    let slow = buttress::Backoff::constant(30 * SECOND).jitter(buttress::Jitter::None);
    let consumer = consumer().retry_after(slow);
    let running = rig.start(consumer, |_, n| if n == 0 { Act::TRANSIENT } else { Act::Succeed });
    let summary = rig.finish(running).await;
    assert_eq!((summary.delivered, summary.acked), (1, 1), "{summary:?}");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_extended_where_the_broker_does_not_ask_for_it() {
    let rig = Rig::with(1);
    let running = rig.start(consumer(), |_, _| Act::Take(100 * SECOND));
    rig.finish(running).await;
    assert_eq!(rig.ledger.count(|event| matches!(event, Event::Extended { .. })), 0);
    assert!(rig.ledger.polls() < 10, "{} polls to wait for one handler", rig.ledger.polls());
}
