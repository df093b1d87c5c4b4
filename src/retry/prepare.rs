/// Changes a request before it is sent again.
///
/// Implemented for [`Unchanged`], the default, and for closures `Fn(&mut Req, u32)`, which are
/// given the request and the number of the attempt: 2 for the first retry.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not prepare requests of type `{Req}`",
    note = "give the layer a `.prepare(|request: &mut {Req}, attempt: u32| ..)`"
)]
pub trait PrepareRequest<Req> {
    /// Changes `request`, a fresh copy of the original, for this attempt.
    fn prepare_request(&self, request: &mut Req, attempt: u32);
}

impl<F, Req> PrepareRequest<Req> for F
where
    F: Fn(&mut Req, u32),
{
    #[inline]
    fn prepare_request(&self, request: &mut Req, attempt: u32) {
        self(request, attempt);
    }
}

/// Sends requests again as they were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unchanged;

impl<Req> PrepareRequest<Req> for Unchanged {
    #[inline]
    fn prepare_request(&self, _request: &mut Req, _attempt: u32) {}
}
