//! What the broker does to a consumer.

use std::{
    panic::resume_unwind,
    task::{Context, Poll},
};

use buttress::{Verdict, consumer::Source};
use tokio::time::{Instant, sleep};

use crate::{
    consumer_support::{
        ledger::{Event, Said},
        memory::{Broken, MemoryDelivery, Options, Unconfirmed},
    },
    rig::{Act, MS, Rig, SECOND, consumer},
};

#[tokio::test(start_paused = true)]
async fn a_broken_connection_is_asked_again_and_work_goes_on() {
    let rig = Rig::with(100);
    let running = rig.start(consumer(), |_, _| Act::Take(10 * MS));
    sleep(55 * MS).await;
    rig.broker.stop();
    sleep(10 * SECOND + 500 * MS).await;
    let status = running.status();
    assert!(status.broken_since.is_some(), "{status:?}");
    let (at, error) = status.last_error.unwrap();
    assert_eq!(error, "the connection is broken");
    assert!(at.elapsed() <= SECOND);
    let failed = rig.ledger.count(|event| *event == Event::Failed);
    assert!((10..=12).contains(&failed), "{failed} times in ten seconds, one second apart");
    rig.broker.start();
    sleep(1100 * MS).await;
    assert_eq!(running.status().broken_since, None);
    let summary = rig.finish(running).await;
    let mut acked = rig.broker.acked();
    acked.sort_unstable();
    assert_eq!(acked, (0..100).collect::<Vec<_>>());
    assert_eq!(summary.lost, 8, "the prefetch: {summary:?}");
    assert_eq!(summary.delivered, 108, "{summary:?}");
    assert_eq!(rig.log.succeeded().len(), 104, "four were being handled");
}

