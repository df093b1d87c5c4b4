use std::time::Duration;

/// What goes wrong with a [`Source`](super::Source) and with the copies it stores.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What lapin reports: the connection, the channel, or the broker's answer on it.
    #[error(transparent)]
    Client(#[from] lapin::Error),
    /// The broker ended the subscription, because the queue was deleted or has no leader; from RabbitMQ
    /// 4.3 on also because a delivery was held for longer than
    /// [`consumer_timeout`](super#what-it-cannot-do).
    #[error(
        "the broker cancelled the consumer: the queue was deleted, or has lost its leader, or what \
         was delivered was held for too long"
    )]
    Cancelled,
    /// The broker did not answer in the time that
    /// [`timeout`](super::SourceBuilder::timeout) gives it.
    #[error("the broker did not answer within {0:?}")]
    NoAnswer(Duration),
    /// A copy was to be stored, and no queue was there to take it.
    #[error("no queue takes what is published to exchange {exchange:?} with key {routing_key:?}")]
    Unroutable {
        /// The exchange it was published to.
        exchange: String,
        /// The routing key it was published with.
        routing_key: String,
    },
    /// A copy was to be stored, and the broker said that it could not.
    #[error("the broker could not store the copy")]
    NotStored,
    /// The task that stores copies is gone, because its runtime was shut down.
    #[error("the runtime that stores copies was shut down")]
    ShutDown,
}
