//! The last N calls, exactly, without a lock and without a write while all is well.
//!
//! The usual ring of outcomes has to evict one for each it takes in, and two words (the ring and
//! the sum) cannot change at once. This window turns it round: it numbers the calls and remembers
//! at which numbers the *bad* ones were. The K-th last bad call lies within the last N calls
//! exactly if the window holds K or more of them, so a trip is one subtraction and nothing is ever
//! evicted. Taking a number is one compare-and-swap on the head, which is where the order of calls
//! is decided; a good call needs nothing else.
//!
//! ```text
//!  head  63     44 43      24 23      12 11       1   0
//!       +---------+----------+----------+----------+------+
//!       |   tag   | sequence |   bad    |  dirty   | full |
//!       +---------+----------+----------+----------+------+
//! ```
//!
//! - `tag`: the low bits of the generation; a word with another tag is of another life.
//! - `sequence`: calls so far, modulo 2^20.
//! - `bad`: bad calls so far, modulo 2^12; the next one's place in the ring.
//! - `dirty`: good calls still needed until the window is full and holds nothing bad. At zero a
//!   good call would change nothing that anybody can see, so it writes nothing: two threads then
//!   only share a line they read.
//! - `full`: whether N calls have been seen.
//!
//! Why 20 bits are enough: the numbers stand still once the window is clean, so between two bad
//! calls the sequence moves by at most N, and between a bad call and the K-th before it by at most
//! (K - 1) x (N + 1), which is below 2^20 for K <= N <= 1024.

use crate::sync::{AtomicU64, Ordering, fence};

use super::{Counts, Limit};
use crate::breaker::gate::least_reaching;

/// The largest N that the words have room for.
pub(in crate::breaker) const MAX_CALLS: u32 = 1024;

const SEQUENCE_MASK: u32 = (1 << 20) - 1;
const BAD_MASK: u32 = (1 << 12) - 1;
const DIRTY_MASK: u32 = (1 << 11) - 1;
const TAG_MASK: u32 = (1 << 20) - 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    tag: u32,
    sequence: u32,
    bad: u32,
    dirty: u32,
    full: bool,
}

impl Head {
    const fn fresh(generation: u32, size: u32) -> Head {
        Head { tag: generation & TAG_MASK, sequence: 0, bad: 0, dirty: size, full: false }
    }

    #[inline]
    const fn unpack(word: u64) -> Head {
        Head {
            tag: (word >> 44) as u32,
            sequence: (word >> 24) as u32 & SEQUENCE_MASK,
            bad: (word >> 12) as u32 & BAD_MASK,
            dirty: (word >> 1) as u32 & DIRTY_MASK,
            full: word & 1 == 1,
        }
    }

    #[inline]
    const fn pack(self) -> u64 {
        (self.tag as u64) << 44
            | (self.sequence as u64) << 24
            | (self.bad as u64) << 12
            | (self.dirty as u64) << 1
            | self.full as u64
    }

    const fn after_one_more(self, size: u32) -> Head {
        let sequence = (self.sequence + 1) & SEQUENCE_MASK;
        Head { sequence, full: self.full || sequence == size, ..self }
    }

    /// After a good call. Not to be asked of a clean window.
    const fn after_good(self, size: u32) -> Head {
        Head { dirty: self.dirty - 1, ..self.after_one_more(size) }
    }

    const fn after_bad(self, size: u32) -> Head {
        Head { dirty: size, bad: (self.bad + 1) & BAD_MASK, ..self.after_one_more(size) }
    }

    /// Calls in the window.
    const fn calls(self, size: u32) -> u32 {
        if self.full { size } else { self.sequence }
    }
}

/// Where a bad call is remembered: its tag, its number among the bad ones and among all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    tag: u32,
    bad: u32,
    sequence: u32,
}

impl Mark {
    const fn unpack(word: u64) -> Mark {
        Mark {
            tag: (word >> 32) as u32 & TAG_MASK,
            bad: (word >> 20) as u32 & BAD_MASK,
            sequence: word as u32 & SEQUENCE_MASK,
        }
    }

