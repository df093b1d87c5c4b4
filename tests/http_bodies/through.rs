//! The breaker whose verdict comes at the end of the body, over bodies that follow a script.

use std::{pin::Pin, time::Duration};

use buttress::{
    CircuitBreaker, Error, Errors, FailureKind, PolicyErrorKind, StackError, Verdict, Window,
    breaker::{Abandoned, CircuitBreakerBuilder, State},
    classify_response,
    http::body::{BodyTimeout, ClassifyTrailers, Complete, GuardedBody, ThroughBodyService},
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body::Body;
use http_body_util::BodyExt;
use tokio::time::{advance, sleep};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_test::mock::Mock;

use crate::script::{Failed, Script, Step, data, ms, poll, script, trailers};
use crate::support::panics;

type Failure = Error<&'static str>;

/// Trips at the second failure of two.
fn builder() -> CircuitBreakerBuilder {
    CircuitBreaker::builder("downloads").window(Window::calls(10)).min_calls(2).failure_ratio(1.0)
}

fn breaker() -> CircuitBreaker {
    builder().build().unwrap()
}

/// Half-open, with one probe.
fn half_open(builder: CircuitBreakerBuilder) -> CircuitBreaker {
    let breaker = builder.probes(1).build().unwrap();
    breaker.force_open("for the test", Some(Duration::ZERO));
    assert_eq!(breaker.state(), State::HalfOpen);
    breaker
}

fn by_status<B>(response: &Response<B>) -> Verdict {
    match response.status().as_u16() {
        500.. => Verdict::Transient,
        400.. => Verdict::Permanent,
        _ => Verdict::Success,
    }
}

/// As gRPC has it, in short.
fn grpc(trailers: &HeaderMap) -> Verdict {
    match trailers.get("grpc-status").map(HeaderValue::as_bytes) {
        Some(b"0") => Verdict::Success,
        Some(b"5") => Verdict::Permanent,
        Some(b"8") => Verdict::Throttled { retry_after: None },
        _ => Verdict::Transient,
    }
}

type Guarded<B, T> = Result<Response<Pin<Box<GuardedBody<B, T>>>>, Failure>;

async fn call_with<B, T>(
    breaker: CircuitBreaker,
    trailers: T,
    response: Result<Response<B>, Failure>,
) -> Guarded<B, T>
where
    B: Body<Error: 'static>,
    T: ClassifyTrailers + Clone,
{
    let mut response = Some(response);
    let client = service_fn(move |(): ()| {
        let response = response.take().unwrap();
        async move { response }
    });
    let layer =
        breaker.layer().classify(classify_response(by_status::<B>)).through_body_with(trailers);
    let mut client = layer.layer(client);
    let response = client.ready().await.unwrap().call(()).await?;
    Ok(response.map(Box::pin))
}

async fn call(breaker: CircuitBreaker, body: Script) -> Pin<Box<GuardedBody<Script, Complete>>> {
    call_with(breaker, Complete, Ok(Response::new(body))).await.unwrap().into_body()
}

fn counts(breaker: CircuitBreaker) -> (u32, u32) {
    let snapshot = breaker.snapshot();
    (snapshot.calls, snapshot.failures)
}

#[tokio::test]
async fn a_success_counts_when_the_body_has_been_read() {
    let breaker = breaker();
    let mut body = call(breaker, script([data("one"), data("two")])).await;
    for _ in 0..2 {
        let _ = body.frame().await.unwrap().unwrap();
        assert_eq!(counts(breaker), (0, 0));
        assert!(body.is_watched());
    }
    assert!(body.frame().await.is_none());
    assert_eq!(counts(breaker), (1, 0));
    assert!(!body.is_watched());
    drop(body);
    assert_eq!(counts(breaker), (1, 0), "once");
}

#[tokio::test]
async fn a_reader_that_stops_where_the_body_says_it_ends_has_read_it() {
    let breaker = breaker();
    let mut body = call(breaker, script([data("one"), data("two")]).exact()).await;
    let _ = body.frame().await;
    assert_eq!(counts(breaker), (0, 0));
    let _ = body.frame().await;
    assert!(body.is_end_stream());
    assert_eq!(counts(breaker), (1, 0));
}

/// hyper's HTTP/1.1 server, say: it drops a body that has given all of the `content-length`.
#[tokio::test]
async fn a_reader_that_has_all_of_a_stated_length_has_read_it() {
    let breaker = half_open(builder());
    let mut body = call(breaker, script([data("one"), data("two")]).stated()).await;
    let _ = body.frame().await;
    let _ = body.frame().await;
    assert!(!body.is_end_stream() && body.size_hint().exact() == Some(0));
    assert_eq!(breaker.state(), State::HalfOpen, "there may be trailers");
    drop(body);
    assert_eq!(breaker.state(), State::Closed);

    // One that has not has not, and trailers that are waited for have not come.
    let breaker = half_open(builder());
    let mut body = call(breaker, script([data("one"), data("two")]).stated()).await;
    let _ = body.frame().await;
    drop(body);
    assert_eq!(breaker.state(), State::HalfOpen);
    let response = Response::new(script([data("one"), Step::Hang]).stated());
    let mut body = call_with(breaker, grpc, Ok(response)).await.unwrap().into_body();
    let _ = body.frame().await;
    drop(body);
    assert_eq!(breaker.state(), State::HalfOpen);
}

#[tokio::test]
async fn a_body_that_is_empty_is_over_with_the_head() {
    let breaker = breaker();
    let body = call(breaker, script([]).exact()).await;
    assert_eq!(counts(breaker), (1, 0));
    assert!(!body.is_watched());
}

#[tokio::test]
async fn bad_news_does_not_wait_for_the_body() {
    let breaker = breaker();
    let mut unavailable = Response::new(script([data("sorry"), Step::Hang]));
    *unavailable.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    let response = call_with(breaker, Complete, Ok(unavailable)).await.unwrap();
    assert_eq!(counts(breaker), (1, 1));
    let mut body = response.into_body();
    assert!(!body.is_watched());
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "sorry");
    drop(body);
    assert_eq!(counts(breaker), (1, 1));

    let failed = call_with::<Script, _>(breaker, Complete, Err(Error::Service("reset"))).await;
    assert!(failed.is_err());
    assert_eq!(breaker.state(), State::Open);

    let refused = call_with(breaker, Complete, Ok(Response::new(script([])))).await;
    let refused = *refused.unwrap_err().policy_error().unwrap();
    assert_eq!(refused.kind(), PolicyErrorKind::CircuitOpen);
}

