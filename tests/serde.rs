//! Configurations from TOML: every field, no field, wrong fields, and back again.
#![cfg(feature = "serde")]
#![allow(missing_docs)]

use std::{fmt::Debug, time::Duration};

use buttress::{
    Backoff, CircuitBreaker, CircuitBreakerConfig, FallbackConfig, Jitter, RetryConfig,
    TimeoutConfig, VerdictKind, Window,
    breaker::{Abandoned, SlowCalls, WhenOpen},
    fallback::VerdictKinds,
    retry::RetryBudgetConfig,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn read<T: DeserializeOwned>(toml: &str) -> T {
    toml::from_str(toml).unwrap_or_else(|error| panic!("{toml}\n{error}"))
}

/// What is said of a text that is none, without the excerpt of it.
fn error<T: DeserializeOwned + Debug>(toml: &str) -> String {
    let error = toml::from_str::<T>(toml).unwrap_err();
    // The excerpt points to the line; with the message it names the field.
    let excerpt = error.to_string();
    let line = excerpt.lines().find_map(|line| line.strip_prefix("1 | ")).unwrap_or_default();
    assert_eq!(line, toml, "the line is shown");
    error.message().to_owned()
}

/// Written and read again it is the same, in TOML and in JSON.
fn comes_back<T: Serialize + DeserializeOwned + PartialEq + Debug>(config: &T) {
    let toml = toml::to_string(config).unwrap();
    assert_eq!(&read::<T>(&toml), config, "{toml}");
    let json = serde_json::to_string(config).unwrap();
    assert_eq!(&serde_json::from_str::<T>(&json).unwrap(), config, "{json}");
}

#[test]
fn a_breaker_with_every_field() {
    let config: CircuitBreakerConfig = read(
        r#"
        window = { time = "1m 30s" }
        failure_ratio = 0.25
        min_calls = 7
        consecutive_failures = 5
        slow_calls = { threshold = "250ms", ratio = 0.75 }
        open_for = { kind = "exponential", base = "5s", max = "1m", jitter = "equal" }
        probes = 2
        success_ratio = 1.0
        half_open_for = "10s"
        abandoned = "ignore"
        abandoned_after = "2s"
        when_open = "wait"
        shadow = true
        "#,
    );
    let mut expected = CircuitBreakerConfig::default();
    expected.window = Window::time(90 * SECOND);
    expected.failure_ratio = 0.25;
    expected.min_calls = 7;
    expected.consecutive_failures = Some(5);
    expected.slow_calls = Some(SlowCalls { threshold: 250 * MS, ratio: 0.75 });
    expected.open_for = Backoff::exponential(5 * SECOND).max(60 * SECOND).jitter(Jitter::Equal);
    expected.probes = 2;
    expected.success_ratio = 1.0;
    expected.half_open_for = 10 * SECOND;
    expected.abandoned = Abandoned::Ignore;
    expected.abandoned_after = Some(2 * SECOND);
    expected.when_open = WhenOpen::Wait;
    expected.shadow = true;
    assert_eq!(config, expected);
    config.validate().unwrap();
    comes_back(&config);

    let other: CircuitBreakerConfig =
        read("window = { calls = 50 }\nabandoned = \"failure\"\nwhen_open = \"refuse\"\n");
    assert_eq!((other.window, other.abandoned), (Window::calls(50), Abandoned::Failure));
    assert_eq!(other.when_open, WhenOpen::Refuse);
    comes_back(&other);
}

#[test]
fn a_retry_with_every_field() {
    let config: RetryConfig = read(
        r#"
        max_attempts = 4
        max_retry_after = "1m"
        max_elapsed = "10s"
        backoff = { kind = "linear", base = "20ms", factor = 3, max = "2s", jitter = "none" }

        [budget]
        ratio = 0.2
        refill_per_second = 2.0
        cap = 50.0
        failed_cost = 1.5
        timed_out_cost = 3.0
        throttled_cost = 1
        "#,
    );
    let mut budget = RetryBudgetConfig::default();
    budget.ratio = 0.2;
    budget.refill_per_second = 2.0;
    budget.cap = 50.0;
    budget.failed_cost = 1.5;
    budget.timed_out_cost = 3.0;
    budget.throttled_cost = 1.0;
    let mut expected = RetryConfig::default();
    expected.max_attempts = 4;
    expected.max_retry_after = 60 * SECOND;
    expected.max_elapsed = Some(10 * SECOND);
    expected.backoff = Backoff::linear(20 * MS).factor(3.0).max(2 * SECOND).jitter(Jitter::None);
    expected.budget = Some(budget);
    assert_eq!(config, expected);
    config.validate().unwrap();
    comes_back(&config);
    comes_back(&budget);
}

#[test]
fn a_retry_without_a_budget() {
    let config: RetryConfig = read("budget = false");
    assert_eq!(config.budget, None);
    comes_back(&config);
    assert_eq!(
        error::<RetryConfig>("budget = true"),
        "invalid value: boolean `true`, expected a table of settings, or `false` for none"
    );
    assert_eq!(
        error::<RetryConfig>("budget = { rato = 0.1 }"),
        "unknown field `rato`, expected one of `ratio`, `refill_per_second`, `cap`, `failed_cost`, \
         `timed_out_cost`, `throttled_cost`"
    );
}

#[test]
fn a_timeout_and_a_fallback() {
    let config: TimeoutConfig = read("after = \"1s 500ms\"");
    assert_eq!(config.after, 1500 * MS);
    comes_back(&config);
    let config: FallbackConfig = read(r#"when = ["permanent", "refused", "permanent"]"#);
    let kinds = [VerdictKind::Permanent, VerdictKind::Refused];
    assert_eq!(config.when, VerdictKinds::from_iter(kinds));
    comes_back(&config);
}

#[test]
fn no_field_is_every_default() {
    assert_eq!(read::<CircuitBreakerConfig>(""), CircuitBreakerConfig::default());
    assert_eq!(read::<RetryConfig>(""), RetryConfig::default());
    assert_eq!(read::<RetryBudgetConfig>(""), RetryBudgetConfig::default());
    assert_eq!(read::<TimeoutConfig>(""), TimeoutConfig::default());
    assert_eq!(read::<FallbackConfig>(""), FallbackConfig::default());
    assert_eq!(read::<RetryConfig>("backoff = {}"), RetryConfig::default());
    assert_eq!(read::<RetryConfig>("budget = {}"), RetryConfig::default());
    comes_back(&CircuitBreakerConfig::default());
    comes_back(&RetryConfig::default());
    comes_back(&RetryBudgetConfig::default());
    comes_back(&TimeoutConfig::default());
    comes_back(&FallbackConfig::default());
}

// ---- Backoff --------------------------------------------------------------------------------------

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Holder {
    wait: Backoff,
}

#[test]
fn a_backoff_is_a_duration_or_a_table() {
    for (toml, expected) in [
        ("\"5s\"", Backoff::constant(5 * SECOND)),
        ("\"1m 30s\"", Backoff::from(90 * SECOND)),
        ("{ kind = \"constant\", base = \"5s\" }", Backoff::constant(5 * SECOND)),
        // Longer than the longest delay of the other kinds.
        ("{ kind = \"constant\", base = \"1h\" }", Backoff::constant(3600 * SECOND)),
        (
            "{ kind = \"constant\", base = \"5s\", jitter = \"none\" }",
            Backoff::constant(5 * SECOND).jitter(Jitter::None),
        ),
        ("{ kind = \"linear\", base = \"10ms\" }", Backoff::linear(10 * MS)),
        ("{ kind = \"exponential\", base = \"10ms\" }", Backoff::exponential(10 * MS)),
        ("{ base = \"10ms\" }", Backoff::exponential(10 * MS)),
        ("{ max = \"10s\" }", Backoff::default().max(10 * SECOND)),
        ("{ factor = 1.5 }", Backoff::default().factor(1.5)),
        ("{ jitter = \"full\" }", Backoff::default().jitter(Jitter::Full)),
        ("{ jitter = \"decorrelated\" }", Backoff::default().jitter(Jitter::Decorrelated)),
        ("{}", Backoff::default()),
    ] {
        let holder: Holder = read(&format!("wait = {toml}"));
        assert_eq!(holder.wait, expected, "{toml}");
        comes_back(&holder);
    }
    let breaker: CircuitBreakerConfig = read("open_for = \"5s\"");
    assert_eq!(breaker.open_for, Backoff::constant(5 * SECOND));
}

#[test]
fn a_backoff_is_written_as_it_is_read() {
    let written = |wait: Backoff| toml::to_string(&Holder { wait }).unwrap();
    assert_eq!(written(Backoff::constant(90 * SECOND)), "wait = \"1m 30s\"\n");
    let table = "kind = \"exponential\"\nbase = \"50ms\"\nfactor = 2.0\nmax = \"30s\"\n";
    assert_eq!(written(Backoff::default()), format!("[wait]\n{table}"));
    // Jitter and a maximum of its own are no part of a bare duration.
    let constant = Backoff::constant(SECOND);
    for wait in [constant.jitter(Jitter::Full), constant.max(2 * SECOND), constant.factor(3.0)] {
        assert!(written(wait).starts_with("[wait]\n"));
        comes_back(&Holder { wait });
    }
}

#[test]
fn times_at_both_ends_come_back() {
    for time in [Duration::from_nanos(1), Duration::MAX, Duration::new(1, 999_999_999)] {
        comes_back(&Holder { wait: Backoff::constant(time) });
        comes_back(&Holder { wait: Backoff::exponential(time).max(Duration::MAX) });
    }
}

// ---- What is refused ------------------------------------------------------------------------------

#[test]
fn an_unknown_field_is_named_beside_those_there_are() {
    assert_eq!(
        error::<CircuitBreakerConfig>("failure_rate = 0.5"),
        "unknown field `failure_rate`, expected one of `window`, `failure_ratio`, `min_calls`, \
         `consecutive_failures`, `slow_calls`, `open_for`, `probes`, `success_ratio`, \
         `half_open_for`, `abandoned`, `abandoned_after`, `when_open`, `shadow`"
    );
    assert_eq!(
        error::<RetryConfig>("attempts = 3"),
        "unknown field `attempts`, expected one of `max_attempts`, `max_retry_after`, \
         `max_elapsed`, `backoff`, `budget`"
    );
    assert_eq!(
        error::<TimeoutConfig>("timeout = \"1s\""),
        "unknown field `timeout`, expected `after` or `min_remaining`"
    );
    assert_eq!(error::<FallbackConfig>("on = []"), "unknown field `on`, expected `when`");
    assert_eq!(
        error::<CircuitBreakerConfig>("open_for = { bass = \"5s\" }"),
        "unknown field `bass`, expected one of `kind`, `base`, `factor`, `max`, `jitter`"
    );
    assert_eq!(
        error::<CircuitBreakerConfig>("slow_calls = { threshold = \"5s\", ratio = 0.5, x = 1 }"),
        "unknown field `x`, expected `threshold` or `ratio`"
    );
    assert_eq!(
        error::<CircuitBreakerConfig>("slow_calls = { threshold = \"5s\" }"),
        "missing field `ratio`"
    );
}

#[test]
fn a_value_of_the_wrong_kind_is_told_what_is_right() {
    let backoff =
        "expected a duration such as \"5s\", or a table of kind, base, factor, max and jitter";
    for (toml, expected) in [
        ("probes = \"three\"", "invalid type: string \"three\", expected u32"),
        ("probes = -1", "invalid value: integer `-1`, expected u32"),
        ("failure_ratio = \"half\"", "invalid type: string \"half\", expected f64"),
        ("half_open_for = 30", "invalid type: integer `30`, expected a duration"),
        ("half_open_for = \"30\"", "invalid value: string \"30\", expected a duration"),
        ("half_open_for = \"-1s\"", "invalid value: string \"-1s\", expected a duration"),
        ("when_open = \"hang\"", "unknown variant `hang`, expected `refuse` or `wait`"),
        ("window = { count = 100 }", "unknown variant `count`, expected `calls` or `time`"),
        ("open_for = \"soon\"", "invalid value: string \"soon\", expected a duration"),
        ("open_for = 5", &format!("invalid type: integer `5`, {backoff}")),
        (
            "open_for = { kind = \"cubic\" }",
            "unknown variant `cubic`, expected one of `constant`, `linear`, `exponential`",
        ),
        ("open_for = { base = 5 }", "invalid type: integer `5`, expected a duration"),
    ] {
        assert_eq!(error::<CircuitBreakerConfig>(toml), expected, "{toml}");
    }
    assert_eq!(
        error::<FallbackConfig>("when = [\"503\"]"),
        "unknown variant `503`, expected one of `success`, `transient`, `unreachable`, \
         `throttled`, `final`, `permanent`, `refused`, `ignored`"
    );
}

#[test]
fn a_window_is_one_thing_or_the_other() {
    let both = toml::from_str::<CircuitBreakerConfig>("window = { calls = 100, time = \"10s\" }");
    both.unwrap_err();
}

#[test]
fn a_number_out_of_its_range_is_refused_by_validation() {
    let config: CircuitBreakerConfig = read("failure_ratio = 1.5");
    assert_eq!(
        config.validate().unwrap_err().to_string(),
        "circuit breaker: failure_ratio must be above 0 and at most 1, but is 1.5"
    );
    assert_eq!(
        CircuitBreaker::from_config("payments", config).unwrap_err().to_string(),
        "circuit breaker \"payments\": failure_ratio must be above 0 and at most 1, but is 1.5"
    );
    let config: CircuitBreakerConfig = read("failure_ratio = nan");
    assert_eq!(
        config.validate().unwrap_err().to_string(),
        "circuit breaker: failure_ratio must be above 0 and at most 1, but is NaN"
    );
}
