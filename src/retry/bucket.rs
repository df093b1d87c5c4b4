//! The arithmetic of a retry budget: a token bucket in one word, as pure functions over explicit
//! time. [`RetryBudget`](super::RetryBudget) only carries the word.
//!
//! ```text
//! 63                    26 25            0
//! | tokens, in millionths | time, in ms  |
//! ```
//!
//! Decimal fixed point, because configurations are decimal: a ratio of 0.2 and a refill of one
//! token a second (1000 millionths a millisecond) are exact, so the bucket drifts nowhere. 38 bits
//! hold 274 877 tokens, above the largest cap.
//!
//! Refill is lazy: only a withdrawal moves the time stamp. A deposit leaves it, and so needs no
//! clock; as both only add, up to the same cap, their order does not change the sum.
//!
//! The time stamp wraps after 18.6 hours. What lies between it and now is taken modulo that, so a
//! longer gap counts as a shorter one and never as more than it was.

/// Fixed-point units of one token.
pub(super) const TOKEN: u64 = 1_000_000;

const TIME_BITS: u32 = 26;
const TIME_MASK: u64 = (1 << TIME_BITS) - 1;

/// A stamp that seems this close to a full turn ahead lies behind the stored one instead, and no
/// time has passed: 17.5 minutes.
///
/// One clock never reads backwards here, as the clock is read after the word. The clocks of two
/// runtimes, one of them paused and advanced by a test, may differ. The price is that a gap of 18.4
/// to 18.6 hours counts as none until it is past, and that a clock behind by more than these 17.5
/// minutes finds the bucket full.
const BEHIND: u64 = 1 << 20;

/// The bucket's constants, in fixed-point units.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    /// At most 38 bits.
    pub(super) cap: u64,
    /// What a success puts in.
    pub(super) deposit: u64,
    /// What a millisecond puts in.
    pub(super) refill: u64,
}

impl Bucket {
    /// The word of a full bucket.
    pub(super) const fn full(&self, now_ms: u64) -> u64 {
        pack(self.cap, now_ms & TIME_MASK)
    }

    /// The tokens in the word without what time has added since its stamp: never too many.
    pub(super) const fn at_least(word: u64) -> u64 {
        word >> TIME_BITS
    }

    /// The tokens at `now_ms`.
    pub(super) fn tokens(&self, word: u64, now_ms: u64) -> u64 {
        // 26 bits of time and at most 27 bits of refill cannot overflow.
        (Self::at_least(word) + elapsed(word, now_ms).unwrap_or(0) * self.refill).min(self.cap)
    }

    /// The word after a success; `None` where nothing changes, so that nothing is written.
    #[inline]
    pub(super) fn deposit(&self, word: u64) -> Option<u64> {
        let tokens = Self::at_least(word);
        if tokens >= self.cap || self.deposit == 0 {
            return None;
        }
        Some(pack((tokens + self.deposit).min(self.cap), word & TIME_MASK))
    }

    /// The word after a withdrawal of `cost`; `None` where there is not enough.
    pub(super) fn withdraw(&self, word: u64, now_ms: u64, cost: u64) -> Option<u64> {
        let tokens = self.tokens(word, now_ms).checked_sub(cost)?;
        let stamp = if elapsed(word, now_ms).is_some() { now_ms } else { word };
        Some(pack(tokens, stamp & TIME_MASK))
    }
}

const fn pack(tokens: u64, stamp: u64) -> u64 {
    tokens << TIME_BITS | stamp
}

