use std::{borrow::Cow, fmt};

use super::{
    bucket::{Bucket, TOKEN},
    budget_config::{Costs, RetryBudgetConfig},
};
use crate::{
    cell,
    clock::Tick,
    error::ConfigError,
    sync::{AtomicU64, Ordering},
    verdict::FailureKind,
};

/// How many retries a client may make, in proportion to its successes.
///
/// A token bucket: every success puts [`ratio`](RetryBudgetBuilder::ratio) of a token in, every
/// second [`refill_per_second`](RetryBudgetBuilder::refill_per_second), and an attempt after the
/// first takes at least one out. It never holds more than [`cap`](RetryBudgetBuilder::cap). So in
/// *every* interval of time, however long or short,
///
/// > extra attempts ≤ cap + refill + ratio × successes
///
/// and a dead server sees hardly more than a client without retries would send (law 7). Time is
/// counted in whole milliseconds.
///
/// A [`Retry`](super::Retry) makes one of its own unless it is told otherwise. Share one between
/// policies that call the same server by different ways; successes of either pay for both.
///
/// Lock-free: one word, changed by a compare-and-swap that both decides and takes, so that no
/// token is spent twice however many threads there are. A success into a full budget writes
/// nothing. 120 bytes, kept for the life of the process.
///
/// ```
/// use buttress::{FailureKind, retry::RetryBudget};
///
/// let budget = RetryBudget::builder("payments").cap(2.0).refill_per_second(0.0).build()?;
/// assert!(budget.try_withdraw(FailureKind::Failed));
/// assert!(budget.try_withdraw(FailureKind::Failed));
/// assert!(!budget.try_withdraw(FailureKind::Failed), "empty");
/// for _ in 0..5 {
///     budget.deposit(); // 0.2 each
/// }
/// assert!(budget.try_withdraw(FailureKind::Failed));
/// # Ok::<(), buttress::ConfigError>(())
/// ```
///
/// The idea is Finagle's `RetryBudget` and gRPC's retry throttling (gRFC A6), the costs by kind of
/// failure are those of the AWS SDKs' standard retry mode.
#[derive(Clone, Copy)]
pub struct RetryBudget {
    cell: &'static BudgetCell,
}

struct BudgetCell {
    word: AtomicU64,
    bucket: Bucket,
    costs: Costs,
    name: &'static str,
    config: RetryBudgetConfig,
}

impl RetryBudget {
    /// Begins a budget. The name is the server's or the dependency's.
    pub fn builder(name: impl Into<Cow<'static, str>>) -> RetryBudgetBuilder {
        RetryBudgetBuilder { name: name.into(), config: RetryBudgetConfig::default() }
    }

    /// Makes a budget from its configuration. It starts full.
    pub fn from_config(
        name: impl Into<Cow<'static, str>>,
        config: RetryBudgetConfig,
    ) -> Result<Self, ConfigError> {
        let name = cell::name(name.into());
        config.validate().map_err(|error| error.named(name))?;
        let bucket = config.bucket();
        let word = AtomicU64::new(bucket.full(now_ms()));
        let cell = BudgetCell { word, bucket, costs: config.costs(), name, config };
        Ok(RetryBudget { cell: cell::forever(cell) })
    }