#[tokio::test]
async fn an_error_of_the_body_is_a_failure_and_passes_as_it_is() {
    let breaker = breaker();
    for failures in 1..=2 {
        let mut body = call(breaker, script([data("half"), Step::Fail])).await;
        let _ = body.frame().await.unwrap().unwrap();
        assert_eq!(body.frame().await.unwrap().unwrap_err(), Failed);
        assert_eq!(failures == 2, breaker.state() == State::Open);
    }
    let latest = breaker.snapshot().transitions.pop().unwrap();
    assert_eq!(latest.failures, [(FailureKind::Failed, 2)]);
}

#[tokio::test(start_paused = true)]
async fn a_stalled_body_is_a_timeout_in_the_evidence() {
    let breaker = breaker();
    let timeout = BodyTimeout::builder("downloads").stall(ms(100)).build().unwrap();
    let stalled = service_fn(|(): ()| async {
        Ok::<_, Failure>(Response::new(script([data("half"), Step::Hang])))
    });
    let mut client = breaker.layer().through_body().layer(timeout.layer().layer(stalled));
    for _ in 0..2 {
        let response = client.ready().await.unwrap().call(()).await.unwrap();
        let error = response.into_body().collect().await.unwrap_err();
        assert_eq!(error.policy_error().unwrap().kind(), PolicyErrorKind::TimedOut);
    }
    assert_eq!(breaker.state(), State::Open);
    let latest = breaker.snapshot().transitions.pop().unwrap();
    assert_eq!(latest.failures, [(FailureKind::TimedOut, 2)]);
}

#[tokio::test]
async fn law_03_a_body_dropped_by_its_reader_is_neutral_and_gives_its_probe_back() {
    let breaker = half_open(builder());
    let mut body = call(breaker, script([data("half"), Step::Hang])).await;
    let _ = body.frame().await;
    let taken = call_with(breaker, Complete, Ok(Response::new(script([])))).await;
    assert!(taken.is_err(), "the only probe is under way until the end of the body");
    drop(body);
    assert_eq!(breaker.state(), State::HalfOpen);
    let probes = breaker.snapshot().probes.unwrap();
    assert_eq!((probes.outstanding, probes.succeeded, probes.failed), (0, 0, 0));

    let mut probe = call(breaker, script([data("all")])).await;
    while probe.frame().await.is_some() {}
    assert_eq!(breaker.state(), State::Closed);
    assert_eq!(counts(breaker), (0, 0));
}

