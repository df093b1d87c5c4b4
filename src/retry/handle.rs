use std::{borrow::Cow, fmt, time::Duration};

use super::{
    RetryBudget, RetryConfig, RetryLayer,
    operation::{Next, Operation, sleep},
};
use crate::{
    backoff::Backoff,
    cell,
    error::{ConfigError, StackError},
    sync::{AtomicU64, Ordering},
    telemetry::{
        Meter, RETRY, RETRY_BUDGET_DENIED, RETRY_EXHAUSTED, RETRY_NOT_IDEMPOTENT,
        RETRY_OUT_OF_TIME, RETRY_RETRIED, RETRY_RETRIED_ABOVE, RETRY_UNCLONEABLE,
    },
    verdict::{Classify, Errors, Verdict},
};

/// Repeats what failed in passing. See the [module page](super).
///
/// A handle: it copies for free, and all layers, services and calls made from it share its budget
/// and its counts. The state is kept for the life of the process, some 300 bytes (400 with feature
/// `metrics`) and the budget.
#[derive(Clone, Copy)]
pub struct Retry {
    cell: &'static RetryCell,
}

pub(super) struct RetryCell {
    pub(super) config: RetryConfig,
    pub(super) budget: Option<RetryBudget>,
    pub(super) meter: Meter,
    name: &'static str,
    /// By row of telemetry, from [`RETRY_RETRIED`] on.
    counts: [AtomicU64; 7],
}

impl RetryCell {
    /// An event of this row happened.
    pub(super) fn count(&self, row: usize) {
        self.counts[row - RETRY_RETRIED].fetch_add(1, Ordering::Relaxed);
        self.meter.count(row);
    }
}

impl fmt::Debug for RetryCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryCell").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Retry {
    /// Begins a retry policy. The name is the server's or the dependency's: it labels metrics.
    pub fn builder(name: impl Into<Cow<'static, str>>) -> RetryBuilder {
        RetryBuilder { name: name.into(), config: RetryConfig::default(), shared: None }
    }

    /// Makes a retry policy from its configuration, with a budget of its own if that has one.
    pub fn from_config(
        name: impl Into<Cow<'static, str>>,
        config: RetryConfig,
    ) -> Result<Self, ConfigError> {
        RetryBuilder { name: name.into(), config, shared: None }.build()
    }

    /// The name it was built with.
    pub const fn name(self) -> &'static str {
        self.cell.name
    }

    /// What it was built from. The budget is that of the shared one, where there is one.
    pub const fn config(self) -> &'static RetryConfig {
        &self.cell.config
    }

    /// Its budget, unless it was built without.
    pub const fn budget(self) -> Option<RetryBudget> {
        self.cell.budget
    }

    /// What it has done since it was built.
    pub fn counts(self) -> RetryCounts {
        let count = |row: usize| self.cell.counts[row - RETRY_RETRIED].load(Ordering::Relaxed);
        RetryCounts {
            retried: count(RETRY_RETRIED),
            exhausted: count(RETRY_EXHAUSTED),
            budget_denied: count(RETRY_BUDGET_DENIED),
            uncloneable: count(RETRY_UNCLONEABLE),
            out_of_time: count(RETRY_OUT_OF_TIME),
            not_idempotent: count(RETRY_NOT_IDEMPOTENT),
            retried_above: count(RETRY_RETRIED_ABOVE),
        }
    }

    /// The layer for a tower stack. As many as you like; they share this policy.
    pub const fn layer(self) -> RetryLayer {
        RetryLayer::new(self)
    }

    #[inline]
    pub(super) fn begin(self) -> Operation {
        Operation::begin(self.cell)
    }

    /// Repeats `operation` until it succeeds or there is reason to stop, and returns its last outcome
    /// unchanged. It is given the number of the attempt, from 1.
    ///
    /// Every error is transient, but for those of a policy within; see
    /// [`call_with`](Retry::call_with).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use buttress::{Error, Retry};
    ///
    /// let retry = Retry::builder("files").build()?;
    /// let answer = retry
    ///     .call(async |attempt: u32| match attempt {
    ///         1 => Err(Error::Service("connection reset")),
    ///         _ => Ok("hello"),
    ///     })
    ///     .await;
    /// assert_eq!(answer, Ok("hello"));
    /// # Ok(()) }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the attempt under way and makes no other. What the budget paid
    /// for an attempt that has begun is not paid back.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with time enabled, when it comes to wait for the first time.
    pub async fn call<F, Fut, T, E>(self, operation: F) -> Result<T, E>
    where
        F: FnMut(u32) -> Fut,
        Fut: Future<Output = Result<T, E>>,
        E: StackError,
    {
        self.call_with(Errors, operation).await
    }

    /// As [`call`](Retry::call), with a classifier that says which outcomes are worth a retry.
    ///
    /// # Panics
    ///
    /// As [`call`](Retry::call).
    pub async fn call_with<C, F, Fut, T, E>(self, classifier: C, mut operation: F) -> Result<T, E>
    where
        C: Classify<T, E>,
        F: FnMut(u32) -> Fut,
        Fut: Future<Output = Result<T, E>>,
        E: StackError,
    {
        let mut state = self.begin();
        loop {
            let outcome = operation(state.attempt()).await;
            let verdict = Verdict::of(&classifier, &outcome);
            let Next::Retry(delay) = state.after(verdict, &outcome, || Ok(None)) else {
                return outcome;
            };
            if delay.is_zero() {
                // Not again in this poll: an outer timeout, and other tasks, want their turn.
                tokio::task::yield_now().await;
            } else {
                sleep(delay).await;
            }
            if !state.start_another(None) {
                return outcome;
            }
        }
    }
}

