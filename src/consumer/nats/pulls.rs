use std::collections::VecDeque;

use tokio::time::Instant;

/// The requests for messages that the server has not yet served.
///
/// How many messages may still arrive is known exactly while the server answers every request: a
/// message for each that it asked for, or a status that says how many it will not get. Where an answer
/// is lost (a server that stopped, a consumer that moved to another one), the request counts until
/// it would have expired anyway, and no longer: otherwise the consumer would be left with less room for
/// good.
#[derive(Debug, Default)]
pub(super) struct Pulls {
    waiting: VecDeque<Pull>,
    outstanding: usize,
    last: u64,
}

#[derive(Debug)]
struct Pull {
    number: u64,
    asked: usize,
    until: Instant,
}

impl Pulls {
    /// How many messages may still arrive.
    pub(super) fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// Counts a request for that many messages, which the server keeps until then. Its number.
    pub(super) fn add(&mut self, asked: usize, until: Instant) -> u64 {
        self.last += 1;
        self.outstanding += asked;
        self.waiting.push_back(Pull { number: self.last, asked, until });
        self.last
    }

    /// A message has arrived, for one of them.
    pub(super) fn served(&mut self) {
        self.outstanding = self.outstanding.saturating_sub(1);
        if self.outstanding == 0 {
            self.waiting.clear();
        }
    }

    /// A request is at its end, with that many messages unsent; where the server did not say, all.
    pub(super) fn ended(&mut self, number: u64, unsent: Option<usize>) {
        let Some(index) = self.waiting.iter().position(|pull| pull.number == number) else {
            return;
        };
        let Some(pull) = self.waiting.remove(index) else { return };
        let unsent = unsent.unwrap_or(pull.asked).min(pull.asked);
        self.outstanding = self.outstanding.saturating_sub(unsent);
        self.bound();
    }

    /// Forgets requests that must have ended by now.
    pub(super) fn lapse(&mut self, now: Instant) {
        while self.waiting.front().is_some_and(|pull| pull.until <= now) {
            self.waiting.pop_front();
        }
        self.bound();
    }

    /// Forgets all: nobody is going to answer them.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.outstanding = 0;
    }

    /// No more can arrive than was asked for by the requests that are left.
    fn bound(&mut self) {
        let asked = self.waiting.iter().map(|pull| pull.asked).sum();
        self.outstanding = self.outstanding.min(asked);
        if self.outstanding == 0 {
            self.waiting.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn messages_and_ends_are_subtracted() {
        let now = Instant::now();
        let mut pulls = Pulls::default();
        let first = pulls.add(5, now + SECOND);
        let second = pulls.add(3, now + SECOND);
        assert_eq!(pulls.outstanding(), 8);
        pulls.served();
        pulls.served();
        assert_eq!(pulls.outstanding(), 6);
        pulls.ended(first, Some(3));
        assert_eq!(pulls.outstanding(), 3);
        pulls.ended(first, Some(3));
        assert_eq!(pulls.outstanding(), 3, "an end counts once");
        pulls.ended(second, None);
        assert_eq!(pulls.outstanding(), 0);
        pulls.served();
        assert_eq!(pulls.outstanding(), 0, "a message nobody asked for");
    }

    #[test]
    fn what_was_never_answered_counts_until_it_has_lapsed() {
        let now = Instant::now();
        let mut pulls = Pulls::default();
        pulls.add(5, now + SECOND);
        pulls.add(3, now + 2 * SECOND);
        pulls.served();
        pulls.lapse(now);
        assert_eq!(pulls.outstanding(), 7);
        pulls.lapse(now + SECOND);
        assert_eq!(pulls.outstanding(), 3, "at most what the second asked for");
        pulls.lapse(now + 2 * SECOND);
        assert_eq!(pulls.outstanding(), 0);
    }

    #[test]
    fn a_new_request_does_not_prolong_an_old_one() {
        let now = Instant::now();
        let mut pulls = Pulls::default();
        for second in 0..100 {
            let now = now + second * SECOND;
            pulls.lapse(now);
            let free = 10 - pulls.outstanding();
            if free > 0 {
                pulls.add(free, now + 3 * SECOND);
            }
            if second < 3 {
                continue;
            }
            // One message of ten arrives in a second, the rest never: nothing piles up.
            pulls.served();
            assert!(pulls.waiting.len() <= 4, "{pulls:?}");
        }
    }
}
