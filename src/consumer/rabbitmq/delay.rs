//! The queues in which messages wait for another delivery.
//!
//! A time to live per message would not do: the broker looks at the head of a queue only, so a
//! message with a long one holds up those behind it. In a queue with one time to live for all, the
//! head is always the first to go.

use std::time::Duration;

use lapin::types::{AMQPValue, FieldTable};

/// The shortest delay, in milliseconds.
const FIRST: u32 = 100;
/// How often it can be doubled until it is more than a time to live can be, which is 2^32 - 1.
const DOUBLINGS: u32 = 25;

/// A queue whose messages go back to where they came from after a fixed time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DelayQueue {
    pub(super) name: String,
    /// Where its messages go back to.
    origin: String,
    /// Their time in it, in milliseconds.
    time_to_live: u32,
}

impl DelayQueue {
    /// The one for messages of this queue that must not come back before `after`: the next longer
    /// of 100 ms, 200 ms, 400 ms, and so on up to 38 days.
    pub(super) fn of(origin: &str, after: Duration) -> Self {
        // In whole milliseconds, but never early.
        let after = after.as_nanos().div_ceil(1_000_000);
        let time_to_live = (0..DOUBLINGS)
            .map(|doublings| FIRST << doublings)
            .find(|rung| u128::from(*rung) >= after)
            .unwrap_or(FIRST << DOUBLINGS);
        let name = format!("{origin}.retry.{time_to_live}ms");
        DelayQueue { name, origin: origin.to_owned(), time_to_live }
    }

    /// How it is declared. A queue of this name that was declared otherwise is an error.
    pub(super) fn arguments(&self) -> FieldTable {
        let mut arguments = FieldTable::default();
        let mut text = |name: &str, value: &str| {
            arguments.insert(name.into(), AMQPValue::LongString(value.into()));
        };
        text("x-queue-type", "quorum");
        text("x-dead-letter-exchange", "");
        text("x-dead-letter-routing-key", &self.origin);
        // A message leaves it when the origin has confirmed that it has it, which needs the other.
        text("x-dead-letter-strategy", "at-least-once");
        text("x-overflow", "reject-publish");
        let time_to_live = AMQPValue::LongLongInt(self.time_to_live.into());
        arguments.insert("x-message-ttl".into(), time_to_live);
        arguments
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn millis(after: Duration) -> u32 {
        DelayQueue::of("orders", after).time_to_live
    }

    #[test]
    fn a_delay_is_rounded_up_to_the_next_queue() {
        assert_eq!(millis(Duration::ZERO), 100);
        assert_eq!(millis(Duration::from_millis(100)), 100);
        assert_eq!(millis(Duration::from_nanos(100_000_001)), 200);
        assert_eq!(millis(Duration::from_secs(1)), 1_600);
        assert_eq!(millis(Duration::MAX), 3_355_443_200);
        assert_eq!(DelayQueue::of("orders", Duration::ZERO).name, "orders.retry.100ms");
    }

    proptest! {
        #[test]
        fn never_early_and_never_later_than_twice_the_delay(after in 100..3_000_000_000_u64) {
            let millis = u64::from(millis(Duration::from_millis(after)));
            prop_assert!(after <= millis && millis < 2 * after + 100);
        }
    }
}