    const fn pack(self) -> u64 {
        // The top bit tells a mark from the zero of a place never written.
        1 << 63 | (self.tag as u64) << 32 | (self.bad as u64) << 20 | self.sequence as u64
    }
}

/// Whether `new` lies ahead of `old`, by less than half the way round.
const fn newer(new: u32, old: u32) -> bool {
    let ahead = new.wrapping_sub(old) & BAD_MASK;
    ahead != 0 && ahead <= BAD_MASK / 2
}

#[derive(Debug)]
pub(in crate::breaker) struct CountWindow {
    size: u32,
    limit: Limit,
    /// The least number of bad calls in a full window that reaches the limit.
    trip_at: u32,
    head: AtomicU64,
    /// A power of two of at least `size`, so that a number's place is a mask away.
    ring: Box<[AtomicU64]>,
}

impl CountWindow {
    pub(in crate::breaker) fn new(size: u32, limit: Limit, generation: u32) -> Self {
        let places = size.next_power_of_two();
        CountWindow {
            size,
            limit,
            trip_at: least_reaching(limit.ratio, size),
            head: AtomicU64::new(Head::fresh(generation, size).pack()),
            ring: (0..places).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    #[inline]
    pub(super) fn good(&self, generation: u32) {
        let head = Head::unpack(self.head.load(Ordering::Acquire));
        if head.dirty != 0 && head.tag == generation & TAG_MASK {
            self.good_while_dirty(generation);
        }
    }

    #[cold]
    fn good_while_dirty(&self, generation: u32) {
        self.take_number(generation, |head| (head.dirty != 0).then(|| head.after_good(self.size)));
    }

    /// Moves the head, if it is of this generation and `next` wants to: the head after it.
    fn take_number(
        &self,
        generation: u32,
        mut next: impl FnMut(Head) -> Option<Head>,
    ) -> Option<Head> {
        let mut word = self.head.load(Ordering::Acquire);
        loop {
            let head = Head::unpack(word);
            if head.tag != generation & TAG_MASK {
                return None;
            }
            let next = next(head)?;
            match self.head.compare_exchange_weak(
                word,
                next.pack(),
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return Some(next),
                Err(current) => word = current,
            }
        }
    }

    pub(super) fn bad(&self, generation: u32) -> Option<Counts> {
        let span = self.trip_at - 1;
        let mut first = None;
        let head = self.take_number(generation, |head| {
            // Looked up before the number is taken: later the place may be somebody else's.
            first = self.recall(head.tag, head.bad.wrapping_sub(span));
            Some(head.after_bad(self.size))
        })?;
        let mark = Mark {
            tag: head.tag,
            bad: head.bad.wrapping_sub(1) & BAD_MASK,
            sequence: head.sequence,
        };
        self.remember(mark);
        let counts = Counts { bad: head.bad, calls: head.sequence };
        if !head.full && self.limit.is_reached_by(counts) {
            // Nothing has left the window yet: the head alone knows.
            return Some(counts);
        }
        // Two threads may have taken their numbers in one order and remember in the other. Each
        // writes its own mark before it looks for the other's, so one of them sees both. That may
        // be one that came before the window was full, and is only now told of the rest.
        fence(Ordering::SeqCst);
        let first = first.or_else(|| self.recall(mark.tag, mark.bad.wrapping_sub(span)));
        let last = || self.recall(mark.tag, mark.bad.wrapping_add(span));
        // The distance between two marks is a share of a full window.
        let full_at = |last: Mark| head.full || last.sequence >= self.size;
        let tripped = head.full && first.is_some_and(|first| self.lie_within(first, mark))
            || last().is_some_and(|last| full_at(last) && self.lie_within(mark, last));
        // At least so many: of those that came later some may have left the window again.
        let bad = || self.counts(generation).bad.max(self.trip_at);
        tripped.then(|| Counts { bad: bad(), calls: self.size })
    }

    /// Whether both lie within one window's length.
    fn lie_within(&self, first: Mark, last: Mark) -> bool {
        last.sequence.wrapping_sub(first.sequence) & SEQUENCE_MASK < self.size
    }

    fn place(&self, bad: u32) -> &AtomicU64 {
        &self.ring[bad as usize & (self.ring.len() - 1)]
    }

    fn remember(&self, mark: Mark) {
        let place = self.place(mark.bad);
        let mut word = place.load(Ordering::Acquire);
        // A thread that slept between taking its number and coming here must not overwrite what
        // was remembered since.
        while self.may_overwrite(word, mark) {
            match place.compare_exchange_weak(
                word,
                mark.pack(),
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return,
                Err(current) => word = current,
            }
        }
    }

    fn may_overwrite(&self, word: u64, mark: Mark) -> bool {
        let there = Mark::unpack(word);
        if word != 0 && there.tag == mark.tag {
            return newer(mark.bad, there.bad);
        }
        // Of another generation: an older one, as long as ours is still the present one.
        Head::unpack(self.head.load(Ordering::Acquire)).tag == mark.tag
    }

    /// The mark with this tag and number, if it is there.
    fn recall(&self, tag: u32, bad: u32) -> Option<Mark> {
        let bad = bad & BAD_MASK;
        let word = self.place(bad).load(Ordering::Acquire);
        let mark = Mark::unpack(word);
        (word != 0 && mark.tag == tag && mark.bad == bad).then_some(mark)
    }

    pub(super) fn counts(&self, generation: u32) -> Counts {
        let head = Head::unpack(self.head.load(Ordering::Acquire));
        if head.tag != generation & TAG_MASK {
            return Counts::default();
        }
        let calls = head.calls(self.size);
        if !head.full {
            return Counts { bad: head.bad, calls };
        }
        // From the newest back, until one lies before the window. One that is not remembered yet
        // lies within it if an older one does.
        let mut bad = 0;
        for back in 1..=self.size {
            match self.recall(head.tag, head.bad.wrapping_sub(back)) {
                Some(mark) if self.lie_within(mark, Mark { sequence: head.sequence, ..mark }) => {
                    bad = back;
                }
                Some(_) => break,
                None => {}
            }
        }
        Counts { bad, calls }
    }

    pub(super) fn reset(&self, generation: u32) {
        // A swap and not a store: loom knows no order between a store and the compare-and-swap of
        // another thread.
        self.head.swap(Head::fresh(generation, self.size).pack(), Ordering::AcqRel);
    }

    pub(super) fn heap_bytes(&self) -> usize {
        size_of_val(&*self.ring)
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    /// The same, written to be obvious.
    struct Reference {
        size: usize,
        limit: Limit,
        calls: VecDeque<bool>,
    }

    impl Reference {
        fn record(&mut self, bad: bool) -> Option<Counts> {
            self.calls.push_back(bad);
            if self.calls.len() > self.size {
                self.calls.pop_front();
            }
            (bad && self.limit.is_reached_by(self.counts())).then(|| self.counts())
        }

        fn counts(&self) -> Counts {
            let bad = self.calls.iter().filter(|bad| **bad).count() as u32;
            Counts { bad, calls: self.calls.len() as u32 }
        }
    }

    fn both(size: u32, ratio: f64, min_calls: u32) -> (CountWindow, Reference) {
        let limit = Limit { ratio, min_calls };
        let reference = Reference { size: size as usize, limit, calls: VecDeque::new() };
        (CountWindow::new(size, limit, 0), reference)
    }

    #[test]
    fn a_clean_window_is_not_written() {
        let (window, _) = both(100, 0.5, 20);
        (0..100).for_each(|_| window.good(0));
        let clean = window.head.load(Ordering::Relaxed);
        (0..1000).for_each(|_| window.good(0));
        assert_eq!(window.head.load(Ordering::Relaxed), clean);
        assert_eq!(window.counts(0), Counts { bad: 0, calls: 100 });
    }

    #[test]
    fn ten_thousand_successes_do_not_hide_fifty_failures() {
        let (window, _) = both(100, 0.5, 20);
        (0..10_000).for_each(|_| window.good(0));
        assert!((0..49).all(|_| window.bad(0).is_none()));
        assert_eq!(window.bad(0), Some(Counts { bad: 50, calls: 100 }));
    }

    #[test]
    fn law_04_another_generation_is_not_counted() {
        let (window, _) = both(10, 0.5, 2);
        window.bad(0);
        window.reset(1);
        assert_eq!(window.bad(0), None);
        window.good(0);
        assert_eq!(window.counts(1), Counts::default());
        assert_eq!(window.counts(0), Counts::default());
        // Marks left behind by the old generation are not the new one's.
        (0..10).for_each(|_| window.good(1));
        assert_eq!(window.bad(1), None);
        assert_eq!(window.counts(1), Counts { bad: 1, calls: 10 });
    }

    #[test]
    fn law_04_a_late_mark_does_not_overwrite_a_newer_one() {
        let (window, _) = both(4, 1.0, 4);
        let late = Mark { tag: 0, bad: 0, sequence: 1 };
        for _ in 0..5 {
            window.bad(0);
        }
        window.remember(late);
        assert_eq!(window.recall(late.tag, late.bad), None);
        assert_eq!(window.counts(0), Counts { bad: 4, calls: 4 });
    }

    #[test]
    fn law_04_marks_of_half_a_million_generations_ago_are_in_nobodys_way() {
        let (window, _) = both(4, 1.0, 4);
        for _ in 0..4 {
            let _ = window.bad(0);
        }
        // More than half the way round the tags, so that those marks seem to lie ahead.
        let later = (1 << 19) + 1;
        window.reset(later);
        (0..4).for_each(|_| window.good(later));
        assert!((0..3).all(|_| window.bad(later).is_none()));
        assert_eq!(window.bad(later), Some(Counts { bad: 4, calls: 4 }));
    }

    #[test]
    fn law_06_a_trip_counts_a_failure_that_has_its_number_but_is_not_remembered_yet() {
        let (window, _) = both(10, 0.5, 10);
        (0..10).for_each(|_| window.good(0));
        assert!((0..4).all(|_| window.bad(0).is_none()));
        // A thread that sleeps from here on.
        window.take_number(0, |head| Some(head.after_bad(window.size)));
        assert_eq!(window.bad(0), Some(Counts { bad: 6, calls: 10 }));
    }

    #[test]
    #[cfg_attr(miri, ignore = "millions of calls take miri hours")]
    fn the_numbers_survive_their_wrap() {
        for size in [3, 1023, 1024] {
            let (window, mut reference) = both(size, 1.0, size);
            // One bad call in every `size`, the rarest that never lets the window become clean,
            // until the sequence has wrapped; exact all the way.
            for call in 0..1_200_000_u32 {
                let bad = call % size == 0;
                if bad {
                    window.bad(0);
                } else {
                    window.good(0);
                }
                // The reference is slow: keep it in step, look at it now and then.
                reference.calls.push_back(bad);
                if reference.calls.len() > size as usize {
                    reference.calls.pop_front();
                }
                if call % 10_007 == 0 {
                    assert_eq!(window.counts(0), reference.counts(), "size {size}, call {call}");
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]
        #[test]
        #[cfg_attr(miri, ignore = "100 cases of thousands of calls each")]
        fn equals_the_reference_call_by_call(
            size in prop_oneof![1_u32..40, Just(64), Just(100), Just(1024)],
            ratio in prop_oneof![Just(0.5), Just(0.07), 0.01_f64..=1.0],
            share in 0.0_f64..=1.0,
            calls in prop::collection::vec(0.0_f64..1.0, 1..4000),
            bursts: bool,
        ) {
            let (window, mut reference) = both(size, ratio, size.div_ceil(3));
            for (index, call) in calls.iter().enumerate() {
                let bad = if bursts { index / 50 % 3 == 0 && *call < share } else { *call < share };
                let tripped = if bad { window.bad(0) } else { window.good(0); None };
                prop_assert_eq!(tripped, reference.record(bad));
                // (Adding up is slow, and every step above depends on the state before it.)
                if index % 17 == 0 {
                    prop_assert_eq!(window.counts(0), reference.counts());
                }
            }
        }
    }
}
