//! The messages that tests send.

use std::fmt;

use bytes::Bytes;

/// One message: its body says all there is to know about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Counts from 0 in the order of publishing.
    pub id: u64,
    /// What orders it, where order is asked for.
    pub key: String,
    pub body: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Good,
    /// The handler fails three times and then succeeds: more often than a stack of two attempts puts
    /// up with.
    Flaky,
    /// The handler fails for ever.
    Rejected,
    /// Cannot be decoded.
    Garbage,
}

/// What the body says, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    pub id: u64,
    pub key: String,
    pub kind: Kind,
}

/// Why a body could not be decoded.
#[derive(Debug)]
pub struct Undecodable(String);

impl fmt::Display for Undecodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Message {
    pub fn new(id: u64, key: &str, kind: Kind) -> Self {
        let body = match kind {
            Kind::Good => format!("good {id} {key}").into_bytes(),
            Kind::Flaky => format!("flaky {id} {key}").into_bytes(),
            Kind::Rejected => format!("rejected {id} {key}").into_bytes(),
            Kind::Garbage => {
                let mut body = format!("? {id} {key}").into_bytes();
                body[0] = 0xff;
                body
            }
        };
        Message { id, key: key.to_owned(), body: Bytes::from(body) }
    }

    /// So many, over so many keys, with poisonous ones among them.
    pub fn series(count: u64, keys: u64) -> Vec<Message> {
        (0..count).map(|id| Message::new(id, &format!("key-{}", id % keys), kind_of(id))).collect()
    }

    /// So many, none of them poisonous.
    pub fn good(count: u64, keys: u64) -> Vec<Message> {
        (0..count).map(|id| Message::new(id, &format!("key-{}", id % keys), Kind::Good)).collect()
    }
}

/// Which messages of a series are poisonous, two in a hundred, and which are flaky, one in
/// a hundred.
pub fn kind_of(id: u64) -> Kind {
    match (id % 97, id % 101, id % 89) {
        (13, _, _) => Kind::Rejected,
        (_, 17, _) => Kind::Garbage,
        (_, _, 7) => Kind::Flaky,
        _ => Kind::Good,
    }
}

/// The id in a body, which even an undecodable one has.
pub fn id_of(body: &[u8]) -> u64 {
    let id = body.split(|byte| *byte == b' ').nth(1).expect("a body of these tests");
    std::str::from_utf8(id).unwrap().parse().unwrap()
}

pub fn decode(body: &[u8]) -> Result<Order, Undecodable> {
    let text = std::str::from_utf8(body).map_err(|error| Undecodable(error.to_string()))?;
    let mut words = text.split(' ');
    let mut word = || words.next().ok_or_else(|| Undecodable(format!("{text:?} is cut off")));
    let kind = match word()? {
        "good" => Kind::Good,
        "flaky" => Kind::Flaky,
        "rejected" => Kind::Rejected,
        other => return Err(Undecodable(format!("{other:?} is no kind of order"))),
    };
    let id = word()?.parse().map_err(|error| Undecodable(format!("{text:?}: {error}")))?;
    Ok(Order { id, key: word()?.to_owned(), kind })
}
