//! Every metric: its exact name, labels and value after a script.
#![cfg(feature = "metrics")]
#![allow(missing_docs)]

use std::{
    collections::BTreeMap,
    future::{pending, ready},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use buttress::{
    Backoff, CircuitBreaker, Error, Fallback, Jitter, Retry, RetryBudget, Timeout, Verdict,
    VerdictKind, Window,
    breaker::{CircuitBreakerBuilder, State},
    classify_fn,
};
use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    set_default_local_recorder, with_local_recorder,
};
use metrics_util::{
    CompositeKey,
    debugging::{DebugValue, DebuggingRecorder, Snapshotter},
};
use tokio::time::advance;
use tower::{Layer, Service, ServiceExt, service_fn};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

type Failure = Error<&'static str>;
type Outcome = Result<u32, Failure>;

const FAILED: Outcome = Err(Error::Service("failed"));

/// What a recorder was told: `name{label=value,...}` with sorted labels, and the value. Counters
/// that were registered and never counted are left out; so are histograms, whose samples are told
/// as `[seconds, ...]`. Asking empties the recorder, so each answer is what came since the last.
fn recorded(snapshotter: &Snapshotter) -> BTreeMap<String, String> {
    let told = snapshotter.snapshot().into_vec().into_iter();
    told.filter_map(|(key, _, _, value)| match value {
        DebugValue::Counter(0) => None,
        DebugValue::Counter(count) => Some((series(&key), count.to_string())),
        DebugValue::Gauge(value) => Some((series(&key), value.to_string())),
        DebugValue::Histogram(samples) if samples.is_empty() => None,
        DebugValue::Histogram(samples) => {
            let samples: Vec<f64> = samples.into_iter().map(f64::from).collect();
            Some((series(&key), format!("{samples:?}")))
        }
    })
    .collect()
}

fn series(key: &CompositeKey) -> String {
    let mut labels: Vec<String> =
        key.key().labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
    labels.sort();
    format!("{}{{{}}}", key.key().name(), labels.join(","))
}

/// What was told of one metric: its labels and values.
fn only(recorded: &BTreeMap<String, String>, metric: &str) -> Vec<(String, String)> {
    let of = |series: &str| {
        series.strip_prefix(metric).filter(|rest| rest.starts_with('{')).map(String::from)
    };
    recorded.iter().filter_map(|(series, value)| Some((of(series)?, value.clone()))).collect()
}

fn pairs<const N: usize>(expected: [(&str, &str); N]) -> Vec<(String, String)> {
    expected.map(|(labels, value)| (labels.into(), value.into())).into()
}

/// Opens at two failures of two calls, for exactly five seconds; one probe decides.
fn breaker(name: &'static str) -> CircuitBreakerBuilder {
    CircuitBreaker::builder(name)
        .window(Window::calls(10))
        .min_calls(2)
        .open_for(Backoff::constant(5 * SECOND).jitter(Jitter::None))
        .probes(1)
}

fn states(hot: State) -> Vec<(String, String)> {
    let mut all: Vec<_> = State::ALL
        .map(|state| {
            let value = if state == hot { "1" } else { "0" };
            (format!("{{name=shop,state={}}}", state.as_str()), value.to_string())
        })
        .into();
    all.sort();
    all
}

