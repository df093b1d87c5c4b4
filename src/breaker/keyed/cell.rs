//! The places of a keyed breaker, and who has them.
//!
//! A key is looked up, and admitted, under three rules that together make sure that a call is never
//! admitted, refused or counted by the breaker of another key:
//!
//! - Whoever finds a closed breaker takes the ticket while still holding the index for reading. A
//!   place is let to another key only by whoever holds it for writing, and by then the ticket has
//!   the generation of the old life: its result will change nothing of the new one (law 4).
//! - Whoever finds a breaker that is not closed has more to do, and tells of it, which is other
//!   people's code and has no business under a lock. So he pins the place before he lets go of the
//!   index, and a pinned place is let to nobody.
//! - Transitions that are not yet told belong to the key that had the place when they were made;
//!   until they are told it is let to nobody.
//!
//! Order of locks: the index, then a breaker's ledger or a place's tenant. None is held while
//! callbacks, recorders or subscribers run, nor while a key is dropped.

use std::{
    borrow::{Borrow, Cow},
    collections::HashMap,
    hash::Hash,
    sync::Arc,
};

use super::{
    Key,
    place::{Pin, Place, Vacancy},
};
use crate::{
    breaker::{
        CircuitBreakerConfig, State, Transition,
        attempt::Attempt,
        cell::BreakerCell,
        refusal::Refused,
        subscription::{Subscribers, contain},
        ticket::{Ticket, TicketKind},
    },
    clock::Tick,
    sync::{AtomicBool, AtomicU64, Ordering, RwLock, read, write},
    telemetry,
};

pub(super) struct KeyedCell<K: 'static> {
    /// Where calls are counted that pass unprotected. It is never asked for leave and never opens.
    pub(super) spare: BreakerCell,
    pub(super) places: usize,
    pub(super) index: RwLock<Index<K>>,
    pub(super) subscribers: Subscribers<(Arc<K>, Transition)>,
    pub(super) unprotected: AtomicU64,
    /// The last key that had no place yet got none.
    short: AtomicBool,
    /// How often a place may have become free: a circuit closed, a key was removed.
    releases: AtomicU64,
    /// How often that had been when no place was found: as long as it is not more, none will be.
    /// In an outage every call of a new key asks, and must not search all places under a lock.
    full_at: AtomicU64,
    /// And until when: the first of those that are forced closed for a time is free again.
    full_until: AtomicU64,
}

pub(super) struct Index<K: 'static> {
    pub(super) by_key: HashMap<K, &'static Place<K>>,
    /// Every place there is so far, with its key.
    tenancies: Vec<Tenancy<K>>,
    /// Where the search for a place goes on.
    hand: usize,
}

struct Tenancy<K: 'static> {
    place: &'static Place<K>,
    /// `None` if the key was removed.
    key: Option<Arc<K>>,
}

/// What a call finds of its key.
enum Entry<K: 'static> {
    /// A closed breaker, and the leave it gives.
    Closed(&'static BreakerCell, Ticket),
    /// Another, which has to be asked.
    NotClosed(Pin<K>),
    /// Nothing.
    Unknown,
}

