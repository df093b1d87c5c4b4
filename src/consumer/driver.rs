use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::stream::{FuturesUnordered, Stream};
use rand::{SeedableRng, rngs::StdRng};
use tokio::{
    sync::{futures::Notified, mpsc},
    task::{JoinError, JoinSet},
    time::{Instant, Sleep},
};
use tower_service::Service;

use super::{
    Consumer, Decision, Delivery, Handled, Outcome, Settle, SettleError, SettleErrorKind, Source,
    config::{ConsumerConfig, Decide},
    halt::{Halt, Leave, ON_ITS_WAY},
    hand::{Hand, Id, Stage},
    handling::{Finished, handle, panic_message},
    outcome::Circumstances,
    running::Shared,
};
use crate::{
    error::StackError,
    verdict::{Classify, Verdict},
};

/// How often an acknowledgement that the broker does not confirm is repeated before it is given up
/// and reported. (A dead letter, and a copy for later, is repeated until the delivery is lost: given
/// up, it would come back and be handled again.)
const ACK_FAILURES: u32 = 5;

/// How long the broker has, after the deadline of a shutdown, to hear of the rest.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Moves deliveries from the source through the handler to their settlement: one task, one event at
/// a time.
pub(super) struct Driver<Src: Source, F, S, C> {
    config: ConsumerConfig,
    decide: Option<Decide>,
    classifier: C,
    decode: Arc<F>,
    handler: S,
    shared: Arc<Shared>,

    source: Src,
    flow: Flow,
    hand: Hand<Src::Delivery>,
    halt: Halt,
    phase: Phase,

    handlers: JoinSet<Finished>,
    settling: FuturesUnordered<Pin<Box<dyn Future<Output = Settled<Src::Delivery>> + Send>>>,
    extending:
        FuturesUnordered<Pin<Box<dyn Future<Output = (Id, Result<(), SettleError>)> + Send>>>,
    /// Told when the gate changes; `None` when it has, or was never asked to.
    gate_changed: Option<Pin<Box<Notified<'static>>>>,
    stopped: Option<mpsc::UnboundedReceiver<Instant>>,
    timer: Pin<Box<Sleep>>,
    /// When heartbeats are due, while there is anything in hand.
    extend_at: Option<Instant>,
    rng: StdRng,
}

/// What was last said to the source, and what it last said.
#[derive(Default)]
struct Flow {
    paused: bool,
    /// How many deliveries it may hand out now.
    room: usize,
    /// Errors in a row, when the last one was, and when it is asked again.
    failures: u32,
    failed_at: Option<Instant>,
    ask_again: Option<Instant>,
    /// What was last shown to the world.
    halted_since: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Consuming,
    /// The source has ended; what is in hand is worked off.
    Ended,
    /// Nothing new is begun. Handlers may finish until then.
    Draining {
        until: Instant,
    },
    /// Handlers were dropped. The broker is told, until then.
    LastWords {
        until: Instant,
    },
}

struct Settled<D> {
    id: Id,
    delivery: D,
    result: Result<(), SettleError>,
}

/// What the driver waits for.
enum Event<Src: Source> {
    Handled(Result<Finished, JoinError>),
    Settled(Settled<Src::Delivery>),
    Extended(Id, Result<(), SettleError>),
    Stop(Instant),
    /// The time has come for something, or the gate has changed.
    Look,
    Delivered(Src::Delivery),
    SourceFailed(Src::Error),
    SourceEnded,
}

