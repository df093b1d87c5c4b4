//! The calls of the last T, in ten buckets, without a lock.
//!
//! Each bucket is one word with both counts and a tag; the epoch word says which bucket is the
//! current one. Whoever finds that time has moved on clears the buckets it has moved past and then
//! moves the epoch, and anybody may do so at the same time: clearing a bucket twice is clearing it
//! once. A call is only counted into a bucket that carries the tag of its time and generation.
//!
//! The window moves on a bucket at a time, so it covers between nine tenths of T and T.
//!
//! ```text
//!  epoch  63     43 42          0        bucket  63  48 47   24 23    0
//!        +---------+-------------+              +------+-------+-------+
//!        |   tag   |    turn     |              | tag  |  bad  | good  |
//!        +---------+-------------+              +------+-------+-------+
//! ```

use std::time::Duration;

use crate::{
    clock::{Tick, nanos},
    sync::{AtomicU64, Ordering, fence},
};

use super::{Counts, Limit};

/// How many buckets a window has. The models have three, an old, a last and a present one: with
/// ten, which are all cleared in turn, the orders are too many to go through.
pub(in crate::breaker) const BUCKETS: u64 = if cfg!(buttress_loom) { 3 } else { 10 };

const TAG_MASK: u32 = (1 << 21) - 1;
const TURN_BITS: u32 = 43;
const COUNT_MASK: u64 = (1 << 24) - 1;

/// 73 years of nanoseconds, half of what lies before a clock's own epoch.
const LONG_BEFORE: u64 = 1 << 61;

/// Which turn it is in which generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Epoch {
    tag: u32,
    turn: u64,
}

impl Epoch {
    const fn unpack(word: u64) -> Epoch {
        Epoch { tag: (word >> TURN_BITS) as u32, turn: word & ((1 << TURN_BITS) - 1) }
    }

    const fn pack(self) -> u64 {
        (self.tag as u64) << TURN_BITS | self.turn
    }

    /// The empty bucket of a turn: six bits of the generation, ten of the turn. The buckets are
    /// cleared as their time comes, so the turn need only be told from its neighbours.
    const fn empty_bucket(self, turn: u64) -> u64 {
        (self.tag as u64 & 0x3f) << 58 | (turn & 0x3ff) << 48
    }
}

const fn same_tag(one: u64, other: u64) -> bool {
    one >> 48 == other >> 48
}

const fn counts_of(bucket: u64) -> Counts {
    let bad = (bucket >> 24 & COUNT_MASK) as u32;
    Counts { bad, calls: bad + (bucket & COUNT_MASK) as u32 }
}

/// One more call. A bucket that is full keeps half of both counts, and so their ratio: 16 million
/// calls in a tenth of a window are a sample as good as 8 million.
const fn with_one_more(bucket: u64, bad: bool) -> u64 {
    let full = bucket & COUNT_MASK == COUNT_MASK || bucket >> 24 & COUNT_MASK == COUNT_MASK;
    let bucket = if full { halved(bucket) } else { bucket };
    bucket + if bad { 1 << 24 } else { 1 }
}

#[cold]
const fn halved(bucket: u64) -> u64 {
    bucket >> 48 << 48
        | (bucket >> 25 & (COUNT_MASK >> 1)) << 24
        | (bucket >> 1 & (COUNT_MASK >> 1))
}

#[derive(Debug)]
pub(in crate::breaker) struct TimeWindow {
    limit: Limit,
    turn_nanos: u64,
    /// Where turns are counted from: long before the window was built, so that a runtime whose
    /// clock is behind the builder's does not stand at the first turn. (It counts into the builder's
    /// present turn until its clock has caught up, or a transition has emptied the window.)
    origin: Tick,
    epoch: AtomicU64,
    buckets: [AtomicU64; BUCKETS as usize],
}

