use http::HeaderMap;

use crate::{
    http::Responses,
    verdict::{ClassifyResponse, Errors, Verdict},
};

/// Says what a response means that was a success by its head, and whose body has been read to its
/// end without an error.
///
/// For protocols that tell only at the end how it went; in gRPC a missing `grpc-status` is not a
/// success. [`grpc::Statuses`](crate::grpc::Statuses) does so; to the other classifiers of this crate,
/// and to [`Complete`], trailers mean nothing. Also implemented for closures
/// `Fn(&HeaderMap) -> Verdict`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say what the trailers of a response mean",
    note = "if they mean nothing: `.through_body_with(buttress::http::body::Complete)`",
    note = "else `.through_body_with(|trailers: &http::HeaderMap| ..)`, which returns a `Verdict`"
)]
pub trait ClassifyTrailers {
    /// The verdict by the response's last block of headers.
    ///
    /// These are the trailers; empty, if there was a body without any. A response that had no body
    /// at all has only the one block: then these are its *headers*, as in gRPC's "trailers-only"
    /// responses.
    fn classify_trailers(&self, trailers: &HeaderMap) -> Verdict;
}

impl<F> ClassifyTrailers for F
where
    F: Fn(&HeaderMap) -> Verdict,
{
    #[inline]
    fn classify_trailers(&self, trailers: &HeaderMap) -> Verdict {
        self(trailers)
    }
}

/// A body that was read to its end is a success, whatever trailers it had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Complete;

impl ClassifyTrailers for Complete {
    #[inline]
    fn classify_trailers(&self, _: &HeaderMap) -> Verdict {
        Verdict::Success
    }
}

/// [`Complete`].
impl ClassifyTrailers for Errors {
    #[inline]
    fn classify_trailers(&self, trailers: &HeaderMap) -> Verdict {
        Complete.classify_trailers(trailers)
    }
}

/// [`Complete`].
impl<F> ClassifyTrailers for ClassifyResponse<F> {
    #[inline]
    fn classify_trailers(&self, trailers: &HeaderMap) -> Verdict {
        Complete.classify_trailers(trailers)
    }
}

/// [`Complete`]: in HTTP, trailers are for checksums and the like.
impl ClassifyTrailers for Responses {
    #[inline]
    fn classify_trailers(&self, trailers: &HeaderMap) -> Verdict {
        Complete.classify_trailers(trailers)
    }
}
