use std::time::Duration;

use http::{HeaderMap, HeaderName, Response, StatusCode};
use http_body::Body;
use tonic::{Code, Status};

use super::StatusError;
use crate::{
    http::{ClientError, Failure, HURRY, MAX_HINT, body::ClassifyTrailers},
    verdict::{Classify, Verdict, VerdictKind},
};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const RETRY_PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// The status of a call, where these headers or trailers have one (`grpc-status`).
///
/// A value that is no status of gRPC is [`Code::Unknown`], as gRPC's clients read it.
pub fn status(headers: &HeaderMap) -> Option<Code> {
    headers.get(GRPC_STATUS).map(|value| Code::from_bytes(value.as_bytes()))
}

/// What the outcomes of gRPC calls mean: by their status, and not by HTTP's, which says 200 to
/// nearly everything.
///
/// | status | verdict | why |
/// |---|---|---|
/// | `OK` | `Success` | |
/// | `UNAVAILABLE` | `Transient` | the one that gRPC says to try again |
/// | `DEADLINE_EXCEEDED` | `Transient` | a timeout, somewhere further in |
/// | `UNKNOWN`, `INTERNAL` | `Transient` | what HTTP calls 500: an exception, a broken stream |
/// | `CANCELLED` | `Transient` | a caller who cancels hears no status; the one who hears this was given up by the server, as tonic's own `Server::timeout` does |
/// | `RESOURCE_EXHAUSTED` | `Throttled` | a quota, a full queue |
/// | `DATA_LOSS` | `Final` | what is lost stays lost, and it is the service that lost it |
/// | `ABORTED` | `Permanent` | "retry at a higher level": the transaction, not this call of it |
/// | `FAILED_PRECONDITION` | `Permanent` | not before somebody has fixed the state |
/// | `INVALID_ARGUMENT`, `NOT_FOUND`, `ALREADY_EXISTS`, `PERMISSION_DENIED`, `OUT_OF_RANGE`, `UNIMPLEMENTED`, `UNAUTHENTICATED` | `Permanent` | the answer will be the same |
///
/// (gRPC, *Status codes and their use*, `doc/statuscodes.md`.) Another opinion on a status goes into
/// [`except`](Self::except).
///
/// # Pushback
///
/// A server that fails a call may say when it wants to see it again, in `grpc-retry-pushback-ms`
/// (gRFC A6). A number of milliseconds makes the failure `Throttled` with that hint, at most
/// [`MAX_HINT`]. A negative one, or one that cannot be read, asks not to be tried again at all: the
/// failure is then `Final`, which a breaker counts and a retry does not repeat. Verdicts that are no
/// failures are left as they are.
///
/// # Which outcomes
///
/// **Responses of a channel** (`http::Response`, as around `tonic::transport::Channel`). A call that
/// fails at once has its status in the headers. Where they have none:
///
/// - an HTTP status other than 200 stands for one: 429, 502, 503 and 504 for `UNAVAILABLE`, 401, 403
///   and 404 for their namesakes and `UNIMPLEMENTED`, 400 for `INTERNAL`, the rest for `UNKNOWN`
///   (gRPC, `doc/http-grpc-status-mapping.md`);
/// - a response that has ended without a status is `UNKNOWN`: a missing status is no success;
/// - a 200 that goes on has its status still to come, in its trailers. At the headers this is a
///   `Success`: the server has taken the call up and begun to answer, and a breaker that counted
///   only what fails at once, and never what succeeds, would see nothing but failures. What the
///   trailers say of it is [`verdict_of_trailers`](Self::verdict_of_trailers).
///
/// **Results of a generated client** (`tonic::Response`, and a [`tonic::Status`] as the error), where
/// the status is known, of a unary call also from the trailers. A status that tonic made of a
/// failure to connect is `Unreachable`.
///
/// ```
/// use buttress::{CircuitBreaker, ServiceErrors, Stack, VerdictKind, grpc};
/// use tonic::{Code, transport::Endpoint};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let breaker = CircuitBreaker::builder("stock").build()?;
/// let statuses = grpc::Statuses::new().except(&[(Code::NotFound, VerdictKind::Success)]);
/// let channel = Stack::classified(statuses)
///     .breaker(breaker)
///     .layer(ServiceErrors)
///     .service(Endpoint::from_static("http://[::1]:50051").connect_lazy());
/// # let _ = channel;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Statuses {
    exceptions: &'static [(Code, VerdictKind)],
}

impl Statuses {
    /// The table above.
    pub const fn new() -> Self {
        Statuses { exceptions: &[] }
    }

