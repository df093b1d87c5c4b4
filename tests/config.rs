//! Every rule of every configuration with its message, the edges that are inside of the rules, and
//! the defaults.
#![allow(missing_docs)]

use std::{fmt::Debug, future::pending, time::Duration};

use buttress::{
    Backoff, CircuitBreaker, CircuitBreakerConfig, ConfigError, Error, FailureKind, Fallback,
    FallbackConfig, Jitter, Retry, RetryBudget, RetryConfig, Timeout, TimeoutConfig, Verdict,
    VerdictKind, Window,
    breaker::{Abandoned, CircuitBreakerBuilder, State, WhenOpen},
    fallback::FallbackBuilder,
    retry::{RetryBudgetBuilder, RetryBudgetConfig, RetryBuilder},
};
use tokio::time::advance;

const ZERO: Duration = Duration::ZERO;
const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Each is refused by `build` with exactly this, told of the policy named `x`.
fn refused<P: Debug, const N: usize>(table: [(Result<P, ConfigError>, &str); N]) {
    for (built, expected) in table {
        assert_eq!(built.unwrap_err().to_string(), expected);
    }
}

fn breaker(set: impl FnOnce(CircuitBreakerBuilder) -> CircuitBreakerBuilder) -> BreakerResult {
    set(CircuitBreaker::builder("x")).build()
}

type BreakerResult = Result<CircuitBreaker, ConfigError>;

#[test]
fn breaker_windows() {
    let window = |window: Window| breaker(|x| x.window(window).min_calls(1));
    refused([
        (
            window(Window::calls(0)),
            "circuit breaker \"x\": window must be from 1 to 1024 calls, but is 0",
        ),
        (
            window(Window::calls(1025)),
            "circuit breaker \"x\": window must be from 1 to 1024 calls, but is 1025",
        ),
        (
            window(Window::time(ZERO)),
            "circuit breaker \"x\": window must be at least 10ms, but is 0ns",
        ),
        (
            window(Window::time(MS)),
            "circuit breaker \"x\": window must be at least 10ms, but is 1ms",
        ),
        (
            window(Window::time((10 * MS).saturating_sub(Duration::from_nanos(1)))),
            "circuit breaker \"x\": window must be at least 10ms, but is 9.999999ms",
        ),
        (
            breaker(|x| x.window(Window::calls(10)).min_calls(11)),
            "circuit breaker \"x\": min_calls must be from 1 to the 10 calls of the window, but is 11",
        ),
        (
            breaker(|x| x.window(Window::calls(10))),
            "circuit breaker \"x\": min_calls must be from 1 to the 10 calls of the window, but is 20",
        ),
        (
            breaker(|x| x.min_calls(0)),
            "circuit breaker \"x\": min_calls must be from 1 to the 100 calls of the window, but is 0",
        ),
        (
            breaker(|x| x.window(Window::time(SECOND)).min_calls(0)),
            "circuit breaker \"x\": min_calls must be at least 1, but is 0",
        ),
    ]);
}

/// What is no share, and how it is written.
const NO_SHARES: [(f64, &str); 8] = [
    (f64::NAN, "NaN"),
    (f64::INFINITY, "inf"),
    (f64::NEG_INFINITY, "-inf"),
    (-0.5, "-0.5"),
    (-0.0, "-0.0"),
    (0.0, "0.0"),
    (1.5, "1.5"),
    (1.0 + f64::EPSILON, "1.0000000000000002"),
];

#[test]
fn breaker_shares() {
    for (ratio, written) in NO_SHARES {
        for (field, built) in [
            ("failure_ratio", breaker(|x| x.failure_ratio(ratio))),
            ("success_ratio", breaker(|x| x.success_ratio(ratio))),
            ("slow_calls.ratio", breaker(|x| x.slow_calls(SECOND, ratio))),
        ] {
            let error = built.unwrap_err();
            assert_eq!(
                error.to_string(),
                format!(
                    "circuit breaker \"x\": {field} must be above 0 and at most 1, but is {written}"
                )
            );
            assert_eq!(
                (error.policy(), error.name(), error.field()),
                ("circuit breaker", Some("x"), field)
            );
        }
    }
}

