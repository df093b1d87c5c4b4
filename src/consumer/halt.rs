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

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;
    use crate::{Jitter, Verdict};

    const SECOND: Duration = Duration::from_secs(1);

    fn halt(gate: Option<CircuitBreaker>) -> Halt {
        let backoff = Backoff::exponential(SECOND).max(4 * SECOND).jitter(Jitter::None);
        Halt::new(gate, backoff)
    }

    fn rng() -> StdRng {
        StdRng::seed_from_u64(1)
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_refusal_one_message_is_tried_at_a_time_later_and_later() {
        let (mut halt, start) = (halt(None), Instant::now());
        assert_eq!((halt.leave(start), halt.since()), (Leave::Free, None));
        halt.held(false, None, start, &mut rng());
        let mut now = start;
        for wait in [1, 2, 4, 4, 4] {
            let until = now + wait * SECOND;
            assert_eq!(halt.leave(now), Leave::None { until: Some(until) });
            assert_eq!(halt.leave(until), Leave::Probes(1));
            now = until;
            halt.probing(now);
            assert!(matches!(halt.leave(now), Leave::None { .. }), "one is on its way");
            halt.held(true, None, now, &mut rng());
        }
        assert_eq!(halt.since(), Some(start));
        halt.probe_succeeded();
        assert_eq!((halt.leave(now), halt.since(), halt.is_on()), (Leave::Free, None, false));
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_were_under_way_are_refused_as_well_and_that_adds_nothing() {
        let (mut halt, now) = (halt(None), Instant::now());
        for _ in 0..10 {
            halt.held(false, None, now, &mut rng());
        }
        assert_eq!(halt.leave(now + SECOND), Leave::Probes(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_hint_is_followed_within_limits_and_once() {
        let (mut first, mut second, now) = (halt(None), halt(None), Instant::now());
        first.held(false, Some(100 * SECOND), now, &mut rng());
        assert_eq!(first.leave(now + 4 * SECOND), Leave::Probes(1), "no longer than the longest");
        second.held(false, Some(Duration::ZERO), now, &mut rng());
        assert_eq!(second.leave(now), Leave::Probes(1));
        second.held(true, Some(Duration::ZERO), now, &mut rng());
        assert_eq!(second.leave(now), Leave::None { until: Some(now + 2 * SECOND) }, "no spinning");
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_never_ends_is_not_waited_for_for_ever() {
        let (mut halt, now) = (halt(None), Instant::now());
        halt.held(false, None, now, &mut rng());
        halt.probing(now + SECOND);
        assert_eq!(halt.leave(now + 5 * SECOND), Leave::Probes(1));
    }

    #[tokio::test(start_paused = true)]
    async fn the_gate_rules_alone_while_it_is_not_closed() {
        let gate = CircuitBreaker::builder("halt").probes(2).open_for(SECOND).build().unwrap();
        let mut halt = halt(Some(gate));
        gate.force_open("down", Some(SECOND));
        let now = Instant::now();
        halt.held(false, None, now, &mut rng());
        assert!(halt.is_on());
        assert_eq!(halt.leave(now), Leave::None { until: Some(now + SECOND) });
        tokio::time::advance(SECOND).await;
        assert_eq!(halt.leave(Instant::now()), Leave::Probes(2));
        for _ in 0..2 {
            gate.try_acquire().unwrap().record(Verdict::Success);
        }
        assert_eq!((halt.leave(Instant::now()), halt.is_on()), (Leave::Free, false));
    }
}
