use std::time::Duration;

use super::{
    Abandoned, CircuitBreaker, CircuitBreakerConfig, SlowCalls, WhenOpen, Window,
    keyed::{Key, KeyedCircuitBreaker},
};
use crate::{backoff::Backoff, error::ConfigError};

/// Builds a [`CircuitBreaker`]; made by [`CircuitBreaker::builder`].
#[derive(Clone, Debug)]
#[must_use = "nothing is built until `build` is called"]
pub struct CircuitBreakerBuilder {
    name: &'static str,
    config: CircuitBreakerConfig,
}

impl CircuitBreakerBuilder {
    pub(super) fn new(name: &'static str) -> Self {
        CircuitBreakerBuilder { name, config: CircuitBreakerConfig::default() }
    }

    /// Which calls the breaker looks at: the last N, or those of the last T.
    ///
    /// Default: the last 100 calls. Large enough that chance alone does not trip it (see the table
    /// on the [module page](super)), small enough to notice an outage within 50 failures.
    pub const fn window(mut self, window: Window) -> Self {
        self.config.window = window;
        self
    }

    /// The share of failures in the window at which the circuit opens; above 0 and at most 1.
    ///
    /// Compared without rounding whenever a failure is recorded, never on a success: 99 of 200 is
    /// below 0.5, and 7 of 100 reaches 0.07.
    ///
    /// Default: 0.5. A service that fails every second call is of no use to anybody; below that,
    /// retries still help, and above that they only add to the load.
    pub const fn failure_ratio(mut self, ratio: f64) -> Self {
        self.config.failure_ratio = ratio;
        self
    }

    /// How many completed calls the window must hold before its shares mean anything; at least 1,
    /// and at most the size of a window of calls. The same for failures and for slow calls.
    ///
    /// Default: 20. At a true error rate of 10 %, ten failures in the first twenty calls come about
    /// once in 140 000 starts; with five calls, three failures come in every hundredth.
    pub const fn min_calls(mut self, calls: u32) -> Self {
        self.config.min_calls = calls;
        self
    }

    /// Opens the circuit after this many failures one after the other, whatever the share; at
    /// least 1.
    ///
    /// Throttled calls neither add to the row nor end it.
    ///
    /// Default: off. It answers faster than a share of the window when everything fails, but a
    /// small number trips by chance: at an error rate of 10 % a row of five comes every 111 000
    /// calls.
    pub const fn consecutive_failures(mut self, failures: u32) -> Self {
        self.config.consecutive_failures = Some(failures);
        self
    }

    /// Opens the circuit when at least this share of the calls in the window took `threshold` or
    /// longer, whatever came of them; the share above 0 and at most 1.
    ///
    /// A probe that is slow counts as failed: a service that is back but slow is not back.
    ///
    /// Default: off, because what is slow only you can know. Costs two readings of the clock per
    /// call.
    pub const fn slow_calls(mut self, threshold: Duration, ratio: f64) -> Self {
        self.config.slow_calls = Some(SlowCalls { threshold, ratio });
        self
    }

    /// How long the circuit stays open before it probes: a duration, or a backoff that grows with
    /// each opening in a row and starts over after a recovery. Above zero.
    ///
    /// Unless the backoff says otherwise it is spread over `[half, whole]`
    /// ([`Jitter::Equal`](crate::Jitter::Equal)), so that a fleet does not probe in step. For an
    /// exact time: `Backoff::constant(time).jitter(Jitter::None)`.
    ///
    /// Default: exponential from 5 s to at most 60 s. Five seconds outlast a restart of most
    /// services; a minute is how long a recovery may go unnoticed at worst.
    pub fn open_for(mut self, open_for: impl Into<Backoff>) -> Self {
        self.config.open_for = open_for.into();
        self
    }

    /// How many probes a half-open phase has, at the same time and in all; 1 to 255.
    ///
    /// Default: 3. One alone is decided by chance where some calls always fail; more than a few are
    /// a burden to a service that is just coming back.
    pub const fn probes(mut self, probes: u32) -> Self {
        self.config.probes = probes;
        self
    }

    /// The share of the probes that must succeed to close the circuit; above 0 and at most 1.
    ///
    /// Decided as soon as it is certain, either way: with 3 probes and 0.5, two successes close it
    /// and two failures open it again, whatever the third does.
    ///
    /// Default: 0.5, the other side of the default failure ratio.
    pub const fn success_ratio(mut self, ratio: f64) -> Self {
        self.config.success_ratio = ratio;
        self
    }

    /// How long probes may be under way without a sign of life: if for this long none of those
    /// under way has come back, the circuit opens again, for longer. Without any probe under way it
    /// stays half-open. Above zero.
    ///
    /// Default: 30 s, longer than any sensible timeout. This is only what saves a breaker over a
    /// service without one.
    pub const fn half_open_for(mut self, deadline: Duration) -> Self {
        self.config.half_open_for = deadline;
        self
    }

    /// What a call means that is dropped before it has an outcome: by a timeout *outside* of the
    /// breaker, by a `select!`, by a client that hung up.
    ///
    /// A panic is a failure in any case.
    ///
    /// Default: [`Abandoned::Ignore`], because a caller that goes away says nothing about the
    /// service. Where the only timeout is outside of the breaker that hides a dead service; put a
    /// timeout inside, or say how long is too long with
    /// [`abandoned_after`](Self::abandoned_after).
    pub const fn abandoned(mut self, abandoned: Abandoned) -> Self {
        self.config.abandoned = abandoned;
        self
    }

    /// A call given up after this long or longer is a failure; a younger one is the caller's own
    /// business. Above zero.
    ///
    /// Default: off. Costs a reading of the clock per call.
    pub const fn abandoned_after(mut self, age: Duration) -> Self {
        self.config.abandoned_after = Some(age);
        self
    }

    /// What callers meet while the circuit is open: an error at once, or a service that is not
    /// ready until calls may pass again.
    ///
    /// Waiting is for balancers, which go elsewhere, and for consumers, which should hold what
    /// they have. Waiters pass in order, no more of them than there are probes; a probe put aside
    /// for one that says it is ready lapses after a second if it does not call.
    ///
    /// Default: [`WhenOpen::Refuse`], because a caller with a person waiting wants to know.
    pub const fn when_open(mut self, when_open: WhenOpen) -> Self {
        self.config.when_open = when_open;
        self
    }

    /// Decides, counts and reports as always, but refuses nothing: to try a configuration on
    /// production traffic. What would have been refused is counted as a rejection with reason
    /// `shadow`.
    ///
    /// Default: off.
    pub const fn shadow(mut self) -> Self {
        self.config.shadow = true;
        self
    }

    /// Builds the breaker, which then lives as long as the process.
    pub fn build(self) -> Result<CircuitBreaker, ConfigError> {
        CircuitBreaker::from_config(self.name, self.config)
    }

    /// Builds a [breaker for each of many keys](super::keyed), of which at most `places` have one at
    /// a time; 1 to 65 536.
    ///
    /// No default: it is as many keys as there can be at the same time, if you know, and else what
    /// the memory is worth, at [about 2 KiB a place](super::keyed#what-it-costs) and three times that
    /// for one that has opened.
    ///
    /// [`when_open`](Self::when_open) must be [`WhenOpen::Refuse`]: a key is known only with the
    /// request, so nobody can wait for its circuit before that.
    pub fn build_keyed<K: Key>(self, places: usize) -> Result<KeyedCircuitBreaker<K>, ConfigError> {
        KeyedCircuitBreaker::from_config(self.name, self.config, places)
    }
}
