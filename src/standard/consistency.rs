//! Whether the numbers of a standard stack fit each other.

use std::time::Duration;

use super::StandardConfig;
use crate::{
    breaker::{CircuitBreakerConfig, Window},
    error::ConfigError,
    fallback::FallbackConfig,
    retry::{RetryBudgetConfig, RetryConfig},
    timeout::TimeoutConfig,
};

/// The kind of policy, as errors name it.
const POLICY: &str = "standard stack";

/// How long it may take to see as many calls as a breaker needs for a decision. In an outage that
/// is how long it goes on calling.
const SLOWEST_DECISION: Duration = Duration::from_secs(300);

fn refuse(
    field: &'static str,
    rule: impl Into<String>,
    given: impl std::fmt::Debug,
) -> Result<(), ConfigError> {
    Err(ConfigError::new(POLICY, field, rule, given))
}

impl StandardConfig {
    /// Checks every part by itself, and that they fit each other. `build()` does this too.
    ///
    /// What is refused, beside fields out of their range:
    ///
    /// - attempts that do not fit into the operation: all of them at their full length, and the
    ///   longest waits between them, must take no longer than `timeout`; or else the last that starts
    ///   within `retry.max_elapsed`. (Hints of a server, `Retry-After`, come on top and are not known
    ///   here.)
    /// - retries without a budget, or without an `attempt_timeout` where there is a `timeout`: the
    ///   first attempt may then take all of the time.
    /// - a `retry.max_elapsed` of `timeout` or more, which never has an effect.
    /// - a breaker whose slow-call threshold, or `abandoned_after`, is not below the
    ///   `attempt_timeout`: no call ever takes that long.
    /// - a breaker whose half-open phase is over before its probes can have timed out.
    ///
    /// And where `expected_rate` is known, with what each of the `replicas` sees of it:
    ///
    /// - a breaker that its traffic does not give enough calls to decide on: fewer than `min_calls`
    ///   in a window of time, or in five minutes.
    /// - budgets that refill so fast that in an outage retries more than double the traffic.
    /// - probes of all replicas that add up to more calls than the traffic itself, so that an open
    ///   circuit would be no relief.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.timeout.as_ref().map_or(Ok(()), TimeoutConfig::validate)?;
        self.attempt_timeout.as_ref().map_or(Ok(()), TimeoutConfig::validate)?;
        self.fallback.as_ref().map_or(Ok(()), FallbackConfig::validate)?;
        self.retry.as_ref().map_or(Ok(()), RetryConfig::validate)?;
        self.breaker.as_ref().map_or(Ok(()), CircuitBreakerConfig::validate)?;
        if self.replicas == 0 {
            return refuse("replicas", "must be at least 1", self.replicas);
        }
        if let Some(rate) = self.expected_rate
            && !(rate > 0.0 && rate.is_finite())
        {
            return refuse("expected_rate", "must be above 0 and finite", rate);
        }
        let attempt = self.attempt_timeout.as_ref().map(|timeout| timeout.after);
        self.check_time(attempt)?;
        if let Some(retry) = &self.retry {
            self.check_retry(retry)?;
        }
        if let Some(breaker) = &self.breaker {
            if let Some(attempt) = attempt {
                check_breaker_times(breaker, attempt)?;
            }
            self.check_breaker_traffic(breaker)?;
        }
        Ok(())
    }

    /// Whether all attempts fit into the operation.
    fn check_time(&self, attempt: Option<Duration>) -> Result<(), ConfigError> {
        let Some(whole) = self.timeout.as_ref().map(|timeout| timeout.after) else {
            return Ok(());
        };
        let attempts = self.retry.as_ref().map_or(1, |retry| retry.max_attempts);
        let Some(attempt) = attempt else {
            if attempts > 1 {
                let rule = format!(
                    "must be set where {attempts} attempts are to fit into a timeout of {whole:?}: \
                     the first may take all of it"
                );
                return refuse("attempt_timeout", rule, false);
            }
            return Ok(());
        };
        if attempt > whole {
            let rule = format!("must be at most the {whole:?} of the whole operation");
            return refuse("attempt_timeout", rule, attempt);
        }
        let waits = self.retry.as_ref().map_or(Duration::ZERO, longest_waits);
        let mut longest = attempt.saturating_mul(attempts).saturating_add(waits);
        if let Some(max) = self.retry.as_ref().and_then(|retry| retry.max_elapsed) {
            // No attempt starts then or later, however many are left.
            longest = longest.min(max.saturating_add(attempt));
        }
        if longest > whole {
            let rule = format!(
                "must be at least the {longest:?} that {attempts} attempts of {attempt:?} and the \
                 waits between them may take"
            );
            return refuse("timeout", rule, whole);
        }
        Ok(())
    }

    fn check_retry(&self, retry: &RetryConfig) -> Result<(), ConfigError> {
        if retry.max_attempts == 1 {
            return Ok(());
        }
        let Some(budget) = &retry.budget else {
            let rule =
                "must be there, or retries multiply the load on a service that fails from load";
            return refuse("retry.budget", rule, false);
        };
        if let (Some(max), Some(whole)) = (retry.max_elapsed, &self.timeout)
            && max >= whole.after
        {
            let rule = format!("must be below the timeout of {:?} to have an effect", whole.after);
            return refuse("retry.max_elapsed", rule, max);
        }
        self.check_refill(budget)
    }

    fn check_refill(&self, budget: &RetryBudgetConfig) -> Result<(), ConfigError> {
        let Some(rate) = self.expected_rate else { return Ok(()) };
        let refill = budget.refill_per_second;
        if refill * f64::from(self.replicas) <= rate {
            return Ok(());
        }
        let most = rate / f64::from(self.replicas);
        let rule = format!(
            "must be at most {most:.3}: in an outage the {} replicas together would more than \
             double {rate} calls a second",
            self.replicas
        );
        refuse("retry.budget.refill_per_second", rule, refill)
    }

    /// Whether each replica sees enough of the traffic for its breaker, and whether the probes of
    /// all of them are less than that traffic.
    fn check_breaker_traffic(&self, breaker: &CircuitBreakerConfig) -> Result<(), ConfigError> {
        let Some(rate) = self.expected_rate else { return Ok(()) };
        let (share, replicas) = (rate / f64::from(self.replicas), f64::from(self.replicas));
        let within = match breaker.window {
            // It covers nine tenths of its length at the least.
            Window::Time(length) => length.min(SLOWEST_DECISION).mul_f64(0.9),
            Window::Calls(_) => SLOWEST_DECISION,
        };
        let calls = share * within.as_secs_f64();
        if calls < f64::from(breaker.min_calls) && breaker.consecutive_failures.is_none() {
            let rule = format!(
                "must be at most the {calls:.1} calls that a replica makes in {within:?} at {share} \
                 a second, or the circuit never opens in time"
            );
            return refuse("breaker.min_calls", rule, breaker.min_calls);
        }
        let open_for = breaker.open_for.delay_unjittered(0).as_secs_f64();
        let probing = f64::from(breaker.probes) * replicas / open_for;
        if probing > rate {
            let most = (rate * open_for / replicas).floor();
            let rule = format!(
                "must be at most {most}: the probes of {replicas} replicas every {open_for} s would \
                 be more than {rate} calls a second"
            );
            return refuse("breaker.probes", rule, breaker.probes);
        }
        Ok(())
    }
}

