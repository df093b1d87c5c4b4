//! `Idempotent` copies requests whose bodies can be sent again, while they can be.

use http::Request;
use http_body::Body;

use super::ReplayBody;
use crate::{
    http::{
        Idempotent, IdempotentOr,
        idempotent::{is_repeatable, repeats},
    },
    request::{CloneRequest, Repeats},
};

// `ReplayBody` is no `Clone`, so these stand beside the impls for bodies that are: a copy of it can
// be refused, and one that was made can become useless before it is sent.

impl<B: Body> CloneRequest<Request<ReplayBody<B>>> for Idempotent {
    fn clone_request(&self, request: &Request<ReplayBody<B>>) -> Option<Request<ReplayBody<B>>> {
        copy(request)
    }

    fn repeats(&self, request: &Request<ReplayBody<B>>) -> Repeats {
        while_replayable(request, repeats(is_repeatable(request)))
    }
}

impl<B, P> CloneRequest<Request<ReplayBody<B>>> for IdempotentOr<P>
where
    B: Body,
    P: Fn(&Request<ReplayBody<B>>) -> bool,
{
    fn clone_request(&self, request: &Request<ReplayBody<B>>) -> Option<Request<ReplayBody<B>>> {
        copy(request)
    }

    fn repeats(&self, request: &Request<ReplayBody<B>>) -> Repeats {
        while_replayable(request, repeats(is_repeatable(request) || self.says(request)))
    }
}

/// The attempt before may have got too far with the body.
fn while_replayable<B: Body>(request: &Request<ReplayBody<B>>, repeats: Repeats) -> Repeats {
    if request.body().is_replayable() { repeats } else { Repeats::Never }
}

fn copy<B: Body>(request: &Request<ReplayBody<B>>) -> Option<Request<ReplayBody<B>>> {
    let mut copy = Request::new(request.body().try_clone()?);
    copy.method_mut().clone_from(request.method());
    copy.uri_mut().clone_from(request.uri());
    *copy.version_mut() = request.version();
    copy.headers_mut().clone_from(request.headers());
    copy.extensions_mut().clone_from(request.extensions());
    Some(copy)
}
