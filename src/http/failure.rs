use std::{convert::Infallible, error::Error as StdError, io};

use http::StatusCode;

use crate::error::{BoxError, Error};

/// What became of a request that has no response.
///
/// | failure | [`Responses`](super::Responses) | [`Connections`](super::Connections) | example |
/// |---|---|---|---|
/// | [`NotSent`](Self::NotSent) | `Unreachable` | `Unreachable` | connection refused, no such host, TLS handshake, a stream that the server refused |
/// | [`NoAnswer`](Self::NoAnswer) | `Transient` | `Ignored` | reset, closed in mid-response, the client's own timeout |
/// | [`Unusable`](Self::Unusable) | `Permanent` | `Success` | too many redirects, a body that is not what it says |
/// | [`Unsendable`](Self::Unsendable) | `Ignored` | `Ignored` | no valid URL, the request's own body failed |
/// | [`Status`](Self::Status) | by the status | `Success` | `reqwest::Response::error_for_status` |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nothing of it was executed: there was no connection, or the server refused to begin with it.
    NotSent,
    /// It may have been executed, wholly or in part; an answer did not arrive, or not all of it.
    NoAnswer,
    /// It was answered, and the client can do nothing with the answer.
    Unusable,
    /// It is not a request that can be sent. This says nothing about the service.
    Unsendable,
    /// It was answered with this status, which the client has made an error of.
    Status(StatusCode),
}

impl Failure {
    /// Reads an error and what it says of its causes: for a [`ClientError`] of your own.
    ///
    /// Asks the error and each of its [sources](StdError::source) in turn, until one is of a type
    /// it knows: `std::io::Error`, and those of the clients whose features are on. `NoAnswer` if
    /// there is none, for a request that *may* have been executed must not be taken for one that
    /// was not.
    ///
    /// An `io::Error` is `NotSent` only where nothing but connecting can fail so: connection refused,
    /// no local address left. A host or network that is unreachable may become so after the request.
    pub fn of(error: &(dyn StdError + 'static)) -> Failure {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(failure) = told_by(error) {
                return failure;
            }
            next = match error.downcast_ref::<io::Error>() {
                // Its `source` would be the one of the error inside, and skip that.
                Some(error) => error.get_ref().map(|inner| inner as &(dyn StdError + 'static)),
                None => error.source(),
            };
        }
        Failure::NoAnswer
    }
}

/// What this error says, without its sources.
fn told_by(error: &(dyn StdError + 'static)) -> Option<Failure> {
    #[cfg(feature = "reqwest")]
    if let Some(error) = error.downcast_ref::<reqwest::Error>() {
        return told_by_reqwest(error);
    }
    #[cfg(feature = "hyper-util")]
    if let Some(error) = error.downcast_ref::<hyper_util::client::legacy::Error>() {
        return error.is_connect().then_some(Failure::NotSent);
    }
    #[cfg(any(feature = "hyper-util", feature = "reqwest", feature = "tonic"))]
    if let Some(error) = error.downcast_ref::<hyper::Error>() {
        return told_by_hyper(error);
    }
    #[cfg(feature = "h2")]
    if let Some(error) = error.downcast_ref::<h2::Error>() {
        return told_by_h2(error);
    }
    #[cfg(feature = "tonic")]
    if error.is::<tonic::ConnectError>() {
        return Some(Failure::NotSent);
    }
    match error.downcast_ref::<io::Error>()?.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::AddrNotAvailable => {
            Some(Failure::NotSent)
        }
        _ => None,
    }
}

#[cfg(feature = "reqwest")]
fn told_by_reqwest(error: &reqwest::Error) -> Option<Failure> {
    if let Some(status) = error.status().filter(|_| error.is_status()) {
        Some(Failure::Status(status))
    } else if error.is_builder() {
        Some(Failure::Unsendable)
    } else if error.is_connect() {
        // Before `is_timeout`: a connection that took too long to make is both, and was not made.
        Some(Failure::NotSent)
    } else if error.is_redirect() || (error.is_decode() && !broke_off(error)) {
        Some(Failure::Unusable)
    } else {
        None
    }
}

/// A body that is cut short cannot be decoded either, and reqwest says only that.
#[cfg(feature = "reqwest")]
fn broke_off(error: &reqwest::Error) -> bool {
    let mut next = error.source();
    while let Some(error) = next {
        if error.is::<hyper::Error>() || error.is::<reqwest::Error>() {
            return true;
        }
        next = error.source();
    }
    error.is_timeout()
}

#[cfg(any(feature = "hyper-util", feature = "reqwest", feature = "tonic"))]
fn told_by_hyper(error: &hyper::Error) -> Option<Failure> {
    if error.is_canceled() {
        // The connection ended before it took the request up; hyper hands that back untouched.
        Some(Failure::NotSent)
    } else if error.is_user() {
        Some(Failure::Unsendable)
    } else {
        None
    }
}

/// HTTP/2 says which requests were not processed (RFC 9113, section 8.7): a stream reset with
/// `REFUSED_STREAM`, and those after the last one that a `GOAWAY` names, which is when the client
/// fails them with that.
#[cfg(feature = "h2")]
fn told_by_h2(error: &h2::Error) -> Option<Failure> {
    let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    let going_away = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
    (error.is_remote() && (refused || going_away)).then_some(Failure::NotSent)
}

/// An error of an HTTP client, which can tell a request that was not sent from an answer that did
/// not come.
///
/// Implemented for the errors of `reqwest`, `hyper-util` and `hyper`, and `tonic` (each with the
/// feature of that name), for those of `h2`, for `io::Error`, for [`BoxError`] and for
/// [`Error`] of any of them. An error of your own reads its cause:
///
/// ```
/// use buttress::http::{ClientError, Failure};
///
/// #[derive(Debug, thiserror::Error)]
/// enum ApiError {
///     #[error("no answer")]
///     Http(#[from] std::io::Error),
///     #[error("{0}")]
///     Policy(#[from] buttress::PolicyError),
/// }
///
/// impl ClientError for ApiError {
///     fn failure(&self) -> Failure {
///         Failure::of(self)
///     }
/// }
///
/// let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
/// assert_eq!(ApiError::from(refused).failure(), Failure::NotSent);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not tell a failed connection from a lost answer",
    note = "for the errors of a client: feature `reqwest`, `hyper-util` or `tonic` of buttress",
    note = "for an error of your own: implement `buttress::http::ClientError` with `Failure::of(self)`"
)]
pub trait ClientError {
    /// What became of the request.
    fn failure(&self) -> Failure;
}

