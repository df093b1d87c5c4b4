//! One upstream's front: a request comes in, exactly one answer goes out.

use std::net::SocketAddr;

use buttress::{Verdict, http::Responses};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::{Body, Incoming};

use crate::{
    headers::{self, DEGRADED, Forwarding, REFUSED, REQUEST_ID},
    outcome::{End, Outcomes, Tallied},
    problem,
    stack::{Answer, Outcome, Protected, whole},
};

/// What is in front of one upstream. Made once and kept, as its policies are.
pub(crate) struct Proxy {
    pub(crate) name: String,
    pub(crate) upstream: Protected,
    pub(crate) outcomes: Outcomes,
    pub(crate) forwarding: Forwarding,
}

impl Proxy {
    pub(crate) async fn answer(
        &'static self,
        mut request: Request<Incoming>,
        caller: SocketAddr,
    ) -> Response<Tallied> {
        let id = headers::request_id(request.headers_mut());
        let tally = self.outcomes.begin(&id, request.method(), request.uri());
        let is_head = request.method() == Method::HEAD;
        let mut response = match headers::objection(&request) {
            Some((status, code)) => {
                problem::new(status, code, "The ambassador does not pass this on.").map(whole)
            }
            None => self.pass_on(request, caller).await,
        };
        let end = end_of(response.status(), response.headers());
        if end == End::Refused && !response.headers().contains_key(REFUSED) {
            // The backup's own 503 is no degraded answer, it is none.
            let by = response.headers_mut().remove(DEGRADED);
            let by = by.unwrap_or(HeaderValue::from_static("upstream"));
            response.headers_mut().insert(REFUSED, by);
        }
        if is_head && !response.body().is_end_stream() {
            without_body(&mut response);
        }
        response.headers_mut().insert(REQUEST_ID, id);
        let status = response.status().as_u16();
        response.map(|body| tally.answer(status, end, body))
    }

    async fn pass_on(&self, request: Request<Incoming>, caller: SocketAddr) -> Response<Answer> {
        let (mut parts, body) = request.into_parts();
        self.forwarding.forward(&mut parts, caller.ip());
        let outcome: Outcome = self.upstream.call(Request::from_parts(parts, body)).await;
        outcome.unwrap_or_else(|error| {
            tracing::debug!(upstream = self.name, %error, "no answer");
            problem::of(&error).map(whole)
        })
    }
}

/// How a request ends if its answer, which begins like this, does not break off.
fn end_of(status: StatusCode, headers: &HeaderMap) -> End {
    if headers.contains_key(REFUSED) {
        return End::Refused;
    }
    // Whatever status it is configured to have.
    if headers.get(DEGRADED).is_some_and(|by| by == "static") {
        return End::Degraded;
    }
    match Responses::new().verdict(status, headers) {
        Verdict::Success | Verdict::Permanent if headers.contains_key(DEGRADED) => End::Degraded,
        Verdict::Success | Verdict::Permanent => End::Good,
        _ => End::Refused,
    }
}

/// What an answer of our own is to HEAD: as long as the other, and not there.
fn without_body(response: &mut Response<Answer>) {
    if let Some(length) = response.body().size_hint().exact() {
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    *response.body_mut() = whole(bytes::Bytes::new());
}
