use crate::error::{BoxError, ConfigError};

/// What goes wrong with a subscription to NATS.
///
/// None of these ends a consumer that runs: it asks again, later and later, and its status shows
/// the error meanwhile.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting of the source is out of its range.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The JetStream consumer is made in a way that loses messages, or the dead letters have no
    /// place to go.
    #[error("consumer {consumer:?} of stream {stream:?} cannot be used: {reason}")]
    Unsuitable {
        /// The name of the stream.
        stream: String,
        /// The name of the JetStream consumer.
        consumer: String,
        /// What is wrong, and how it should be.
        reason: String,
    },
    /// The server does not answer, or has no such stream or consumer.
    #[error("consumer {consumer:?} of stream {stream:?} is not available: {cause}")]
    Unavailable {
        /// The name of the stream.
        stream: String,
        /// The name of the JetStream consumer.
        consumer: String,
        /// What the client says. Displayed with this error, and so not its source.
        cause: BoxError,
    },
    /// The server refused a request for messages.
    #[error("the server refused to deliver: {status} {description}")]
    Refused {
        /// The status, as ADR-13 of NATS lists them.
        status: u16,
        /// The server's words.
        description: String,
    },
    /// The connection to the server is down. The client is working on it, unless it was closed or
    /// told to give up.
    #[error("not connected to the server")]
    Disconnected,
    /// The server did not confirm in time.
    #[error("no confirmation from the server within {0:?}")]
    NotConfirmed(std::time::Duration),
    /// What the client says. Displayed with this error, and so not its source.
    #[error("{0}")]
    Client(BoxError),
}
