//! One after the other, per key.

use buttress::Verdict;
use tokio::time::{Instant, sleep};

use crate::{
    consumer_support::memory::Options,
    rig::{Act, MS, Rig, SECOND, breaker, consumer},
};

/// Messages 0 to 5, of which the even ones have one key and the odd ones another.
fn two_keys() -> Rig {
    let rig = Rig::new(Options::default());
    (0..6).for_each(|id| rig.publish(id, if id % 2 == 0 { "even" } else { "odd" }));
    rig
}

#[tokio::test(start_paused = true)]
async fn messages_of_one_key_are_handled_one_after_the_other() {
    let rig = two_keys();
    // The earlier ones take longer, so that without order the later ones would be through first.
    let running = rig.start(consumer().ordered(), |id, _| {
        Act::Take(10 * MS * (10 - u32::try_from(id).unwrap()))
    });
    rig.finish(running).await;
    assert_eq!(rig.log.most_running(), 2, "two keys");
    let (even, odd): (Vec<u64>, Vec<u64>) =
        rig.log.succeeded().into_iter().partition(|id| id % 2 == 0);
    assert_eq!((even, odd), (vec![0, 2, 4], vec![1, 3, 5]));
}

#[tokio::test(start_paused = true)]
async fn without_order_they_are_handled_as_they_come() {
    let rig = two_keys();
    let running = rig.start(consumer(), |_, _| Act::Take(MS));
    rig.finish(running).await;
    assert_eq!(rig.log.most_running(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_failing_message_blocks_its_key_alone_and_is_tried_again_in_hand() {
    let rig = two_keys();
    let begin = Instant::now();
    let running = rig.start(consumer().ordered(), |id, before| match (id, before) {
        (0, 0 | 1) => Act::TRANSIENT,
        _ => Act::Succeed,
    });
    sleep(500 * MS).await;
    assert_eq!(rig.log.succeeded(), [1, 3, 5], "the other key goes on");
    let summary = rig.finish(running).await;
    assert_eq!(rig.log.succeeded(), [1, 3, 5, 0, 2, 4]);
    let again = rig.log.times(0)[2] - begin;
    assert!(again >= 2 * SECOND && again < 2 * SECOND + 100 * MS, "{again:?}");
    assert_eq!((summary.retried, summary.retried_in_hand), (0, 2), "{summary:?}");
    assert_eq!(summary.delivered, 6, "{summary:?}");
}

#[tokio::test(start_paused = true)]
async fn a_key_goes_on_behind_a_dead_letter() {
    let rig = two_keys();
    let running = rig.start(consumer().ordered(), |id, _| match id {
        0 => Act::TRANSIENT,
        2 => Act::Fail(Verdict::Permanent),
        _ => Act::Succeed,
    });
    rig.finish(running).await;
    assert_eq!(rig.log.succeeded(), [1, 3, 5, 4]);
    let dead: Vec<u64> = rig.broker.dead_letters().iter().map(|dead| dead.id).collect();
    assert_eq!(dead, [0, 2]);
    assert_eq!(rig.log.calls_of(0), 3);
}

#[tokio::test(start_paused = true)]
async fn a_key_goes_on_behind_a_panic() {
    let rig = two_keys();
    let running = rig.start(consumer().ordered(), |id, before| match (id, before) {
        (0, 0) => Act::Panic,
        _ => Act::Succeed,
    });
    rig.finish(running).await;
    assert_eq!(rig.log.succeeded(), [1, 3, 5, 0, 2, 4]);
}

#[tokio::test(start_paused = true)]
async fn probes_keep_the_order() {
    let rig = Rig::new(Options::default());
    (0..8).for_each(|id| rig.publish(id, if id % 2 == 0 { "even" } else { "odd" }));
    let breaker = breaker();
    let recovers = Instant::now() + 45 * SECOND;
    let running = rig.start_gated(consumer().ordered(), breaker, move |_, _| {
        if Instant::now() < recovers { Act::TRANSIENT } else { Act::Succeed }
    });
    sleep(44 * SECOND).await;
    assert!(rig.log.calls().iter().all(|id| *id < 2), "heads only: {:?}", rig.log.calls());
    let summary = rig.finish(running).await;
    let (even, odd): (Vec<u64>, Vec<u64>) =
        rig.log.succeeded().into_iter().partition(|id| id % 2 == 0);
    assert_eq!((even, odd), (vec![0, 2, 4, 6], vec![1, 3, 5, 7]));
    assert_eq!(summary.delivered, 8, "{summary:?}");
}

/// Those in hand are somebody else's then, and the broker hands them out again, in order: the old
/// ones must not be handled behind their new selves.
#[tokio::test(start_paused = true)]
async fn a_broken_connection_does_not_break_the_order() {
    let rig = Rig::new(Options::default());
    (0..40).for_each(|id| rig.publish(id, "one"));
    let running = rig.start(consumer().ordered(), |_, _| Act::Take(100 * MS));
    sleep(SECOND + 50 * MS).await;
    rig.broker.disconnect(1);
    rig.finish(running).await;
    let succeeded = rig.log.succeeded();
    assert!(succeeded.windows(2).all(|pair| pair[0] <= pair[1]), "{succeeded:?}");
    assert!(succeeded.len() <= 41, "one was being handled: {succeeded:?}");
    assert_eq!(rig.log.most_running(), 1, "never two of a key");
}
