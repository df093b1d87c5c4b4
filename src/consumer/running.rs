use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{sync::mpsc, task::JoinHandle, time::Instant};

use super::Settle;
use crate::sync::lock;
use crate::telemetry::{
    self, CONSUMER, CONSUMER_ACK, CONSUMER_DEAD_LETTER, CONSUMER_LOST, CONSUMER_RELEASE,
    CONSUMER_RETRY, CONSUMER_UNCONFIRMED, ConsumerPause, Meter,
};

/// A consumer at work; made by [`Consumer::start`](super::Consumer::start).
///
/// Dropped, it leaves the consumer running, to the end of its source or of the runtime.
#[derive(Debug)]
#[must_use = "without it the consumer cannot be shut down"]
pub struct Running {
    pub(super) shared: Arc<Shared>,
    pub(super) stop: mpsc::UnboundedSender<Instant>,
    pub(super) task: JoinHandle<()>,
}

impl Running {
    /// What it is doing now.
    pub fn status(&self) -> Status {
        self.shared.status()
    }

    /// A handle to the status alone, for a health check or a page of metrics.
    pub fn monitor(&self) -> Monitor {
        Monitor { shared: Arc::clone(&self.shared) }
    }

    /// Begins a shutdown and does not wait for it. Of several the nearest deadline counts.
    ///
    /// Pulling stops. Handlers that run may finish until `within` has passed, while the broker goes on
    /// hearing of all that is in hand, and are settled. Those that are still running then are dropped.
    /// What was not handled is given back once no handler runs any more, and for that the broker has a
    /// few seconds.
    pub fn stop(&self, within: Duration) {
        // Fails if it has ended already.
        let _ = self.stop.send(Instant::now() + within.min(Duration::from_secs(86_400 * 365)));
    }

    /// [Stops](Self::stop), and waits for the end.
    ///
    /// Dropped while it waits, the shutdown goes on.
    ///
    /// # Panics
    ///
    /// As [`wait`](Self::wait).
    pub async fn shutdown(self, within: Duration) -> Summary {
        self.stop(within);
        self.wait().await
    }

    /// Waits for the end: of the source, or of a shutdown that somebody else began.
    ///
    /// Cancel safe: dropped while it waits, the consumer goes on.
    ///
    /// # Panics
    ///
    /// If the source or one of its deliveries did. (A panic of the handler is a failure of its message.)
    pub async fn wait(self) -> Summary {
        let Running { shared, stop, task } = self;
        let ended = task.await;
        drop(stop);
        if let Err(error) = ended
            && let Ok(panic) = error.try_into_panic()
        {
            std::panic::resume_unwind(panic);
        }
        shared.summary()
    }
}

/// Tells what a consumer is doing; made by [`Running::monitor`].
#[derive(Clone, Debug)]
pub struct Monitor {
    shared: Arc<Shared>,
}

impl Monitor {
    /// What it is doing now.
    pub fn status(&self) -> Status {
        self.shared.status()
    }
}

/// What a consumer was doing at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// The consumer's name.
    pub name: &'static str,
    /// Deliveries in hand: held, handled or being settled.
    pub in_hand: usize,
    /// Handlers that run.
    pub running: usize,
    /// Since when it does not pull, because the gate is not closed or a policy refused.
    pub paused_since: Option<Instant>,
    /// Since when the source has given nothing but errors.
    ///
    /// Only a delivery proves that it works again, so on a quiet queue it looks broken until there is one:
    /// a client that waits for its brokers in silence, as librdkafka does when it has said once that
    /// all are down, cannot be told from one that waits for messages. Where [`last_error`](Self::last_error)
    /// is much older than the longest [`reconnect_after`](super::ConsumerBuilder::reconnect_after), it is
    /// one or the other. And a source that is asked for nothing, because the consumer is paused or its
    /// hands are full, may not notice that the broker is gone.
    pub broken_since: Option<Instant>,
    /// What went wrong last, of the broker, a handler or a settlement, and when.
    pub last_error: Option<(Instant, String)>,
    /// It has ended, or is coming to its end.
    pub stopping: bool,
    /// What became of the deliveries so far.
    pub summary: Summary,
}

/// What became of a consumer's deliveries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Taken from the source.
    pub delivered: u64,
    /// Done.
    pub acked: u64,
    /// Given back to be delivered again later.
    pub retried: u64,
    /// Put aside.
    pub dead_lettered: u64,
    /// Given back unhandled.
    pub released: u64,
    /// Settled, but the broker never confirmed it: some of them will be delivered again.
    pub unconfirmed: u64,
    /// Passed to somebody else before they could be settled.
    pub lost: u64,
    /// Tries that failed and were repeated in hand. No settlement, so on top of the above.
    pub retried_in_hand: u64,
    /// Times that a delivery was held for a dependency that was down. On top of the above.
    pub held: u64,
    /// Handlers that panicked. On top of the above.
    pub panicked: u64,
}

/// What the driver writes and others read.
pub(super) struct Shared {
    name: &'static str,
    meter: Meter,
    in_hand: AtomicUsize,
    running: AtomicUsize,
    delivered: AtomicU64,
    /// By row of telemetry.
    settled: [AtomicU64; 6],
    retried_in_hand: AtomicU64,
    held: AtomicU64,
    panicked: AtomicU64,
    seldom: Mutex<Seldom>,
}

