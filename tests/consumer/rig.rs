//! A consumer, its broker in memory and a handler that does what a test says.

use std::{
    fmt,
    future::pending,
    panic::resume_unwind,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use buttress::{
    Backoff, CircuitBreaker, Error, Jitter, Verdict,
    breaker::CircuitBreakerService,
    consumer::{Consumer, ConsumerBuilder, Running},
};
use bytes::Bytes;
use tokio::time::{Instant, sleep};
use tower::{Layer, Service};

use crate::consumer_support::{
    ledger::{Ledger, Watched},
    memory::{Memory, MemorySource, Options},
    message::{Kind, Message, id_of},
};

pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// What a handler says that fails: what it means, and in which words.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Failed(pub(crate) Verdict, pub(crate) &'static str);

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.1)
    }
}

pub(crate) type Failure = Error<Failed>;

/// What one call does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    Succeed,
    Fail(Verdict),
    /// Fails, and says this.
    Say(Verdict, &'static str),
    /// Succeeds after that long.
    Take(Duration),
    /// Fails in passing after that long.
    FailAfter(Duration),
    Hang,
    /// Panics when it is polled.
    Panic,
    PanicInCall,
    /// Readiness fails, for the next call that is asked for.
    Unready,
    PanicInReadiness,
    /// Is not ready for that long.
    ReadyAfter(Duration),
}

impl Act {
    pub(crate) const TRANSIENT: Act = Act::Fail(Verdict::Transient);
}

/// What the handler went through.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Arc<Mutex<Lines>>);

#[derive(Debug, Default)]
struct Lines {
    /// Calls: when, and which message.
    calls: Vec<(Instant, u64)>,
    /// In the order in which they ended well.
    succeeded: Vec<u64>,
    /// Calls that were dropped before their end.
    dropped: Vec<u64>,
    running: usize,
    most_running: usize,
}

impl Log {
    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn calls(&self) -> Vec<u64> {
        self.lines().calls.iter().map(|(_, id)| *id).collect()
    }

    /// When this message was handled, each time.
    pub(crate) fn times(&self, id: u64) -> Vec<Instant> {
        let lines = self.lines();
        lines.calls.iter().filter(|call| call.1 == id).map(|(at, _)| *at).collect()
    }

    pub(crate) fn calls_of(&self, id: u64) -> usize {
        self.times(id).len()
    }

    pub(crate) fn succeeded(&self) -> Vec<u64> {
        self.lines().succeeded.clone()
    }

    pub(crate) fn dropped(&self) -> Vec<u64> {
        self.lines().dropped.clone()
    }

    pub(crate) fn running(&self) -> usize {
        self.lines().running
    }

    pub(crate) fn most_running(&self) -> usize {
        self.lines().most_running
    }
}

/// By message and how often it has been called before.
type Script = Arc<dyn Fn(u64, usize) -> Act + Send + Sync>;

/// Does what the script says, and insists on being called only where it was ready.
pub(crate) struct Handler {
    script: Script,
    log: Log,
    /// What the script says of readiness, for which there is no message yet.
    readiness: Arc<dyn Fn(usize) -> Act + Send + Sync>,
    waiting: Option<Pin<Box<tokio::time::Sleep>>>,
    ready: bool,
}

impl Handler {
    /// What is said of readiness, by how many calls there were before.
    pub(crate) fn readiness(self, act: impl Fn(usize) -> Act + Send + Sync + 'static) -> Self {
        Handler { readiness: Arc::new(act), ..self }
    }

    pub(crate) fn behind(
        self,
        breaker: CircuitBreaker,
    ) -> CircuitBreakerService<Handler, ClassifyFn> {
        breaker.layer().classify(verdict as ClassifyFn).layer(self)
    }
}

impl Clone for Handler {
    fn clone(&self) -> Self {
        let Handler { script, log, readiness, .. } = self;
        let (script, log, readiness) = (script.clone(), log.clone(), readiness.clone());
        Handler { script, log, readiness, waiting: None, ready: false }
    }
}

/// Notes a call that does not come to its end.
struct Unfinished {
    id: u64,
    log: Log,
    finished: bool,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let mut lines = self.log.lines();
        lines.running -= 1;
        if !self.finished {
            lines.dropped.push(self.id);
        }
    }
}

