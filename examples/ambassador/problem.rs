//! Answers of the ambassador's own: refusals as `application/problem+json`.

use buttress::{
    Error, PolicyError,
    http::{ClientError, Failure, refusal_response},
};
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use hyper_util::client::legacy;

use crate::headers::REFUSED;

/// The refusal that is told where a call has no answer.
pub(crate) fn of(error: &Error<legacy::Error>) -> Response<Bytes> {
    match error {
        Error::Policy(error) => of_policy(error),
        Error::Service(error) => match error.failure() {
            Failure::NotSent => {
                let detail = "The upstream cannot be reached. Nothing was sent.";
                let mut response = new(503, "unreachable", detail);
                let second = HeaderValue::from_static("1");
                response.headers_mut().insert(header::RETRY_AFTER, second);
                response
            }
            Failure::Unsendable => new(400, "unsendable", "The request cannot be sent."),
            Failure::NoAnswer | Failure::Unusable | Failure::Status(_) => {
                new(502, "no_answer", "The upstream has not answered. It may have been done.")
            }
        },
    }
}

fn of_policy(error: &PolicyError) -> Response<Bytes> {
    let mut response = refusal_response(error);
    let code = HeaderValue::from_static(error.kind().as_str());
    response.headers_mut().insert(REFUSED, code);
    response
}

/// A refusal in the form of [`refusal_response`], for what no policy has refused. `code` and
/// `detail` are constants without anything to escape.
pub(crate) fn new(status: u16, code: &'static str, detail: &'static str) -> Response<Bytes> {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let title = status.canonical_reason().unwrap_or_default();
    let body = format!(
        r#"{{"type":"about:blank","title":"{title}","status":{},"detail":"{detail}","code":"{code}"}}"#,
        status.as_u16()
    );
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(REFUSED, HeaderValue::from_static(code));
    response
}
