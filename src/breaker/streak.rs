use crate::sync::{AtomicU64, Ordering};

/// Failures one after the other: the generation in the upper half of a word, the count below.
///
/// Written by failures and by the success that ends them, so not at all while all is well.
#[derive(Debug)]
pub(super) struct Streak {
    /// How many are too many; `None` if nobody asked.
    limit: Option<u32>,
    word: AtomicU64,
}

impl Streak {
    pub(super) fn new(limit: Option<u32>) -> Self {
        Streak { limit, word: AtomicU64::new(0) }
    }

    #[inline]
    pub(super) fn success(&self, generation: u32) {
        if self.limit.is_some() && self.count(generation) > 0 {
            self.update(generation, |_| 0);
        }
    }

    /// The length of the streak, if with this failure it is too long.
    pub(super) fn failure(&self, generation: u32) -> Option<u32> {
        let limit = self.limit?;
        let count = self.update(generation, |count| count.saturating_add(1))?;
        (count >= limit).then_some(count)
    }

    pub(super) fn count(&self, generation: u32) -> u32 {
        let word = self.word.load(Ordering::Acquire);
        if word >> 32 == u64::from(generation) { word as u32 } else { 0 }
    }

    /// The new count; `None` if the streak of a later generation has begun.
    fn update(&self, generation: u32, next: impl Fn(u32) -> u32) -> Option<u32> {
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            let count = match ((word >> 32) as u32, word as u32) {
                (current, count) if current == generation => count,
                (current, _) if is_later(current, generation) => return None,
                _ => 0,
            };
            let count = next(count);
            match self.word.compare_exchange_weak(
                word,
                u64::from(generation) << 32 | u64::from(count),
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return Some(count),
                Err(current) => word = current,
            }
        }
    }
}

/// Whether one 29-bit generation comes after another, by less than half the way round.
fn is_later(one: u32, other: u32) -> bool {
    let ahead = one.wrapping_sub(other) & ((1 << 29) - 1);
    ahead != 0 && ahead < 1 << 28
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;

    #[test]
    fn counts_failures_in_a_row_within_a_generation() {
        let streak = Streak::new(Some(3));
        assert_eq!((streak.failure(0), streak.failure(0)), (None, None));
        streak.success(0);
        assert_eq!((streak.failure(0), streak.failure(0)), (None, None));
        assert_eq!(streak.failure(0), Some(3));
        assert_eq!(streak.failure(1), None);
        // Law 4: late news of the old generation neither counts nor ends the new streak.
        assert_eq!(streak.failure(0), None);
        streak.success(0);
        assert_eq!((streak.count(1), streak.count(0)), (1, 0));
    }
}
