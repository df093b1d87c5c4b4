//! A broker in memory with the hard parts of a real one, in tokio's time.
//!
//! Messages are handed out in the order of publishing, at most `prefetch` unsettled ones at a time.
//! What is not settled or extended within the ack wait is delivered again, and so is what was in
//! hand when a connection broke. Every handing out counts as a delivery.

mod subscription;

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard},
    task::Waker,
    time::Duration,
};

use buttress::consumer::{Settle, SettleError};
use bytes::Bytes;
pub use subscription::{MemoryDelivery, MemorySource};
use tokio::time::Instant;

use super::message::Message;

/// What a broker can do, and how it is set.
#[derive(Clone, Debug)]
pub struct Options {
    pub prefetch: usize,
    /// What is not settled or extended for so long is delivered again.
    pub ack_wait: Option<Duration>,
    pub extend_every: Option<Duration>,
    /// Whether it can deliver again after a while.
    pub redelivers: bool,
    /// Whether it tells how often a message has been delivered.
    pub counts: bool,
    /// How long a settlement takes to be confirmed.
    pub settle_takes: Duration,
    /// Whether what was asked for once comes in any case: also after a pause.
    pub pulls: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            prefetch: 8,
            ack_wait: None,
            extend_every: None,
            redelivers: true,
            counts: true,
            settle_takes: Duration::ZERO,
            pulls: false,
        }
    }
}

/// A dead letter, with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    pub id: u64,
    pub body: Bytes,
    pub reason: String,
}

/// The broker. Clones are handles to the same one.
#[derive(Clone, Debug)]
pub struct Memory {
    options: Options,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// By position: what comes back goes to where it was.
    ready: BTreeMap<u64, Queued>,
    delayed: BTreeMap<(Instant, u64), Queued>,
    in_flight: BTreeMap<u64, InFlight>,
    next_tag: u64,
    settled_tags: HashSet<u64>,
    acked: Vec<u64>,
    dead: Vec<DeadLetter>,
    /// Changes when a connection breaks: what was handed out over an older one is lost.
    connection: u64,
    failing_polls: usize,
    down: bool,
    /// Settlements that go wrong.
    unconfirmed: VecDeque<Unconfirmed>,
    ending: Option<Ending>,
    waker: Option<Waker>,
    connects: usize,
}

#[derive(Clone, Debug)]
struct Queued {
    message: Message,
    deliveries: u32,
}

#[derive(Debug)]
struct InFlight {
    queued: Queued,
    expires: Option<Instant>,
}

/// A settlement that is not confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unconfirmed {
    /// The broker did not hear it.
    Unheard,
    /// It did, and its answer was lost.
    Heard,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// `None` once everything is settled.
    WhenDone,
    /// `None` at once.
    Now,
}

/// The connection broke.
#[derive(Debug)]
pub struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection is broken")
    }
}

impl std::error::Error for Broken {}

impl Memory {
    pub fn new(options: Options) -> Self {
        Memory { options, state: Arc::default() }
    }

