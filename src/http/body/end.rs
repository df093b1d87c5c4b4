use bytes::Buf;
use http::HeaderMap;
use http_body::{Body, Frame};

/// How a body has ended.
pub(super) enum End<'a, E> {
    /// All of it was read. The trailers, if there were any.
    Complete(Option<&'a HeaderMap>),
    Failed(&'a E),
}

/// Whether a body has ended with this frame, which was the last that was read from it.
///
/// Not every reader polls until there is nothing: hyper stops where
/// [`is_end_stream`](Body::is_end_stream) is true, and others at the trailers, after which nothing
/// can come.
pub(super) fn end_of<'a, B: Body>(
    body: &B,
    frame: Option<&'a Result<Frame<B::Data>, B::Error>>,
) -> Option<End<'a, B::Error>> {
    match frame {
        None => Some(End::Complete(None)),
        Some(Err(error)) => Some(End::Failed(error)),
        Some(Ok(frame)) => match frame.trailers_ref() {
            Some(trailers) => Some(End::Complete(Some(trailers))),
            None => body.is_end_stream().then_some(End::Complete(None)),
        },
    }
}

/// Whether this is a piece of nothing, which is no progress: HTTP/2 has frames of data without any,
/// and a server can send those for ever.
pub(super) fn is_nothing<D: Buf, E>(frame: Option<&Result<Frame<D>, E>>) -> bool {
    let Some(Ok(frame)) = frame else { return false };
    frame.data_ref().is_some_and(|data| !data.has_remaining())
}
