use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_service::Service;

pin_project! {
    /// Waits until a service is ready, then calls it: both on the one instance it owns (law 1).
    ///
    /// What [`TimeoutLayer::including_readiness`](crate::timeout::TimeoutLayer::including_readiness)
    /// and the backup of a [fallback](crate::fallback) are made of. An error of readiness is the
    /// outcome. The service is dropped once it was called.
    ///
    /// # Cancel safety
    ///
    /// Dropped while it waits, it takes the service with its place in the queue, its permit and the
    /// request along; dropped later, the call.
    ///
    /// # Panics
    ///
    /// When polled after it was ready.
    #[must_use = "futures do nothing unless you `.await` or poll them"]
    pub struct ReadyCall<S, Req>
    where
        S: Service<Req>,
    {
        #[pin]
        state: State<S, Req, S::Future>,
    }
}

pin_project! {
    #[project = StateProject]
    #[project_replace = StateReplace]
    enum State<S, Req, F> {
        Waiting { service: S, request: Req },
        Calling { #[pin] future: F },
        Done,
    }
}

impl<S, Req> ReadyCall<S, Req>
where
    S: Service<Req>,
{
    #[inline]
    pub(crate) fn new(service: S, request: Req) -> Self {
        ReadyCall { state: State::Waiting { service, request } }
    }
}

impl<S, Req> Future for ReadyCall<S, Req>
where
    S: Service<Req>,
{
    type Output = Result<S::Response, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            match state.as_mut().project() {
                StateProject::Waiting { service, .. } => {
                    let readiness = ready!(service.poll_ready(cx));
                    let waited = state.as_mut().project_replace(State::Done);
                    if let Err(error) = readiness {
                        return Poll::Ready(Err(error));
                    }
                    if let StateReplace::Waiting { mut service, request } = waited {
                        let future = service.call(request);
                        state.set(State::Calling { future });
                    }
                }
                StateProject::Calling { future } => {
                    let outcome = ready!(future.poll(cx));
                    state.set(State::Done);
                    return Poll::Ready(outcome);
                }
                StateProject::Done => panic!("`ReadyCall` polled after it was ready"),
            }
        }
    }
}

impl<S, Req> fmt::Debug for ReadyCall<S, Req>
where
    S: Service<Req>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Waiting { .. } => "waiting",
            State::Calling { .. } => "calling",
            State::Done => "done",
        };
        f.debug_struct("ReadyCall").field("state", &state).finish_non_exhaustive()
    }
}