impl Service<Bytes> for Handler {
    type Response = ();
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        if let Some(waiting) = &mut self.waiting {
            std::task::ready!(waiting.as_mut().poll(cx));
        } else {
            let calls = self.log.lines().calls.len();
            match (self.readiness)(calls) {
                Act::Unready => {
                    let failed = Failed(Verdict::Transient, "not ready");
                    return Poll::Ready(Err(Error::Service(failed)));
                }
                Act::PanicInReadiness => resume_unwind(Box::new("not ready")),
                Act::ReadyAfter(wait) => {
                    self.waiting = Some(Box::pin(sleep(wait)));
                    return self.poll_ready(cx);
                }
                _ => {}
            }
        }
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, body: Bytes) -> Self::Future {
        assert!(self.ready, "called without being ready (law 1)");
        (self.ready, self.waiting) = (false, None);
        let id = id_of(&body);
        let act = (self.script)(id, self.log.calls_of(id));
        {
            let mut lines = self.log.lines();
            lines.calls.push((Instant::now(), id));
            lines.running += 1;
            lines.most_running = lines.most_running.max(lines.running);
        }
        let mut guard = Unfinished { id, log: self.log.clone(), finished: false };
        if let Act::PanicInCall = act {
            resume_unwind(Box::new("in call"));
        }
        Box::pin(async move {
            let outcome = match act {
                Act::Succeed => Ok(()),
                Act::Fail(verdict) => Err(Error::Service(Failed(verdict, "it failed"))),
                Act::Say(verdict, words) => Err(Error::Service(Failed(verdict, words))),
                Act::Take(long) => {
                    sleep(long).await;
                    Ok(())
                }
                Act::FailAfter(long) => {
                    sleep(long).await;
                    Err(Error::Service(Failed(Verdict::Transient, "it failed, slowly")))
                }
                Act::Hang => pending().await,
                Act::Panic => resume_unwind(Box::new("in the future")),
                other => panic!("{other:?} is no act of a call"),
            };
            guard.finished = true;
            if outcome.is_ok() {
                guard.log.lines().succeeded.push(id);
            }
            outcome
        })
    }
}

pub(crate) type ClassifyFn = fn(Result<&(), &Failure>) -> Verdict;

fn verdict(outcome: Result<&(), &Failure>) -> Verdict {
    match outcome {
        Ok(()) => Verdict::Success,
        Err(Error::Service(Failed(verdict, _))) => *verdict,
        Err(Error::Policy(_)) => unreachable!("policies speak for themselves"),
    }
}

/// Four at a time, three deliveries, one second between them, and no jitter anywhere.
pub(crate) fn consumer() -> ConsumerBuilder<ClassifyFn> {
    let exactly = |delay| Backoff::constant(delay).jitter(Jitter::None);
    Consumer::builder("test")
        .concurrency(4)
        .max_deliveries(3)
        .retry_after(exactly(SECOND))
        .probe_after(exactly(SECOND))
        .reconnect_after(exactly(SECOND))
        .classified(verdict as ClassifyFn)
}

/// One that opens at the second failure, for ten seconds, and probes with two.
pub(crate) fn breaker() -> CircuitBreaker {
    CircuitBreaker::builder("test")
        .min_calls(2)
        .failure_ratio(0.5)
        .open_for(Backoff::constant(10 * SECOND).jitter(Jitter::None))
        .probes(2)
        .build()
        .unwrap()
}

pub(crate) struct Rig {
    pub(crate) broker: Memory,
    pub(crate) ledger: Ledger,
    pub(crate) log: Log,
}

impl Rig {
    pub(crate) fn new(options: Options) -> Self {
        Rig { broker: Memory::new(options), ledger: Ledger::default(), log: Log::default() }
    }

    /// One with so many good messages, each with a key of its own.
    pub(crate) fn with(messages: u64) -> Self {
        let rig = Rig::new(Options::default());
        rig.broker.publish(Message::good(messages, messages));
        rig
    }

    pub(crate) fn publish(&self, id: u64, key: &str) {
        self.broker.publish([Message::new(id, key, Kind::Good)]);
    }

    pub(crate) fn source(&self) -> Watched<MemorySource> {
        Watched::new(self.broker.source(), &self.ledger, |body| id_of(body))
    }

    pub(crate) fn handler(
        &self,
        script: impl Fn(u64, usize) -> Act + Send + Sync + 'static,
    ) -> Handler {
        Handler {
            script: Arc::new(script),
            log: self.log.clone(),
            readiness: Arc::new(|_| Act::Succeed),
            waiting: None,
            ready: false,
        }
    }

    pub(crate) fn start(
        &self,
        consumer: ConsumerBuilder<ClassifyFn>,
        script: impl Fn(u64, usize) -> Act + Send + Sync + 'static,
    ) -> Running {
        consumer.build().unwrap().start(self.source(), self.handler(script))
    }

    /// Starts one whose handler is behind its gate.
    pub(crate) fn start_gated(
        &self,
        consumer: ConsumerBuilder<ClassifyFn>,
        breaker: CircuitBreaker,
        script: impl Fn(u64, usize) -> Act + Send + Sync + 'static,
    ) -> Running {
        let handler = self.handler(script).behind(breaker);
        consumer.gate(breaker).build().unwrap().start(self.source(), handler)
    }

    /// Ends the source when all is settled, and waits for that. For no more than an hour.
    pub(crate) async fn finish(&self, running: Running) -> buttress::consumer::Summary {
        self.broker.end();
        let ended = tokio::time::timeout(3600 * SECOND, running.wait()).await;
        self.ledger.assert_lawful();
        ended.expect("it comes to its end within an hour")
    }
}
