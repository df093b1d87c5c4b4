use std::{fmt, sync::Arc};

use bytes::Bytes;
use rdkafka::message::{BorrowedHeaders, BorrowedMessage, Headers, Message as _, OwnedHeaders};

/// A message as the handler gets it. A clone costs one reference count.
///
/// Key and body are copied out of librdkafka's buffer, once, when the message is handed over: its
/// buffers hold whole batches, which one slow message would keep in memory.
#[derive(Clone)]
pub struct Message {
    inner: Arc<Inner>,
}

struct Inner {
    topic: Arc<str>,
    partition: i32,
    offset: i64,
    timestamp: Option<i64>,
    key: Option<Bytes>,
    body: Option<Bytes>,
    headers: Option<OwnedHeaders>,
}

impl Message {
    /// `topic` is that of the message, which all messages of a partition share.
    pub(super) fn copied(topic: &Arc<str>, message: &BorrowedMessage<'_>) -> Self {
        Message {
            inner: Arc::new(Inner {
                topic: Arc::clone(topic),
                partition: message.partition(),
                offset: message.offset(),
                timestamp: message.timestamp().to_millis(),
                key: message.key().map(Bytes::copy_from_slice),
                body: message.payload().map(Bytes::copy_from_slice),
                headers: message.headers().map(BorrowedHeaders::detach),
            }),
        }
    }

    /// The topic it came from.
    pub fn topic(&self) -> &str {
        &self.inner.topic
    }

    /// Its partition of that topic.
    pub fn partition(&self) -> i32 {
        self.inner.partition
    }

    /// Its place in that partition. With topic and partition it says which message this is: the same
    /// at each delivery, so a key to recognise one that comes again.
    pub fn offset(&self) -> i64 {
        self.inner.offset
    }

    /// When it was created or appended, as the topic is configured, in milliseconds since 1970;
    /// `None` if the broker does not say.
    pub fn timestamp(&self) -> Option<i64> {
        self.inner.timestamp
    }

    /// Its key, if it has one.
    pub fn key(&self) -> Option<&[u8]> {
        self.inner.key.as_deref()
    }

    /// Its body. Empty too if it has none, for which see [`is_tombstone`](Self::is_tombstone).
    pub fn body(&self) -> &Bytes {
        static NONE: Bytes = Bytes::new();
        self.inner.body.as_ref().unwrap_or(&NONE)
    }

    /// Whether it has no body, which in a compacted topic says that its key is deleted.
    pub fn is_tombstone(&self) -> bool {
        self.inner.body.is_none()
    }

    /// The value of its first header of this name.
    ///
    /// # Panics
    ///
    /// If a header has a name that is not UTF-8. Kafka says that all are; rdkafka takes its word for it.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let headers = self.inner.headers.as_ref()?;
        headers.iter().find(|header| header.key == name)?.value
    }

    /// All its headers, if it has any.
    pub fn headers(&self) -> Option<&OwnedHeaders> {
        self.inner.headers.as_ref()
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not what is in it: that is the business of whoever sent it.
        f.debug_struct("Message")
            .field("topic", &self.topic())
            .field("partition", &self.partition())
            .field("offset", &self.offset())
            .field("bytes", &self.body().len())
            .finish_non_exhaustive()
    }
}
