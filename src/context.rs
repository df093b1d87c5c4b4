//! Context: what the callers of a call have said about it, and how it gets to those below.
//!
//! A caller that waits one second for an answer has no use for work done after that, and a tier
//! whose caller retries should not retry as well: five tiers of three attempts each send 3⁵ = 243
//! calls to a server that fails. A policy can only heed what it is told. A [`CallContext`] holds the
//! two things it should be told, the [`deadline`](CallContext::deadline) and the
//! [`attempt`](CallContext::attempt), and a *carrier* takes it along with the request.
//!
//! | carrier | where the context is | for |
//! |---|---|---|
//! | [`NoContext`], the default | nowhere; costs nothing | one tier, one timeout |
//! | [`TaskContext`] | with the task | clients that hide their requests' extensions, as reqwest does |
//! | `http::ExtensionContext` (feature `http`) | in the extensions of an `http::Request`, else with the task | everything over `http::Request`: hyper, tonic, axum |
//! | a [`CarryContext`] of your own | in a field of your request | the rest |
//!
//! # Example
//!
//! ```
//! use buttress::{Retry, ServiceErrors, Stack, context::{CallContext, TaskContext}};
//! use std::time::Duration;
//! use tower::{Service, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = service_fn(|_: &str| async {
//!     // Whatever runs below sees how much of the operation's time is left, and that there is a
//!     // retry above it.
//!     let context = CallContext::current();
//!     assert!(context.time_left().unwrap() <= Duration::from_secs(1));
//!     assert_eq!(context.attempt.unwrap().get(), 1);
//!     Ok::<_, std::io::Error>("in stock")
//! });
//!
//! let mut client = Stack::new()
//!     .context(TaskContext)
//!     .timeout(Duration::from_secs(3))    // sets the deadline
//!     .retry(Retry::builder("inventory").build()?)
//!     .timeout(Duration::from_secs(1))    // draws it nearer, for this attempt
//!     .layer(ServiceErrors)
//!     .service(server);
//!
//! assert_eq!(client.ready().await?.call("apples").await?, "in stock");
//! # Ok(()) }
//! ```
//!
//! # Who does what with it
//!
//! - A [timeout](crate::timeout) draws the deadline nearer, to its own limit; is cut short by one
//!   that is sooner; and refuses a call whose deadline has passed, without touching the service:
//!   [`DeadlineTooShort`](crate::PolicyErrorKind::DeadlineTooShort). To policies outside of it both
//!   are [`Refused`](crate::Verdict::Refused), because the service is not to blame for a caller in a
//!   hurry: no breaker trips on it.
//! - A [retry](crate::retry) numbers its attempts, starts none, and no backoff, that the deadline
//!   would come before (law 9), and makes one attempt only where an attempt has a number already.
//! - With feature `http`, a layer above the client writes the context into headers and a layer in
//!   front of a server reads it back.
//!
//! # What it costs
//!
//! With [`NoContext`] nothing at all, in time or in size. With a carrier a timeout reads the clock
//! once per call, a retry where an attempt has failed; a [`TaskContext`] makes a future some 24 bytes
//! larger for each layer that carries it, a timeout's by 16 more, and extensions take an allocation
//! where a request has none yet.
//!
//! Only layers know contexts. The handles' own `call` (of a timeout, a retry) takes no request that
//! could have one.

use std::{
    fmt,
    num::NonZeroU32,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::Instant;

tokio::task_local! {
    static CURRENT: CallContext;
}

/// What the callers of a call have said about it. See the [module page](self).
///
/// A plain value; the default knows nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallContext {
    /// When the answer is no longer wanted by anybody.
    pub deadline: Option<Instant>,
    /// The number of the attempt that this call is part of, counted from 1, where somebody above
    /// repeats calls that fail. `None` means that nobody is known to, so a policy here may.
    pub attempt: Option<NonZeroU32>,
    /// The deadline is the limit of the innermost timeout itself, and no caller's.
    pub(crate) own_limit: bool,
}

impl CallContext {
    /// Knows nothing.
    pub const fn new() -> Self {
        CallContext { deadline: None, attempt: None, own_limit: false }
    }

