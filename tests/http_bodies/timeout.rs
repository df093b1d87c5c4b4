//! The body timeout over bodies that follow a script, in paused time.

use std::{
    convert::Infallible,
    future::{pending, poll_fn},
    pin::{Pin, pin},
    sync::atomic::Ordering,
    task::{Context, Poll, Waker},
    time::Duration,
};

use buttress::{
    BoxError, Error, PolicyError, PolicyErrorKind, StackError,
    http::body::{BodyTimeout, BodyTimeoutConfig, TimeoutBody},
};
use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use tokio::time::{Instant, advance, sleep};
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::script::{Failed, Script, Step, data, ms, script, trailers};

type Failure = Error<Infallible>;

fn stall(time: Duration) -> BodyTimeout {
    BodyTimeout::builder("downloads").stall(time).build().unwrap()
}

fn total(time: Duration) -> BodyTimeout {
    BodyTimeout::builder("downloads").stall(Duration::MAX).total(time).build().unwrap()
}

async fn call<B: Body>(timeout: BodyTimeout, body: B) -> Pin<Box<TimeoutBody<B>>> {
    let mut body = Some(body);
    let client = service_fn(move |(): ()| {
        let body = body.take().unwrap();
        async move { Ok::<_, Failure>(Response::new(body)) }
    });
    let mut client = timeout.layer().layer(client);
    let response = client.ready().await.unwrap().call(()).await.unwrap();
    Box::pin(response.into_body())
}

fn policy(error: &BoxError) -> PolicyError {
    *error.policy_error().unwrap_or_else(|| panic!("not a policy's: {error}"))
}

