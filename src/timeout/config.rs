use std::{borrow::Cow, time::Duration};

use super::Timeout;
use crate::{cell, error::ConfigError};

/// What a [`Timeout`] is built from.
///
/// With feature `serde`: a table such as `{ after = "500ms" }`.
///
/// Whether waiting for readiness counts is said in code, by
/// [`TimeoutLayer::including_readiness`](super::TimeoutLayer::including_readiness), and not here: it
/// asks `Clone` of the service, and a switch in a file cannot ask anything of a type. It would have
/// to be ignored in silence where the service cannot be cloned.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct TimeoutConfig {
    /// How long a call may take. See [`TimeoutBuilder::after`].
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub after: Duration,
    /// The least a call needs. See [`TimeoutBuilder::min_remaining`].
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub min_remaining: Duration,
}

impl Default for TimeoutConfig {
    fn default() -> Self {
        TimeoutConfig { after: Duration::from_secs(1), min_remaining: Duration::ZERO }
    }
}

impl TimeoutConfig {
    /// Whether a timeout can be built from this: `after` is above zero, and `min_remaining` not above
    /// `after`.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.after.is_zero() {
            return Err(ConfigError::new("timeout", "after", "must be above zero", self.after));
        }
        if self.min_remaining > self.after {
            let rule = "must be at most `after`, or every call with a deadline would be refused";
            return Err(ConfigError::new("timeout", "min_remaining", rule, self.min_remaining));
        }
        Ok(())
    }
}

/// Builds a named [`Timeout`]; made by [`Timeout::builder`].
#[derive(Clone, Debug)]
pub struct TimeoutBuilder {
    name: Cow<'static, str>,
    config: TimeoutConfig,
}

impl TimeoutBuilder {
    pub(super) fn new(name: Cow<'static, str>, config: TimeoutConfig) -> Self {
        TimeoutBuilder { name, config }
    }

    /// How long a call may take. Above zero; there is no upper limit.
    ///
    /// Default: 1 s. Services in one data centre answer in milliseconds, so a call that needs more
    /// than a thousand of them has most likely lost its answer; and a second is about what a person
    /// waits for without losing the thread (Jakob Nielsen, *Usability Engineering*, 1993). Set it
    /// from what you measure: a little above the slowest call you would still wait for.
    pub fn after(mut self, after: Duration) -> Self {
        self.config.after = after;
        self
    }

    /// The least time that a call needs: one whose caller's [deadline](crate::context) leaves less is
    /// refused at once, as
    /// [`DeadlineTooShort`](crate::PolicyErrorKind::DeadlineTooShort), and not begun in vain. From
    /// zero to `after`. Of use only with a [context](super::TimeoutLayer::context) to read deadlines from.
    ///
    /// Default: zero, which refuses calls whose deadline has passed and no others: how long the
    /// fastest answer takes is for you to say. Set it to about that.
    pub fn min_remaining(mut self, least: Duration) -> Self {
        self.config.min_remaining = least;
        self
    }

    /// Validates and builds. The name's cell is kept for the life of the process.
    pub fn build(self) -> Result<Timeout, ConfigError> {
        let name = cell::name(self.name);
        self.config.validate().map_err(|error| error.named(name))?;
        Ok(Timeout::new(name, &self.config))
    }
}