    /// What the current task is [scoped](Self::scope) to; nothing outside of any scope.
    pub fn current() -> Self {
        CURRENT.try_with(|context| *context).unwrap_or_default()
    }

    /// The same with this deadline, unless there is a sooner one: a deadline can only be drawn
    /// nearer.
    pub fn due(self, deadline: Instant) -> Self {
        match self.deadline {
            Some(known) if known <= deadline => self,
            _ => CallContext { deadline: Some(deadline), own_limit: false, ..self },
        }
    }

    /// The same with a deadline this long from now, unless there is a sooner one. What the clock
    /// cannot hold is no deadline.
    pub fn due_in(self, time: Duration) -> Self {
        Instant::now().checked_add(time).map_or(self, |deadline| self.due(deadline))
    }

    /// The same as part of this attempt, counted from 1, of somebody who repeats calls; 0 means that
    /// nobody does.
    pub const fn attempt(self, attempt: u32) -> Self {
        CallContext { attempt: NonZeroU32::new(attempt), ..self }
    }

    /// Whether somebody above repeats this call if it fails.
    pub const fn is_retried(&self) -> bool {
        self.attempt.is_some()
    }

    /// How long until the deadline, zero once it has passed; `None` without one.
    pub fn time_left(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Runs a future as part of this call: every call made by it over a [`TaskContext`] sees this.
    ///
    /// The context belongs to the task and not to those it spawns: give it to them,
    /// `tokio::spawn(CallContext::current().scope(future))`. A `tower::buffer::Buffer` calls its
    /// service from a task of its own, too, so what is below one sees nothing.
    ///
    /// # Cancel safety
    ///
    /// As cancel-safe as the future itself.
    #[inline]
    pub const fn scope<F>(self, future: F) -> Scope<F> {
        Scope { future, context: self }
    }

    /// Runs a function as part of this call. A future that it only makes is not part of it.
    #[inline]
    pub fn sync_scope<T>(self, function: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(self, function)
    }
}

/// Takes a [`CallContext`] along with a request.
///
/// Implemented for [`TaskContext`] and with feature `http` for
/// `http::ExtensionContext`. For a request with a field for it:
///
/// ```
/// use buttress::context::{CallContext, CarryContext};
///
/// struct Query { words: String, context: CallContext }
///
/// #[derive(Clone, Copy)]
/// struct InTheQuery;
///
/// impl CarryContext<Query> for InTheQuery {
///     type Future<F: Future> = F;
///
///     fn context(&self, query: &Query) -> CallContext {
///         query.context
///     }
///
///     fn carry<F: Future>(
///         &self,
///         context: CallContext,
///         mut query: Query,
///         call: impl FnOnce(Query) -> F,
///     ) -> F {
///         query.context = context;
///         call(query)
///     }
/// }
/// ```
///
/// A retry reads the context of a later attempt from the copy of the request, so where requests are
/// copied by a [`CloneRequest`](crate::CloneRequest) of your own, it has to copy that field as well.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not carry the context of a request of type `{Req}`",
    note = "`TaskContext` carries it for every request, with the task"
)]
pub trait CarryContext<Req> {
    /// What the future of a call becomes: the same, if the request itself carries the context.
    type Future<F: Future>: Future<Output = F::Output>;

    /// What is known about this request.
    fn context(&self, request: &Req) -> CallContext;

    /// Makes a call that carries this context. `call` is called once, at once.
    fn carry<F: Future>(
        &self,
        context: CallContext,
        request: Req,
        call: impl FnOnce(Req) -> F,
    ) -> Self::Future<F>;
}

/// Carries nothing, and costs nothing: what layers have until they are given a carrier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoContext;

/// What layers have once they are given a carrier, a [`CarryContext`].
///
/// A type of its own, so that a layer without one is not merely one that finds nothing: its futures
/// have no room for what they could be told, and it never reads a clock for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried<X>(pub(crate) X);

/// Either [`NoContext`] or [`Carried`] by something. Named in bounds only; sealed.
pub trait Carrier<Req>: sealed::Sealed {
    /// Whether anything is carried.
    const CARRIES: bool;

