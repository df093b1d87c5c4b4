use http::{HeaderMap, StatusCode};

use super::{ClientError, HURRY, ResponseHead, retry_after};
use crate::verdict::{Classify, Verdict, VerdictKind};

/// What the outcomes of HTTP requests mean: the classifier for a client.
///
/// | outcome | verdict |
/// |---|---|
/// | 1xx, 2xx, 3xx | `Success` |
/// | 408 Request Timeout | `Transient` |
/// | 429 Too Many Requests | `Throttled` |
/// | other 4xx | `Permanent` |
/// | 501 Not Implemented, 505 HTTP Version Not Supported | `Permanent` |
/// | other 5xx, 500, 502, 503 and 504 among them | `Transient` |
/// | any of these with `buttress-refusal`: the caller had left [too little time](super::refusal_response) | `Refused` |
/// | the connection failed, nothing was sent | `Unreachable` |
/// | reset, closed before the answer was complete, the client's own timeout | `Transient` |
/// | too many redirects, a body that cannot be decoded | `Permanent` |
/// | a request that cannot be sent | `Ignored` |
///
/// The codes are those that the AWS SDKs and Envoy retry, too. A 5xx that nobody has heard of is
/// read as a 500, which RFC 9110 (section 15) asks of a client.
///
/// **A failure that names a time is `Throttled`.** Where a transient response has a
/// [`Retry-After`](retry_after), usually a 503, the server is there and says when it wants to see
/// the request again. So a retry waits for as long, and a breaker counts it in its ratio but not as
/// one of "consecutive failures". A 503 without that header is `Transient`: as a rule it comes from a
/// proxy that has nobody behind it. A 429 is `Throttled` with or without a hint.
///
/// Another opinion on a status goes into [`except`](Self::except).
///
/// ```
/// use buttress::{Verdict, VerdictKind, http::Responses};
/// use http::{HeaderMap, StatusCode};
///
/// const RESPONSES: Responses = Responses::new().except(&[
///     (StatusCode::CONFLICT, VerdictKind::Transient),            // another transaction had it
///     (StatusCode::INTERNAL_SERVER_ERROR, VerdictKind::Final),   // counted, but not repeated
/// ]);
/// assert_eq!(RESPONSES.verdict(StatusCode::CONFLICT, &HeaderMap::new()), Verdict::Transient);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Responses {
    exceptions: &'static [(StatusCode, VerdictKind)],
}

impl Responses {
    /// The table above.
    pub const fn new() -> Self {
        Responses { exceptions: &[] }
    }

    /// What other statuses mean to you; the first entry for a status counts. In place of an earlier
    /// list, not in addition to it.
    ///
    /// A list that is read from a file at the start is made `'static` with `Vec::leak`: like the
    /// policies it configures, it lives as long as the process.
    ///
    /// Default: none.
    pub const fn except(mut self, exceptions: &'static [(StatusCode, VerdictKind)]) -> Self {
        self.exceptions = exceptions;
        self
    }

    /// What a response with this status and these headers means.
    #[inline]
    pub fn verdict(&self, status: StatusCode, headers: &HeaderMap) -> Verdict {
        match self.kind(status) {
            VerdictKind::Success => Verdict::Success,
            kind => with_hint(kind, headers),
        }
    }

    #[inline]
    fn kind(&self, status: StatusCode) -> VerdictKind {
        let exception = self.exceptions.iter().find(|(exception, _)| *exception == status);
        exception.map_or_else(|| kind_of(status), |(_, kind)| *kind)
    }
}

const fn kind_of(status: StatusCode) -> VerdictKind {
    match status.as_u16() {
        408 => VerdictKind::Transient,
        429 => VerdictKind::Throttled,
        501 | 505 | 400..=499 => VerdictKind::Permanent,
        500.. => VerdictKind::Transient,
        _ => VerdictKind::Success,
    }
}

#[cold]
fn with_hint(kind: VerdictKind, headers: &HeaderMap) -> Verdict {
    if headers.contains_key(HURRY) {
        return Verdict::Refused { retry_after: None };
    }
    match kind {
        VerdictKind::Success => Verdict::Success,
        VerdictKind::Transient => match retry_after(headers) {
            None => Verdict::Transient,
            hint => Verdict::Throttled { retry_after: hint },
        },
        VerdictKind::Unreachable => Verdict::Unreachable,
        VerdictKind::Throttled => Verdict::Throttled { retry_after: retry_after(headers) },
        VerdictKind::Final => Verdict::Final,
        VerdictKind::Permanent => Verdict::Permanent,
        VerdictKind::Refused => Verdict::Refused { retry_after: retry_after(headers) },
        VerdictKind::Ignored => Verdict::Ignored,
    }
}

impl<Res, Err> Classify<Res, Err> for Responses
where
    Res: ResponseHead,
    Err: ClientError,
{
    #[inline]
    fn classify(&self, outcome: Result<&Res, &Err>) -> Verdict {
        match outcome {
            Ok(response) => self.verdict(response.status(), response.headers()),
            // Where a status has become an error its headers are gone, and a hint with them.
            Err(error) => error.failure().verdict(|status| self.verdict(status, &HeaderMap::new())),
        }
    }
}
