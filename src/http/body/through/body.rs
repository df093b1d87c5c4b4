use std::{
    any::Any,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::ClassifyTrailers;
use crate::{
    breaker::Permit,
    clock::Tick,
    error::{BoxError, Error, PolicyError, StackError},
    http::body::end::{End, end_of, is_nothing},
    verdict::{Errors, FailureKind, Verdict},
};

pin_project! {
    /// The body of a response that a circuit breaker watches to its end; see
    /// [`CircuitBreakerLayer::through_body`](crate::breaker::CircuitBreakerLayer::through_body).
    ///
    /// Passes everything on as it is, errors too.
    ///
    /// # Cancel safety
    ///
    /// Dropped before its end it is a call given up: neutral, its probe goes to somebody else, unless
    /// the breaker was told to count calls that are
    /// [`abandoned`](crate::breaker::CircuitBreakerBuilder::abandoned).
    pub struct GuardedBody<B, T = Errors> {
        #[pin]
        inner: B,
        // `None` once the verdict is given.
        watch: Option<Watch<T>>,
    }
}

/// A call whose head was good.
struct Watch<T> {
    /// Taken when the verdict is given.
    permit: Option<Permit>,
    /// By the head: success, or permanent.
    head: Verdict,
    trailers: T,
    /// What it is if nothing more is asked for, once all of a stated length has been read: the end of
    /// such a body may be still to come, as over HTTP/2, and hyper's HTTP/1.1 server never looks.
    so_far: Option<Verdict>,
    /// Since when the reader has what there is, and does not ask for more. [`Tick::NEVER`] while it
    /// waits, and where nobody needs to know.
    paused: Tick,
    /// Since when it gets on, where it is a probe.
    probing: Tick,
}

impl<B: Body, T: ClassifyTrailers> GuardedBody<B, T> {
    pub(super) fn new(
        inner: B,
        permit: Permit,
        head: Verdict,
        trailers: T,
        headers: &HeaderMap,
    ) -> Self {
        let (paused, probing) = (permit.pause(), permit.probes_since());
        let permit = Some(permit);
        let mut watch = Watch { permit, head, trailers, so_far: None, paused, probing };
        if inner.is_end_stream() {
            // The only block of headers is the last one, too.
            watch.complete(headers);
            return GuardedBody::unguarded(inner);
        }
        watch.so_far = watch.if_all_is_read(&inner);
        GuardedBody { inner, watch: Some(watch) }
    }
}

impl<B, T> GuardedBody<B, T> {
    pub(super) const fn unguarded(inner: B) -> Self {
        GuardedBody { inner, watch: None }
    }

    /// The wrapped body.
    pub const fn get_ref(&self) -> &B {
        &self.inner
    }

    /// The wrapped body.
    pub const fn get_mut(&mut self) -> &mut B {
        &mut self.inner
    }

    /// Whether the verdict is still to be given.
    pub const fn is_watched(&self) -> bool {
        self.watch.is_some()
    }
}

impl<T> Watch<T> {
    /// All of the body has been read.
    fn complete(self, trailers: &HeaderMap)
    where
        T: ClassifyTrailers,
    {
        let verdict = self.verdict(trailers);
        self.record(verdict, None);
    }

    fn verdict(&self, trailers: &HeaderMap) -> Verdict
    where
        T: ClassifyTrailers,
    {
        match self.head {
            Verdict::Success => self.trailers.classify_trailers(trailers),
            head => head,
        }
    }

    /// The verdict on a body of which no bytes are left, if that is good without trailers: where they
    /// are needed, who does not wait for them has not read it.
    fn if_all_is_read<B: Body>(&self, body: &B) -> Option<Verdict>
    where
        T: ClassifyTrailers,
    {
        let nothing_left = body.size_hint().exact() == Some(0);
        let verdict = nothing_left.then(|| self.verdict(&HeaderMap::new()))?;
        matches!(verdict, Verdict::Success | Verdict::Permanent).then_some(verdict)
    }

    #[cold]
    fn failed<E: 'static>(self, error: &E) {
        let policy = policy_error(error);
        let verdict = policy.map_or(Verdict::Transient, PolicyError::verdict);
        self.record(verdict, policy);
    }

    fn record(mut self, verdict: Verdict, policy: Option<&PolicyError>) {
        let paused = std::mem::replace(&mut self.paused, Tick::NEVER);
        if let Some(mut permit) = self.permit.take() {
            permit.resume(paused);
            let outcome = policy.map_or(Ok(()), |error| Err(Error::<()>::Policy(*error)));
            permit.record_as(verdict, || FailureKind::of(verdict, &outcome));
        }
    }
}

impl<T> Drop for Watch<T> {
    fn drop(&mut self) {
        let Some(mut permit) = self.permit.take() else { return };
        permit.resume(self.paused);
        if let Some(verdict) = self.so_far {
            permit.record_as(verdict, || FailureKind::Failed);
        }
    }
}

/// The error of a policy below, which none but a box can carry through a body's own error type.
fn policy_error<E: 'static>(error: &E) -> Option<&PolicyError> {
    let error: &dyn Any = error;
    error.downcast_ref::<BoxError>().and_then(StackError::policy_error)
}

impl<B, T> Body for GuardedBody<B, T>
where
    B: Body,
    B::Error: 'static,
    T: ClassifyTrailers,
{
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let Some(watch) = this.watch else { return this.inner.poll_frame(cx) };
        let Some(permit) = &mut watch.permit else { return this.inner.poll_frame(cx) };
        permit.resume(std::mem::replace(&mut watch.paused, Tick::NEVER));
        // Who asks for more wants to know how it ends.
        watch.so_far = None;
        let Poll::Ready(frame) = permit.run(|| this.inner.as_mut().poll_frame(cx)) else {
            return Poll::Pending;
        };
        match end_of(&*this.inner, frame.as_ref()) {
            None => {
                let proven = !is_nothing(frame.as_ref()) && permit.gets_on(watch.probing);
                watch.paused = permit.pause();
                watch.so_far = watch.if_all_is_read(&*this.inner);
                if proven && let Some(watch) = this.watch.take() {
                    let head = watch.head;
                    watch.record(head, None);
                }
            }
            Some(end) => {
                if let Some(watch) = this.watch.take() {
                    match end {
                        End::Complete(Some(trailers)) => watch.complete(trailers),
                        End::Complete(None) => watch.complete(&HeaderMap::new()),
                        End::Failed(error) => watch.failed(error),
                    }
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B: fmt::Debug, T> fmt::Debug for GuardedBody<B, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardedBody")
            .field("inner", &self.inner)
            .field("watched", &self.is_watched())
            .finish_non_exhaustive()
    }
}