/// What a breaker waits for must be able to happen within an attempt.
fn check_breaker_times(
    breaker: &CircuitBreakerConfig,
    attempt: Duration,
) -> Result<(), ConfigError> {
    let rule = || format!("must be below the {attempt:?} at which an attempt is given up");
    if let Some(slow) = breaker.slow_calls
        && slow.threshold >= attempt
    {
        return refuse("breaker.slow_calls", rule(), slow.threshold);
    }
    if let Some(after) = breaker.abandoned_after
        && after >= attempt
    {
        return refuse("breaker.abandoned_after", rule(), after);
    }
    if breaker.half_open_for <= attempt {
        let rule = format!("must be above the {attempt:?} that a probe may take");
        return refuse("breaker.half_open_for", rule, breaker.half_open_for);
    }
    Ok(())
}

/// The waits between all attempts, each as long as its jitter allows.
fn longest_waits(retry: &RetryConfig) -> Duration {
    /// Past so many they count as the longest there can be, so that nobody waits for the sum.
    const ADDED_UP: u32 = 1000;
    let waits = retry.max_attempts - 1;
    let first = waits.min(ADDED_UP);
    let sum = (0..first).fold(Duration::ZERO, |sum, number| {
        sum.saturating_add(retry.backoff.longest_delay(number))
    });
    sum.saturating_add(retry.backoff.longest().saturating_mul(waits - first))
}
