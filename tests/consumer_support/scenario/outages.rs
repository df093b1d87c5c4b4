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
    let dependency = Dependency::script(Duration::from_millis(1), episodes);
    let ledger = Ledger::default();
    let running = start(broker, &dependency, breaker(), order == Order::PerKey, &ledger).await;

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
    let mut times: BTreeMap<u64, usize> = BTreeMap::new();
    for done in dependency.done() {
        *times.entry(done.id).or_default() += 1;
    }
    let handled: BTreeSet<u64> = times.keys().copied().collect();
    assert_eq!(handled, good.union(&rejected).copied().collect());

    // Twice only where the consumer was told that its settlement had not arrived, or may not have.
    let duplicates = times.values().map(|times| times - 1).sum::<usize>();
    let excused = ledger.not_settled(Said::Lost) + ledger.not_settled(Said::Unconfirmed);
    assert!(duplicates <= excused, "{duplicates} duplicates, {excused} lost or unconfirmed");

    // An outage costs the deliveries that failed before it was known, and a failure is known after a
    // window of them at the latest. Flaky messages cost one each, unless they failed in an outage,
    // which is nobody's fault. No message came near the end of its deliveries.
    let (own, spent): (Vec<u64>, Vec<u64>) =
        ledger.ids_settled_as("retry").into_iter().partition(|id| flaky.contains(id));
    let bound = episodes.len() * WINDOW as usize;
    assert!(
        spent.len() <= bound,
        "{} deliveries spent by {} episodes",
        spent.len(),
        episodes.len()
    );
    let in_hand = usize::try_from(summary.retried_in_hand).unwrap();
    let tried_again = own.len() + in_hand;
    assert!(tried_again >= flaky.len() / 2, "{tried_again} of {} flaky ones", flaky.len());
    assert!(tried_again <= flaky.len() + bound, "{tried_again} of {} flaky ones", flaky.len());
    let delivered = ledger.delivered();
    let most = delivered.iter().filter(|(id, _)| good.contains(id)).map(|(_, (_, most))| *most);
    let most_deliveries = most.max().flatten();
    assert!(most_deliveries < Some(MAX_DELIVERIES), "{most_deliveries:?} deliveries");
    let retries = own.len() + spent.len();
    if order == Order::PerKey {
        assert_eq!(retries, 0, "a retry at the broker breaks the order");
        assert_ordered(&dependency);
    }
    let report = Report { messages: count, duplicates, retries, most_deliveries, took };
    println!("outages: {report:?}, {summary:?}");
    report
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
