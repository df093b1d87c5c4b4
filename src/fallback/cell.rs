// Not `crate::sync`: nothing is decided by these counts, so there is nothing for loom to model, and
// the cell of unnamed fallbacks is a `static`, which loom's atomics cannot be.
use std::sync::atomic::{AtomicU64, Ordering};

use super::FallbackConfig;
use crate::{
    telemetry::{self, Meter, Stopwatch},
    verdict::VerdictKind,
};

/// How often a fallback was needed, and what came of it, since it was built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FallbackCounts {
    /// Calls that the fallback answered.
    pub degraded: u64,
    /// Calls that failed: the fallback did too, or the failure was none it answers, or there was
    /// no copy of the request that could be given to the backup.
    pub failed: u64,
    /// Those of the failed calls for which there was no copy of the request: none could be made, or
    /// none may ever be sent.
    pub uncloneable: u64,
    /// Those of the failed calls whose request the primary may have executed and the backup must
    /// not execute [again](crate::Repeats).
    pub not_idempotent: u64,
}

/// The state of one fallback. Healthy calls write nothing here.
pub(super) struct FallbackCell {
    pub(super) name: &'static str,
    pub(super) config: FallbackConfig,
    meter: Meter,
    degraded: AtomicU64,
    failed: AtomicU64,
    uncloneable: AtomicU64,
    not_idempotent: AtomicU64,
}

impl FallbackCell {
    pub(super) const fn new(name: &'static str, config: FallbackConfig) -> Self {
        FallbackCell {
            name,
            config,
            meter: Meter::new(name, telemetry::FALLBACK),
            degraded: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            uncloneable: AtomicU64::new(0),
            not_idempotent: AtomicU64::new(0),
        }
    }

    pub(super) fn counts(&self) -> FallbackCounts {
        FallbackCounts {
            degraded: self.degraded.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            uncloneable: self.uncloneable.load(Ordering::Relaxed),
            not_idempotent: self.not_idempotent.load(Ordering::Relaxed),
        }
    }

    /// Whether the fallback answers an outcome of this kind.
    #[inline]
    pub(super) fn answers(&self, kind: VerdictKind) -> bool {
        self.config.when.contains(kind)
    }

    #[inline]
    pub(super) fn start(&self) -> Stopwatch {
        self.meter.start()
    }

    /// The primary's outcome goes through as it is.
    #[inline]
    pub(super) fn passed(&self, kind: VerdictKind, stopwatch: Stopwatch) {
        if self.is_failure(kind) {
            self.failed(stopwatch);
        } else {
            self.meter.finish(telemetry::FALLBACK_GOOD, stopwatch);
        }
    }

    /// The primary's error of readiness goes through as it is: no call was made, none is timed.
    #[cold]
    pub(super) fn unready(&self, kind: VerdictKind) {
        if self.is_failure(kind) {
            self.failed.fetch_add(1, Ordering::Relaxed);
            self.meter.count(telemetry::FALLBACK_FAILED);
        } else {
            self.meter.count(telemetry::FALLBACK_GOOD);
        }
    }

    /// The primary's failure goes through because the request could not be copied for the backup.
    #[cold]
    pub(super) fn uncloneable(&self, stopwatch: Stopwatch) {
        self.uncloneable.fetch_add(1, Ordering::Relaxed);
        self.meter.count(telemetry::FALLBACK_UNCLONEABLE);
        self.failed(stopwatch);
    }

    /// The primary's failure goes through because the backup must not repeat what the primary may
    /// have done.
    #[cold]
    pub(super) fn not_idempotent(&self, stopwatch: Stopwatch) {
        self.not_idempotent.fetch_add(1, Ordering::Relaxed);
        self.meter.count(telemetry::FALLBACK_NOT_IDEMPOTENT);
        self.failed(stopwatch);
    }

    /// The fallback is taken.
    #[cold]
    pub(super) fn taken(&self, standby: Standby, original: VerdictKind) {
        self.meter.count(standby.row());
        self.meter.falling_back(standby.as_str(), original);
    }

    /// The fallback's own outcome was of the kind `answer`, and is what the caller gets.
    #[cold]
    pub(super) fn answered(
        &self,
        standby: Standby,
        original: VerdictKind,
        answer: VerdictKind,
        stopwatch: Stopwatch,
    ) {
        if self.is_failure(answer) {
            self.meter.fallback_failed(standby.as_str(), original);
            self.failed(stopwatch);
        } else {
            self.degraded.fetch_add(1, Ordering::Relaxed);
            self.meter.finish(telemetry::FALLBACK_DEGRADED, stopwatch);
        }
    }

    #[cold]
    fn failed(&self, stopwatch: Stopwatch) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        self.meter.finish(telemetry::FALLBACK_FAILED, stopwatch);
    }

    /// Whether a caller who gets this has been failed. A permanent answer is an answer, as it is
    /// to a breaker, unless this fallback was told to stand in for those.
    #[inline]
    fn is_failure(&self, kind: VerdictKind) -> bool {
        use VerdictKind::{Final, Refused, Throttled, Transient, Unreachable};
        matches!(kind, Transient | Unreachable | Throttled | Final | Refused) || self.answers(kind)
    }
}

/// What stands in for the primary: a label and a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standby {
    Value,
    Function,
    Service,
}

impl Standby {
    const fn as_str(self) -> &'static str {
        match self {
            Standby::Value => "value",
            Standby::Function => "function",
            Standby::Service => "service",
        }
    }

    const fn row(self) -> usize {
        match self {
            Standby::Value => telemetry::FALLBACK_VALUE,
            Standby::Function => telemetry::FALLBACK_FUNCTION,
            Standby::Service => telemetry::FALLBACK_SERVICE,
        }
    }
}
