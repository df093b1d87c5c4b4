use std::{collections::BTreeSet, time::Duration};

use super::{Broker, breaker, dead_ids, eventually, start};
use crate::consumer_support::{
    dependency::{Dependency, Trouble},
    ledger::Ledger,
    message::Message,
};

const COUNT: u64 = 1_000;

/// Shutdown under load: what was acked was handled, what was in hand is settled, and a second
/// consumer does the rest, nothing twice.
pub async fn shutdown<B: Broker>(broker: &B) {
    broker.publish(&Message::good(COUNT, 40)).await;
    let dependency = Dependency::taking(Duration::from_millis(20));
    let ledger = Ledger::default();
    let running = start(broker, &dependency, breaker(), false, &ledger).await;
    eventually("some are handled", async || dependency.count_done() >= 200).await;
    let summary = running.shutdown(Duration::from_secs(10)).await;
    let acked = assert_summed_up(broker, &dependency, &ledger, &summary).await;
    assert_eq!(acked, dependency.count_done(), "what was running was let finish: {summary:?}");
    take_over(broker, &dependency, &ledger).await;
    assert_eq!(dependency.count_done() as u64, COUNT, "none was handled twice");
}

/// A shutdown that some handlers are too slow for: those are given back, not acked.
pub async fn hard_shutdown<B: Broker>(broker: &B) {
    broker.publish(&Message::good(COUNT, 40)).await;
    // Longer than the deadline, shorter than the stack's timeout.
    let dependency = Dependency::taking(Duration::from_millis(60));
    let ledger = Ledger::default();
    let running = start(broker, &dependency, breaker(), false, &ledger).await;
    eventually("some are handled", async || dependency.count_done() >= 100).await;
    dependency.fail(Trouble::BlackHole);
    let summary = running.shutdown(Duration::from_millis(10)).await;
    assert_summed_up(broker, &dependency, &ledger, &summary).await;
    assert!(summary.released > 0, "{summary:?}");
    dependency.recover();
    take_over(broker, &dependency, &ledger).await;
}

/// Returns how many were acked.
async fn assert_summed_up<B: Broker>(
    broker: &B,
    dependency: &Dependency,
    ledger: &Ledger,
    summary: &buttress::consumer::Summary,
) -> usize {
    ledger.assert_lawful();
    let acked: BTreeSet<u64> = ledger.ids_settled_as("ack").into_iter().collect();
    let handled: BTreeSet<u64> = dependency.done().into_iter().map(|done| done.id).collect();
    assert!(acked.is_subset(&handled), "acked, and not handled: {:?}", &acked - &handled);
    let told = [summary.acked, summary.retried, summary.dead_lettered, summary.released];
    let names = ["ack", "retry", "dead_letter", "release"];
    assert_eq!(told, names.map(|name| ledger.settled_as(name) as u64), "{names:?}");
    assert_eq!(ledger.in_hand(), 0, "{summary:?}");
    assert_eq!(ledger.deliveries() as u64, told.iter().sum::<u64>(), "{summary:?}");
    assert_eq!(dead_ids(broker).await, BTreeSet::new());
    let left = COUNT as usize - acked.len();
    eventually("those that were not acked are left", async || broker.left().await == left).await;
    acked.len()
}

async fn take_over<B: Broker>(broker: &B, dependency: &Dependency, ledger: &Ledger) {
    let running = start(broker, dependency, breaker(), false, ledger).await;
    eventually("the second one does the rest", async || broker.left().await == 0).await;
    running.shutdown(Duration::from_secs(10)).await;
    ledger.assert_lawful();
    let handled: BTreeSet<u64> = dependency.done().into_iter().map(|done| done.id).collect();
    assert_eq!(handled, (0..COUNT).collect());
    // What was given back costs at most one delivery.
    for (id, (_, most)) in ledger.delivered() {
        assert!(most <= Some(2), "{id} has had {most:?} deliveries");
    }
}
