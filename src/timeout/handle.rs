use std::{borrow::Cow, fmt, time::Duration};

use tokio::time::Instant;

use super::{
    DeadlineFuture, TimeoutBuilder, TimeoutConfig, TimeoutFuture, TimeoutLayer, future::Limit,
};
use crate::{
    cell,
    context::{CallContext, CarryContext},
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

/// How long after the caller's deadline a call is given up: the time that a tokio timer can tell
/// apart.
///
/// A timeout that set the deadline, further out in the same stack, is thus the one to fire and to
/// say so. And of two timeouts of the same duration the inner one, which begins some microseconds
/// after the deadline was set, is still a timeout, and not a deadline that no breaker would count.
const TICK: Duration = Duration::from_millis(1);

/// What all timeouts of one name share: where they report to, and what only calls with a deadline
/// have to know.
pub(super) struct TimeoutCell {
    name: &'static str,
    min_remaining: Duration,
    meter: Meter,
}

/// Of every timeout without a name, so that one built for each call keeps nothing.
static UNNAMED: TimeoutCell = TimeoutCell::new("", Duration::ZERO);

impl TimeoutCell {
    const fn new(name: &'static str, min_remaining: Duration) -> Self {
        TimeoutCell { name, min_remaining, meter: Meter::new(name, telemetry::TIMEOUT) }
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

    #[cold]
    pub(super) fn refuse(&self, left: Duration) -> PolicyError {
        let error = PolicyError::deadline_too_short(self.name, left, self.min_remaining);
        self.meter.count(telemetry::TIMEOUT_TOO_SHORT);
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

    pub(super) fn new(name: &'static str, config: &TimeoutConfig) -> Self {
        let cell = TimeoutCell::new(name, config.min_remaining);
        Timeout { after: config.after, cell: cell::forever(cell) }
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
        self.limit_to(after, after < self.after, inner)
    }

    #[inline]
    fn limit_to<F>(self, after: Duration, callers: bool, inner: F) -> TimeoutFuture<F> {
        TimeoutFuture::new(self.cell, Limit { after, callers }, inner)
    }

    /// Makes a call that is limited to that, and to the deadline of the request's context; and tells
    /// those below how long it then has.
    #[inline]
    pub(super) fn carry<X, Req, F>(
        self,
        carrier: &X,
        limit: Option<Duration>,
        request: Req,
        call: impl FnOnce(Req) -> F,
    ) -> DeadlineFuture<X::Future<F>>
    where
        X: CarryContext<Req>,
        F: Future,
    {
        let (mut context, now) = (carrier.context(&request), Instant::now());
        let own = limit.unwrap_or(self.after);
        let mut after = own;
        if let Some(deadline) = context.deadline {
            let left = deadline.saturating_duration_since(now);
            if left.is_zero() || left < self.cell.min_remaining {
                return DeadlineFuture::refused(self.cell, left);
            }
            after = after.min(left.saturating_add(TICK));
        }
        // Cut short by the deadline, also where the request was allowed more than the timeout itself.
        let callers = after < own.max(self.after);
        // What the clock cannot hold is no limit, and so no deadline.
        let end = now.checked_add(after);
        if let Some(end) = end {
            context = CallContext { own_limit: !callers, ..context.due(end) };
        }
        // One that the deadline has cut short comes a tick after it. Of others the deadline is the end,
        // so that of two of the same duration the inner one, which is polled first, is.
        let end = if after < own { end } else { context.deadline };
        let inner = carrier.carry(context, request, call);
        DeadlineFuture::new(self.limit_to(after, callers, inner), end)
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