impl TimeWindow {
    pub(in crate::breaker) fn new(
        length: Duration,
        limit: Limit,
        generation: u32,
        now: Tick,
    ) -> Self {
        let turn_nanos = (nanos(length) / BUCKETS).max(1);
        // Whole turns, so that the first one begins now.
        let long_before = Duration::from_nanos(LONG_BEFORE - LONG_BEFORE % turn_nanos);
        let window = TimeWindow {
            limit,
            turn_nanos,
            origin: now.before(long_before),
            epoch: AtomicU64::new(0),
            buckets: std::array::from_fn(|_| AtomicU64::new(0)),
        };
        window.reset(generation, now);
        window
    }

    pub(super) fn good(&self, generation: u32, now: Tick) {
        self.add::<false>(generation, now);
    }

    /// [`good`](Self::good) now, in one piece with the reading of the clock. When that was.
    #[inline(never)]
    pub(super) fn good_now(&self, generation: u32) -> Tick {
        let now = Tick::now_inline();
        self.add::<false>(generation, now);
        now
    }

    pub(super) fn bad(&self, generation: u32, now: Tick) -> Option<Counts> {
        self.add::<true>(generation, now)?;
        // Somebody else may have failed in the next bucket meanwhile and not have seen this one.
        // So look again which is the last, after a fence: then at least one of the two sees both.
        fence(Ordering::SeqCst);
        let epoch = Epoch::unpack(self.epoch.load(Ordering::Acquire));
        if epoch.tag != generation & TAG_MASK {
            return None;
        }
        let counts = self.sum(epoch, epoch.turn);
        self.limit.is_reached_by(counts).then_some(counts)
    }

    fn turn_at(&self, now: Tick) -> u64 {
        (now.nanos_since(self.origin) / self.turn_nanos).min((1 << TURN_BITS) - 1)
    }

    /// The epoch to count into, moved on to `now` where that is later. `None` if the window is of
    /// another generation.
    #[inline]
    fn epoch_at(&self, generation: u32, now: Tick) -> Option<Epoch> {
        let epoch = Epoch::unpack(self.epoch.load(Ordering::Acquire));
        if epoch.tag != generation & TAG_MASK {
            return None;
        }
        // A reading of the clock that has been overtaken counts into the current bucket.
        let ends = (epoch.turn + 1).saturating_mul(self.turn_nanos);
        if now.nanos_since(self.origin) < ends {
            return Some(epoch);
        }
        self.move_on(epoch, self.turn_at(now))
    }

    #[cold]
    fn move_on(&self, mut epoch: Epoch, turn: u64) -> Option<Epoch> {
        while epoch.turn < turn {
            // After a long silence a bucket may still carry the tag of a turn whose low bits have
            // come round to those of one that must be cleared now. A step in between gives every
            // bucket a tag that cannot be mistaken.
            let far = turn - epoch.turn > 10 * BUCKETS;
            let next = Epoch { turn: if far { turn - 5 * BUCKETS } else { turn }, ..epoch };
            for turn in (epoch.turn + 1).max(next.turn.saturating_sub(BUCKETS - 1))..=next.turn {
                self.clear(turn, epoch);
            }
            let moved = self.epoch.compare_exchange(
                epoch.pack(),
                next.pack(),
                Ordering::AcqRel,
                Ordering::Acquire,
            );
            let current = moved.map_or_else(Epoch::unpack, |_| next);
            if current.tag != epoch.tag {
                return None;
            }
            epoch = current;
        }
        Some(epoch)
    }

    /// Gives a bucket the tag of its turn, if it does not have it yet.
    ///
    /// Only while the epoch stands still: once it has moved, the bucket may be in use for a later
    /// turn or generation. Looked at after the bucket, so that a bucket taken into use since then
    /// makes the swap fail.
    fn clear(&self, turn: u64, epoch: Epoch) {
        let (bucket, empty) = (self.bucket(turn), epoch.empty_bucket(turn));
        let mut word = bucket.load(Ordering::Acquire);
        while !same_tag(word, empty) && self.epoch.load(Ordering::Acquire) == epoch.pack() {
            match bucket.compare_exchange_weak(word, empty, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return,
                Err(current) => word = current,
            }
        }
    }

