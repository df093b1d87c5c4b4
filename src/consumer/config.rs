use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use super::{Consumer, Decision, Outcome};
use crate::{
    backoff::{Backoff, Jitter},
    breaker::CircuitBreaker,
    cell,
    error::ConfigError,
    verdict::Errors,
};

/// The kind of thing, as errors name it.
const POLICY: &str = "consumer";

/// What a [`Consumer`] is made of, beside its gate and its functions, which are no data.
///
/// With feature `serde` every field is optional, an unknown one is an error, and durations are
/// written like `250ms` or `1m 30s`:
///
/// ```toml
/// concurrency = 8
/// max_deliveries = 10
/// retry_after = { base = "2s", max = "5m" }
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct ConsumerConfig {
    /// See [`ConsumerBuilder::concurrency`].
    pub concurrency: usize,
    /// See [`ConsumerBuilder::ordered`].
    pub ordered: bool,
    /// See [`ConsumerBuilder::max_deliveries`].
    pub max_deliveries: u32,
    /// See [`ConsumerBuilder::retry_after`].
    pub retry_after: Backoff,
    /// See [`ConsumerBuilder::probe_after`].
    pub probe_after: Backoff,
    /// See [`ConsumerBuilder::reconnect_after`].
    pub reconnect_after: Backoff,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        ConsumerConfig {
            concurrency: 16,
            ordered: false,
            max_deliveries: 5,
            retry_after: Backoff::exponential(Duration::from_secs(1)),
            probe_after: Backoff::exponential(Duration::from_millis(100))
                .max(Duration::from_secs(5))
                .jitter(Jitter::Equal),
            reconnect_after: Backoff::exponential(Duration::from_millis(100))
                .max(Duration::from_secs(10))
                .jitter(Jitter::Equal),
        }
    }
}

impl ConsumerConfig {
    /// Checks every field against its range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.concurrency == 0 {
            let rule = "must be at least 1, or nothing would be handled";
            return Err(ConfigError::new(POLICY, "concurrency", rule, self.concurrency));
        }
        if self.max_deliveries == 0 {
            let rule = "must be at least 1, or everything would be a dead letter";
            return Err(ConfigError::new(POLICY, "max_deliveries", rule, self.max_deliveries));
        }
        self.retry_after.validate(POLICY, "retry_after")?;
        for (field, backoff) in
            [("probe_after", &self.probe_after), ("reconnect_after", &self.reconnect_after)]
        {
            backoff.validate(POLICY, field)?;
            if backoff.delay_unjittered(0).is_zero() {
                let rule = "must be above zero, or it would be tried again without a pause";
                return Err(ConfigError::new(POLICY, field, rule, Duration::ZERO));
            }
        }
        Ok(())
    }
}

