use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::stream::{FuturesUnordered, Stream};
use rand::{SeedableRng, rngs::StdRng};
use tokio::{
    sync::{futures::Notified, mpsc},
    task::{JoinError, JoinSet, coop::consume_budget},
    time::{Instant, Sleep},
};

use super::{
    Consumer, Delivery, Settle, SettleError, Source,
    config::{ConsumerConfig, Decide},
    halt::{Halt, Leave, ON_ITS_WAY, later},
    hand::{Entry, Hand, Id, Stage},
    handling::Finished,
    running::Shared,
};
use crate::breaker::CircuitBreaker;

mod react;

/// How long the broker has, after the deadline of a shutdown, to hear of the rest.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Moves deliveries from the source through the handler to their settlement: one task, one event at
/// a time.
pub(super) struct Driver<Src: Source, W> {
    config: ConsumerConfig,
    decide: Option<Decide>,
    /// Makes the future that handles one payload.
    work: W,
    shared: Arc<Shared>,

    source: Src,
    flow: Flow,
    hand: Hand<Src::Delivery>,
    halt: Halt,
    phase: Phase,

    handlers: JoinSet<Finished>,
    settling: Pending<Settled<Src::Delivery>>,
    extending: Pending<(Id, Result<(), SettleError>)>,
    /// Told when the gate changes; `None` when it has, or was never asked to.
    gate_changed: Option<Pin<Box<Notified<'static>>>>,
    stopped: Option<mpsc::UnboundedReceiver<Instant>>,
    timer: Pin<Box<Sleep>>,
    /// When heartbeats are due, while there is anything in hand.
    extend_at: Option<Instant>,
    rng: StdRng,
}

/// What the broker is being told.
type Pending<T> = FuturesUnordered<Pin<Box<dyn Future<Output = T> + Send>>>;

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
    /// Until when the last probe is taken to be on its way.
    probing_until: Option<Instant>,
    /// Whether it was a probe before.
    probes_again: bool,
    /// It has said that there will not be another delivery, and is not asked any more.
    ended: bool,
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

