//! A broker in memory with the hard parts of a real one, in tokio's time.
//!
//! Messages are handed out in the order of publishing, at most `prefetch` unsettled ones at a time.
//! What is not settled or extended within the ack wait is delivered again, and so is what was in
//! hand when a connection broke. Every handing out counts as a delivery.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker},
    time::Duration,
};

use buttress::consumer::{Delivery, Settle, SettleError, Source};
use bytes::Bytes;
use tokio::time::{Instant, Sleep, sleep_until};

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
        MemorySource {
            broker: self.clone(),
            connection: None,
            paused: false,
            asked: 0,
            alarm: None,
        }
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

/// A subscription to a [`Memory`].
#[derive(Debug)]
pub struct MemorySource {
    broker: Memory,
    connection: Option<u64>,
    paused: bool,
    /// Deliveries asked for that have not come, of a broker that is pulled.
    asked: usize,
    /// For what time alone causes.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl MemorySource {
    /// Whether there is a connection; one that broke is told once.
    fn connect(&mut self, state: &mut State) -> Result<(), Broken> {
        if state.down {
            return Err(Broken);
        }
        if state.failing_polls > 0 {
            state.failing_polls -= 1;
            return Err(Broken);
        }
        if self.connection != Some(state.connection) {
            self.connection = Some(state.connection);
            self.asked = 0;
            state.connects += 1;
        }
        Ok(())
    }

    fn hand_out(&self, state: &mut State) -> Option<MemoryDelivery> {
        let (_, mut queued) = state.ready.pop_first()?;
        queued.deliveries += 1;
        let options = &self.broker.options;
        let tag = state.next_tag;
        state.next_tag += 1;
        let delivery = MemoryDelivery {
            broker: self.broker.clone(),
            connection: state.connection,
            tag,
            attempt: options.counts.then_some(queued.deliveries),
            message: queued.message.clone(),
        };
        let expires = options.ack_wait.map(|ack_wait| Instant::now() + ack_wait);
        state.in_flight.insert(tag, InFlight { queued, expires });
        Some(delivery)
    }
}

impl Source for MemorySource {
    type Delivery = MemoryDelivery;
    type Error = Broken;

    fn prefetch(&self) -> usize {
        self.broker.options.prefetch
    }

    fn extend_every(&self) -> Option<Duration> {
        self.broker.options.extend_every
    }

    fn redelivers(&self) -> bool {
        self.broker.options.redelivers
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        room: usize,
    ) -> Poll<Option<Result<MemoryDelivery, Broken>>> {
        let broker = self.broker.clone();
        let mut state = broker.state();
        if state.is_over() {
            return Poll::Ready(None);
        }
        if let Err(broken) = self.connect(&mut state) {
            return Poll::Ready(Some(Err(broken)));
        }
        let room = if self.paused { 0 } else { room };
        if broker.options.pulls {
            self.asked = self.asked.max(room);
        }
        if room.max(self.asked) > 0
            && state.in_flight.len() < broker.options.prefetch
            && let Some(delivery) = self.hand_out(&mut state)
        {
            self.asked = self.asked.saturating_sub(1);
            return Poll::Ready(Some(Ok(delivery)));
        }
        state.waker = Some(cx.waker().clone());
        self.alarm = state.next().map(|next| Box::pin(sleep_until(next)));
        drop(state);
        if let Some(alarm) = &mut self.alarm
            && alarm.as_mut().poll(cx).is_ready()
        {
            // It came due this very moment; the next poll sees what it brought.
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    fn pause(&mut self) {
        self.paused = true;
    }

    fn resume(&mut self) {
        self.paused = false;
    }

    async fn close(&mut self) -> Result<(), Broken> {
        Ok(())
    }
}

/// A delivery of a [`Memory`].
#[derive(Debug)]
pub struct MemoryDelivery {
    broker: Memory,
    connection: u64,
    tag: u64,
    attempt: Option<u32>,
    message: Message,
}

impl Delivery for MemoryDelivery {
    type Payload = Bytes;

    fn payload(&self) -> Bytes {
        self.message.body.clone()
    }

    fn attempt(&self) -> Option<u32> {
        self.attempt
    }

    fn ordering_key(&self) -> Option<&[u8]> {
        Some(self.message.key.as_bytes())
    }

    /// A client knows of its own connection, not of an ack wait that is over at the broker.
    fn is_lost(&self) -> bool {
        self.broker.state().connection != self.connection
    }

    async fn settle(&mut self, settle: &Settle) -> Result<(), SettleError> {
        let takes = self.broker.options.settle_takes;
        if !takes.is_zero() {
            tokio::time::sleep(takes).await;
        }
        self.broker.change(|state| state.settle(self.tag, settle))
    }

    fn extend(&self) -> impl Future<Output = Result<(), SettleError>> + Send + 'static {
        let (broker, tag) = (self.broker.clone(), self.tag);
        async move {
            let mut state = broker.state();
            match state.in_flight.get_mut(&tag) {
                Some(in_flight) => {
                    in_flight.expires =
                        broker.options.ack_wait.map(|ack_wait| Instant::now() + ack_wait);
                    Ok(())
                }
                None => Err(SettleError::lost("it has been delivered to somebody else")),
            }
        }
    }
}
