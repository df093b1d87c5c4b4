use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use buttress::consumer::Settle;
use tokio::time::{Instant, sleep};

use super::{Broker, breaker, dead_ids, eventually, start};
use crate::consumer_support::{
    dependency::Dependency,
    ledger::{Event, Ledger, Said},
    message::Message,
};

/// Handled this often or more, the broker is killed.
const CRASHES: [usize; 2] = [300, 800];

/// The broker is killed and restarted in the middle, twice: the consumer resumes by itself, nothing
/// is lost, and what is handled twice was in hand at a crash.
pub async fn crash<B: Broker>(broker: &B) {
    let count = 2_000;
    broker.publish(&Message::good(count, 40)).await;
    let dependency = Dependency::taking(Duration::from_millis(5));
    let ledger = Ledger::default();
    let running = start(broker, &dependency, breaker(), false, &ledger).await;
    let mut forgotten = 0;
    for handled in CRASHES {
        eventually("some are handled", async || dependency.count_done() >= handled).await;
        broker.kill().await;
        forgotten += acked_since(&ledger, Instant::now() - B::FORGETS);
        // Long enough for it to be noticed, and for what was under way to end.
        sleep(Duration::from_secs(1)).await;
        broker.restart().await;
    }
    let ids = |done: Vec<_>| done.into_iter().map(|done: super::super::dependency::Done| done.id);
    eventually("all are handled and settled", async || {
        ids(dependency.done()).collect::<BTreeSet<_>>().len() as u64 == count
            && broker.left().await == 0
    })
    .await;
    let summary = running.shutdown(Duration::from_secs(10)).await;
    ledger.assert_lawful();
    assert_eq!(broker.left().await, 0, "left after {summary:?}");
    assert_eq!(dead_ids(broker).await, BTreeSet::new());

    let mut times: BTreeMap<u64, usize> = BTreeMap::new();
    for id in ids(dependency.done()) {
        *times.entry(id).or_default() += 1;
    }
    let duplicates = times.values().map(|times| times - 1).sum::<usize>();
    let in_hand = CRASHES.len() * ledger.most_in_hand();
    assert!(
        duplicates <= in_hand + forgotten,
        "{duplicates} duplicates, {in_hand} were in hand, {forgotten} acks may be forgotten"
    );
    println!(
        "crash: {duplicates} duplicates of at most {in_hand} and {forgotten} forgotten, {} errors of the source, {summary:?}",
        ledger.count(|event| *event == Event::Failed)
    );
}

/// How many the broker has confirmed since then.
fn acked_since(ledger: &Ledger, since: Instant) -> usize {
    let entries = ledger.entries();
    let acked = entries.iter().filter(|entry| {
        let event = &entry.event;
        matches!(event, Event::Settled { settle: Settle::Ack, said: Said::Yes, .. })
            && entry.at >= since
    });
    acked.count()
}
