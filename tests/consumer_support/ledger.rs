//! A source that remembers what its consumer did to it, whatever the broker.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll},
    time::Duration,
};

use buttress::consumer::{Delivery, Settle, SettleError, SettleErrorKind, Source};
use tokio::time::Instant;

/// What happened, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Polled {
        room: usize,
    },
    Paused,
    Resumed,
    Delivered {
        id: u64,
        attempt: Option<u32>,
    },
    /// The source could not deliver.
    Failed,
    Ended,
    Closed,
    Extended {
        id: u64,
        said: Said,
    },
    /// The consumer began to settle; where it gave up waiting, no `Settled` follows.
    Settling {
        id: u64,
        settle: Settle,
    },
    Settled {
        id: u64,
        settle: Settle,
        said: Said,
    },
    /// A delivery was dropped by the consumer without a settlement that succeeded.
    Dropped {
        id: u64,
    },
}

/// What the broker said to a settlement or an extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    Yes,
    Unconfirmed,
    Lost,
}

impl Said {
    fn of(outcome: &Result<(), SettleError>) -> Self {
        match outcome.as_ref().map_err(SettleError::kind) {
            Ok(()) => Said::Yes,
            Err(SettleErrorKind::Unconfirmed) => Said::Unconfirmed,
            Err(SettleErrorKind::Lost) => Said::Lost,
            Err(kind) => panic!("{kind:?} is a new kind"),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub at: Instant,
    pub event: Event,
}

/// The shared record. Clones are handles to the same one.
#[derive(Clone, Debug, Default)]
pub struct Ledger(Arc<Mutex<Book>>);

#[derive(Debug, Default)]
struct Book {
    entries: Vec<Entry>,
    /// Deliveries that the consumer has and has not settled.
    in_hand: usize,
    most_in_hand: usize,
    /// Confirmed settlements by their names, for those who ask often.
    settled: BTreeMap<&'static str, usize>,
    paused: bool,
    closed: bool,
    ended: bool,
    /// What the consumer did against the contract of `Source` and `Delivery`.
    wrongs: Vec<String>,
}

impl Ledger {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub fn entries(&self) -> Vec<Entry> {
        self.book().entries.clone()
    }

    pub fn events(&self) -> Vec<Event> {
        self.book().entries.iter().map(|entry| entry.event.clone()).collect()
    }

    pub fn count(&self, which: impl Fn(&Event) -> bool) -> usize {
        self.book().entries.iter().filter(|entry| which(&entry.event)).count()
    }

    /// When that happened for the first time.
    pub fn first(&self, which: impl Fn(&Event) -> bool) -> Option<Instant> {
        self.book().entries.iter().find(|entry| which(&entry.event)).map(|entry| entry.at)
    }

    pub fn polls(&self) -> usize {
        self.count(|event| matches!(event, Event::Polled { .. }))
    }

    pub fn deliveries(&self) -> usize {
        self.count(|event| matches!(event, Event::Delivered { .. }))
    }

    /// How often each was delivered here, and the highest count that came with it.
    pub fn delivered(&self) -> BTreeMap<u64, (u32, Option<u32>)> {
        let mut delivered: BTreeMap<u64, (u32, Option<u32>)> = BTreeMap::new();
        for entry in &self.book().entries {
            if let Event::Delivered { id, attempt } = entry.event {
                let (times, highest) = delivered.entry(id).or_default();
                *times += 1;
                *highest = attempt.max(*highest);
            }
        }
        delivered
    }

    /// Confirmed settlements in order: id, and which.
    pub fn settled(&self) -> Vec<(u64, Settle)> {
        let confirmed = |entry: &Entry| match &entry.event {
            Event::Settled { id, settle, said: Said::Yes } => Some((*id, settle.clone())),
            _ => None,
        };
        self.book().entries.iter().filter_map(confirmed).collect()
    }

    /// How many confirmed settlements go by this name: `ack`, `retry`, `dead_letter`, `release`.
    pub fn settled_as(&self, name: &str) -> usize {
        self.book().settled.get(name).copied().unwrap_or(0)
    }

    /// The ids settled so, with confirmation.
    pub fn ids_settled_as(&self, name: &str) -> Vec<u64> {
        let settled = self.settled();
        settled.into_iter().filter(|(_, how)| how.as_str() == name).map(|(id, _)| id).collect()
    }

    /// Settlements that were not confirmed, by what was said.
    pub fn not_settled(&self, which: Said) -> usize {
        self.count(|event| matches!(event, Event::Settled { said, .. } if *said == which))
    }

    pub fn in_hand(&self) -> usize {
        self.book().in_hand
    }

    pub fn most_in_hand(&self) -> usize {
        self.book().most_in_hand
    }

    pub fn is_paused(&self) -> bool {
        self.book().paused
    }

    /// Fails if the consumer broke the contract of `Source` or `Delivery`.
    pub fn assert_lawful(&self) {
        let wrongs = &self.book().wrongs;
        assert!(wrongs.is_empty(), "the consumer broke its contract: {wrongs:#?}");
    }

    pub fn push(&self, event: Event) {
        self.book().push(event);
    }

    fn wrong(&self, what: String) {
        self.book().wrongs.push(what);
    }
}

impl Book {
    fn push(&mut self, event: Event) {
        self.entries.push(Entry { at: Instant::now(), event });
    }
}

/// Reads the id out of a payload.
pub type IdOf<P> = fn(&P) -> u64;

type PayloadOf<S> = <<S as Source>::Delivery as Delivery>::Payload;

/// A source with a ledger.
#[derive(Debug)]
pub struct Watched<S: Source> {
    source: S,
    ledger: Ledger,
    id_of: IdOf<PayloadOf<S>>,
}

impl<S: Source> Watched<S> {
    pub fn new(source: S, ledger: &Ledger, id_of: IdOf<PayloadOf<S>>) -> Self {
        {
            let mut book = ledger.book();
            // A ledger may go on with another consumer.
            (book.paused, book.closed, book.ended) = (false, false, false);
        }
        Watched { source, ledger: ledger.clone(), id_of }
    }
}

impl<S: Source> Source for Watched<S> {
    type Delivery = WatchedDelivery<S::Delivery>;
    type Error = S::Error;

    fn prefetch(&self) -> usize {
        self.source.prefetch()
    }

    fn extend_every(&self) -> Option<Duration> {
        self.source.extend_every()
    }

    fn redelivers(&self) -> bool {
        self.source.redelivers()
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        room: usize,
    ) -> Poll<Option<Result<Self::Delivery, S::Error>>> {
        let prefetch = self.source.prefetch();
        {
            let mut book = self.ledger.book();
            book.push(Event::Polled { room });
            let in_hand = book.in_hand;
            if room + in_hand > prefetch {
                book.wrongs.push(format!("room {room} with {in_hand} of {prefetch} in hand"));
            }
            if book.ended || book.closed {
                book.wrongs.push("polled after its end".to_owned());
            }
        }
        let next = std::task::ready!(self.source.poll_next(cx, room));
        let mut book = self.ledger.book();
        Poll::Ready(match next {
            None => {
                book.ended = true;
                book.push(Event::Ended);
                None
            }
            Some(Err(error)) => {
                book.push(Event::Failed);
                Some(Err(error))
            }
            Some(Ok(delivery)) => {
                let id = (self.id_of)(&delivery.payload());
                book.push(Event::Delivered { id, attempt: delivery.attempt() });
                book.in_hand += 1;
                book.most_in_hand = book.most_in_hand.max(book.in_hand);
                if book.in_hand > prefetch {
                    let in_hand = book.in_hand;
                    book.wrongs.push(format!("the source made it {in_hand} of {prefetch} in hand"));
                }
                drop(book);
                let ledger = self.ledger.clone();
                Some(Ok(WatchedDelivery {
                    delivery,
                    id,
                    redelivers: self.redelivers(),
                    held: Held { id, ledger, settled: false },
                }))
            }
        })
    }

    fn pause(&mut self) {
        let mut book = self.ledger.book();
        book.paused = true;
        book.push(Event::Paused);
        drop(book);
        self.source.pause();
    }

    fn resume(&mut self) {
        let mut book = self.ledger.book();
        book.paused = false;
        book.push(Event::Resumed);
        drop(book);
        self.source.resume();
    }

    async fn close(&mut self) -> Result<(), S::Error> {
        let closed = self.source.close().await;
        let mut book = self.ledger.book();
        book.closed = true;
        book.push(Event::Closed);
        drop(book);
        closed
    }
}

/// A delivery with a ledger.
#[derive(Debug)]
pub struct WatchedDelivery<D> {
    delivery: D,
    id: u64,
    redelivers: bool,
    held: Held,
}

/// What is told of a delivery that goes away.
#[derive(Debug)]
struct Held {
    id: u64,
    ledger: Ledger,
    settled: bool,
}

impl<D: Delivery> Delivery for WatchedDelivery<D> {
    type Payload = D::Payload;

    fn payload(&self) -> D::Payload {
        self.delivery.payload()
    }

    fn attempt(&self) -> Option<u32> {
        self.delivery.attempt()
    }

    fn ordering_key(&self) -> Option<&[u8]> {
        self.delivery.ordering_key()
    }

    fn is_lost(&self) -> bool {
        self.delivery.is_lost()
    }

    async fn settle(&mut self, settle: &Settle) -> Result<(), SettleError> {
        let (id, ledger) = (self.id, &self.held.ledger);
        ledger.push(Event::Settling { id, settle: settle.clone() });
        if matches!(settle, Settle::Retry { .. }) && !self.redelivers {
            ledger.wrong(format!("{id}: a retry, of a source that cannot redeliver"));
        }
        if self.held.settled {
            ledger.wrong(format!("{id}: settled twice, now as {settle:?}"));
        }
        let outcome = self.delivery.settle(settle).await;
        let said = Said::of(&outcome);
        let mut book = ledger.book();
        book.push(Event::Settled { id, settle: settle.clone(), said });
        if said == Said::Yes && !self.held.settled {
            self.held.settled = true;
            book.in_hand -= 1;
            *book.settled.entry(settle.as_str()).or_default() += 1;
        }
        drop(book);
        outcome
    }

    fn extend(&self) -> impl Future<Output = Result<(), SettleError>> + Send + 'static {
        let (id, ledger) = (self.id, self.held.ledger.clone());
        if self.held.settled {
            ledger.wrong(format!("{id}: extended after it was settled"));
        }
        let extending = self.delivery.extend();
        async move {
            let outcome = extending.await;
            ledger.push(Event::Extended { id, said: Said::of(&outcome) });
            outcome
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.settled {
            let mut book = self.ledger.book();
            book.in_hand -= 1;
            book.push(Event::Dropped { id: self.id });
        }
    }
}
