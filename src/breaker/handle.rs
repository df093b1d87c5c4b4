use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use super::{
    CircuitBreakerBuilder, CircuitBreakerConfig, CircuitBreakerFuture, CircuitBreakerLayer, Permit,
    Probes, Snapshot, State, Subscription, Transition, attempt::Attempt, cell::BreakerCell,
    wait::turn, window::Counts,
};
use crate::{
    cell,
    clock::Tick,
    error::{ConfigError, PolicyError, StackError},
    sync::lock,
    verdict::{Classify, Errors},
};

/// A circuit breaker: the handle to one shared state.
///
/// Copies, layers and services made from it all see and change that one state. It lives as long as
/// the process; build it once. See the [module page](super) for the pattern.
#[derive(Clone, Copy)]
pub struct CircuitBreaker {
    pub(super) cell: &'static BreakerCell,
}

impl CircuitBreaker {
    /// Starts to build a breaker. The name is what errors, metrics and logs call it.
    ///
    /// Two breakers of one name are two breakers that telemetry cannot tell apart.
    pub fn builder(name: impl Into<Cow<'static, str>>) -> CircuitBreakerBuilder {
        CircuitBreakerBuilder::new(cell::name(name.into()))
    }

    /// Builds a breaker from a configuration that was made elsewhere.
    pub fn from_config(
        name: impl Into<Cow<'static, str>>,
        config: CircuitBreakerConfig,
    ) -> Result<Self, ConfigError> {
        let name = cell::name(name.into());
        config.validate().map_err(|error| error.named(name))?;
        Ok(CircuitBreaker { cell: cell::forever(BreakerCell::new(name, config)) })
    }

