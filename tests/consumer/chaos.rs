//! Everything at once, at random. Whatever happens, every message comes to its end.

use std::collections::{BTreeMap, BTreeSet};

use buttress::{
    Verdict,
    breaker::CircuitBreaker,
    consumer::{Running, Summary},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::{sleep, timeout};

use crate::{
    consumer_support::{
        memory::{Options, Unconfirmed},
        message::{Kind, Message},
    },
    rig::{Act, MS, Rig, SECOND, breaker, consumer},
};

const RUNS: u64 = 100;
const KEYS: u64 = 5;
const CONCURRENCY: usize = 10;

struct Chaos {
    rng: StdRng,
    seed: u64,
    rig: Rig,
    ordered: bool,
    gate: Option<CircuitBreaker>,
    published: u64,
}

impl Chaos {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let leased = rng.random_bool(0.5);
        let options = Options {
            prefetch: rng.random_range(1..=20),
            ack_wait: leased.then_some(2 * SECOND),
            extend_every: leased.then_some(SECOND),
            redelivers: rng.random_bool(0.5),
            counts: rng.random_bool(0.7),
            settle_takes: MS * rng.random_range(0..50),
            pulls: rng.random_bool(0.5),
        };
        let gate = rng.random_bool(0.5).then(breaker);
        let ordered = rng.random_bool(0.5);
        Chaos { rng, seed, rig: Rig::new(options), ordered, gate, published: 0 }
    }

    fn publish(&mut self, count: u64) {
        let ids = self.published..self.published + count;
        self.published = ids.end;
        let message = |id| Message::new(id, &format!("key-{}", id % KEYS), Kind::Good);
        self.rig.broker.publish(ids.map(message));
    }

    fn start(&mut self) -> Running {
        let concurrency = self.rng.random_range(1..=CONCURRENCY);
        let mut consumer = consumer().concurrency(concurrency).max_deliveries(4);
        if self.ordered {
            consumer = consumer.ordered();
        }
        let seed = self.seed;
        let script = move |id, before| act(seed, id, before);
        match self.gate {
            Some(gate) => self.rig.start_gated(consumer, gate, script),
            None => self.rig.start(consumer, script),
        }
    }

    /// One misfortune of a broker or a dependency.
    async fn strike(&mut self) {
        let broker = self.rig.broker.clone();
        let long = MS * self.rng.random_range(0..5000);
        match self.rng.random_range(0..5) {
            0 => broker.disconnect(self.rng.random_range(0..3)),
            1 => {
                broker.stop();
                sleep(long).await;
                broker.start();
            }
            2 => {
                let heard = self.rng.random_bool(0.5);
                let how = if heard { Unconfirmed::Heard } else { Unconfirmed::Unheard };
                broker.do_not_confirm(vec![how; self.rng.random_range(1..20)]);
            }
            3 => match self.gate {
                Some(gate) => gate.force_open("chaos", Some(long)),
                None => self.publish(1),
            },
            _ => self.publish(10),
        }
    }
}

/// What the handler does, the same each time for the same seed.
fn act(seed: u64, id: u64, before: usize) -> Act {
    let mut rng = StdRng::seed_from_u64(seed ^ (id << 20) ^ ((before as u64) << 50));
    match rng.random_range(0..100) {
        0..15 => Act::TRANSIENT,
        15..20 => Act::Fail(Verdict::Permanent),
        20..25 => Act::Panic,
        25..28 => Act::PanicInCall,
        28..32 => Act::Fail(Verdict::Throttled { retry_after: Some(3 * SECOND) }),
        32..36 => Act::Fail(Verdict::Refused { retry_after: None }),
        36..40 => Act::FailAfter(MS * rng.random_range(0..3000)),
        40..42 => Act::Take(10 * SECOND),
        42..80 => Act::Take(MS * rng.random_range(0..200)),
        _ => Act::Succeed,
    }
}

/// Each delivery has exactly one end.
fn assert_adds_up(summary: Summary) {
    let Summary { acked, retried, dead_lettered, released, unconfirmed, lost, .. } = summary;
    let ends = [acked, retried, dead_lettered, released, unconfirmed, lost];
    assert_eq!(ends.iter().sum::<u64>(), summary.delivered, "{summary:?}");
}

async fn run(seed: u64) {
    let mut chaos = Chaos::new(seed);
    chaos.publish(60);
    let calm = chaos.rng.random_bool(0.3);
    let mut running = chaos.start();
    for _ in 0..8 {
        sleep(MS * chaos.rng.random_range(0..2000)).await;
        if calm {
            chaos.publish(5);
        } else if chaos.rng.random_bool(0.2) {
            assert_adds_up(running.shutdown(MS * chaos.rng.random_range(0..5000)).await);
            // Its connection goes with it.
            chaos.rig.broker.disconnect(0);
            running = chaos.start();
        } else {
            chaos.strike().await;
        }
    }
    // A broker without an ack wait notices only at the end of a connection that an acknowledgement
    // never came which the consumer has given up.
    sleep(600 * SECOND).await;
    chaos.rig.broker.confirm();
    chaos.rig.broker.disconnect(0);
    chaos.rig.broker.end();
    let ended = timeout(24 * 3600 * SECOND, running.wait()).await;
    let summary = ended.expect("it comes to its end within a day");
    assert_adds_up(summary);

    let Chaos { rig, published, ordered, .. } = chaos;
    rig.ledger.assert_lawful();
    assert_eq!(rig.ledger.in_hand(), 0);
    assert_eq!(rig.broker.left(), 0, "{summary:?}");
    assert!(rig.log.most_running() <= CONCURRENCY);
    let acked: BTreeSet<u64> = rig.broker.acked().into_iter().collect();
    let dead: BTreeSet<u64> = rig.broker.dead_letters().into_iter().map(|dead| dead.id).collect();
    let succeeded: BTreeSet<u64> = rig.log.succeeded().into_iter().collect();
    assert_eq!(&acked | &dead, (0..published).collect(), "lost");
    assert!(acked.is_subset(&succeeded), "acked, and never handled: {:?}", &acked - &succeeded);
    if calm && ordered {
        let mut last: BTreeMap<u64, u64> = BTreeMap::new();
        for id in rig.log.calls() {
            let last = last.entry(id % KEYS).or_default();
            assert!(id >= *last, "{id} after {last}");
            *last = id;
        }
    }
}

#[test]
fn law_05_whatever_happens_every_message_comes_to_its_end() {
    for seed in 0..RUNS {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        // The seed of a failure is the last that is told.
        println!("seed {seed}");
        runtime.block_on(run(seed));
    }
}
