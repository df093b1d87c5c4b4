use std::{borrow::Cow, fmt, time::Duration};

use super::{BodyTimeoutBuilder, BodyTimeoutConfig, BodyTimeoutLayer};
use crate::{
    cell,
    error::{ConfigError, PolicyError},
    telemetry::{self, Meter, Stopwatch},
};

/// A time limit for the bodies of responses. See the [module page](crate::http::body) for when to
/// use it.
///
/// A handle that copies for free.
#[derive(Clone, Copy)]
pub struct BodyTimeout {
    pub(super) cell: &'static BodyTimeoutCell,
}

pub(super) struct BodyTimeoutCell {
    pub(super) config: BodyTimeoutConfig,
    name: &'static str,
    meter: Meter,
}

impl BodyTimeoutCell {
    #[inline]
    pub(super) fn start(&self) -> Stopwatch {
        self.meter.start()
    }

    #[inline]
    pub(super) fn finish(&self, success: bool, stopwatch: Stopwatch) {
        let success = if success { telemetry::BODY_SUCCESS } else { telemetry::BODY_ERROR };
        self.meter.finish(success, stopwatch);
    }

    #[cold]
    pub(super) fn stalled(&self, stopwatch: Stopwatch) -> PolicyError {
        let error = PolicyError::stalled(self.name, self.config.stall);
        self.fired(telemetry::BODY_STALLED, stopwatch, error)
    }

    #[cold]
    pub(super) fn timed_out(&self, total: Duration, stopwatch: Stopwatch) -> PolicyError {
        let error = PolicyError::timed_out(self.name, total);
        self.fired(telemetry::BODY_TIMED_OUT, stopwatch, error)
    }

    fn fired(&self, row: usize, stopwatch: Stopwatch, error: PolicyError) -> PolicyError {
        self.meter.finish(row, stopwatch);
        self.meter.count(telemetry::BODY_FIRED);
        self.meter.raised(&error);
        error
    }
}

impl BodyTimeout {
    /// Builds a body timeout that reports under this name.
    pub fn builder(name: impl Into<Cow<'static, str>>) -> BodyTimeoutBuilder {
        BodyTimeoutBuilder::new(name.into(), BodyTimeoutConfig::default())
    }

    /// Validates the configuration and builds from it.
    pub fn from_config(
        name: impl Into<Cow<'static, str>>,
        config: BodyTimeoutConfig,
    ) -> Result<Self, ConfigError> {
        BodyTimeoutBuilder::new(name.into(), config).build()
    }

    pub(super) fn new(name: &'static str, config: BodyTimeoutConfig) -> Self {
        let meter = Meter::new(name, telemetry::BODY_TIMEOUT);
        BodyTimeout { cell: cell::forever(BodyTimeoutCell { config, name, meter }) }
    }

    /// The name it was built with.
    pub const fn name(self) -> &'static str {
        self.cell.name
    }

    /// The configuration it was built with.
    pub const fn config(self) -> &'static BodyTimeoutConfig {
        &self.cell.config
    }

    /// A [`tower_layer::Layer`] that limits the bodies of a service's responses.
    pub const fn layer(self) -> BodyTimeoutLayer {
        BodyTimeoutLayer::new(self)
    }
}

impl fmt::Debug for BodyTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyTimeout")
            .field("name", &self.name())
            .field("config", self.config())
            .finish_non_exhaustive()
    }
}