impl fmt::Debug for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry")
            .field("name", &self.name())
            .field("config", self.config())
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}

/// What a [`Retry`] has done since it was built: retries, and operations that wanted one and got
/// none, by why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetryCounts {
    /// Attempts after the first.
    pub retried: u64,
    /// Operations whose last allowed attempt failed.
    pub exhausted: u64,
    /// Operations that the budget had no token for.
    pub budget_denied: u64,
    /// Operations whose request could not be copied.
    pub uncloneable: u64,
    /// Operations whose next attempt would have started after `max_elapsed`, or the caller's
    /// [deadline](crate::CallContext::deadline).
    pub out_of_time: u64,
    /// Operations whose request [must not be repeated](crate::Repeats) after such a failure, as it
    /// may have been executed.
    pub not_idempotent: u64,
    /// Operations that somebody above [repeats already](crate::CallContext::attempt).
    pub retried_above: u64,
}

/// Makes a [`Retry`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct RetryBuilder {
    name: Cow<'static, str>,
    config: RetryConfig,
    shared: Option<RetryBudget>,
}

impl RetryBuilder {
    /// Attempts in all, the first one included; at least 1, which is no retry.
    ///
    /// Default: 3. If each attempt fails independently one time in ten, three fail one time in a
    /// thousand. What still fails then is rarely helped by a fourth.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.config.max_attempts = attempts;
        self
    }

    /// How long to wait between attempts; a [`Duration`] is a constant one.
    ///
    /// Default: [`Backoff::default`], exponential from 50 ms with full jitter.
    pub fn backoff(mut self, backoff: impl Into<Backoff>) -> Self {
        self.config.backoff = backoff.into();
        self
    }

    /// The longest that a server's hint ([`Verdict::Throttled`]) is followed; a longer hint counts
    /// as this one. Zero follows none.
    ///
    /// The backoff comes on top of the hint.
    ///
    /// Default: 30 s, as the longest backoff: a wrong header must not park a call for a day.
    pub fn max_retry_after(mut self, max: Duration) -> Self {
        self.config.max_retry_after = max;
        self
    }

    /// No attempt starts this long after the operation began, or later; above 0.
    ///
    /// Checked before waiting, so that nobody waits for an attempt that is not made, and again
    /// right before the attempt, as the service may not have been ready at once. It does not end an
    /// attempt that is under way; a timeout does.
    ///
    /// Default: none. The number of attempts is a limit already, and a timeout above this layer
    /// ends the whole operation, waiting included.
    pub fn max_elapsed(mut self, max: Duration) -> Self {
        self.config.max_elapsed = Some(max);
        self
    }

    /// Draws on this budget instead of one of its own.
    ///
    /// Default: a budget of its own, made from [`RetryBudgetConfig`](super::RetryBudgetConfig)'s
    /// defaults: without one, retries multiply the load on a server that is failing from load.
    pub fn budget(mut self, budget: RetryBudget) -> Self {
        self.shared = Some(budget);
        self.config.budget = Some(*budget.config());
        self
    }

    /// Retries without a budget.
    ///
    /// Right where something else bounds the load, such as a job that runs once a night.
    ///
    /// Default: with one.
    pub fn without_budget(mut self) -> Self {
        self.shared = None;
        self.config.budget = None;
        self
    }

    /// Checks the configuration and makes the policy.
    pub fn build(self) -> Result<Retry, ConfigError> {
        let RetryBuilder { name, config, shared } = self;
        let name = cell::name(name);
        config.validate().map_err(|error| error.named(name))?;
        let budget = match (shared, config.budget) {
            (Some(shared), _) => Some(shared),
            (None, Some(own)) => Some(RetryBudget::from_config(name, own)?),
            (None, None) => None,
        };
        let meter = Meter::new(name, RETRY);
        let counts = std::array::from_fn(|_| AtomicU64::new(0));
        Ok(Retry { cell: cell::forever(RetryCell { config, budget, meter, name, counts }) })
    }
}
