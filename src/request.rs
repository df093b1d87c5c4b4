//! Copies of requests, where a policy needs a second one.

/// Whether a request that may have been executed may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeats {
    /// As often as the policy likes.
    Always,
    /// Only if the attempt before it reached nobody: a connection that failed, a refusal.
    IfUnsent,
    /// Not at all.
    Never,
}

/// Makes a copy of a request, where that is possible.
///
/// A clone of a real request costs more than the whole stack around it, so policies call this as
/// rarely as they can: a retry not for the last attempt it will make, a fallback only when a backup
/// service may need the request.
///
/// Implemented for [`Cloned`], the default, and for closures `Fn(&Req) -> Option<Req>`, so that
/// `reqwest::Request::try_clone` fits as it is.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not copy requests of type `{Req}`",
    note = "give the policy a `.clone_with(|request: &{Req}| ..)` that returns `Option<{Req}>`"
)]
pub trait CloneRequest<Req> {
    /// A copy to send again, or `None` if there can be none (a streaming body, say).
    fn clone_request(&self, request: &Req) -> Option<Req>;

    /// Whether it may be sent again after an attempt that may have been executed. Always, unless said
    /// otherwise.
    fn repeats(&self, _request: &Req) -> Repeats {
        Repeats::Always
    }
}

impl<F, Req> CloneRequest<Req> for F
where
    F: Fn(&Req) -> Option<Req>,
{
    #[inline]
    fn clone_request(&self, request: &Req) -> Option<Req> {
        self(request)
    }
}

/// Copies requests with their `Clone`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cloned;

impl<Req: Clone> CloneRequest<Req> for Cloned {
    #[inline]
    fn clone_request(&self, request: &Req) -> Option<Req> {
        Some(request.clone())
    }
}