impl<Src, W, Fut> Driver<Src, W>
where
    Src: Source,
    W: FnMut(Id, <Src::Delivery as Delivery>::Payload) -> Fut + Send + 'static,
    Fut: Future<Output = Finished> + Send + 'static,
{
    pub(super) fn new<C>(
        consumer: &Consumer<C>,
        source: Src,
        work: W,
        shared: Arc<Shared>,
        stopped: mpsc::UnboundedReceiver<Instant>,
    ) -> Self {
        let Consumer { config, gate, decide, .. } = consumer;
        let (config, gate, decide) = (*config, *gate, decide.clone());
        Driver {
            config,
            decide,
            work,
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
            // A source that always has something, and room for it, must not keep others from running.
            consume_budget().await;
        }
        self.shared.stopping();
        // Handlers that do not stop when they are told to are left behind.
        self.handlers.detach_all();
        self.report_rest();
        match tokio::time::timeout(LAST_WORDS, self.source.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.shared.source_failed(Instant::now(), true, &error),
            Err(late) => self.shared.source_failed(Instant::now(), true, &late),
        }
    }

    /// What was not settled in time goes back to the broker by itself, and nobody can say when.
    fn report_rest(&mut self) {
        for id in self.hand.ids() {
            let settle = match self.hand.get(id).map(Entry::stage) {
                Some(Stage::Settling { settle, .. } | Stage::SettlingLater { settle, .. }) => {
                    settle
                }
                _ => &Settle::Release,
            };
            self.shared.unconfirmed(settle, &"the time for the shutdown was over");
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
            Leave::Free | Leave::Probes(_) => None,
        };
        // The probes that are on their way may never have reached the breaker.
        let probing = self.flow.probing_until.filter(|until| now < *until);
        let phase = match self.phase {
            Phase::Consuming | Phase::Ended => None,
            Phase::Draining { until } | Phase::LastWords { until } => Some(until),
        };
        [self.hand.next_due(), gate, probing, phase, self.extend_at, self.flow.ask_again]
            .into_iter()
            .flatten()
            .min()
    }

    /// What has waited long enough goes on.
    fn fall_due(&mut self, now: Instant) {
        let due = match self.phase {
            Phase::Draining { until } if now >= until => {
                self.handlers.abort_all();
                self.phase = Phase::LastWords { until: now + LAST_WORDS };
                // Whatever was put off: there may be no later.
                later(now, Duration::MAX)
            }
            Phase::Consuming | Phase::Ended | Phase::Draining { .. } | Phase::LastWords { .. } => {
                now
            }
        };
        if self.flow.ask_again.is_some_and(|at| at <= now) {
            self.flow.ask_again = None;
        }
        while let Some(id) = self.hand.due(due) {
            match self.hand.get(id).map(Entry::stage) {
                Some(Stage::SettlingLater { settle, failures, .. }) => {
                    let (settle, failures) = (settle.clone(), *failures);
                    self.settle(id, settle, failures);
                }
                _ => self.hand.wait_no_longer(id),
            }
        }
    }

    /// Hands out as much of what is ready as may be.
    fn start_ready(&mut self, now: Instant) -> Leave {
        if self.is_stopping() {
            self.give_back();
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

    /// One, for the next probe, where all that is in hand was a probe in vain, and one of those has just
    /// been tried again: what is in hand may be what fails, and then a recovery would never be noticed.
    fn wants_another(&self, now: Instant) -> usize {
        let probing = self.flow.probing_until.is_some_and(|until| now < until);
        let since = now.checked_sub(ON_ITS_WAY).unwrap_or(now);
        usize::from(probing && self.flow.probes_again && !self.hand.has_untried(since))
    }

    fn probes_on_their_way(&self, now: Instant) -> usize {
        match now.checked_sub(ON_ITS_WAY) {
            Some(since) => self.hand.probes_since(since),
            None => 0,
        }
    }

    /// Starts the next one that is ready. False if there is none.
    fn start_next(&mut self, probe: bool, now: Instant) -> bool {
        let next = if probe { self.hand.next_probe() } else { self.hand.next_ready() };
        let Some((id, entry)) = next.and_then(|id| Some((id, self.hand.get(id)?))) else {
            return false;
        };
        let (max, attempts, held) =
            (self.config.max_deliveries, entry.attempts(), entry.was_held());
        let Some(delivery) = &entry.delivery else { return false };
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
        // The handler and the classifier are cloned for it, which is the user's code as well.
        let work = catch_unwind(AssertUnwindSafe(|| (self.work)(id, delivery.payload())));
        let task = match work {
            Ok(work) => self.handlers.spawn(work),
            Err(panic) => self.handlers.spawn(async { resume_unwind(panic) }),
        };
        let task = task.id();
        self.hand.start(id, task, probe.then_some(now));
        if probe {
            self.halt.probing(now);
            self.flow.probing_until = Some(now + ON_ITS_WAY);
            self.flow.probes_again = held;
        }
        true
    }

    /// At the end, what is not being handled goes back to the broker; but not before all handlers have
    /// ended. Earlier, somebody else would get what stands behind a message that is being handled here,
    /// and the broker might hand it out to us again, who have asked for more than has come: that would be
    /// a delivery spent each time.
    fn give_back(&mut self) {
        if self.is_handling() {
            return;
        }
        while let Some(id) = self.hand.next_ready() {
            self.settle(id, Settle::Release, 0);
        }
    }

    /// Whether a handler runs that there is time for.
    fn is_handling(&self) -> bool {
        self.hand.running() > 0 && !matches!(self.phase, Phase::LastWords { .. })
    }

    fn is_stopping(&self) -> bool {
        matches!(self.phase, Phase::Draining { .. } | Phase::LastWords { .. })
    }

    /// Has the source pull or pause, and tells the world.
    fn steer(&mut self, leave: Leave, now: Instant) {
        let consuming = self.phase == Phase::Consuming;
        let room = self.source.prefetch().max(1).saturating_sub(self.hand.len());
        self.flow.room = match leave {
            _ if !consuming => 0,
            Leave::Free => room,
            // A probe is taken from what is in hand; only without that is there anything to pull.
            Leave::Probes(probes) if !self.hand.has_ready() => {
                let free = probes.saturating_sub(self.probes_on_their_way(now));
                room.min(free.max(self.wants_another(now)))
            }
            Leave::Probes(_) | Leave::None { .. } => room.min(self.wants_another(now)),
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
        let since = self.halt.since();
        if consuming && since != self.flow.halted_since {
            self.flow.halted_since = since;
            match since {
                Some(since) => {
                    let gate = self.halt.gate().map(CircuitBreaker::name);
                    self.shared.paused(since, gate, self.halt.why());
                }
                None => self.shared.goes_on(),
            }
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
        if now < *self.extend_at.get_or_insert(later(now, half)) {
            return;
        }
        self.extend_at = Some(later(now, half));
        for id in self.hand.ids() {
            let Some(entry) = self.hand.get_mut(id) else { continue };
            let Some(delivery) = &entry.delivery else { continue };
            // Where the broker does not listen, one that waits to be heard is enough.
            if !entry.extending && now.duration_since(entry.extended) >= half {
                (entry.extended, entry.extending) = (now, true);
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
        let has_more = match self.phase {
            Phase::Consuming => true,
            // While handlers run, its client may need the poll to stay alive.
            Phase::Draining { .. } | Phase::LastWords { .. } => self.is_handling(),
            Phase::Ended => false,
        };
        if self.flow.ended || self.flow.ask_again.is_some() || !has_more {
            return Poll::Pending;
        }
        self.source.poll_next(cx, self.flow.room).map(|next| match next {
            Some(Ok(delivery)) => Event::Delivered(delivery),
            Some(Err(error)) => Event::SourceFailed(error),
            None => Event::SourceEnded,
        })
    }
}

/// However it ends: with a panic of the source, with the runtime.
impl<Src: Source, W> Drop for Driver<Src, W> {
    fn drop(&mut self) {
        self.shared.stopping();
        self.shared.load(0, 0);
    }
}