/// What changes seldom enough for a lock.
#[derive(Default)]
struct Seldom {
    paused: Option<(Instant, ConsumerPause)>,
    broken_since: Option<Instant>,
    last_error: Option<(Instant, String)>,
    stopping: bool,
}

impl Shared {
    pub(super) fn new(name: &'static str) -> Self {
        Shared {
            name,
            meter: Meter::new(name, CONSUMER),
            in_hand: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            delivered: AtomicU64::new(0),
            settled: std::array::from_fn(|_| AtomicU64::new(0)),
            retried_in_hand: AtomicU64::new(0),
            held: AtomicU64::new(0),
            panicked: AtomicU64::new(0),
            seldom: Mutex::default(),
        }
    }

    fn seldom(&self) -> MutexGuard<'_, Seldom> {
        lock(&self.seldom)
    }

    pub(super) fn load(&self, in_hand: usize, running: usize) {
        self.in_hand.store(in_hand, Ordering::Relaxed);
        self.running.store(running, Ordering::Relaxed);
    }

    pub(super) fn delivered(&self) {
        self.delivered.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn settled(&self, settle: &Settle) {
        self.count(match settle {
            Settle::Ack => CONSUMER_ACK,
            Settle::Retry { .. } => CONSUMER_RETRY,
            Settle::DeadLetter { .. } => CONSUMER_DEAD_LETTER,
            Settle::Release => CONSUMER_RELEASE,
        });
        if let Settle::DeadLetter { reason } = settle {
            telemetry::dead_letter(self.name, reason);
        }
    }

    pub(super) fn unconfirmed(&self, settle: &Settle, error: &dyn fmt::Display) {
        self.count(CONSUMER_UNCONFIRMED);
        telemetry::not_settled(self.name, settle.as_str(), error);
        self.error(format!("{}: {error}", settle.as_str()));
    }

    pub(super) fn lost(&self, during: &'static str, error: &dyn fmt::Display) {
        self.count(CONSUMER_LOST);
        telemetry::not_settled(self.name, during, error);
        self.error(format!("{during}: {error}"));
    }

    fn count(&self, row: usize) {
        self.settled[row].fetch_add(1, Ordering::Relaxed);
        self.meter.count(row);
    }

    /// It will be tried again, here or elsewhere.
    pub(super) fn failed(&self, attempt: u32, again_after: Duration, reason: &str) {
        telemetry::message_failed(self.name, attempt, again_after, reason);
    }

    pub(super) fn retried_in_hand(&self) {
        self.retried_in_hand.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn held(&self) {
        self.held.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn panicked(&self, message: &str) {
        self.panicked.fetch_add(1, Ordering::Relaxed);
        telemetry::handler_panicked(self.name, message);
    }

    pub(super) fn paused(&self, since: Instant, gate: Option<&'static str>, why: &str) {
        let last_error = self.seldom().last_error.clone().map(|(_, error)| error);
        let pause = ConsumerPause::begin(self.name, gate, why, last_error.as_deref());
        self.set_paused(Some((since, pause)));
    }

    pub(super) fn goes_on(&self) {
        self.set_paused(None);
        telemetry::consumer_goes_on(self.name);
    }

    fn set_paused(&self, paused: Option<(Instant, ConsumerPause)>) {
        // The recorder of the metrics is not ours, so the last pause ends outside of the lock.
        let _last = std::mem::replace(&mut self.seldom().paused, paused);
    }

    /// `first` says that this is the first of a row of errors. (On a quiet queue `broken_since` outlives
    /// a row, and the next one is worth a warning too.)
    pub(super) fn source_failed(&self, now: Instant, first: bool, error: &dyn fmt::Display) {
        let said = error.to_string();
        {
            let mut seldom = self.seldom();
            seldom.last_error = Some((now, said));
            seldom.broken_since.get_or_insert(now);
        }
        telemetry::source_failed(self.name, first, error);
    }

    pub(super) fn source_works(&self) {
        self.seldom().broken_since = None;
        telemetry::source_works(self.name);
    }

    pub(super) fn error(&self, error: String) {
        self.seldom().last_error = Some((Instant::now(), error));
    }

    /// Said more than once, as the end comes nearer; with it a pause is over in silence.
    pub(super) fn stopping(&self) {
        self.seldom().stopping = true;
        self.set_paused(None);
    }

    fn summary(&self) -> Summary {
        let settled = |row: usize| self.settled[row].load(Ordering::Relaxed);
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Summary {
            delivered: load(&self.delivered),
            acked: settled(CONSUMER_ACK),
            retried: settled(CONSUMER_RETRY),
            dead_lettered: settled(CONSUMER_DEAD_LETTER),
            released: settled(CONSUMER_RELEASE),
            unconfirmed: settled(CONSUMER_UNCONFIRMED),
            lost: settled(CONSUMER_LOST),
            retried_in_hand: load(&self.retried_in_hand),
            held: load(&self.held),
            panicked: load(&self.panicked),
        }
    }

    fn status(&self) -> Status {
        let seldom = self.seldom();
        Status {
            name: self.name,
            in_hand: self.in_hand.load(Ordering::Relaxed),
            running: self.running.load(Ordering::Relaxed),
            paused_since: seldom.paused.as_ref().map(|(since, _)| *since),
            broken_since: seldom.broken_since,
            last_error: seldom.last_error.clone(),
            stopping: seldom.stopping,
            summary: self.summary(),
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.status().fmt(f)
    }
}
