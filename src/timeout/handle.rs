use std::{borrow::Cow, fmt, time::Duration};

use super::{TimeoutBuilder, TimeoutConfig, TimeoutFuture, TimeoutLayer, future::Limit};
use crate::{
    cell,
    error::{ConfigError, PolicyError, StackError},
    telemetry::{self, Meter, Stopwatch},
};

/// A time limit for calls. See the [module page](super) for when to use it.
///
/// A handle that copies for free: a duration, and a name to report under.
#[derive(Clone, Copy)]
pub struct Timeout {
    after: Duration,
    cell: &'static TimeoutCell,
}

/// What all timeouts of one name share: where they report to.
pub(super) struct TimeoutCell {
    name: &'static str,
    meter: Meter,
}

/// Of every timeout without a name, so that one built for each call keeps nothing.
static UNNAMED: TimeoutCell = TimeoutCell::new("");

impl TimeoutCell {
    const fn new(name: &'static str) -> Self {
        TimeoutCell { name, meter: Meter::new(name, telemetry::TIMEOUT) }
    }

    #[inline]
    pub(super) fn start(&self) -> Stopwatch {
        self.meter.start()
    }

    #[inline]
    pub(super) fn finish(&self, success: bool, stopwatch: Stopwatch) {
        let row = if success { telemetry::TIMEOUT_SUCCESS } else { telemetry::TIMEOUT_ERROR };
        self.meter.finish(row, stopwatch);
    }

    #[cold]
    pub(super) fn time_out(&self, limit: Limit, stopwatch: Stopwatch) -> PolicyError {
        let error = if limit.callers {
            PolicyError::caller_timed_out(self.name, limit.after)
        } else {
            PolicyError::timed_out(self.name, limit.after)
        };
        self.meter.finish(telemetry::TIMEOUT_TIMED_OUT, stopwatch);
        self.meter.count(telemetry::TIMEOUT_FIRED);
        self.meter.raised(&error);
        error
    }
}

impl Timeout {
    /// A timeout without a name. Keeps nothing, so it may be made for each call.
    ///
    /// Every duration means something: after zero only a call that is ready at its first poll
    /// passes, and `Duration::MAX` never comes.
    pub const fn after(after: Duration) -> Self {
        Timeout { after, cell: &UNNAMED }
    }

    /// Builds a timeout that reports under this name.
    pub fn builder(name: impl Into<Cow<'static, str>>) -> TimeoutBuilder {
        TimeoutBuilder::new(name.into(), TimeoutConfig::default())
    }

    /// Validates the configuration and builds from it.
    pub fn from_config(
        name: impl Into<Cow<'static, str>>,
        config: TimeoutConfig,
    ) -> Result<Self, ConfigError> {
        TimeoutBuilder::new(name.into(), config).build()
    }

    pub(super) fn new(name: &'static str, after: Duration) -> Self {
        Timeout { after, cell: cell::forever(TimeoutCell::new(name)) }
    }

    /// The name it was built with; empty if it was given none.
    pub const fn name(self) -> &'static str {
        self.cell.name
    }

    /// How long a call may take.
    pub const fn duration(self) -> Duration {
        self.after
    }

    /// A [`tower_layer::Layer`] that limits each call of a service to this duration.
    pub const fn layer(self) -> TimeoutLayer {
        TimeoutLayer::new(self)
    }

    /// Limits one operation, without tower.
    ///
    /// ```
    /// use buttress::{Error, Timeout};
    /// use std::{io, time::Duration};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let limit = Timeout::after(Duration::from_millis(100));
    /// let never = limit.call(|| std::future::pending::<Result<(), Error<io::Error>>>()).await;
    /// assert_eq!(never.unwrap_err().to_string(), "timed out after 100ms");
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping this future drops the operation's with it, and its timer.
    ///
    /// # Panics
    ///
    /// If the operation has to wait outside of a tokio runtime with its timer enabled.
    pub async fn call<F, Fut, T, E>(self, operation: F) -> Result<T, E>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
        E: StackError,
    {
        self.limit(None, operation()).await
    }

    /// Limits `inner` to what the request allows itself, or else to the timeout's own duration.
    #[inline]
    pub(super) fn limit<F>(self, request: Option<Duration>, inner: F) -> TimeoutFuture<F> {
        let after = request.unwrap_or(self.after);
        TimeoutFuture::new(self.cell, Limit { after, callers: after < self.after }, inner)
    }
}

/// A timeout without a name.
impl From<Duration> for Timeout {
    fn from(after: Duration) -> Self {
        Timeout::after(after)
    }
}

impl fmt::Debug for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timeout")
            .field("name", &self.name())
            .field("after", &self.after)
            .finish_non_exhaustive()
    }
}
