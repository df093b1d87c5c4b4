use std::{borrow::Cow, time::Duration};

use super::Standard;
use crate::{
    breaker::CircuitBreakerConfig, error::ConfigError, fallback::FallbackConfig,
    retry::RetryConfig, timeout::TimeoutConfig,
};

/// What a [`Standard`] stack is made of.
///
/// With feature `serde` every field is optional, an unknown one is an error, and a part is a table
/// of its settings, or `false` for none.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct StandardConfig {
    /// See [`StandardBuilder::expected_rate`].
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub expected_rate: Option<f64>,
    /// See [`StandardBuilder::replicas`].
    pub replicas: u32,
    /// See [`StandardBuilder::timeout`].
    #[cfg_attr(feature = "serde", serde(with = "crate::or_false"))]
    pub timeout: Option<TimeoutConfig>,
    /// See [`StandardBuilder::attempt_timeout`].
    #[cfg_attr(feature = "serde", serde(with = "crate::or_false"))]
    pub attempt_timeout: Option<TimeoutConfig>,
    /// See [`StandardBuilder::fallback`].
    #[cfg_attr(feature = "serde", serde(with = "crate::or_false"))]
    pub fallback: Option<FallbackConfig>,
    /// See [`StandardBuilder::retry`].
    #[cfg_attr(feature = "serde", serde(with = "crate::or_false"))]
    pub retry: Option<RetryConfig>,
    /// See [`StandardBuilder::breaker`].
    #[cfg_attr(feature = "serde", serde(with = "crate::or_false"))]
    pub breaker: Option<CircuitBreakerConfig>,
}

impl Default for StandardConfig {
    fn default() -> Self {
        let timeout = |after| Some(TimeoutConfig { after, ..TimeoutConfig::default() });
        StandardConfig {
            expected_rate: None,
            replicas: 1,
            timeout: timeout(Duration::from_secs(3)),
            attempt_timeout: timeout(Duration::from_millis(500)),
            fallback: Some(FallbackConfig::default()),
            retry: Some(RetryConfig::default()),
            breaker: Some(CircuitBreakerConfig::default()),
        }
    }
}

/// Makes a [`Standard`] stack; begun by [`Standard::builder`].
///
/// A part that is given as `None` is switched off.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct StandardBuilder {
    name: Cow<'static, str>,
    config: StandardConfig,
}

impl StandardBuilder {
    pub(super) fn new(name: Cow<'static, str>, config: StandardConfig) -> Self {
        StandardBuilder { name, config }
    }

    /// How many operations a second all replicas together make in thin traffic, at night say; above
    /// zero. Nothing is limited by it: the other numbers are checked against it.
    ///
    /// Default: not known, and nothing is checked that would need it.
    pub fn expected_rate(mut self, operations_per_second: impl Into<Option<f64>>) -> Self {
        self.config.expected_rate = operations_per_second.into();
        self
    }

    /// How many instances of the program share the traffic; at least 1. Each has a breaker and a
    /// budget of its own, and sees its share of the calls.
    ///
    /// Default: 1.
    pub fn replicas(mut self, replicas: u32) -> Self {
        self.config.replicas = replicas;
        self
    }

    /// How long the whole operation may take, waits between attempts included; above zero.
    ///
    /// Default: 3 s, about what a person waits for a page before leaving it (Google, *The need for
    /// mobile speed*, 2016), and room for three attempts.
    pub fn timeout(mut self, after: impl Into<Option<Duration>>) -> Self {
        set(&mut self.config.timeout, after.into());
        self
    }

    /// How long each attempt may take; above zero.
    ///
    /// Default: 500 ms: services in one data centre answer in milliseconds, and three attempts with
    /// their waits fit into the 3 s of the operation.
    pub fn attempt_timeout(mut self, after: impl Into<Option<Duration>>) -> Self {
        set(&mut self.config.attempt_timeout, after.into());
        self
    }

    /// Which outcomes a fallback answers, where one is given by [`StandardLayer::fallback`];
    /// without one there it has no effect.
    ///
    /// [`StandardLayer::fallback`]: super::StandardLayer::fallback
    ///
    /// Default: that of [`FallbackConfig`], whenever the service is not there.
    pub fn fallback(mut self, config: impl Into<Option<FallbackConfig>>) -> Self {
        self.config.fallback = config.into();
        self
    }

    /// The retries; with a budget, or the check refuses them.
    ///
    /// Default: that of [`RetryConfig`], three attempts.
    pub fn retry(mut self, config: impl Into<Option<RetryConfig>>) -> Self {
        self.config.retry = config.into();
        self
    }

    /// The circuit breaker.
    ///
    /// Default: that of [`CircuitBreakerConfig`], half of the last hundred calls.
    pub fn breaker(mut self, config: impl Into<Option<CircuitBreakerConfig>>) -> Self {
        self.config.breaker = config.into();
        self
    }

    /// Checks the configuration as a whole and makes the policies. They are kept for the life of
    /// the process.
    pub fn build(self) -> Result<Standard, ConfigError> {
        Standard::new(self.name, self.config)
    }
}

/// Changes how long a timeout is and leaves the rest of it; or switches it off.
fn set(timeout: &mut Option<TimeoutConfig>, after: Option<Duration>) {
    match after {
        Some(after) => timeout.get_or_insert_default().after = after,
        None => *timeout = None,
    }
}
