use std::{borrow::Cow, fmt, time::Duration};

use crate::error::BoxError;

/// What becomes of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settle {
    /// It is done. The broker forgets it.
    Ack,
    /// It failed, and is worth another delivery: not before `after`, and it counts as one.
    Retry {
        /// How long the broker keeps it back.
        after: Duration,
    },
    /// It cannot be handled, now or later. It is put aside, with the reason, for a person to look at.
    DeadLetter {
        /// Why, in words. Kept with the message.
        reason: Cow<'static, str>,
    },
    /// It was not handled. Given back as it was, for another consumer.
    ///
    /// Most brokers count it as a delivery all the same, so the consumer does this at its end only.
    Release,
}

impl Settle {
    /// The settlement as a metric label or log field: `ack`, `retry`, `dead_letter`, `release`.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Settle::Ack => "ack",
            Settle::Retry { .. } => "retry",
            Settle::DeadLetter { .. } => "dead_letter",
            Settle::Release => "release",
        }
    }
}

/// What an outcome leads to: what [`ConsumerBuilder::decide`](super::ConsumerBuilder::decide) answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The delivery is settled so.
    Settle(Settle),
    /// Nothing is said about this message, because nothing was done for it: it stays in hand,
    /// pulling stops, and the handler gets it again when work goes on.
    Hold,
}

impl From<Settle> for Decision {
    fn from(settle: Settle) -> Self {
        Decision::Settle(settle)
    }
}

/// Why a delivery could not be settled or extended.
#[derive(Debug)]
pub struct SettleError {
    kind: SettleErrorKind,
    source: BoxError,
}

/// Which kind of failure a [`SettleError`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SettleErrorKind {
    /// It is not known whether the broker heard it. Saying it again is possible, and does no harm.
    Unconfirmed,
    /// The delivery is no longer this consumer's: its connection, its lease or its partition is gone.
    /// The broker delivers the message again, here or elsewhere.
    Lost,
}

impl SettleError {
    /// The broker did not confirm it, and may be told again.
    pub fn unconfirmed(source: impl Into<BoxError>) -> Self {
        SettleError { kind: SettleErrorKind::Unconfirmed, source: source.into() }
    }

    /// The delivery is no longer this consumer's.
    pub fn lost(source: impl Into<BoxError>) -> Self {
        SettleError { kind: SettleErrorKind::Lost, source: source.into() }
    }

    /// Whether it is worth saying it again.
    pub const fn kind(&self) -> SettleErrorKind {
        self.kind
    }
}

impl fmt::Display for SettleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = &self.source;
        match self.kind {
            SettleErrorKind::Unconfirmed => write!(f, "the broker did not confirm it: {source}"),
            SettleErrorKind::Lost => write!(f, "the delivery was lost: {source}"),
        }
    }
}

impl std::error::Error for SettleError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // Displayed with its message, so that must not come a second time.
        self.source.source()
    }
}

/// The beginning of a text, no longer than so many bytes, in whole characters. Reasons quote errors, and those
/// may quote whole answers: with a dead letter's headers too large, no broker takes it.
#[cfg(any(feature = "kafka", feature = "nats", feature = "rabbitmq"))]
pub(super) fn beginning(text: &str, longest: usize) -> &str {
    let mut end = text.len().min(longest);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