#[tokio::test(start_paused = true)]
async fn the_waits_for_a_broker_grow() {
    let rig = Rig::with(1);
    rig.broker.stop();
    let growing = buttress::Backoff::exponential(SECOND).max(60 * SECOND);
    let consumer = consumer().reconnect_after(growing.jitter(buttress::Jitter::None));
    let running = rig.start(consumer, |_, _| Act::Succeed);
    sleep(3600 * SECOND).await;
    let failed = rig.ledger.count(|event| *event == Event::Failed);
    assert!((60..=66).contains(&failed), "{failed} times in an hour");
    rig.broker.start();
    rig.finish(running).await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_that_is_not_confirmed_is_sent_again_and_never_acked_instead() {
    let rig = Rig::with(1);
    rig.broker.do_not_confirm([Unconfirmed::Unheard; 20]);
    let running = rig.start(consumer(), |_, _| Act::Say(Verdict::Permanent, "no"));
    sleep(5 * SECOND + 500 * MS).await;
    assert_eq!(rig.broker.dead_letters(), []);
    assert_eq!(rig.ledger.not_settled(Said::Unconfirmed), 6, "one second apart");
    let summary = rig.finish(running).await;
    assert_eq!(rig.broker.dead_letters().len(), 1);
    assert!(rig.broker.acked().is_empty(), "{:?}", rig.broker.acked());
    assert_eq!((rig.log.calls_of(0), summary.dead_lettered), (1, 1), "{summary:?}");
    assert_eq!(summary.unconfirmed, 0, "in the end it was confirmed: {summary:?}");
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_is_given_up_when_its_delivery_is_lost() {
    let rig = Rig::with(1);
    rig.broker.do_not_confirm([Unconfirmed::Unheard; 3]);
    let running = rig.start(consumer(), |_, _| Act::Say(Verdict::Permanent, "no"));
    sleep(500 * MS).await;
    rig.broker.disconnect(0);
    let summary = rig.finish(running).await;
    assert_eq!((summary.lost, summary.dead_lettered), (1, 1), "{summary:?}");
    assert_eq!(rig.log.calls_of(0), 2, "delivered again, handled again");
    assert_eq!(rig.broker.dead_letters().len(), 1, "and a dead letter once");
}

#[tokio::test(start_paused = true)]
async fn an_ack_that_is_not_confirmed_is_said_again() {
    let rig = Rig::with(2);
    rig.broker.do_not_confirm([Unconfirmed::Unheard, Unconfirmed::Heard]);
    let running = rig.start(consumer(), |_, _| Act::Succeed);
    let summary = rig.finish(running).await;
    assert_eq!((summary.acked, summary.unconfirmed), (2, 0), "{summary:?}");
    assert_eq!(rig.log.succeeded().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_ack_that_is_never_confirmed_is_reported() {
    let rig = Rig::with(1);
    rig.broker.do_not_confirm([Unconfirmed::Heard; 100]);
    let running = rig.start(consumer(), |_, _| Act::Succeed);
    sleep(10 * SECOND).await;
    let status = running.status();
    assert_eq!((status.in_hand, status.summary.unconfirmed), (0, 1), "{status:?}");
    assert_eq!(rig.ledger.not_settled(Said::Unconfirmed), 10);
    assert_eq!(
        status.last_error.unwrap().1,
        "ack: the broker did not confirm it: the answer of the broker was lost"
    );
    rig.finish(running).await;
}

#[tokio::test(start_paused = true)]
async fn the_ack_of_a_lost_delivery_is_reported() {
    // Nobody extends it, so it is somebody else's after a second.
    let rig = Rig::new(Options { ack_wait: Some(SECOND), ..Options::default() });
    rig.publish(0, "a");
    let running = rig.start(consumer(), |_, before| match before {
        0 => Act::Take(1500 * MS),
        _ => Act::Succeed,
    });
    let summary = rig.finish(running).await;
    assert_eq!((summary.lost, summary.acked, summary.delivered), (1, 1, 2), "{summary:?}");
    assert_eq!(rig.broker.acked(), [0]);
}

#[tokio::test(start_paused = true)]
async fn a_held_delivery_that_is_found_lost_is_not_handled_here() {
    let rig = Rig::new(Options {
        ack_wait: Some(2 * SECOND),
        extend_every: Some(SECOND),
        ..Options::default()
    });
    (0..4).for_each(|id| rig.publish(id, "a"));
    // One runs, three wait; a broker that has restarted knows nothing of any of them.
    let running = rig.start(consumer().concurrency(1), |_, _| Act::Take(3 * SECOND));
    sleep(100 * MS).await;
    rig.broker.disconnect(0);
    let summary = rig.finish(running).await;
    assert_eq!((summary.lost, summary.acked), (4, 4), "{summary:?}");
    assert_eq!(rig.log.calls().len(), 5, "only the one that ran did twice: {:?}", rig.log.calls());
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_source_is_the_end_of_the_consumer() {
    let rig = Rig::with(10);
    let begin = Instant::now();
    let running = rig.start(consumer(), |_, _| Act::Take(100 * MS));
    sleep(50 * MS).await;
    // Eight are in hand, and are worked off; the others stay.
    rig.broker.end_now();
    let summary = running.wait().await;
    assert_eq!((summary.delivered, summary.acked), (8, 8), "{summary:?}");
    assert!(begin.elapsed() <= 250 * MS);
    assert_eq!(rig.broker.left(), 2);
    assert_eq!(rig.ledger.count(|event| *event == Event::Closed), 1);
    rig.ledger.assert_lawful();
}

#[tokio::test(start_paused = true)]
async fn no_more_is_taken_than_the_prefetch() {
    let rig = Rig::new(Options { prefetch: 3, settle_takes: 50 * MS, ..Options::default() });
    (0..30).for_each(|id| rig.publish(id, "a"));
    let running = rig.start(consumer(), |_, _| Act::Take(10 * MS));
    rig.finish(running).await; // the ledger knows about room
    assert_eq!(rig.ledger.most_in_hand(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_status_says_what_is_in_hand() {
    let rig = Rig::with(20);
    let running = rig.start(consumer(), |_, _| Act::Take(SECOND));
    sleep(100 * MS).await;
    let monitor = running.monitor();
    let status = monitor.status();
    assert_eq!((status.name, status.in_hand, status.running), ("test", 8, 4));
    assert_eq!((status.paused_since, status.broken_since), (None, None));
    assert_eq!((status.last_error, status.stopping), (None, false));
    assert_eq!(status.summary.delivered, 8);
    rig.finish(running).await;
    let status = monitor.status();
    assert_eq!((status.in_hand, status.running, status.stopping), (0, 0, true));
    assert_eq!(status.summary.acked, 20);
}

/// A source that has a bug.
struct Panicking;

impl Source for Panicking {
    type Delivery = MemoryDelivery;
    type Error = Broken;

    fn prefetch(&self) -> usize {
        1
    }

    fn poll_next(
        &mut self,
        _: &mut Context<'_>,
        _: usize,
    ) -> Poll<Option<Result<MemoryDelivery, Broken>>> {
        resume_unwind(Box::new("a bug in the source"))
    }

    fn pause(&mut self) {}

    fn resume(&mut self) {}

    async fn close(&mut self) -> Result<(), Broken> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "a bug in the source")]
async fn a_source_that_panics_is_told_to_who_waits() {
    let rig = Rig::with(0);
    let handler = rig.handler(|_, _| Act::Succeed);
    consumer().build().unwrap().start(Panicking, handler).wait().await;
}
