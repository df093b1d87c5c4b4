//! The four ways in which a fallback answers.

use std::{
    fmt,
    future::{Ready, ready},
    marker::PhantomData,
};

use tower_service::Service;

use super::cell::Standby;
use crate::{
    error::StackError,
    ready_call::ReadyCall,
    request::{CloneRequest, Cloned, Repeats},
    verdict::VerdictKind,
};

// What stands in (a value, a closure, a service) is kept once for the life of the process, by
// `Fallback::to_value` and its siblings. The future must be able to reach it after the primary has
// failed, and outlives any borrow of the service; carrying a clone of a response, or of a backup's
// connection pool, through every healthy call would cost more than the whole layer, and an `Arc`
// as much as all of its other work. A layer is made once, as a policy is built once, so what is kept
// is bounded; whoever makes layers per call is warned by `crate::cell::forever`.

/// What a kind of fallback is, whatever it answers to.
pub trait Kind: sealed::Kind {
    /// What is kept of an error of the primary's readiness until the call.
    type Unready;
}

/// Stands in for outcomes `Result<Res, Err>` of requests `Req`.
///
/// Sealed: it is implemented for [`Value`], [`Function`], [`AsyncFunction`] and [`Backup`], and
/// named in bounds only.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot stand in for a service of `{Req}` with outcomes `Result<{Res}, {Err}>`",
    note = "the value, function or backup must have the response and error type of the service below"
)]
pub trait Answer<Req, Res, Err>: Kind {
    /// What the future keeps while the primary runs.
    type Kept;
    /// What the fallback is waited for with.
    type Future: Future<Output = Result<Res, Err>>;

    /// Before the primary's call: whatever is needed of the request later.
    fn keep(&self, request: &Req) -> Self::Kept;

    /// Stands in for this outcome, whose verdict is of this kind, or gives it back where that is
    /// not possible.
    fn answer(
        kept: Self::Kept,
        outcome: Result<Res, Err>,
        kind: VerdictKind,
    ) -> Result<Self::Future, (Unanswered, Result<Res, Err>)>;

    /// The primary cannot be called: what is needed of that error later.
    fn unready(error: Err) -> Self::Unready;

    /// Stands in for a primary that cannot be called.
    fn answer_unready(&self, request: Req, unready: Self::Unready) -> Self::Future;
}

/// Why a backup cannot stand in for an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// There is no copy of the request.
    Uncloneable,
    /// The primary may have executed the request, which must not happen twice.
    NotIdempotent,
}

mod sealed {
    use super::Standby;

    // Private on purpose: the label of a kind is no business of the trait's users.
    #[allow(unnameable_types, private_interfaces)]
    pub trait Kind {
        const STANDBY: Standby;
    }
}
pub(super) use sealed::Kind as Labelled;

/// Answers with a clone of a value; made by [`Fallback::to_value`](super::Fallback::to_value).
pub struct Value<V: 'static> {
    value: &'static V,
}

impl<V> Value<V> {
    pub(super) const fn new(value: &'static V) -> Self {
        Value { value }
    }
}

#[allow(private_interfaces)]
impl<V> sealed::Kind for Value<V> {
    const STANDBY: Standby = Standby::Value;
}

impl<V> Kind for Value<V> {
    type Unready = ();
}

impl<V: Clone, Req, Err> Answer<Req, V, Err> for Value<V> {
    type Kept = &'static V;
    type Future = Ready<Result<V, Err>>;

    #[inline]
    fn keep(&self, _: &Req) -> Self::Kept {
        self.value
    }

    fn answer(
        value: Self::Kept,
        _: Result<V, Err>,
        _: VerdictKind,
    ) -> Result<Self::Future, (Unanswered, Result<V, Err>)> {
        Ok(ready(Ok(value.clone())))
    }

    fn unready(_: Err) {}

    fn answer_unready(&self, _: Req, (): ()) -> Self::Future {
        ready(Ok(self.value.clone()))
    }
}

/// Answers with a function of the outcome; made by [`Fallback::to_fn`](super::Fallback::to_fn).
pub struct Function<F: 'static, Res, Err> {
    function: &'static F,
    outcome: PhantomData<fn(Result<Res, Err>)>,
}

impl<F, Res, Err> Function<F, Res, Err> {
    pub(super) const fn new(function: &'static F) -> Self {
        Function { function, outcome: PhantomData }
    }
}

#[allow(private_interfaces)]
impl<F, Res, Err> sealed::Kind for Function<F, Res, Err> {
    const STANDBY: Standby = Standby::Function;
}

impl<F, Res, Err> Kind for Function<F, Res, Err> {
    type Unready = Err;
}

impl<F, Req, Res, Err> Answer<Req, Res, Err> for Function<F, Res, Err>
where
    F: Fn(Result<Res, Err>) -> Result<Res, Err>,
{
    type Kept = &'static F;
    type Future = Ready<Result<Res, Err>>;

    #[inline]
    fn keep(&self, _: &Req) -> Self::Kept {
        self.function
    }

    fn answer(
        function: Self::Kept,
        outcome: Result<Res, Err>,
        _: VerdictKind,
    ) -> Result<Self::Future, (Unanswered, Result<Res, Err>)> {
        Ok(ready(function(outcome)))
    }

    fn unready(error: Err) -> Err {
        error
    }

    fn answer_unready(&self, _: Req, error: Err) -> Self::Future {
        ready((self.function)(Err(error)))
    }
}

