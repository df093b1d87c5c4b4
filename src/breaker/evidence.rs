//! The reason a circuit is open, packed into one word that a refusal reads without a lock.
//!
//! Four bits say which condition, twice thirty bits hold its counts; the limits come from the
//! configuration. A time window may hold more than thirty bits of calls: both counts are then
//! scaled down together.
//!
//! An error takes the word as it is, and looks at it only if it is asked.

use super::{CircuitBreakerConfig, OpenReason};

const MAX: u32 = (1 << 30) - 1;

pub(super) const fn failure_ratio(
    failures: u32,
    calls: u32,
    config: &CircuitBreakerConfig,
) -> OpenReason {
    OpenReason::FailureRatio { failures, calls, limit: config.failure_ratio as f32 }
}

pub(super) const fn slow_ratio(slow: u32, calls: u32, config: &CircuitBreakerConfig) -> OpenReason {
    let limit = match config.slow_calls {
        Some(slow) => slow.ratio as f32,
        None => 1.0,
    };
    OpenReason::SlowRatio { slow, calls, limit }
}

pub(super) fn pack(why: OpenReason) -> u64 {
    let (which, part, whole) = match why {
        OpenReason::Forced => (0, 0, 0),
        OpenReason::FailureRatio { failures, calls, .. } => (1, failures, calls),
        OpenReason::SlowRatio { slow, calls, .. } => (2, slow, calls),
        OpenReason::ConsecutiveFailures { failures } => (3, failures, 0),
        OpenReason::ProbesFailed { failed, .. } => (4, failed, 0),
        OpenReason::ProbesOverdue { outstanding, .. } => (5, outstanding, 0),
    };
    let (part, whole) = if whole > MAX { (part / 4, whole / 4) } else { (part.min(MAX), whole) };
    which << 60 | u64::from(part) << 30 | u64::from(whole)
}

pub(super) const fn unpack(word: u64, config: &CircuitBreakerConfig) -> OpenReason {
    let part = (word >> 30) as u32 & MAX;
    let whole = word as u32 & MAX;
    match word >> 60 {
        1 => failure_ratio(part, whole, config),
        2 => slow_ratio(part, whole, config),
        3 => OpenReason::ConsecutiveFailures { failures: part },
        4 => OpenReason::ProbesFailed { failed: part, probes: config.probes },
        5 => OpenReason::ProbesOverdue { outstanding: part, probes: config.probes },
        _ => OpenReason::Forced,
    }
}

/// The word in an error, with what it is read by.
#[derive(Clone, Copy)]
pub(crate) struct Evidence {
    word: u64,
    config: &'static CircuitBreakerConfig,
}

impl Evidence {
    #[inline]
    pub(super) const fn new(word: u64, config: &'static CircuitBreakerConfig) -> Self {
        Evidence { word, config }
    }

    pub(crate) const fn reason(self) -> OpenReason {
        unpack(self.word, self.config)
    }

    /// Of a breaker with the defaults, which there is not.
    #[cfg(test)]
    pub(crate) fn of(why: OpenReason) -> Self {
        Evidence::new(pack(why), Box::leak(Box::default()))
    }
}

impl PartialEq for Evidence {
    fn eq(&self, other: &Self) -> bool {
        self.reason() == other.reason()
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_reason_survives_the_word() {
        let config = CircuitBreakerConfig { probes: 3, ..Default::default() };
        for why in [
            OpenReason::Forced,
            OpenReason::FailureRatio { failures: 57, calls: 100, limit: 0.5 },
            OpenReason::SlowRatio { slow: 1, calls: MAX, limit: 1.0 },
            OpenReason::ConsecutiveFailures { failures: 7 },
            OpenReason::ProbesFailed { failed: 2, probes: 3 },
            OpenReason::ProbesOverdue { outstanding: 1, probes: 3 },
        ] {
            assert_eq!(unpack(pack(why), &config), why);
        }
    }

    #[test]
    fn counts_too_large_for_the_word_keep_their_ratio() {
        let config = CircuitBreakerConfig::default();
        let huge = failure_ratio(2_000_000_000, 4_000_000_000, &config);
        let kept = failure_ratio(500_000_000, 1_000_000_000, &config);
        assert_eq!(unpack(pack(huge), &config), kept);
    }
}