    /// The name it was built with.
    pub fn name(self) -> &'static str {
        self.cell.name
    }

    /// The configuration it was built with.
    pub fn config(self) -> &'static CircuitBreakerConfig {
        &self.cell.config
    }

    /// Memory this breaker takes for the life of the process, in bytes.
    ///
    /// 5 KiB with the defaults: 1 KiB for itself, 1 KiB for a window of 100 calls (8 bytes a call,
    /// rounded up to a power of two) and 3 KiB for the history of transitions. Where slow calls
    /// count there is a second window; a window of time takes nothing beyond the first KiB.
    pub fn bytes(self) -> usize {
        self.cell.bytes()
    }

    /// A layer that puts services behind this breaker.
    pub const fn layer(self) -> CircuitBreakerLayer {
        CircuitBreakerLayer::new(self)
    }

    // ---- Reading -------------------------------------------------------------------------------

    /// What the next call would meet. A pure read: it changes nothing, and costs a clock reading
    /// unless the circuit is closed.
    pub fn state(self) -> State {
        let gate = self.cell.gate();
        if gate.is_closed() { State::Closed } else { self.cell.look(Tick::now()).state }
    }

    /// Everything there is to know about it now, with the last transitions and their evidence.
    ///
    /// Takes the lock that transitions take, so it is not for the path of calls.
    pub fn snapshot(self) -> Snapshot {
        let cell = self.cell;
        let (look, since, outage, transitions, now) = {
            let ledger = lock(&cell.ledger);
            let now = Tick::now();
            let history = ledger.history.iter().cloned().collect();
            (cell.look(now), ledger.since, ledger.outage.clone(), history, now)
        };
        let generation = look.gate.generation();
        let passing = matches!(look.state, State::Closed | State::ForcedClosed) && !look.due;
        let counts = if passing { cell.failure_counts(generation, now) } else { Counts::default() };
        let opened = matches!(look.state, State::Open | State::HalfOpen | State::ForcedOpen);
        let waiting = matches!(look.state, State::Open | State::ForcedOpen);
        Snapshot {
            name: cell.name,
            state: look.state,
            generation,
            since: if look.due { look.since } else { since }
                .instant()
                .unwrap_or_else(tokio::time::Instant::now),
            ready_at: if waiting { look.until.instant() } else { None },
            calls: counts.calls,
            failures: counts.bad,
            slow: cell.slow_counts(generation, now).map(|slow| if passing { slow.bad } else { 0 }),
            consecutive_failures: if passing { cell.failures_in_a_row(generation) } else { 0 },
            probes: match look.state {
                // A phase that is only due has not had any.
                State::HalfOpen if look.due => Some(Probes::default()),
                State::HalfOpen => Some(Probes {
                    outstanding: look.gate.outstanding(),
                    succeeded: look.gate.succeeded(),
                    failed: look.gate.failed(),
                }),
                _ => None,
            },
            reason: opened.then(|| cell.open_reason(look)),
            shadow: cell.config.shadow,
            outage,
            transitions,
        }
    }

    /// Calls `callback` at every transition, until the subscription is dropped.
    ///
    /// It runs in a task or thread that causes a transition, outside of every lock, after the
    /// transition is in effect; so it may use the breaker, and it should not block. Transitions are
    /// told one after the other, in the order in which they were made; one that is made meanwhile,
    /// by another thread or by a callback, is told by whoever is at it. A callback that panics is
    /// caught.
    ///
    /// To await transitions, send them from here into a channel:
    ///
    /// ```
    /// # let breaker = buttress::CircuitBreaker::builder("orders").build()?;
    /// let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    /// let subscription = breaker.subscribe(move |transition| {
    ///     let _ = sender.send(transition.clone());
    /// });
    /// breaker.force_open("maintenance", None);
    /// assert_eq!(receiver.try_recv()?.to, buttress::breaker::State::ForcedOpen);
    /// # drop(subscription);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn subscribe(self, callback: impl Fn(&Transition) + Send + Sync + 'static) -> Subscription {
        self.cell.subscribers.add(Arc::new(callback))
    }

    // ---- Taking over ---------------------------------------------------------------------------

    /// Refuses every call, for a reason that is kept in the history.
    ///
    /// With `expiry` the breaker decides by itself again after that: it becomes half-open and
    /// probes. Without, it stays so until [`reset`](Self::reset) or
    /// [`force_closed`](Self::force_closed).
    pub fn force_open(self, reason: impl Into<Cow<'static, str>>, expiry: Option<Duration>) {
        self.cell.force(State::ForcedOpen, Some(reason.into()), expires(expiry));
    }

    /// Lets every call pass, whatever comes of it, for a reason that is kept in the history.
    ///
    /// Outcomes are still counted and shown. With `expiry` the breaker decides by itself again
    /// after that: it is closed, with an empty window. Without, it stays so until
    /// [`reset`](Self::reset) or [`force_open`](Self::force_open).
    pub fn force_closed(self, reason: impl Into<Cow<'static, str>>, expiry: Option<Duration>) {
        self.cell.force(State::ForcedClosed, Some(reason.into()), expires(expiry));
    }

    /// Closes the circuit with an empty window, and ends what was forced. The open time starts
    /// over as after a recovery; results of calls that are under way no longer count.
    pub fn reset(self) {
        self.cell.force(State::Closed, Some(Cow::Borrowed("reset")), Tick::NEVER);
    }

    // ---- Without tower -------------------------------------------------------------------------

    /// Makes a call, if the breaker lets it pass, and records what comes of it: `Ok` is a success,
    /// `Err` a failure.
    ///
    /// Nothing happens before the first poll. Dropped before it is ready it gives its probe back,
    /// like the future of a service.
    ///
    /// # Errors
    ///
    /// What `operation` returned, or the breaker's [`PolicyError`] turned into that type. Where
    /// the operation's error cannot be that, let it be [`Error`](crate::Error):
    ///
    /// ```
    /// # tokio_test::block_on(async {
    /// use buttress::{CircuitBreaker, Error};
    ///
    /// async fn fetch() -> Result<String, std::io::Error> {
    /// #   Ok(String::from("hello"))
    ///     // ...
    /// }
    ///
    /// let breaker = CircuitBreaker::builder("pages").build()?;
    /// let page = breaker.call(|| async { fetch().await.map_err(Error::Service) }).await?;
    /// # assert_eq!(page, "hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    pub async fn call<F, Fut, T, E>(self, operation: F) -> Result<T, E>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
        E: StackError,
    {
        self.call_with(Errors, operation).await
    }

    /// [`call`](Self::call), with a classifier of your own.
    pub async fn call_with<C, F, Fut, T, E>(self, classifier: C, operation: F) -> Result<T, E>
    where
        C: Classify<T, E>,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
        E: StackError,
    {
        let mut attempt = Attempt::admit(self.cell).map_err(PolicyError::from)?;
        let stopwatch = self.cell.meter.start();
        let inner = attempt.run(operation);
        CircuitBreakerFuture::running(inner, classifier, attempt, stopwatch).await
    }

    /// Leave to make one call now, for code that calls in its own way, synchronous code too.
    ///
    /// ```
    /// use buttress::{CircuitBreaker, Verdict};
    ///
    /// let breaker = CircuitBreaker::builder("disk").build()?;
    /// let permit = breaker.try_acquire()?;
    /// match std::fs::read("Cargo.toml") {
    ///     Ok(_) => permit.record(Verdict::Success),
    ///     Err(_) => permit.record(Verdict::Transient),
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_acquire(self) -> Result<Permit, PolicyError> {
        Ok(Permit::new(Attempt::admit(self.cell)?))
    }

    /// Waits until a call may pass, and gives leave to make it.
    ///
    /// Returns at once while the circuit is closed. Waiters are let through in order, while
    /// half-open no more of them than there are probes, so that a thousand tasks waiting here do
    /// not fall upon a service that is just coming back.
    ///
    /// Cancel safe: dropped, it leaves the queue to the next.
    pub async fn permitted(self) -> Permit {
        loop {
            let cell = self.cell;
            if (cell.gate().is_closed() || cell.config.shadow || cell.passes_freely(Tick::now()))
                && let Ok(permit) = self.try_acquire()
            {
                return permit;
            }
            // Kept until the permit is there: whoever is next looks only then.
            let _turn = turn(self.cell).await;
            if let Ok(permit) = self.try_acquire() {
                return permit;
            }
        }
    }
}

fn expires(expiry: Option<Duration>) -> Tick {
    expiry.map_or(Tick::NEVER, |expiry| Tick::now().after(expiry))
}

impl fmt::Debug for CircuitBreaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreaker")
            .field("name", &self.name())
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

impl PartialEq for CircuitBreaker {
    /// Whether both are handles to the same breaker.
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.cell, other.cell)
    }
}

impl Eq for CircuitBreaker {}
