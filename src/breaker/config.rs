use std::time::Duration;

use super::{
    gate::MAX_PROBES,
    window::{BUCKETS, MAX_CALLS},
};
use crate::{backoff::Backoff, error::ConfigError};

/// Which calls a breaker looks at.
///
/// With feature `serde`: `{ calls = 100 }` or `{ time = "10s" }`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum Window {
    /// The last N completed calls, exactly; 1 to 1024.
    Calls(u32),
    /// The calls completed in the last T, in ten buckets; at least 10 ms.
    Time(#[cfg_attr(feature = "serde", serde(with = "humantime_serde"))] Duration),
}

impl Window {
    /// The last `calls` completed calls, exactly; 1 to 1024.
    ///
    /// Reacts as fast at any rate of traffic, costs no clock, and writes nothing while all is well.
    pub const fn calls(calls: u32) -> Self {
        Window::Calls(calls)
    }

    /// The calls completed in the last `length`, in ten buckets, so that it covers between nine
    /// tenths of `length` and all of it; at least 10 ms.
    ///
    /// For traffic that comes in waves, where the last hundred calls may be an hour old. Reads the
    /// clock once per call. A bucket counts 16 million calls; past that it goes on with half of
    /// both counts, which keeps their ratio.
    pub const fn time(length: Duration) -> Self {
        Window::Time(length)
    }
}

/// When slow calls trip a breaker.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct SlowCalls {
    /// A call that takes this long or longer is slow, whatever comes of it; above zero.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub threshold: Duration,
    /// The share of slow calls in the window that trips; above 0 and at most 1.
    pub ratio: f64,
}

/// What a call means that was dropped before it had an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum Abandoned {
    /// Nothing: whoever gave it up had reasons of their own.
    Ignore,
    /// A failure: whoever gave it up had waited too long.
    Failure,
}

/// What a breaker does with callers while it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum WhenOpen {
    /// Ready at once, and the call is refused with an error.
    Refuse,
    /// Not ready until calls may pass again: backpressure, for balancers and consumers.
    Wait,
}

/// The configuration of a circuit breaker.
///
/// [`CircuitBreaker::builder`](super::CircuitBreaker::builder) has a method for each field, which
/// says what it does, its range, and why its default is what it is. This struct is for
/// configuration that comes from elsewhere; with feature `serde` every field is optional, durations
/// are written as `"1m 30s"`, and unknown fields are refused.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct CircuitBreakerConfig {
    /// See [`CircuitBreakerBuilder::window`](super::CircuitBreakerBuilder::window).
    pub window: Window,
    /// See [`CircuitBreakerBuilder::failure_ratio`](super::CircuitBreakerBuilder::failure_ratio).
    pub failure_ratio: f64,
    /// See [`CircuitBreakerBuilder::min_calls`](super::CircuitBreakerBuilder::min_calls).
    pub min_calls: u32,
    /// See [`CircuitBreakerBuilder::consecutive_failures`](super::CircuitBreakerBuilder::consecutive_failures).
    pub consecutive_failures: Option<u32>,
    /// See [`CircuitBreakerBuilder::slow_calls`](super::CircuitBreakerBuilder::slow_calls).
    pub slow_calls: Option<SlowCalls>,
    /// See [`CircuitBreakerBuilder::open_for`](super::CircuitBreakerBuilder::open_for).
    pub open_for: Backoff,
    /// See [`CircuitBreakerBuilder::probes`](super::CircuitBreakerBuilder::probes).
    pub probes: u32,
    /// See [`CircuitBreakerBuilder::success_ratio`](super::CircuitBreakerBuilder::success_ratio).
    pub success_ratio: f64,
    /// See [`CircuitBreakerBuilder::half_open_for`](super::CircuitBreakerBuilder::half_open_for).
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub half_open_for: Duration,
    /// See [`CircuitBreakerBuilder::abandoned`](super::CircuitBreakerBuilder::abandoned).
    pub abandoned: Abandoned,
    /// See [`CircuitBreakerBuilder::abandoned_after`](super::CircuitBreakerBuilder::abandoned_after).
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub abandoned_after: Option<Duration>,
    /// See [`CircuitBreakerBuilder::when_open`](super::CircuitBreakerBuilder::when_open).
    pub when_open: WhenOpen,
    /// See [`CircuitBreakerBuilder::shadow`](super::CircuitBreakerBuilder::shadow).
    pub shadow: bool,
}

