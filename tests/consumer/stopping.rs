//! Shutdown.

use buttress::Verdict;
use tokio::time::{Instant, sleep};

use crate::{
    consumer_support::{
        ledger::{Event, Said},
        memory::{Options, Unconfirmed},
    },
    rig::{Act, MS, Rig, SECOND, breaker, consumer},
};

#[tokio::test(start_paused = true)]
async fn handlers_finish_and_what_waits_is_given_back() {
    let rig = Rig::with(20);
    let running = rig.start(consumer(), |_, _| Act::Take(SECOND));
    sleep(100 * MS).await;
    let begin = Instant::now();
    let summary = running.shutdown(10 * SECOND).await;
    assert!(begin.elapsed() <= SECOND, "no longer than they took: {:?}", begin.elapsed());
    assert_eq!(rig.broker.acked(), [0, 1, 2, 3]);
    let mut released = rig.ledger.ids_settled_as("release");
    released.sort_unstable();
    assert_eq!(released, [4, 5, 6, 7]);
    assert_eq!((summary.delivered, summary.acked, summary.released), (8, 4, 4), "{summary:?}");
    assert_eq!(rig.log.calls(), [0, 1, 2, 3], "nothing was begun");
    assert_eq!(rig.broker.left(), 16);
    rig.ledger.assert_lawful();
}

