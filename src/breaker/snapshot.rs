use tokio::time::Instant;

use super::{OpenReason, State, Transition};

/// What a breaker looked like at one moment; made by
/// [`CircuitBreaker::snapshot`](super::CircuitBreaker::snapshot).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Snapshot {
    /// The breaker's name.
    pub name: &'static str,
    /// What the next call would meet.
    pub state: State,
    /// The number of this life of the breaker.
    pub generation: u32,
    /// When the state began.
    pub since: Instant,
    /// When it will probe, if it is open and will by itself.
    pub ready_at: Option<Instant>,
    /// Completed calls in the window. Zero unless calls pass freely.
    pub calls: u32,
    /// Failures in the window.
    pub failures: u32,
    /// Slow calls in the window; `None` if nobody asked to count them.
    pub slow: Option<u32>,
    /// Failures one after the other; zero if nobody asked to count them.
    pub consecutive_failures: u32,
    /// The probes, while half-open.
    pub probes: Option<Probes>,
    /// Why it is open, or was before it became half-open.
    pub reason: Option<OpenReason>,
    /// Whether it only watches and refuses nothing.
    pub shadow: bool,
    /// How the present outage began, or the last one: the last opening from closed. Kept apart,
    /// because a long outage fills the history with probing.
    pub outage: Option<Transition>,
    /// The last transitions, at most 32, the latest last, each with its evidence.
    pub transitions: Vec<Transition>,
}

/// The probes of a half-open phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Probes {
    /// Under way.
    pub outstanding: u32,
    /// Came back good.
    pub succeeded: u32,
    /// Came back bad.
    pub failed: u32,
}

impl Snapshot {
    /// The share of failures in the window, from 0 to 1; zero of an empty window.
    pub fn failure_ratio(&self) -> f64 {
        f64::from(self.failures) / f64::from(self.calls.max(1))
    }

    /// The share of slow calls in the window, from 0 to 1; `None` if nobody asked to count them.
    pub fn slow_ratio(&self) -> Option<f64> {
        self.slow.map(|slow| f64::from(slow) / f64::from(self.calls.max(1)))
    }
}
