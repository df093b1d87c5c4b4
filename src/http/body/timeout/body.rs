use std::{
    fmt, mem,
    pin::Pin,
    task::{Context, Poll},
};

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::Sleep;

use super::watch::Watch;
use crate::{
    error::{BoxError, PolicyError},
    http::body::end::{End, end_of, is_nothing},
};

pin_project! {
    /// The body of a response, limited in time by a [`BodyTimeout`](super::BodyTimeout).
    ///
    /// The timer lies inside, so that a body that has to wait allocates nothing; where something
    /// asks for `Unpin`, use `Box::pin(body)`, which is a body as well.
    ///
    /// # Errors
    ///
    /// The inner body's, or a [`PolicyError`] of kind
    /// [`TimedOut`](crate::PolicyErrorKind::TimedOut), each as it is in a `BoxError`: that is the one
    /// error type that every client and server takes, also where the inner body's is a box already.
    /// [`StackError::policy_error`](crate::StackError::policy_error) tells them apart. After an error
    /// the body is at its end, and the inner one has been dropped, so its connection is free.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the inner body and the timer. A read that is given up loses nothing, and the
    /// time goes on as if it had not been.
    ///
    /// # Panics
    ///
    /// When the inner body has to wait outside of a tokio runtime with its timer enabled.
    pub struct TimeoutBody<B> {
        // `None` after an error.
        #[pin]
        inner: Option<B>,
        // `None` while nobody is waiting.
        #[pin]
        timer: Option<Sleep>,
        watch: Watch,
        // Its end has been reported.
        ended: bool,
    }
}

impl<B: Body> TimeoutBody<B> {
    pub(super) fn new(inner: B, watch: Watch) -> Self {
        let ended = inner.is_end_stream();
        if ended {
            watch.finish(true);
        }
        TimeoutBody { inner: Some(inner), timer: None, watch, ended }
    }
}

impl<B> Body for TimeoutBody<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let mut this = self.project();
        let Some(mut inner) = this.inner.as_mut().as_pin_mut() else { return Poll::Ready(None) };
        let polled = inner.as_mut().poll_frame(cx);
        let error: PolicyError = match polled {
            Poll::Ready(frame) => {
                if !is_nothing(frame.as_ref()) {
                    this.timer.set(None);
                }
                let end = end_of(&*inner, frame.as_ref());
                // A body that always has another piece never waits for a timer. Its end, though, is
                // one, however late.
                if end.is_none()
                    && !*this.ended
                    && let Some(error) = this.watch.overdue()
                {
                    error
                } else {
                    if let Some(end) = end
                        && !mem::replace(this.ended, true)
                    {
                        this.watch.finish(matches!(end, End::Complete(_)));
                    }
                    if matches!(frame, Some(Err(_))) {
                        this.inner.set(None);
                    }
                    return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
                }
            }
            // At its end as far as it said itself: nobody can be late any more.
            Poll::Pending if *this.ended => return Poll::Pending,
            Poll::Pending => match this.watch.poll_piece(this.timer.as_mut(), cx) {
                Poll::Ready(error) => error,
                Poll::Pending => return Poll::Pending,
            },
        };
        *this.ended = true;
        this.timer.set(None);
        this.inner.set(None);
        Poll::Ready(Some(Err(error.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl<B> fmt::Debug for TimeoutBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match (&self.inner, &self.timer) {
            (None, _) => "failed",
            (_, Some(_)) => "waiting",
            _ => "reading",
        };
        f.debug_struct("TimeoutBody").field("state", &state).finish_non_exhaustive()
    }
}
