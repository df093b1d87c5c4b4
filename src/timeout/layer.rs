use std::{fmt, time::Duration};

use tower_layer::Layer;

use super::{ReadyTimeoutService, Timeout, TimeoutService};
use crate::context::{Carried, NoContext};

/// Limits each call of a service; made by [`Timeout::layer`].
#[derive(Clone, Copy)]
pub struct TimeoutLayer<D = Fixed, X = NoContext> {
    timeout: Timeout,
    per_request: D,
    carrier: X,
}

/// How long a request may take, where that differs from the timeout's own duration.
///
/// Implemented for [`Fixed`], the default, and for closures `Fn(&Req) -> Option<Duration>`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say how long a request of type `{Req}` may take",
    note = "`.per_request(|request: &{Req}| ..)` takes a closure that returns `Option<Duration>`"
)]
pub trait RequestTimeout<Req> {
    /// The limit for this request, or `None` for the timeout's own.
    fn request_timeout(&self, request: &Req) -> Option<Duration>;
}

impl<F, Req> RequestTimeout<Req> for F
where
    F: Fn(&Req) -> Option<Duration>,
{
    #[inline]
    fn request_timeout(&self, request: &Req) -> Option<Duration> {
        self(request)
    }
}

/// Every request has the timeout's own duration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fixed;

impl<Req> RequestTimeout<Req> for Fixed {
    #[inline]
    fn request_timeout(&self, _: &Req) -> Option<Duration> {
        None
    }
}

impl TimeoutLayer {
    pub(super) const fn new(timeout: Timeout) -> Self {
        TimeoutLayer { timeout, per_request: Fixed, carrier: NoContext }
    }
}

impl<X> TimeoutLayer<Fixed, X> {
    /// A limit for each request, instead of the same for all: a deadline that came with it, say.
    ///
    /// The closure runs once per call, on the healthy path too. `None` means the timeout's own
    /// duration.
    ///
    /// A limit shorter than that is the caller's business: when it expires, to the policies outside
    /// the call was refused. A breaker does not count it, or hurried callers would open the circuit
    /// of a healthy service for everybody, and a retry does not repeat it.
    ///
    /// ```
    /// use buttress::Timeout;
    /// use std::time::Duration;
    ///
    /// struct Query { budget: Option<Duration> }
    ///
    /// let layer = Timeout::after(Duration::from_secs(1))
    ///     .layer()
    ///     .per_request(|query: &Query| query.budget);
    /// # let _ = layer;
    /// ```
    ///
    /// Default: none, every request may take the same time.
    pub fn per_request<F, Req>(self, limit: F) -> TimeoutLayer<F, X>
    where
        F: Fn(&Req) -> Option<Duration>,
    {
        TimeoutLayer { timeout: self.timeout, per_request: limit, carrier: self.carrier }
    }
}

impl<D, X> TimeoutLayer<D, X> {
    /// How the caller's deadline is read, and told to those below: a
    /// [`CarryContext`](crate::CarryContext). See [`crate::context`].
    ///
    /// The deadline that is told is the sooner one of the caller's and the end of this timeout. A
    /// timeout that only the caller's deadline has cut short is a refusal to outer policies, as with
    /// a limit [per request](TimeoutLayer::per_request); and a call whose deadline has passed, or
    /// leaves less than [`min_remaining`](super::TimeoutBuilder::min_remaining), is refused without
    /// touching the service.
    ///
    /// What the deadline cuts short ends a millisecond after it, the time that a tokio timer can tell
    /// apart: so a timeout further out in the same stack that has set the deadline fires first, and
    /// says so in its own name.
    ///
    /// Reads the clock once per call. Of layers only: [`Timeout::call`] knows no context.
    ///
    /// Default: [`NoContext`], no deadlines, at no cost.
    pub fn context<Y>(self, carrier: Y) -> TimeoutLayer<D, Carried<Y>> {
        self.carried(Carried(carrier))
    }

    pub(crate) fn carried<Y>(self, carrier: Y) -> TimeoutLayer<D, Y> {
        TimeoutLayer { timeout: self.timeout, per_request: self.per_request, carrier }
    }

    /// Lets the time run while the service is not ready, too.
    ///
    /// Without this the limit starts with the call, and a 50 ms timeout over a full limiter waits
    /// in `poll_ready` for as long as the limiter likes. With it the timeout is ready at once, and
    /// its future waits for a clone of the service and calls that, all within the one limit.
    ///
    /// It costs a clone of the service per call. It also hides backpressure: whoever reads it from
    /// `poll_ready`, `Buffer` or `Balance` say, always sees a ready service, so put such a layer
    /// below this one.
    ///
    /// Default: off, because it asks `Clone` of the service.
    pub fn including_readiness(self) -> ReadyTimeoutLayer<D, X> {
        let TimeoutLayer { timeout, per_request, carrier } = self;
        ReadyTimeoutLayer { timeout, per_request, carrier }
    }
}

impl<S, D: Clone, X: Clone> Layer<S> for TimeoutLayer<D, X> {
    type Service = TimeoutService<S, D, X>;

    fn layer(&self, inner: S) -> Self::Service {
        TimeoutService::new(inner, self.timeout, self.per_request.clone(), self.carrier.clone())
    }
}

impl<D, X> fmt::Debug for TimeoutLayer<D, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimeoutLayer").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// Limits each call of a service and the wait for its readiness together; made by
/// [`TimeoutLayer::including_readiness`].
#[derive(Clone, Copy)]
pub struct ReadyTimeoutLayer<D = Fixed, X = NoContext> {
    timeout: Timeout,
    per_request: D,
    carrier: X,
}

impl<S, D: Clone, X: Clone> Layer<S> for ReadyTimeoutLayer<D, X> {
    type Service = ReadyTimeoutService<S, D, X>;

    fn layer(&self, inner: S) -> Self::Service {
        let (per_request, carrier) = (self.per_request.clone(), self.carrier.clone());
        ReadyTimeoutService::new(inner, self.timeout, per_request, carrier)
    }
}

impl<D, X> fmt::Debug for ReadyTimeoutLayer<D, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadyTimeoutLayer").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}
