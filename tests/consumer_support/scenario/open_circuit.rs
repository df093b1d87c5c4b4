use std::time::Duration;

use buttress::breaker::State;
use tokio::time::{Instant, sleep};

use super::{Broker, LONGEST_OPEN, WINDOW, breaker, eventually, start};
use crate::consumer_support::{
    dependency::{Dependency, Trouble},
    ledger::Ledger,
    message::Message,
    process::cpu_without,
};

/// For how long the circuit is watched.
const WATCHED: Duration = Duration::from_secs(2);

/// What an idle consumer may cost: heartbeats, a probe now and then, and the client.
const IDLE: Duration = Duration::from_millis(100);

/// While the circuit is open: nothing is pulled beyond the prefetch, nothing spins, and work
/// resumes within the time until the next probe.
///
/// Measures the processor time of the process, so a test runs this with
/// [`alone`](crate::consumer_support::child::alone). Threads whose names start with one of `others`
/// do not count.
pub async fn open_circuit<B: Broker>(broker: &B, others: &[&str]) {
    let count = 1_000;
    broker.publish(&Message::good(count, 40)).await;
    let dependency = Dependency::taking(Duration::from_millis(1));
    let (breaker, ledger) = (breaker(), Ledger::default());
    let running = start(broker, &dependency, breaker, false, &ledger).await;
    eventually("some are handled", async || dependency.count_done() >= 200).await;
    dependency.fail(Trouble::Errors);
    eventually("the circuit opens", async || breaker.state() != State::Closed).await;
    // What was under way ends, and the client takes what it had asked for.
    sleep(Duration::from_millis(500)).await;

    let done = dependency.count_done();
    let room = B::PREFETCH - ledger.in_hand();
    let [calls, deliveries, polls] =
        [dependency.calls().len(), ledger.deliveries(), ledger.polls()];
    let cpu = cpu_without(others);
    assert!(running.status().paused_since.is_some(), "{:?}", running.status());
    sleep(WATCHED).await;
    let cpu = cpu_without(others).saturating_sub(cpu);
    let calls = dependency.calls().len() - calls;
    let polls = ledger.polls() - polls;
    // A probe fails, is held, and may come with another attempt in the stack.
    let phases = WATCHED.div_duration_f64(LONGEST_OPEN / 8).ceil() as usize;
    println!("open: {cpu:?} of processor time, {polls} polls, {calls} probes in {WATCHED:?}");
    assert!(ledger.is_paused(), "the source was not told to stop");
    assert!(ledger.deliveries() <= deliveries + room, "pulled while the circuit was open");
    assert!(calls > 0 && calls <= 4 * phases, "{calls} probes");
    assert!(cpu <= IDLE, "{cpu:?} of processor time in {WATCHED:?}");
    assert!(polls <= 200, "{polls} polls in {WATCHED:?}");
    assert_eq!(dependency.count_done(), done);

    dependency.recover();
    let recovered = Instant::now();
    eventually("work goes on", async || dependency.count_done() > done).await;
    let resumed = recovered.elapsed();
    println!("open: work went on {resumed:?} after the recovery");
    // The machine is shared.
    assert!(resumed <= LONGEST_OPEN + Duration::from_millis(500), "resumed after {resumed:?}");
    eventually("everything is settled", async || broker.left().await == 0).await;
    running.shutdown(Duration::from_secs(10)).await;
    ledger.assert_lawful();
    let retries = ledger.settled_as("retry");
    assert!(retries <= WINDOW as usize, "{retries} deliveries spent by one outage");
    assert_eq!(ledger.settled_as("ack") as u64, count);
}
