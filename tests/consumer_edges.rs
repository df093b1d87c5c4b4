//! Consumers where it is tight: sources, handlers and settings at the edge of what is allowed.
#![cfg(feature = "consumer")]

use std::{
    collections::VecDeque,
    future::pending,
    panic::resume_unwind,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use buttress::{
    Backoff, BoxError, CircuitBreaker, Jitter, PolicyError, Verdict,
    consumer::{Consumer, Decision, Delivery, Handled, Running, Settle, SettleError, Source},
};
use tokio::time::{Instant, sleep, timeout};
use tower::service_fn;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

// ---- A broker that does what it is told ------------------------------------------------------

/// A queue of numbers. Clones are handles to the same one.
#[derive(Clone)]
struct Queue {
    prefetch: usize,
    extend_every: Option<Duration>,
    redelivers: bool,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<u32>,
    settled: Vec<(u32, Settle)>,
    paused: bool,
    ended: bool,
    /// Polls that fail, and how many did.
    failing: usize,
    failed: usize,
    polls_at_the_end: usize,
    /// Settlements that are not confirmed.
    unconfirmed: usize,
    /// Heartbeats that were begun.
    extended: usize,
    bug: Option<Bug>,
    waker: Option<Waker>,
}

/// What is wrong with the client.
#[derive(Clone, Copy, PartialEq)]
enum Bug {
    HeartbeatsNeverEnd,
    SettlementsPanic,
}

impl Queue {
    fn new(prefetch: usize) -> Self {
        Queue { prefetch, extend_every: None, redelivers: true, state: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn publish(&self, messages: impl IntoIterator<Item = u32>) {
        let mut state = self.state();
        state.waiting.extend(messages);
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }

    fn end(&self) {
        let mut state = self.state();
        state.ended = true;
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }

    fn settled(&self) -> Vec<(u32, Settle)> {
        self.state().settled.clone()
    }

    fn acked(&self) -> Vec<u32> {
        let acked = |(message, settle)| (settle == Settle::Ack).then_some(message);
        self.settled().into_iter().filter_map(acked).collect()
    }
}

impl Source for Queue {
    type Delivery = Letter;
    type Error = std::io::Error;

    fn prefetch(&self) -> usize {
        self.prefetch
    }

    fn extend_every(&self) -> Option<Duration> {
        self.extend_every
    }

    fn redelivers(&self) -> bool {
        self.redelivers
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        room: usize,
    ) -> Poll<Option<Result<Letter, std::io::Error>>> {
        let mut state = self.state();
        if state.failing > 0 {
            (state.failing, state.failed) = (state.failing - 1, state.failed + 1);
            return Poll::Ready(Some(Err(std::io::Error::other("the line is dead"))));
        }
        if room > 0
            && !state.paused
            && let Some(message) = state.waiting.pop_front()
        {
            return Poll::Ready(Some(Ok(Letter { message, queue: self.clone() })));
        }
        if state.ended && state.waiting.is_empty() {
            state.polls_at_the_end += 1;
            return Poll::Ready(None);
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn pause(&mut self) {
        self.state().paused = true;
    }

    fn resume(&mut self) {
        self.state().paused = false;
    }

    async fn close(&mut self) -> Result<(), std::io::Error> {
        Ok(())
    }
}

struct Letter {
    message: u32,
    queue: Queue,
}

impl Delivery for Letter {
    type Payload = u32;

    fn payload(&self) -> u32 {
        self.message
    }

    fn attempt(&self) -> Option<u32> {
        Some(1)
    }

    async fn settle(&mut self, settle: &Settle) -> Result<(), SettleError> {
        let mut state = self.queue.state();
        if state.bug == Some(Bug::SettlementsPanic) {
            drop(state);
            resume_unwind(Box::new("a bug of the client"));
        }
        if state.unconfirmed > 0 {
            state.unconfirmed -= 1;
            return Err(SettleError::unconfirmed("no answer"));
        }
        state.settled.push((self.message, settle.clone()));
        Ok(())
    }

    fn extend(&self) -> impl Future<Output = Result<(), SettleError>> + Send + 'static {
        let mut state = self.queue.state();
        state.extended += 1;
        let for_ever = state.bug == Some(Bug::HeartbeatsNeverEnd);
        async move {
            if for_ever {
                pending::<()>().await;
            }
            Ok(())
        }
    }
}

/// A breaker that opens at the second failure, for a second, and has one probe.
fn breaker() -> CircuitBreaker {
    CircuitBreaker::builder("edges")
        .min_calls(2)
        .probes(1)
        .open_for(Backoff::constant(SECOND).jitter(Jitter::None))
        .build()
        .unwrap()
}

/// Two failures.
fn trip(breaker: CircuitBreaker) {
    for _ in 0..2 {
        breaker.try_acquire().unwrap().record(Verdict::Transient);
    }
}

async fn ends(running: Running) -> buttress::consumer::Summary {
    let within = timeout(100 * SECOND, running.shutdown(SECOND));
    within.await.expect("the shutdown ends")
}

// ---- Handlers that are odd -------------------------------------------------------------------

/// Cannot be cloned when it is its turn.
struct Uncloneable {
    clones: Arc<AtomicUsize>,
    fails_at: usize,
}

impl Clone for Uncloneable {
    fn clone(&self) -> Self {
        if self.clones.fetch_add(1, Ordering::Relaxed) == self.fails_at {
            resume_unwind(Box::new("no clone today"));
        }
        Uncloneable { clones: Arc::clone(&self.clones), fails_at: self.fails_at }
    }
}

impl tower::Service<u32> for Uncloneable {
    type Response = ();
    type Error = BoxError;
    type Future = std::future::Ready<Result<(), BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: u32) -> Self::Future {
        std::future::ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_while_the_handler_is_cloned_is_one_of_its_message() {
    let queue = Queue::new(8);
    queue.publish(0..4);
    let handler = Uncloneable { clones: Arc::default(), fails_at: 1 };
    let consumer = Consumer::builder("edges").concurrency(1).build().unwrap();
    let running = consumer.start(queue.clone(), handler);
    sleep(SECOND).await;
    assert_eq!(queue.acked(), [0, 2, 3]);
    assert!(matches!(queue.settled()[1], (1, Settle::Retry { .. })));
    assert_eq!(ends(running).await.panicked, 1);
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_decision_is_one_of_the_handler_and_acks_nothing() {
    let queue = Queue::new(8);
    queue.publish([7]);
    let consumer = Consumer::builder("edges").decide(|_| resume_unwind(Box::new("undecided")));
    let handler = service_fn(async |_: u32| Ok::<(), BoxError>(()));
    let running = consumer.build().unwrap().start(queue.clone(), handler);
    sleep(SECOND).await;
    assert!(matches!(queue.settled()[..], [(7, Settle::Retry { .. })]), "{:?}", queue.settled());
    ends(running).await;
}

/// Its future panics when it is dropped before its end.
struct Indignant;

impl Drop for Indignant {
    fn drop(&mut self) {
        resume_unwind(Box::new("dropped"));
    }
}

/// It is the shutdown that made it panic, and not the message.
#[tokio::test(start_paused = true)]
async fn what_panics_because_it_is_dropped_at_the_end_is_given_back() {
    let queue = Queue::new(8);
    queue.publish([0, 1]);
    let handler = service_fn(async |_: u32| {
        let indignant = Indignant;
        pending::<()>().await;
        drop(indignant);
        Ok::<(), BoxError>(())
    });
    let consumer = Consumer::builder("edges").max_deliveries(1).build().unwrap();
    let running = consumer.start(queue.clone(), handler);
    sleep(SECOND).await;
    let summary = running.shutdown(Duration::ZERO).await;
    assert_eq!((summary.released, summary.dead_lettered), (2, 0), "{summary:?}");
}

// ---- Heartbeats ------------------------------------------------------------------------------

fn slow() -> impl tower::Service<u32, Response = (), Error = BoxError, Future: Send> + Clone + Send
{
    service_fn(async |_: u32| {
        sleep(10 * SECOND).await;
        Ok::<(), BoxError>(())
    })
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_that_never_ends_is_the_only_one_and_holds_up_nothing() {
    let mut queue = Queue::new(8);
    queue.extend_every = Some(SECOND);
    queue.state().bug = Some(Bug::HeartbeatsNeverEnd);
    queue.publish([0, 1, 2]);
    let consumer = Consumer::builder("edges").concurrency(1).build().unwrap();
    let running = consumer.start(queue.clone(), slow());
    sleep(15 * SECOND).await;
    assert_eq!((queue.acked(), queue.state().extended), (vec![0], 3));
    let begin = Instant::now();
    let summary = running.shutdown(60 * SECOND).await;
    assert_eq!((summary.acked, summary.released), (2, 1), "{summary:?}");
    assert_eq!(begin.elapsed(), 5 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn law_05_heartbeats_without_a_pause_do_not_spin() {
    for every in [Duration::ZERO, Duration::from_nanos(1)] {
        let mut queue = Queue::new(8);
        queue.extend_every = Some(every);
        queue.publish([0]);
        let consumer = Consumer::builder("edges").build().unwrap();
        let running = consumer.start(queue.clone(), slow());
        sleep(SECOND).await;
        assert!((1..=1000).contains(&queue.state().extended), "{}", queue.state().extended);
        ends(running).await;
    }
}

// ---- Delays without end ----------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn law_10_delays_without_end_do_not_overflow_the_clock() {
    let mut queue = Queue::new(8);
    (queue.redelivers, queue.extend_every) = (false, Some(Duration::MAX));
    queue.publish([0, 1]);
    let for_ever = Backoff::constant(Duration::MAX).jitter(Jitter::None);
    let consumer = Consumer::builder("edges")
        .retry_after(for_ever)
        .probe_after(for_ever)
        .decide(|outcome| {
            (outcome.reason == "0").then(|| Settle::Retry { after: Duration::MAX }.into())
        })
        .build()
        .unwrap();
    let handler = service_fn(async |message: u32| Err::<(), BoxError>(message.to_string().into()));
    let running = consumer.start(queue.clone(), handler);
    sleep(SECOND).await;
    assert_eq!(running.status().summary.retried_in_hand, 2);
    assert_eq!(ends(running).await.released, 2);
}

#[tokio::test(start_paused = true)]
async fn law_10_a_source_may_be_asked_again_never() {
    let queue = Queue::new(8);
    queue.state().failing = 2;
    let for_ever = Backoff::exponential(SECOND).max(Duration::MAX).jitter(Jitter::None);
    let consumer = Consumer::builder("edges").reconnect_after(for_ever).build().unwrap();
    let handler = service_fn(async |_: u32| Ok::<(), BoxError>(()));
    let running = consumer.start(queue.clone(), handler);
    sleep(10 * SECOND).await;
    assert_eq!(queue.state().failed, 2);
    ends(running).await;
    // And where that is the first delay.
    queue.state().failing = 1;
    let for_ever = Backoff::constant(Duration::MAX).jitter(Jitter::None);
    let consumer = Consumer::builder("edges").reconnect_after(for_ever).build().unwrap();
    let running = consumer.start(queue.clone(), handler);
    sleep(SECOND).await;
    ends(running).await;
}

#[test]
fn law_05_delays_that_never_grow_out_of_zero_are_none() {
    for zero in [
        Backoff::constant(Duration::ZERO),
        Backoff::linear(Duration::ZERO),
        Backoff::exponential(Duration::ZERO),
        Backoff::exponential(Duration::ZERO).jitter(Jitter::Decorrelated),
    ] {
        let probe = Consumer::builder("edges").probe_after(zero).build();
        assert!(probe.is_err(), "probe_after {zero:?}");
        let reconnect = Consumer::builder("edges").reconnect_after(zero).build();
        assert!(reconnect.is_err(), "reconnect_after {zero:?}");
    }
}

// ---- Probes that tell nothing ----------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn law_05_probes_that_never_reach_the_breaker_do_not_spin() {
    let (queue, breaker, calls) = (Queue::new(1), breaker(), Arc::new(AtomicUsize::new(0)));
    trip(breaker);
    queue.publish([0]);
    let count = Arc::clone(&calls);
    let handler = service_fn(move |_: u32| {
        let calls = count.fetch_add(1, Ordering::Relaxed);
        async move {
            // Without a pause between two of them no time would ever pass here.
            if calls > 1000 {
                pending::<()>().await;
            }
            Err::<(), BoxError>("it cannot even begin".into())
        }
    });
    let consumer = Consumer::builder("edges").gate(breaker).build().unwrap();
    let running = consumer.start(queue.clone(), handler);
    sleep(10 * SECOND).await;
    assert!((1..100).contains(&calls.load(Ordering::Relaxed)));
    ends(running).await;
}

#[tokio::test(start_paused = true)]
async fn law_05_probes_refused_by_another_policy_do_not_spin() {
    let (queue, breaker, calls) = (Queue::new(1), breaker(), Arc::new(AtomicUsize::new(0)));
    let other = CircuitBreaker::builder("another").build().unwrap();
    other.force_open("maintenance", None);
    trip(breaker);
    queue.publish([0]);
    let count = Arc::clone(&calls);
    let handler = service_fn(move |_: u32| {
        count.fetch_add(1, Ordering::Relaxed);
        let refused: Result<(), PolicyError> = other.try_acquire().map(drop);
        async move { refused.map_err(BoxError::from) }
    });
    let consumer = Consumer::builder("edges").gate(breaker).build().unwrap();
    let running = consumer.start(queue.clone(), handler);
    sleep(10 * SECOND).await;
    assert!((1..100).contains(&calls.load(Ordering::Relaxed)));
    ends(running).await;
}

#[tokio::test(start_paused = true)]
async fn law_05_what_is_held_undecoded_does_not_spin() {
    let (queue, calls) = (Queue::new(1), Arc::new(AtomicUsize::new(0)));
    queue.publish([0]);
    let count = Arc::clone(&calls);
    let decode = move |_: &u32| {
        count.fetch_add(1, Ordering::Relaxed);
        Err::<u32, _>("the schema registry is down")
    };
    let consumer = Consumer::builder("edges").decide(|outcome| {
        matches!(outcome.handled, Handled::Undecodable).then_some(Decision::Hold)
    });
    let handler = service_fn(async |_: u32| Ok::<(), BoxError>(()));
    let running = consumer.build().unwrap().start_decoded(queue.clone(), decode, handler);
    sleep(10 * SECOND).await;
    assert!((1..100).contains(&calls.load(Ordering::Relaxed)));
    assert!(running.status().paused_since.is_some());
    ends(running).await;
}

/// The only message in hand fails by itself, so something else must be pulled to find out.
async fn one_bad_message_does_not_hold_up_the_recovery(gate: bool, asks_breaker: bool) {
    let (queue, breaker) = (Queue::new(8), breaker());
    queue.publish([0]);
    let handler = service_fn(move |message: u32| async move {
        if message == 0 && !asks_breaker {
            return Err::<(), BoxError>("it cannot even begin".into());
        }
        let permit = breaker.try_acquire()?;
        if message == 0 {
            permit.record(Verdict::Transient);
            return Err("it fails for ever".into());
        }
        permit.record(Verdict::Success);
        Ok(())
    });
    trip(breaker);
    let consumer = Consumer::builder("edges").probe_after(SECOND);
    let consumer = if gate { consumer.gate(breaker) } else { consumer };
    let running = consumer.build().unwrap().start(queue.clone(), handler);
    sleep(3 * SECOND).await;
    queue.publish(1..5);
    sleep(20 * SECOND).await;
    let mut acked = queue.acked();
    acked.sort_unstable();
    assert_eq!(acked, [1, 2, 3, 4]);
    assert_eq!(running.status().paused_since, None);
    ends(running).await;
}

#[tokio::test(start_paused = true)]
async fn a_bad_message_alone_in_hand_opens_the_circuit_again_and_others_are_pulled() {
    one_bad_message_does_not_hold_up_the_recovery(true, true).await;
}

#[tokio::test(start_paused = true)]
async fn a_bad_message_alone_in_hand_never_asks_and_others_are_pulled() {
    one_bad_message_does_not_hold_up_the_recovery(true, false).await;
}

#[tokio::test(start_paused = true)]
async fn a_bad_message_alone_in_hand_and_no_gate_and_others_are_pulled() {
    one_bad_message_does_not_hold_up_the_recovery(false, true).await;
}

/// What is pulled because everything in hand has failed is the next probe, and not the last one.
#[tokio::test(start_paused = true)]
async fn what_is_pulled_for_a_probe_goes_before_many_that_failed() {
    let (queue, breaker) = (Queue::new(16), breaker());
    queue.publish(0..10);
    let handler = service_fn(move |message: u32| async move {
        let permit = breaker.try_acquire()?;
        if message < 10 {
            sleep(100 * MS).await;
            permit.record(Verdict::Transient);
            return Err::<(), BoxError>("it fails for ever".into());
        }
        permit.record(Verdict::Success);
        Ok(())
    });
    let consumer = Consumer::builder("edges").gate(breaker).build().unwrap();
    let running = consumer.start(queue.clone(), handler);
    // They fail at once, which opens the circuit, so all of them are held. Each probe costs a second.
    sleep(SECOND).await;
    assert_eq!((queue.settled().len(), running.status().in_hand), (0, 10));
    queue.publish(10..15);
    sleep(2 * SECOND).await;
    assert_eq!(queue.acked(), [10, 11, 12, 13, 14]);
    ends(running).await;
}

#[tokio::test(start_paused = true)]
async fn law_05_a_probe_that_hangs_before_it_asks_is_not_waited_for() {
    let (queue, breaker) = (Queue::new(8), breaker());
    trip(breaker);
    queue.publish([0]);
    let handler = service_fn(move |message: u32| async move {
        if message == 0 {
            pending::<()>().await;
        }
        breaker.try_acquire()?.record(Verdict::Success);
        Ok::<(), BoxError>(())
    });
    let consumer = Consumer::builder("edges").gate(breaker).build().unwrap();
    let running = consumer.start(queue.clone(), handler);
    sleep(1500 * MS).await;
    queue.publish([1, 2]);
    sleep(2 * SECOND).await;
    assert_eq!(queue.acked(), [1, 2]);
    ends(running).await;
}

// ---- The end ---------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn what_fails_during_a_shutdown_goes_back_with_the_others() {
    for redelivers in [true, false] {
        let mut queue = Queue::new(8);
        queue.redelivers = redelivers;
        queue.publish([0, 1, 2]);
        let handler = service_fn(async |message: u32| {
            sleep(2 * (message + 1) * SECOND).await;
            if message == 0 { Err(BoxError::from("refused")) } else { Ok(()) }
        });
        let consumer = Consumer::builder("edges").concurrency(2).decide(move |outcome| {
            (redelivers && outcome.reason == "refused").then_some(Decision::Hold)
        });
        let running = consumer.build().unwrap().start(queue.clone(), handler);
        sleep(SECOND).await;
        let summary = running.shutdown(60 * SECOND).await;
        assert_eq!((summary.acked, summary.released), (1, 2));
        assert_eq!(queue.settled()[0], (1, Settle::Ack), "given back while a handler runs");
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_broker_did_not_hear_is_said_once_more_at_the_end() {
    let queue = Queue::new(8);
    queue.state().unconfirmed = 1;
    queue.publish([0]);
    let minute = Backoff::constant(60 * SECOND).jitter(Jitter::None);
    let consumer = Consumer::builder("edges").reconnect_after(minute).build().unwrap();
    let handler = service_fn(async |_: u32| Ok::<(), BoxError>(()));
    let running = consumer.start(queue.clone(), handler);
    sleep(SECOND).await;
    assert_eq!(running.shutdown(SECOND).await.acked, 1);
}

// ---- Sources that are odd --------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn a_source_that_has_ended_is_not_asked_again() {
    let queue = Queue::new(8);
    queue.publish([0]);
    let handler = service_fn(async |_: u32| {
        sleep(30 * SECOND).await;
        Ok::<(), BoxError>(())
    });
    let consumer = Consumer::builder("edges").build().unwrap();
    let running = consumer.start(queue.clone(), handler);
    sleep(SECOND).await;
    queue.end();
    sleep(SECOND).await;
    assert!(running.status().stopping, "it is coming to its end");
    running.stop(60 * SECOND);
    assert_eq!(running.wait().await.acked, 1);
    assert_eq!(queue.state().polls_at_the_end, 1);
}

#[tokio::test(start_paused = true)]
async fn a_prefetch_of_none_is_one() {
    let queue = Queue::new(0);
    queue.publish([0, 1]);
    let consumer = Consumer::builder("edges").build().unwrap();
    let running = consumer.start(queue.clone(), slow());
    sleep(15 * SECOND).await;
    assert_eq!((queue.acked(), running.status().in_hand), (vec![0], 1));
    ends(running).await;
}

/// Always ready, and as much as one wants.
struct Fountain;

impl Source for Fountain {
    type Delivery = Splash;
    type Error = std::io::Error;

    fn prefetch(&self) -> usize {
        usize::MAX
    }

    fn poll_next(
        &mut self,
        _: &mut Context<'_>,
        _: usize,
    ) -> Poll<Option<Result<Splash, std::io::Error>>> {
        Poll::Ready(Some(Ok(Splash)))
    }

    fn pause(&mut self) {}

    fn resume(&mut self) {}

    async fn close(&mut self) -> Result<(), std::io::Error> {
        Ok(())
    }
}

struct Splash;

impl Delivery for Splash {
    type Payload = ();

    fn payload(&self) {}

    fn attempt(&self) -> Option<u32> {
        Some(1)
    }

    async fn settle(&mut self, _: &Settle) -> Result<(), SettleError> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn law_05_a_source_that_is_always_ready_lets_others_run() {
    let consumer = Consumer::builder("edges").build().unwrap();
    let handler = service_fn(async |()| Ok::<(), BoxError>(()));
    let running = consumer.start(Fountain, handler);
    let monitor = running.monitor();
    while monitor.status().summary.acked < 10 {
        tokio::task::yield_now().await;
    }
    ends(running).await;
}

/// Panics when it is asked.
struct Broken;

impl Source for Broken {
    type Delivery = Splash;
    type Error = std::io::Error;

    fn prefetch(&self) -> usize {
        1
    }

    fn poll_next(
        &mut self,
        _: &mut Context<'_>,
        _: usize,
    ) -> Poll<Option<Result<Splash, std::io::Error>>> {
        resume_unwind(Box::new("a bug of the client"))
    }

    fn pause(&mut self) {}

    fn resume(&mut self) {}

    async fn close(&mut self) -> Result<(), std::io::Error> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_a_panic_of_its_source_has_ended_does_not_look_alive() {
    let consumer = Consumer::builder("edges").build().unwrap();
    let running = consumer.start(Broken, service_fn(async |()| Ok::<(), BoxError>(())));
    let monitor = running.monitor();
    let start = Instant::now();
    let ended = tokio::spawn(running.wait()).await;
    assert!(ended.unwrap_err().is_panic());
    assert!(monitor.status().stopping);
    assert_eq!(Instant::now(), start);
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_a_settlement_ends_the_consumer_and_is_not_passed_over() {
    let queue = Queue::new(8);
    queue.state().bug = Some(Bug::SettlementsPanic);
    queue.publish([0, 1]);
    let consumer = Consumer::builder("edges").build().unwrap();
    let running = consumer.start(queue.clone(), service_fn(async |_: u32| Ok::<(), BoxError>(())));
    let monitor = running.monitor();
    let ended = tokio::spawn(running.wait()).await;
    assert!(ended.unwrap_err().is_panic());
    let status = monitor.status();
    assert!(status.stopping && status.in_hand == 0, "{status:?}");
    assert_eq!(status.summary.acked, 0);
}

#[tokio::test(start_paused = true)]
async fn a_gate_of_two_consumers_lets_both_go_on() {
    let breaker = breaker();
    let queues = [Queue::new(8), Queue::new(8)];
    let running = queues.clone().map(|queue| {
        queue.publish(0..20);
        let handler = service_fn(move |_: u32| async move {
            breaker.try_acquire()?.record(Verdict::Success);
            Ok::<(), BoxError>(())
        });
        let consumer = Consumer::builder("edges").gate(breaker).concurrency(2).build().unwrap();
        consumer.start(queue, handler)
    });
    trip(breaker);
    sleep(500 * MS).await;
    assert!(queues.iter().all(|queue| queue.acked().is_empty()));
    // There is one probe: whose ever it is, it closes the circuit for both.
    sleep(SECOND).await;
    assert!(queues.iter().all(|queue| queue.acked().len() == 20));
    for running in running {
        let summary = ends(running).await;
        assert_eq!(summary.delivered, 20, "no delivery was spent: {summary:?}");
    }
}
