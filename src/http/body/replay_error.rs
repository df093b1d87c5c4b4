/// Why a [`ReplayBody`](super::ReplayBody) cannot be sent to its end.
///
/// Found in the error of the client that sent it, by a walk along its sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// More of the body was read than is kept, by an attempt before.
    #[error(
        "the body cannot be sent again: more was read of it than the {limit} bytes that may be kept"
    )]
    TooLong {
        /// How many bytes may be kept.
        limit: usize,
    },
    /// The stream behind the body failed, or panicked, in an attempt before.
    #[error("the body cannot be sent again: its stream failed in an earlier attempt")]
    Failed,
    /// Another attempt has begun to send the body, and reads what is left of it.
    #[error("a later attempt has taken over the body")]
    Superseded,
}