#[test]
fn breaker_numbers_and_times() {
    refused([
        (
            breaker(|x| x.consecutive_failures(0)),
            "circuit breaker \"x\": consecutive_failures must be at least 1, but is 0",
        ),
        (
            breaker(|x| x.slow_calls(ZERO, 0.5)),
            "circuit breaker \"x\": slow_calls must have a threshold above zero, but is 0ns",
        ),
        (breaker(|x| x.probes(0)), "circuit breaker \"x\": probes must be from 1 to 255, but is 0"),
        (
            breaker(|x| x.probes(256)),
            "circuit breaker \"x\": probes must be from 1 to 255, but is 256",
        ),
        (
            breaker(|x| x.half_open_for(ZERO)),
            "circuit breaker \"x\": half_open_for must be above zero, but is 0ns",
        ),
        (
            breaker(|x| x.abandoned_after(ZERO)),
            "circuit breaker \"x\": abandoned_after must be above zero, but is 0ns",
        ),
        (
            breaker(|x| x.abandoned(Abandoned::Failure).abandoned_after(SECOND)),
            "circuit breaker \"x\": abandoned_after must be left out where `abandoned` already \
             counts every call given up, but is 1s",
        ),
        (
            breaker(|x| x.open_for(ZERO)),
            "circuit breaker \"x\": open_for must be above zero, but is 0ns",
        ),
        (
            breaker(|x| x.open_for(Backoff::exponential(ZERO))),
            "circuit breaker \"x\": open_for must be above zero, but is 0ns",
        ),
        (
            breaker(|x| x.open_for(Backoff::linear(60 * SECOND))),
            "circuit breaker \"x\": open_for must have a maximum of at least its base 60s, but is 30s",
        ),
    ]);
}

#[test]
fn factors_and_maxima_of_backoffs() {
    let open_for = |backoff: Backoff| breaker(|x| x.open_for(backoff)).unwrap_err().to_string();
    let between = |backoff: Backoff| retry(|x| x.backoff(backoff)).unwrap_err().to_string();
    let base = Backoff::exponential(SECOND);
    for (backoff, rule) in [
        (base.factor(f64::NAN), "must have a finite factor of at least 1, but is NaN"),
        (base.factor(f64::INFINITY), "must have a finite factor of at least 1, but is inf"),
        (base.factor(-2.0), "must have a finite factor of at least 1, but is -2.0"),
        (base.factor(0.0), "must have a finite factor of at least 1, but is 0.0"),
        (base.factor(0.99), "must have a finite factor of at least 1, but is 0.99"),
        (base.max(999 * MS), "must have a maximum of at least its base 1s, but is 999ms"),
        (base.max(ZERO), "must have a maximum of at least its base 1s, but is 0ns"),
        (
            Backoff::constant(SECOND).max(MS),
            "must have a maximum of at least its base 1s, but is 1ms",
        ),
    ] {
        assert_eq!(open_for(backoff), format!("circuit breaker \"x\": open_for {rule}"));
        assert_eq!(between(backoff), format!("retry \"x\": backoff {rule}"));
    }
}

fn retry(set: impl FnOnce(RetryBuilder) -> RetryBuilder) -> Result<Retry, ConfigError> {
    set(Retry::builder("x")).build()
}

#[test]
fn retries() {
    refused([
        (retry(|x| x.max_attempts(0)), "retry \"x\": max_attempts must be at least 1, but is 0"),
        (retry(|x| x.max_elapsed(ZERO)), "retry \"x\": max_elapsed must be above 0, but is 0ns"),
    ]);
    // A budget of its own is checked with it.
    let mut config = RetryConfig::default();
    config.budget.as_mut().unwrap().cap = 0.0;
    assert_eq!(
        Retry::from_config("x", config).unwrap_err().to_string(),
        "retry budget \"x\": cap must be at least 1 and at most 100000, but is 0.0"
    );
}

fn budget(
    set: impl FnOnce(RetryBudgetBuilder) -> RetryBudgetBuilder,
) -> Result<RetryBudget, ConfigError> {
    set(RetryBudget::builder("x")).build()
}

