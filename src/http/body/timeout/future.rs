use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use http::Response;
use http_body::Body;
use pin_project_lite::pin_project;
use tokio::time::Sleep;

use super::{TimeoutBody, watch::Watch};
use crate::error::StackError;

pin_project! {
    /// The future of [`BodyTimeoutService`](super::BodyTimeoutService).
    ///
    /// Fails only when the [total](super::BodyTimeoutBuilder::total) is over before the headers have
    /// come; a limit on the wait for them alone is a [`Timeout`](crate::Timeout)'s.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the inner future and the timer, at whatever point.
    ///
    /// # Panics
    ///
    /// When polled after it was ready; and when there is a total, and the inner future has to wait
    /// outside of a tokio runtime with its timer enabled.
    #[must_use = "futures do nothing unless you `.await` or poll them"]
    pub struct BodyTimeoutFuture<F> {
        #[pin]
        inner: Option<F>,
        #[pin]
        timer: Option<Sleep>,
        watch: Watch,
    }
}

impl<F> BodyTimeoutFuture<F> {
    #[inline]
    pub(super) fn new(inner: F, watch: Watch) -> Self {
        BodyTimeoutFuture { inner: Some(inner), timer: None, watch }
    }
}

impl<F, B, Err> Future for BodyTimeoutFuture<F>
where
    F: Future<Output = Result<Response<B>, Err>>,
    B: Body,
    Err: StackError,
{
    type Output = Result<Response<TimeoutBody<B>>, Err>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let inner = this.inner.as_mut().as_pin_mut();
        let inner = inner.expect("`BodyTimeoutFuture` polled after it was ready");
        let outcome = match inner.poll(cx) {
            Poll::Ready(Ok(response)) => {
                let watch = *this.watch;
                Ok(response.map(|body| TimeoutBody::new(body, watch)))
            }
            Poll::Ready(Err(error)) => {
                this.watch.finish(false);
                Err(error)
            }
            Poll::Pending => match this.watch.poll_head(this.timer.as_mut(), cx) {
                Poll::Ready(error) => Err(error.into()),
                Poll::Pending => return Poll::Pending,
            },
        };
        // What they still hold is given back now, and not when somebody drops this future.
        this.inner.set(None);
        this.timer.set(None);
        Poll::Ready(outcome)
    }
}

impl<F> fmt::Debug for BodyTimeoutFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyTimeoutFuture")
            .field("done", &self.inner.is_none())
            .finish_non_exhaustive()
    }
}
