//! What becomes of a delivery.

use buttress::{
    Verdict,
    consumer::{Decision, Handled, Settle},
};
use tokio::time::Instant;

use crate::{
    consumer_support::{
        memory::Options,
        message::{Kind, Message, decode, id_of},
    },
    rig::{Act, MS, Rig, SECOND, consumer},
};

fn dead(reason: &str) -> Settle {
    Settle::DeadLetter { reason: reason.to_owned().into() }
}

fn retry(after: std::time::Duration) -> Settle {
    Settle::Retry { after }
}

#[tokio::test(start_paused = true)]
async fn every_verdict_has_its_settlement() {
    let rig = Rig::with(9);
    let running = rig.start(consumer(), |id, before| match (id, before) {
        (1, 0) => Act::Fail(Verdict::Transient),
        (2, 0) => Act::Fail(Verdict::Unreachable),
        (3, 0) => Act::Fail(Verdict::Throttled { retry_after: None }),
        (4, 0) => Act::Fail(Verdict::Throttled { retry_after: Some(5 * SECOND) }),
        (5, 0) => Act::Say(Verdict::Permanent, "there is no such customer"),
        (6, 0) => Act::Say(Verdict::Final, "the data is gone"),
        (7, 0) => Act::Fail(Verdict::Ignored),
        (8, 0) => Act::Panic,
        _ => Act::Succeed,
    });
    let summary = rig.finish(running).await;
    let mut settled = rig.ledger.settled();
    settled.sort_by_key(|(id, _)| *id);
    let expected = [
        (0, Settle::Ack),
        (1, retry(SECOND)),
        (1, Settle::Ack),
        (2, retry(SECOND)),
        (2, Settle::Ack),
        (3, retry(SECOND)),
        (3, Settle::Ack),
        (4, retry(5 * SECOND)),
        (4, Settle::Ack),
        (5, dead("there is no such customer")),
        (6, dead("the data is gone")),
        (7, retry(SECOND)),
        (7, Settle::Ack),
        (8, retry(SECOND)),
        (8, Settle::Ack),
    ];
    assert_eq!(settled, expected);
    assert_eq!((summary.delivered, summary.acked), (15, 7), "{summary:?}");
    assert_eq!((summary.retried, summary.dead_lettered), (6, 2), "{summary:?}");
    assert_eq!((summary.panicked, summary.released), (1, 0), "{summary:?}");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_decoded_is_a_dead_letter_with_the_reason() {
    let rig = Rig::new(Options::default());
    rig.broker.publish([Message::new(0, "a", Kind::Garbage), Message::new(1, "a", Kind::Good)]);
    let handler = rig.handler(|_, _| Act::Succeed);
    // The handler of this rig wants the body again.
    let decode = |body: &bytes::Bytes| decode(body).map(|_| body.clone());
    let running = consumer().build().unwrap().start_decoded(rig.source(), decode, handler);
    rig.finish(running).await;
    let [dead] = &rig.broker.dead_letters()[..] else { panic!("one dead letter") };
    assert_eq!(id_of(&dead.body), 0);
    assert!(dead.reason.contains("utf-8"), "{}", dead.reason);
    assert_eq!(rig.log.calls(), [1], "the handler sees what was decoded, and nothing else");
    assert_eq!(rig.broker.acked(), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_decoder_that_panics_fails_its_message_alone() {
    let rig = Rig::with(3);
    let handler = rig.handler(|_, _| Act::Succeed);
    let decode = |body: &bytes::Bytes| match id_of(body) {
        1 => std::panic::resume_unwind(Box::new("a bug in the decoder")),
        _ => Ok::<_, std::convert::Infallible>(body.clone()),
    };
    let running = consumer().build().unwrap().start_decoded(rig.source(), decode, handler);
    let summary = rig.finish(running).await;
    assert_eq!(rig.broker.acked(), [0, 2]);
    assert_eq!(summary.panicked, 3, "{summary:?}");
    assert_eq!(
        rig.broker.dead_letters()[0].reason,
        "given up after 3 deliveries: panicked: a bug in the decoder"
    );
}

#[tokio::test(start_paused = true)]
async fn a_decision_of_ones_own_goes_before_the_default() {
    let rig = Rig::with(5);
    let consumer = consumer().decide(|outcome| match (outcome.handled, outcome.reason) {
        (Handled::Panicked, reason) => Some(dead(reason).into()),
        (_, "never mind") => Some(Settle::Ack.into()),
        (_, "not now") if outcome.attempt == 1 => Some(retry(7 * SECOND).into()),
        (_, "later") => Some(Decision::Hold),
        _ => None,
    });
    let begin = Instant::now();
    let running = rig.start(consumer, |id, before| match (id, before) {
        (0, _) => Act::Panic,
        (1, _) => Act::Say(Verdict::Permanent, "never mind"),
        (2, 0) => Act::Say(Verdict::Transient, "not now"),
        (3, 0) => Act::Say(Verdict::Transient, "later"),
        _ => Act::Succeed,
    });
    let summary = rig.finish(running).await;
    let [dead] = &rig.broker.dead_letters()[..] else { panic!("one dead letter") };
    assert_eq!((dead.id, &dead.reason[..]), (0, "panicked: in the future"));
    let again = rig.log.times(2)[1] - begin;
    assert!(again >= 7 * SECOND && again < 8 * SECOND, "{again:?}");
    assert_eq!(rig.log.calls_of(1), 1);
    assert_eq!(rig.log.calls_of(3), 2);
    assert_eq!((summary.held, summary.retried), (1, 1), "{summary:?}");
    assert_eq!(summary.delivered, 6, "what was held has spent no delivery: {summary:?}");
}

#[tokio::test(start_paused = true)]
async fn no_decision_goes_beyond_the_deliveries_that_are_allowed() {
    let rig = Rig::with(1);
    let consumer = consumer().decide(|_| Some(retry(MS).into()));
    let running = rig.start(consumer, |_, _| Act::Succeed);
    rig.finish(running).await;
    assert_eq!(rig.log.calls_of(0), 3);
    assert_eq!(rig.broker.dead_letters().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn law_12_a_decision_that_panics_is_left_to_the_default() {
    let rig = Rig::with(2);
    let consumer = consumer().decide(|outcome| match outcome.handled {
        Handled::Verdict(Verdict::Success) => None,
        _ => std::panic::resume_unwind(Box::new("a bug in decide")),
    });
    let running = rig.start(consumer, |id, before| match (id, before) {
        (0, 0) => Act::TRANSIENT,
        _ => Act::Succeed,
    });
    let summary = rig.finish(running).await;
    assert_eq!((summary.retried, summary.acked), (1, 2), "{summary:?}");
}

#[tokio::test(start_paused = true)]
async fn a_failing_message_is_a_dead_letter_after_its_last_delivery() {
    let rig = Rig::with(1);
    let begin = Instant::now();
    let running = rig.start(consumer(), |_, _| Act::Say(Verdict::Transient, "the disk is on fire"));
    let summary = rig.finish(running).await;
    let times: Vec<_> = rig.log.times(0).into_iter().map(|at| at - begin).collect();
    assert_eq!(times.len(), 3);
    for (time, expected) in times.iter().zip([0, 1, 2]) {
        assert!(*time >= expected * SECOND && *time < expected * SECOND + 100 * MS, "{times:?}");
    }
    let reason = &rig.broker.dead_letters()[0].reason;
    assert_eq!(reason, "given up after 3 deliveries: the disk is on fire");
    assert_eq!((summary.retried, summary.dead_lettered), (2, 1), "{summary:?}");
}

#[tokio::test(start_paused = true)]
async fn where_the_broker_cannot_redeliver_it_is_tried_again_in_hand() {
    let rig = Rig::new(Options { redelivers: false, ..Options::default() });
    rig.publish(0, "a");
    rig.publish(1, "a");
    let running =
        rig.start(consumer(), |id, _| if id == 0 { Act::TRANSIENT } else { Act::Succeed });
    let summary = rig.finish(running).await;
    assert_eq!(rig.log.calls_of(0), 3);
    assert_eq!((summary.retried, summary.retried_in_hand), (0, 2), "{summary:?}");
    assert_eq!((summary.delivered, summary.dead_lettered), (2, 1), "{summary:?}");
}

#[tokio::test(start_paused = true)]
async fn deliveries_count_across_redelivery_and_tries_in_hand() {
    // Its connection broke after each of two deliveries, before they were settled.
    let rig = Rig::new(Options { redelivers: false, ..Options::default() });
    rig.broker.publish_delivered([Message::new(0, "a", Kind::Good)], 1);
    let running = rig.start(consumer(), |_, _| Act::TRANSIENT);
    rig.finish(running).await;
    assert_eq!(rig.log.calls_of(0), 2, "one of three was spent before");
    assert_eq!(rig.broker.dead_letters().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_does_not_count_is_counted_for() {
    let rig = Rig::new(Options { counts: false, ..Options::default() });
    rig.publish(0, "a");
    let running = rig.start(consumer(), |_, _| Act::TRANSIENT);
    rig.finish(running).await;
    assert_eq!(rig.log.calls_of(0), 3);
    assert_eq!(rig.broker.dead_letters().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_comes_too_often_is_a_dead_letter_unhandled() {
    let rig = Rig::new(Options::default());
    rig.broker.publish_delivered([Message::new(0, "a", Kind::Good)], 3);
    rig.publish(1, "a");
    let running = rig.start(consumer(), |_, _| Act::Succeed);
    rig.finish(running).await;
    assert_eq!(rig.log.calls(), [1]);
    let reason = &rig.broker.dead_letters()[0].reason;
    assert_eq!(reason, "delivered 4 times, 3 are allowed; not handled again");
}
