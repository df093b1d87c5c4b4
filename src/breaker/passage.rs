use tokio::{sync::futures::Notified, time::Instant};

use super::{CircuitBreaker, State};
use crate::clock::Tick;

/// What somebody who starts calls may start now, and for whom being refused would be work in vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passage {
    /// Calls pass.
    Free,
    /// So many calls pass, to probe.
    Probes(u32),
    /// No call passes, until this time unless something [changes](CircuitBreaker::changed) before it.
    Shut { until: Option<Instant> },
}

impl CircuitBreaker {
    /// Whether calls would pass now. A pure read, like [`state`](Self::state).
    pub(crate) fn passage(self) -> Passage {
        let cell = self.cell;
        if cell.config.shadow || cell.gate().is_closed() {
            return Passage::Free;
        }
        let now = Tick::now();
        let look = cell.look(now);
        let until = match look.state {
            State::Closed | State::ForcedClosed => return Passage::Free,
            // A phase that is only due has all its probes.
            State::HalfOpen if look.due => return Passage::Probes(cell.config.probes),
            State::HalfOpen if look.gate.has_free_probe(cell.config.probes) => {
                return Passage::Probes(look.gate.free_probes(cell.config.probes));
            }
            State::HalfOpen => match cell.free_at(now) {
                // Reservations that nobody has used in time.
                None => return Passage::Probes(1),
                Some(until) => until,
            },
            State::Open | State::ForcedOpen => look.until,
        };
        Passage::Shut { until: until.instant() }
    }

    /// Resolves at the next change that lets calls pass or stops them. What time alone changes is
    /// not among them: that is known beforehand.
    pub(crate) fn changed(self) -> Notified<'static> {
        self.cell.changed.notified()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Backoff, Jitter, verdict::Verdict};

    fn breaker() -> CircuitBreaker {
        CircuitBreaker::builder("passage")
            .min_calls(2)
            .probes(2)
            .open_for(Backoff::constant(Duration::from_secs(5)).jitter(Jitter::None))
            .build()
            .unwrap()
    }

    fn trip(breaker: CircuitBreaker) {
        for _ in 0..2 {
            breaker.try_acquire().unwrap().record(Verdict::Transient);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_free_then_shut_then_probes_then_free() {
        let breaker = breaker();
        assert_eq!(breaker.passage(), Passage::Free);
        trip(breaker);
        let until = Instant::now() + Duration::from_secs(5);
        assert_eq!(breaker.passage(), Passage::Shut { until: Some(until) });
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(breaker.passage(), Passage::Probes(2));
        let first = breaker.try_acquire().unwrap();
        assert_eq!(breaker.passage(), Passage::Probes(1));
        let second = breaker.try_acquire().unwrap();
        assert!(matches!(breaker.passage(), Passage::Shut { until: Some(_) }));
        first.record(Verdict::Success);
        second.record(Verdict::Success);
        assert_eq!(breaker.passage(), Passage::Free);
    }

    #[tokio::test(start_paused = true)]
    async fn every_change_is_told() {
        let breaker = breaker();
        let changed = breaker.changed();
        trip(breaker);
        changed.await;
        let changed = breaker.changed();
        breaker.reset();
        changed.await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_circuit_that_is_forced_open_has_no_time_of_its_own() {
        let breaker = breaker();
        breaker.force_open("maintenance", None);
        assert_eq!(breaker.passage(), Passage::Shut { until: None });
    }

    #[tokio::test(start_paused = true)]
    async fn a_shadow_stops_nobody() {
        let breaker =
            CircuitBreaker::builder("passage shadow").min_calls(2).shadow().build().unwrap();
        trip(breaker);
        assert_eq!(breaker.passage(), Passage::Free);
    }
}
