use super::bucket::{Bucket, TOKEN};
use crate::{error::ConfigError, verdict::FailureKind};

/// The kind of policy, as errors name it.
const POLICY: &str = "retry budget";

/// What a [`RetryBudget`](super::RetryBudget) is made of.
///
/// Amounts are counted in millionths of a token, the refill in thousandths of a token a second;
/// what is finer is rounded to the nearest.
///
/// With feature `serde` every field is optional and an unknown one is an error.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct RetryBudgetConfig {
    /// See [`RetryBudgetBuilder::ratio`](super::RetryBudgetBuilder::ratio).
    pub ratio: f64,
    /// See [`RetryBudgetBuilder::refill_per_second`](super::RetryBudgetBuilder::refill_per_second).
    pub refill_per_second: f64,
    /// See [`RetryBudgetBuilder::cap`](super::RetryBudgetBuilder::cap).
    pub cap: f64,
    /// See [`RetryBudgetBuilder::failed_cost`](super::RetryBudgetBuilder::failed_cost).
    pub failed_cost: f64,
    /// See [`RetryBudgetBuilder::timed_out_cost`](super::RetryBudgetBuilder::timed_out_cost).
    pub timed_out_cost: f64,
    /// See [`RetryBudgetBuilder::throttled_cost`](super::RetryBudgetBuilder::throttled_cost).
    pub throttled_cost: f64,
}

impl Default for RetryBudgetConfig {
    fn default() -> Self {
        RetryBudgetConfig {
            ratio: 0.2,
            refill_per_second: 1.0,
            cap: 10.0,
            failed_cost: 1.0,
            timed_out_cost: 2.0,
            throttled_cost: 1.0,
        }
    }
}

impl RetryBudgetConfig {
    /// Checks every field against its range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if !(self.ratio == 0.0 || (1e-6..=1.0).contains(&self.ratio)) {
            let rule = "must be 0, or at least 0.000001 and at most 1";
            return Err(ConfigError::new(POLICY, "ratio", rule, self.ratio));
        }
        let refill = self.refill_per_second;
        if !(refill == 0.0 || (1e-3..=1e5).contains(&refill)) {
            let rule = "must be 0, or at least 0.001 and at most 100000";
            return Err(ConfigError::new(POLICY, "refill_per_second", rule, refill));
        }
        if self.ratio == 0.0 && refill == 0.0 {
            // Law 5: once empty it would stay so for the life of the process.
            let rule = "must be above 0 where the ratio is 0";
            return Err(ConfigError::new(POLICY, "refill_per_second", rule, refill));
        }
        if !(1.0..=1e5).contains(&self.cap) {
            let rule = "must be at least 1 and at most 100000";
            return Err(ConfigError::new(POLICY, "cap", rule, self.cap));
        }
        for (field, cost) in [
            ("failed_cost", self.failed_cost),
            ("timed_out_cost", self.timed_out_cost),
            ("throttled_cost", self.throttled_cost),
        ] {
            // Below 1 a token would pay for more than one attempt; above the cap none ever could.
            if !(1.0..=self.cap).contains(&cost) {
                let rule = format!("must be at least 1 and at most the cap {:?}", self.cap);
                return Err(ConfigError::new(POLICY, field, rule, cost));
            }
        }
        Ok(())
    }

    /// The constants in fixed point. The ranges above keep them within their bits.
    pub(super) fn bucket(&self) -> Bucket {
        Bucket {
            cap: units(self.cap),
            deposit: units(self.ratio),
            refill: (self.refill_per_second * 1000.0).round() as u64,
        }
    }

    pub(super) fn costs(&self) -> Costs {
        let [failed, timed_out, throttled] =
            [self.failed_cost, self.timed_out_cost, self.throttled_cost].map(units);
        let cheapest = failed.min(timed_out).min(throttled);
        Costs { failed, timed_out, throttled, cheapest }
    }
}

fn units(tokens: f64) -> u64 {
    (tokens * TOKEN as f64).round() as u64
}

/// What an attempt costs after each kind of failure, in fixed-point units.
#[derive(Clone, Copy, Debug)]
pub(super) struct Costs {
    failed: u64,
    timed_out: u64,
    throttled: u64,
    pub(super) cheapest: u64,
}

impl Costs {
    pub(super) const fn of(&self, kind: FailureKind) -> u64 {
        match kind {
            FailureKind::TimedOut => self.timed_out,
            FailureKind::Throttled => self.throttled,
            FailureKind::Failed
            | FailureKind::Unreachable
            | FailureKind::Panicked
            | FailureKind::Abandoned
            | FailureKind::Slow => self.failed,
        }
    }
}
