//! Waiting for a circuit to let calls pass, without a stampede.
//!
//! The waiters queue at a turnstile. Only the first of them watches the breaker: it sleeps until
//! the time at which something is due, or until it is told of a change. When there is a probe to be
//! had it goes through, and the next one steps up. So waiters pass in order, no more wake than can
//! pass, and one that is dropped hands its place on, because that is what dropping a semaphore's
//! permit, or a place in its queue, does.
//!
//! A waiter is somebody's task, and may be kept without being polled: a service readied in a
//! `select!` that another branch won. At the head of the queue it would hold up the others for
//! ever (law 5). So they leave the queue once a probe has lain free for [`STALLED`], and when the
//! circuit closes, for then nobody has to wait.

use std::{
    fmt,
    future::poll_fn,
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use tokio::sync::SemaphorePermit;

use super::{
    State,
    cell::BreakerCell,
    ticket::{Ticket, TicketKind},
};
use crate::{
    clock::Tick,
    sync::{Ordering, lock},
};

/// How long a reserved probe waits for its call.
///
/// A balancer asks all its services whether they are ready and then calls one of them; that takes
/// microseconds. A second is far beyond that and still short beside any open time.
pub(super) const LEASE: Duration = Duration::from_secs(1);

/// How long a free probe lies there untouched until those in the queue go for it out of order: the
/// waiter at the head is not polled, or its inner service is not ready. Longer than a lease, which
/// is no sign of either.
const STALLED: Duration = Duration::from_secs(2);

/// The first place in the queue, given up when dropped; or none, where there is no need to queue.
pub(super) struct Turn {
    _place: Option<SemaphorePermit<'static>>,
}

/// Waits until this caller is the first in the queue and a call may pass.
///
/// Cancel safe: dropped, it leaves the queue, and whoever is next moves up.
pub(super) async fn turn(cell: &'static BreakerCell) -> Turn {
    let turn = Turn { _place: place(cell).await };
    loop {
        let mut changed = std::pin::pin!(cell.changed.notified());
        // From here on no change is missed; only then look.
        changed.as_mut().enable();
        let Some(until) = cell.free_at(Tick::now()) else { return turn };
        match until.instant() {
            Some(until) => {
                let _ = tokio::time::timeout_at(until, changed).await;
            }
            None => changed.await,
        }
    }
}

/// The first place in the queue. `None` where waiting for it has become pointless: calls pass
/// freely, or whoever has it leaves a free probe lying.
async fn place(cell: &'static BreakerCell) -> Option<SemaphorePermit<'static>> {
    let mut place = pin!(cell.turnstile.acquire());
    let mut untouched = None;
    loop {
        let mut passable = pin!(cell.passable.notified());
        passable.as_mut().enable();
        let now = Tick::now();
        if cell.passes_freely(now) {
            return None;
        }
        let (gate, free_at) = (cell.gate(), cell.free_at(now));
        if free_at.is_none() && untouched == Some(gate) {
            return None;
        }
        untouched = free_at.is_none().then_some(gate);
        let first = poll_fn(|cx| match place.as_mut().poll(cx) {
            Poll::Ready(Ok(place)) => Poll::Ready(Some(place)),
            // The semaphore is never closed.
            Poll::Ready(Err(_)) | Poll::Pending => passable.as_mut().poll(cx).map(|()| None),
        });
        let place = match free_at.unwrap_or(now).after(STALLED).instant() {
            Some(look_again) => tokio::time::timeout_at(look_again, first).await.ok().flatten(),
            None => first.await,
        };
        if place.is_some() {
            return place;
        }
    }
}

/// [`turn`], stored in a service between two polls of its readiness.
pub(super) type PendingTurn = Pin<Box<dyn Future<Output = Turn> + Send + Sync>>;

/// A probe put aside for a service that has said it is ready.
///
/// Not a probe yet: nobody is waiting for its result, so it cannot hang. It lapses after
/// [`LEASE`], and is given back when dropped.
pub(super) struct Reservation {
    cell: &'static BreakerCell,
    generation: u32,
    expires: Tick,
    /// How often lapsed reservations had been taken back when this one was made. If more often
    /// now, this one may have been among them.
    reclaims: u64,
}

/// What a service that wants to be ready gets.
pub(super) enum Clearance {
    /// Calls pass freely.
    Free,
    /// One probe is put aside for it.
    Reserved(Reservation),
    /// Somebody was faster.
    Taken,
}

impl BreakerCell {
    /// Reserves a probe if one is needed.
    pub(super) fn clear(&'static self) -> Clearance {
        let now = Tick::now();
        loop {
            let look = self.look(now);
            if look.due {
                self.settle(now);
                continue;
            }
            match look.state {
                State::Closed | State::ForcedClosed => return Clearance::Free,
                State::Open | State::ForcedOpen => return Clearance::Taken,
                State::HalfOpen => {
                    let reclaims = self.reclaims.load(Ordering::Acquire);
                    let Some(next) = look.gate.reserve_probe(self.config.probes) else {
                        if self.reclaim_reservations(look.gate, now) {
                            continue;
                        }
                        return Clearance::Taken;
                    };
                    // The lease first: a reservation must never be seen with an older one.
                    let expires = now.after(LEASE);
                    self.lease.fetch_max(expires.bits(), Ordering::AcqRel);
                    if self.swap(look.gate, next) {
                        let generation = look.gate.generation();
                        let reservation = Reservation { cell: self, generation, expires, reclaims };
                        return Clearance::Reserved(reservation);
                    }
                }
            }
        }
    }
}

impl Reservation {
    /// Gives the probe back, unless it has been taken back. Under the lock, because one that is taken
    /// back in the middle of this and reserved by somebody else would leave the gate the same word as
    /// before, and theirs would be given back.
    fn give_back(&self) -> bool {
        let _ledger = lock(&self.cell.ledger);
        if self.cell.reclaims.load(Ordering::Acquire) != self.reclaims {
            return false;
        }
        loop {
            let gate = self.cell.gate();
            if gate.generation() != self.generation {
                return false;
            }
            let Some(next) = gate.give_back_reserved() else { return false };
            if self.cell.swap(gate, next) {
                return true;
            }
        }
    }

    /// Whether the probe is still put aside.
    pub(super) fn is_good(&self) -> bool {
        self.cell.gate().generation() == self.generation && Tick::now() < self.expires
    }

    /// Starts the probe. `None` if the reservation has lapsed; then ask like everybody else.
    pub(super) fn start(self) -> Option<Ticket> {
        let now = Tick::now();
        if now >= self.expires {
            return None;
        }
        loop {
            let gate = self.cell.gate();
            if gate.generation() != self.generation {
                return None;
            }
            let next = gate.start_reserved()?;
            if self.cell.begin_probe(gate, next, now) {
                let generation = self.generation;
                std::mem::forget(self);
                return Some(Ticket { generation, kind: TicketKind::Probe });
            }
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.give_back() {
            self.cell.changed.notify_waiters();
        }
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation").field("generation", &self.generation).finish_non_exhaustive()
    }
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn").finish_non_exhaustive()
    }
}
