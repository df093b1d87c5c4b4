use std::time::Duration;

use super::RetryBudgetConfig;
use crate::{backoff::Backoff, error::ConfigError};

/// The kind of policy, as errors name it.
const POLICY: &str = "retry";

/// What a [`Retry`](super::Retry) is made of.
///
/// With feature `serde` every field is optional, an unknown one is an error, and durations are
/// written like `250ms` or `1m 30s`. The budget is a table, or `false` for none:
///
/// ```toml
/// max_attempts = 4
/// max_elapsed = "10s"
/// backoff = { base = "20ms", max = "2s" }
/// budget = { ratio = 0.2 }
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct RetryConfig {
    /// See [`RetryBuilder::max_attempts`](super::RetryBuilder::max_attempts).
    pub max_attempts: u32,
    /// See [`RetryBuilder::max_retry_after`](super::RetryBuilder::max_retry_after).
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub max_retry_after: Duration,
    /// See [`RetryBuilder::max_elapsed`](super::RetryBuilder::max_elapsed).
    #[cfg_attr(
        feature = "serde",
        serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")
    )]
    pub max_elapsed: Option<Duration>,
    /// See [`RetryBuilder::backoff`](super::RetryBuilder::backoff).
    pub backoff: Backoff,
    /// The budget this policy makes for itself; `None` for none.
    #[cfg_attr(feature = "serde", serde(with = "crate::or_false"))]
    pub budget: Option<RetryBudgetConfig>,
}

impl Default for RetryConfig {
    fn default() -> Self {
        RetryConfig {
            max_attempts: 3,
            max_retry_after: Duration::from_secs(30),
            max_elapsed: None,
            backoff: Backoff::default(),
            budget: Some(RetryBudgetConfig::default()),
        }
    }
}

impl RetryConfig {
    /// Checks every field against its range, those of the budget included.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.max_attempts == 0 {
            let rule = "must be at least 1";
            return Err(ConfigError::new(POLICY, "max_attempts", rule, self.max_attempts));
        }
        if self.max_elapsed == Some(Duration::ZERO) {
            return Err(ConfigError::new(POLICY, "max_elapsed", "must be above 0", Duration::ZERO));
        }
        self.backoff.validate(POLICY, "backoff")?;
        self.budget.as_ref().map_or(Ok(()), RetryBudgetConfig::validate)
    }
}