#[tokio::test(start_paused = true)]
async fn a_breaker_from_closed_to_open_and_back() {
    let recorder = DebuggingRecorder::new();
    let told = recorder.snapshotter();
    let _guard = set_default_local_recorder(&recorder);
    let breaker = breaker("shop").build().unwrap();
    // Every verdict, each as the response says.
    let classifier = classify_fn(|outcome: Result<&u32, &Failure>| match outcome {
        Ok(429) => Verdict::Throttled { retry_after: None },
        Ok(404) => Verdict::Permanent,
        Ok(499) => Verdict::Ignored,
        Ok(423) => Verdict::Refused { retry_after: None },
        Ok(_) => Verdict::Success,
        Err(_) => Verdict::Transient,
    });
    let mut service =
        breaker.layer().classify(classifier).layer(service_fn(|outcome: Outcome| async move {
            tokio::time::sleep(10 * MS).await;
            outcome
        }));
    let mut call = async |outcome: Outcome| service.ready().await.unwrap().call(outcome).await;

    call(Ok(200)).await.unwrap();
    let healthy = recorded(&told);
    assert_eq!(
        only(&healthy, "buttress_calls_total"),
        pairs([("{name=shop,outcome=success,policy=circuit_breaker}", "1")])
    );
    assert_eq!(only(&healthy, "buttress_breaker_state"), states(State::Closed));
    assert_eq!(only(&healthy, "buttress_breaker_transitions_total"), []);

    for status in [404, 499, 423] {
        call(Ok(status)).await.unwrap();
    }
    call(FAILED).await.unwrap_err();
    let failing = recorded(&told);
    assert_eq!(
        only(&failing, "buttress_calls_total"),
        pairs([
            ("{name=shop,outcome=ignored,policy=circuit_breaker}", "1"),
            ("{name=shop,outcome=permanent,policy=circuit_breaker}", "1"),
            ("{name=shop,outcome=refused,policy=circuit_breaker}", "1"),
            ("{name=shop,outcome=transient,policy=circuit_breaker}", "1"),
        ])
    );
    // One of three: what was ignored and refused is not counted.
    let third = (1.0_f64 / 3.0).to_string();
    assert_eq!(only(&failing, "buttress_breaker_failure_ratio"), pairs([("{name=shop}", &third)]));

    call(Ok(200)).await.unwrap();
    let better = recorded(&told);
    assert_eq!(only(&better, "buttress_breaker_failure_ratio"), pairs([("{name=shop}", "0.25")]));

    call(Ok(429)).await.unwrap();
    call(FAILED).await.unwrap_err();
    assert_eq!(breaker.state(), State::Open);
    for _ in 0..3 {
        call(Ok(200)).await.unwrap_err();
    }
    let open = recorded(&told);
    assert_eq!(only(&open, "buttress_breaker_state"), states(State::Open));
    assert_eq!(only(&open, "buttress_breaker_failure_ratio"), pairs([("{name=shop}", "0.5")]));
    assert_eq!(
        only(&open, "buttress_breaker_transitions_total"),
        pairs([("{from=closed,name=shop,to=open}", "1")])
    );
    assert_eq!(
        only(&open, "buttress_calls_total"),
        pairs([
            ("{name=shop,outcome=throttled,policy=circuit_breaker}", "1"),
            ("{name=shop,outcome=transient,policy=circuit_breaker}", "1"),
        ])
    );
    assert_eq!(
        only(&open, "buttress_rejections_total"),
        pairs([("{name=shop,policy=circuit_breaker,reason=open}", "3")])
    );

    advance(5 * SECOND).await;
    let probe = breaker.try_acquire().unwrap();
    let half_open = recorded(&told);
    assert_eq!(only(&half_open, "buttress_breaker_state"), states(State::HalfOpen));
    assert_eq!(
        only(&half_open, "buttress_breaker_transitions_total"),
        pairs([("{from=open,name=shop,to=half_open}", "1")])
    );
    breaker.try_acquire().unwrap_err();
    probe.record(Verdict::Success);

    let closed = recorded(&told);
    assert_eq!(only(&closed, "buttress_breaker_state"), states(State::Closed));
    assert_eq!(
        only(&closed, "buttress_breaker_transitions_total"),
        pairs([("{from=half_open,name=shop,to=closed}", "1")])
    );
    assert_eq!(
        only(&closed, "buttress_calls_total"),
        pairs([("{name=shop,outcome=success,policy=circuit_breaker}", "1")])
    );
    assert_eq!(
        only(&closed, "buttress_rejections_total"),
        pairs([("{name=shop,policy=circuit_breaker,reason=probes_taken}", "1")])
    );

    breaker.force_open("maintenance", None);
    let forced = recorded(&told);
    assert_eq!(only(&forced, "buttress_breaker_state"), states(State::ForcedOpen));
    breaker.force_closed("trust me", None);
    let forced = recorded(&told);
    assert_eq!(only(&forced, "buttress_breaker_state"), states(State::ForcedClosed));
}

