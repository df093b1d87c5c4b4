use std::{
    fmt, mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use crate::sync::{Mutex, lock};

type Callback<E> = Arc<dyn Fn(&E) + Send + Sync>;

/// Who wants to hear of events: of transitions, or of transitions and whose they are.
pub(super) struct Subscribers<E> {
    list: Mutex<List<E>>,
}

struct List<E> {
    next: u64,
    callbacks: Vec<(u64, Callback<E>)>,
}

impl<E: 'static> Subscribers<E> {
    pub(super) fn new() -> Self {
        Subscribers { list: Mutex::new(List { next: 0, callbacks: Vec::new() }) }
    }

    pub(super) fn add(&'static self, callback: Callback<E>) -> Subscription {
        let id = self.add_for_ever(callback);
        Subscription { subscribers: self, id }
    }

    /// [`add`](Self::add), where nobody will ever unsubscribe.
    pub(super) fn add_for_ever(&self, callback: Callback<E>) -> u64 {
        let mut list = lock(&self.list);
        let id = list.next;
        list.next += 1;
        list.callbacks.push((id, callback));
        id
    }

    /// Calls everybody, outside of every lock. One that panics is left behind; the panic hook has
    /// told of it, and neither the other callbacks nor the caller of the breaker are to suffer.
    pub(super) fn tell(&self, event: &E) {
        let callbacks: Vec<Callback<E>> = {
            let list = lock(&self.list);
            list.callbacks.iter().map(|(_, callback)| Arc::clone(callback)).collect()
        };
        for callback in callbacks {
            // Moved in: if it has unsubscribed itself, its destructor runs here as well.
            contain(move || callback(event));
        }
    }
}

/// Runs other people's code, which may panic. So may what it panicked with when it is dropped.
pub(super) fn contain(code: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(code))
        && let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic)))
    {
        mem::forget(again);
    }
}

/// Subscribers of whatever kind, to the guard that ends somebody's subscription.
trait Unsubscribe: Sync {
    fn unsubscribe(&self, id: u64);
}

impl<E: 'static> Unsubscribe for Subscribers<E> {
    fn unsubscribe(&self, id: u64) {
        let gone = {
            let mut list = lock(&self.list);
            let place = list.callbacks.iter().position(|(known, _)| *known == id);
            place.map(|place| list.callbacks.remove(place))
        };
        // The callback itself is dropped out here: its destructor is the user's code.
        drop(gone);
    }
}

impl<E> fmt::Debug for Subscribers<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscribers").finish_non_exhaustive()
    }
}

/// Keeps a callback subscribed; made by [`CircuitBreaker::subscribe`](super::CircuitBreaker::subscribe)
/// and [`KeyedCircuitBreaker::subscribe`](super::keyed::KeyedCircuitBreaker::subscribe).
///
/// Dropping it ends the subscription. A call of the callback that is under way in another thread
/// may still finish after that.
#[must_use = "the subscription ends when this is dropped"]
pub struct Subscription {
    subscribers: &'static dyn Unsubscribe,
    id: u64,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.subscribers.unsubscribe(self.id);
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("id", &self.id).finish_non_exhaustive()
    }
}