#[test]
fn budgets() {
    for (number, written) in [
        (f64::NAN, "NaN"),
        (f64::INFINITY, "inf"),
        (f64::NEG_INFINITY, "-inf"),
        (-1.0, "-1.0"),
        (1e-9, "1e-9"),
        (100_001.0, "100001.0"),
    ] {
        let cost = format!("must be at least 1 and at most the cap 10.0, but is {written}");
        for (built, field, rule) in [
            (
                budget(|x| x.ratio(number)),
                "ratio",
                format!("must be 0, or at least 0.000001 and at most 1, but is {written}"),
            ),
            (
                budget(|x| x.refill_per_second(number)),
                "refill_per_second",
                format!("must be 0, or at least 0.001 and at most 100000, but is {written}"),
            ),
            (
                budget(|x| x.cap(number)),
                "cap",
                format!("must be at least 1 and at most 100000, but is {written}"),
            ),
            (budget(|x| x.failed_cost(number)), "failed_cost", cost.clone()),
            (budget(|x| x.timed_out_cost(number)), "timed_out_cost", cost.clone()),
            (budget(|x| x.throttled_cost(number)), "throttled_cost", cost.clone()),
        ] {
            assert_eq!(
                built.unwrap_err().to_string(),
                format!("retry budget \"x\": {field} {rule}")
            );
        }
    }
    refused([
        (
            budget(|x| x.ratio(0.0).refill_per_second(0.0)),
            "retry budget \"x\": refill_per_second must be above 0 where the ratio is 0, but is 0.0",
        ),
        (
            budget(|x| x.ratio(1.1)),
            "retry budget \"x\": ratio must be 0, or at least 0.000001 and at most 1, but is 1.1",
        ),
        (
            budget(|x| x.cap(0.5)),
            "retry budget \"x\": cap must be at least 1 and at most 100000, but is 0.5",
        ),
        (
            budget(|x| x.failed_cost(0.0)),
            "retry budget \"x\": failed_cost must be at least 1 and at most the cap 10.0, but is 0.0",
        ),
        (
            budget(|x| x.failed_cost(21.0)),
            "retry budget \"x\": failed_cost must be at least 1 and at most the cap 10.0, but is 21.0",
        ),
        // The default price of a timeout is two.
        (
            budget(|x| x.cap(1.0)),
            "retry budget \"x\": timed_out_cost must be at least 1 and at most the cap 1.0, but is 2.0",
        ),
    ]);
}

#[test]
fn timeouts() {
    let expected = "timeout \"x\": after must be above zero, but is 0ns";
    refused([(Timeout::builder("x").after(ZERO).build(), expected)]);
}

fn fallback(set: impl FnOnce(FallbackBuilder) -> FallbackBuilder) -> Result<Fallback, ConfigError> {
    set(Fallback::builder("x")).build()
}

#[test]
fn fallbacks() {
    refused([
        (
            fallback(|x| x.when([])),
            "fallback \"x\": when must name at least one verdict, or the fallback would never \
             answer, but is []",
        ),
        (
            fallback(|x| x.when([VerdictKind::Transient, VerdictKind::Success])),
            "fallback \"x\": when must not name success, or the fallback would replace every good \
             answer, but is [success, transient]",
        ),
    ]);
}

#[test]
fn a_configuration_without_a_name_says_the_same_without_it() {
    let mut config = CircuitBreakerConfig::default();
    config.probes = 0;
    let rule = "probes must be from 1 to 255, but is 0";
    let error = config.validate().unwrap_err();
    assert_eq!((error.to_string(), error.name()), (format!("circuit breaker: {rule}"), None));
    let error = CircuitBreaker::from_config(String::from("owned"), config).unwrap_err();
    assert_eq!(error.to_string(), format!("circuit breaker \"owned\": {rule}"));

    let mut config = TimeoutConfig::default();
    config.after = ZERO;
    let rule = "after must be above zero, but is 0ns";
    assert_eq!(config.validate().unwrap_err().to_string(), format!("timeout: {rule}"));
    let error = Timeout::from_config("x", config).unwrap_err();
    assert_eq!(error.to_string(), format!("timeout \"x\": {rule}"));

    let mut config = FallbackConfig::default();
    config.when = buttress::fallback::VerdictKinds::NONE;
    let rule = "when must name at least one verdict, or the fallback would never answer, but is []";
    assert_eq!(config.validate().unwrap_err().to_string(), format!("fallback: {rule}"));
    let error = Fallback::from_config("x", config).unwrap_err();
    assert_eq!(error.to_string(), format!("fallback \"x\": {rule}"));

    let mut config = RetryConfig::default();
    config.max_attempts = 0;
    let rule = "max_attempts must be at least 1, but is 0";
    assert_eq!(config.validate().unwrap_err().to_string(), format!("retry: {rule}"));
    let error = Retry::from_config("x", config).unwrap_err();
    assert_eq!(error.to_string(), format!("retry \"x\": {rule}"));

    let mut config = RetryBudgetConfig::default();
    config.cap = 0.0;
    let rule = "cap must be at least 1 and at most 100000, but is 0.0";
    assert_eq!(config.validate().unwrap_err().to_string(), format!("retry budget: {rule}"));
    let error = RetryBudget::from_config("x", config).unwrap_err();
    assert_eq!(error.to_string(), format!("retry budget \"x\": {rule}"));
}

