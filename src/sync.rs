//! Atomics and locks: the standard library's, or loom's when the models are built with
//! `--cfg buttress_loom` (a name of our own, because `--cfg loom` would also switch tokio over).

#[cfg(not(buttress_loom))]
pub(crate) use std::sync::{
    Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard,
    atomic::{AtomicBool, AtomicU64, Ordering, fence},
};

#[cfg(buttress_loom)]
pub(crate) use loom::sync::{
    Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard,
    atomic::{AtomicBool, AtomicU64, Ordering, fence},
};

/// Locks, whatever happened to the last holder: nothing behind our locks is left half-written by
/// a panic, and a poisoned policy would refuse for ever (law 12).
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// [`lock`], to look.
#[inline]
pub(crate) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// [`lock`], to change something.
pub(crate) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Runs a model in every order of its threads' steps, and with every value a load may see, that
/// some preemptions can lead to: as many as `LOOM_MAX_PREEMPTIONS` says, else three, for without
/// a bound the longer models would not end.
#[cfg(all(test, buttress_loom))]
pub(crate) fn model(model: impl Fn() + Send + Sync + 'static) {
    // The clock stands still: an order can only be gone through again if nothing else decides.
    let mut clock = tokio::runtime::Builder::new_current_thread();
    let clock = clock.enable_time().start_paused(true).build().unwrap();
    let _clock = clock.enter();
    let mut explorer = loom::model::Builder::new();
    explorer.preemption_bound.get_or_insert(3);
    explorer.max_branches = 10_000;
    explorer.check(model);
}

/// [`model`] of two threads, once with each of them ahead.
///
/// loom remembers only the last access to an atomic. So it overlooks the orders in which a thread
/// that only reads comes after one that reads and then writes, if it has gone through them the
/// other way round; and finds them if the other one is ahead.
#[cfg(all(test, buttress_loom))]
pub(crate) fn model_of_two(code: impl Fn(Two) + Send + Sync + 'static) {
    let code = std::sync::Arc::new(code);
    for two in [Two::FirstAhead, Two::SecondAhead] {
        let code = std::sync::Arc::clone(&code);
        model(move || code(two));
    }
}

/// Which of two threads loom lets go first.
#[cfg(all(test, buttress_loom))]
#[derive(Clone, Copy)]
pub(crate) enum Two {
    FirstAhead,
    SecondAhead,
}

#[cfg(all(test, buttress_loom))]
impl Two {
    /// Runs both at the same time.
    pub(crate) fn run<A: 'static, B: 'static>(
        self,
        first: impl FnOnce() -> A + 'static,
        second: impl FnOnce() -> B + 'static,
    ) -> (A, B) {
        match self {
            Two::FirstAhead => {
                let second = loom::thread::spawn(second);
                (first(), second.join().unwrap())
            }
            Two::SecondAhead => {
                let first = loom::thread::spawn(first);
                let second = second();
                (first.join().unwrap(), second)
            }
        }
    }
}
