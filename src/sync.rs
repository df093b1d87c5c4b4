//! Atomics and locks: the standard library's, or loom's when the models are built with
//! `--cfg buttress_loom` (a name of our own, because `--cfg loom` would also switch tokio over).

#[cfg(not(buttress_loom))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU64, Ordering, fence},
};

#[cfg(buttress_loom)]
pub(crate) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU64, Ordering, fence},
};

/// Locks, whatever happened to the last holder: nothing behind our locks is left half-written by
/// a panic, and a poisoned policy would refuse for ever (law 12).
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Runs a model in every order of its threads' steps, and with every value a load may see, that
/// some preemptions can lead to: as many as `LOOM_MAX_PREEMPTIONS` says, else three, for without
/// a bound the longer models would not end.
#[cfg(all(test, buttress_loom))]
pub(crate) fn model(model: impl Fn() + Send + Sync + 'static) {
    let mut explorer = loom::model::Builder::new();
    explorer.preemption_bound.get_or_insert(3);
    explorer.max_branches = 10_000;
    explorer.check(model);
}