/// Answers with an async function of the outcome; made by
/// [`Fallback::to_async_fn`](super::Fallback::to_async_fn).
pub struct AsyncFunction<F: 'static, Res, Err> {
    function: &'static F,
    outcome: PhantomData<fn(Result<Res, Err>)>,
}

impl<F, Res, Err> AsyncFunction<F, Res, Err> {
    pub(super) const fn new(function: &'static F) -> Self {
        AsyncFunction { function, outcome: PhantomData }
    }
}

#[allow(private_interfaces)]
impl<F, Res, Err> sealed::Kind for AsyncFunction<F, Res, Err> {
    const STANDBY: Standby = Standby::Function;
}

impl<F, Res, Err> Kind for AsyncFunction<F, Res, Err> {
    type Unready = Err;
}

impl<F, Fut, Req, Res, Err> Answer<Req, Res, Err> for AsyncFunction<F, Res, Err>
where
    F: Fn(Result<Res, Err>) -> Fut,
    Fut: Future<Output = Result<Res, Err>>,
{
    type Kept = &'static F;
    type Future = Fut;

    #[inline]
    fn keep(&self, _: &Req) -> Self::Kept {
        self.function
    }

    fn answer(
        function: Self::Kept,
        outcome: Result<Res, Err>,
        _: VerdictKind,
    ) -> Result<Fut, (Unanswered, Result<Res, Err>)> {
        Ok(function(outcome))
    }

    fn unready(error: Err) -> Err {
        error
    }

    fn answer_unready(&self, _: Req, error: Err) -> Fut {
        (self.function)(Err(error))
    }
}

/// Answers with a backup service; made by [`Fallback::to_service`](super::Fallback::to_service).
pub struct Backup<B: 'static, K = Cloned> {
    backup: &'static B,
    clone_request: K,
}

impl<B> Backup<B> {
    pub(super) const fn new(backup: &'static B) -> Self {
        Backup { backup, clone_request: Cloned }
    }
}

impl<B, K> Backup<B, K> {
    pub(super) fn clone_with<L>(self, clone_request: L) -> Backup<B, L> {
        Backup { backup: self.backup, clone_request }
    }
}

#[allow(private_interfaces)]
impl<B, K> sealed::Kind for Backup<B, K> {
    const STANDBY: Standby = Standby::Service;
}

impl<B, K> Kind for Backup<B, K> {
    type Unready = ();
}

impl<B, K, Req> Answer<Req, B::Response, B::Error> for Backup<B, K>
where
    B: Service<Req> + Clone,
    B::Error: StackError,
    K: CloneRequest<Req> + Clone,
{
    // The way to copy, too, because it knows whether the copy may be sent. Mostly it has no size.
    type Kept = (&'static B, Option<Req>, K);
    type Future = ReadyCall<B, Req>;

    #[inline]
    fn keep(&self, request: &Req) -> Self::Kept {
        let copy = match self.clone_request.repeats(request) {
            Repeats::Always | Repeats::IfUnsent => self.clone_request.clone_request(request),
            Repeats::Never => None,
        };
        (self.backup, copy, self.clone_request.clone())
    }

    fn answer(
        (backup, request, clone_request): Self::Kept,
        outcome: Result<B::Response, B::Error>,
        kind: VerdictKind,
    ) -> Result<Self::Future, (Unanswered, Result<B::Response, B::Error>)> {
        let Some(request) = request else { return Err((Unanswered::Uncloneable, outcome)) };
        match clone_request.repeats(&request) {
            Repeats::IfUnsent if !is_unsent(&outcome, kind) => {
                Err((Unanswered::NotIdempotent, outcome))
            }
            // It was copied while it could be; what it shares with the original has become
            // unusable since.
            Repeats::Never => Err((Unanswered::Uncloneable, outcome)),
            _ => Ok(ReadyCall::new(backup.clone(), request)),
        }
    }

    fn unready(_: B::Error) {}

    // The primary has not taken the request, so the backup gets it as it is.
    fn answer_unready(&self, request: Req, (): ()) -> Self::Future {
        ReadyCall::new(self.backup.clone(), request)
    }
}

/// Whether the primary's request has reached nobody: no connection, or a policy that refused it.
fn is_unsent<Res, Err: StackError>(outcome: &Result<Res, Err>, kind: VerdictKind) -> bool {
    let refusal = outcome.as_ref().err().and_then(StackError::policy_error);
    kind == VerdictKind::Unreachable || refusal.is_some_and(|error| !error.reached_service())
}

// By hand, because deriving would ask `Clone` and `Debug` of what stands behind the reference.

impl<V> Clone for Value<V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V> Copy for Value<V> {}

impl<F, Res, Err> Clone for Function<F, Res, Err> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F, Res, Err> Copy for Function<F, Res, Err> {}

impl<F, Res, Err> Clone for AsyncFunction<F, Res, Err> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F, Res, Err> Copy for AsyncFunction<F, Res, Err> {}

impl<B, K: Clone> Clone for Backup<B, K> {
    fn clone(&self) -> Self {
        Backup { backup: self.backup, clone_request: self.clone_request.clone() }
    }
}

impl<B, K: Copy> Copy for Backup<B, K> {}

impl<V> fmt::Debug for Value<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Value").finish_non_exhaustive()
    }
}

impl<F, Res, Err> fmt::Debug for Function<F, Res, Err> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Function").finish_non_exhaustive()
    }
}

impl<F, Res, Err> fmt::Debug for AsyncFunction<F, Res, Err> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncFunction").finish_non_exhaustive()
    }
}

impl<B, K> fmt::Debug for Backup<B, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backup").finish_non_exhaustive()
    }
}
