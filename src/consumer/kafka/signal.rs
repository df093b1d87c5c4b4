use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::Waker,
};

use crate::sync::lock;

/// Wakes the task that polls the source. librdkafka's own threads do, from within a lock of theirs,
/// when a queue that was empty has something in it.
#[derive(Default)]
pub(super) struct Signal {
    waker: Mutex<Option<Waker>>,
    /// There are events to serve, or may be: everything but messages.
    events: AtomicBool,
}

impl Signal {
    pub(super) fn register(&self, waker: &Waker) {
        let mut registered = lock(&self.waker);
        if !registered.as_ref().is_some_and(|registered| registered.will_wake(waker)) {
            *registered = Some(waker.clone());
        }
    }

    pub(super) fn wake(&self) {
        let waker = lock(&self.waker).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(super) fn event(&self) {
        self.events.store(true, Ordering::Release);
        self.wake();
    }

    /// Whether there may be events. They are served until there are none.
    pub(super) fn take_event(&self) -> bool {
        self.events.swap(false, Ordering::Acquire)
    }
}