impl<Src, F, T, E, S, C> Driver<Src, F, S, C>
where
    Src: Source,
    F: Fn(&<Src::Delivery as Delivery>::Payload) -> Result<T, E> + Send + Sync + 'static,
    T: Send + 'static,
    E: std::fmt::Display + 'static,
    S: Service<T> + Clone + Send + 'static,
    S::Response: Send + 'static,
    S::Error: StackError + std::fmt::Display + Send + 'static,
    S::Future: Send + 'static,
    C: Classify<S::Response, S::Error> + Clone + Send + Sync + 'static,
{
    pub(super) fn new(
        consumer: &Consumer<C>,
        source: Src,
        decode: Arc<F>,
        handler: S,
        shared: Arc<Shared>,
        stopped: mpsc::UnboundedReceiver<Instant>,
    ) -> Self {
        let Consumer { config, gate, decide, classifier, .. } = consumer.clone();
        Driver {
            config,
            decide,
            classifier,
            decode,
            handler,
            shared,
            source,
            flow: Flow::default(),
            hand: Hand::new(),
            halt: Halt::new(gate, config.probe_after),
            phase: Phase::Consuming,
            handlers: JoinSet::new(),
            settling: FuturesUnordered::new(),
            extending: FuturesUnordered::new(),
            gate_changed: None,
            stopped: Some(stopped),
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            extend_at: None,
            rng: StdRng::seed_from_u64(rand::random()),
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            let wake = self.advance();
            if self.is_done() {
                break;
            }
            let event = self.event(wake).await;
            self.on(event);
        }
        self.shared.stopping();
        // Handlers that do not stop when they are told to are left behind.
        self.handlers.detach_all();
        self.report_rest();
        match tokio::time::timeout(LAST_WORDS, self.source.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.shared.source_failed(Instant::now(), &error),
            Err(late) => self.shared.source_failed(Instant::now(), &late),
        }
        self.shared.load(0, 0);
    }

    /// What was not settled in time goes back to the broker by itself, and nobody can say when.
    fn report_rest(&mut self) {
        for id in self.hand.ids() {
            let settle = match self.hand.get_mut(id).map(|entry| entry.stage.clone()) {
                Some(Stage::Settling { settle, .. } | Stage::SettlingLater { settle, .. }) => {
                    settle
                }
                _ => Settle::Release,
            };
            self.shared.unconfirmed(&settle, &"the time for the shutdown was over");
        }
        self.settling.clear();
        self.hand = Hand::new();
    }

    fn is_done(&self) -> bool {
        match self.phase {
            Phase::Consuming => false,
            Phase::Ended | Phase::Draining { .. } => self.hand.is_empty(),
            Phase::LastWords { until } => self.hand.is_empty() || Instant::now() >= until,
        }
    }

    // ---- Before waiting ----------------------------------------------------------------------

    /// Starts what can be started and says when to look again.
    fn advance(&mut self) -> Option<Instant> {
        let now = Instant::now();
        if let (None, Some(gate)) = (&self.gate_changed, self.halt.gate()) {
            let mut changed = Box::pin(gate.changed());
            // Before the gate is looked at, or a change between would be missed.
            changed.as_mut().enable();
            self.gate_changed = Some(changed);
        }
        self.fall_due(now);
        let leave = self.start_ready(now);
        self.steer(leave, now);
        self.beat(now);
        self.shared.load(self.hand.len(), self.hand.running());

        let gate = match leave {
            Leave::None { until } => until,
            // The probes that are on their way may never have reached the breaker.
            Leave::Probes(_) if self.hand.has_ready() => Some(now + ON_ITS_WAY),
            Leave::Free | Leave::Probes(_) => None,
        };
        let phase = match self.phase {
            Phase::Consuming | Phase::Ended => None,
            Phase::Draining { until } | Phase::LastWords { until } => Some(until),
        };
        [self.hand.next_due(), gate, phase, self.extend_at, self.flow.ask_again]
            .into_iter()
            .flatten()
            .min()
    }

    /// What has waited long enough goes on.
    fn fall_due(&mut self, now: Instant) {
        match self.phase {
            Phase::Draining { until } if now >= until => {
                self.handlers.abort_all();
                self.phase = Phase::LastWords { until: now + LAST_WORDS };
            }
            Phase::Consuming | Phase::Ended | Phase::Draining { .. } | Phase::LastWords { .. } => {}
        }
        if self.flow.ask_again.is_some_and(|at| at <= now) {
            self.flow.ask_again = None;
        }
        while let Some(id) = self.hand.pop_due(now) {
            let stage = self.hand.get_mut(id).map(|entry| entry.stage.clone());
            match stage {
                Some(Stage::SettlingLater { settle, failures }) => {
                    self.settle(id, settle, failures)
                }
                _ => self.hand.hold(id),
            }
        }
    }

    /// Hands out as much of what is ready as may be.
    fn start_ready(&mut self, now: Instant) -> Leave {
        if self.is_stopping() {
            while let Some(id) = self.hand.next_ready() {
                self.settle(id, Settle::Release, 0);
            }
            return Leave::Free;
        }
        loop {
            let leave = self.halt.leave(now);
            let free = self.config.concurrency.saturating_sub(self.hand.running());
            let (free, probe) = match leave {
                Leave::Free => (free, false),
                Leave::Probes(probes) => {
                    let on_their_way = self.probes_on_their_way(now);
                    (free.min(probes.saturating_sub(on_their_way)), true)
                }
                Leave::None { .. } => (0, false),
            };
            if free == 0 || !self.start_next(probe, now) {
                return leave;
            }
        }
    }

    fn probes_on_their_way(&self, now: Instant) -> usize {
        match now.checked_sub(ON_ITS_WAY) {
            Some(since) => self.hand.probes_since(since),
            None => 0,
        }
    }

    /// Starts the next one that is ready. False if there is none.
    fn start_next(&mut self, probe: bool, now: Instant) -> bool {
        let Some(id) = self.hand.next_ready() else { return false };
        let max = self.config.max_deliveries;
        let Some(entry) = self.hand.get_mut(id) else { return true };
        let attempts = entry.attempts();
        let Some(delivery) = &entry.delivery else { return true };
        if delivery.is_lost() {
            let during = "handling";
            self.shared.lost(during, &"the delivery was lost before it could be handled");
            self.hand.remove(id);
            return true;
        }
        if attempts > max {
            let reason =
                format!("delivered {attempts} times, {max} are allowed; not handled again");
            self.settle(id, Settle::DeadLetter { reason: reason.into() }, 0);
            return true;
        }
        let (payload, decode) = (delivery.payload(), Arc::clone(&self.decode));
        let (handler, classifier) = (self.handler.clone(), self.classifier.clone());
        let work = handle(id, payload, move |payload| decode(payload), handler, classifier);
        let task = self.handlers.spawn(work).id();
        self.hand.start(id, task, probe.then_some(now));
        if probe {
            self.halt.probing(now);
        }
        true
    }

    fn is_stopping(&self) -> bool {
        matches!(self.phase, Phase::Draining { .. } | Phase::LastWords { .. })
    }

    /// Has the source pull or pause, and tells the world.
    fn steer(&mut self, leave: Leave, now: Instant) {
        let consuming = self.phase == Phase::Consuming;
        let room = self.source.prefetch().saturating_sub(self.hand.len());
        self.flow.room = match leave {
            _ if !consuming => 0,
            Leave::Free => room,
            // A probe is taken from what is in hand; only without that is there anything to pull.
            Leave::Probes(probes) if !self.hand.has_ready() => {
                room.min(probes.saturating_sub(self.probes_on_their_way(now)))
            }
            Leave::Probes(_) | Leave::None { .. } => 0,
        };
        let pull = consuming && (leave == Leave::Free || self.flow.room > 0);
        if pull == self.flow.paused {
            self.flow.paused = !pull;
            if pull {
                self.source.resume();
            } else {
                self.source.pause();
            }
        }
        let since = self.halt.since().filter(|_| consuming);
        if since != self.flow.halted_since {
            self.flow.halted_since = since;
            self.shared.paused(since, self.halt.why());
        }
    }

    /// Tells the broker, where it wants to hear it, that what is in hand is still worked on.
    ///
    /// One timer for all of them, which rings twice in the time in which each must be told once.
    fn beat(&mut self, now: Instant) {
        let Some(every) = self.source.extend_every().filter(|_| !self.hand.is_empty()) else {
            self.extend_at = None;
            return;
        };
        let half = (every / 2).max(Duration::from_millis(1));
        let due = match self.extend_at {
            None => {
                self.extend_at = Some(now + half);
                return;
            }
            Some(due) => due,
        };
        if now < due {
            return;
        }
        self.extend_at = Some(now + half);
        for id in self.hand.ids() {
            let Some(entry) = self.hand.get_mut(id) else { continue };
            let Some(delivery) = &entry.delivery else { continue };
            if now.duration_since(entry.extended) >= half {
                entry.extended = now;
                let extend = delivery.extend();
                self.extending.push(Box::pin(async move { (id, extend.await) }));
            }
        }
    }

    // ---- Waiting -----------------------------------------------------------------------------

    async fn event(&mut self, wake: Option<Instant>) -> Event<Src> {
        if let Some(wake) = wake
            && self.timer.deadline() != wake
        {
            self.timer.as_mut().reset(wake);
        }
        poll_fn(|cx| self.poll_event(cx, wake.is_some())).await
    }

    /// What has ended comes before what begins, so that there is room for that.
    fn poll_event(&mut self, cx: &mut Context<'_>, timed: bool) -> Poll<Event<Src>> {
        if let Poll::Ready(Some(settled)) = Pin::new(&mut self.settling).poll_next(cx) {
            return Poll::Ready(Event::Settled(settled));
        }
        if let Poll::Ready(Some(finished)) = self.handlers.poll_join_next(cx) {
            return Poll::Ready(Event::Handled(finished));
        }
        if let Poll::Ready(Some((id, result))) = Pin::new(&mut self.extending).poll_next(cx) {
            return Poll::Ready(Event::Extended(id, result));
        }
        if let Some(stopped) = &mut self.stopped
            && let Poll::Ready(stop) = stopped.poll_recv(cx)
        {
            match stop {
                Some(until) => return Poll::Ready(Event::Stop(until)),
                // Nobody is left who could stop it.
                None => self.stopped = None,
            }
        }
        if let Some(changed) = &mut self.gate_changed
            && changed.as_mut().poll(cx).is_ready()
        {
            self.gate_changed = None;
            return Poll::Ready(Event::Look);
        }
        if timed && self.timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Event::Look);
        }
        if self.flow.ask_again.is_some() || self.phase == Phase::Ended {
            return Poll::Pending;
        }
        self.source.poll_next(cx, self.flow.room).map(|next| match next {
            Some(Ok(delivery)) => Event::Delivered(delivery),
            Some(Err(error)) => Event::SourceFailed(error),
            None => Event::SourceEnded,
        })
    }

    // ---- After waiting -----------------------------------------------------------------------

    fn on(&mut self, event: Event<Src>) {
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
            Event::Extended(id, Err(error)) => self.not_extended(id, &error),
            Event::Extended(_, Ok(())) | Event::Look => {}
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
    }

    fn source_failed(&mut self, error: &Src::Error) {
        let now = Instant::now();
        let backoff = &self.config.reconnect_after;
        // A row of errors ends when it has been quiet for longer than the row would have been.
        if self.flow.failed_at.is_some_and(|at| now - at > backoff.longest() * 2) {
            self.flow.failures = 0;
        }
        self.flow.ask_again = Some(now + backoff.delay(self.flow.failures, &mut self.rng));
        self.flow.failures = self.flow.failures.saturating_add(1);
        self.flow.failed_at = Some(now);
        self.shared.source_failed(now, error);
    }

    fn source_ended(&mut self) {
        match self.phase {
            Phase::Consuming => self.phase = Phase::Ended,
            // There is nothing more to hear from it.
            _ => self.flow.ask_again = Some(Instant::now() + LAST_WORDS),
        }
    }

    fn not_extended(&mut self, id: Id, error: &SettleError) {
        let stage = self.hand.get_mut(id).map(|entry| &entry.stage);
        match (error.kind(), stage) {
            // Somebody else's, and not begun here: let it go. Of one that runs its settlement will tell.
            (SettleErrorKind::Lost, Some(Stage::Ready | Stage::Waiting)) => {
                self.shared.lost("extend", error);
                self.hand.remove(id);
            }
            _ => self.shared.error(format!("extend: {error}")),
        }
    }

    // ---- Outcomes ----------------------------------------------------------------------------

    /// A handler panicked, or was aborted by a shutdown.
    fn broke_off(&mut self, error: JoinError) {
        let Some(id) = self.hand.find_task(error.id()) else { return };
        match error.try_into_panic() {
            Ok(panic) => {
                let reason = panic_message(&*panic);
                self.shared.panicked(&reason);
                self.finished(&Finished { id, handled: Handled::Panicked, reason });
            }
            Err(_aborted) => self.settle(id, Settle::Release, 0),
        }
    }

    fn finished(&mut self, finished: &Finished) {
        let Finished { id, handled, reason } = finished;
        let (id, handled, now) = (*id, *handled, Instant::now());
        let Some(entry) = self.hand.get_mut(id) else { return };
        let probe = matches!(entry.stage, Stage::Running { probe: Some(_), .. });
        let (attempt, in_hand) =
            (entry.attempts(), entry.is_ordered() || !self.source.redelivers());
        let outcome = Outcome { handled, reason, attempt };
        let decision = self.decide(&outcome);
        if !matches!(decision, Decision::Settle(Settle::Ack)) {
            self.shared.error(reason.clone());
        }
        self.probed(probe, handled, &decision, now);
        match decision {
            Decision::Hold | Decision::Settle(Settle::Retry { .. }) if self.is_stopping() => {
                self.settle(id, Settle::Release, 0);
            }
            Decision::Hold => {
                self.shared.held();
                self.hand.hold(id);
            }
            Decision::Settle(Settle::Retry { after }) if in_hand => {
                self.shared.retried_in_hand();
                self.hand.try_again_at(id, now + after);
            }
            Decision::Settle(settle) => self.settle(id, settle, 0),
        }
    }

    fn decide(&mut self, outcome: &Outcome<'_>) -> Decision {
        let own = self.decide.as_ref().and_then(|decide| {
            catch_unwind(AssertUnwindSafe(|| decide(outcome))).unwrap_or_else(|panic| {
                self.shared.panicked(&panic_message(&*panic));
                None
            })
        });
        match own {
            Some(Decision::Settle(settle)) => outcome.bounded(settle, &self.config),
            Some(Decision::Hold) => Decision::Hold,
            None => {
                let circumstances = Circumstances { halted: self.halt.is_on() };
                outcome.decide(&self.config, circumstances, &mut self.rng)
            }
        }
    }

    /// What this outcome says about the dependency.
    fn probed(&mut self, probe: bool, handled: Handled, decision: &Decision, now: Instant) {
        match (handled, decision) {
            (Handled::Verdict(verdict), Decision::Hold) => {
                self.halt.held(probe, verdict.retry_after(), now, &mut self.rng);
            }
            (Handled::Panicked, Decision::Hold) => self.halt.held(probe, None, now, &mut self.rng),
            (Handled::Verdict(Verdict::Success | Verdict::Permanent), _) if probe => {
                self.halt.probe_succeeded();
            }
            _ if probe => self.halt.probe_said_nothing(now),
            _ => {}
        }
    }

    // ---- Settling ----------------------------------------------------------------------------

    fn settle(&mut self, id: Id, settle: Settle, failures: u32) {
        let Some(mut delivery) = self.hand.settle(id, settle.clone(), failures) else { return };
        self.settling.push(Box::pin(async move {
            let result = delivery.settle(&settle).await;
            Settled { id, delivery, result }
        }));
    }

    fn settled(&mut self, settled: Settled<Src::Delivery>) {
        let Settled { id, delivery, result } = settled;
        let Some(entry) = self.hand.get_mut(id) else { return };
        let Stage::Settling { settle, failures } = entry.stage.clone() else { return };
        let error = match result {
            Ok(()) => {
                self.shared.settled(&settle);
                self.hand.remove(id);
                return;
            }
            Err(error) => error,
        };
        let failures = failures.saturating_add(1);
        let harmless = matches!(settle, Settle::Ack | Settle::Release);
        if error.kind() == SettleErrorKind::Lost {
            self.shared.lost(settle.as_str(), &error);
            self.hand.remove(id);
        } else if harmless && failures >= ACK_FAILURES {
            self.shared.unconfirmed(&settle, &error);
            self.hand.remove(id);
        } else {
            self.shared.error(format!("{}: {error}", settle.as_str()));
            let delay = self.config.reconnect_after.delay(failures - 1, &mut self.rng);
            self.hand.settle_again_at(id, delivery, failures, Instant::now() + delay);
        }
    }
}
