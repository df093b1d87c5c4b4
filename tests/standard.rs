//! The standard stack: what it does with calls, and which configurations it refuses.

mod support;

use std::time::Duration;

use buttress::{
    Backoff, CircuitBreakerConfig, Jitter, RetryConfig, ServiceErrors, Stack, StackError, Standard,
    StandardConfig, Window, breaker::State,
};
use support::{Act, Probe};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt};

const MS: Duration = Duration::from_millis(1);

fn config(change: impl FnOnce(&mut StandardConfig)) -> StandardConfig {
    let mut config = StandardConfig::default();
    change(&mut config);
    config
}

fn retry(config: &mut StandardConfig) -> &mut RetryConfig {
    config.retry.as_mut().unwrap()
}

fn breaker(config: &mut StandardConfig) -> &mut CircuitBreakerConfig {
    config.breaker.as_mut().unwrap()
}

#[test]
fn the_defaults_fit_each_other() {
    StandardConfig::default().validate().unwrap();
    let busy = config(|config| (config.expected_rate, config.replicas) = (Some(100.0), 10));
    busy.validate().unwrap();
}

#[test]
fn the_defaults_are_as_documented() {
    let defaults = StandardConfig::default();
    assert_eq!(defaults.timeout.unwrap().after, Duration::from_secs(3));
    assert_eq!(defaults.attempt_timeout.unwrap().after, 500 * MS);
    assert_eq!((defaults.expected_rate, defaults.replicas), (None, 1));
    assert_eq!(defaults.retry, Some(RetryConfig::default()));
    assert_eq!(defaults.breaker, Some(CircuitBreakerConfig::default()));
}

/// Every contradiction, what it is called, and what is said about it.
#[test]
fn numbers_that_contradict_each_other_are_refused() {
    let message =
        |builder: buttress::standard::StandardBuilder| builder.build().unwrap_err().to_string();
    let begin = || Standard::builder("orders");

    assert_eq!(
        message(begin().timeout(1500 * MS)),
        "standard stack \"orders\": timeout must be at least the 1.65s that 3 attempts of 500ms \
         and the waits between them may take, but is 1.5s"
    );
    assert_eq!(
        message(begin().attempt_timeout(4000 * MS)),
        "standard stack \"orders\": attempt_timeout must be at most the 3s of the whole \
         operation, but is 4s"
    );
    assert_eq!(
        message(begin().attempt_timeout(None)),
        "standard stack \"orders\": attempt_timeout must be set where 3 attempts are to fit into \
         a timeout of 3s: the first may take all of it, but is false"
    );

    let refused = |change: &dyn Fn(&mut StandardConfig)| {
        let error = config(|config| change(config)).validate().unwrap_err();
        (error.field(), error.to_string())
    };
    let field = |change: &dyn Fn(&mut StandardConfig)| refused(change).0;
    assert_eq!(field(&|config| retry(config).budget = None), "retry.budget");
    assert_eq!(
        field(&|config| retry(config).max_elapsed = Some(Duration::from_secs(3))),
        "retry.max_elapsed"
    );
    // With a limit of its own for the start of attempts, their number does not matter.
    let many = |max_elapsed| {
        config(|config| {
            retry(config).max_attempts = 1000;
            retry(config).max_elapsed = Some(max_elapsed);
        })
    };
    many(2500 * MS).validate().unwrap();
    let message = many(2501 * MS).validate().unwrap_err().to_string();
    assert!(message.contains("must be at least the 3.001s that 1000 attempts"), "{message}");
    assert_eq!(
        field(&|config| {
            let ratio = 0.5;
            breaker(config).slow_calls =
                Some(buttress::breaker::SlowCalls { threshold: 500 * MS, ratio });
        }),
        "breaker.slow_calls"
    );
    assert_eq!(
        field(&|config| breaker(config).abandoned_after = Some(500 * MS)),
        "breaker.abandoned_after"
    );
    assert_eq!(field(&|config| breaker(config).half_open_for = 500 * MS), "breaker.half_open_for");

    // Ten calls a minute through a window of ten seconds.
    let (field, message) = refused(&|config| {
        config.expected_rate = Some(1.0 / 6.0);
        retry(config).budget.as_mut().unwrap().refill_per_second = 0.1;
        breaker(config).window = Window::time(Duration::from_secs(10));
    });
    assert_eq!(field, "breaker.min_calls");
    assert!(message.contains("at most the 1.5 calls that a replica makes in 9s"), "{message}");
    // As many replicas as calls a second.
    let crowd = |config: &mut StandardConfig| {
        (config.expected_rate, config.replicas) = (Some(50.0), 100);
    };
    let (field, message) = refused(&crowd);
    assert_eq!(field, "retry.budget.refill_per_second");
    assert!(message.contains("at most 0.500"), "{message}");
    let (field, message) = refused(&|config| {
        crowd(config);
        config.retry = None;
    });
    assert_eq!(field, "breaker.probes");
    assert!(message.contains("must be at most 2:"), "{message}");
}

