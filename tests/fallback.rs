//! The fallback through its public API.

use std::{
    future::{pending, ready},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use buttress::{
    Error, Fallback, Verdict, VerdictKind, classify_response,
    fallback::{FallbackConfig, FallbackCounts, FallbackService, Value, VerdictKinds},
};
use tokio::time::sleep;
use tower::{Layer, Service, ServiceExt, limit::ConcurrencyLimit, service_fn};

type Failure = Error<&'static str>;
type Outcome = Result<u16, Failure>;

/// A request that cannot be cloned.
#[derive(Debug)]
struct Unique(Outcome);

fn fallback(name: &'static str) -> Fallback {
    Fallback::builder(name).build().unwrap()
}

fn tuple(fallback: Fallback) -> (u64, u64, u64) {
    let FallbackCounts { degraded, failed, uncloneable, .. } = fallback.counts();
    (degraded, failed, uncloneable)
}

fn statuses() -> impl Fn(Result<&u16, &Failure>) -> Verdict + Clone {
    |outcome: Result<&u16, &Failure>| match outcome {
        Ok(503) => Verdict::Transient,
        Ok(404) => Verdict::Permanent,
        Ok(429) => Verdict::Throttled { retry_after: None },
        Ok(_) => Verdict::Success,
        Err(Error::Service("unreachable")) => Verdict::Unreachable,
        Err(Error::Service("final")) => Verdict::Final,
        Err(Error::Service("refused")) => Verdict::Refused { retry_after: None },
        Err(Error::Service("ignored")) => Verdict::Ignored,
        Err(_) => Verdict::Transient,
    }
}

/// Answers as the request says.
async fn obey(request: Unique) -> Outcome {
    request.0
}

/// Its readiness fails as often as told; panics when called without having been ready.
#[derive(Debug)]
struct Strict {
    failures: usize,
    ready: bool,
    calls: Arc<AtomicUsize>,
}

impl Strict {
    fn failing(failures: usize) -> Self {
        Strict { failures, ready: false, calls: Arc::default() }
    }
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Strict { failures: self.failures, ready: false, calls: Arc::clone(&self.calls) }
    }
}

impl Service<Unique> for Strict {
    type Response = u16;
    type Error = Failure;
    type Future = std::future::Ready<Outcome>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.ready = self.failures == 0;
        if self.ready {
            return Poll::Ready(Ok(()));
        }
        self.failures -= 1;
        Poll::Ready(Err(Error::Service("not ready")))
    }

    fn call(&mut self, request: Unique) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called without being ready");
        self.calls.fetch_add(1, Ordering::SeqCst);
        ready(request.0)
    }
}

#[allow(clippy::unnecessary_wraps)] // the signature is `CloneRequest`'s
fn copy(request: &Unique) -> Option<Unique> {
    Some(Unique(request.0))
}

