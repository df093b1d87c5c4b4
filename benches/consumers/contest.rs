//! The two sides, the rounds and the table.

use std::{
    convert::Infallible,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use buttress::{
    Error,
    consumer::{Consumer, Delivery, Source},
};
use tokio::{sync::Notify, time::Instant};
use tower::service_fn;

use crate::process::cpu_without;

/// Handlers at a time, on both sides.
pub(crate) const CONCURRENCY: usize = 16;

/// Messages of one turn.
const MESSAGES: u64 = 20_000;

/// Rounds that count; one more before them does not.
const ROUNDS: usize = 7;

/// What the issue allows: at most so much of the bare loop's processor time, and at least so much of
/// its throughput.
const COST: f64 = 1.3;
const SPEED: f64 = 0.9;

/// A broker, and the loop that one would write with its client.
pub(crate) trait Contest {
    type Source: Source;

    const NAME: &'static str;

    /// Threads of this process that are not the client's start with one of these names.
    const OTHERS: &'static [&'static str] = &[];

    /// Whether a group of consumers is joined first, and waited for. The time of a turn then counts from
    /// the first message that is handled.
    const JOINS: bool = false;

    /// Whether the limits are for this one: not where there is no client whose cost to compare with.
    const LIMITED: bool = true;

    /// Fills the queue, which is empty, with so many messages of about 100 bytes.
    async fn fill(&self, messages: u64);

    /// A subscription for buttress, with the prefetch that [`bare`](Self::bare) has.
    async fn source(&self) -> Self::Source;

    /// The body of a message.
    fn body(payload: &<<Self::Source as Source>::Delivery as Delivery>::Payload) -> &[u8];

    /// Hands everything to `work.handle(body)`, at most [`CONCURRENCY`] at a time, in a task each, and
    /// acknowledges as surely as the source does. Returns when all is acknowledged.
    async fn bare(&self, work: Work);
}

/// What is done with each message: next to nothing, so that what is measured is the rest.
#[derive(Clone, Debug)]
pub(crate) struct Work(Arc<State>);

#[derive(Debug)]
struct State {
    left: AtomicU64,
    sum: AtomicU64,
    begun: OnceLock<Instant>,
    finished: Notify,
}

impl Work {
    fn new(messages: u64) -> Self {
        Work(Arc::new(State {
            left: AtomicU64::new(messages),
            sum: AtomicU64::new(0),
            begun: OnceLock::new(),
            finished: Notify::new(),
        }))
    }

    /// Handles one message, and yields once, as a handler that waits for something does.
    pub(crate) async fn handle(&self, body: &[u8]) {
        self.0.begun.get_or_init(Instant::now);
        let sum: u64 = body.iter().copied().map(u64::from).sum();
        self.0.sum.fetch_add(sum, Ordering::Relaxed);
        tokio::task::yield_now().await;
        if self.0.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.finished.notify_one();
        }
    }

    /// When the first one was handled.
    fn begun(&self) -> Instant {
        *self.0.begun.get().expect("it is through")
    }

    /// How many have not been handled.
    pub(crate) fn left(&self) -> u64 {
        self.0.left.load(Ordering::Relaxed)
    }

    /// Waits until the last one is handled. Told to one who asks.
    pub(crate) async fn finished(&self) {
        self.0.finished.notified().await;
    }
}

/// Our side.
async fn driven<T: Contest>(contest: &T, work: Work) {
    let handler = {
        let work = work.clone();
        service_fn(move |payload| {
            let work = work.clone();
            async move {
                work.handle(T::body(&payload)).await;
                Ok::<_, Error<Infallible>>(())
            }
        })
    };
    let consumer = Consumer::builder(T::NAME).concurrency(CONCURRENCY).build().unwrap();
    let running = consumer.start(contest.source().await, handler);
    work.finished().await;
    // It ends when the broker has confirmed the last one.
    let summary = running.shutdown(Duration::from_secs(30)).await;
    assert_eq!(summary.acked, MESSAGES, "{summary:?}");
}

/// What a turn took.
#[derive(Clone, Copy, Debug)]
struct Turn {
    cpu: Duration,
    took: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Bare,
    Driven,
}

async fn turn<T: Contest>(contest: &T, side: Side) -> Turn {
    contest.fill(MESSAGES).await;
    let work = Work::new(MESSAGES);
    let (cpu, begin) = (cpu_without(T::OTHERS), Instant::now());
    match side {
        Side::Bare => contest.bare(work.clone()).await,
        Side::Driven => driven(contest, work.clone()).await,
    }
    let begin = if T::JOINS { work.begun() } else { begin };
    let turn = Turn { took: begin.elapsed(), cpu: cpu_without(T::OTHERS).saturating_sub(cpu) };
    assert_eq!(work.left(), 0, "{side:?} is not through");
    turn
}

pub(crate) fn headline() {
    println!("{MESSAGES} messages a turn, {CONCURRENCY} at a time, medians of {ROUNDS} rounds");
    println!("{:10} {:>28} {:>28}", "", "processor time per message", "messages per second");
    let sides = ["bare", "buttress", "ratio"];
    let [bare, buttress, ratio] = sides;
    println!("{:10} {bare:>9} {buttress:>9} {ratio:>8} {bare:>9} {buttress:>9} {ratio:>8}", "");
}

/// All rounds of one broker, and its line in the table.
pub(crate) async fn hold<T: Contest>(contest: T) {
    let (mut bare, mut ours) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        // Who goes first changes, because the second finds a warmer broker.
        let order = [Side::Bare, Side::Driven];
        for index in [round % 2, (round + 1) % 2] {
            let side = order[index];
            let turn = turn(&contest, side).await;
            match side {
                _ if round == 0 => {}
                Side::Bare => bare.push(turn),
                Side::Driven => ours.push(turn),
            }
        }
    }
    let micros = |turns: &[Turn]| median(turns, |turn| turn.cpu.as_secs_f64() * 1e6);
    let (bare_cpu, our_cpu) = (micros(&bare) / MESSAGES as f64, micros(&ours) / MESSAGES as f64);
    let per_second =
        |turns: &[Turn]| median(turns, |turn| MESSAGES as f64 / turn.took.as_secs_f64());
    let (bare_speed, our_speed) = (per_second(&bare), per_second(&ours));
    let (cost, speed) = (our_cpu / bare_cpu, our_speed / bare_speed);
    println!(
        "{:10} {bare_cpu:>6.1} us {our_cpu:>6.1} us {cost:>8.2} {bare_speed:>9.0} {our_speed:>9.0} {speed:>8.2}",
        T::NAME
    );
    if T::LIMITED && (cost > COST || speed < SPEED) {
        println!("{:10} outside of the limits: cost {COST}, speed {SPEED}", "");
    }
}

fn median(turns: &[Turn], value: impl Fn(&Turn) -> f64) -> f64 {
    let mut values: Vec<f64> = turns.iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
