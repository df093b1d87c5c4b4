use crate::{
    sync::{AtomicU64, Ordering},
    verdict::FailureKind,
};

/// How many failures are remembered.
const PLACES: usize = 32;

/// The kinds of the last failures, for forensics: what to say of a circuit that opened.
///
/// Two stores per failure and no lock; under concurrency a place may be taken twice and an older
/// failure survive one of the later ones, which no reader of a post-mortem will miss.
#[derive(Debug)]
pub(super) struct RecentFailures {
    next: AtomicU64,
    places: [AtomicU64; PLACES],
}

impl RecentFailures {
    pub(super) fn new() -> Self {
        RecentFailures {
            next: AtomicU64::new(0),
            places: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    pub(super) fn remember(&self, generation: u32, kind: FailureKind) {
        let place = self.next.fetch_add(1, Ordering::Relaxed) as usize % PLACES;
        let word = u64::from(generation) << 8 | (kind as u64 + 1);
        self.places[place].store(word, Ordering::Relaxed);
    }

    /// The kinds in this generation, commonest first.
    pub(super) fn of(&self, generation: u32) -> Vec<(FailureKind, u32)> {
        let mut counts = FailureKind::ALL.map(|kind| (kind, 0));
        for place in &self.places {
            let word = place.load(Ordering::Relaxed);
            if word >> 8 == u64::from(generation) && word & 0xff != 0 {
                counts[(word & 0xff) as usize - 1].1 += 1;
            }
        }
        let mut counts: Vec<_> = counts.into_iter().filter(|(_, count)| *count > 0).collect();
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        counts
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;

    #[test]
    fn counts_the_last_failures_of_one_generation() {
        let recent = RecentFailures::new();
        (0..40).for_each(|_| recent.remember(1, FailureKind::Throttled));
        recent.remember(2, FailureKind::Failed);
        (0..3).for_each(|_| recent.remember(2, FailureKind::TimedOut));
        assert_eq!(recent.of(2), [(FailureKind::TimedOut, 3), (FailureKind::Failed, 1)]);
        assert_eq!(recent.of(1), [(FailureKind::Throttled, 28)]);
        assert_eq!(recent.of(3), []);
    }
}
