//! Backoff: how long to wait before the next attempt.
//!
//! A [`Backoff`] is a plain value: a sequence of delays (constant, linear or exponential), a
//! maximum, and a [`Jitter`]. It works alone, as an iterator in any loop, and inside the policies.
//!
//! Jitter is what keeps a thousand clients that failed together from coming back together. The
//! default for retries is full jitter: anywhere between zero and the delay, which of the common
//! kinds spreads the load best (Marc Brooker, *Exponential Backoff And Jitter*, AWS Architecture
//! Blog, 2015). It is applied *after* the maximum, so that delays at the maximum are still spread.
//!
//! ```
//! use buttress::backoff::{Backoff, Jitter};
//! use std::time::Duration;
//!
//! let backoff = Backoff::exponential(Duration::from_millis(100))
//!     .max(Duration::from_secs(1))
//!     .jitter(Jitter::None);
//! let delays: Vec<u128> = backoff.delays().take(6).map(|delay| delay.as_millis()).collect();
//! assert_eq!(delays, [100, 200, 400, 800, 1000, 1000]);
//!
//! // The same sequence in every run, for tests:
//! let jittered = Backoff::exponential(Duration::from_millis(100));
//! assert!(jittered.delays_seeded(7).take(9).eq(jittered.delays_seeded(7).take(9)));
//! ```

use std::time::Duration;

use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};

use crate::{clock::nanos, error::ConfigError};

#[cfg(feature = "serde")]
mod text;

/// The longest delay unless told otherwise. Half a minute: by then a person is looking at it.
pub const DEFAULT_MAX: Duration = Duration::from_secs(30);

/// A sequence of delays.
///
/// With feature `serde`: a duration such as `"5s"`, which is constant, or a table such as
/// `{ kind = "exponential", base = "50ms", factor = 2.0, max = "10s", jitter = "full" }`, every field
/// optional. What is left out is as in [`Backoff::exponential`] and its siblings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    kind: Kind,
    base: Duration,
    factor: f64,
    max: Duration,
    jitter: Option<Jitter>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
enum Kind {
    Constant,
    Linear,
    Exponential,
}

/// How a delay is spread at random.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum Jitter {
    /// Anywhere in `[0, delay]`. The default for retries.
    Full,
    /// Anywhere in `[delay / 2, delay]`. The default for a breaker's open time, because an open
    /// time near zero would be none.
    Equal,
    /// Anywhere in `[base, 3 x the delay before]`, at most the maximum: grows by itself, so the
    /// kind of the sequence and its factor do not matter; but its maximum does, and a constant backoff
    /// has none above its base unless it is given one. (AWS calls this *decorrelated*.)
    Decorrelated,
    /// Exactly the delay.
    None,
}

impl Default for Backoff {
    /// Exponential from 50 ms: long enough for a lost packet or a restarted connection to be over,
    /// short enough that a person does not notice the first retry.
    fn default() -> Self {
        Backoff::exponential(Duration::from_millis(50))
    }
}

/// A constant delay.
impl From<Duration> for Backoff {
    fn from(delay: Duration) -> Self {
        Backoff::constant(delay)
    }
}

impl Backoff {
    /// The same delay every time. Its maximum is the delay itself.
    pub const fn constant(delay: Duration) -> Self {
        Backoff { kind: Kind::Constant, base: delay, factor: 2.0, max: delay, jitter: None }
    }

    /// `base`, 2 x `base`, 3 x `base`, ... up to the [maximum](Backoff::max).
    pub const fn linear(base: Duration) -> Self {
        Backoff { kind: Kind::Linear, base, factor: 2.0, max: DEFAULT_MAX, jitter: None }
    }

    /// `base`, `base` x factor, `base` x factor², ... up to the [maximum](Backoff::max).
    pub const fn exponential(base: Duration) -> Self {
        Backoff { kind: Kind::Exponential, base, factor: 2.0, max: DEFAULT_MAX, jitter: None }
    }

    /// What an exponential delay is multiplied with from one to the next; at least 1.
    ///
    /// Default: 2, the doubling of every textbook and of TCP.
    pub const fn factor(self, factor: f64) -> Self {
        Backoff { factor, ..self }
    }

    /// The longest delay, before jitter; at least the base.
    ///
    /// Default: [`DEFAULT_MAX`], 30 s.
    pub const fn max(self, max: Duration) -> Self {
        Backoff { max, ..self }
    }

    /// How delays are spread.
    ///
    /// Default: [`Jitter::Full`] for retries and for the iterators here, [`Jitter::Equal`] for a
    /// breaker's open time.
    pub const fn jitter(self, jitter: Jitter) -> Self {
        Backoff { jitter: Some(jitter), ..self }
    }

    /// The longest delay this can ever give: the maximum.
    pub const fn longest(&self) -> Duration {
        self.max
    }

