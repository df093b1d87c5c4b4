use std::{borrow::Cow, time::Duration};

use rand::Rng;

use super::{Decision, Settle, config::ConsumerConfig};
use crate::verdict::Verdict;

/// A service that throttles is believed this far and no further: a hint of a year would be a message
/// that nobody sees again.
const MAX_HINT: Duration = Duration::from_secs(3600);

/// How the handling of a delivery ended.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Handled {
    /// The handler answered, and the classifier says that this means so. A refusal by a policy is
    /// [`Verdict::Refused`].
    Verdict(Verdict),
    /// The handler panicked.
    Panicked,
    /// The payload could not be decoded, so the handler never saw it.
    Undecodable,
}

/// What came of one delivery: what [`ConsumerBuilder::decide`](super::ConsumerBuilder::decide) is
/// shown.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Outcome<'a> {
    /// How the handling ended.
    pub handled: Handled,
    /// What the error, the panic or the decoder said; empty for a success.
    pub reason: &'a str,
    /// How often this message has been tried, this time included: deliveries, and what was tried
    /// again in hand. Tries while a circuit was open do not count.
    pub attempt: u32,
}

/// The circumstances that a decision depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Circumstances {
    /// The dependency is known to be down: the gate is not closed, or a policy has refused.
    pub(super) halted: bool,
}

impl Outcome<'_> {
    /// The default mapping. `Retry` here means that there shall be another try, wherever.
    pub(super) fn decide(
        &self,
        config: &ConsumerConfig,
        circumstances: Circumstances,
        rng: &mut impl Rng,
    ) -> Decision {
        let hint = match self.handled {
            Handled::Verdict(Verdict::Success) => return Settle::Ack.into(),
            Handled::Verdict(Verdict::Permanent | Verdict::Final) | Handled::Undecodable => {
                return dead_letter(String::from(self.reason));
            }
            Handled::Verdict(Verdict::Refused { .. }) => return Decision::Hold,
            Handled::Verdict(verdict) => verdict.retry_after(),
            Handled::Panicked => None,
        };
        // While the dependency is down a failure says nothing about this message, and must not bring
        // it nearer to its end: an outage is longer than any number of deliveries.
        if circumstances.halted {
            return Decision::Hold;
        }
        let delay = config.retry_after.delay(self.attempt.saturating_sub(1), rng);
        let after = hint.map_or(delay, |hint| delay.max(hint.min(MAX_HINT)));
        self.bounded(Settle::Retry { after }, config)
    }

    /// A decision to try again, within the number of deliveries that are allowed.
    pub(super) fn bounded(&self, settle: Settle, config: &ConsumerConfig) -> Decision {
        match settle {
            Settle::Retry { .. } if self.attempt >= config.max_deliveries => {
                let Outcome { attempt, reason, .. } = self;
                dead_letter(format!("given up after {attempt} deliveries: {reason}"))
            }
            settle => settle.into(),
        }
    }
}

fn dead_letter(reason: String) -> Decision {
    Settle::DeadLetter { reason: Cow::Owned(reason) }.into()
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;
    use crate::backoff::{Backoff, Jitter};

    const SECOND: Duration = Duration::from_secs(1);

    fn config() -> ConsumerConfig {
        ConsumerConfig {
            retry_after: Backoff::exponential(SECOND).jitter(Jitter::None),
            max_deliveries: 3,
            ..ConsumerConfig::default()
        }
    }

    fn decide(handled: Handled, attempt: u32, halted: bool) -> Decision {
        let outcome = Outcome { handled, reason: "why", attempt };
        outcome.decide(&config(), Circumstances { halted }, &mut StdRng::seed_from_u64(1))
    }

    fn retry(after: Duration) -> Decision {
        Settle::Retry { after }.into()
    }

    #[test]
    fn every_verdict_has_its_settlement() {
        let why = || dead_letter(String::from("why"));
        let hint = Some(5 * SECOND);
        for (verdict, expected) in [
            (Verdict::Success, Settle::Ack.into()),
            (Verdict::Transient, retry(SECOND)),
            (Verdict::Unreachable, retry(SECOND)),
            (Verdict::Throttled { retry_after: None }, retry(SECOND)),
            (Verdict::Throttled { retry_after: hint }, retry(5 * SECOND)),
            (Verdict::Final, why()),
            (Verdict::Permanent, why()),
            (Verdict::Refused { retry_after: hint }, Decision::Hold),
            (Verdict::Ignored, retry(SECOND)),
        ] {
            assert_eq!(decide(Handled::Verdict(verdict), 1, false), expected, "{verdict:?}");
        }
        assert_eq!(decide(Handled::Panicked, 1, false), retry(SECOND));
        assert_eq!(decide(Handled::Undecodable, 1, false), why());
    }

    #[test]
    fn the_delay_grows_with_the_attempts_and_the_last_one_is_a_dead_letter() {
        let transient = Handled::Verdict(Verdict::Transient);
        assert_eq!(decide(transient, 2, false), retry(2 * SECOND));
        let end = dead_letter(String::from("given up after 3 deliveries: why"));
        assert_eq!(decide(transient, 3, false), end);
        assert_eq!(decide(Handled::Panicked, 4_000_000_000, false).clone(), {
            dead_letter(String::from("given up after 4000000000 deliveries: why"))
        });
    }

    #[test]
    fn an_outage_brings_no_message_nearer_to_its_end() {
        let transient = Handled::Verdict(Verdict::Transient);
        for attempt in [1, 3, 100] {
            assert_eq!(decide(transient, attempt, true), Decision::Hold);
            assert_eq!(decide(Handled::Panicked, attempt, true), Decision::Hold);
        }
        // What is the message's own is known all the same.
        assert!(matches!(decide(Handled::Undecodable, 1, true), Decision::Settle(_)));
        assert_eq!(
            decide(Handled::Verdict(Verdict::Success), 9, true),
            Decision::Settle(Settle::Ack)
        );
    }

    #[test]
    fn a_hint_of_a_year_is_an_hour() {
        let year = Some(Duration::from_secs(365 * 86_400));
        let throttled = Handled::Verdict(Verdict::Throttled { retry_after: year });
        assert_eq!(decide(throttled, 1, false), retry(MAX_HINT));
    }
}
