use std::fmt;

use http::{HeaderName, Request};

use super::RequestHead;
use crate::request::{CloneRequest, Repeats};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Copies HTTP requests, and says which of them may be executed twice.
///
/// Safe to repeat is
///
/// - a request whose method is idempotent: GET, HEAD, OPTIONS, TRACE, PUT, DELETE (RFC 9110,
///   section 9.2.2);
/// - one with an `Idempotency-Key`, by which its server knows a repetition
///   (draft-ietf-httpapi-idempotency-key-header);
/// - one that its sender has marked as [`Repeatable`], or that [`or`](Self::or) says so of.
///
/// All others (a POST is a payment until somebody says otherwise) are sent again only where the
/// attempt before reached nobody: [`Repeats::IfUnsent`].
///
/// A copy of an `http::Request` takes a body that is `Clone`, or a
/// [`ReplayBody`](super::ReplayBody), of a stream; of a `reqwest::Request` it takes one
/// that is not a stream.
///
/// ```
/// use buttress::{CloneRequest, Repeats, http::{Idempotent, Repeatable}};
/// use http::Request;
///
/// let mut search = Request::post("/search").body("cheap flights").unwrap();
/// assert_eq!(Idempotent.repeats(&search), Repeats::IfUnsent);
/// search.extensions_mut().insert(Repeatable);
/// assert_eq!(Idempotent.repeats(&search), Repeats::Always);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Idempotent;

impl Idempotent {
    /// [`Idempotent`], and also what this function says may be executed twice: for requests that
    /// cannot be marked, reqwest's, and for rules about paths.
    ///
    /// ```
    /// use buttress::{CloneRequest, Repeats, http::Idempotent};
    /// use http::Request;
    ///
    /// let copier = Idempotent::or(|request: &Request<&str>| request.uri().path() == "/search");
    /// let search = Request::post("/search").body("cheap flights").unwrap();
    /// assert_eq!(copier.repeats(&search), Repeats::Always);
    /// ```
    pub const fn or<Req, P>(repeatable: P) -> IdempotentOr<P>
    where
        P: Fn(&Req) -> bool,
    {
        IdempotentOr { repeatable }
    }
}

/// Made by [`Idempotent::or`].
#[derive(Clone, Copy)]
pub struct IdempotentOr<P> {
    repeatable: P,
}

impl<P> IdempotentOr<P> {
    /// Whether the function says that this request may be executed twice.
    pub(super) fn says<Req>(&self, request: &Req) -> bool
    where
        P: Fn(&Req) -> bool,
    {
        (self.repeatable)(request)
    }
}

impl<P> fmt::Debug for IdempotentOr<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotentOr").finish_non_exhaustive()
    }
}

/// Marks an `http::Request`, in its extensions, as one that may be executed twice.
///
/// The sender's promise; nobody checks it, and it does not travel to the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repeatable;

pub(super) fn is_repeatable(request: &impl RequestHead) -> bool {
    // `Method::is_idempotent` knows the methods that `http` has names for, which are these.
    request.method().is_idempotent()
        || request.headers().get(&IDEMPOTENCY_KEY).is_some_and(|key| !key.is_empty())
        || request.extensions().is_some_and(|others| others.get::<Repeatable>().is_some())
}

pub(super) const fn repeats(is_repeatable: bool) -> Repeats {
    if is_repeatable { Repeats::Always } else { Repeats::IfUnsent }
}

impl<B: Clone> CloneRequest<Request<B>> for Idempotent {
    fn clone_request(&self, request: &Request<B>) -> Option<Request<B>> {
        Some(request.clone())
    }

    fn repeats(&self, request: &Request<B>) -> Repeats {
        repeats(is_repeatable(request))
    }
}

impl<B, P> CloneRequest<Request<B>> for IdempotentOr<P>
where
    B: Clone,
    P: Fn(&Request<B>) -> bool,
{
    fn clone_request(&self, request: &Request<B>) -> Option<Request<B>> {
        Some(request.clone())
    }

    fn repeats(&self, request: &Request<B>) -> Repeats {
        repeats(is_repeatable(request) || (self.repeatable)(request))
    }
}

#[cfg(feature = "reqwest")]
impl CloneRequest<reqwest::Request> for Idempotent {
    fn clone_request(&self, request: &reqwest::Request) -> Option<reqwest::Request> {
        request.try_clone()
    }

    fn repeats(&self, request: &reqwest::Request) -> Repeats {
        repeats(is_repeatable(request))
    }
}

#[cfg(feature = "reqwest")]
impl<P> CloneRequest<reqwest::Request> for IdempotentOr<P>
where
    P: Fn(&reqwest::Request) -> bool,
{
    fn clone_request(&self, request: &reqwest::Request) -> Option<reqwest::Request> {
        request.try_clone()
    }

    fn repeats(&self, request: &reqwest::Request) -> Repeats {
        repeats(is_repeatable(request) || (self.repeatable)(request))
    }
}
