use tonic::Status;

use crate::error::{BoxError, Error};

/// An error with a status of gRPC in it: [`tonic::Status`], [`Error`] of it, a [`BoxError`], or an
/// error of your own.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no `tonic::Status`",
    note = "for an error of your own: implement `buttress::grpc::StatusError`"
)]
pub trait StatusError {
    /// The status, if the error has one.
    fn status(&self) -> Option<&Status>;
}

impl StatusError for Status {
    fn status(&self) -> Option<&Status> {
        Some(self)
    }
}

impl<E: StatusError> StatusError for Error<E> {
    fn status(&self) -> Option<&Status> {
        match self {
            Error::Service(error) => error.status(),
            Error::Policy(_) => None,
        }
    }
}

/// Finds it behind any wrapper that says what it wraps.
impl StatusError for BoxError {
    fn status(&self) -> Option<&Status> {
        let mut next: Option<&(dyn std::error::Error + 'static)> = Some(&**self);
        while let Some(error) = next {
            if let Some(status) = error.downcast_ref() {
                return Some(status);
            }
            next = error.source();
        }
        None
    }
}
