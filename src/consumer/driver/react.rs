//! What each event leads to.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::{task::JoinError, time::Instant};

use super::{Driver, Event, Phase, Settled};
use crate::{
    consumer::{
        Decision, Delivery, Handled, Outcome, Settle, SettleError, SettleErrorKind, Source,
        halt::later,
        hand::{Entry, Id, Stage},
        handling::{Finished, panic_message},
        outcome::Circumstances,
    },
    verdict::Verdict,
};

/// How often something is said that the broker does not confirm, before it is given up and reported. `None`
/// is until the delivery is lost: a dead letter, or a copy for later, that is given up would come back
/// and be handled again.
const fn patience(settle: &Settle) -> Option<u32> {
    match settle {
        // A broker that is started anew has half a minute: what is given up is handled twice.
        Settle::Ack => Some(10),
        // At a shutdown, and what nobody hears of comes back by itself.
        Settle::Release => Some(5),
        Settle::Retry { .. } | Settle::DeadLetter { .. } => None,
    }
}

impl<Src, W, Fut> Driver<Src, W>
where
    Src: Source,
    W: FnMut(Id, <Src::Delivery as Delivery>::Payload) -> Fut + Send + 'static,
    Fut: Future<Output = Finished> + Send + 'static,
{
    pub(super) fn on(&mut self, event: Event<Src>) {
        match event {
            Event::Delivered(delivery) => {
                if self.flow.failures > 0 {
                    self.flow.failures = 0;
                    self.shared.source_works();
                }
                self.shared.delivered();
                self.hand.take(delivery, self.config.ordered, Instant::now());
            }
            Event::Handled(Ok(finished)) => self.finished(&finished),
            Event::Handled(Err(error)) => self.broke_off(error),
            Event::Settled(settled) => self.settled(settled),
            Event::Extended(id, result) => self.extended(id, result),
            Event::Look => {}
            Event::Stop(until) => self.stop(until),
            Event::SourceFailed(error) => self.source_failed(&error),
            Event::SourceEnded => self.source_ended(),
        }
    }

    fn stop(&mut self, until: Instant) {
        self.shared.stopping();
        self.phase = match self.phase {
            Phase::Consuming | Phase::Ended => Phase::Draining { until },
            Phase::Draining { until: earlier } => Phase::Draining { until: until.min(earlier) },
            last_words @ Phase::LastWords { .. } => last_words,
        };
        // There will be no next try here.
        self.hand.no_more_waiting();
    }

    fn source_failed(&mut self, error: &Src::Error) {
        let now = Instant::now();
        let backoff = &self.config.reconnect_after;
        // A row of errors ends when it has been quiet for longer than the row would have been.
        if self.flow.failed_at.is_some_and(|at| now - at > backoff.longest().saturating_mul(2)) {
            self.flow.failures = 0;
        }
        let first = self.flow.failures == 0;
        let delay = backoff.delay(self.flow.failures, &mut self.rng);
        self.flow.ask_again = Some(later(now, delay));
        self.flow.failures = self.flow.failures.saturating_add(1);
        self.flow.failed_at = Some(now);
        self.shared.source_failed(now, first, error);
    }

    fn source_ended(&mut self) {
        self.shared.stopping();
        self.flow.ended = true;
        if self.phase == Phase::Consuming {
            self.phase = Phase::Ended;
        }
    }

    fn extended(&mut self, id: Id, result: Result<(), SettleError>) {
        // It may have been settled meanwhile, and then it matters no more.
        let Some(entry) = self.hand.get_mut(id) else { return };
        entry.extending = false;
        let Err(error) = result else { return };
        match (error.kind(), entry.stage()) {
            // Somebody else's, and not begun here: let it go. Of one that runs its settlement will tell.
            (
                SettleErrorKind::Lost,
                Stage::Ready { .. } | Stage::Behind | Stage::Waiting { .. },
            ) => {
                self.shared.lost("extend", &error);
                self.hand.remove(id);
            }
            _ => self.shared.error(format!("extend: {error}")),
        }
    }

    // ---- Outcomes ----------------------------------------------------------------------------

    /// A handler panicked, or was aborted by a shutdown.
    fn broke_off(&mut self, error: JoinError) {
        let Some(id) = self.hand.in_task(error.id()) else { return };
        if let Ok(panic) = error.try_into_panic() {
            let reason = panic_message(&*panic);
            self.shared.panicked(&reason);
            // Past the deadline it was dropped, and may have panicked for that alone.
            if !matches!(self.phase, Phase::LastWords { .. }) {
                return self.finished(&Finished { id, handled: Handled::Panicked, reason });
            }
        }
        self.settle(id, Settle::Release, 0);
    }

    fn finished(&mut self, finished: &Finished) {
        let Finished { id, handled, reason } = finished;
        let (id, handled, now) = (*id, *handled, Instant::now());
        let Some(entry) = self.hand.get(id) else { return };
        let probe = matches!(entry.stage(), Stage::Running { probe: Some(_), .. });
        let (attempt, in_hand) =
            (entry.attempts(), entry.stays_in_hand() || !self.source.redelivers());
        let mut outcome = Outcome { handled, reason, attempt };
        let own = self.own_decision(&outcome);
        if let Err(reason) = &own {
            (outcome.handled, outcome.reason) = (Handled::Panicked, reason);
        }
        let decision = match &own {
            Ok(Some(Decision::Settle(settle))) => outcome.bounded(settle.clone(), &self.config),
            Ok(Some(Decision::Hold)) => Decision::Hold,
            Ok(None) | Err(_) => {
                let circumstances = Circumstances { halted: self.halt.is_on() };
                outcome.decide(&self.config, circumstances, &mut self.rng)
            }
        };
        if !matches!(decision, Decision::Settle(Settle::Ack)) {
            self.shared.error(String::from(outcome.reason));
        }
        if let Decision::Settle(Settle::Retry { after }) = decision {
            self.shared.failed(attempt, after, outcome.reason);
        }
        self.probed(probe, outcome.handled, &decision, now);
        match decision {
            // There will be no later; it goes back with the others.
            Decision::Hold if self.is_stopping() => self.hand.hold(id),
            Decision::Settle(Settle::Retry { .. }) if in_hand && self.is_stopping() => {
                self.hand.hold(id);
            }
            Decision::Hold => {
                self.shared.held();
                self.hand.hold(id);
            }
            Decision::Settle(Settle::Retry { after }) if in_hand => {
                self.shared.retried_in_hand();
                self.hand.try_again_at(id, later(now, after));
            }
            Decision::Settle(settle) => self.settle(id, settle, 0),
        }
    }

    /// What the user's own function says; or what it said when it panicked.
    fn own_decision(&self, outcome: &Outcome<'_>) -> Result<Option<Decision>, String> {
        let Some(decide) = &self.decide else { return Ok(None) };
        catch_unwind(AssertUnwindSafe(|| decide(outcome))).map_err(|panic| {
            let reason = panic_message(&*panic);
            self.shared.panicked(&reason);
            reason
        })
    }

    /// What this outcome says about the dependency.
    fn probed(&mut self, probe: bool, handled: Handled, decision: &Decision, now: Instant) {
        match (handled, decision) {
            (_, Decision::Hold) => {
                let hint = match handled {
                    Handled::Verdict(verdict) => verdict.retry_after(),
                    Handled::Panicked | Handled::Undecodable => None,
                };
                self.halt.held(probe, hint, now, &mut self.rng);
            }
            (Handled::Verdict(Verdict::Success | Verdict::Permanent), _) if probe => {
                self.halt.probe_succeeded();
            }
            _ if probe => self.halt.probe_said_nothing(now),
            _ => {}
        }
    }

    // ---- Settling ----------------------------------------------------------------------------

    pub(super) fn settle(&mut self, id: Id, settle: Settle, failures: u32) {
        let Some(mut delivery) = self.hand.settle(id, settle.clone(), failures) else { return };
        self.settling.push(Box::pin(async move {
            let result = delivery.settle(&settle).await;
            Settled { id, delivery, result }
        }));
    }

    fn settled(&mut self, settled: Settled<Src::Delivery>) {
        let Settled { id, delivery, result } = settled;
        let Some(Stage::Settling { settle, failures }) = self.hand.get(id).map(Entry::stage) else {
            return;
        };
        let (settle, failures) = (settle.clone(), *failures);
        let error = match result {
            Ok(()) => {
                self.shared.settled(&settle);
                self.hand.remove(id);
                return;
            }
            Err(error) => error,
        };
        let failures = failures.saturating_add(1);
        if error.kind() == SettleErrorKind::Lost {
            self.shared.lost(settle.as_str(), &error);
            self.hand.remove(id);
        } else if patience(&settle).is_some_and(|most| failures >= most) {
            self.shared.unconfirmed(&settle, &error);
            self.hand.remove(id);
        } else {
            self.shared.error(format!("{}: {error}", settle.as_str()));
            let delay = self.config.reconnect_after.delay(failures - 1, &mut self.rng);
            let at = later(Instant::now(), delay);
            self.hand.settle_again_at(id, delivery, settle, failures, at);
        }
    }
}