    /// The jitter chosen, or this one where none was.
    pub(crate) const fn or_jitter(self, default: Jitter) -> Self {
        match self.jitter {
            Some(_) => self,
            None => self.jitter(default),
        }
    }

    /// The delay before retry number `retry`, counted from 0, without jitter.
    ///
    /// Never overflows: what would be longer than the maximum is the maximum.
    pub fn delay_unjittered(&self, retry: u32) -> Duration {
        match self.kind {
            Kind::Constant => self.base.min(self.max),
            Kind::Linear => self.base.saturating_mul(retry.saturating_add(1)).min(self.max),
            Kind::Exponential => {
                if self.base.is_zero() {
                    return Duration::ZERO;
                }
                // In floating point, so that attempt 1000 is infinite and not a panic; an infinite
                // product is not below the maximum and so becomes the maximum.
                let exponent = i32::try_from(retry).unwrap_or(i32::MAX);
                let delay = nanos(self.base) as f64 * self.factor.powi(exponent);
                let max = nanos(self.max);
                if delay < max as f64 { Duration::from_nanos(delay as u64) } else { self.max }
            }
        }
    }

    /// The longest delay before retry number `retry`, counted from 0, that jitter can give.
    pub(crate) fn longest_delay(&self, retry: u32) -> Duration {
        match self.jitter {
            // Three times the one before, and the first is the base.
            Some(Jitter::Decorrelated) => {
                let growth = 3_u32.saturating_pow(retry.saturating_add(1));
                self.base.saturating_mul(growth).min(self.max)
            }
            _ => self.delay_unjittered(retry),
        }
    }

    /// The delay before retry number `retry`, counted from 0, jittered with `rng`.
    ///
    /// [`Jitter::Decorrelated`] depends on the delay before, so this draws the whole chain up to
    /// `retry` (at most 64 steps, after which it has long settled at its distribution).
    pub fn delay(&self, retry: u32, rng: &mut impl Rng) -> Duration {
        let mut last = None;
        if self.jitter == Some(Jitter::Decorrelated) {
            for retry in 0..retry.min(64) {
                last = Some(self.next_delay(retry, last, rng));
            }
        }
        self.next_delay(retry, last, rng)
    }

    /// One step of the sequence: `last` is the delay before, where there was one.
    pub(crate) fn next_delay(
        &self,
        retry: u32,
        last: Option<Duration>,
        rng: &mut impl Rng,
    ) -> Duration {
        let delay = self.delay_unjittered(retry);
        match self.jitter.unwrap_or(Jitter::Full) {
            Jitter::None => delay,
            Jitter::Full => between(Duration::ZERO, delay, rng),
            Jitter::Equal => between(delay / 2, delay, rng),
            Jitter::Decorrelated => {
                let low = self.base.min(self.max);
                let high = last.unwrap_or(low).saturating_mul(3).min(self.max);
                between(low, high, rng)
            }
        }
    }

    /// All delays, one after the other, without end. Seeded by the thread's generator.
    pub fn delays(&self) -> Delays {
        self.delays_seeded(rand::rng().next_u64())
    }

    /// All delays, the same ones for the same seed.
    pub fn delays_seeded(&self, seed: u64) -> Delays {
        Delays { backoff: *self, retry: 0, last: None, rng: StdRng::seed_from_u64(seed) }
    }

    /// Checks the numbers, for the policy and field that this backoff is part of.
    pub(crate) fn validate(
        &self,
        policy: &'static str,
        field: &'static str,
    ) -> Result<(), ConfigError> {
        if !(self.factor >= 1.0 && self.factor.is_finite()) {
            let rule = "must have a finite factor of at least 1";
            return Err(ConfigError::new(policy, field, rule, self.factor));
        }
        if self.max < self.base {
            let rule = format!("must have a maximum of at least its base {:?}", self.base);
            return Err(ConfigError::new(policy, field, rule, self.max));
        }
        Ok(())
    }
}

impl IntoIterator for Backoff {
    type Item = Duration;
    type IntoIter = Delays;

    fn into_iter(self) -> Delays {
        self.delays()
    }
}

/// An endless iterator of delays; made by [`Backoff::delays`].
#[derive(Debug)]
pub struct Delays {
    backoff: Backoff,
    retry: u32,
    last: Option<Duration>,
    rng: StdRng,
}

impl Iterator for Delays {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let delay = self.backoff.next_delay(self.retry, self.last, &mut self.rng);
        self.retry = self.retry.saturating_add(1);
        self.last = Some(delay);
        Some(delay)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::MAX, None)
    }
}

