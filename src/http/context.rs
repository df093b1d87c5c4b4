use http::Request;

use crate::context::{CallContext, CarryContext};

/// Carries the context of a call in the extensions of its `http::Request`.
///
/// Where a request has none there, it is read from the task, as by
/// [`TaskContext`](crate::TaskContext). So the calls that a server's handler makes inherit what an
/// [`InboundLayer`](super::InboundLayer) in front of the server has read, although their requests
/// are new ones. Extensions survive what a task-local does not: a `tower::buffer::Buffer`, a spawned
/// task.
///
/// For everything over `http::Request`: hyper's clients, tonic's, axum. A `reqwest::Request` does not
/// let its extensions be seen, so there take a [`TaskContext`](crate::TaskContext).
///
/// A copy of a request made by hand has to take the extensions along, as its `Clone` does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExtensionContext;

impl<B> CarryContext<Request<B>> for ExtensionContext {
    type Future<F: Future> = F;

    #[inline]
    fn context(&self, request: &Request<B>) -> CallContext {
        request.extensions().get().copied().unwrap_or_else(CallContext::current)
    }

    #[inline]
    fn carry<F: Future>(
        &self,
        context: CallContext,
        mut request: Request<B>,
        call: impl FnOnce(Request<B>) -> F,
    ) -> F {
        // Knowing nothing is not worth the allocation that the first extension costs.
        if context != CallContext::new() {
            request.extensions_mut().insert(context);
        }
        call(request)
    }
}