    #[inline]
    fn bucket(&self, turn: u64) -> &AtomicU64 {
        &self.buckets[(turn % BUCKETS) as usize]
    }

    /// Counts a call into the present bucket. `None` if the window is of another generation.
    #[inline]
    fn add<const BAD: bool>(&self, generation: u32, now: Tick) -> Option<()> {
        loop {
            let epoch = self.epoch_at(generation, now)?;
            let bucket = self.bucket(epoch.turn);
            let word = bucket.load(Ordering::Acquire);
            if !same_tag(word, epoch.empty_bucket(epoch.turn)) {
                // Two threads that moved on to different turns may have cleared it for the other.
                self.clear(epoch.turn, epoch);
                continue;
            }
            let added = bucket.compare_exchange_weak(
                word,
                with_one_more(word, BAD),
                Ordering::AcqRel,
                Ordering::Relaxed,
            );
            if added.is_ok() {
                return Some(());
            }
        }
    }

    /// The buckets of the last ten turns up to `turn`, as far as they have been reached.
    fn sum(&self, epoch: Epoch, turn: u64) -> Counts {
        let mut sum = Counts::default();
        for turn in turn.saturating_sub(BUCKETS - 1)..=epoch.turn {
            let bucket = self.bucket(turn).load(Ordering::Acquire);
            if same_tag(bucket, epoch.empty_bucket(turn)) {
                let counts = counts_of(bucket);
                sum.bad += counts.bad;
                sum.calls += counts.calls;
            }
        }
        sum
    }

    pub(super) fn counts(&self, generation: u32, now: Tick) -> Counts {
        let epoch = Epoch::unpack(self.epoch.load(Ordering::Acquire));
        if epoch.tag != generation & TAG_MASK {
            return Counts::default();
        }
        self.sum(epoch, self.turn_at(now).max(epoch.turn))
    }