#[tokio::test(start_paused = true)]
async fn durations_are_in_seconds_and_refusals_have_none() {
    let recorder = DebuggingRecorder::new();
    let told = recorder.snapshotter();
    let _guard = set_default_local_recorder(&recorder);
    let breaker = breaker("timed").build().unwrap();
    let slow = |wait: Duration| async move {
        tokio::time::sleep(wait).await;
        Ok::<_, Failure>(())
    };
    breaker.call(|| slow(250 * MS)).await.unwrap();
    breaker.call(|| slow(2 * SECOND)).await.unwrap();
    breaker.force_open("test", None);
    breaker.call(|| slow(SECOND)).await.unwrap_err();
    assert_eq!(
        only(&recorded(&told), "buttress_call_duration_seconds"),
        pairs([("{name=timed,policy=circuit_breaker}", "[0.25, 2.0]")])
    );
}

#[tokio::test(start_paused = true)]
async fn a_shadow_breaker_counts_what_it_would_have_refused() {
    let recorder = DebuggingRecorder::new();
    let told = recorder.snapshotter();
    let _guard = set_default_local_recorder(&recorder);
    let breaker = breaker("dim").shadow().build().unwrap();
    for _ in 0..5 {
        breaker.call(|| ready(FAILED)).await.unwrap_err();
    }
    let told = recorded(&told);
    assert_eq!(
        only(&told, "buttress_rejections_total"),
        pairs([("{name=dim,policy=circuit_breaker,reason=shadow}", "3")])
    );
    assert_eq!(
        only(&told, "buttress_calls_total"),
        pairs([("{name=dim,outcome=transient,policy=circuit_breaker}", "5")])
    );
}

#[tokio::test(start_paused = true)]
async fn the_failure_ratio_falls_when_failures_leave_the_window() {
    let recorder = DebuggingRecorder::new();
    let told = recorder.snapshotter();
    let _guard = set_default_local_recorder(&recorder);
    let breaker = breaker("waves").window(Window::time(10 * SECOND)).min_calls(100);
    let breaker = breaker.build().unwrap();
    breaker.try_acquire().unwrap().record(Verdict::Success);
    breaker.try_acquire().unwrap().record(Verdict::Transient);
    advance(20 * SECOND).await;
    breaker.try_acquire().unwrap().record(Verdict::Success);
    // Asked only once, or it would be the asking that has set it to zero.
    assert_eq!(
        only(&recorded(&told), "buttress_breaker_failure_ratio"),
        pairs([("{name=waves}", "0")])
    );
}

#[tokio::test(start_paused = true)]
async fn a_breaker_that_has_recovered_shows_nothing_of_what_was() {
    let recorder = DebuggingRecorder::new();
    let told = recorder.snapshotter();
    let _guard = set_default_local_recorder(&recorder);
    let breaker = breaker("shop").build().unwrap();
    (0..2).for_each(|_| breaker.try_acquire().unwrap().record(Verdict::Transient));
    advance(5 * SECOND).await;
    breaker.try_acquire().unwrap().record(Verdict::Success);
    assert_eq!(breaker.state(), State::Closed);
    // Asked only once, as above.
    let told = recorded(&told);
    assert_eq!(only(&told, "buttress_breaker_state"), states(State::Closed));
    assert_eq!(only(&told, "buttress_breaker_failure_ratio"), pairs([("{name=shop}", "0")]));
}

#[tokio::test(start_paused = true)]
async fn law_04_a_late_success_does_not_touch_the_ratio_of_an_open_circuit() {
    let recorder = DebuggingRecorder::new();
    let told = recorder.snapshotter();
    let _guard = set_default_local_recorder(&recorder);
    let breaker = breaker("late").build().unwrap();
    let late = breaker.try_acquire().unwrap();
    (0..2).for_each(|_| breaker.try_acquire().unwrap().record(Verdict::Transient));
    late.record(Verdict::Success);
    assert_eq!(
        only(&recorded(&told), "buttress_breaker_failure_ratio"),
        pairs([("{name=late}", "1")])
    );
}

