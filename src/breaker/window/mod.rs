//! Sliding windows: the share of bad calls among the last ones, without a lock.

use crate::clock::Tick;

mod count;
#[cfg(all(test, buttress_loom))]
mod loom;
mod time;

pub(super) use count::{CountWindow, MAX_CALLS};
pub(super) use time::{BUCKETS, TimeWindow};

/// What a window holds: how many calls, and how many of them bad.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) bad: u32,
    pub(super) calls: u32,
}

/// When a share of bad calls is too much.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    pub(super) ratio: f64,
    pub(super) min_calls: u32,
}

impl Limit {
    /// No rounding: 99 of 200 stays below 50 % (law 6).
    pub(super) fn is_reached_by(self, counts: Counts) -> bool {
        counts.calls >= self.min_calls
            && f64::from(counts.bad) / f64::from(counts.calls) >= self.ratio
    }
}

/// One of the two kinds of window.
#[derive(Debug)]
pub(super) enum SlidingWindow {
    Calls(CountWindow),
    Time(TimeWindow),
}

impl SlidingWindow {
    /// Whether recording needs to know what time it is.
    #[inline]
    pub(super) const fn needs_clock(&self) -> bool {
        matches!(self, SlidingWindow::Time(_))
    }

    /// A good call of this generation. Never trips anything (law 6).
    #[inline]
    pub(super) fn good(&self, generation: u32, now: Tick) {
        match self {
            SlidingWindow::Calls(window) => window.good(generation),
            SlidingWindow::Time(window) => window.good(generation, now),
        }
    }

    /// A good call now: when that was, if it matters.
    #[inline]
    pub(super) fn good_now(&self, generation: u32) -> Tick {
        match self {
            SlidingWindow::Calls(window) => {
                window.good(generation);
                Tick::NEVER
            }
            SlidingWindow::Time(window) => window.good_now(generation),
        }
    }

    /// A bad call of this generation. The counts, if with it the limit is reached.
    pub(super) fn bad(&self, generation: u32, now: Tick) -> Option<Counts> {
        match self {
            SlidingWindow::Calls(window) => window.bad(generation),
            SlidingWindow::Time(window) => window.bad(generation, now),
        }
    }

    /// What the window holds now, if it is of this generation.
    pub(super) fn counts(&self, generation: u32, now: Tick) -> Counts {
        match self {
            SlidingWindow::Calls(window) => window.counts(generation),
            SlidingWindow::Time(window) => window.counts(generation, now),
        }
    }

    /// Empties the window for a new generation. Calls of older ones no longer count.
    pub(super) fn reset(&self, generation: u32, now: Tick) {
        match self {
            SlidingWindow::Calls(window) => window.reset(generation),
            SlidingWindow::Time(window) => window.reset(generation, now),
        }
    }

    /// Heap memory behind the window, in bytes.
    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            SlidingWindow::Calls(window) => window.heap_bytes(),
            SlidingWindow::Time(_) => 0,
        }
    }
}
