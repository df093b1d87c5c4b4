use rdkafka::{
    TopicPartitionList,
    error::{KafkaError, RDKafkaErrorCode},
};

use crate::error::ConfigError;

/// What goes wrong with a [`Source`](super::Source).
///
/// librdkafka connects again by itself, and finds the new leader or coordinator; what it reports on
/// the way is told here so that it is seen. [Fatal](Self::is_fatal) is what it cannot recover from.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// librdkafka refused what it was asked for: its configuration, a subscription, a pause.
    #[error("librdkafka: {0}")]
    Client(KafkaError),
    /// Something went wrong while waiting for messages: a broker is away, a topic is unknown.
    #[error("Kafka: {reason}")]
    Consume {
        /// What librdkafka calls it.
        error: KafkaError,
        /// What it says about it.
        reason: String,
    },
    /// The client cannot go on, and is told so at each poll: another member has taken over its
    /// `group.instance.id`, say. A new client would do the same to the other one, so it is for the
    /// process to end, or for a person to look.
    #[error("the Kafka client cannot go on: {reason}")]
    Fatal {
        /// What librdkafka calls it.
        error: KafkaError,
        /// What it says about it.
        reason: String,
    },
    /// Offsets could not be committed. They are committed again with the next ones, or at the end.
    #[error("offsets were not committed ({offsets}): {error}")]
    Commit {
        /// What librdkafka calls it.
        error: KafkaError,
        /// Which, in words, with their topics and partitions.
        offsets: String,
    },
}

/// So many partitions are named in an error, and of the others is said how many they are.
const NAMED: usize = 10;

impl Error {
    pub(super) fn commit(error: KafkaError, offsets: &TopicPartitionList) -> Self {
        let mut words: Vec<String> = offsets
            .elements()
            .iter()
            .take(NAMED)
            .map(|one| {
                let offset = one.offset().to_raw().unwrap_or_default();
                format!("{}[{}] at {offset}", one.topic(), one.partition())
            })
            .collect();
        let others = offsets.count().saturating_sub(NAMED);
        if others > 0 {
            words.push(format!("{others} more"));
        }
        Error::Commit { error, offsets: words.join(", ") }
    }

    /// Whether nothing but a new process, or a new source, helps.
    pub const fn is_fatal(&self) -> bool {
        matches!(self, Error::Fatal { .. })
    }

    /// librdkafka's code of it, if that is where it comes from.
    pub fn code(&self) -> Option<RDKafkaErrorCode> {
        match self {
            Error::Config(_) => None,
            Error::Client(error)
            | Error::Commit { error, .. }
            | Error::Consume { error, .. }
            | Error::Fatal { error, .. } => error.rdkafka_error_code(),
        }
    }
}