    /// What other statuses mean to you; the first entry for a status counts. In place of an earlier
    /// list, not in addition to it.
    ///
    /// Default: none.
    pub const fn except(mut self, exceptions: &'static [(Code, VerdictKind)]) -> Self {
        self.exceptions = exceptions;
        self
    }

    /// What a status means, with the server's pushback in the headers or trailers it came in.
    pub fn verdict(&self, code: Code, metadata: &HeaderMap) -> Verdict {
        let exception = self.exceptions.iter().find(|(exception, _)| *exception == code);
        match exception.map_or_else(|| kind_of(code), |(_, kind)| *kind) {
            VerdictKind::Success => Verdict::Success,
            VerdictKind::Permanent => Verdict::Permanent,
            VerdictKind::Refused => Verdict::Refused { retry_after: None },
            VerdictKind::Ignored => Verdict::Ignored,
            // The server says that its caller, who is us, had left too little time.
            _ if metadata.contains_key(HURRY) => Verdict::Refused { retry_after: None },
            failure => match (failure, pushback(metadata)) {
                (VerdictKind::Final, _) | (_, Some(Pushback::Never)) => Verdict::Final,
                (_, Some(Pushback::After(wait))) => Verdict::Throttled { retry_after: Some(wait) },
                (VerdictKind::Throttled, None) => Verdict::Throttled { retry_after: None },
                (VerdictKind::Unreachable, None) => Verdict::Unreachable,
                (_, None) => Verdict::Transient,
            },
        }
    }

    /// The verdict on a call whose response has ended with these trailers, or without any.
    ///
    /// For whoever reads the body; `Classify` sees only how a response begins. A missing status is
    /// `UNKNOWN`.
    pub fn verdict_of_trailers(&self, trailers: Option<&HeaderMap>) -> Verdict {
        let none = HeaderMap::new();
        let trailers = trailers.unwrap_or(&none);
        self.verdict(status(trailers).unwrap_or(Code::Unknown), trailers)
    }

    /// The verdict on a [`tonic::Status`], as a generated client returns it.
    pub fn verdict_of_status(&self, status: &Status) -> Verdict {
        // A status that tonic made of a connection's failure carries that as its source.
        match Failure::of(status) {
            Failure::NotSent => Verdict::Unreachable,
            _ => self.verdict(status.code(), status.metadata().as_ref()),
        }
    }
}

impl<B, Err> Classify<Response<B>, Err> for Statuses
where
    B: Body,
    Err: ClientError,
{
    #[inline]
    fn classify(&self, outcome: Result<&Response<B>, &Err>) -> Verdict {
        match outcome {
            Ok(response) => match status(response.headers()) {
                Some(code) => self.verdict(code, response.headers()),
                None if response.status() != StatusCode::OK => {
                    self.verdict(code_of_http(response.status()), response.headers())
                }
                None if response.body().is_end_stream() => self.verdict_of_trailers(None),
                None => Verdict::Success,
            },
            Err(error) => error
                .failure()
                .verdict(|status| self.verdict(code_of_http(status), &HeaderMap::new())),
        }
    }
}

/// For a breaker that watches responses [to their end](crate::http::body).
impl ClassifyTrailers for Statuses {
    fn classify_trailers(&self, trailers: &HeaderMap) -> Verdict {
        self.verdict_of_trailers(Some(trailers))
    }
}

impl<T, Err> Classify<tonic::Response<T>, Err> for Statuses
where
    Err: StatusError,
{
    #[inline]
    fn classify(&self, outcome: Result<&tonic::Response<T>, &Err>) -> Verdict {
        match outcome.map_err(StatusError::status) {
            Ok(_) => Verdict::Success,
            Err(Some(status)) => self.verdict_of_status(status),
            Err(None) => Verdict::Transient,
        }
    }
}

/// The table of [`Statuses`].
const fn kind_of(code: Code) -> VerdictKind {
    match code {
        Code::Ok => VerdictKind::Success,
        Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::Internal
        | Code::Unavailable => VerdictKind::Transient,
        Code::ResourceExhausted => VerdictKind::Throttled,
        Code::DataLoss => VerdictKind::Final,
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Unauthenticated => VerdictKind::Permanent,
    }
}

/// What a response of an intermediary means that speaks no gRPC: gRPC,
/// `doc/http-grpc-status-mapping.md`.
const fn code_of_http(status: StatusCode) -> Code {
    match status.as_u16() {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502..=504 => Code::Unavailable,
        _ => Code::Unknown,
    }
}

/// What a server that fails a call says of the next attempt (gRFC A6).
enum Pushback {
    After(Duration),
    Never,
}