#[tokio::test]
async fn a_probe_whose_body_fails_has_failed() {
    let breaker = half_open(builder());
    let mut body = call(breaker, script([data("half"), Step::Fail])).await;
    let _ = body.frame().await;
    assert_eq!(breaker.state(), State::HalfOpen);
    let _ = body.frame().await;
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test]
async fn a_body_given_up_is_a_failure_where_the_breaker_was_told_so() {
    let breaker = builder().abandoned(Abandoned::Failure).build().unwrap();
    drop(call(breaker, script([data("half")])).await);
    assert_eq!(counts(breaker), (1, 1));
    let mut read = call(breaker, script([data("all")])).await;
    while read.frame().await.is_some() {}
    drop(read);
    assert_eq!(counts(breaker), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn the_reader_s_time_is_not_the_service_s() {
    let breaker = builder().abandoned_after(ms(100)).build().unwrap();
    let steps = [data("a"), Step::Wait(ms(60)), data("b"), Step::Hang];
    let mut slow_reader = call(breaker, script(steps.clone())).await;
    for _ in 0..2 {
        let _ = slow_reader.frame().await;
        sleep(ms(500)).await;
    }
    drop(slow_reader);
    assert_eq!(counts(breaker), (0, 0), "60 ms were the service's");

    let mut waiting = call(breaker, script(steps)).await;
    for _ in 0..2 {
        let _ = waiting.frame().await;
    }
    let _ = tokio::time::timeout(ms(50), waiting.frame()).await;
    drop(waiting);
    assert_eq!(counts(breaker), (1, 1), "110 ms were");
}

#[tokio::test(start_paused = true)]
async fn slow_calls_are_slow_by_the_service_s_time() {
    let slow = |steps: Vec<Step>, reader: Duration| async move {
        let breaker = builder().slow_calls(ms(100), 1.0).build().unwrap();
        let mut body = call(breaker, script(steps)).await;
        while body.frame().await.is_some() {
            sleep(reader).await;
        }
        breaker.snapshot().slow
    };
    let steps = vec![data("a"), Step::Wait(ms(60)), data("b")];
    assert_eq!(slow(steps.clone(), ms(500)).await, Some(0));
    let steps = vec![data("a"), Step::Wait(ms(60)), data("b"), Step::Wait(ms(60))];
    assert_eq!(slow(steps, Duration::ZERO).await, Some(1));
}

#[tokio::test(start_paused = true)]
async fn law_05_a_probe_that_gets_on_does_not_hang() {
    let breaker = half_open(builder().half_open_for(ms(1000)));
    let steps = [data("a"), Step::Wait(ms(900)), data("b"), Step::Hang];
    let mut body = call(breaker, script(steps)).await;
    for _ in 0..2 {
        let _ = body.frame().await;
    }
    advance(ms(999)).await;
    assert_eq!(breaker.state(), State::HalfOpen, "not before 1.9 s");
    advance(ms(1)).await;
    assert_eq!(breaker.state(), State::Open, "and one that does not, does");
}

/// A stream of events, which gets on and has no end. As long as it is a probe everybody else is
/// refused.
#[tokio::test(start_paused = true)]
async fn law_05_a_probe_that_never_ends_does_not_keep_the_circuit_half_open() {
    let breaker = half_open(builder().half_open_for(ms(1000)));
    let events = (0..3).flat_map(|_| [Step::Wait(ms(450)), data("x")]);
    let mut body = call(breaker, script(events)).await;
    for state in [State::HalfOpen, State::HalfOpen, State::Closed] {
        let _ = body.frame().await.unwrap().unwrap();
        assert_eq!(breaker.state(), state);
    }
    assert!(!body.is_watched());
}

#[tokio::test(start_paused = true)]
async fn law_05_a_probe_that_gets_nothing_hangs() {
    let breaker = half_open(builder().half_open_for(ms(1000)));
    let nothing = (0..3).flat_map(|_| [Step::Wait(ms(400)), data("")]);
    let mut body = call(breaker, script(nothing.chain([Step::Hang]))).await;
    for _ in 0..3 {
        let _ = body.frame().await;
    }
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test]
async fn law_03_a_panic_of_the_body_is_a_failure() {
    let breaker = breaker();
    let mut body = call(breaker, script([data("half"), Step::Panic])).await;
    let _ = body.frame().await;
    assert!(panics(|| {
        let _ = poll(&mut body);
    }));
    drop(body);
    assert_eq!(counts(breaker), (1, 1));
}

#[tokio::test]
async fn law_04_a_body_that_ends_in_a_later_life_of_the_breaker_changes_nothing() {
    let breaker = breaker();
    let mut body = call(breaker, script([data("half"), Step::Fail])).await;
    let _ = body.frame().await;
    breaker.reset();
    let _ = body.frame().await;
    assert_eq!(counts(breaker), (0, 0));
}

#[tokio::test]
async fn trailers_decide_where_there_is_somebody_who_reads_them() {
    let kind = |steps: Vec<Step>| async move {
        let breaker = half_open(builder());
        let response = call_with(breaker, grpc, Ok(Response::new(script(steps)))).await;
        let mut body = response.unwrap().into_body();
        while body.frame().await.is_some() {}
        breaker.state()
    };
    assert_eq!(kind(vec![data("x"), trailers("grpc-status", "0")]).await, State::Closed);
    assert_eq!(kind(vec![data("x"), trailers("grpc-status", "5")]).await, State::Closed);
    assert_eq!(kind(vec![data("x"), trailers("grpc-status", "14")]).await, State::Open);
    assert_eq!(kind(vec![data("x"), trailers("grpc-status", "8")]).await, State::Open);
    assert_eq!(kind(vec![data("x"), trailers("other", "0")]).await, State::Open);
    assert_eq!(kind(vec![data("x")]).await, State::Open, "a missing status is not a success");
    assert_eq!(kind(vec![]).await, State::Open);
}

#[tokio::test]
async fn the_headers_of_a_response_without_a_body_are_its_trailers() {
    for (status, state) in [("0", State::Closed), ("14", State::Open)] {
        let breaker = half_open(builder());
        let mut response = Response::new(script([]).exact());
        response.headers_mut().insert("grpc-status", status.parse().unwrap());
        let _ = call_with(breaker, grpc, Ok(response)).await.unwrap();
        assert_eq!(breaker.state(), state);
    }
}

#[tokio::test]
async fn what_was_no_success_by_its_head_is_none_of_the_trailers_business() {
    let breaker = half_open(builder());
    let mut response = Response::new(script([data("no such thing")]));
    *response.status_mut() = StatusCode::NOT_FOUND;
    let mut body = call_with(breaker, grpc, Ok(response)).await.unwrap().into_body();
    assert_eq!(breaker.state(), State::HalfOpen);
    while body.frame().await.is_some() {}
    assert_eq!(breaker.state(), State::Closed, "the service answered");
}

#[tokio::test]
async fn law_01_an_open_circuit_is_ready_at_once_and_refuses_in_call() {
    let breaker = breaker();
    breaker.force_open("for the test", None);
    let layer = breaker.layer().through_body();
    let (mut service, mut handle) = tower_test::mock::spawn_layer::<(), Response<Script>, _>(layer);
    handle.allow(0);
    let _: &ThroughBodyService<Mock<(), Response<Script>>, Errors, Errors> = service.get_ref();
    tokio_test::assert_ready_ok!(service.poll_ready());
    let refused = service.call(()).await.map(drop).unwrap_err();
    assert_eq!(refused.policy_error().unwrap().kind(), PolicyErrorKind::CircuitOpen);
}

#[tokio::test]
async fn law_01_readied_while_open_it_refuses_even_if_the_circuit_has_closed() {
    let breaker = breaker();
    breaker.force_open("for the test", None);
    let layer = breaker.layer().through_body();
    let (mut service, mut handle) = tower_test::mock::spawn_layer::<(), Response<Script>, _>(layer);
    handle.allow(0);
    tokio_test::assert_ready_ok!(service.poll_ready());
    breaker.reset();
    assert_eq!(breaker.state(), State::Closed);
    let refused = service.call(()).await.map(drop).unwrap_err();
    assert_eq!(refused.policy_error().unwrap().kind(), PolicyErrorKind::CircuitOpen);
}