/// Earlier, somebody else would get what stands behind a message of its key that is being handled here.
#[tokio::test(start_paused = true)]
async fn what_waits_is_given_back_when_the_last_handler_has_ended() {
    let rig = Rig::with(8);
    let running = rig.start(consumer(), |_, _| Act::Take(30 * SECOND));
    sleep(100 * MS).await;
    running.stop(60 * SECOND);
    sleep(29 * SECOND).await;
    assert_eq!(rig.ledger.settled_as("release"), 0);
    let status = running.status();
    assert!(status.stopping && status.in_hand == 8, "{status:?}");
    let summary = running.wait().await;
    assert_eq!((summary.acked, summary.released), (4, 4), "{summary:?}");
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_its_next_try_in_hand_holds_up_no_shutdown() {
    let rig = Rig::new(Options { redelivers: false, ..Options::default() });
    (0..4).for_each(|id| rig.publish(id, "a"));
    let hour = buttress::Backoff::constant(3600 * SECOND).jitter(buttress::Jitter::None);
    let consumer = consumer().retry_after(hour).ordered();
    let running = rig.start(consumer, |_, _| Act::TRANSIENT);
    sleep(100 * MS).await;
    let begin = Instant::now();
    let summary = running.shutdown(60 * SECOND).await;
    assert_eq!((summary.released, summary.unconfirmed), (4, 0), "{summary:?}");
    assert!(begin.elapsed() <= SECOND, "{:?}", begin.elapsed());
    rig.ledger.assert_lawful();
}

#[tokio::test(start_paused = true)]
async fn past_the_deadline_handlers_are_dropped_and_given_back() {
    let rig = Rig::with(6);
    let running = rig.start(consumer(), |id, _| match id {
        0 => Act::Take(SECOND),
        _ => Act::Hang,
    });
    sleep(100 * MS).await;
    let begin = Instant::now();
    let summary = running.shutdown(5 * SECOND).await;
    assert!(begin.elapsed() <= 5 * SECOND + 100 * MS, "{:?}", begin.elapsed());
    assert_eq!((summary.acked, summary.released), (1, 5), "{summary:?}");
    assert_eq!(rig.log.running(), 0);
    let mut dropped = rig.log.dropped();
    dropped.sort_unstable();
    assert_eq!(dropped, [1, 2, 3]);
    assert_eq!(rig.broker.acked(), [0], "what was dropped is not acked");
    assert_eq!(rig.broker.left(), 5);
    rig.ledger.assert_lawful();
}

#[tokio::test(start_paused = true)]
async fn heartbeats_go_on_until_the_end() {
    let rig = Rig::new(Options {
        ack_wait: Some(2 * SECOND),
        extend_every: Some(SECOND),
        ..Options::default()
    });
    (0..4).for_each(|id| rig.publish(id, "a"));
    let running = rig.start(consumer(), |_, _| Act::Take(30 * SECOND));
    sleep(100 * MS).await;
    let summary = running.shutdown(60 * SECOND).await;
    assert_eq!((summary.acked, summary.lost), (4, 0), "{summary:?}");
    assert_eq!(summary.delivered, 4);
    assert!(
        rig.ledger.count(|event| matches!(event, Event::Extended { said: Said::Yes, .. })) > 100
    );
}

#[tokio::test(start_paused = true)]
async fn of_two_shutdowns_the_nearer_deadline_counts() {
    let rig = Rig::with(4);
    let running = rig.start(consumer(), |_, _| Act::Hang);
    sleep(100 * MS).await;
    let begin = Instant::now();
    running.stop(3600 * SECOND);
    sleep(SECOND).await;
    running.stop(2 * SECOND);
    running.stop(7200 * SECOND);
    let summary = running.wait().await;
    assert_eq!(summary.released, 4, "{summary:?}");
    let took = begin.elapsed();
    assert!(took >= 3 * SECOND && took <= 3 * SECOND + 100 * MS, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn dropping_the_handle_lets_it_run() {
    let rig = Rig::with(50);
    let running = rig.start(consumer(), |_, _| Act::Take(10 * MS));
    let monitor = running.monitor();
    drop(running);
    sleep(5 * SECOND).await;
    assert_eq!(rig.broker.acked().len(), 50);
    assert!(!monitor.status().stopping);
    rig.broker.end();
    sleep(SECOND).await;
    assert!(monitor.status().stopping);
}

#[tokio::test(start_paused = true)]
async fn law_03_a_shutdown_whose_future_is_dropped_goes_on() {
    let rig = Rig::with(20);
    let running = rig.start(consumer(), |_, _| Act::Take(SECOND));
    sleep(100 * MS).await;
    let monitor = running.monitor();
    assert!(tokio::time::timeout(MS, running.shutdown(10 * SECOND)).await.is_err());
    sleep(2 * SECOND).await;
    let summary = monitor.status().summary;
    assert_eq!((summary.acked, summary.released), (4, 4), "{summary:?}");
}

/// What failed has had its delivery, so its delay is kept where the broker can.
#[tokio::test(start_paused = true)]
async fn what_fails_at_the_end_is_delivered_again_later() {
    let rig = Rig::with(4);
    let running = rig.start(consumer(), |id, _| match id {
        0 => Act::FailAfter(SECOND),
        1 => Act::Say(Verdict::Permanent, "no"),
        _ => Act::Take(SECOND),
    });
    sleep(100 * MS).await;
    let summary = running.shutdown(10 * SECOND).await;
    assert_eq!((summary.acked, summary.released, summary.retried), (2, 0, 1), "{summary:?}");
    assert_eq!(summary.dead_lettered, 1, "{summary:?}");
}

#[tokio::test(start_paused = true)]
async fn what_would_be_tried_again_in_hand_is_given_back_at_the_end() {
    let rig = Rig::new(Options { redelivers: false, ..Options::default() });
    (0..4).for_each(|id| rig.publish(id, "a"));
    let running = rig.start(consumer(), |id, _| match id {
        0 => Act::FailAfter(SECOND),
        1 => Act::TRANSIENT,
        _ => Act::Take(SECOND),
    });
    // One fails before and waits for its next try, the other one fails at the end.
    sleep(100 * MS).await;
    let summary = running.shutdown(10 * SECOND).await;
    assert_eq!((summary.acked, summary.released, summary.retried), (2, 2, 0), "{summary:?}");
    rig.ledger.assert_lawful();
}

/// Giving back counts as a delivery with this broker, so it must not happen more than once.
#[tokio::test(start_paused = true)]
async fn a_shutdown_in_an_outage_costs_at_most_one_delivery_each() {
    let rig = Rig::with(20);
    let breaker = breaker();
    breaker.force_open("maintenance", None);
    let shut = rig.handler(|_, _| Act::Succeed).behind(breaker);
    // Without a gate it pulls, and is refused.
    let running = consumer().build().unwrap().start(rig.source(), shut.clone());
    sleep(600 * SECOND).await;
    let summary = running.shutdown(10 * SECOND).await;
    assert_eq!((summary.delivered, summary.released), (8, 8), "{summary:?}");
    let spent = rig.broker.deliveries_of_left();
    assert_eq!(spent.values().sum::<u32>(), 8);
    assert!(spent.values().all(|deliveries| *deliveries <= 1), "{spent:?}");
    breaker.reset();
    let running = consumer().build().unwrap().start(rig.source(), shut);
    let summary = rig.finish(running).await;
    assert_eq!((summary.acked, summary.dead_lettered), (20, 0), "{summary:?}");
}

/// The same where nobody says goodbye.
#[tokio::test(start_paused = true)]
async fn a_kill_in_an_outage_costs_at_most_one_delivery_each() {
    let rig = Rig::with(20);
    let breaker = breaker();
    breaker.force_open("maintenance", None);
    let shut = rig.handler(|_, _| Act::Succeed).behind(breaker);
    let (source, consumer_of) = (rig.source(), consumer().build().unwrap());
    let killed = shut.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let _running = consumer_of.start(source, killed);
            sleep(600 * SECOND).await;
        });
    })
    .join()
    .unwrap();
    rig.broker.disconnect(0);
    let spent = rig.broker.deliveries_of_left();
    assert_eq!(spent.values().sum::<u32>(), 8, "the prefetch: {spent:?}");
    assert!(spent.values().all(|deliveries| *deliveries <= 1), "{spent:?}");
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_never_answers_holds_nobody_for_ever() {
    let rig = Rig::new(Options { settle_takes: 3600 * SECOND, ..Options::default() });
    (0..4).for_each(|id| rig.publish(id, "a"));
    let running = rig.start(consumer(), |_, _| Act::Succeed);
    sleep(100 * MS).await;
    let begin = Instant::now();
    let summary = running.shutdown(10 * SECOND).await;
    assert!(begin.elapsed() <= 20 * SECOND, "{:?}", begin.elapsed());
    assert_eq!((summary.acked, summary.unconfirmed), (0, 4), "{summary:?}");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_says_what_was_not_confirmed() {
    let rig = Rig::with(4);
    rig.broker.do_not_confirm([Unconfirmed::Unheard; 1000]);
    let running = rig.start(consumer(), |_, _| Act::Succeed);
    sleep(100 * MS).await;
    let summary = running.shutdown(SECOND).await;
    assert_eq!((summary.acked, summary.unconfirmed), (0, 4), "{summary:?}");
    assert_eq!(rig.broker.left(), 4);
}

#[tokio::test(start_paused = true)]
async fn the_source_is_closed_after_everything_is_settled() {
    let rig = Rig::with(20);
    let running = rig.start(consumer(), |_, _| Act::Take(SECOND));
    sleep(100 * MS).await;
    running.shutdown(10 * SECOND).await;
    let events = rig.ledger.events();
    assert_eq!(events.last(), Some(&Event::Closed));
    assert_eq!(rig.ledger.count(|event| *event == Event::Closed), 1);
    assert_eq!(rig.ledger.in_hand(), 0);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_taken_once_it_is_stopping() {
    let rig = Rig::with(100);
    let running = rig.start(consumer(), |_, _| Act::Take(SECOND));
    sleep(100 * MS).await;
    running.stop(60 * SECOND);
    sleep(MS).await;
    let deliveries = rig.ledger.deliveries();
    running.wait().await;
    assert_eq!(rig.ledger.deliveries(), deliveries);
    assert!(rig.ledger.is_paused());
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_after_the_end_is_none() {
    let rig = Rig::with(3);
    let running = rig.start(consumer(), |_, _| Act::Succeed);
    rig.broker.end();
    sleep(SECOND).await;
    let summary = running.shutdown(SECOND).await;
    assert_eq!((summary.acked, summary.released), (3, 0), "{summary:?}");
}

#[tokio::test(start_paused = true)]
async fn what_was_asked_for_before_and_comes_at_the_end_is_given_back() {
    let rig = Rig::new(Options { pulls: true, ..Options::default() });
    rig.publish(0, "a");
    let running = rig.start(consumer(), |_, _| Act::Take(10 * SECOND));
    sleep(SECOND).await;
    running.stop(60 * SECOND);
    sleep(SECOND).await;
    (1..20).for_each(|id| rig.publish(id, "a"));
    let summary = running.wait().await;
    assert_eq!(rig.log.calls(), [0]);
    assert_eq!(summary.acked, 1, "{summary:?}");
    assert_eq!(summary.released, summary.delivered - 1, "{summary:?}");
    assert_eq!(rig.broker.left(), 19);
    let spent = rig.broker.deliveries_of_left();
    assert!(spent.values().all(|deliveries| *deliveries <= 1), "{spent:?}");
    rig.ledger.assert_lawful();
}

#[tokio::test(start_paused = true)]
async fn a_source_that_has_ended_is_not_asked_again_at_the_end() {
    let rig = Rig::with(4);
    let running = rig.start(consumer(), |_, _| Act::Take(30 * SECOND));
    sleep(SECOND).await;
    rig.broker.end_now();
    sleep(SECOND).await;
    let summary = running.shutdown(60 * SECOND).await;
    assert_eq!(summary.acked, 4, "{summary:?}");
    rig.ledger.assert_lawful();
}

#[tokio::test(start_paused = true)]
async fn a_source_that_ends_at_the_end_is_not_asked_again() {
    let rig = Rig::with(4);
    let running = rig.start(consumer(), |_, _| Act::Take(30 * SECOND));
    sleep(SECOND).await;
    running.stop(60 * SECOND);
    sleep(SECOND).await;
    rig.broker.end_now();
    let summary = running.wait().await;
    assert_eq!(summary.acked, 4, "{summary:?}");
    rig.ledger.assert_lawful();
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_without_time_drops_what_runs() {
    let rig = Rig::with(20);
    let running = rig.start(consumer(), |_, _| Act::Take(SECOND));
    sleep(100 * MS).await;
    let begin = Instant::now();
    let summary = running.shutdown(std::time::Duration::ZERO).await;
    assert!(begin.elapsed() <= 100 * MS, "{:?}", begin.elapsed());
    assert_eq!((summary.acked, summary.released), (0, 8), "{summary:?}");
    assert_eq!(rig.log.dropped().len(), 4);
}
