use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use rdkafka::{
    ClientContext,
    error::KafkaError,
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};

use super::Message;
use crate::consumer::settle::beginning;

/// How long a dead letter waits for a place in the producer's queue, if that is full.
const FOR_A_PLACE: Duration = Duration::from_secs(10);

/// The longest reason that is kept, in bytes. Errors may quote whole answers, and headers count
/// towards the largest message that brokers take.
const LONGEST_REASON: usize = 1024;

/// Where messages go that cannot be handled. Kafka has no dead letters of its own: a consumer passes
/// over such a message, and it is gone for its group, or stays and holds up its partition.
#[derive(Clone)]
pub struct DeadLetters {
    to: Option<(Arc<str>, Arc<dyn Produce>)>,
}

impl DeadLetters {
    /// They are produced to this topic, with key, body and headers as they were, and these headers
    /// besides:
    ///
    /// | header | is |
    /// |---|---|
    /// | `buttress-reason` | why, in words, the first kilobyte of them |
    /// | `buttress-topic`, `buttress-partition`, `buttress-offset` | where it came from |
    /// | `buttress-timestamp` | its own timestamp, in milliseconds since 1970, if it has one |
    ///
    /// The offset of the original moves on only when the delivery report says that the dead letter is
    /// stored. How many replicas that means is for the producer's `acks` to say (librdkafka's default:
    /// all of those in sync), and how long it tries for its `message.timeout.ms`. It may be stored
    /// twice, if the process dies in between.
    ///
    /// The topic must exist, or brokers create it. It and the producer must accept messages as large as the
    /// original, with a few kilobytes more for the headers. (A producer's `message.max.bytes` is 1 000 000 if
    /// you do not say more, and most brokers take 1 048 588.) One that cannot be stored is tried again, later
    /// and later, until it can be: the error is in [`Status::last_error`](crate::consumer::Status), the
    /// offset of its partition stays where it is, and [`max_span`](super::SourceBuilder::max_span) says how
    /// far the partition goes on.
    pub fn to_topic<C: ClientContext + 'static>(
        topic: impl Into<Arc<str>>,
        producer: FutureProducer<C>,
    ) -> Self {
        DeadLetters { to: Some((topic.into(), Arc::new(producer))) }
    }

    /// They are dropped: the offset moves on, and the reason is lost with them.
    pub fn dropped() -> Self {
        DeadLetters { to: None }
    }

    pub(super) fn topic(&self) -> Option<&str> {
        self.to.as_ref().map(|(topic, _)| &**topic)
    }

    /// Returns when the dead letter is stored.
    pub(super) async fn put(&self, message: &Message, reason: &str) -> Result<(), KafkaError> {
        let Some((topic, producer)) = &self.to else { return Ok(()) };
        let copy = Copy {
            topic: Arc::clone(topic),
            key: message.key().map(Bytes::copy_from_slice),
            body: (!message.is_tombstone()).then(|| message.body().clone()),
            headers: headers(message, reason),
        };
        Arc::clone(producer).produce(copy).await
    }
}

impl fmt::Debug for DeadLetters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetters").field("topic", &self.topic()).finish()
    }
}

fn headers(message: &Message, reason: &str) -> OwnedHeaders {
    let mut headers = message.headers().cloned().unwrap_or_default();
    let partition = message.partition().to_string();
    let offset = message.offset().to_string();
    let timestamp = message.timestamp().map(|timestamp| timestamp.to_string());
    for (key, value) in [
        ("buttress-reason", Some(beginning(reason, LONGEST_REASON))),
        ("buttress-topic", Some(message.topic())),
        ("buttress-partition", Some(&partition)),
        ("buttress-offset", Some(&offset)),
        ("buttress-timestamp", timestamp.as_deref()),
    ] {
        if value.is_some() {
            headers = headers.insert(Header { key, value });
        }
    }
    headers
}

struct Copy {
    topic: Arc<str>,
    key: Option<Bytes>,
    body: Option<Bytes>,
    headers: OwnedHeaders,
}

/// A producer, whatever its context. Boxed, because a dead letter is rare and waits for a broker.
trait Produce: Send + Sync {
    fn produce(self: Arc<Self>, copy: Copy) -> Produced;
}

type Produced = Pin<Box<dyn Future<Output = Result<(), KafkaError>> + Send>>;

impl<C: ClientContext + 'static> Produce for FutureProducer<C> {
    fn produce(self: Arc<Self>, copy: Copy) -> Produced {
        Box::pin(async move {
            // No timestamp: a topic that keeps messages for a week would throw an older one away.
            let record = FutureRecord {
                topic: &copy.topic,
                partition: None,
                payload: copy.body.as_deref(),
                key: copy.key.as_deref(),
                timestamp: None,
                headers: Some(copy.headers),
            };
            self.send(record, FOR_A_PLACE).await.map(drop).map_err(|(error, _)| error)
        })
    }
}
