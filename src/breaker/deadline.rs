use std::time::Duration;

use crate::{
    clock::Tick,
    sync::{AtomicU64, Ordering},
};

const TIME_BITS: u32 = 48;
const NEVER: u64 = (1 << TIME_BITS) - 1;

/// Half of what 48 bits of microseconds hold.
const FOUR_YEARS: Duration = Duration::from_micros(1 << (TIME_BITS - 1));

/// When the outstanding probes of a half-open phase are overdue: 48 bits of microseconds since four
/// years before the breaker was built (for a clock may be behind the builder's), tagged with the low
/// bits of the generation, so that a probe of one phase cannot move the deadline of the next.
#[derive(Debug)]
pub(super) struct Deadline {
    origin: Tick,
    word: AtomicU64,
}

impl Deadline {
    pub(super) fn new(start: Tick) -> Self {
        Deadline { origin: start.before(FOUR_YEARS), word: AtomicU64::new(0) }
    }

    fn pack(&self, generation: u32, at: Tick) -> u64 {
        let micros = u64::try_from(at.since(self.origin).as_micros()).unwrap_or(NEVER);
        u64::from(generation) << TIME_BITS | micros.min(NEVER)
    }

    /// For a new phase, before its gate is published.
    pub(super) fn set(&self, generation: u32, at: Tick) {
        // A swap and not a store: loom knows no order between a store and the compare-and-swap of
        // another thread.
        self.word.swap(self.pack(generation, at), Ordering::AcqRel);
    }

    /// The deadline of this generation's phase; `None` if it is over.
    pub(super) fn of(&self, generation: u32) -> Option<Tick> {
        let word = self.word.load(Ordering::Acquire);
        if word >> TIME_BITS != u64::from(generation & 0xffff) {
            return None;
        }
        Some(match word & NEVER {
            NEVER => Tick::NEVER,
            micros => self.origin.after(Duration::from_micros(micros)),
        })
    }

    /// Moves the deadline of this generation's phase to `at`, if that is later.
    pub(super) fn extend(&self, generation: u32, at: Tick) {
        let later = self.pack(generation, at);
        let mut word = self.word.load(Ordering::Acquire);
        while word >> TIME_BITS == later >> TIME_BITS && word < later {
            match self.word.compare_exchange_weak(word, later, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return,
                Err(current) => word = current,
            }
        }
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;

    #[test]
    fn law_04_another_phase_cannot_move_it() {
        let start = Tick::now();
        let at = |secs| start.after(Duration::from_secs(secs));
        let deadline = Deadline::new(start);
        deadline.set(0x1_0007, at(10));
        deadline.extend(0x1_0007, at(20));
        deadline.extend(0x1_0007, at(15));
        deadline.extend(0x1_0006, at(99));
        assert_eq!(deadline.of(0x1_0007), Some(at(20)));
        assert_eq!(deadline.of(0x1_0006), None);
        deadline.extend(0x1_0007, Tick::NEVER);
        assert_eq!(deadline.of(0x1_0007), Some(Tick::NEVER));
    }
}
