use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::Response;
use http_body::Body;
use pin_project_lite::pin_project;

use super::{ClassifyTrailers, GuardedBody};
use crate::{
    breaker::Permit,
    error::{PolicyError, StackError},
    verdict::{Classify, FailureKind, Verdict},
};

pin_project! {
    /// The future of [`ThroughBodyService`](super::ThroughBodyService).
    ///
    /// Dropped before it is ready it gives its probe back; see
    /// [`abandoned`](crate::breaker::CircuitBreakerBuilder::abandoned) for what else that may mean.
    ///
    /// # Panics
    ///
    /// When polled after it was ready.
    #[must_use = "futures do nothing unless you `.await` or poll them"]
    pub struct ThroughBodyFuture<F, C, T> {
        #[pin]
        state: State<F, C, T>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F, C, T> {
        Running {
            #[pin]
            inner: F,
            classifier: C,
            // Taken when the outcome is there: it goes on with the body.
            riding: Option<(Permit, T)>,
        },
        Refused {
            error: Option<PolicyError>,
        },
    }
}

impl<F, C, T> ThroughBodyFuture<F, C, T> {
    #[inline]
    pub(super) fn running(inner: F, classifier: C, trailers: T, permit: Permit) -> Self {
        let riding = Some((permit, trailers));
        ThroughBodyFuture { state: State::Running { inner, classifier, riding } }
    }

    #[inline]
    pub(super) const fn refused(error: PolicyError) -> Self {
        ThroughBodyFuture { state: State::Refused { error: Some(error) } }
    }
}

const COMPLETED: &str = "polled after completion";

impl<F, C, T, B, Err> Future for ThroughBodyFuture<F, C, T>
where
    F: Future<Output = Result<Response<B>, Err>>,
    C: Classify<Response<B>, Err>,
    T: ClassifyTrailers,
    B: Body,
    Err: StackError,
{
    type Output = Result<Response<GuardedBody<B, T>>, Err>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Running { inner, classifier, riding } => {
                let (permit, _) = riding.as_mut().expect(COMPLETED);
                let outcome = ready!(permit.run(|| inner.poll(cx)));
                let verdict = Verdict::of(classifier, &outcome);
                let (permit, trailers) = riding.take().expect(COMPLETED);
                let good = matches!(verdict, Verdict::Success | Verdict::Permanent);
                Poll::Ready(match outcome {
                    Ok(response) if good => {
                        let (head, body) = response.into_parts();
                        let body = GuardedBody::new(body, permit, verdict, trailers, &head.headers);
                        Ok(Response::from_parts(head, body))
                    }
                    // Bad news does not wait, and an error has no body to wait for.
                    outcome => {
                        permit.record_as(verdict, || FailureKind::of(verdict, &outcome));
                        outcome.map(|response| response.map(GuardedBody::unguarded))
                    }
                })
            }
            StateProjection::Refused { error } => {
                Poll::Ready(Err(error.take().expect(COMPLETED).into()))
            }
        }
    }
}

impl<F, C, T> fmt::Debug for ThroughBodyFuture<F, C, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Running { .. } => "running",
            State::Refused { .. } => "refused",
        };
        f.debug_struct("ThroughBodyFuture").field("state", &state).finish_non_exhaustive()
    }
}