/// Milliseconds since the word's stamp, less whole turns; `None` if that lies in the future.
const fn elapsed(word: u64, now_ms: u64) -> Option<u64> {
    let elapsed = now_ms.wrapping_sub(word) & TIME_MASK;
    if elapsed <= TIME_MASK - BEHIND { Some(elapsed) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The same bucket written for obviousness: no packing, no laziness, time that never wraps.
    struct Reference {
        tokens: u128,
        at: u64,
    }

    impl Reference {
        fn refill(&mut self, bucket: &Bucket, now: u64) {
            let earned = u128::from(now - self.at) * u128::from(bucket.refill);
            self.tokens = (self.tokens + earned).min(u128::from(bucket.cap));
            self.at = now;
        }

        fn deposit(&mut self, bucket: &Bucket, now: u64) {
            self.refill(bucket, now);
            self.tokens = (self.tokens + u128::from(bucket.deposit)).min(u128::from(bucket.cap));
        }

        fn withdraw(&mut self, bucket: &Bucket, now: u64, cost: u64) -> bool {
            self.refill(bucket, now);
            let enough = self.tokens >= u128::from(cost);
            if enough {
                self.tokens -= u128::from(cost);
            }
            enough
        }
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Wait(u64),
        Deposit,
        /// The cost, and how old the reading of the clock is.
        Withdraw(u64, u64),
    }

    fn buckets() -> impl Strategy<Value = Bucket> {
        (1..=100_000_u64, 0..=TOKEN, 0..=100_000_000_u64, 0..5_u8).prop_map(
            |(cap, deposit, refill, scale)| Bucket {
                // Small caps and slow refills more often than large ones.
                cap: (cap >> (3 * scale)).max(1) * TOKEN,
                deposit,
                refill: refill >> (6 * scale),
            },
        )
    }

    fn steps(longest_wait: u64, oldest_reading: u64) -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0..longest_wait).prop_map(Step::Wait),
            (0..50_u64).prop_map(Step::Wait),
            Just(Step::Deposit),
            (TOKEN..3 * TOKEN, 0..=oldest_reading).prop_map(|(c, old)| Step::Withdraw(c, old)),
            (Just(TOKEN), Just(0)).prop_map(|(c, old)| Step::Withdraw(c, old)),
        ];
        prop::collection::vec(step, 1..150)
    }

    #[test]
    fn law_07_a_full_bucket_takes_nothing_and_writes_nothing() {
        let bucket = Bucket { cap: 2 * TOKEN, deposit: TOKEN / 10, refill: 1000 };
        assert_eq!(bucket.deposit(bucket.full(0)), None);
        assert_eq!(bucket.tokens(bucket.full(0), 123_456_789), 2 * TOKEN);
    }

    #[test]
    fn law_10_a_clock_behind_the_stamp_is_no_time_and_does_not_move_it() {
        let bucket = Bucket { cap: 10 * TOKEN, deposit: 0, refill: 1000 };
        let now = 5_000_000_000;
        let empty = bucket.withdraw(bucket.full(now), now, 10 * TOKEN).unwrap();
        assert_eq!(bucket.tokens(empty, now - 60_000), 0);
        assert_eq!(bucket.tokens(empty, now + 2000), 2 * TOKEN);
        let again = bucket.withdraw(empty, now + 2000, TOKEN).unwrap();
        let older = bucket.withdraw(again, now + 1000, TOKEN).unwrap();
        assert_eq!(bucket.tokens(older, now + 2000), 0);
    }

    #[test]
    fn law_07_a_turn_of_the_stamp_grants_less_than_the_time_that_passed() {
        let bucket = Bucket { cap: 100_000 * TOKEN, deposit: 0, refill: 1000 };
        let empty = bucket.withdraw(bucket.full(0), 77, 100_000 * TOKEN).unwrap();
        let turn = TIME_MASK + 1;
        assert_eq!(bucket.tokens(empty, 77 + turn - BEHIND - 1), (turn - BEHIND - 1) * 1000);
        assert_eq!(bucket.tokens(empty, 77 + turn - 1), 0);
        assert_eq!(bucket.tokens(empty, 77 + turn), 0);
        assert_eq!(bucket.tokens(empty, 77 + turn + 5), 5000);
    }

    proptest! {
        #[test]
        fn the_bucket_equals_the_reference(bucket in buckets(), steps in steps(60_000, 0)) {
            let mut now = (1 << 62) / 1_000_000;
            let mut word = bucket.full(now);
            let mut reference = Reference { tokens: bucket.cap.into(), at: now };
            for step in steps {
                match step {
                    Step::Wait(ms) => now += ms,
                    Step::Deposit => {
                        word = bucket.deposit(word).unwrap_or(word);
                        reference.deposit(&bucket, now);
                    }
                    Step::Withdraw(cost, _) => {
                        let after = bucket.withdraw(word, now, cost);
                        prop_assert_eq!(after.is_some(), reference.withdraw(&bucket, now, cost));
                        word = after.unwrap_or(word);
                    }
                }
                reference.refill(&bucket, now);
                prop_assert_eq!(u128::from(bucket.tokens(word, now)), reference.tokens);
            }
        }

        #[test]
        fn law_07_holds_in_every_interval(
            bucket in buckets(),
            // Waits beyond a turn of the stamp, or readings as old as are told apart.
            steps in prop_oneof![steps(2 * TIME_MASK, 0), steps(60_000, BEHIND - 1)],
        ) {
            let mut now = (1 << 62) / 1_000_000;
            let mut word = bucket.full(now);
            // When each event happened (an old reading after a newer one happened with it), what
            // it withdrew, what it deposited.
            let mut events: Vec<(u64, u128, u128)> = vec![(now, 0, 0)];
            for step in steps {
                let last = events[events.len() - 1].0;
                match step {
                    Step::Wait(ms) => now += ms,
                    Step::Deposit => {
                        word = bucket.deposit(word).unwrap_or(word);
                        events.push((last, 0, bucket.deposit.into()));
                    }
                    Step::Withdraw(cost, old) => {
                        let reading = now - old;
                        if let Some(after) = bucket.withdraw(word, reading, cost) {
                            word = after;
                            events.push((reading.max(last), cost.into(), 0));
                        }
                    }
                }
                prop_assert!(Bucket::at_least(word) <= bucket.cap);
                prop_assert!(bucket.tokens(word, now) <= bucket.cap);
            }
            for first in 0..events.len() {
                let (mut withdrawn, mut deposited) = (0, 0);
                for &(at, cost, deposit) in &events[first..] {
                    withdrawn += cost;
                    deposited += deposit;
                    let refill = u128::from(at - events[first].0) * u128::from(bucket.refill);
                    prop_assert!(withdrawn <= u128::from(bucket.cap) + refill + deposited);
                }
            }
        }
    }
}
