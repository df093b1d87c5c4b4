//! What is logged: at which level, with which fields, and nothing while all is well.
#![cfg(feature = "tracing")]
#![allow(missing_docs)]

use std::{
    collections::BTreeMap,
    fmt,
    future::{pending, ready},
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress::{
    Backoff, CircuitBreaker, Error, Fallback, Jitter, Retry, RetryBudget, ServiceErrors, Stack,
    Timeout, Verdict, Window,
    breaker::{CircuitBreakerBuilder, State},
};
use tokio::time::advance;
use tower::{Layer, Service, ServiceExt, service_fn};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
    subscriber::DefaultGuard,
};
use tracing_subscriber::{
    layer::{Context, SubscriberExt},
    registry::Registry,
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

type Outcome = Result<u32, Error<&'static str>>;

const FAILED: Outcome = Err(Error::Service("failed"));

/// Keeps what this crate logs.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<Line>>>);

#[derive(Debug, PartialEq)]
struct Line {
    level: Level,
    fields: BTreeMap<&'static str, String>,
}

impl Log {
    /// Listens on this thread until the guard is dropped.
    fn listen() -> (Log, DefaultGuard) {
        let log = Log::default();
        let guard = tracing::subscriber::set_default(Registry::default().with(log.clone()));
        (log, guard)
    }

    /// The lines since the last time.
    fn take(&self) -> Vec<Line> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl<S: Subscriber> tracing_subscriber::Layer<S> for Log {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().target().starts_with("buttress") {
            let mut line = Line { level: *event.metadata().level(), fields: BTreeMap::new() };
            event.record(&mut line);
            self.0.lock().unwrap().push(line);
        }
    }
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.fields.insert(field.name(), format!("{value:?}"));
    }
}