fn pushback(metadata: &HeaderMap) -> Option<Pushback> {
    let value = metadata.get(RETRY_PUSHBACK)?.to_str().ok();
    // A signed number of 32 bits, without the plus that Rust's own may begin with. The server meant
    // to say something, so what cannot be understood is the careful choice and not the absence of one.
    let digits = value.filter(|value| value.bytes().all(|byte| byte.is_ascii_digit()));
    let milliseconds = digits.and_then(|digits| digits.parse::<i32>().ok());
    Some(match milliseconds.and_then(|number| u64::try_from(number).ok()) {
        Some(wait) => Pushback::After(Duration::from_millis(wait).min(MAX_HINT)),
        None => Pushback::Never,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(pushback: &str) -> HeaderMap {
        let mut metadata = HeaderMap::new();
        metadata.insert(RETRY_PUSHBACK, pushback.try_into().unwrap());
        metadata
    }

    fn said(status: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(GRPC_STATUS, status.try_into().unwrap());
        headers
    }

    #[test]
    fn every_status_means_what_the_table_says() {
        let plain = |code: i32| Statuses::new().verdict(Code::from(code), &HeaderMap::new());
        let throttled = Verdict::Throttled { retry_after: None };
        for (code, expected) in [
            (0, Verdict::Success),
            (1, Verdict::Transient),
            (2, Verdict::Transient),
            (3, Verdict::Permanent),
            (4, Verdict::Transient),
            (5, Verdict::Permanent),
            (6, Verdict::Permanent),
            (7, Verdict::Permanent),
            (8, throttled),
            (9, Verdict::Permanent),
            (10, Verdict::Permanent),
            (11, Verdict::Permanent),
            (12, Verdict::Permanent),
            (13, Verdict::Transient),
            (14, Verdict::Transient),
            (15, Verdict::Final),
            (16, Verdict::Permanent),
        ] {
            assert_eq!(plain(code), expected, "{:?}", Code::from(code));
        }
    }

    #[test]
    fn an_exception_takes_the_place_of_the_table() {
        let statuses = Statuses::new().except(&[
            (Code::NotFound, VerdictKind::Success),
            (Code::Aborted, VerdictKind::Transient),
            (Code::Unavailable, VerdictKind::Unreachable),
        ]);
        let verdict = |code| statuses.verdict(code, &HeaderMap::new());
        assert_eq!(verdict(Code::NotFound), Verdict::Success);
        assert_eq!(verdict(Code::Aborted), Verdict::Transient);
        assert_eq!(verdict(Code::Unavailable), Verdict::Unreachable);
        assert_eq!(verdict(Code::AlreadyExists), Verdict::Permanent);
    }

    #[test]
    fn pushback_is_a_hint_or_the_end() {
        let verdict = |code, pushback: &str| Statuses::new().verdict(code, &metadata(pushback));
        let after = |wait| Verdict::Throttled { retry_after: Some(wait) };
        for (pushback, expected) in [
            ("0", after(Duration::ZERO)),
            ("1500", after(Duration::from_millis(1500))),
            ("2147483647", after(MAX_HINT)),
            ("-1", Verdict::Final),
            ("-0", Verdict::Final),
            ("+5", Verdict::Final),
            ("2147483648", Verdict::Final),
            ("1.5", Verdict::Final),
            ("soon", Verdict::Final),
            ("", Verdict::Final),
        ] {
            assert_eq!(verdict(Code::Unavailable, pushback), expected, "{pushback:?}");
            assert_eq!(verdict(Code::ResourceExhausted, pushback), expected, "{pushback:?}");
            assert_eq!(verdict(Code::Ok, pushback), Verdict::Success);
            assert_eq!(verdict(Code::NotFound, pushback), Verdict::Permanent);
            assert_eq!(verdict(Code::DataLoss, pushback), Verdict::Final, "{pushback:?}");
        }
    }

    #[test]
    fn a_missing_status_is_no_success() {
        let statuses = Statuses::new();
        assert_eq!(statuses.verdict_of_trailers(None), Verdict::Transient);
        assert_eq!(statuses.verdict_of_trailers(Some(&HeaderMap::new())), Verdict::Transient);
        assert_eq!(statuses.verdict_of_trailers(Some(&said("0"))), Verdict::Success);
        assert_eq!(statuses.verdict_of_trailers(Some(&said("5"))), Verdict::Permanent);
    }

    #[test]
    fn a_status_is_read_as_grpc_reads_it() {
        assert_eq!(status(&HeaderMap::new()), None);
        assert_eq!(status(&said("14")), Some(Code::Unavailable));
        for odd in ["", "00", "17", "-1", "ok", "999"] {
            assert_eq!(status(&said(odd)), Some(Code::Unknown), "{odd:?}");
        }
    }
}