#[test]
fn each_field_is_checked_by_itself_first() {
    let refused = |change: &dyn Fn(&mut StandardConfig)| {
        let error = config(|config| change(config)).validate().unwrap_err();
        (error.policy().to_owned(), error.field().to_owned())
    };
    let as_said = |policy: &str, field: &str| (policy.to_owned(), field.to_owned());
    let standard = |field| as_said("standard stack", field);
    assert_eq!(refused(&|config| config.replicas = 0), standard("replicas"));
    for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let rated = |config: &mut StandardConfig| config.expected_rate = Some(rate);
        assert_eq!(refused(&rated), standard("expected_rate"), "{rate}");
    }
    assert_eq!(
        refused(&|config| config.timeout.as_mut().unwrap().after = Duration::ZERO),
        as_said("timeout", "after")
    );
    assert_eq!(
        refused(&|config| breaker(config).failure_ratio = f64::NAN),
        as_said("circuit breaker", "failure_ratio")
    );
    assert_eq!(refused(&|config| retry(config).max_attempts = 0), as_said("retry", "max_attempts"));
}

#[test]
fn the_longest_waits_are_added_up_for_every_kind_of_backoff() {
    let fits = |backoff: Backoff, attempts: u32, whole: Duration| {
        config(|config| {
            config.timeout.as_mut().unwrap().after = whole;
            config.attempt_timeout.as_mut().unwrap().after = MS;
            (retry(config).backoff, retry(config).max_attempts) = (backoff, attempts);
        })
        .validate()
        .is_ok()
    };
    // Four attempts of 1 ms, three waits.
    for (backoff, waits) in [
        (Backoff::constant(10 * MS), 30),
        (Backoff::linear(10 * MS), 60),
        (Backoff::exponential(10 * MS), 70),
        (Backoff::exponential(10 * MS).max(20 * MS), 50),
        (Backoff::exponential(10 * MS).jitter(Jitter::None), 70),
        // Three times the one before: 30, 90, and 270 cut down to the maximum.
        (Backoff::exponential(10 * MS).max(100 * MS).jitter(Jitter::Decorrelated), 220),
    ] {
        assert!(fits(backoff, 4, (4 + waits) * MS), "{backoff:?}");
        assert!(!fits(backoff, 4, (3 + waits) * MS), "{backoff:?}");
    }
    // Nobody waits for the sum of four thousand million waits, and it does not overflow.
    assert!(!fits(
        Backoff::exponential(Duration::MAX).max(Duration::MAX),
        u32::MAX,
        Duration::MAX / 2
    ));
    assert!(!fits(Backoff::constant(MS), u32::MAX, Duration::from_secs(1000)));
}

async fn call<S>(client: &mut S, act: Act) -> Result<(), S::Error>
where
    S: Service<Act>,
{
    client.ready().await?.call(act).await.map(|_| ())
}

#[tokio::test(start_paused = true)]
async fn attempts_are_timed_counted_and_repeated_and_the_whole_is_bounded() {
    let standard = Standard::builder("orders").build().unwrap();
    let (probe, counts) = Probe::new();
    let mut client = Stack::new().standard(standard).service(probe);

    let began = Instant::now();
    let error = call(&mut client, Act::Hang).await.unwrap_err();
    let took = began.elapsed();
    assert_eq!(error.policy_error().unwrap().timeout(), Some(500 * MS));
    assert_eq!(error.policy_error().unwrap().name(), "orders/attempt");
    assert_eq!((counts.called(), counts.alive()), (3, 0));
    assert!((1500 * MS..=1660 * MS).contains(&took), "{took:?}");
    assert_eq!(standard.retry().unwrap().counts().retried, 2);

    while standard.breaker().unwrap().state() == State::Closed {
        let _ = call(&mut client, Act::Fail).await;
    }
    let so_far = counts.called();
    let error = call(&mut client, Act::Succeed).await.unwrap_err();
    assert!(!error.policy_error().unwrap().reached_service(), "{error}");
    assert_eq!(counts.called(), so_far, "a refusal is not retried either");
}

