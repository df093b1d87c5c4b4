use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use super::Transition;
use crate::sync::{Mutex, lock};

type Callback = Arc<dyn Fn(&Transition) + Send + Sync>;

/// Who wants to hear of transitions.
pub(super) struct Subscribers {
    list: Mutex<List>,
}

struct List {
    next: u64,
    callbacks: Vec<(u64, Callback)>,
}

impl Subscribers {
    pub(super) fn new() -> Self {
        Subscribers { list: Mutex::new(List { next: 0, callbacks: Vec::new() }) }
    }

    pub(super) fn add(&'static self, callback: Callback) -> Subscription {
        let mut list = lock(&self.list);
        let id = list.next;
        list.next += 1;
        list.callbacks.push((id, callback));
        Subscription { subscribers: self, id }
    }

    /// Calls everybody, outside of every lock. One that panics is left behind; the panic hook has
    /// told of it, and neither the other callbacks nor the caller of the breaker are to suffer.
    pub(super) fn tell(&self, transition: &Transition) {
        let callbacks: Vec<Callback> = {
            let list = lock(&self.list);
            list.callbacks.iter().map(|(_, callback)| Arc::clone(callback)).collect()
        };
        for callback in callbacks {
            // Moved in: if it has unsubscribed itself, its destructor runs here as well.
            let _ = catch_unwind(AssertUnwindSafe(move || callback(transition)));
        }
    }
}

impl fmt::Debug for Subscribers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscribers").finish_non_exhaustive()
    }
}

/// Keeps a callback subscribed; made by [`CircuitBreaker::subscribe`](super::CircuitBreaker::subscribe).
///
/// Dropping it ends the subscription. A call of the callback that is under way in another thread
/// may still finish after that.
#[must_use = "the subscription ends when this is dropped"]
pub struct Subscription {
    subscribers: &'static Subscribers,
    id: u64,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let gone = {
            let mut list = lock(&self.subscribers.list);
            let place = list.callbacks.iter().position(|(id, _)| *id == self.id);
            place.map(|place| list.callbacks.remove(place))
        };
        // The callback itself is dropped out here: its destructor is the user's code.
        drop(gone);
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("id", &self.id).finish_non_exhaustive()
    }
}
