use std::{fmt, sync::Arc};

use bytes::Bytes;
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};

use super::copy;

/// A message from a queue: what the handler gets.
///
/// A clone of it shares everything, the body included.
#[derive(Clone)]
pub struct Message {
    body: Bytes,
    envelope: Arc<Envelope>,
}

/// What came with the body.
#[derive(Debug)]
struct Envelope {
    exchange: ShortString,
    routing_key: ShortString,
    properties: BasicProperties,
    redelivered: bool,
}

impl Message {
    pub(super) fn new(delivery: lapin::message::Delivery) -> Self {
        let lapin::message::Delivery {
            exchange, routing_key, redelivered, properties, data, ..
        } = delivery;
        let envelope = Arc::new(Envelope { exchange, routing_key, properties, redelivered });
        Message { body: Bytes::from(data), envelope }
    }

    /// What it says.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The exchange it was published to; empty for the default exchange. If it comes back from a
    /// delay, the one that it was published to at first.
    pub fn exchange(&self) -> &str {
        self.text(copy::EXCHANGE).unwrap_or(self.envelope.exchange.as_str())
    }

    /// The key it was published with. If it comes back from a delay, that of the first time.
    pub fn routing_key(&self) -> &str {
        self.text(copy::ROUTING_KEY).unwrap_or(self.envelope.routing_key.as_str())
    }

    /// Its properties: content type, correlation id, priority, time, and so on.
    pub fn properties(&self) -> &BasicProperties {
        &self.envelope.properties
    }

    /// All headers, those of RabbitMQ and of this crate among them.
    pub fn headers(&self) -> Option<&FieldTable> {
        self.envelope.properties.headers().as_ref()
    }

    /// One header.
    pub fn header(&self, name: &str) -> Option<&AMQPValue> {
        self.headers()?.inner().get(name)
    }

    /// The id that its publisher gave it, if it did.
    pub fn message_id(&self) -> Option<&str> {
        self.envelope.properties.message_id().as_ref().map(ShortString::as_str)
    }

    /// How often it has been delivered, this time included. `None` when it comes again from a
    /// classic queue, which does not count.
    pub fn attempt(&self) -> Option<u32> {
        // On a first delivery, this is not the broker's: whoever moved the message here, out of another
        // queue, brought the count of that along.
        let returned = self.count("x-delivery-count").filter(|_| self.envelope.redelivered);
        if returned.is_none() && self.envelope.redelivered {
            return None;
        }
        let before = self.count(copy::DELIVERIES_BEFORE).unwrap_or(0);
        Some(before.saturating_add(returned.unwrap_or(0)).saturating_add(1))
    }

    /// A header that is a text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        str::from_utf8(bytes(self.header(name)?)?).ok()
    }

    /// A header that is a count, however wide its publisher or the broker made it.
    fn count(&self, name: &str) -> Option<u32> {
        number(self.header(name)?).map(|count| u32::try_from(count.max(0)).unwrap_or(u32::MAX))
    }
}

/// The bytes of a value that is made of them.
pub(super) fn bytes(value: &AMQPValue) -> Option<&[u8]> {
    match value {
        AMQPValue::LongString(text) => Some(text.as_bytes()),
        AMQPValue::ShortString(text) => Some(text.as_str().as_bytes()),
        AMQPValue::ByteArray(bytes) => Some(bytes.as_slice()),
        _ => None,
    }
}

/// A value that is a whole number.
pub(super) fn number(value: &AMQPValue) -> Option<i64> {
    match *value {
        AMQPValue::ShortShortInt(number) => Some(number.into()),
        AMQPValue::ShortShortUInt(number) => Some(number.into()),
        AMQPValue::ShortInt(number) => Some(number.into()),
        AMQPValue::ShortUInt(number) => Some(number.into()),
        AMQPValue::LongInt(number) => Some(number.into()),
        AMQPValue::LongUInt(number) => Some(number.into()),
        AMQPValue::LongLongInt(number) => Some(number),
        _ => None,
    }
}

impl AsRef<[u8]> for Message {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

impl fmt::Debug for Message {
    /// Without the body, which may be large or confidential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("exchange", &self.exchange())
            .field("routing_key", &self.routing_key())
            .field("message_id", &self.message_id())
            .field("attempt", &self.attempt())
            .field("bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}
