use std::{fmt, sync::Arc, time::Duration};

use async_nats::{
    Subject,
    jetstream::{Context, consumer, context::GetStreamByNameErrorKind},
};
use tokio::time::timeout;

use super::{Error, Message, Source, in_hand::InHand, link::Link, source, terms::matches};
use crate::error::{BoxError, ConfigError};

/// What errors about the settings are about.
const POLICY: &str = "nats source";

/// Where a message goes that cannot be handled, now or later.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeadLetters {
    /// It is published to this subject, which a stream must store, with its own headers, the reason and
    /// where it came from. The original is acknowledged when the stream has confirmed that, and stays in
    /// hand until then: while the stream is full, say, or for ever if it has `no_ack`. (One whose
    /// retention is by interest confirms what it does not keep, as long as it has no consumer.)
    Publish(String),
    /// The server is told to deliver it no more, and no copy is made. In a stream with limits it stays
    /// where it is until they are reached; a work queue drops it.
    Terminate,
}

impl DeadLetters {
    /// [`Publish`](DeadLetters::Publish) to this subject.
    pub fn to(subject: impl Into<String>) -> Self {
        DeadLetters::Publish(subject.into())
    }
}

/// When an acknowledgement counts as made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Acks {
    /// When the server has confirmed it. One that was lost with a connection is said again.
    #[default]
    Confirmed,
    /// When it has been handed to a connection that stands. One that is lost makes the message
    /// come again, when its time to be acknowledged is up.
    Sent,
}

/// Makes a [`Source`].
#[derive(Clone)]
#[must_use = "a builder does nothing until `open` is called"]
pub struct SourceBuilder {
    context: Context,
    stream: String,
    consumer: String,
    dead_letters: DeadLetters,
    prefetch: usize,
    acks: Acks,
    confirm_within: Duration,
    ordering_key: fn(&Message) -> Option<&[u8]>,
}

impl SourceBuilder {
    pub(super) fn new(
        context: Context,
        stream: String,
        consumer: String,
        dead_letters: DeadLetters,
    ) -> Self {
        SourceBuilder {
            context,
            stream,
            consumer,
            dead_letters,
            prefetch: 64,
            acks: Acks::default(),
            confirm_within: Duration::from_secs(5),
            ordering_key: |message| Some(message.subject().as_bytes()),
        }
    }

    /// How many messages may be unsettled at one time: at least 1, and at most the
    /// `max_ack_pending` of the JetStream consumer.
    ///
    /// At least as many as handlers run at a time, and some more, so that none of them waits while
    /// the next messages are on their way: the server is asked again when it has sent what it was asked for,
    /// so within the time of a way there and back the handlers live on what is in hand. A consumer that is
    /// killed costs each of them a delivery.
    ///
    /// Default: 64, a few times the handlers that most consumers run. (A pull of the client itself asks
    /// for 200, and has no handlers to hold them for.)
    pub fn prefetch(self, messages: usize) -> Self {
        SourceBuilder { prefetch: messages, ..self }
    }

    /// When an acknowledgement counts as made.
    ///
    /// Default: [`Acks::Confirmed`]. A message comes again in either case if its acknowledgement is
    /// lost; but a confirmed one is known to be lost, and said again in time. It costs a second message
    /// to the server and back, and no handler waits for it.
    pub fn acks(self, acks: Acks) -> Self {
        SourceBuilder { acks, ..self }
    }

    /// How long to wait for a confirmation before asking again: of an acknowledgement, of a dead letter,
    /// of the consumer's existence. Above zero, and best well below the `ack_wait` of the JetStream
    /// consumer.
    ///
    /// Default: 5 seconds, as long as the client waits for a stream. A connection that was lost and
    /// restored is noticed before, within a second.
    pub fn confirm_within(self, limit: Duration) -> Self {
        SourceBuilder { confirm_within: limit, ..self }
    }

    /// What must be handled in order, where
    /// [order is asked for](crate::consumer::ConsumerBuilder::ordered): messages of one key, one
    /// after the other. `None` for a message is no order.
    ///
    /// ```
    /// # use buttress::consumer::nats::SourceBuilder;
    /// # fn order(source: SourceBuilder) -> SourceBuilder {
    /// source.ordering_key(|message| message.header("Customer").map(str::as_bytes))
    /// # }
    /// ```
    ///
    /// Default: the subject.
    pub fn ordering_key(self, key: fn(&Message) -> Option<&[u8]>) -> Self {
        SourceBuilder { ordering_key: key, ..self }
    }

