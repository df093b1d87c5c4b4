use http::Request;
use http_body::Body;

use super::ReplayBody;
use crate::request::{CloneRequest, Repeats};

/// Copies requests with [`ReplayBody::try_clone`], whatever their method.
///
/// For requests that may all be executed twice. A copy that cannot be sent any more, because the
/// attempt before got too far with the body, is [never](Repeats::Never) repeated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replayed;

impl<B: Body> CloneRequest<Request<ReplayBody<B>>> for Replayed {
    fn clone_request(&self, request: &Request<ReplayBody<B>>) -> Option<Request<ReplayBody<B>>> {
        let mut copy = Request::new(request.body().try_clone()?);
        copy.method_mut().clone_from(request.method());
        copy.uri_mut().clone_from(request.uri());
        *copy.version_mut() = request.version();
        copy.headers_mut().clone_from(request.headers());
        copy.extensions_mut().clone_from(request.extensions());
        Some(copy)
    }

    fn repeats(&self, request: &Request<ReplayBody<B>>) -> Repeats {
        if request.body().is_replayable() { Repeats::Always } else { Repeats::Never }
    }
}
