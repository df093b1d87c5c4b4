use std::{borrow::Cow, fmt};

use super::{StandardBuilder, StandardConfig, StandardLayer};
use crate::{
    breaker::CircuitBreaker, cell, error::ConfigError, fallback::Fallback, retry::Retry,
    timeout::Timeout,
};

/// The policies of a standard stack. See the [module page](super).
///
/// A handle: it copies for free, and all layers made from it share its policies. Those are kept for
/// the life of the process.
#[derive(Clone, Copy)]
pub struct Standard {
    name: &'static str,
    timeout: Option<Timeout>,
    attempt_timeout: Option<Timeout>,
    retry: Option<Retry>,
    breaker: Option<CircuitBreaker>,
    fallback: Option<Fallback>,
}

impl Standard {
    /// Begins a standard stack. The name is the dependency's: every policy of the stack reports
    /// under it, the timeout of an attempt as `name/attempt`.
    pub fn builder(name: impl Into<Cow<'static, str>>) -> StandardBuilder {
        StandardBuilder::new(name.into(), StandardConfig::default())
    }

    /// Checks the configuration as a whole and makes the policies.
    pub fn from_config(
        name: impl Into<Cow<'static, str>>,
        config: StandardConfig,
    ) -> Result<Self, ConfigError> {
        StandardBuilder::new(name.into(), config).build()
    }

    pub(super) fn new(
        name: Cow<'static, str>,
        config: StandardConfig,
    ) -> Result<Self, ConfigError> {
        let name = cell::name(name);
        config.validate().map_err(|error| error.named(name))?;
        Ok(Standard {
            name,
            timeout: build(config.timeout, |part| Timeout::from_config(name, part))?,
            attempt_timeout: build(config.attempt_timeout, |part| {
                Timeout::from_config(format!("{name}/attempt"), part)
            })?,
            retry: build(config.retry, |part| Retry::from_config(name, part))?,
            breaker: build(config.breaker, |part| CircuitBreaker::from_config(name, part))?,
            fallback: build(config.fallback, |part| Fallback::from_config(name, part))?,
        })
    }

    /// The name it was built with.
    pub const fn name(self) -> &'static str {
        self.name
    }

    /// The timeout of the whole operation, unless it is switched off.
    pub const fn timeout(self) -> Option<Timeout> {
        self.timeout
    }

    /// The timeout of each attempt, unless it is switched off.
    pub const fn attempt_timeout(self) -> Option<Timeout> {
        self.attempt_timeout
    }

    /// The retries, unless they are switched off.
    pub const fn retry(self) -> Option<Retry> {
        self.retry
    }

    /// The circuit breaker, unless it is switched off.
    pub const fn breaker(self) -> Option<CircuitBreaker> {
        self.breaker
    }

    /// What a fallback is made from, unless it is switched off.
    pub const fn fallback(self) -> Option<Fallback> {
        self.fallback
    }

    /// The layer for a tower stack. As many as you like; they share these policies.
    ///
    /// [`Stack::standard`](crate::Stack::standard) makes one that classifies outcomes and copies
    /// requests as that stack does.
    pub const fn layer(self) -> StandardLayer {
        StandardLayer::new(self)
    }
}

fn build<C, P>(
    config: Option<C>,
    build: impl FnOnce(C) -> Result<P, ConfigError>,
) -> Result<Option<P>, ConfigError> {
    config.map(build).transpose()
}

impl fmt::Debug for Standard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Standard")
            .field("name", &self.name)
            .field("timeout", &self.timeout)
            .field("retry", &self.retry)
            .field("breaker", &self.breaker)
            .field("attempt_timeout", &self.attempt_timeout)
            .field("fallback", &self.fallback)
            .finish()
    }
}
