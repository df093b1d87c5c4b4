use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

/// A layer that is there or not, as a configuration says at run time.
#[derive(Clone, Copy, Debug)]
pub struct OptionalLayer<L> {
    layer: Option<L>,
}

impl<L> From<Option<L>> for OptionalLayer<L> {
    fn from(layer: Option<L>) -> Self {
        OptionalLayer { layer }
    }
}

impl<L: Layer<S>, S> Layer<S> for OptionalLayer<L> {
    type Service = Optional<L::Service, S>;

    fn layer(&self, inner: S) -> Self::Service {
        match &self.layer {
            Some(layer) => Optional::With(layer.layer(inner)),
            None => Optional::Without(inner),
        }
    }
}

/// A service with a layer or without it; made by [`OptionalLayer`].
#[derive(Clone, Copy, Debug)]
pub enum Optional<W, S> {
    /// Wrapped in the layer.
    With(W),
    /// As it was.
    Without(S),
}

impl<W, S, Req> Service<Req> for Optional<W, S>
where
    W: Service<Req, Response = S::Response, Error = S::Error>,
    S: Service<Req>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = OptionalFuture<W::Future, S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        match self {
            Optional::With(service) => service.poll_ready(cx),
            Optional::Without(service) => service.poll_ready(cx),
        }
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        let state = match self {
            Optional::With(service) => State::With { call: service.call(request) },
            Optional::Without(service) => State::Without { call: service.call(request) },
        };
        OptionalFuture { state }
    }
}

pin_project! {
    /// The future of an [`Optional`] service. Cancel safe where the call in it is.
    #[must_use = "futures do nothing unless you `.await` or poll them"]
    pub struct OptionalFuture<W, F> {
        #[pin]
        state: State<W, F>,
    }
}

pin_project! {
    #[project = StateProject]
    enum State<W, F> {
        With { #[pin] call: W },
        Without { #[pin] call: F },
    }
}

impl<W, F> Future for OptionalFuture<W, F>
where
    W: Future<Output = F::Output>,
    F: Future,
{
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProject::With { call } => call.poll(cx),
            StateProject::Without { call } => call.poll(cx),
        }
    }
}

impl<W, F> fmt::Debug for OptionalFuture<W, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::With { .. } => "with",
            State::Without { .. } => "without",
        };
        f.debug_struct("OptionalFuture").field("state", &state).finish_non_exhaustive()
    }
}