fn line<const N: usize>(level: Level, fields: [(&'static str, &str); N]) -> Line {
    Line { level, fields: fields.map(|(name, value)| (name, value.to_owned())).into() }
}

/// Opens at two failures of two calls, for exactly five seconds; one probe decides.
fn breaker() -> CircuitBreakerBuilder {
    CircuitBreaker::builder("shop")
        .window(Window::calls(10))
        .min_calls(2)
        .open_for(Backoff::constant(5 * SECOND).jitter(Jitter::None))
        .probes(1)
}

fn trip(breaker: CircuitBreaker) {
    (0..2).for_each(|_| breaker.try_acquire().unwrap().record(Verdict::Transient));
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_warning_for_each_opening_and_information_for_the_rest() {
    let (log, _guard) = Log::listen();
    let breaker = breaker().build().unwrap();
    trip(breaker);
    let evidence = "2 of the last 2 calls failed (100.0 %, limit 50.0 %)";
    assert_eq!(
        log.take(),
        [line(
            Level::WARN,
            [
                ("message", "breaker transition"),
                ("name", "shop"),
                ("from", "closed"),
                ("to", "open"),
                ("generation", "1"),
                ("reason", "failure_ratio"),
                ("evidence", evidence),
            ]
        )]
    );

    advance(5 * SECOND).await;
    breaker.try_acquire().unwrap().record(Verdict::Transient);
    assert_eq!(
        log.take(),
        [
            line(
                Level::INFO,
                [
                    ("message", "breaker transition"),
                    ("name", "shop"),
                    ("from", "open"),
                    ("to", "half_open"),
                    ("generation", "2"),
                ]
            ),
            line(
                Level::WARN,
                [
                    ("message", "breaker transition"),
                    ("name", "shop"),
                    ("from", "half_open"),
                    ("to", "open"),
                    ("generation", "3"),
                    ("reason", "probes_failed"),
                    ("evidence", "1 of 1 probes failed"),
                ]
            ),
        ]
    );

    advance(5 * SECOND).await;
    breaker.try_acquire().unwrap().record(Verdict::Success);
    let levels: Vec<_> = log.take().into_iter().map(|line| line.level).collect();
    assert_eq!(levels, [Level::INFO, Level::INFO]);

    breaker.force_open("maintenance", None);
    assert_eq!(
        log.take(),
        [line(
            Level::WARN,
            [
                ("message", "breaker transition"),
                ("name", "shop"),
                ("from", "closed"),
                ("to", "forced_open"),
                ("generation", "6"),
                ("reason", "forced"),
                ("evidence", "it was forced open"),
                ("note", "maintenance"),
            ]
        )]
    );
}

#[tokio::test(start_paused = true)]
async fn refusals_are_no_flood() {
    let (log, _guard) = Log::listen();
    let breaker = breaker().build().unwrap();
    trip(breaker);
    log.take();
    (0..2).for_each(|_| drop(breaker.try_acquire()));
    advance(5 * SECOND).await;
    let probe = breaker.try_acquire().unwrap();
    let before = log.take();
    drop(breaker.try_acquire());
    let refused = |error: &str| {
        let fields = [
            ("message", "call refused"),
            ("policy", "circuit_breaker"),
            ("name", "shop"),
            ("kind", "circuit_open"),
            ("error", error),
        ];
        line(Level::DEBUG, fields)
    };
    let open = "circuit \"shop\" is open: 2 of the last 2 calls failed (100.0 %, limit 50.0 %); \
                next probe in 5.0 s";
    assert_eq!(before[..2], [refused(open), refused(open)]);
    let taken = "circuit \"shop\" is half-open, all its probes are under way; it was open because \
                 2 of the last 2 calls failed (100.0 %, limit 50.0 %)";
    assert_eq!(log.take(), [refused(taken)]);
    drop(probe);
}

#[tokio::test(start_paused = true)]
async fn retries_and_why_there_is_no_other() {
    let (log, _guard) = Log::listen();
    let budget = RetryBudget::builder("b").refill_per_second(0.0).build().unwrap();
    let retry = Retry::builder("shop").max_attempts(2).budget(budget);
    let retry = retry.backoff(Backoff::constant(20 * MS).jitter(Jitter::None)).build().unwrap();
    retry.call(|_| ready(FAILED)).await.unwrap_err();
    let retrying = line(
        Level::DEBUG,
        [
            ("message", "retrying"),
            ("name", "shop"),
            ("attempt", "2"),
            ("verdict", "transient"),
            ("delay_ms", "20.0"),
        ],
    );
    let not_retrying = |attempt: &str, result: &str| {
        let fields = [
            ("message", "not retrying"),
            ("name", "shop"),
            ("attempt", attempt),
            ("verdict", "transient"),
            ("result", result),
        ];
        line(Level::DEBUG, fields)
    };
    assert_eq!(log.take(), [retrying, not_retrying("2", "exhausted")]);

    while budget.try_withdraw(buttress::FailureKind::Failed) {}
    retry.call(|_| ready(FAILED)).await.unwrap_err();
    assert_eq!(log.take(), [not_retrying("1", "budget_denied")]);
}

#[tokio::test(start_paused = true)]
async fn timeouts() {
    let (log, _guard) = Log::listen();
    let timeout = Timeout::builder("shop").after(500 * MS).build().unwrap();
    timeout.call(pending::<Outcome>).await.unwrap_err();
    let fields = [
        ("message", "call given up"),
        ("policy", "timeout"),
        ("name", "shop"),
        ("kind", "timed_out"),
        ("error", "timeout \"shop\" elapsed after 500ms"),
    ];
    assert_eq!(log.take(), [line(Level::DEBUG, fields)]);
}

#[tokio::test(start_paused = true)]
async fn fallbacks_and_those_that_fail_too() {
    let (log, _guard) = Log::listen();
    let fallback = Fallback::builder("shop").build().unwrap();
    let fail = service_fn(|()| ready(FAILED));
    fallback.to_value(1).layer(fail).oneshot(()).await.unwrap();
    let taken = |message: &str, kind: &str| {
        let fields =
            [("message", message), ("name", "shop"), ("kind", kind), ("verdict", "transient")];
        line(Level::DEBUG, fields)
    };
    assert_eq!(log.take(), [taken("falling back", "value")]);
    let backup = service_fn(|()| ready(FAILED));
    fallback.to_service(backup).layer(fail).oneshot(()).await.unwrap_err();
    assert_eq!(
        log.take(),
        [taken("falling back", "service"), taken("the fallback failed too", "service")]
    );
}

#[tokio::test(start_paused = true)]
async fn law_11_silent_when_healthy() {
    let (log, _guard) = Log::listen();
    let breaker = breaker().slow_calls(SECOND, 0.5).build().unwrap();
    let retry = Retry::builder("shop").build().unwrap();
    let mut service = Stack::new()
        .fallback_to_value(0)
        .timeout(Timeout::builder("total").after(SECOND).build().unwrap())
        .retry(retry)
        .breaker(breaker)
        .timeout(100 * MS)
        .layer(ServiceErrors)
        .service(service_fn(|fails: bool| async move {
            // Long enough for the timers to be armed.
            tokio::time::sleep(10 * MS).await;
            if fails { Err("failed") } else { Ok(1) }
        }));
    for _ in 0..100 {
        assert_eq!(service.ready().await.unwrap().call(false).await, Ok(1));
    }
    let permit = breaker.permitted().await;
    permit.record(Verdict::Success);
    assert_eq!(log.take(), []);
    // And it is this very stack that would have been heard.
    assert_eq!(service.ready().await.unwrap().call(true).await, Ok(0));
    assert!(!log.take().is_empty());
}

#[test]
fn one_warning_for_whoever_builds_policies_by_the_thousand() {
    let (log, _guard) = Log::listen();
    for _ in 0..3000 {
        RetryBudget::builder("many").build().unwrap();
    }
    let log = log.take();
    // At 1024 and at 2048; other tests build some as well, so one of these may be theirs.
    assert!((1..=2).contains(&log.len()), "{log:?}");
    for line in log {
        assert_eq!(line.level, Level::WARN);
        assert!(line.fields.contains_key("count"), "{line:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn transitions_of_a_keyed_breaker_are_logged_with_the_key() {
    let (log, _guard) = Log::listen();
    let breakers = breaker().build_keyed::<&str>(1).unwrap();
    let record = |key, verdict| breakers.try_acquire(&key).unwrap().record(verdict);
    (0..2).for_each(|_| record("apples", Verdict::Transient));
    let evidence = "2 of the last 2 calls failed (100.0 %, limit 50.0 %)";
    let opened = line(
        Level::WARN,
        [
            ("message", "breaker transition"),
            ("name", "shop"),
            ("key", r#""apples""#),
            ("from", "closed"),
            ("to", "open"),
            ("generation", "1"),
            ("reason", "failure_ratio"),
            ("evidence", evidence),
        ],
    );
    assert_eq!(log.take(), [opened]);

    // One warning when it begins, whatever the number of calls and keys; and one when it begins again.
    let message = "every place of a keyed breaker is taken by a circuit that is not closed; other keys pass unprotected";
    let unprotected = || {
        for key in ["grapes", "limes", "grapes"] {
            record(key, Verdict::Transient);
        }
        let warning = [("message", message), ("name", "shop"), ("places", "1")];
        assert_eq!(log.take(), [line(Level::WARN, warning)]);
    };
    unprotected();
    breakers.reset(&"apples");
    (0..2).for_each(|_| record("plums", Verdict::Transient));
    let keys: Vec<_> = log.take().into_iter().map(|mut line| line.fields.remove("key")).collect();
    assert_eq!(keys, [Some(r#""apples""#.to_owned()), Some(r#""plums""#.to_owned())]);
    breakers.remove(&"plums");
    record("cherries", Verdict::Success);
    assert!(breakers.force_open(&"cherries", "by hand", None));
    log.take();
    unprotected();
}
