//! Shared pieces of the peer benchmark: the inner service, the poll-loop
//! drivers, the reference "floor" implementations and the case registry.
//!
//! To add a new crate: add a module under `cases`, push `Case`s into the
//! registry with the same `group` names, and every binary (`bench`, `allocs`,
//! `icount`, `contend`) picks them up.

pub mod cases;
pub mod contend_cases;
pub mod drive;
pub mod floor;
pub mod inner;
pub mod stats;

pub use drive::{Built, Tally};
pub use inner::{E, Inner, POISON};

/// What every call of a case must return; checked after each batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expect {
    Ok,
    Err,
    /// Some of each: the case sends failing requests itself.
    Mixed,
}

pub struct Case {
    /// e.g. "a breaker closed"
    pub group: &'static str,
    /// crate under test
    pub krate: &'static str,
    /// what exactly
    pub variant: &'static str,
    pub expect: Expect,
    /// Lazily builds the thing under test (inside a tokio runtime context).
    pub build: fn() -> Built,
}

impl Case {
    pub fn id(&self) -> String {
        format!("{}|{}|{}", self.group, self.krate, self.variant)
    }
}

/// A current-thread tokio runtime that lives for the whole process. Callers
/// `enter()` it and poll by hand, so the scheduler is never in the measurement.
pub fn leaked_rt() -> &'static tokio::runtime::Runtime {
    Box::leak(Box::new(
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap(),
    ))
}

/// Pin the calling thread to a cpu (best effort).
pub fn pin_to(cpu: usize) {
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, std::mem::size_of::<libc::cpu_set_t>(), &set);
    }
}