    /// Looks at the JetStream consumer, and subscribes.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a setting out of its range; [`Error::Unavailable`] if the server does not
    /// answer or has no such consumer; [`Error::Unsuitable`] if messages would be lost:
    ///
    /// - It is a push consumer, or its `ack_policy` is not `Explicit`.
    /// - It has a `max_deliver`, at which the server drops a message.
    /// - It is not durable, so the server deletes it while the source pauses.
    /// - Its `max_ack_pending` is below the prefetch.
    /// - No stream stores the subject of the dead letters, or the consumer would get them itself, or it is
    ///   given `headers_only`, and has no payload for them.
    pub async fn open(self) -> Result<Source, Error> {
        if self.prefetch == 0 {
            let rule = "must be at least 1";
            return Err(ConfigError::new(POLICY, "prefetch", rule, self.prefetch).into());
        }
        if self.confirm_within.is_zero() {
            let rule = "must be above zero";
            return Err(
                ConfigError::new(POLICY, "confirm_within", rule, self.confirm_within).into()
            );
        }
        if let DeadLetters::Publish(subject) = &self.dead_letters {
            let is_wild = subject.split('.').any(|token| matches!(token, "*" | ">"));
            if is_wild || Subject::validated(subject).is_err() {
                let rule = "must be a subject, without wildcards";
                return Err(ConfigError::new(POLICY, "dead_letters", rule, subject).into());
            }
        }
        let client = self.context.client();
        let link = Arc::new(Link {
            statistics: client.statistics(),
            client,
            context: self.context,
            stream: self.stream,
            consumer: self.consumer,
            dead_letters: self.dead_letters,
            acks: self.acks,
            confirm_within: self.confirm_within,
            ordering_key: self.ordering_key,
            in_hand: InHand::default(),
        });
        let subscription = source::subscribe(Arc::clone(&link), self.prefetch).await?;
        check_dead_letters(&link, &subscription.consumer.cached_info().config).await?;
        Ok(Source::new(link, self.prefetch, subscription))
    }
}

/// Dead letters must be whole, be stored somewhere, and not be handled as messages again.
async fn check_dead_letters(link: &Link, config: &consumer::Config) -> Result<(), Error> {
    let DeadLetters::Publish(subject) = &link.dead_letters else { return Ok(()) };
    let unsuitable = |reason: String| Error::Unsuitable {
        stream: link.stream.clone(),
        consumer: link.consumer.clone(),
        reason,
    };
    let unavailable = |cause: BoxError| Error::Unavailable {
        stream: link.stream.clone(),
        consumer: link.consumer.clone(),
        cause: format!("looking for the stream of its dead letters: {cause}").into(),
    };
    if config.headers_only {
        let reason = "its headers_only keeps the payload from its dead letters".to_owned();
        return Err(unsuitable(reason));
    }
    let looked_up = timeout(link.confirm_within, link.context.stream_by_subject(subject)).await;
    let stream = match looked_up {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) if error.kind() == GetStreamByNameErrorKind::NotFound => {
            return Err(unsuitable(format!("no stream stores its dead letters, {subject:?}")));
        }
        Ok(Err(error)) => return Err(unavailable(error.into())),
        Err(_) => return Err(unavailable(Error::NotConfirmed(link.confirm_within).into())),
    };
    let filters = config.filter_subjects.iter().chain([&config.filter_subject]);
    let mut filters = filters.filter(|filter| !filter.is_empty()).peekable();
    let is_given = filters.peek().is_none() || filters.any(|filter| matches(filter, subject));
    if stream == link.stream && is_given {
        return Err(unsuitable(format!("it would be given its own dead letters, {subject:?}")));
    }
    Ok(())
}

impl fmt::Debug for SourceBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceBuilder")
            .field("stream", &self.stream)
            .field("consumer", &self.consumer)
            .field("dead_letters", &self.dead_letters)
            .field("prefetch", &self.prefetch)
            .field("acks", &self.acks)
            .field("confirm_within", &self.confirm_within)
            .finish_non_exhaustive()
    }
}
