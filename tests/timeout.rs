//! The timeout through its public API.

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
    Error, PolicyErrorKind, StackError, Timeout,
    timeout::{Fixed, TimeoutConfig, TimeoutService},
};
use tokio::time::{Instant, sleep};
use tower::{Layer, Service, ServiceExt, limit::ConcurrencyLimit, service_fn};

type Failure = Error<&'static str>;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Panics when it is called without having been ready; a clone starts unready.
struct Strict {
    ready: bool,
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Strict { ready: false }
    }
}

impl Service<()> for Strict {
    type Response = ();
    type Error = Failure;
    type Future = std::future::Ready<Result<(), Failure>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called without being ready");
        ready(Ok(()))
    }
}

#[tokio::test]
async fn law_01_calls_only_the_instance_that_was_ready() {
    let mut service = Timeout::after(ms(5)).layer().layer(Strict { ready: false });
    let mut whole =
        Timeout::after(ms(5)).layer().including_readiness().layer(Strict { ready: false });
    for _ in 0..3 {
        service.ready().await.unwrap().call(()).await.unwrap();
        whole.ready().await.unwrap().call(()).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn law_01_readiness_counts_only_when_told_to() {
    let limiter = ConcurrencyLimit::new(
        service_fn(|wait: Duration| async move {
            sleep(wait).await;
            Ok::<_, Failure>(())
        }),
        1,
    );
    let mut holder = limiter.clone();
    let held = tokio::spawn(holder.ready().await.unwrap().call(ms(1000)));

    let start = Instant::now();
    let mut whole = Timeout::after(ms(50)).layer().including_readiness().layer(limiter.clone());
    let error = whole.ready().await.unwrap().call(ms(0)).await.unwrap_err();
    assert_eq!(error.policy_error().unwrap().kind(), PolicyErrorKind::TimedOut);
    assert_eq!(start.elapsed(), ms(50));

    let mut call_only = Timeout::after(ms(50)).layer().layer(limiter.clone());
    call_only.ready().await.unwrap().call(ms(10)).await.unwrap();
    assert!(start.elapsed() >= ms(1000), "waited in poll_ready");
    held.await.unwrap().unwrap();

    // The place in the queue that was given up is free again.
    whole.ready().await.unwrap().call(ms(10)).await.unwrap();
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
async fn law_03_the_inner_future_is_dropped_before_the_error_is_returned() {
    let count = Arc::new(AtomicUsize::new(0));
    let inner = Arc::clone(&count);
    let mut service = Timeout::after(ms(50)).layer().layer(service_fn(move |(): ()| {
        let alive = Alive::new(&inner);
        async move {
            let _alive = alive;
            pending::<Result<(), Failure>>().await
        }
    }));
    let mut call = Box::pin(service.ready().await.unwrap().call(()));
    assert!((&mut call).await.is_err());
    // The future itself still exists.
    assert_eq!(count.load(Ordering::SeqCst), 0);
    drop(call);
}

#[tokio::test(start_paused = true)]
async fn law_03_dropping_it_at_any_poll_drops_the_inner_future() {
    for polls in 0..3 {
        let count = Arc::new(AtomicUsize::new(0));
        let alive = Alive::new(&count);
        let mut call = tokio_test::task::spawn(Timeout::after(ms(50)).call(move || async move {
            let _alive = alive;
            pending::<Result<(), Failure>>().await
        }));
        for _ in 0..polls {
            assert!(call.poll().is_pending());
        }
        assert_eq!(count.load(Ordering::SeqCst), 1);
        drop(call);
        assert_eq!(count.load(Ordering::SeqCst), 0, "after {polls} polls");
    }
}

#[tokio::test(start_paused = true)]
async fn law_10_fires_on_the_paused_clock_at_its_duration() {
    let start = Instant::now();
    let result = Timeout::after(ms(250)).call(pending::<Result<(), Failure>>).await;
    assert_eq!(start.elapsed(), ms(250));
    let error = *result.unwrap_err().policy_error().unwrap();
    assert_eq!((error.name(), error.timeout()), ("", Some(ms(250))));
    assert!(error.reached_service());
}

#[test]
fn law_10_without_waiting_there_is_no_timer_and_no_runtime() {
    // `sleep` would panic here: there is no runtime.
    let mut call =
        tokio_test::task::spawn(Timeout::after(ms(50)).call(|| ready(Ok::<_, Failure>("at once"))));
    assert_eq!(call.poll(), Poll::Ready(Ok("at once")));
}

#[test]
fn zero_passes_only_what_is_ready_at_its_first_poll() {
    let limit = Timeout::after(Duration::ZERO);
    let mut call = tokio_test::task::spawn(limit.call(|| ready(Ok::<_, Failure>(1))));
    assert_eq!(call.poll(), Poll::Ready(Ok(1)));
    let mut call = tokio_test::task::spawn(limit.call(pending::<Result<(), Failure>>));
    assert!(matches!(call.poll(), Poll::Ready(Err(Error::Policy(_)))));
}

#[tokio::test(start_paused = true)]
async fn the_longest_duration_is_no_limit() {
    let call = Timeout::after(Duration::MAX).call(|| async {
        sleep(Duration::from_secs(86_400 * 365)).await;
        Ok::<_, Failure>("a year later")
    });
    assert_eq!(call.await, Ok("a year later"));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_with_the_deadline_is_an_answer() {
    let call = Timeout::after(ms(50)).call(|| async {
        sleep(ms(50)).await;
        Ok::<_, Failure>("just in time")
    });
    assert_eq!(call.await, Ok("just in time"));
}

// Real time: the paused clock only moves by itself when nothing is runnable, and this always is.
#[tokio::test]
async fn fires_over_a_future_that_uses_up_the_cooperative_budget() {
    let start = Instant::now();
    let result = Timeout::after(ms(50))
        .call(|| async move {
            while start.elapsed() < ms(1500) {
                tokio::task::consume_budget().await;
            }
            Ok::<_, Failure>(())
        })
        .await;
    assert!(result.is_err(), "it was starved for {:?}", start.elapsed());
    assert!(start.elapsed() < ms(1000), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_request_may_bring_its_own_limit() {
    let layer = Timeout::after(ms(100)).layer().per_request(|limit: &Option<Duration>| *limit);
    let mut service =
        layer.layer(service_fn(|_: Option<Duration>| pending::<Result<(), Failure>>()));
    for (own, expected) in [(None, ms(100)), (Some(ms(30)), ms(30)), (Some(ms(700)), ms(700))] {
        let start = Instant::now();
        let error = service.ready().await.unwrap().call(own).await.unwrap_err();
        assert_eq!(start.elapsed(), expected);
        assert_eq!(error.policy_error().unwrap().timeout(), Some(expected));
    }
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "polled after it was ready")]
async fn polling_it_after_it_was_ready_panics() {
    let mut service =
        Timeout::after(ms(1)).layer().layer(service_fn(|(): ()| ready(Ok::<_, Failure>(()))));
    let mut call = Box::pin(service.ready().await.unwrap().call(()));
    let _ = (&mut call).await;
    let _ = (&mut call).await;
}

#[test]
fn law_13_services_are_what_the_inner_one_is() {
    fn is<T: Send + Sync + Clone>() {}
    is::<Timeout>();
    is::<TimeoutService<String, Fixed>>();
}

#[test]
fn configuration_errors_say_what_is_allowed() {
    let error = Timeout::builder("search").after(Duration::ZERO).build().unwrap_err();
    assert_eq!(error.to_string(), r#"timeout "search": after must be above zero, but is 0ns"#);
    assert!(TimeoutConfig::default().validate().is_ok());
    let built = Timeout::builder("search").build().unwrap();
    assert_eq!((built.name(), built.duration()), ("search", Duration::from_secs(1)));
}

#[cfg(feature = "serde")]
#[test]
fn configuration_is_read_from_toml() {
    let config: TimeoutConfig = toml::from_str(r#"after = "250ms""#).unwrap();
    assert_eq!(config.after, ms(250));
    assert_eq!(toml::from_str::<TimeoutConfig>("").unwrap(), TimeoutConfig::default());
    let error = toml::from_str::<TimeoutConfig>("afetr = 1").unwrap_err().to_string();
    assert!(error.contains("afetr") && error.contains("after"), "{error}");
}

#[cfg(feature = "metrics")]
#[test]
fn calls_and_expiries_are_counted() {
    use metrics_util::debugging::{DebugValue, DebuggingRecorder};

    let recorder = DebuggingRecorder::new();
    metrics::with_local_recorder(&recorder, || {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap().block_on(async {
            let limit = Timeout::builder("counted").after(ms(5)).build().unwrap();
            let _ = limit.call(|| ready(Ok::<_, Failure>(()))).await;
            let _ = limit.call(|| ready(Err::<(), _>(Error::Service("no")))).await;
            let _ = limit.call(pending::<Result<(), Failure>>).await;
        });
    });
    let mut counters = Vec::new();
    for (key, _, _, value) in recorder.snapshotter().snapshot().into_vec() {
        if let DebugValue::Counter(count) = value {
            let label = key.key().labels().find(|label| label.key() == "outcome");
            let label = label.map_or("", |label| label.value()).to_owned();
            counters.push((key.key().name().to_owned(), label, count));
        }
    }
    counters.sort();
    let row = |name: &str, label: &str| (name.to_owned(), label.to_owned(), 1);
    assert_eq!(
        counters,
        [
            row("buttress_calls_total", "error"),
            row("buttress_calls_total", "success"),
            row("buttress_calls_total", "timed_out"),
            // Nothing is refused without a deadline; see tests/context.rs.
            ("buttress_rejections_total".to_owned(), String::new(), 0),
            row("buttress_timeouts_total", ""),
        ]
    );
}