/// A retry with exactly so many tokens.
fn budget(tokens: f64) -> RetryBudget {
    RetryBudget::builder("b")
        .cap(tokens)
        .timed_out_cost(1.0)
        .refill_per_second(0.0)
        .build()
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn retries_and_why_there_was_none() {
    let recorder = DebuggingRecorder::new();
    let told = recorder.snapshotter();
    let _guard = set_default_local_recorder(&recorder);
    let fail = |_: u32| ready(FAILED);

    let patient = Retry::builder("exhausted").budget(budget(2.0)).backoff(MS).build().unwrap();
    patient.call(fail).await.unwrap_err();
    let poor = Retry::builder("poor").budget(budget(1.0)).backoff(MS).build().unwrap();
    poor.call(fail).await.unwrap_err();
    let late = Retry::builder("late").max_elapsed(SECOND);
    let late = late.backoff(Backoff::constant(SECOND).jitter(Jitter::None)).build().unwrap();
    late.call(fail).await.unwrap_err();
    let stream = Retry::builder("stream").build().unwrap();
    let no_copy = |(): &()| None;
    let service = stream.layer().clone_with(no_copy).layer(service_fn(|()| ready(FAILED)));
    service.oneshot(()).await.unwrap_err();
    let good = Retry::builder("good").backoff(MS).build().unwrap();
    good.call(|attempt| ready(if attempt == 1 { FAILED } else { Ok(1) })).await.unwrap();

    let told = recorded(&told);
    assert_eq!(
        only(&told, "buttress_retry_attempts_total"),
        pairs([
            ("{name=exhausted,result=exhausted}", "1"),
            ("{name=exhausted,result=retried}", "2"),
            ("{name=good,result=retried}", "1"),
            ("{name=late,result=out_of_time}", "1"),
            ("{name=poor,result=budget_denied}", "1"),
            ("{name=poor,result=retried}", "1"),
            ("{name=stream,result=uncloneable}", "1"),
        ])
    );
    // One operation each, whatever the number of attempts.
    assert_eq!(
        only(&told, "buttress_calls_total"),
        pairs([
            ("{name=exhausted,outcome=transient,policy=retry}", "1"),
            ("{name=good,outcome=success,policy=retry}", "1"),
            ("{name=late,outcome=transient,policy=retry}", "1"),
            ("{name=poor,outcome=transient,policy=retry}", "1"),
            ("{name=stream,outcome=transient,policy=retry}", "1"),
        ])
    );
}

#[tokio::test(start_paused = true)]
async fn timeouts() {
    let recorder = DebuggingRecorder::new();
    let told = recorder.snapshotter();
    let _guard = set_default_local_recorder(&recorder);
    let timeout = Timeout::builder("slow").after(500 * MS).build().unwrap();
    timeout.call(|| ready(Ok::<_, Failure>(()))).await.unwrap();
    timeout.call(|| ready(FAILED)).await.unwrap_err();
    timeout.call(pending::<Outcome>).await.unwrap_err();
    timeout.call(pending::<Outcome>).await.unwrap_err();
    let told = recorded(&told);
    assert_eq!(only(&told, "buttress_timeouts_total"), pairs([("{name=slow}", "2")]));
    assert_eq!(
        only(&told, "buttress_calls_total"),
        pairs([
            ("{name=slow,outcome=error,policy=timeout}", "1"),
            ("{name=slow,outcome=success,policy=timeout}", "1"),
            ("{name=slow,outcome=timed_out,policy=timeout}", "2"),
        ])
    );
    assert_eq!(
        only(&told, "buttress_call_duration_seconds"),
        pairs([("{name=slow,policy=timeout}", "[0.0, 0.0, 0.5, 0.5]")])
    );
}

#[tokio::test(start_paused = true)]
async fn fallbacks_by_kind_and_degraded_answers_apart_from_good_ones() {
    let recorder = DebuggingRecorder::new();
    let told = recorder.snapshotter();
    let _guard = set_default_local_recorder(&recorder);
    let fallback = Fallback::builder("plan_b").build().unwrap();
    let obey = |outcome: Outcome| ready(outcome);
    let value = fallback.to_value(1).layer(service_fn(obey));
    let function = fallback.to_fn(|_: Outcome| Ok(2)).layer(service_fn(obey));
    let gives_back = fallback.to_fn(|outcome: Outcome| outcome).layer(service_fn(obey));
    let async_function = fallback.to_async_fn(|_: Outcome| ready(Ok(3))).layer(service_fn(obey));
    let backup = fallback.to_service(service_fn(|_: Outcome| ready(Ok::<_, Failure>(4))));
    let no_copy = backup.clone_with(|_: &Outcome| None).layer(service_fn(obey));
    let backup = backup.layer(service_fn(obey));

    value.clone().oneshot(Ok(0)).await.unwrap();
    value.oneshot(FAILED).await.unwrap();
    function.oneshot(FAILED).await.unwrap();
    gives_back.oneshot(FAILED).await.unwrap_err();
    async_function.oneshot(FAILED).await.unwrap();
    backup.oneshot(FAILED).await.unwrap();
    no_copy.oneshot(FAILED).await.unwrap_err();
    let told = recorded(&told);
    assert_eq!(
        only(&told, "buttress_fallbacks_total"),
        pairs([
            ("{kind=function,name=plan_b}", "3"),
            ("{kind=service,name=plan_b}", "1"),
            ("{kind=uncloneable,name=plan_b}", "1"),
            ("{kind=value,name=plan_b}", "1"),
        ])
    );
    assert_eq!(
        only(&told, "buttress_calls_total"),
        pairs([
            ("{name=plan_b,outcome=degraded,policy=fallback}", "4"),
            ("{name=plan_b,outcome=failed,policy=fallback}", "2"),
            ("{name=plan_b,outcome=good,policy=fallback}", "1"),
        ])
    );
}

/// Every event of every policy once, or thereabouts.
async fn everything() {
    let breaker = breaker("all").build().unwrap();
    (0..2).for_each(|_| breaker.try_acquire().unwrap().record(Verdict::Transient));
    breaker.try_acquire().unwrap_err();
    let retry = Retry::builder("all").backoff(MS).build().unwrap();
    retry.call(|_| ready(FAILED)).await.unwrap_err();
    let timeout = Timeout::builder("all").after(MS).build().unwrap();
    timeout.call(pending::<Outcome>).await.unwrap_err();
    let fallback = Fallback::builder("all").build().unwrap().to_value(1);
    fallback.layer(service_fn(|()| ready(FAILED))).oneshot(()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn every_metric_is_described_with_its_unit_and_has_no_other_labels() {
    let recorder = DebuggingRecorder::new();
    let told = recorder.snapshotter();
    let _guard = set_default_local_recorder(&recorder);
    everything().await;
    let mut seen: BTreeMap<String, (Vec<String>, Option<Unit>)> = BTreeMap::new();
    for (key, unit, description, _) in told.snapshot().into_vec() {
        let mut labels: Vec<_> = key.key().labels().map(|label| label.key().to_owned()).collect();
        labels.sort();
        let name = key.key().name().to_owned();
        assert!(description.is_some_and(|text| !text.is_empty()), "{name} has no description");
        let before = seen.insert(name.clone(), (labels.clone(), unit));
        assert!(before.is_none_or(|before| before == (labels, unit)), "{name} is not uniform");
    }
    let count = |labels: &[&str]| {
        (labels.iter().map(|label| String::from(*label)).collect::<Vec<_>>(), Some(Unit::Count))
    };
    let expected = BTreeMap::from([
        ("buttress_breaker_failure_ratio".into(), count(&["name"])),
        ("buttress_breaker_state".into(), count(&["name", "state"])),
        ("buttress_breaker_transitions_total".into(), count(&["from", "name", "to"])),
        (
            "buttress_call_duration_seconds".into(),
            (vec!["name".into(), "policy".into()], Some(Unit::Seconds)),
        ),
        ("buttress_calls_total".into(), count(&["name", "outcome", "policy"])),
        ("buttress_fallbacks_total".into(), count(&["kind", "name"])),
        ("buttress_rejections_total".into(), count(&["name", "policy", "reason"])),
        ("buttress_retry_attempts_total".into(), count(&["name", "result"])),
        ("buttress_timeouts_total".into(), count(&["name"])),
    ]);
    assert_eq!(seen, expected);
}

#[tokio::test(start_paused = true)]
async fn a_recorder_that_comes_late_is_used_and_told_the_state() {
    let breaker = breaker("shop").build().unwrap();
    (0..2).for_each(|_| breaker.try_acquire().unwrap().record(Verdict::Transient));
    assert_eq!(breaker.state(), State::Open);

    let recorder = DebuggingRecorder::new();
    let told = recorder.snapshotter();
    with_local_recorder(&recorder, || breaker.try_acquire().unwrap_err());
    let told = recorded(&told);
    assert_eq!(
        only(&told, "buttress_rejections_total"),
        pairs([("{name=shop,policy=circuit_breaker,reason=open}", "1")])
    );
    assert_eq!(only(&told, "buttress_calls_total"), [], "nobody listened to those");
    assert_eq!(only(&told, "buttress_breaker_state"), states(State::Open));
}

/// Counts what is asked of it.
#[derive(Default)]
struct Counting {
    registered: Arc<AtomicUsize>,
}

impl Recorder for Counting {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        self.registered.fetch_add(1, Ordering::Relaxed);
        Counter::noop()
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        self.registered.fetch_add(1, Ordering::Relaxed);
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        self.registered.fetch_add(1, Ordering::Relaxed);
        Histogram::noop()
    }
}

#[test]
fn law_11_handles_are_looked_up_once_and_only_for_a_recorder() {
    let breaker = breaker("once").build().unwrap();
    let call = || breaker.try_acquire().unwrap().record(Verdict::Success);
    // Nobody listens. What is looked up now would be kept, and the recorder below never asked.
    (0..100).for_each(|_| call());

    let recorder = Counting::default();
    let registered = Arc::clone(&recorder.registered);
    let _guard = set_default_local_recorder(&recorder);
    assert_eq!(registered.load(Ordering::Relaxed), 0, "building looks nothing up");
    call();
    // Eleven counters, five states, the ratio and the durations.
    assert_eq!(registered.load(Ordering::Relaxed), 11 + 5 + 1 + 1);
    (0..100).for_each(|_| call());
    assert_eq!(registered.load(Ordering::Relaxed), 11 + 5 + 1 + 1);
}

#[test]
fn the_verdicts_are_the_outcomes() {
    // The first eight counters of a breaker and of a retry are found by `VerdictKind as usize`.
    let recorder = DebuggingRecorder::new();
    let told = recorder.snapshotter();
    with_local_recorder(&recorder, || {
        for (index, kind) in VerdictKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index);
            let breaker = CircuitBreaker::builder(kind.as_str()).build().unwrap();
            breaker.try_acquire().unwrap().record(match kind {
                VerdictKind::Success => Verdict::Success,
                VerdictKind::Transient => Verdict::Transient,
                VerdictKind::Unreachable => Verdict::Unreachable,
                VerdictKind::Throttled => Verdict::Throttled { retry_after: None },
                VerdictKind::Final => Verdict::Final,
                VerdictKind::Permanent => Verdict::Permanent,
                VerdictKind::Refused => Verdict::Refused { retry_after: None },
                VerdictKind::Ignored => Verdict::Ignored,
            });
        }
    });
    let told = recorded(&told);
    for kind in VerdictKind::ALL {
        let series =
            format!("buttress_calls_total{{name={kind},outcome={kind},policy=circuit_breaker}}");
        assert_eq!(told.get(&series).map(String::as_str), Some("1"), "{series}");
    }
}