    /// The name it was built with.
    pub const fn name(self) -> &'static str {
        self.cell.name
    }

    /// What it was built from.
    pub const fn config(self) -> &'static RetryBudgetConfig {
        &self.cell.config
    }

    /// The tokens there are now.
    pub fn tokens(self) -> f64 {
        let word = self.cell.word.load(Ordering::Acquire);
        self.cell.bucket.tokens(word, now_ms()) as f64 / TOKEN as f64
    }

    /// The tokens in the word. [`tokens`](Self::tokens) would not show that it holds too many.
    #[cfg(all(test, buttress_loom))]
    pub(super) fn stored(self) -> f64 {
        Bucket::at_least(self.cell.word.load(Ordering::Acquire)) as f64 / TOKEN as f64
    }

    /// A success: puts [`ratio`](RetryBudgetBuilder::ratio) of a token in.
    ///
    /// [`Retry`](super::Retry) does this by itself. Reads no clock, and writes nothing while the
    /// budget is full.
    #[inline]
    pub fn deposit(self) {
        // Relaxed: the word is all there is to see. The time stamp in it is handed on unread, and
        // a compare-and-swap keeps up the order that its writer made with its release.
        let word = self.cell.word.load(Ordering::Relaxed);
        if let Some(after) = self.cell.bucket.deposit(word) {
            self.deposit_contended(word, after);
        }
    }

    #[cold]
    fn deposit_contended(self, mut word: u64, mut after: u64) {
        let cell = self.cell;
        while let Err(now) =
            cell.word.compare_exchange_weak(word, after, Ordering::Relaxed, Ordering::Relaxed)
        {
            word = now;
            match cell.bucket.deposit(word) {
                Some(next) => after = next,
                None => return,
            }
        }
    }

    /// Takes the price of an attempt after this kind of failure, if it is there.
    ///
    /// Call it right before the attempt starts, and give nothing back once it has.
    pub fn try_withdraw(self, kind: FailureKind) -> bool {
        let cell = self.cell;
        let cost = cell.costs.of(kind);
        let mut word = cell.word.load(Ordering::Acquire);
        loop {
            // The clock is read after the word, in every round, and the word is released after
            // its clock was read: so this reading is never older than the stamp in the word.
            let Some(after) = cell.bucket.withdraw(word, now_ms(), cost) else { return false };
            match cell.word.compare_exchange_weak(word, after, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
    }

    /// Whether [`try_withdraw`](RetryBudget::try_withdraw) would succeed now. Takes nothing: by
    /// the time of the attempt somebody else may have.
    pub fn peek(self, kind: FailureKind) -> bool {
        self.holds(self.cell.costs.of(kind))
    }

    /// Whether there is enough for an attempt after the cheapest kind of failure.
    #[inline]
    pub(super) fn pays_for_any(self) -> bool {
        self.holds(self.cell.costs.cheapest)
    }

    #[inline]
    fn holds(self, cost: u64) -> bool {
        // Without a clock where what is there suffices, whatever time has added.
        let word = self.cell.word.load(Ordering::Acquire);
        Bucket::at_least(word) >= cost || self.cell.bucket.tokens(word, now_ms()) >= cost
    }
}

impl fmt::Debug for RetryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryBudget")
            .field("name", &self.name())
            .field("tokens", &self.tokens())
            .field("config", self.config())
            .finish()
    }
}

fn now_ms() -> u64 {
    Tick::now().bits() / 1_000_000
}

/// Makes a [`RetryBudget`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct RetryBudgetBuilder {
    name: Cow<'static, str>,
    config: RetryBudgetConfig,
}

impl RetryBudgetBuilder {
    /// Tokens a success puts in: 0, or 0.000001 to 1.
    ///
    /// Default: 0.2, as in Finagle and Linkerd. Pays for every retry of a service that fails one
    /// call in ten (which takes 0.11 a success), and for none of one that fails them all. What
    /// retries add to the load of a service that is partly failing is then at most a fifth.
    pub fn ratio(mut self, ratio: f64) -> Self {
        self.config.ratio = ratio;
        self
    }

    /// Tokens that every second puts in: 0, or 0.001 to 100 000; above 0 where the ratio is 0.
    ///
    /// Default: 1. The small reserve of a quiet client: one that makes three calls a minute would
    /// otherwise wait minutes for the token of its next retry. One extra attempt a second and
    /// process harms no server.
    pub fn refill_per_second(mut self, tokens: f64) -> Self {
        self.config.refill_per_second = tokens;
        self
    }

    /// The most tokens there can be, and what a new budget starts with: 1 to 100 000, and at least the
    /// costs, of which [`timed_out_cost`](Self::timed_out_cost) is 2 unless told.
    ///
    /// Default: 10, as gRPC proposes. Enough that the restart of one backend, which fails some calls
    /// at once, is ridden out; small enough that a quiet day banks no storm: whatever came before,
    /// an outage begins with at most 10 extra attempts per budget. Raise it with the traffic, to
    /// about the calls of a tenth of a second, so that it lasts until the first deposits.
    pub fn cap(mut self, tokens: f64) -> Self {
        self.config.cap = tokens;
        self
    }

    /// What an attempt after a plain failure, or a failed connection, costs, in tokens: 1 to the cap.
    ///
    /// Default: 1, which makes the other numbers readable as numbers of retries.
    pub fn failed_cost(mut self, tokens: f64) -> Self {
        self.config.failed_cost = tokens;
        self
    }

    /// What an attempt after a timeout costs, in tokens: 1 to the cap.
    ///
    /// Default: 2. A call that timed out has held its resources for the longest time there is, may
    /// still be executing, and is the surest sign of overload. The AWS SDKs charge double as well.
    pub fn timed_out_cost(mut self, tokens: f64) -> Self {
        self.config.timed_out_cost = tokens;
        self
    }

    /// What an attempt after "too much" (a 429) costs, in tokens: 1 to the cap.
    ///
    /// Default: 1. The server turned the call away at its door, which is cheap, and the retry
    /// keeps to the time the server asked for.
    pub fn throttled_cost(mut self, tokens: f64) -> Self {
        self.config.throttled_cost = tokens;
        self
    }

    /// Checks the configuration and makes the budget. It starts full.
    pub fn build(self) -> Result<RetryBudget, ConfigError> {
        RetryBudget::from_config(self.name, self.config)
    }
}
