use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use async_nats::{HeaderMap, Subject};
use bytes::Bytes;

/// A message as a handler gets it. A clone of it copies nothing.
#[derive(Clone)]
pub struct Message {
    parts: Arc<Parts>,
}

struct Parts {
    subject: Subject,
    headers: Option<HeaderMap>,
    payload: Bytes,
    place: Place,
}

impl Message {
    /// A message as if delivered for the first time, for the tests of a handler.
    pub fn new(subject: impl Into<String>, payload: impl Into<Bytes>) -> Self {
        let subject = Subject::from(subject.into());
        Message::assemble(subject, None, payload.into(), Place { delivered: 1, ..Place::default() })
    }

    /// The same with headers.
    pub fn with_headers(self, headers: HeaderMap) -> Self {
        let Parts { subject, payload, place, .. } = &*self.parts;
        Message::assemble(subject.clone(), Some(headers), payload.clone(), *place)
    }

    pub(super) fn assemble(
        subject: Subject,
        headers: Option<HeaderMap>,
        payload: Bytes,
        place: Place,
    ) -> Self {
        Message { parts: Arc::new(Parts { subject, headers, payload, place }) }
    }

    /// The subject it was published to.
    pub fn subject(&self) -> &str {
        &self.parts.subject
    }

    /// What is in it. A clone of it copies nothing.
    pub fn payload(&self) -> &Bytes {
        &self.parts.payload
    }

    /// Its headers, where it has any.
    pub fn headers(&self) -> Option<&HeaderMap> {
        self.parts.headers.as_ref()
    }

    /// The first value of a header, by its name as it was written: names of NATS headers are
    /// case-sensitive.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, values) = self.headers()?.iter().find(|(known, _)| named(known) == name)?;
        values.first().map(async_nats::HeaderValue::as_str)
    }

    /// How often the server has delivered it, this time included.
    pub fn attempt(&self) -> u32 {
        self.parts.place.delivered
    }

    /// Its number in the stream.
    pub fn sequence(&self) -> u64 {
        self.parts.place.sequence
    }

    /// When the stream stored it, by the server's clock: the time since 1970-01-01 00:00 UTC.
    pub fn published(&self) -> Duration {
        Duration::from_nanos(self.parts.place.published)
    }

    pub(super) fn place(&self) -> Place {
        self.parts.place
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("subject", &self.subject())
            .field("sequence", &self.sequence())
            .field("attempt", &self.attempt())
            .field("bytes", &self.payload().len())
            .finish_non_exhaustive()
    }
}

pub(super) fn named(name: &async_nats::HeaderName) -> &str {
    name.as_ref()
}

/// Where a message stands in its stream, as the subject for its acknowledgement says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// How often it has been delivered.
    pub(super) delivered: u32,
    /// Its number in the stream.
    pub(super) sequence: u64,
    /// When it was stored, in nanoseconds of Unix time.
    pub(super) published: u64,
}

impl Place {
    /// Reads `$JS.ACK.<stream>.<consumer>.<delivered>.<stream sequence>.<consumer sequence>.<time>.<pending>`,
    /// or the later form with a domain and the hash of an account before the stream. Both are laid
    /// down in ADR-15 of NATS, which also says that more may follow. `None` for anything else.
    pub(super) fn of(reply: &str) -> Option<Self> {
        let tokens = reply.strip_prefix("$JS.ACK.")?;
        let before = match tokens.split('.').count() {
            7 => 2,
            9.. => 4,
            _ => return None,
        };
        let mut tokens = tokens.split('.').skip(before);
        let delivered = number::<u64>(tokens.next())?;
        let sequence = number(tokens.next())?;
        let _of_the_consumer: u64 = number(tokens.next())?;
        let published = number(tokens.next())?;
        let delivered = u32::try_from(delivered).unwrap_or(u32::MAX);
        Some(Place { delivered, sequence, published })
    }
}

fn number<N: FromStr>(token: Option<&str>) -> Option<N> {
    token?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_read_from_both_forms() {
        let place = Place { delivered: 3, sequence: 17, published: 1_700_000_000_000_000_001 };
        for reply in [
            "$JS.ACK.ORDERS.worker.3.17.21.1700000000000000001.4",
            "$JS.ACK._.hash.ORDERS.worker.3.17.21.1700000000000000001.4",
            "$JS.ACK.hub.hash.ORDERS.worker.3.17.21.1700000000000000001.4.random",
            "$JS.ACK.hub.hash.ORDERS.worker.3.17.21.1700000000000000001.4.random.and.more",
        ] {
            assert_eq!(Place::of(reply), Some(place), "{reply}");
        }
    }

    #[test]
    fn other_subjects_have_no_place() {
        for reply in [
            "",
            "_INBOX.abc",
            "$JS.ACK.",
            "$JS.ACK.ORDERS.worker.3.17.21.1700000000000000001",
            "$JS.ACK.hash.ORDERS.worker.3.17.21.1700000000000000001.4",
            "$JS.ACK.ORDERS.worker.three.17.21.1700000000000000001.4",
            "$JS.ACK.ORDERS.worker.3.17.21.-1.4",
        ] {
            assert_eq!(Place::of(reply), None, "{reply}");
        }
    }

    #[test]
    fn a_header_is_found_by_its_name() {
        let mut headers = HeaderMap::new();
        headers.append("Order", "7");
        headers.append("Order", "8");
        headers.insert("Nats-Msg-Id", "x");
        let message = Message::new("orders", "body").with_headers(headers);
        assert_eq!(message.header("Order"), Some("7"));
        assert_eq!(message.header("Nats-Msg-Id"), Some("x"));
        assert_eq!(message.header("order"), None);
        assert_eq!(message.header("not a name:"), None);
        assert_eq!((message.subject(), message.attempt()), ("orders", 1));
    }
}
