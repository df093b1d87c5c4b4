//! What is published in place of a message: its dead letter, or itself for another delivery.

use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};

use super::Message;
use crate::consumer::settle::beginning;

/// Tells copies apart: two with the same value are one copy, stored twice.
pub(super) const COPY: &str = "x-buttress-copy";
/// How often the message had been delivered before this copy of it was made.
pub(super) const DELIVERIES_BEFORE: &str = "x-buttress-deliveries-before";
/// How often a dead letter was delivered while it lived. Not what is counted on from when it
/// is put back into its queue: it starts anew there.
pub(super) const DELIVERIES: &str = "x-buttress-deliveries";
/// Why it is a dead letter.
pub(super) const REASON: &str = "x-buttress-reason";
/// The queue it was consumed from.
pub(super) const QUEUE: &str = "x-buttress-queue";
/// Where it was published at first: the broker tells where the copy was.
pub(super) const EXCHANGE: &str = "x-buttress-exchange";
pub(super) const ROUTING_KEY: &str = "x-buttress-routing-key";

/// Headers and properties must fit into one frame, which is 128 KiB if nobody says otherwise.
const LONGEST_REASON: usize = 4096;
/// The delivery mode of a message that is written to disk.
const PERSISTENT: u8 = 2;

/// Headers that speak of the original's delivery, or would have the copy delivered elsewhere too.
const LEFT_BEHIND: [&str; 6] =
    ["x-delivery-count", "x-acquired-count", "CC", "BCC", DELIVERIES_BEFORE, DELIVERIES];

/// Where the message was a dead letter of the broker's before. What expires on its way to a queue that
/// is named there has gone round in a circle, as RabbitMQ sees it, and is not delivered; and that is what
/// a message that was put back into its queue would do in a delay.
const DEATHS: &str = "x-death";

/// The message, to be delivered once more.
pub(super) fn for_redelivery(message: &Message, copy: i64) -> BasicProperties {
    let mut headers = headers(message, copy, &[DEATHS]);
    // One that nobody has counted comes at least for the second time.
    let so_far = message.attempt().unwrap_or(2);
    headers.insert(DELIVERIES_BEFORE.into(), AMQPValue::LongLongInt(so_far.into()));
    properties(message, headers)
}

/// The message, to be looked at by somebody.
pub(super) fn dead_letter(
    message: &Message,
    copy: i64,
    queue: &str,
    reason: &str,
) -> BasicProperties {
    let mut headers = headers(message, copy, &[]);
    headers.insert(REASON.into(), text(beginning(reason, LONGEST_REASON)));
    headers.insert(QUEUE.into(), text(queue));
    if let Some(deliveries) = message.attempt() {
        headers.insert(DELIVERIES.into(), AMQPValue::LongLongInt(deliveries.into()));
    }
    properties(message, headers)
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

fn headers(message: &Message, copy: i64, without: &[&str]) -> FieldTable {
    let mut headers = FieldTable::default();
    for (name, value) in message.headers().into_iter().flatten() {
        let name_text = name.as_str();
        if !LEFT_BEHIND.contains(&name_text) && !without.contains(&name_text) {
            headers.insert(name.clone(), value.clone());
        }
    }
    headers.insert(COPY.into(), AMQPValue::LongLongInt(copy));
    headers.insert(EXCHANGE.into(), text(message.exchange()));
    headers.insert(ROUTING_KEY.into(), text(message.routing_key()));
    headers
}

/// All that the original has, without its end of life and its sender's name, which the broker would
/// check. Persistent.
fn properties(message: &Message, headers: FieldTable) -> BasicProperties {
    type Setter = fn(BasicProperties, ShortString) -> BasicProperties;
    let original = message.properties();
    let mut properties =
        BasicProperties::default().with_headers(headers).with_delivery_mode(PERSISTENT);
    let texts: [(&Option<ShortString>, Setter); 7] = [
        (original.content_type(), BasicProperties::with_content_type),
        (original.content_encoding(), BasicProperties::with_content_encoding),
        (original.correlation_id(), BasicProperties::with_correlation_id),
        (original.reply_to(), BasicProperties::with_reply_to),
        (original.message_id(), BasicProperties::with_message_id),
        (original.kind(), BasicProperties::with_type),
        (original.app_id(), BasicProperties::with_app_id),
    ];
    for (value, set) in texts {
        if let Some(value) = value {
            properties = set(properties, value.clone());
        }
    }
    if let Some(priority) = *original.priority() {
        properties = properties.with_priority(priority);
    }
    if let Some(timestamp) = *original.timestamp() {
        properties = properties.with_timestamp(timestamp);
    }
    properties
}