#[tokio::test]
async fn law_01_primary_and_backup_are_called_on_the_instance_that_was_ready() {
    let primary = Strict::failing(0);
    let calls = Arc::clone(&primary.calls);
    let backup = Strict::failing(0);
    let backup_calls = Arc::clone(&backup.calls);
    let layer = fallback("law 1").to_service(backup).clone_with(copy);
    let mut service = layer.layer(primary);
    for _ in 0..3 {
        let outcome = service.ready().await.unwrap().call(Unique(Err(Error::Service("no")))).await;
        assert!(outcome.is_err());
    }
    assert_eq!(calls.load(Ordering::SeqCst), 3);
    assert_eq!(backup_calls.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn law_01_a_primary_whose_readiness_fails_is_served_by_the_backup_and_polled_again() {
    let handle = fallback("readiness");
    let primary = Strict::failing(1);
    let calls = Arc::clone(&primary.calls);
    // No copy is needed: the primary never takes the request.
    let layer = handle.to_service(service_fn(|_: Unique| ready(Ok::<_, Failure>(203))));
    let layer = layer.clone_with(|_: &Unique| -> Option<Unique> { None });
    let mut service = layer.layer(primary);
    assert_eq!(service.ready().await.unwrap().call(Unique(Ok(200))).await, Ok(203));
    assert_eq!(calls.load(Ordering::SeqCst), 0);
    // Strict panics unless it is polled again.
    assert_eq!(service.ready().await.unwrap().call(Unique(Ok(200))).await, Ok(200));
    assert_eq!(tuple(handle), (1, 0, 0));
}

#[tokio::test]
async fn law_01_readiness_is_decided_anew_by_every_poll_and_never_cloned() {
    let mut service = fallback("anew").to_value(203).layer(Strict::failing(1));
    service.ready().await.unwrap();
    let mut clone = service.clone();
    assert_eq!(clone.ready().await.unwrap().call(Unique(Ok(200))).await, Ok(200));
    assert_eq!(service.ready().await.unwrap().call(Unique(Ok(200))).await, Ok(200));
}

#[tokio::test]
async fn a_function_gets_the_error_of_readiness() {
    let layer = fallback("function").to_fn(|outcome: Outcome| {
        assert_eq!(outcome, Err(Error::Service("not ready")));
        Ok(203)
    });
    let mut service = layer.layer(Strict::failing(1));
    assert_eq!(service.ready().await.unwrap().call(Unique(Ok(200))).await, Ok(203));
}

#[tokio::test]
async fn an_error_of_readiness_that_is_not_answered_goes_through() {
    let handle = Fallback::builder("not asked").when([VerdictKind::Refused]).build().unwrap();
    let mut service = handle.to_value(203).layer(Strict::failing(1));
    assert_eq!(service.ready().await.map(|_| ()), Err(Error::Service("not ready")));
    assert_eq!(tuple(handle), (0, 1, 0));
}

/// Counts itself for as long as it lives.
struct Alive(Arc<AtomicUsize>);

impl Alive {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Alive(Arc::clone(count))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn law_03_dropped_at_any_poll_it_gives_everything_back() {
    let (primaries, backups) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (in_primary, in_backup) = (Arc::clone(&primaries), Arc::clone(&backups));
    let primary = service_fn(move |(): ()| {
        let alive = Alive::new(&in_primary);
        async move {
            let _alive = alive;
            tokio::task::yield_now().await;
            Err::<u16, Failure>(Error::Service("no"))
        }
    });
    let backup = ConcurrencyLimit::new(
        service_fn(move |(): ()| {
            let alive = Alive::new(&in_backup);
            async move {
                let _alive = alive;
                pending::<Outcome>().await
            }
        }),
        1,
    );
    let mut permits = backup.clone();
    let mut service = fallback("law 3").to_service(backup).layer(primary);
    for polls in 0..4 {
        let mut call = tokio_test::task::spawn(service.ready().await.unwrap().call(()));
        for _ in 0..polls {
            assert!(call.poll().is_pending());
        }
        let expected = if polls < 2 { (1, 0) } else { (0, 1) };
        let alive = (primaries.load(Ordering::SeqCst), backups.load(Ordering::SeqCst));
        assert_eq!(alive, expected, "after {polls} polls");
        drop(call);
        assert_eq!(primaries.load(Ordering::SeqCst) + backups.load(Ordering::SeqCst), 0);
        // The backup's only permit is free.
        let probe = tokio::time::timeout(Duration::from_secs(1), permits.ready()).await;
        drop(probe.expect("the permit was not given back"));
        permits = permits.clone();
    }
}

#[tokio::test(start_paused = true)]
async fn law_10_the_backup_is_waited_for_only_when_it_is_needed() {
    let limited = ConcurrencyLimit::new(
        service_fn(|wait: u16| async move {
            sleep(Duration::from_millis(wait.into())).await;
            Ok::<u16, Failure>(203)
        }),
        1,
    );
    let mut busy = limited.clone();
    let held = tokio::spawn(busy.ready().await.unwrap().call(500));
    let primary = service_fn(|request: u16| {
        ready(if request == 0 { Ok(200) } else { Err(Error::Service("no")) })
    });
    let mut service = fallback("lazy").to_service(limited).layer(primary);
    let start = tokio::time::Instant::now();
    assert_eq!(service.ready().await.unwrap().call(0).await, Ok(200));
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(service.ready().await.unwrap().call(1).await, Ok(203));
    assert!(start.elapsed() >= Duration::from_millis(500));
    held.await.unwrap().unwrap();
}

#[tokio::test]
async fn law_13_a_value_asks_no_clone_of_the_request_and_is_not_cloned_while_all_is_well() {
    #[derive(Debug)]
    struct Counted(Arc<AtomicUsize>);
    impl Clone for Counted {
        fn clone(&self) -> Self {
            self.0.fetch_add(1, Ordering::SeqCst);
            Counted(Arc::clone(&self.0))
        }
    }
    let clones = Arc::new(AtomicUsize::new(0));
    let good = Arc::clone(&clones);
    let primary =
        service_fn(move |request: Unique| ready(request.0.map(|_| Counted(Arc::clone(&good)))));
    let mut service = fallback("value").to_value(Counted(Arc::clone(&clones))).layer(primary);
    service.ready().await.unwrap().call(Unique(Ok(200))).await.unwrap();
    assert_eq!(clones.load(Ordering::SeqCst), 0);
    service.ready().await.unwrap().call(Unique(Err(Error::Service("no")))).await.unwrap();
    assert_eq!(clones.load(Ordering::SeqCst), 1);
}

#[test]
fn law_13_services_are_what_the_inner_one_is() {
    fn is<T: Send + Sync + Clone>() {}
    is::<Fallback>();
    is::<FallbackService<String, Value<u16>>>();
}

#[tokio::test]
async fn every_verdict_goes_where_the_table_says() {
    let handle = fallback("table");
    let mut service = handle.to_value(203).classify(statuses()).layer(service_fn(obey));
    let mut expected = (0, 0, 0);
    for (outcome, answered) in [
        (Ok(200), false),
        (Ok(404), false),
        (Err(Error::Service("ignored")), false),
        (Ok(503), true),
        (Ok(429), true),
        (Err(Error::Service("unreachable")), true),
        (Err(Error::Service("final")), true),
        (Err(Error::Service("refused")), true),
        (Err(Error::Service("no")), true),
    ] {
        let got = service.ready().await.unwrap().call(Unique(outcome)).await;
        assert_eq!(got, if answered { Ok(203) } else { outcome });
        expected.0 += u64::from(answered);
        assert_eq!(tuple(handle), expected, "{outcome:?}");
    }
}

#[tokio::test]
async fn permanent_falls_back_only_when_asked_for_and_others_then_count_as_failed() {
    let handle = Fallback::builder("permanent").when([VerdictKind::Permanent]).build().unwrap();
    let mut service = handle.to_value(203).classify(statuses()).layer(service_fn(obey));
    assert_eq!(service.ready().await.unwrap().call(Unique(Ok(404))).await, Ok(203));
    assert_eq!(service.ready().await.unwrap().call(Unique(Ok(503))).await, Ok(503));
    assert_eq!(tuple(handle), (1, 1, 0));
}

#[tokio::test]
async fn a_function_gets_the_failed_outcome_and_may_give_it_back() {
    let handle = fallback("function");
    let layer = handle.to_fn(|outcome: Outcome| match outcome {
        Ok(503) => Ok(203),
        other => other,
    });
    let mut service = layer.classify(statuses()).layer(service_fn(obey));
    assert_eq!(service.ready().await.unwrap().call(Unique(Ok(503))).await, Ok(203));
    let unchanged = Err(Error::Service("no"));
    assert_eq!(service.ready().await.unwrap().call(Unique(unchanged)).await, unchanged);
    assert_eq!(tuple(handle), (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn an_async_function_answers() {
    let layer = fallback("async").to_async_fn(|_: Outcome| async {
        sleep(Duration::from_millis(5)).await;
        Ok(203)
    });
    let mut service = layer.layer(service_fn(obey));
    let outcome = Unique(Err(Error::Service("no")));
    assert_eq!(service.ready().await.unwrap().call(outcome).await, Ok(203));
}

#[tokio::test]
async fn an_uncloneable_request_keeps_the_primarys_outcome() {
    let handle = fallback("uncloneable");
    let layer = handle
        .to_service(service_fn(|_: Unique| ready(Ok::<_, Failure>(203))))
        .clone_with(|_: &Unique| -> Option<Unique> { None });
    let mut service = layer.layer(service_fn(obey));
    let failed = Err(Error::Service("no"));
    assert_eq!(service.ready().await.unwrap().call(Unique(failed)).await, failed);
    assert_eq!(tuple(handle), (0, 1, 1));
}

#[tokio::test]
async fn a_fallback_that_fails_returns_its_own_outcome() {
    let handle = fallback("both");
    let backup = service_fn(|_: Unique| ready(Err::<u16, Failure>(Error::Service("backup"))));
    let mut service = handle.to_service(backup).clone_with(copy).layer(service_fn(obey));
    let failed = Unique(Err(Error::Service("no")));
    let got = service.ready().await.unwrap().call(failed).await;
    assert_eq!(got, Err(Error::Service("backup")));
    assert_eq!(tuple(handle), (0, 1, 0));

    // A backup that answers with a failure has failed, too.
    let handle = fallback("both 503");
    let layer = handle.to_service(service_fn(|_: Unique| ready(Ok::<_, Failure>(503))));
    let layer = layer.clone_with(copy).classify(classify_response(|status: &u16| match status {
        503 => Verdict::Transient,
        _ => Verdict::Success,
    }));
    let mut service = layer.layer(service_fn(obey));
    assert_eq!(service.ready().await.unwrap().call(Unique(Ok(503))).await, Ok(503));
    assert_eq!(tuple(handle), (0, 1, 0));
}

#[test]
fn configuration_errors_say_what_is_allowed() {
    let error = Fallback::builder("prices").when([]).build().unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"fallback "prices": when must name at least one verdict, or the fallback would never answer, but is []"#
    );
    let given = [VerdictKind::Success, VerdictKind::Transient];
    let error = Fallback::builder("prices").when(given).build().unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"fallback "prices": when must not name success, or the fallback would replace every good answer, but is [success, transient]"#
    );
    assert_eq!(
        FallbackConfig::default().when,
        VerdictKinds::from_iter([
            VerdictKind::Transient,
            VerdictKind::Unreachable,
            VerdictKind::Throttled,
            VerdictKind::Final,
            VerdictKind::Refused
        ])
    );
}

#[cfg(feature = "serde")]
#[test]
fn configuration_is_read_from_toml() {
    let config: FallbackConfig = toml::from_str(r#"when = ["transient", "refused"]"#).unwrap();
    assert_eq!(format!("{:?}", config.when), "[transient, refused]");
    assert_eq!(toml::from_str::<FallbackConfig>("").unwrap(), FallbackConfig::default());
    assert_eq!(toml::to_string(&config).unwrap().trim(), r#"when = ["transient", "refused"]"#);
    let error = toml::from_str::<FallbackConfig>(r#"when = ["transiet"]"#).unwrap_err().to_string();
    assert!(error.contains("transiet") && error.contains("transient"), "{error}");
}

#[cfg(feature = "metrics")]
#[test]
fn good_degraded_and_failed_calls_are_counted_apart() {
    use metrics_util::debugging::{DebugValue, DebuggingRecorder};

    let recorder = DebuggingRecorder::new();
    metrics::with_local_recorder(&recorder, || {
        tokio_test::block_on(async {
            let layer = fallback("counted").to_fn(|outcome: Outcome| match outcome {
                Ok(503) => Ok(203),
                other => other,
            });
            let mut service = layer.classify(statuses()).layer(service_fn(obey));
            for outcome in [Ok(200), Ok(503), Err(Error::Service("no"))] {
                let _ = service.ready().await.unwrap().call(Unique(outcome)).await;
            }
        });
    });
    let mut counters = Vec::new();
    for (key, _, _, value) in recorder.snapshotter().snapshot().into_vec() {
        if let DebugValue::Counter(count) = value
            && count > 0
        {
            let label = key.key().labels().find(|label| matches!(label.key(), "outcome" | "kind"));
            counters.push((label.unwrap().value().to_owned(), count));
        }
    }
    counters.sort();
    let row = |label: &str, count| (label.to_owned(), count);
    assert_eq!(
        counters,
        [row("degraded", 1), row("failed", 1), row("function", 2), row("good", 1)]
    );
}
