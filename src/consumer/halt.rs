use std::time::Duration;

use rand::Rng;
use tokio::time::Instant;

use crate::{
    backoff::Backoff,
    breaker::{CircuitBreaker, Passage},
};

/// How long a message that was started as a probe is taken to be on its way to the breaker. After
/// that the breaker has counted it, or never will.
pub(super) const ON_ITS_WAY: Duration = Duration::from_secs(1);

/// Whether the dependency is known to be down, and what may be started all the same.
///
/// Two things say so: the gate, which knows, and a refusal by some other policy, which is all that
/// is known then, so that it is found out with one message at a time.
#[derive(Debug)]
pub(super) struct Halt {
    gate: Option<CircuitBreaker>,
    probe_after: Backoff,
    refused: Option<Refused>,
    since: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Refused {
    /// Refusals in a row.
    times: u32,
    /// When one message may be tried.
    next: Instant,
}

/// How many messages may be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    /// As many as there is concurrency for.
    Free,
    /// So many, to probe.
    Probes(usize),
    /// None before this time, unless the gate changes.
    None { until: Option<Instant> },
}

impl Halt {
    pub(super) fn new(gate: Option<CircuitBreaker>, probe_after: Backoff) -> Self {
        Halt { gate, probe_after, refused: None, since: None }
    }

    pub(super) fn gate(&self) -> Option<CircuitBreaker> {
        self.gate
    }

    /// Since when less than everything may be started.
    pub(super) fn since(&self) -> Option<Instant> {
        self.since
    }

    /// What may be started at `now`. Notes when that began and ended to be less than everything.
    pub(super) fn leave(&mut self, now: Instant) -> Leave {
        let passage = self.gate.map_or(Passage::Free, CircuitBreaker::passage);
        let leave = match (passage, self.refused) {
            (Passage::Shut { until }, _) => Leave::None { until },
            (Passage::Probes(probes), _) => Leave::Probes(probes as usize),
            (Passage::Free, None) => Leave::Free,
            (Passage::Free, Some(refused)) if now >= refused.next => Leave::Probes(1),
            (Passage::Free, Some(refused)) => Leave::None { until: Some(refused.next) },
        };
        self.since = match leave {
            Leave::Free => None,
            _ => self.since.or(Some(now)),
        };
        leave
    }

    /// Whether a failure now is the dependency's and no message's.
    pub(super) fn is_on(&self) -> bool {
        self.refused.is_some() || self.gate.is_some_and(|gate| gate.passage() != Passage::Free)
    }

    /// A probe starts. Where nobody counts probes, the next one waits for what comes of it, and if
    /// nothing ever does, for the longest delay.
    pub(super) fn probing(&mut self, now: Instant) {
        if let Some(refused) = &mut self.refused {
            refused.next = later(now, self.probe_after.longest());
        }
    }

    /// A message was held: refused by a policy, which may have said when to come back, or failed
    /// as a probe.
    pub(super) fn held(
        &mut self,
        probe: bool,
        hint: Option<Duration>,
        now: Instant,
        rng: &mut impl Rng,
    ) {
        // The gate knows when it is over, and needs no second opinion.
        if self.gate.is_some_and(|gate| gate.passage() != Passage::Free) {
            return;
        }
        let longest = self.probe_after.longest();
        let times = self.refused.map_or(0, |refused| refused.times);
        let delay = self.probe_after.delay(times, rng);
        let first = later(now, hint.unwrap_or(delay).min(longest));
        // A hint that was followed and proved wrong does not make it spin.
        let again = later(now, hint.map_or(delay, |hint| hint.max(delay)).min(longest));
        self.refused = Some(match self.refused {
            None => Refused { times: 1, next: first },
            Some(_) if probe => Refused { times: times.saturating_add(1), next: again },
            // It was started before the first refusal, and adds nothing to it.
            Some(refused) => refused,
        });
    }

    /// A message that was started as a probe never came to ask, or says nothing of what it found: the
    /// next one may.
    pub(super) fn probe_said_nothing(&mut self, now: Instant) {
        if let Some(refused) = &mut self.refused {
            refused.next = now;
        }
    }

    /// What it is that is on.
    pub(super) fn why(&self) -> &'static str {
        if self.refused.is_some() { "refused by a policy" } else { "the gate is not closed" }
    }

    /// A message that was started as a probe has found the dependency at work.
    pub(super) fn probe_succeeded(&mut self) {
        self.refused = None;
    }
}

fn later(now: Instant, delay: Duration) -> Instant {
    // Thirty years are as good as for ever, and no clock overflows by them.
    let longest = Duration::from_secs(86_400 * 365 * 30);
    now + delay.min(longest)
}
