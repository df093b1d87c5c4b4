use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    Broker, MAX_DELIVERIES, WINDOW, breaker, dead_ids, eventually, messages, outage, start,
};
use crate::consumer_support::{
    dependency::{Dependency, Episode, Trouble},
    ledger::{Ledger, Said},
    message::{Kind, Message, id_of, kind_of},
};

/// Whether the order of each key is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Any,
    PerKey,
}

/// What happened, for a test that wants to say more of its broker.
#[derive(Debug)]
pub struct Report {
    pub messages: u64,
    /// Handled more than once although nothing went wrong with the handling.
    pub duplicates: usize,
    /// Deliveries that the consumer asked for again.
    pub retries: usize,
    /// The most that any message that was handled in the end had, where the broker counts.
    pub most_deliveries: Option<u32>,
    pub took: Duration,
}

/// Keys that the messages are spread over.
const KEYS: u64 = 40;

/// Thousands of messages through a dependency that fails in every way it can, one after the other,
/// with a poisonous message now and then.
pub async fn outages<B: Broker>(broker: &B, order: Order) -> Report {
    let count = messages();
    let begin = tokio::time::Instant::now();
    broker.publish(&Message::series(count, KEYS)).await;
    let at = |percent| usize::try_from(count * percent / 100).unwrap();
    let episodes = [
        (10, Trouble::Errors, Duration::from_millis(200)),
        (20, Trouble::Panics, Duration::from_millis(200)),
        (30, Trouble::BlackHole, Duration::from_millis(700)),
        (40, Trouble::Errors, outage()),
        (60, Trouble::Errors, Duration::from_millis(50)),
        (80, Trouble::BlackHole, Duration::from_millis(300)),
    ]
    .map(|(percent, trouble, lasting)| Episode { after: at(percent), trouble, lasting });
    let breaker = breaker();
    let dependency = Dependency::script(Duration::from_millis(1), episodes).behind(breaker);
    let ledger = Ledger::default();
    let running = start(broker, &dependency, breaker, order == Order::PerKey, &ledger).await;

    let of = |kind| (0..count).filter(move |id| kind_of(*id) == kind).collect::<BTreeSet<_>>();
    let [flaky, rejected, garbage] = [of(Kind::Flaky), of(Kind::Rejected), of(Kind::Garbage)];
    let good: BTreeSet<u64> = of(Kind::Good).union(&flaky).copied().collect();
    eventually("every message is settled", async || {
        ledger.settled_as("ack") + ledger.settled_as("dead_letter") >= at(100)
            && broker.left().await == 0
    })
    .await;
    let summary = running.shutdown(Duration::from_secs(10)).await;
    let took = begin.elapsed();

    ledger.assert_lawful();
    assert_eq!(dependency.episodes_left(), 0, "the dependency did not fail as it should");
    assert_eq!(broker.left().await, 0, "left after {summary:?}");

    // Dead letters are the poisonous ones, each with its own reason, and nothing else.
    let poisonous: BTreeSet<u64> = rejected.union(&garbage).copied().collect();
    assert_eq!(dead_ids(broker).await, poisonous);
    for (body, reason) in broker.dead_letters().await {
        let id = id_of(&body);
        let said = if garbage.contains(&id) { "utf-8" } else { &format!("order {id} is rejected") };
        assert!(reason.contains(said), "{id} is dead because {reason:?}");
    }

    // Everything else was handled.
    let times = count_each(dependency.done().into_iter().map(|done| done.id));
    let handled: BTreeSet<u64> = times.keys().copied().collect();
    assert_eq!(handled, good.union(&rejected).copied().collect());

    // What was held through the outages was never taken for lost: heartbeats went on, and nothing came
    // again unasked.
    assert_eq!(ledger.not_settled(Said::Lost), 0, "lost, and the broker was there all the time");
    // Twice only where the broker may have heard a settlement, or not.
    let duplicates = times.values().map(|times| times - 1).sum::<usize>();
    let excused = ledger.not_settled(Said::Unconfirmed);
    assert!(duplicates <= excused, "{duplicates} duplicates, {excused} unconfirmed");
    let retries = count_each(ledger.ids_settled_as("retry"));
    let delivered = ledger.delivered();
    let unasked = delivered
        .iter()
        .filter(|(id, (times, _))| *times as usize > 1 + retries.get(id).copied().unwrap_or(0));
    let unasked: Vec<u64> = unasked.map(|(id, _)| *id).collect();
    assert!(unasked.len() <= excused, "delivered again, unasked: {unasked:?}");

    // A delivery is spent by a failure that came before the outage was known, so by a call that began
    // while the circuit was closed; and known it is after a window of failures at the latest. (That it
    // closes while the other probe is on its way to its failure can happen once at the end of each.)
    let calls = dependency.calls();
    let troubled = calls.iter().filter(|call| call.trouble.is_some() && call.closed);
    let evidence = count_each(troubled.map(|call| call.id));
    let steady = retries.iter().filter(|(id, _)| !flaky.contains(id));
    let without = steady.clone().filter(|(id, times)| evidence.get(id).unwrap_or(&0) < times);
    let without: Vec<_> = without.collect();
    assert!(without.len() <= episodes.len(), "spent while the circuit was open: {without:?}");
    let spent: usize = steady.map(|(_, times)| times).sum();
    let bound = episodes.len() * WINDOW as usize;
    assert!(spent <= bound, "{spent} deliveries spent by {} episodes", episodes.len());

    // A flaky message costs one, unless it failed in an outage, which is nobody's fault. No message
    // came near the end of its deliveries.
    let retries: usize = retries.values().sum();
    let tries = retries + usize::try_from(summary.retried_in_hand).unwrap();
    let evidence: usize = evidence.values().sum();
    let most = flaky.len() + evidence + episodes.len();
    assert!(tries >= flaky.len() / 2, "{tries} of {} flaky ones", flaky.len());
    assert!(tries <= most, "{tries} tries spent, {} flaky ones, {evidence}", flaky.len());
    let most = delivered.iter().filter(|(id, _)| good.contains(id)).map(|(_, (_, most))| *most);
    let most_deliveries = most.max().flatten();
    assert!(most_deliveries < Some(MAX_DELIVERIES), "{most_deliveries:?} deliveries");
    if order == Order::PerKey {
        assert_eq!(retries, 0, "a retry at the broker breaks the order");
        assert_ordered(&dependency);
    }
    let report = Report { messages: count, duplicates, retries, most_deliveries, took };
    println!("outages: {report:?}, {summary:?}");
    report
}

fn count_each(ids: impl IntoIterator<Item = u64>) -> BTreeMap<u64, usize> {
    let mut times = BTreeMap::new();
    for id in ids {
        *times.entry(id).or_default() += 1;
    }
    times
}

/// No call for a message was made before the one ahead of it in its key was through.
fn assert_ordered(dependency: &Dependency) {
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    for call in dependency.calls() {
        let last = last.entry(call.key.clone()).or_default();
        assert!(call.id >= *last, "{} of {} came after {last}", call.id, call.key);
        *last = call.id;
    }
}