impl Default for CircuitBreakerConfig {
    fn default() -> Self {
        CircuitBreakerConfig {
            window: Window::calls(100),
            failure_ratio: 0.5,
            min_calls: 20,
            consecutive_failures: None,
            slow_calls: None,
            open_for: Backoff::exponential(Duration::from_secs(5)).max(Duration::from_secs(60)),
            probes: 3,
            success_ratio: 0.5,
            half_open_for: Duration::from_secs(30),
            abandoned: Abandoned::Ignore,
            abandoned_after: None,
            when_open: WhenOpen::Refuse,
            shadow: false,
        }
    }
}

const POLICY: &str = "circuit breaker";
const SHORTEST_WINDOW: Duration = Duration::from_millis(BUCKETS);

impl CircuitBreakerConfig {
    /// Checks every field, and those that belong together. `build()` does this too.
    pub fn validate(&self) -> Result<(), ConfigError> {
        match self.window {
            Window::Calls(calls) => {
                let rule = format!("must be from 1 to {MAX_CALLS} calls");
                require((1..=MAX_CALLS).contains(&calls), "window", rule, calls)?;
                let rule = format!("must be from 1 to the {calls} calls of the window");
                require((1..=calls).contains(&self.min_calls), "min_calls", rule, self.min_calls)?;
            }
            Window::Time(length) => {
                let rule = format!("must be at least {SHORTEST_WINDOW:?}");
                require(length >= SHORTEST_WINDOW, "window", rule, length)?;
                require(self.min_calls >= 1, "min_calls", "must be at least 1", self.min_calls)?;
            }
        }
        require_ratio("failure_ratio", self.failure_ratio)?;
        if let Some(failures) = self.consecutive_failures {
            require(failures >= 1, "consecutive_failures", "must be at least 1", failures)?;
        }
        if let Some(slow) = self.slow_calls {
            let rule = "must have a threshold above zero";
            require(!slow.threshold.is_zero(), "slow_calls", rule, slow.threshold)?;
            require_ratio("slow_calls.ratio", slow.ratio)?;
        }
        self.open_for.validate(POLICY, "open_for")?;
        let shortest = self.open_for.delay_unjittered(0);
        require(!shortest.is_zero(), "open_for", "must be above zero", shortest)?;
        let rule = format!("must be from 1 to {MAX_PROBES}");
        require((1..=MAX_PROBES).contains(&self.probes), "probes", rule, self.probes)?;
        require_ratio("success_ratio", self.success_ratio)?;
        let half_open_for = self.half_open_for;
        require(!half_open_for.is_zero(), "half_open_for", "must be above zero", half_open_for)?;
        if let Some(after) = self.abandoned_after {
            require(!after.is_zero(), "abandoned_after", "must be above zero", after)?;
            let rule = "must be left out where `abandoned` already counts every call given up";
            require(self.abandoned == Abandoned::Ignore, "abandoned_after", rule, after)?;
        }
        Ok(())
    }
}

pub(super) fn require(
    holds: bool,
    field: &'static str,
    rule: impl Into<String>,
    given: impl std::fmt::Debug,
) -> Result<(), ConfigError> {
    if holds { Ok(()) } else { Err(ConfigError::new(POLICY, field, rule, given)) }
}

fn require_ratio(field: &'static str, ratio: f64) -> Result<(), ConfigError> {
    // NaN is in no range.
    require(ratio > 0.0 && ratio <= 1.0, field, "must be above 0 and at most 1", ratio)
}
