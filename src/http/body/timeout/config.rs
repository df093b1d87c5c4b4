use std::{borrow::Cow, time::Duration};

use super::BodyTimeout;
use crate::{cell, error::ConfigError};

/// What a [`BodyTimeout`] is built from.
///
/// With feature `serde`: a table such as `{ stall = "5s", total = "2m" }`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct BodyTimeoutConfig {
    /// How long a body may make no progress. See [`BodyTimeoutBuilder::stall`].
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub stall: Duration,
    /// How long the call may take with its body. See [`BodyTimeoutBuilder::total`].
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub total: Option<Duration>,
}

impl Default for BodyTimeoutConfig {
    fn default() -> Self {
        BodyTimeoutConfig { stall: Duration::from_secs(10), total: None }
    }
}

impl BodyTimeoutConfig {
    /// Whether a body timeout can be built from this: `stall` and `total` are above zero.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let error = |field, given| {
            Err(ConfigError::new("body timeout", field, "must be above zero", given))
        };
        if self.stall.is_zero() {
            return error("stall", self.stall);
        }
        match self.total {
            Some(total) if total.is_zero() => error("total", total),
            _ => Ok(()),
        }
    }
}

/// Builds a [`BodyTimeout`]; made by [`BodyTimeout::builder`].
#[derive(Clone, Debug)]
pub struct BodyTimeoutBuilder {
    name: Cow<'static, str>,
    config: BodyTimeoutConfig,
}

impl BodyTimeoutBuilder {
    pub(super) fn new(name: Cow<'static, str>, config: BodyTimeoutConfig) -> Self {
        BodyTimeoutBuilder { name, config }
    }

    /// How long somebody may wait for the next piece of the body. Above zero;
    /// [`Duration::MAX`] never comes.
    ///
    /// The time starts anew with each piece, and runs only while somebody is waiting for it: a
    /// reader that takes its time between two pieces is no fault of the server's.
    ///
    /// Default: 10 s. TCP repeats a lost packet after 0.2, 0.4, 0.8, 1.6 and 3.2 s, and more on a
    /// path with a longer round trip; so this outlasts five losses in a row, and what is silent for
    /// longer is most likely gone. For a server that computes while it answers (an event stream, a
    /// long poll), set it above the longest silence it is allowed.
    pub fn stall(mut self, stall: Duration) -> Self {
        self.config.stall = stall;
        self
    }

    /// How long the call may take, from its beginning to the end of the body. Above zero.
    ///
    /// This one is the reader's time, too: a body that is read too slowly is cut off. It bounds how
    /// long a call can hold a connection, whoever is to blame, and catches a server that sends a
    /// byte now and then.
    ///
    /// Default: none, because it depends on how long the body is.
    pub fn total(mut self, total: Duration) -> Self {
        self.config.total = Some(total);
        self
    }

    /// Validates and builds. The name's cell is kept for the life of the process.
    pub fn build(self) -> Result<BodyTimeout, ConfigError> {
        let name = cell::name(self.name);
        self.config.validate().map_err(|error| error.named(name))?;
        Ok(BodyTimeout::new(name, self.config))
    }
}
