use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::Error;

/// The bottom layer of a stack: the client's error becomes [`Error::Service`].
///
/// Only at the very bottom: above other policies, or above a `tower::buffer::Buffer` over them, it
/// would wrap their refusals up as the service's. (A [`BoxError`](super::BoxError) speaks for itself.)
///
/// The same as `.map_err(Error::Service)`, but as a type with a name. The closure form leaves the
/// compiler guessing the error type in a struct field or in a stack that nothing has called yet.
///
/// ```
/// use buttress::{Error, ServiceErrors};
/// use tower::{Service, ServiceBuilder, ServiceExt};
///
/// # tokio_test::block_on(async {
/// let mut client = ServiceBuilder::new()
///     .layer(ServiceErrors)
///     .service(tower::service_fn(|_: ()| async { Err::<(), _>("connection refused") }));
/// let error = client.ready().await.unwrap().call(()).await.unwrap_err();
/// assert_eq!(error, Error::Service("connection refused"));
/// # });
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct ServiceErrors;

impl<S> Layer<S> for ServiceErrors {
    type Service = ServiceErrorsService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ServiceErrorsService { inner }
    }
}

/// A service whose errors are [`Error<S::Error>`]; made by [`ServiceErrors`].
#[derive(Clone, Copy, Debug)]
pub struct ServiceErrorsService<S> {
    inner: S,
}

impl<S> ServiceErrorsService<S> {
    /// The wrapped service.
    pub const fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The wrapped service.
    pub const fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Unwraps the service.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, Req> Service<Req> for ServiceErrorsService<S>
where
    S: Service<Req>,
{
    type Response = S::Response;
    type Error = Error<S::Error>;
    type Future = ServiceErrorsFuture<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Error::Service)
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        ServiceErrorsFuture { inner: self.inner.call(request) }
    }
}

pin_project! {
    /// The future of [`ServiceErrorsService`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless you `.await` or poll them"]
    pub struct ServiceErrorsFuture<F> {
        #[pin]
        inner: F,
    }
}

impl<F, Res, Err> Future for ServiceErrorsFuture<F>
where
    F: Future<Output = Result<Res, Err>>,
{
    type Output = Result<Res, Error<Err>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = ready!(self.project().inner.poll(cx));
        Poll::Ready(outcome.map_err(Error::Service))
    }
}