#[tokio::test(start_paused = true)]
async fn what_is_switched_off_is_not_there() {
    let builder = Standard::builder("bare").timeout(None).attempt_timeout(None).retry(None);
    let standard = builder.breaker(None).fallback(None).build().unwrap();
    assert!(standard.timeout().is_none() && standard.attempt_timeout().is_none());
    assert!(standard.retry().is_none() && standard.breaker().is_none());
    assert!(standard.fallback().is_none());
    let (probe, counts) = Probe::new();
    let layer = standard.layer().fallback(|fallback| fallback.to_value("never given"));
    let mut client = layer.layer(probe);
    for called in 1..=200 {
        call(&mut client, Act::Fail).await.unwrap_err();
        assert_eq!(counts.called(), called);
    }
    let hanging = tokio::time::timeout(Duration::from_secs(3600), call(&mut client, Act::Hang));
    hanging.await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_fallback_answers_for_all_of_it() {
    let standard = Standard::builder("menu").build().unwrap();
    let service = tower::service_fn(|()| async { Err::<&str, _>("on fire") });
    let layer = standard.layer().fallback(|fallback| fallback.to_value("soup"));
    let mut client = layer.layer(ServiceErrors.layer(service));
    assert_eq!(client.ready().await.unwrap().call(()).await, Ok("soup"));
    assert_eq!(standard.fallback().unwrap().counts().degraded, 1);
}

#[tokio::test(start_paused = true)]
async fn clones_and_layers_share_one_state() {
    let standard = Standard::builder("shared").retry(None).build().unwrap();
    let (one, _) = Probe::new();
    let (other, counts) = Probe::new();
    let (mut one, mut other) =
        (standard.layer().layer(one), Stack::new().standard(standard).service(other));
    for _ in 0..20 {
        call(&mut one, Act::Fail).await.unwrap_err();
    }
    assert_eq!(standard.breaker().unwrap().state(), State::Open);
    call(&mut other, Act::Succeed).await.unwrap_err();
    assert_eq!(counts.called(), 0);
}

#[cfg(feature = "serde")]
mod written {
    use super::*;

    fn read(text: &str) -> StandardConfig {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn parts_are_tables_or_false_and_come_back_as_they_went() {
        let config = read(
            "expected_rate = 40.0\nreplicas = 4\ntimeout = { after = \"2s\" }\nfallback = false\n\
             [retry]\nmax_attempts = 2\n[breaker]\nopen_for = \"10s\"\n",
        );
        assert_eq!((config.expected_rate, config.replicas), (Some(40.0), 4));
        assert_eq!(config.timeout.as_ref().unwrap().after, Duration::from_secs(2));
        assert_eq!(config.fallback, None);
        assert_eq!(config.retry.unwrap().max_attempts, 2);
        assert_eq!(config.attempt_timeout, StandardConfig::default().attempt_timeout);
        assert_eq!(read(&toml::to_string(&config).unwrap()), config);
        assert_eq!(read(""), StandardConfig::default());
        let none = read("timeout = false\nretry = false\nbreaker = false\nattempt_timeout = false");
        assert_eq!(read(&toml::to_string(&none).unwrap()), none);
        assert!(none.retry.is_none() && none.breaker.is_none() && none.timeout.is_none());
    }

    #[test]
    fn a_typing_error_is_told() {
        let error = toml::from_str::<StandardConfig>("timout = \"1s\"").unwrap_err();
        assert!(error.message().contains("unknown field `timout`"), "{error}");
        let error = toml::from_str::<StandardConfig>("retry = true").unwrap_err();
        assert!(error.message().contains("a table of settings, or `false` for none"), "{error}");
    }
}
