//! While the dependency is down: nothing is pulled, nothing is spent.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use buttress::{
    Verdict,
    breaker::{CircuitBreaker, State},
};
use tokio::time::sleep;

use crate::{
    consumer_support::{ledger::Event, memory::Options},
    rig::{Act, MS, Rig, SECOND, breaker, consumer},
};

/// A dependency that is down until it is told to be up.
#[derive(Clone, Default)]
struct Switch(Arc<AtomicBool>);

impl Switch {
    fn turn_on(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn turn_off(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    fn act(&self) -> Act {
        if self.0.load(Ordering::Relaxed) { Act::Succeed } else { Act::TRANSIENT }
    }
}

fn switched(switch: &Switch) -> impl Fn(u64, usize) -> Act + Send + Sync + 'static {
    let switch = switch.clone();
    move |_, _| switch.act()
}

/// What the guide says of few messages: one each second, and a minute's outage.
#[tokio::test(start_paused = true)]
async fn where_messages_are_few_a_row_of_failures_keeps_them_from_the_dead_letters() {
    let dead = async |gate: CircuitBreaker| {
        let (rig, switch) = (Rig::with(0), Switch::default());
        let running = rig.start_gated(consumer(), gate, switched(&switch));
        for id in 0..60 {
            rig.publish(id, "a");
            sleep(SECOND).await;
        }
        switch.turn_on();
        sleep(60 * SECOND).await;
        assert_eq!(rig.broker.left(), 0);
        let summary = rig.finish(running).await;
        assert_eq!(summary.acked + summary.dead_lettered, 60, "{summary:?}");
        summary.dead_lettered
    };
    let shares = CircuitBreaker::builder("few").open_for(10 * SECOND);
    let row = shares.clone().consecutive_failures(3);
    assert_eq!(dead(row.build().unwrap()).await, 0, "no greater than the deliveries of a message");
    assert!(dead(shares.build().unwrap()).await > 0, "the window wants to see more than there is");
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_stops_the_pulling_and_holds_what_is_in_hand() {
    let rig = Rig::new(Options {
        ack_wait: Some(2 * SECOND),
        extend_every: Some(SECOND),
        ..Options::default()
    });
    (0..100).for_each(|id| rig.publish(id, "a"));
    let (switch, breaker) = (Switch::default(), breaker());
    let running = rig.start_gated(consumer(), breaker, switched(&switch));
    // Two failures open it for ten seconds.
    sleep(SECOND).await;
    assert_eq!(breaker.state(), State::Open);
    let status = running.status();
    assert!(status.paused_since.is_some(), "{status:?}");
    assert!(rig.ledger.is_paused());
    let (calls, deliveries) = (rig.log.calls().len(), rig.ledger.deliveries());
    assert!(deliveries <= 8, "the prefetch");
    let polls = rig.ledger.polls();
    sleep(8 * SECOND).await;
    assert_eq!(rig.log.calls().len(), calls, "nobody is called while it is open");
    assert_eq!(rig.ledger.deliveries(), deliveries, "nothing is pulled while it is open");
    let polls = rig.ledger.polls() - polls;
    assert!(polls <= 200, "{polls} polls in eight seconds of heartbeats for eight");
    switch.turn_on();
    sleep(2 * SECOND).await;
    assert_eq!(breaker.state(), State::Closed);
    let summary = rig.finish(running).await;
    // Those that failed before it opened were spent: the first, and the second opened it.
    assert!(summary.retried <= 1, "{summary:?}");
    assert_eq!(summary.acked, 100, "{summary:?}");
    assert_eq!(summary.delivered, 100 + summary.retried, "heartbeats went on: {summary:?}");
    assert!(rig.ledger.delivered().values().all(|(_, attempt)| *attempt <= Some(2)));
}

#[tokio::test(start_paused = true)]
async fn no_more_than_the_probes_are_handled_while_half_open() {
    let rig = Rig::with(100);
    let breaker = breaker();
    let running = rig.start_gated(consumer(), breaker, |_, _| Act::FailAfter(100 * MS));
    sleep(SECOND).await;
    assert_eq!(breaker.state(), State::Open);
    let before = rig.log.calls().len();
    // Open since 100 ms, half-open at 10.1 s.
    sleep(9 * SECOND + 150 * MS).await;
    assert_eq!(breaker.state(), State::HalfOpen);
    assert_eq!(rig.log.running(), 2, "two probes");
    assert_eq!(rig.log.calls().len(), before + 2);
    sleep(SECOND).await;
    assert_eq!(breaker.state(), State::Open, "they failed");
    assert_eq!(rig.log.calls().len(), before + 2);
    drop(running);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_fails_spends_nothing_and_another_message_is_the_next() {
    let rig = Rig::with(8);
    let (switch, breaker) = (Switch::default(), breaker());
    let running = rig.start_gated(consumer(), breaker, switched(&switch));
    sleep(95 * SECOND).await;
    // Nine phases of two probes, of eight held messages: each had its turn, more than once.
    let probes = rig.log.calls();
    for id in 0..8 {
        let times = rig.log.calls_of(id);
        assert!((2..=4).contains(&times), "{id} was tried {times} times: {probes:?}");
    }
    assert_eq!(rig.ledger.deliveries(), 8);
    switch.turn_on();
    let summary = rig.finish(running).await;
    assert_eq!((summary.acked, summary.dead_lettered), (8, 0), "{summary:?}");
    assert_eq!(summary.retried, summary.delivered - 8, "{summary:?}");
    assert!(summary.retried <= 1, "{summary:?}");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_pulled_through_a_gate_that_is_open_from_the_start() {
    let rig = Rig::with(100);
    let breaker = breaker();
    breaker.force_open("maintenance", None);
    let running = rig.start_gated(consumer(), breaker, |_, _| Act::Succeed);
    sleep(60 * SECOND).await;
    assert_eq!((rig.ledger.deliveries(), rig.log.calls().len()), (0, 0));
    assert!(rig.ledger.polls() < 10, "{} polls", rig.ledger.polls());
    breaker.reset();
    sleep(MS).await;
    assert!(rig.ledger.deliveries() > 0, "it goes on at once");
    let summary = rig.finish(running).await;
    assert_eq!(summary.acked, 100);
}

#[tokio::test(start_paused = true)]
async fn a_half_open_circuit_pulls_no_more_than_its_probes() {
    let rig = Rig::with(100);
    let (switch, breaker) = (Switch::default(), breaker());
    for _ in 0..2 {
        breaker.try_acquire().unwrap().record(Verdict::Transient);
    }
    let running = rig.start_gated(consumer(), breaker, switched(&switch));
    sleep(9 * SECOND).await;
    assert_eq!(rig.ledger.deliveries(), 0);
    sleep(2 * SECOND).await;
    assert_eq!(rig.ledger.deliveries(), 2, "two probes");
    assert_eq!(rig.log.calls().len(), 2);
    sleep(10 * SECOND).await;
    assert_eq!(rig.ledger.deliveries(), 3, "both failed again: another one for the next probe");
    switch.turn_on();
    rig.finish(running).await;
}

#[tokio::test(start_paused = true)]
async fn a_gate_forced_open_in_the_middle_stops_what_has_not_begun() {
    let rig = Rig::with(100);
    let breaker = breaker();
    let running = rig.start_gated(consumer(), breaker, |_, _| Act::Take(100 * MS));
    sleep(SECOND + 50 * MS).await;
    breaker.force_open("maintenance", Some(5 * SECOND));
    let calls = rig.log.calls().len();
    sleep(4 * SECOND).await;
    assert_eq!(rig.log.calls().len(), calls);
    assert_eq!(rig.log.running(), 0, "those that had begun ended");
    assert_eq!(rig.log.succeeded().len(), calls);
    let summary = rig.finish(running).await;
    assert_eq!(summary.acked, 100, "and when the time is over it goes on");
}

/// The breaker is in the stack and nobody has said that it is the gate: what is refused is noticed.
#[tokio::test(start_paused = true)]
async fn a_refusal_never_spends_a_delivery() {
    let rig = Rig::with(20);
    let (switch, breaker) = (Switch::default(), breaker());
    let handler = rig.handler(switched(&switch)).behind(breaker);
    let running = consumer().build().unwrap().start(rig.source(), handler);
    sleep(60 * SECOND).await;
    assert!(running.status().paused_since.is_some());
    assert!(rig.ledger.is_paused());
    let summary = running.status().summary;
    // Each probe that is let through and fails spends one; there are two in ten seconds.
    assert!(summary.retried + summary.dead_lettered <= 14, "{summary:?}");
    switch.turn_on();
    sleep(15 * SECOND).await;
    assert!(running.status().paused_since.is_none(), "{:?}", running.status());
    let summary = rig.finish(running).await;
    assert_eq!(summary.acked + summary.dead_lettered, 20, "{summary:?}");
}

/// A policy that refuses for so long as it is told to, with nothing that fails behind it.
#[tokio::test(start_paused = true)]
async fn what_is_refused_for_hours_is_handled_at_its_first_delivery() {
    let rig = Rig::with(20);
    let shut = CircuitBreaker::builder("shut").build().unwrap();
    shut.force_open("maintenance", None);
    let handler = rig.handler(|_, _| Act::Succeed).behind(shut);
    let running = consumer().build().unwrap().start(rig.source(), handler);
    sleep(3 * 3600 * SECOND).await;
    assert!(rig.log.calls().is_empty(), "{:?}", rig.log.calls());
    let held = running.status().summary.held;
    // Once a second, as `probe_after` says, beside those that were refused at first.
    assert!((10_000..=10_804).contains(&held), "{held} tries in three hours");
    shut.reset();
    let summary = rig.finish(running).await;
    assert_eq!((summary.acked, summary.delivered), (20, 20), "{summary:?}");
}

#[tokio::test(start_paused = true)]
async fn a_failure_while_the_gate_is_shut_is_held_for_it_says_nothing() {
    let rig = Rig::with(4);
    let breaker = breaker();
    // All four begin; two fail at once and open it, the others fail while it is open.
    let running = rig.start_gated(consumer(), breaker, |id, before| match (id, before) {
        (0 | 1, 0) => Act::TRANSIENT,
        (_, 0) => Act::FailAfter(3 * SECOND),
        _ => Act::Succeed,
    });
    sleep(5 * SECOND).await;
    let summary = running.status().summary;
    assert!(summary.held >= 3, "{summary:?}");
    let summary = rig.finish(running).await;
    assert!(summary.retried <= 1, "{summary:?}");
    assert_eq!(summary.acked, 4);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_poisonous_is_known_by_a_probe_too() {
    let rig = Rig::with(8);
    let (switch, breaker) = (Switch::default(), breaker());
    let acts = switched(&switch);
    let running = rig.start_gated(consumer(), breaker, move |id, before| match id {
        5 if matches!(acts(5, 0), Act::Succeed) => Act::Say(Verdict::Permanent, "no"),
        _ => acts(id, before),
    });
    sleep(SECOND).await;
    switch.turn_on();
    rig.finish(running).await;
    let [dead] = &rig.broker.dead_letters()[..] else { panic!("one dead letter") };
    assert_eq!((dead.id, &dead.reason[..]), (5, "no"));
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_hours_costs_nothing_and_wakes_nobody() {
    let rig = Rig::with(100);
    let (switch, breaker) = (Switch::default(), breaker());
    switch.turn_on();
    let running = rig.start_gated(consumer(), breaker, switched(&switch));
    sleep(SECOND).await;
    rig.broker.publish(crate::consumer_support::message::Message::good(200, 200).split_off(100));
    switch.turn_off();
    sleep(SECOND).await;
    let polls = rig.ledger.polls();
    sleep(3600 * SECOND).await;
    // 360 phases of two probes; a probe wakes it to start, at its end, and at the gate's change.
    let polls = rig.ledger.polls() - polls;
    assert!(polls <= 360 * 2 * 4, "{polls} polls in an hour");
    switch.turn_on();
    let summary = rig.finish(running).await;
    assert_eq!(summary.acked, 200);
    assert_eq!(rig.ledger.count(|event| *event == Event::Failed), 0);
}

#[tokio::test(start_paused = true)]
async fn what_was_asked_for_before_and_comes_while_it_is_open_is_held() {
    let rig = Rig::new(Options {
        pulls: true,
        ack_wait: Some(2 * SECOND),
        extend_every: Some(SECOND),
        ..Options::default()
    });
    let breaker = breaker();
    let running = rig.start_gated(consumer(), breaker, |_, _| Act::Succeed);
    sleep(SECOND).await;
    breaker.force_open("maintenance", None);
    sleep(SECOND).await;
    (0..20).for_each(|id| rig.publish(id, "a"));
    sleep(60 * SECOND).await;
    assert_eq!((rig.ledger.deliveries(), rig.ledger.in_hand()), (8, 8), "the prefetch");
    assert!(rig.log.calls().is_empty(), "{:?}", rig.log.calls());
    breaker.reset();
    let summary = rig.finish(running).await;
    assert_eq!((summary.delivered, summary.acked), (20, 20), "{summary:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_held_when_the_source_ends_is_handled_when_the_circuit_closes() {
    let rig = Rig::with(8);
    let breaker = breaker();
    let running = rig.start_gated(consumer(), breaker, |_, _| Act::Take(MS));
    breaker.force_open("maintenance", None);
    sleep(SECOND).await;
    breaker.reset();
    sleep(MS / 2).await;
    breaker.force_open("maintenance", Some(60 * SECOND));
    rig.broker.end_now();
    let summary = running.wait().await;
    assert_eq!((summary.delivered, summary.acked), (8, 8), "{summary:?}");
    rig.ledger.assert_lawful();
}