    /// The state as it is by now.
    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        state.advance(Instant::now());
        state
    }

    /// Changes something, and has the source look again.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let (changed, waker) = {
            let mut state = self.state();
            (change(&mut state), state.waker.take())
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        changed
    }

    pub fn publish(&self, messages: impl IntoIterator<Item = Message>) {
        self.publish_delivered(messages, 0);
    }

    /// Messages that have been delivered so often already.
    pub fn publish_delivered(&self, messages: impl IntoIterator<Item = Message>, deliveries: u32) {
        self.change(|state| {
            let queued = messages.into_iter().map(|message| Queued { message, deliveries });
            state.ready.extend(queued.map(|queued| (queued.message.id, queued)));
        });
    }

    /// A subscription. One at a time.
    pub fn source(&self) -> MemorySource {
        MemorySource::new(self.clone())
    }

    /// The source ends when everything is settled.
    pub fn end(&self) {
        self.change(|state| state.ending = Some(Ending::WhenDone));
    }

    /// The source ends now, whatever there is.
    pub fn end_now(&self) {
        self.change(|state| state.ending = Some(Ending::Now));
    }

    /// Breaks the connection. What is in flight is lost; the next `failing` polls of the source fail,
    /// and then it is connected again.
    pub fn disconnect(&self, failing: usize) {
        self.change(|state| {
            state.disconnect();
            state.failing_polls = failing;
        });
    }

    /// Goes down, until [`start`](Self::start).
    pub fn stop(&self) {
        self.change(|state| {
            state.disconnect();
            state.down = true;
        });
    }

    pub fn start(&self) {
        self.change(|state| state.down = false);
    }

    /// The next settlements, one for each of these, are not confirmed.
    pub fn do_not_confirm(&self, how: impl IntoIterator<Item = Unconfirmed>) {
        self.change(|state| {
            state.unconfirmed.extend(how);
        });
    }

    /// All settlements are confirmed again.
    pub fn confirm(&self) {
        self.change(|state| state.unconfirmed.clear());
    }

    /// Everything that is neither acked nor dead.
    pub fn left(&self) -> usize {
        let state = self.state();
        state.ready.len() + state.delayed.len() + state.in_flight.len()
    }

    /// What is handed out and not settled.
    pub fn in_flight(&self) -> usize {
        self.state().in_flight.len()
    }

    /// In the order of acknowledgement.
    pub fn acked(&self) -> Vec<u64> {
        self.state().acked.clone()
    }

    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        self.state().dead.clone()
    }

    /// How often those that are left have been delivered.
    pub fn deliveries_of_left(&self) -> BTreeMap<u64, u32> {
        let state = self.state();
        let in_flight = state.in_flight.values().map(|in_flight| &in_flight.queued);
        let queued = state.ready.values().chain(state.delayed.values()).chain(in_flight);
        queued.map(|queued| (queued.message.id, queued.deliveries)).collect()
    }

    /// How often a source has connected.
    pub fn connects(&self) -> usize {
        self.state().connects
    }
}

impl State {
    /// What time alone causes.
    fn advance(&mut self, now: Instant) {
        while let Some(entry) = self.delayed.first_entry()
            && entry.key().0 <= now
        {
            let queued = entry.remove();
            self.ready.insert(queued.message.id, queued);
        }
        let is_over =
            |in_flight: &InFlight| in_flight.expires.is_some_and(|expires| expires <= now);
        let expired = self.in_flight.iter().filter(|(_, in_flight)| is_over(in_flight));
        for tag in expired.map(|(tag, _)| *tag).collect::<Vec<_>>() {
            let InFlight { queued, .. } = self.in_flight.remove(&tag).expect("it is there");
            self.ready.insert(queued.message.id, queued);
        }
    }

    /// When the next thing happens that time alone causes.
    fn next(&self) -> Option<Instant> {
        let delayed = self.delayed.keys().next().map(|(at, _)| *at);
        let expires = self.in_flight.values().filter_map(|in_flight| in_flight.expires).min();
        delayed.into_iter().chain(expires).min()
    }

    fn disconnect(&mut self) {
        self.connection += 1;
        for (_, InFlight { queued, .. }) in std::mem::take(&mut self.in_flight) {
            self.ready.insert(queued.message.id, queued);
        }
    }

    fn is_over(&self) -> bool {
        match self.ending {
            None => false,
            Some(Ending::Now) => true,
            Some(Ending::WhenDone) => {
                self.ready.is_empty() && self.delayed.is_empty() && self.in_flight.is_empty()
            }
        }
    }

    fn settle(&mut self, tag: u64, settle: &Settle) -> Result<(), SettleError> {
        if self.down {
            return Err(SettleError::lost(Broken));
        }
        let heard = self.unconfirmed.pop_front();
        if heard == Some(Unconfirmed::Unheard) {
            return Err(SettleError::unconfirmed("the broker did not answer"));
        }
        match self.in_flight.remove(&tag) {
            Some(InFlight { queued, .. }) => {
                self.settled_tags.insert(tag);
                self.apply(queued, settle);
            }
            None if self.settled_tags.contains(&tag) => {}
            None => return Err(SettleError::lost("it has been delivered to somebody else")),
        }
        match heard {
            None => Ok(()),
            Some(_) => Err(SettleError::unconfirmed("the answer of the broker was lost")),
        }
    }

    fn apply(&mut self, queued: Queued, settle: &Settle) {
        let id = queued.message.id;
        match settle {
            Settle::Ack => self.acked.push(id),
            Settle::Retry { after } => {
                self.delayed.insert((Instant::now() + *after, id), queued);
            }
            Settle::DeadLetter { reason } => {
                self.dead.push(DeadLetter {
                    id,
                    body: queued.message.body,
                    reason: reason.to_string(),
                });
            }
            Settle::Release => {
                self.ready.insert(id, queued);
            }
        }
    }
}