/// What is left of a tenancy that is over: dropped outside of locks.
type Gone<K> = (Option<(K, &'static Place<K>)>, Option<Arc<K>>, Arc<K>);

impl<K: Key> Index<K> {
    fn let_place(&mut self, number: usize, key: K, tenant: Arc<K>) -> (Pin<K>, Gone<K>) {
        let place = self.tenancies[number].place;
        let last = self.tenancies[number].key.clone();
        let entry = last.as_deref().and_then(|last| self.by_key.remove_entry(last));
        // Only now: had the hash of the old key panicked, the place would still be its own.
        self.tenancies[number].key = None;
        let last_told = place.let_to(Arc::clone(&tenant));
        self.by_key.insert(key, place);
        // Last: had the hash of a key panicked, the place would now be one that nobody has.
        self.tenancies[number].key = Some(tenant);
        (place.pin(), (entry, last, last_told))
    }
}

/// What a search for a place has come to.
enum Search<K: 'static> {
    /// The place at this number of the list.
    Found(usize),
    /// The first to be had as soon as somebody has looked at it.
    Due(Pin<K>),
    /// None, but in a moment there may be.
    Busy,
    /// None, until a circuit closes or a key is removed, or until then.
    FullUntil(Tick),
}

const NEVER_FULL: u64 = u64::MAX;

impl<K: Key> KeyedCell<K> {
    pub(super) fn new(name: &'static str, config: CircuitBreakerConfig, places: usize) -> Self {
        KeyedCell {
            spare: BreakerCell::of_a_place(name, config),
            places,
            index: RwLock::new(Index { by_key: HashMap::new(), tenancies: Vec::new(), hand: 0 }),
            subscribers: Subscribers::new(),
            unprotected: AtomicU64::new(0),
            short: AtomicBool::new(false),
            releases: AtomicU64::new(0),
            full_at: AtomicU64::new(NEVER_FULL),
            full_until: AtomicU64::new(Tick::NEVER.bits()),
        }
    }

    // ---- Admission -----------------------------------------------------------------------------

    /// Leave to make a call for this key, or the reason why not.
    pub(super) fn admit<Q>(&'static self, key: &Q) -> Result<Attempt, Refused>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        match self.enter(key) {
            Entry::Closed(breaker, ticket) => Ok(Attempt::with(breaker, ticket)),
            Entry::NotClosed(pin) => Attempt::admit(&pin.place().breaker),
            Entry::Unknown => match self.move_in(key) {
                Some(pin) => Attempt::admit(&pin.place().breaker),
                None => Ok(self.unprotected()),
            },
        }
    }

    #[inline]
    fn enter<Q>(&self, key: &Q) -> Entry<K>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let index = read(&self.index);
        let Some(place) = index.by_key.get(key).copied() else { return Entry::Unknown };
        place.touch();
        let gate = place.breaker.gate();
        if gate.is_closed() {
            Entry::Closed(&place.breaker, Ticket::counted(gate))
        } else {
            Entry::NotClosed(place.pin())
        }
    }

    #[cold]
    fn unprotected(&'static self) -> Attempt {
        self.unprotected.fetch_add(1, Ordering::Relaxed);
        self.spare.meter.count(telemetry::BREAKER_UNPROTECTED);
        if !self.short.load(Ordering::Relaxed) && !self.short.swap(true, Ordering::Relaxed) {
            telemetry::places_taken(self.spare.name, self.places);
        }
        Attempt::with(&self.spare, Ticket { generation: 0, kind: TicketKind::Uncounted })
    }

    // ---- Places --------------------------------------------------------------------------------

    /// The place of this key, if it has one.
    pub(super) fn find<Q>(&self, key: &Q) -> Option<Pin<K>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        read(&self.index).by_key.get(key).map(|place| place.pin())
    }

    /// What `show` shows of each key and its place. The key as it is: cloning it, and dropping what
    /// may be the last of it, is the user's code and none for under the lock.
    pub(super) fn list<T>(&self, show: impl Fn(Arc<K>, &'static Place<K>) -> Option<T>) -> Vec<T> {
        let index = read(&self.index);
        let tenancies = index.tenancies.iter();
        let keys = tenancies.filter_map(|it| it.key.clone().map(|key| (key, it.place)));
        keys.filter_map(|(key, place)| show(key, place)).collect()
    }

    /// A place for this key, unless there is none to be had.
    #[cold]
    pub(super) fn move_in<Q>(&'static self, key: &Q) -> Option<Pin<K>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        loop {
            // Read before the search: what becomes free during it then counts as later.
            let releases = self.releases.load(Ordering::Acquire);
            if self.full_at.load(Ordering::Acquire) == releases {
                let until = Tick::from_bits(self.full_until.load(Ordering::Acquire));
                if until == Tick::NEVER || Tick::now() < until {
                    return None;
                }
            }
            let now = Tick::now();
            // Cloning a key is the user's code, and so is dropping it: both outside of the lock.
            let owned = key.to_owned();
            let tenant = Arc::new(owned.clone());
            let mut index = write(&self.index);
            if let Some(place) = index.by_key.get(key) {
                return Some(place.pin());
            }
            match self.search(&mut index, &tenant, now) {
                Search::Found(number) => {
                    let (pin, gone) = index.let_place(number, owned, tenant);
                    drop(index);
                    drop(gone);
                    self.short.store(false, Ordering::Relaxed);
                    return Some(pin);
                }
                Search::Due(pin) => {
                    drop(index);
                    pin.place().breaker.settle(now);
                }
                Search::Busy => return None,
                Search::FullUntil(until) => {
                    self.full_until.store(until.bits(), Ordering::Release);
                    self.full_at.store(releases, Ordering::Release);
                    return None;
                }
            }
        }
    }

    /// A place that nobody has, or else one whose breaker is closed, by second chance: the hand goes
    /// round and takes the first that has not been called since it last came by.
    fn search(&'static self, index: &mut Index<K>, tenant: &Arc<K>, now: Tick) -> Search<K> {
        if index.tenancies.len() < self.places {
            let place = self.make_place(Arc::clone(tenant));
            index.tenancies.push(Tenancy { place, key: None });
            return Search::Found(index.tenancies.len() - 1);
        }
        let (mut busy, mut until) = (false, Tick::NEVER);
        if index.by_key.len() < index.tenancies.len() {
            let removed = |(_, tenancy): &(usize, &Tenancy<K>)| tenancy.key.is_none();
            for (number, tenancy) in index.tenancies.iter().enumerate().filter(removed) {
                if !tenancy.place.is_pinned() && tenancy.place.breaker.recycle(true, now) {
                    return Search::Found(number);
                }
                busy = true;
            }
        }
        for _ in 0..2 * index.tenancies.len() {
            let number = index.hand;
            index.hand = (number + 1) % index.tenancies.len();
            let Tenancy { place, key: Some(_) } = &index.tenancies[number] else { continue };
            match place.vacancy(now) {
                Vacancy::Closed if place.forget_touch() => {}
                Vacancy::Closed if place.breaker.recycle(false, now) => {
                    return Search::Found(number);
                }
                Vacancy::ClosedWhenLookedAt => {
                    index.hand = number;
                    return Search::Due(place.pin());
                }
                Vacancy::Closed | Vacancy::InUse => busy = true,
                Vacancy::TakenUntil(then) => until = until.min(then),
                Vacancy::Taken => {}
            }
        }
        if busy { Search::Busy } else { Search::FullUntil(until) }
    }

    fn make_place(&'static self, tenant: Arc<K>) -> &'static Place<K> {
        let place = Place::new(self.spare.name, self.spare.config, tenant);
        // For ever, like the cell from which it can be reached.
        let place: &'static Place<K> = Box::leak(Box::new(place));
        let tell = move |transition: &Transition| self.tell(place, transition);
        place.breaker.subscribers.add_for_ever(Arc::new(tell));
        place
    }

    /// Tells of a transition, and whose it is. Outside of every lock.
    fn tell(&self, place: &Place<K>, transition: &Transition) {
        let key = place.tenant();
        if matches!(transition.to, State::Closed | State::ForcedClosed) {
            self.releases.fetch_add(1, Ordering::AcqRel);
        }
        // How a key is written, and to where, is other people's code.
        contain(|| telemetry::keyed_transition(self.spare.name, &*key, transition));
        self.subscribers.tell(&(key, transition.clone()));
    }

    /// Gives up the place of this key. False if it has none.
    pub(super) fn remove<Q>(&'static self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let (gone, pin) = {
            let mut index = write(&self.index);
            let Some((gone, place)) = index.by_key.remove_entry(key) else { return false };
            let tenancy = index.tenancies.iter_mut().find(|it| std::ptr::eq(it.place, place));
            let kept = tenancy.and_then(|tenancy| tenancy.key.take());
            ((gone, kept), place.pin())
        };
        drop(gone);
        // Nobody finds it any more, and nobody moves in while it is pinned: so this is still told
        // as the key's own transition.
        let breaker = &pin.place().breaker;
        if !breaker.recycle(false, Tick::now()) {
            breaker.force(State::Closed, Some(Cow::Borrowed("removed")), Tick::NEVER);
        }
        drop(pin);
        self.releases.fetch_add(1, Ordering::AcqRel);
        true
    }

    pub(super) fn bytes(&self) -> usize {
        let index = read(&self.index);
        let entry = size_of::<(K, &Place<K>)>() + 1;
        let places: usize = index.tenancies.iter().map(|tenancy| tenancy.place.bytes()).sum();
        size_of::<Self>() - size_of::<BreakerCell>()
            + self.spare.bytes()
            + index.by_key.capacity() * entry
            + index.tenancies.capacity() * size_of::<Tenancy<K>>()
            + places
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;
    use crate::{breaker::KeyedCircuitBreaker, verdict::Verdict};

    fn one_place() -> KeyedCircuitBreaker<u32> {
        let config = CircuitBreakerConfig { min_calls: 1, ..CircuitBreakerConfig::default() };
        KeyedCircuitBreaker::from_config("test", config, 1).unwrap()
    }

    fn fail(breakers: KeyedCircuitBreaker<u32>, key: u32) {
        breakers.try_acquire(&key).unwrap().record(Verdict::Transient);
    }

    /// A thread has found its key's circuit open, and comes to ask it for leave when that has been
    /// closed and somebody with another key has been there meanwhile.
    #[tokio::test(start_paused = true)]
    async fn law_04_a_place_is_let_to_nobody_while_somebody_is_about_to_use_it() {
        let breakers = one_place();
        fail(breakers, 1);
        let Entry::NotClosed(pin) = breakers.cell.enter(&1) else { panic!("it is open") };
        assert!(breakers.reset(&1));
        fail(breakers, 2);
        assert_eq!((breakers.state(&2), breakers.unprotected()), (None, 1));
        let attempt = Attempt::admit(&pin.place().breaker).expect("closed by now");
        drop(pin);
        // And as soon as it has its leave the place can be had: nothing is said of why it was not.
        fail(breakers, 2);
        assert_eq!((breakers.state(&2), breakers.unprotected()), (Some(State::Open), 1));
        assert!(breakers.reset(&2));
        attempt.finish(Verdict::Transient, || crate::verdict::FailureKind::Failed);
        assert_eq!(breakers.state(&2), Some(State::Closed));
    }

    /// The same, with a key that is removed before the other comes.
    #[tokio::test(start_paused = true)]
    async fn law_04_a_removed_key_s_place_is_let_to_nobody_while_somebody_is_about_to_use_it() {
        let breakers = one_place();
        fail(breakers, 1);
        let Entry::NotClosed(pin) = breakers.cell.enter(&1) else { panic!("it is open") };
        assert!(breakers.remove(&1));
        fail(breakers, 2);
        assert_eq!((breakers.state(&2), breakers.unprotected()), (None, 1));
        // Let through for a key that nobody knows any more, it opens a circuit that is nobody's.
        let attempt = Attempt::admit(&pin.place().breaker).expect("closed by removal");
        drop(pin);
        attempt.finish(Verdict::Transient, || crate::verdict::FailureKind::Failed);
        breakers.try_acquire(&2).unwrap().record(Verdict::Success);
        assert_eq!((breakers.state(&2), breakers.unprotected()), (Some(State::Closed), 1));
        assert_eq!(breakers.snapshot(&2).unwrap().transitions, []);
    }
}
