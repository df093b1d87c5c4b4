use tokio::time::Instant;

/// The request for messages that the server is serving: one at a time.
///
/// More of them could be with the server. But a message does not say for which it came, so what is
/// left of each would not be known where one is lost (with a server that stopped, or a consumer that
/// moved to another one), and the room for that would be lost for good. Of one it is always known, and one
/// that is lost is known to be when the server should have ended it.
#[derive(Debug, Default)]
pub(super) struct Pull {
    number: u64,
    left: usize,
    until: Option<Instant>,
}

impl Pull {
    /// How many messages may still arrive.
    pub(super) fn outstanding(&self) -> usize {
        self.left
    }

    /// Begins the next one, for that many messages, which is over by then. Its number.
    pub(super) fn begin(&mut self, messages: usize, until: Instant) -> u64 {
        *self = Pull { number: self.number + 1, left: messages, until: Some(until) };
        self.number
    }

    /// A message has arrived.
    pub(super) fn served(&mut self) {
        self.left = self.left.saturating_sub(1);
    }

    /// The server has ended the one with this number, after what it had sent for it.
    pub(super) fn ended(&mut self, number: u64) {
        if number == self.number {
            self.over();
        }
    }

    /// Whether the server must have ended it by now, and has not said so.
    pub(super) fn is_lost(&self, now: Instant) -> bool {
        self.left > 0 && self.until.is_some_and(|until| until <= now)
    }

    /// Nobody is going to serve it.
    pub(super) fn over(&mut self) {
        self.left = 0;
        self.until = None;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn is_over_when_it_is_served_or_ended_and_else_lost() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut pull = Pull::default();
        assert_eq!(pull.outstanding(), 0);

        let first = pull.begin(2, later);
        pull.served();
        assert_eq!(pull.outstanding(), 1);
        pull.served();
        assert_eq!(pull.outstanding(), 0);
        pull.served();
        assert_eq!(pull.outstanding(), 0, "a message that nobody asked for");

        let second = pull.begin(5, later);
        pull.ended(first);
        assert_eq!(pull.outstanding(), 5, "another one has ended");
        pull.ended(second);
        assert_eq!(pull.outstanding(), 0);

        let third = pull.begin(5, later);
        assert!(!pull.is_lost(now) && pull.is_lost(later));
        pull.ended(third);
        assert!(!pull.is_lost(later));
    }
}