/// Uniform in `[low, high]`, both ends included; durations past 584 years saturate.
fn between(low: Duration, high: Duration, rng: &mut impl Rng) -> Duration {
    Duration::from_nanos(rng.random_range(nanos(low)..=nanos(high).max(nanos(low))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);
    const DAY: Duration = Duration::from_secs(86_400);

    fn rng() -> StdRng {
        StdRng::seed_from_u64(1)
    }

    #[test]
    fn the_three_sequences() {
        let exact = |backoff: Backoff| -> Vec<u128> {
            let delays = backoff.jitter(Jitter::None).delays();
            delays.take(5).map(|delay| delay.as_millis()).collect()
        };
        assert_eq!(exact(Backoff::constant(10 * MS)), [10, 10, 10, 10, 10]);
        assert_eq!(exact(Backoff::linear(10 * MS).max(35 * MS)), [10, 20, 30, 35, 35]);
        assert_eq!(exact(Backoff::exponential(10 * MS).factor(3.0)), [10, 30, 90, 270, 810]);
    }

    #[test]
    fn law_08_nothing_overflows_at_attempt_1000_or_a_base_of_a_day() {
        for backoff in [Backoff::linear(DAY), Backoff::exponential(DAY), Backoff::constant(DAY)] {
            let backoff = backoff.max(Duration::MAX);
            for retry in [0, 1, 1000, u32::MAX] {
                assert!(backoff.delay_unjittered(retry) >= DAY);
                for jitter in [Jitter::Full, Jitter::Equal, Jitter::Decorrelated, Jitter::None] {
                    backoff.jitter(jitter).delay(retry, &mut rng());
                }
            }
        }
        assert_eq!(Backoff::exponential(Duration::ZERO).delay_unjittered(2000), Duration::ZERO);
        let capped = Backoff::exponential(DAY).max(2 * DAY);
        assert_eq!(capped.delay_unjittered(1000), 2 * DAY);
    }

    #[test]
    fn law_08_full_jitter_survives_the_maximum() {
        let backoff = Backoff::exponential(MS).max(100 * MS);
        let mut rng = rng();
        let at_maximum: Vec<_> = (0..1000).map(|_| backoff.delay(50, &mut rng)).collect();
        let below = |limit: Duration| at_maximum.iter().filter(|delay| **delay < limit).count();
        // Uniform over [0, 100 ms]: a quarter in each quarter, give or take four sigma (55).
        for (limit, expected) in [(25 * MS, 250), (50 * MS, 500), (75 * MS, 750)] {
            assert!(below(limit).abs_diff(expected) < 64, "{} below {limit:?}", below(limit));
        }
    }

    #[test]
    fn decorrelated_stays_between_base_and_three_times_the_delay_before() {
        let backoff = Backoff::exponential(10 * MS).max(DAY).jitter(Jitter::Decorrelated);
        let mut last = 10 * MS;
        for delay in backoff.delays_seeded(3).take(20) {
            assert!(delay >= 10 * MS && delay <= last * 3, "{delay:?} after {last:?}");
            last = delay;
        }
        let third = backoff.delay(2, &mut rng());
        assert!(third >= 10 * MS && third <= 270 * MS);
    }

    #[test]
    fn what_no_backoff_can_be_is_refused_with_its_reason() {
        let message =
            |backoff: Backoff| backoff.validate("retry", "backoff").unwrap_err().to_string();
        assert_eq!(
            message(Backoff::exponential(MS).factor(f64::NAN)),
            "retry: backoff must have a finite factor of at least 1, but is NaN"
        );
        assert_eq!(
            message(Backoff::exponential(MS).factor(0.5)),
            "retry: backoff must have a finite factor of at least 1, but is 0.5"
        );
        assert_eq!(
            message(Backoff::exponential(20 * MS).max(10 * MS)),
            "retry: backoff must have a maximum of at least its base 20ms, but is 10ms"
        );
    }

    proptest! {
        #[test]
        fn law_08_delays_stay_in_their_bounds(
            base in 0_u64..1 << 40,
            max in 0_u64..1 << 50,
            factor in 1.0_f64..10.0,
            retry in 0_u32..2000,
            seed: u64,
        ) {
            let max = Duration::from_nanos(base + max);
            let plain = Backoff::exponential(Duration::from_nanos(base)).factor(factor).max(max);
            let bound = plain.delay_unjittered(retry);
            prop_assert!(bound <= max);
            let mut rng = StdRng::seed_from_u64(seed);
            prop_assert!(plain.jitter(Jitter::Full).delay(retry, &mut rng) <= bound);
            let equal = plain.jitter(Jitter::Equal).delay(retry, &mut rng);
            prop_assert!(equal <= bound && equal >= bound / 2);
            prop_assert!(plain.jitter(Jitter::Decorrelated).delay(retry, &mut rng) <= max);
            prop_assert_eq!(plain.jitter(Jitter::None).delay(retry, &mut rng), bound);
        }
    }
}
