use super::{cell::BreakerCell, evidence::Evidence};
use crate::{clock::Tick, error::PolicyError, telemetry};

/// Why a call is refused, and until when: in two words, which fit into registers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refusal {
    /// Packed; see [`evidence`](super::evidence).
    why: u64,
    /// Nanoseconds, or one of the two below.
    wait: u64,
}

/// Forced open without an expiry.
const UNTIL_TOLD: u64 = u64::MAX;

/// Half-open with all its probes under way: until one of them comes back. (As a number it would be
/// nearly six centuries.)
const UNTIL_PROBED: u64 = u64::MAX - 1;

impl Refusal {
    /// The circuit is open.
    #[inline]
    pub(super) fn open(why: u64, until: Tick, now: Tick) -> Self {
        let wait = if until == Tick::NEVER { UNTIL_TOLD } else { until.nanos_since(now) };
        Refusal { why, wait }
    }

    /// It is half-open, and all its probes are under way.
    pub(super) const fn probes_taken(why: u64) -> Self {
        Refusal { why, wait: UNTIL_PROBED }
    }
}

/// A call that was refused, counted and told of.
///
/// What a future keeps until it is polled. The error is made only then, where it is handed out: each
/// copy of it on the way would read in a few large pieces what had just been written in several
/// small ones, and for that a processor waits until the writes are through. With the reading of the
/// clock aside, a refusal took four times as long with those copies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refused {
    by: &'static BreakerCell,
    refusal: Refusal,
}

impl Refused {
    #[inline]
    pub(super) fn new(by: &'static BreakerCell, refusal: Refusal) -> Self {
        let refused = Refused { by, refusal };
        by.meter.count(match refusal.wait {
            UNTIL_PROBED => telemetry::BREAKER_PROBES_TAKEN,
            _ => telemetry::BREAKER_OPEN,
        });
        by.meter.raised(&refused.into());
        refused
    }
}

impl From<Refused> for PolicyError {
    #[inline]
    fn from(Refused { by, refusal: Refusal { why, wait } }: Refused) -> Self {
        let why = Evidence::new(why, &by.config);
        match wait {
            UNTIL_PROBED => PolicyError::probes_taken(by.name, why),
            UNTIL_TOLD => PolicyError::circuit_open(by.name, why, None),
            nanos => PolicyError::circuit_open(by.name, why, Some(nanos)),
        }
    }
}