impl<E: ClientError> ClientError for Error<E> {
    fn failure(&self) -> Failure {
        match self {
            Error::Service(error) => error.failure(),
            Error::Policy(error) if error.reached_service() => Failure::NoAnswer,
            Error::Policy(_) => Failure::NotSent,
        }
    }
}

impl ClientError for BoxError {
    fn failure(&self) -> Failure {
        Failure::of(&**self)
    }
}

impl ClientError for Infallible {
    fn failure(&self) -> Failure {
        match *self {}
    }
}

impl ClientError for io::Error {
    fn failure(&self) -> Failure {
        Failure::of(self)
    }
}

#[cfg(feature = "reqwest")]
impl ClientError for reqwest::Error {
    fn failure(&self) -> Failure {
        Failure::of(self)
    }
}

#[cfg(feature = "hyper-util")]
impl ClientError for hyper_util::client::legacy::Error {
    fn failure(&self) -> Failure {
        Failure::of(self)
    }
}

#[cfg(any(feature = "hyper-util", feature = "reqwest", feature = "tonic"))]
impl ClientError for hyper::Error {
    fn failure(&self) -> Failure {
        Failure::of(self)
    }
}

#[cfg(feature = "h2")]
impl ClientError for h2::Error {
    fn failure(&self) -> Failure {
        Failure::of(self)
    }
}

#[cfg(feature = "tonic")]
impl ClientError for tonic::transport::Error {
    fn failure(&self) -> Failure {
        Failure::of(self)
    }
}