/// A function that overrides what becomes of a delivery.
pub(super) type Decide = Arc<dyn Fn(&Outcome<'_>) -> Option<Decision> + Send + Sync>;

/// Builds a [`Consumer`]; made by [`Consumer::builder`].
#[derive(Clone)]
#[must_use = "nothing is built until `build` is called"]
pub struct ConsumerBuilder<C = Errors> {
    name: Cow<'static, str>,
    config: ConsumerConfig,
    gate: Option<CircuitBreaker>,
    decide: Option<Decide>,
    classifier: C,
}

impl ConsumerBuilder {
    pub(super) fn new(name: Cow<'static, str>, config: ConsumerConfig) -> Self {
        ConsumerBuilder { name, config, gate: None, decide: None, classifier: Errors }
    }
}

impl<C> ConsumerBuilder<C> {
    /// How many handlers may run at one time; at least 1. No more than the source's
    /// [prefetch](super::Source::prefetch) ever do.
    ///
    /// Default: 16. Enough to hide the waiting of a handler that talks to a database, and few enough
    /// that a usual pool of connections serves them all.
    pub fn concurrency(mut self, handlers: usize) -> Self {
        self.config.concurrency = handlers;
        self
    }

    /// Handles messages of one [key](super::Delivery::ordering_key) one after the other, in the order
    /// in which they were delivered.
    ///
    /// One that fails blocks its key while it is tried again in hand: a delayed redelivery would let
    /// those behind it pass. It takes a place of the prefetch meanwhile, and so does each message of its key
    /// that comes behind it. When they have taken all places nothing is pulled, for other keys neither. So
    /// the [prefetch](super::Source::prefetch) wants to be larger than the number of messages that the keys in
    /// trouble at one time get while they wait.
    ///
    /// Default: off, because order costs concurrency, and a handler that can be called twice for one
    /// message seldom needs it.
    pub fn ordered(mut self) -> Self {
        self.config.ordered = true;
        self
    }

    /// After how many deliveries a message that goes on failing is a dead letter; at least 1.
    ///
    /// Counts the broker's deliveries, where it knows them, and what was tried again in hand. What a
    /// policy refused, and what failed while the [gate](Self::gate) was not closed, does not count. A message
    /// that arrives with a greater count is a dead letter unhandled: it may be the one
    /// that kills the process each time.
    ///
    /// Default: 5. With the default delays that is 15 seconds at most, and 7.5 on average, in which a passing
    /// trouble may pass. What takes longer is for the [gate](Self::gate) to notice before.
    pub fn max_deliveries(mut self, deliveries: u32) -> Self {
        self.config.max_deliveries = deliveries;
        self
    }

    /// How long a message that failed is kept back before its next delivery, by the number of those it
    /// had. A [throttled](crate::Verdict::Throttled) one waits for the hint if that is longer, up to an
    /// hour.
    ///
    /// Default: exponential from 1 s to 30 s with full jitter. A retry *inside* the handler's stack
    /// is for what passes in milliseconds; what is still failing after that is in no hurry.
    pub fn retry_after(mut self, backoff: impl Into<Backoff>) -> Self {
        self.config.retry_after = backoff.into();
        self
    }

    /// After a refusal by a policy that is not the [gate](Self::gate), and after a probe that failed before
    /// the gate heard of it: how long until one held message is tried again, by the number of those in a
    /// row. A refusal that says when to come back is believed up to the longest of these delays, which
    /// must be above zero.
    ///
    /// Default: exponential from 100 ms to 5 s, spread over the upper half. A refusal costs next to
    /// nothing, and 5 s is what one may wait for after a recovery.
    pub fn probe_after(mut self, backoff: impl Into<Backoff>) -> Self {
        self.config.probe_after = backoff.into();
        self
    }

    /// How long to wait before an unreachable broker is asked again, and before an unconfirmed
    /// settlement is repeated; above zero. An acknowledgement is repeated nine times, and then
    /// [counted](super::Summary::unconfirmed) and let go; a dead letter and a retry until the delivery is lost.
    ///
    /// Default: exponential from 100 ms to 10 s, spread over the upper half.
    pub fn reconnect_after(mut self, backoff: impl Into<Backoff>) -> Self {
        self.config.reconnect_after = backoff.into();
        self
    }

    /// Stops pulling while this breaker's circuit is open, and hands the handler no more messages than
    /// there are probes while it is half-open. It should be the breaker in the handler's own stack.
    ///
    /// While the circuit is not closed no failure spends a delivery: a probe that fails goes behind
    /// the other held messages, one of which is the next.
    ///
    /// Default: none. Refusals are noticed all the same, and then it is
    /// [`probe_after`](Self::probe_after) that says when to try again; the gate knows the time exactly,
    /// and keeps failed probes from spending deliveries.
    pub fn gate(mut self, breaker: CircuitBreaker) -> Self {
        self.gate = Some(breaker);
        self
    }

    /// Decides what becomes of a delivery; `None` leaves it to the default, which is the table on the
    /// [module page](super). What is decided is done: only a [`Retry`](super::Settle::Retry) beyond
    /// [`max_deliveries`](Self::max_deliveries) is a dead letter.
    ///
    /// A panic of this function is one of the handler.
    ///
    /// ```
    /// use buttress::consumer::{Consumer, Handled, Settle};
    ///
    /// // Whatever crashes the handler is looked at by a person, the first time.
    /// let consumer = Consumer::builder("orders")
    ///     .decide(|outcome| match outcome.handled {
    ///         Handled::Panicked => {
    ///             let reason = outcome.reason.to_owned().into();
    ///             Some(Settle::DeadLetter { reason }.into())
    ///         }
    ///         _ => None,
    ///     })
    ///     .build()?;
    /// # Ok::<(), buttress::ConfigError>(())
    /// ```
    pub fn decide(
        mut self,
        decide: impl Fn(&Outcome<'_>) -> Option<Decision> + Send + Sync + 'static,
    ) -> Self {
        self.decide = Some(Arc::new(decide));
        self
    }

    /// Reads the handler's outcomes with this classifier. It should be the one that the handler's
    /// [stack](crate::Stack::classified) has: the consumer cannot ask the stack, and what only that knows to be
    /// permanent is tried again.
    ///
    /// Default: [`Errors`], for which `Ok` is a success and `Err` transient.
    pub fn classified<K>(self, classifier: K) -> ConsumerBuilder<K> {
        let ConsumerBuilder { name, config, gate, decide, .. } = self;
        ConsumerBuilder { name, config, gate, decide, classifier }
    }

    /// Validates and builds. The name is kept for the life of the process.
    pub fn build(self) -> Result<Consumer<C>, ConfigError> {
        let name = cell::name(self.name);
        self.config.validate().map_err(|error| error.named(name))?;
        Ok(Consumer::new(name, self.config, self.gate, self.decide, self.classifier))
    }
}

impl<C> fmt::Debug for ConsumerBuilder<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsumerBuilder")
            .field("name", &self.name)
            .field("config", &self.config)
            .field("gate", &self.gate)
            .finish_non_exhaustive()
    }
}