// ---- Edges that are inside --------------------------------------------------------------------------

fn fail(breaker: CircuitBreaker, times: usize) {
    (0..times).for_each(|_| breaker.try_acquire().expect("admitted").record(Verdict::Transient));
}

#[test]
fn the_smallest_and_the_largest_count_window_trip() {
    for size in [1, 1024] {
        let window = |x: CircuitBreakerBuilder| x.window(Window::calls(size)).min_calls(size);
        let breaker = breaker(|x| window(x).failure_ratio(1.0)).unwrap();
        fail(breaker, size as usize - 1);
        assert_eq!(breaker.state(), State::Closed);
        fail(breaker, 1);
        assert_eq!(breaker.state(), State::Open);
    }
}

#[test]
fn a_tiny_share_is_one_failure() {
    let breaker = breaker(|x| x.failure_ratio(1e-9).min_calls(100)).unwrap();
    (0..99).for_each(|_| breaker.try_acquire().unwrap().record(Verdict::Success));
    assert_eq!(breaker.state(), State::Closed);
    fail(breaker, 1);
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn two_hundred_and_fifty_five_probes_that_must_all_succeed() {
    let breaker = breaker(|x| x.probes(255).success_ratio(1.0)).unwrap();
    fail(breaker, 20);
    advance(60 * SECOND).await;
    let probes: Vec<_> = std::iter::from_fn(|| breaker.try_acquire().ok()).collect();
    assert_eq!(probes.len(), 255);
    for probe in probes {
        assert_eq!(breaker.state(), State::HalfOpen);
        probe.record(Verdict::Success);
    }
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn one_success_of_many_probes_closes_where_so_little_is_asked_for() {
    let breaker = breaker(|x| x.probes(255).success_ratio(1e-9)).unwrap();
    fail(breaker, 20);
    advance(60 * SECOND).await;
    breaker.try_acquire().unwrap().record(Verdict::Success);
    assert_eq!(breaker.state(), State::Closed);
}

/// A century, in steps that the clock can take.
async fn a_century_passes() {
    advance(100 * 365 * 86_400 * SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn open_for_ever() {
    for open_for in [
        Backoff::constant(Duration::MAX),
        Backoff::constant(Duration::MAX).jitter(Jitter::None),
        Backoff::exponential(SECOND).factor(f64::MAX).max(Duration::MAX).jitter(Jitter::None),
        Backoff::exponential(Duration::MAX).max(Duration::MAX).jitter(Jitter::Decorrelated),
        Backoff::linear(Duration::MAX).max(Duration::MAX).jitter(Jitter::Equal),
    ] {
        let breaker = breaker(|x| x.open_for(open_for).probes(1)).unwrap();
        fail(breaker, 20);
        // One of them has a first open time of a second.
        if open_for.delay_unjittered(0) == SECOND {
            advance(SECOND).await;
            fail(breaker, 1);
        }
        let error = breaker.try_acquire().unwrap_err();
        assert!(error.to_string().starts_with("circuit \"x\" is open: "), "{error}");
        breaker.snapshot();
        let mut waits = tokio_test::task::spawn(breaker.permitted());
        assert!(waits.poll().is_pending());
        a_century_passes().await;
        assert_eq!(breaker.state(), State::Open, "{open_for:?}");
        assert!(waits.poll().is_pending());
        breaker.reset();
        assert!(waits.poll().is_ready());
    }
}

#[tokio::test(start_paused = true)]
async fn half_open_for_ever() {
    let breaker = breaker(|x| x.half_open_for(Duration::MAX).probes(1)).unwrap();
    fail(breaker, 20);
    advance(60 * SECOND).await;
    let probe = breaker.try_acquire().unwrap();
    a_century_passes().await;
    assert_eq!(breaker.state(), State::HalfOpen);
    assert!(breaker.try_acquire().is_err());
    probe.record(Verdict::Success);
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_window_and_thresholds_of_for_ever() {
    let breaker = breaker(|x| {
        x.window(Window::time(Duration::MAX))
            .slow_calls(Duration::MAX, 1.0)
            .abandoned_after(Duration::MAX)
            .consecutive_failures(u32::MAX)
    })
    .unwrap();
    drop(breaker.try_acquire().unwrap());
    fail(breaker, 10);
    a_century_passes().await;
    fail(breaker, 9);
    assert_eq!(breaker.state(), State::Closed);
    fail(breaker, 1);
    assert_eq!(breaker.state(), State::Open, "the first ten are still in the window");
}

#[tokio::test(start_paused = true)]
async fn the_shortest_times() {
    let nanosecond = Duration::from_nanos(1);
    let breaker = breaker(|x| {
        x.window(Window::time(10 * MS))
            .open_for(nanosecond)
            .half_open_for(nanosecond)
            .slow_calls(nanosecond, 1e-9)
            .abandoned_after(nanosecond)
    })
    .unwrap();
    fail(breaker, 20);
    advance(nanosecond).await;
    assert_eq!(breaker.state(), State::HalfOpen);
    let overdue = breaker.try_acquire().unwrap();
    advance(nanosecond).await;
    assert_ne!(breaker.state(), State::Closed);
    drop(overdue);
}

#[tokio::test(start_paused = true)]
async fn retries_for_ever() {
    let forever = Backoff::exponential(MS).max(Duration::MAX).jitter(Jitter::None);
    let retry = retry(|x| {
        x.max_attempts(u32::MAX)
            .max_elapsed(Duration::MAX)
            .max_retry_after(Duration::MAX)
            .backoff(forever.factor(1.0))
            .without_budget()
    })
    .unwrap();
    let answer = retry.call(async |attempt| match attempt {
        1000 => Ok(attempt),
        _ => Err(Error::Service("again")),
    });
    assert_eq!(answer.await, Ok(1000));

    let once = self::retry(|x| x.max_attempts(1).backoff(ZERO)).unwrap();
    let answer = once.call(async |_| Err::<(), _>(Error::Service("no"))).await;
    assert_eq!(answer, Err(Error::Service("no")));
}

#[tokio::test(start_paused = true)]
async fn a_hint_of_for_ever_waits_for_ever() {
    let retry = retry(|x| x.max_retry_after(Duration::MAX)).unwrap();
    let throttled =
        |_: Result<&(), &Error<()>>| Verdict::Throttled { retry_after: Some(Duration::MAX) };
    let throttled = buttress::classify_fn(throttled);
    let mut waits = tokio_test::task::spawn(
        retry.call_with(throttled, async |_| Err::<(), _>(Error::Service(()))),
    );
    assert!(waits.poll().is_pending());
    advance(86_400 * SECOND).await;
    assert!(waits.poll().is_pending());
}

#[tokio::test(start_paused = true)]
async fn a_timeout_of_for_ever_never_comes() {
    let timeout = Timeout::builder("x").after(Duration::MAX).build().unwrap();
    let mut waits =
        tokio_test::task::spawn(timeout.call(pending::<Result<(), Error<std::io::Error>>>));
    assert!(waits.poll().is_pending());
    advance(86_400 * SECOND).await;
    assert!(waits.poll().is_pending());
}

#[test]
fn the_largest_and_the_smallest_budget() {
    let large = budget(|x| {
        x.ratio(1.0).refill_per_second(100_000.0).cap(100_000.0).timed_out_cost(100_000.0)
    })
    .unwrap();
    assert!(large.try_withdraw(FailureKind::TimedOut));
    let small =
        budget(|x| x.ratio(0.000_001).refill_per_second(0.001).cap(1.0).timed_out_cost(1.0))
            .unwrap();
    assert!(small.try_withdraw(FailureKind::Failed));
    assert!(!small.try_withdraw(FailureKind::Failed));
    budget(|x| x.ratio(0.0)).unwrap();
    budget(|x| x.refill_per_second(0.0)).unwrap();
}

#[test]
fn a_fallback_for_everything_but_success() {
    let kinds = VerdictKind::ALL.into_iter().filter(|kind| *kind != VerdictKind::Success);
    fallback(|x| x.when(kinds)).unwrap();
}

// ---- Defaults ---------------------------------------------------------------------------------------

/// Whoever changes a default changes what every user gets: it belongs into the changelog.
#[test]
fn the_defaults() {
    let CircuitBreakerConfig {
        window,
        failure_ratio,
        min_calls,
        consecutive_failures,
        slow_calls,
        open_for,
        probes,
        success_ratio,
        half_open_for,
        abandoned,
        abandoned_after,
        when_open,
        shadow,
        ..
    } = CircuitBreakerConfig::default();
    assert_eq!(window, Window::calls(100));
    assert_eq!((failure_ratio, min_calls), (0.5, 20));
    assert_eq!((consecutive_failures, slow_calls), (None, None));
    assert_eq!(open_for, Backoff::exponential(5 * SECOND).max(60 * SECOND).factor(2.0));
    assert_eq!((probes, success_ratio, half_open_for), (3, 0.5, 30 * SECOND));
    assert_eq!((abandoned, abandoned_after), (Abandoned::Ignore, None));
    assert_eq!((when_open, shadow), (WhenOpen::Refuse, false));

    let RetryConfig { max_attempts, max_retry_after, max_elapsed, backoff, budget, .. } =
        RetryConfig::default();
    assert_eq!((max_attempts, max_retry_after, max_elapsed), (3, 30 * SECOND, None));
    assert_eq!(backoff, Backoff::exponential(50 * MS).factor(2.0).max(30 * SECOND));
    assert_eq!(budget, Some(RetryBudgetConfig::default()));

    let RetryBudgetConfig {
        ratio,
        refill_per_second,
        cap,
        failed_cost,
        timed_out_cost,
        throttled_cost,
        ..
    } = RetryBudgetConfig::default();
    assert_eq!((ratio, refill_per_second, cap), (0.2, 1.0, 10.0));
    assert_eq!((failed_cost, timed_out_cost, throttled_cost), (1.0, 2.0, 1.0));

    assert_eq!(TimeoutConfig::default().after, SECOND);
    let when: Vec<_> = FallbackConfig::default().when.iter().collect();
    assert_eq!(
        when,
        [
            VerdictKind::Transient,
            VerdictKind::Unreachable,
            VerdictKind::Throttled,
            VerdictKind::Final,
            VerdictKind::Refused
        ]
    );
}

/// A field that is new is not in the test above; here it is.
#[test]
fn the_defaults_in_full() {
    let debug = [
        format!("{:?}", CircuitBreakerConfig::default()),
        format!("{:?}", RetryConfig::default()),
        format!("{:?}", TimeoutConfig::default()),
        format!("{:?}", FallbackConfig::default()),
    ];
    let expected = [
        "CircuitBreakerConfig { window: Calls(100), failure_ratio: 0.5, min_calls: 20, \
         consecutive_failures: None, slow_calls: None, open_for: Backoff { kind: Exponential, \
         base: 5s, factor: 2.0, max: 60s, jitter: None }, probes: 3, success_ratio: 0.5, \
         half_open_for: 30s, abandoned: Ignore, abandoned_after: None, when_open: Refuse, \
         shadow: false }",
        "RetryConfig { max_attempts: 3, max_retry_after: 30s, max_elapsed: None, \
         backoff: Backoff { kind: Exponential, base: 50ms, factor: 2.0, max: 30s, jitter: None }, \
         budget: Some(RetryBudgetConfig { ratio: 0.2, refill_per_second: 1.0, cap: 10.0, \
         failed_cost: 1.0, timed_out_cost: 2.0, throttled_cost: 1.0 }) }",
        "TimeoutConfig { after: 1s, min_remaining: 0ns }",
        "FallbackConfig { when: [transient, unreachable, throttled, final, refused] }",
    ];
    assert_eq!(debug, expected);
}