#[tokio::test(start_paused = true)]
async fn a_stalled_body_ends_with_an_error_and_is_dropped_before_that_is_told() {
    let stalled = script([data("half"), Step::Hang]);
    let alive = stalled.alive();
    let mut body = call(stall(ms(200)), stalled).await;
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "half");
    let start = Instant::now();
    let error = body.frame().await.unwrap().unwrap_err();
    assert_eq!(start.elapsed(), ms(200));
    assert_eq!(alive.load(Ordering::SeqCst), 0, "its connection is free");
    let policy = policy(&error);
    assert_eq!(policy.kind(), PolicyErrorKind::TimedOut);
    assert_eq!(policy.timeout(), Some(ms(200)));
    assert!(policy.reached_service());
    assert_eq!(error.to_string(), r#"timeout "downloads": the body stalled for 200ms"#);
    assert!(body.is_end_stream() && body.frame().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn every_piece_starts_the_time_anew() {
    let wait = Step::Wait(ms(190));
    let steps = [wait.clone(), data("a"), wait.clone(), data("b"), wait, trailers("x", "y")];
    let start = Instant::now();
    let body = call(stall(ms(200)), script(steps)).await.collect().await.unwrap();
    assert_eq!(body.trailers().unwrap()["x"], "y");
    assert_eq!((start.elapsed(), body.to_bytes()), (ms(570), Bytes::from("ab")));
}

/// HTTP/2 has frames of data without any, which cost a server nothing.
#[tokio::test(start_paused = true)]
async fn a_piece_of_nothing_is_no_progress() {
    let nothing = (0..100).flat_map(|_| [Step::Wait(ms(50)), data("")]);
    let start = Instant::now();
    let error = call(stall(ms(200)), script(nothing)).await.collect().await.unwrap_err();
    assert_eq!((start.elapsed(), policy(&error).timeout()), (ms(200), Some(ms(200))));
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_is_not_blamed() {
    let wait = Step::Wait(ms(50));
    let steps = [data("a"), wait.clone(), data("b"), wait.clone(), data("c"), wait, data("d")];
    for nap in [20, 70, 120, 300] {
        let mut body = call(stall(ms(100)), script(steps.clone())).await;
        let mut read = Vec::new();
        while let Some(frame) = body.frame().await {
            read.extend_from_slice(&frame.unwrap().into_data().unwrap());
            sleep(ms(nap)).await;
        }
        assert_eq!(read, b"abcd");
    }
}

/// This body gets on only while it is polled, so it must not be judged by a time in which it was
/// not, even if somebody had asked before.
#[tokio::test(start_paused = true)]
async fn a_reader_that_asks_and_goes_away_is_not_blamed_either() {
    let steps = [Step::Wait(ms(50)), Step::Wait(ms(50)), data("late"), Step::Hang];
    let mut body = call(stall(ms(100)), script(steps)).await;
    let mut once = Context::from_waker(Waker::noop());
    assert!(body.as_mut().poll_frame(&mut once).is_pending());
    advance(ms(300)).await;
    let start = Instant::now();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "late");
    assert_eq!(start.elapsed(), ms(50));

    // One that is there, from then on, waits for no longer than it has to.
    assert!(body.as_mut().poll_frame(&mut once).is_pending());
    advance(ms(300)).await;
    let start = Instant::now();
    assert!(body.frame().await.unwrap().is_err());
    assert_eq!(start.elapsed(), ms(100));
}

#[tokio::test(start_paused = true)]
async fn the_total_cuts_off_a_trickle() {
    let trickle = (0..1000).flat_map(|_| [Step::Wait(ms(30)), data("x")]);
    let start = Instant::now();
    let error = call(total(ms(500)), script(trickle)).await.collect().await.unwrap_err();
    assert_eq!(start.elapsed(), ms(500));
    assert_eq!(error.to_string(), r#"timeout "downloads" elapsed after 500ms"#);
    assert_eq!(policy(&error).timeout(), Some(ms(500)));
}

#[tokio::test(start_paused = true)]
async fn the_total_is_the_reader_s_time_too_but_not_the_end_s() {
    let mut body = call(total(ms(500)), script([data("a"), data("b"), data("c")]).exact()).await;
    let _ = body.frame().await;
    sleep(ms(501)).await;
    assert!(body.frame().await.unwrap().is_err(), "no timer was ever waited for");

    let mut body = call(total(ms(500)), script([data("a"), data("b")]).exact()).await;
    let _ = body.frame().await;
    sleep(ms(501)).await;
    assert!(body.frame().await.unwrap().is_ok(), "the last piece, however late");
}

#[tokio::test(start_paused = true)]
async fn the_total_begins_with_the_call() {
    let slow = service_fn(|wait: Duration| async move {
        sleep(wait).await;
        Ok::<_, Failure>(Response::new(script([Step::Hang])))
    });
    let mut client = total(ms(500)).layer().layer(slow);
    let start = Instant::now();
    let response = client.ready().await.unwrap().call(ms(400)).await.unwrap();
    let mut body = pin!(response.into_body());
    assert!(body.frame().await.unwrap().is_err());
    assert_eq!(start.elapsed(), ms(500));

    let start = Instant::now();
    let error = client.ready().await.unwrap().call(Duration::MAX).await.map(drop).unwrap_err();
    assert_eq!(start.elapsed(), ms(500));
    assert_eq!(error.policy_error().unwrap().kind(), PolicyErrorKind::TimedOut);
}

#[tokio::test(start_paused = true)]
async fn without_a_total_the_headers_may_take_their_time() {
    let never = service_fn(|(): ()| pending::<Result<Response<Script>, Failure>>());
    let mut client = stall(ms(10)).layer().layer(never);
    let call = client.ready().await.unwrap().call(());
    assert!(tokio::time::timeout(ms(1000), call).await.is_err());
}

#[test]
fn law_10_without_waiting_there_is_no_timer_and_no_runtime() {
    tokio_test::block_on(async {});
    let body = futures::executor::block_on(async {
        call(stall(ms(10)), script([data("at "), data("once")])).await.collect().await
    });
    assert_eq!(body.unwrap().to_bytes(), "at once");
}

#[tokio::test(start_paused = true)]
async fn the_body_s_own_error_comes_as_it_is() {
    let mut body = call(stall(ms(10)), script([Step::Fail])).await;
    let error = body.frame().await.unwrap().unwrap_err();
    assert!(error.policy_error().is_none());
    assert_eq!(error.downcast_ref(), Some(&Failed));
    assert!(body.frame().await.is_none());
}

/// Is never ready, and uses up the cooperative budget each time it is asked.
struct Greedy;

impl Body for Greedy {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        loop {
            match pin!(tokio::task::consume_budget()).poll(cx) {
                Poll::Ready(()) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

// Real time: the paused clock only moves by itself when nothing is runnable, and this always is.
#[tokio::test]
async fn fires_over_a_body_that_uses_up_the_cooperative_budget() {
    let mut body = call(stall(ms(50)), Greedy).await;
    let start = Instant::now();
    let read = poll_fn(|cx| match body.as_mut().poll_frame(cx) {
        Poll::Pending if start.elapsed() > ms(5000) => Poll::Ready(None),
        polled => polled,
    });
    assert!(read.await.is_some_and(|read| read.is_err()), "starved");
}

#[test]
fn configuration_errors_say_what_is_allowed() {
    let error = BodyTimeout::builder("d").stall(Duration::ZERO).build().unwrap_err();
    assert_eq!(error.to_string(), r#"body timeout "d": stall must be above zero, but is 0ns"#);
    let error = BodyTimeout::builder("d").total(Duration::ZERO).build().unwrap_err();
    assert_eq!(error.to_string(), r#"body timeout "d": total must be above zero, but is 0ns"#);
    let built = BodyTimeout::builder("d").build().unwrap();
    assert_eq!(built.config(), &BodyTimeoutConfig::default());
    assert_eq!((built.config().stall, built.config().total), (Duration::from_secs(10), None));
    assert_eq!(built.name(), "d");
}

#[cfg(feature = "serde")]
#[test]
fn configuration_is_read_from_toml() {
    let config: BodyTimeoutConfig = toml::from_str("stall = '250ms'\ntotal = '1m'").unwrap();
    assert_eq!((config.stall, config.total), (ms(250), Some(Duration::from_secs(60))));
    assert_eq!(toml::from_str::<BodyTimeoutConfig>("").unwrap(), BodyTimeoutConfig::default());
    assert!(toml::from_str::<BodyTimeoutConfig>("stal = '1s'").is_err());
}

#[cfg(feature = "metrics")]
#[test]
fn bodies_are_counted_by_how_they_ended() {
    use metrics_util::debugging::{DebugValue, DebuggingRecorder};

    let recorder = DebuggingRecorder::new();
    metrics::with_local_recorder(&recorder, || {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap().block_on(async {
            let limit = BodyTimeout::builder("counted").stall(ms(5)).total(ms(9)).build().unwrap();
            let empty = call(limit, script([]).exact()).await;
            drop(empty); // Was at its end before anybody looked.
            let _ = call(limit, script([data("x"), Step::Fail])).await.collect().await;
            let _ = call(limit, script([Step::Hang])).await.collect().await;
            let trickle = [Step::Wait(ms(4)), data("x"), Step::Wait(ms(4)), data("x"), Step::Hang];
            let _ = call(limit, script(trickle)).await.collect().await;
            let mut dropped = call(limit, script([data("x"), Step::Hang])).await;
            let _ = dropped.frame().await;
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
    let row = |name: &str, label: &str, count| (name.to_owned(), label.to_owned(), count);
    assert_eq!(
        counters,
        [
            row("buttress_calls_total", "error", 1),
            row("buttress_calls_total", "stalled", 1),
            row("buttress_calls_total", "success", 1),
            row("buttress_calls_total", "timed_out", 1),
            row("buttress_timeouts_total", "", 2),
        ]
    );
}