    /// What the future of a call becomes.
    type Future<F: Future>: Future<Output = F::Output>;

    /// What is known about this request.
    fn context(&self, request: &Req) -> CallContext;

    /// Makes a call that carries this context.
    fn carry<F: Future>(
        &self,
        context: CallContext,
        request: Req,
        call: impl FnOnce(Req) -> F,
    ) -> Self::Future<F>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::NoContext {}
    impl<X> Sealed for super::Carried<X> {}
}

impl<Req> Carrier<Req> for NoContext {
    const CARRIES: bool = false;

    type Future<F: Future> = F;

    #[inline]
    fn context(&self, _: &Req) -> CallContext {
        CallContext::new()
    }

    #[inline]
    fn carry<F: Future>(&self, _: CallContext, request: Req, call: impl FnOnce(Req) -> F) -> F {
        call(request)
    }
}

impl<X, Req> Carrier<Req> for Carried<X>
where
    X: CarryContext<Req>,
{
    const CARRIES: bool = true;

    type Future<F: Future> = X::Future<F>;

    #[inline]
    fn context(&self, request: &Req) -> CallContext {
        self.0.context(request)
    }

    #[inline]
    fn carry<F: Future>(
        &self,
        context: CallContext,
        request: Req,
        call: impl FnOnce(Req) -> F,
    ) -> X::Future<F> {
        self.0.carry(context, request, call)
    }
}

/// Carries the context with the task instead of the request: around the call and around every poll
/// of its future, [`CallContext::current`] is what the layers above have made of it.
///
/// For requests that have no room for it, and for calls made by a server's handler, which so
/// inherit what the server was told; see [`CallContext::scope`] for what does not inherit it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskContext;

impl<Req> CarryContext<Req> for TaskContext {
    type Future<F: Future> = Scope<F>;

    #[inline]
    fn context(&self, _: &Req) -> CallContext {
        CallContext::current()
    }

    #[inline]
    fn carry<F: Future>(
        &self,
        context: CallContext,
        request: Req,
        call: impl FnOnce(Req) -> F,
    ) -> Scope<F> {
        context.scope(context.sync_scope(|| call(request)))
    }
}

pin_project! {
    /// A future that runs as part of a call; made by [`CallContext::scope`].
    #[must_use = "futures do nothing unless you `.await` or poll them"]
    pub struct Scope<F> {
        #[pin]
        future: F,
        context: CallContext,
    }
}

impl<F: Future> Future for Scope<F> {
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        this.context.sync_scope(|| this.future.poll(cx))
    }
}

impl<F> fmt::Debug for Scope<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").field("context", &self.context).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_default_carrier_costs_nothing() {
        assert_eq!(size_of::<NoContext>(), 0);
        assert_eq!(size_of::<<NoContext as Carrier<()>>::Future<std::future::Ready<u8>>>(), 2);
        assert_eq!(Carrier::context(&NoContext, &()), CallContext::new());
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_is_only_drawn_nearer() {
        let second = Duration::from_secs(1);
        let context = CallContext::new().due_in(second);
        assert_eq!(context.due_in(2 * second), context);
        assert_eq!(context.due_in(second / 2).time_left(), Some(second / 2));
        assert_eq!(context.due_in(Duration::MAX), context);
        tokio::time::advance(2 * second).await;
        assert_eq!(context.time_left(), Some(Duration::ZERO));
    }

    #[tokio::test]
    async fn a_scope_holds_for_every_poll_and_ends_with_it() {
        let context = CallContext::new().attempt(2);
        let see = async {
            let first = CallContext::current();
            tokio::task::yield_now().await;
            let inner = CallContext::new().attempt(3).scope(async { CallContext::current() }).await;
            (first, inner, CallContext::current())
        };
        let mut scoped = std::pin::pin!(context.scope(see));
        assert!(futures::poll!(&mut scoped).is_pending());
        assert_eq!(CallContext::current(), CallContext::new());
        assert_eq!(scoped.await, (context, CallContext::new().attempt(3), context));
        assert_eq!(CallContext::current(), CallContext::new());
    }
}
