//! Points in time that fit into an atomic word.
//!
//! Everything here is tokio's clock (law 10), so a paused runtime moves every policy. Nanoseconds
//! are counted from an epoch in the middle of the range: a test whose virtual clock has run ahead
//! may set the epoch, and another runtime whose clock is behind it must still see time pass.

use std::{sync::LazyLock, time::Duration};

use tokio::time::Instant;

static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Where the epoch lies on the scale: 146 years on either side.
const MIDDLE: u64 = 1 << 62;

/// A point in time as nanoseconds; arithmetic saturates and never runs backwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tick(u64);

impl Tick {
    /// Later than any reading of the clock.
    pub(crate) const NEVER: Tick = Tick(u64::MAX);

    /// Reads the clock.
    #[inline(never)]
    pub(crate) fn now() -> Self {
        Tick::now_inline()
    }

    /// [`now`](Self::now) for the two paths that read the clock on every call: an open circuit's
    /// and a time window's. Everywhere else that is rare, and as code it would only be in the way.
    #[inline]
    pub(crate) fn now_inline() -> Self {
        let epoch = *EPOCH;
        let now = Instant::now();
        match now.checked_duration_since(epoch) {
            Some(after) => Tick(MIDDLE.saturating_add(nanos(after))),
            None => Tick::before_the_epoch(epoch, now),
        }
    }

    #[cold]
    fn before_the_epoch(epoch: Instant, now: Instant) -> Self {
        Tick(MIDDLE.saturating_sub(nanos(epoch - now)))
    }

    pub(crate) const fn from_bits(bits: u64) -> Self {
        Tick(bits)
    }

    pub(crate) const fn bits(self) -> u64 {
        self.0
    }

    /// This point and `delay`; what lies beyond the range is [`Tick::NEVER`].
    pub(crate) fn after(self, delay: Duration) -> Self {
        Tick(self.0.saturating_add(nanos(delay)))
    }

    /// This point less `delay`.
    pub(crate) fn before(self, delay: Duration) -> Self {
        Tick(self.0.saturating_sub(nanos(delay)))
    }

    /// Time since `earlier`, zero if that lies in the future.
    pub(crate) fn since(self, earlier: Tick) -> Duration {
        Duration::from_nanos(self.nanos_since(earlier))
    }

    /// [`since`](Self::since) in nanoseconds.
    #[inline]
    pub(crate) const fn nanos_since(self, earlier: Tick) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// This point on tokio's clock, for timers and for users; `None` for [`Tick::NEVER`].
    pub(crate) fn instant(self) -> Option<Instant> {
        if self == Tick::NEVER {
            return None;
        }
        let epoch = *EPOCH;
        match self.0.checked_sub(MIDDLE) {
            Some(after) => epoch.checked_add(Duration::from_nanos(after)),
            None => epoch.checked_sub(Duration::from_nanos(MIDDLE - self.0)),
        }
    }
}

/// Whole nanoseconds, saturating after 584 years.
#[inline]
pub(crate) fn nanos(duration: Duration) -> u64 {
    duration
        .as_secs()
        .saturating_mul(1_000_000_000)
        .saturating_add(u64::from(duration.subsec_nanos()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn law_10_ticks_follow_the_paused_clock() {
        let start = Tick::now();
        tokio::time::advance(Duration::from_millis(1500)).await;
        assert_eq!(Tick::now().since(start), Duration::from_millis(1500));
        assert_eq!(start.since(Tick::now()), Duration::ZERO);
        assert_eq!(start.after(Duration::from_millis(1500)), Tick::now());
        assert_eq!(Tick::now().instant(), Some(Instant::now()));
    }

    #[test]
    fn law_10_a_clock_behind_the_epoch_still_moves() {
        let epoch_is_ahead = Tick::from_bits(MIDDLE - 5_000_000_000);
        let later = epoch_is_ahead.after(Duration::from_secs(1));
        assert_eq!(later.since(epoch_is_ahead), Duration::from_secs(1));
        assert!(later < Tick::from_bits(MIDDLE));
    }

    #[test]
    fn law_10_arithmetic_saturates() {
        assert_eq!(Tick::now().after(Duration::MAX), Tick::NEVER);
        assert_eq!(Tick::NEVER.after(Duration::from_secs(1)), Tick::NEVER);
        assert_eq!(Tick::NEVER.instant(), None);
        assert_eq!(nanos(Duration::MAX), u64::MAX);
    }
}