    /// For a new generation; one at a time, as transitions are.
    pub(super) fn reset(&self, generation: u32, now: Tick) {
        let epoch = Epoch { tag: generation & TAG_MASK, turn: self.turn_at(now) };
        // The epoch first: whoever is still clearing for the old one sees that, or is overwritten.
        // Swaps and not stores: loom knows no order between a store and the compare-and-swap of
        // another thread.
        self.epoch.swap(epoch.pack(), Ordering::AcqRel);
        for turn in epoch.turn.saturating_sub(BUCKETS - 1)..=epoch.turn {
            self.bucket(turn).swap(epoch.empty_bucket(turn), Ordering::AcqRel);
        }
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// The same, written to be obvious: every call with its turn.
    #[derive(Default)]
    struct Reference(Vec<(u64, bool)>);

    impl Reference {
        fn counts(&self, now: u64) -> Counts {
            let within = self.0.iter().filter(|(turn, _)| turn + BUCKETS > now);
            let bad = within.clone().filter(|(_, bad)| *bad).count() as u32;
            Counts { bad, calls: within.count() as u32 }
        }
    }

    fn start() -> Tick {
        Tick::from_bits(1 << 62)
    }

    fn window(ratio: f64, min_calls: u32) -> TimeWindow {
        TimeWindow::new(10 * SECOND, Limit { ratio, min_calls }, 0, start())
    }

    #[test]
    fn calls_leave_the_window_when_their_time_is_over() {
        let window = window(0.5, 1);
        window.good(0, start());
        assert_eq!(window.counts(0, start().after(9 * SECOND)).calls, 1);
        assert_eq!(window.counts(0, start().after(10 * SECOND)).calls, 0);
        window.good(0, start().after(10 * SECOND));
        assert_eq!(window.counts(0, start().after(10 * SECOND)).calls, 1);
    }

    #[test]
    fn a_long_silence_leaves_nothing_behind() {
        // Both the bucket (modulo 10) and its tag (modulo 1024) are the same again after 5120 turns.
        for silence in [10_u32, 11, 99, 101, 1024, 5115, 5120, 5125, 1 << 30] {
            let window = window(0.5, 1);
            window.good(0, start());
            let later = start().after(silence * SECOND);
            assert_eq!(window.counts(0, later), Counts::default(), "after {silence} s");
            assert_eq!(window.bad(0, later), Some(Counts { bad: 1, calls: 1 }));
        }
    }

    #[test]
    fn law_04_another_generation_is_not_counted() {
        let window = window(0.5, 1);
        window.bad(0, start());
        window.reset(1, start());
        window.good(0, start());
        assert_eq!(window.bad(0, start()), None);
        assert_eq!(window.counts(1, start()), Counts::default());
    }

    /// What a thread has seen that then sleeps for a while, about to move the window on.
    fn seen(window: &TimeWindow) -> Epoch {
        Epoch::unpack(window.epoch.load(Ordering::SeqCst))
    }

    #[test]
    fn law_04_a_sleeper_of_an_older_generation_clears_nothing() {
        let window = window(0.5, 2);
        let (seen, now) = (seen(&window), start().after(SECOND));
        window.reset(1, now);
        window.bad(1, now);
        assert_eq!(window.move_on(seen, seen.turn + 1), None);
        assert_eq!(window.counts(1, now), Counts { bad: 1, calls: 1 });
        assert_eq!(window.bad(1, now), Some(Counts { bad: 2, calls: 2 }));
    }

    #[test]
    fn a_sleeper_clears_no_bucket_that_is_in_use_for_a_later_turn() {
        let window = window(0.5, 2);
        // Ten turns after the one the sleeper wants to clear for, so in the same place.
        let (seen, now) = (seen(&window), start().after(11 * SECOND));
        window.bad(0, now);
        window.move_on(seen, seen.turn + 1);
        assert_eq!(window.counts(0, now), Counts { bad: 1, calls: 1 });
    }

    #[test]
    fn a_clock_that_is_overtaken_counts_now() {
        let window = window(0.5, 1);
        window.good(0, start().after(5 * SECOND));
        window.good(0, start());
        assert_eq!(window.counts(0, start().after(14 * SECOND)).calls, 2);
    }

    #[test]
    fn a_full_bucket_keeps_its_ratio() {
        let full = 7 << 48 | (COUNT_MASK / 4) << 24 | COUNT_MASK;
        let after = with_one_more(full, false);
        assert!(same_tag(full, after));
        let counts = counts_of(after);
        assert_eq!(counts.bad, (COUNT_MASK / 8) as u32);
        assert_eq!(counts.calls - counts.bad, (COUNT_MASK / 2) as u32 + 1);
    }

    proptest! {
        #[test]
        fn equals_the_reference_call_by_call(
            ratio in 0.05_f64..=1.0,
            min_calls in 1_u32..30,
            calls in prop::collection::vec((0_u64..2500, any::<bool>()), 1..400),
            jump in 0_usize..400,
        ) {
            let limit = Limit { ratio, min_calls };
            let window = window(ratio, min_calls);
            let mut reference = Reference::default();
            let mut millis = 0;
            for (index, (step, bad)) in calls.into_iter().enumerate() {
                millis += if index == jump { 1_000_000 } else { step };
                let (now, turn) = (start().after(Duration::from_millis(millis)), millis / 1000);
                reference.0.push((turn, bad));
                let tripped = if bad { window.bad(0, now) } else { window.good(0, now); None };
                let counts = reference.counts(turn);
                prop_assert_eq!(window.counts(0, now), counts);
                prop_assert_eq!(tripped, (bad && limit.is_reached_by(counts)).then_some(counts));
            }
        }
    }
}
