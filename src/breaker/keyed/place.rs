use std::sync::Arc;

use crate::{
    breaker::{CircuitBreakerConfig, State, cell::BreakerCell},
    clock::Tick,
    sync::{AtomicBool, AtomicU64, Mutex, Ordering, lock},
};

/// A breaker, and whose it is at present.
pub(super) struct Place<K> {
    pub(super) breaker: BreakerCell,
    /// Whose transitions these are. Stays after a key was removed, until another moves in.
    tenant: Mutex<Arc<K>>,
    /// A call has come since the key moved in, or since a place was last looked for. Only written
    /// where that changes it, so that calls of a busy key write nothing here.
    touched: AtomicBool,
    /// How many are about to use the breaker for the key they have found here.
    pins: AtomicU64,
}

/// Whether a place can be had for another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vacancy {
    /// Its breaker is open, half-open or forced.
    Taken,
    /// The same, but it will be closed by time alone, and then.
    TakenUntil(Tick),
    /// Its breaker would be closed by now, had anybody looked.
    ClosedWhenLookedAt,
    /// It can be, but somebody is just using it.
    InUse,
    /// It can be.
    Closed,
}

impl<K> Place<K> {
    pub(super) fn new(name: &'static str, config: CircuitBreakerConfig, tenant: Arc<K>) -> Self {
        Place {
            breaker: BreakerCell::of_a_place(name, config),
            tenant: Mutex::new(tenant),
            touched: AtomicBool::new(false),
            pins: AtomicU64::new(0),
        }
    }

    pub(super) fn tenant(&self) -> Arc<K> {
        Arc::clone(&lock(&self.tenant))
    }

    /// Somebody else moves in. Whose it was: to be dropped outside of locks, being the user's.
    pub(super) fn let_to(&self, tenant: Arc<K>) -> Arc<K> {
        self.touched.store(false, Ordering::Relaxed);
        std::mem::replace(&mut *lock(&self.tenant), tenant)
    }

    #[inline]
    pub(super) fn touch(&self) {
        if !self.touched.load(Ordering::Relaxed) {
            self.touched.store(true, Ordering::Relaxed);
        }
    }

    /// Whether it was touched since the last time this was asked.
    pub(super) fn forget_touch(&self) -> bool {
        let touched = self.touched.load(Ordering::Relaxed);
        self.touched.store(false, Ordering::Relaxed);
        touched
    }

    /// Keeps the place with its key for as long as the pin is held. Only to be called under the
    /// lock of the index, as is [`vacancy`](Self::vacancy): that is what makes them exclude each
    /// other.
    pub(super) fn pin(&'static self) -> Pin<K> {
        self.pins.fetch_add(1, Ordering::AcqRel);
        Pin { place: self }
    }

    pub(super) fn vacancy(&self, now: Tick) -> Vacancy {
        let look = self.breaker.look(now);
        match look.state {
            State::Closed if look.due => Vacancy::ClosedWhenLookedAt,
            State::Closed if self.is_pinned() => Vacancy::InUse,
            State::Closed => Vacancy::Closed,
            State::ForcedClosed => Vacancy::TakenUntil(look.until),
            _ => Vacancy::Taken,
        }
    }

    pub(super) fn is_pinned(&self) -> bool {
        self.pins.load(Ordering::Acquire) > 0
    }

    /// Memory it takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() - size_of::<BreakerCell>() + self.breaker.bytes()
    }
}

/// A place that nobody else can move into.
pub(super) struct Pin<K: 'static> {
    place: &'static Place<K>,
}

impl<K> Pin<K> {
    pub(super) fn place(&self) -> &'static Place<K> {
        self.place
    }
}

impl<K> Drop for Pin<K> {
    fn drop(&mut self) {
        self.place.pins.fetch_sub(1, Ordering::AcqRel);
    }
}
