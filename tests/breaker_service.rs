//! The circuit breaker as a tower service: readiness, waiting, and what a server makes of it.

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use axum::{Router, body::Body, error_handling::HandleErrorLayer, http::StatusCode, routing::get};
use buttress::{
    Backoff, BoxError, CircuitBreaker, Error, Jitter, PolicyErrorKind, ServiceErrors, StackError,
    Verdict,
    breaker::{CircuitBreakerBuilder, CircuitBreakerService, State, WhenOpen},
    classify_response,
};
use support::{Act, Counts, Probe, TestError, Wakes, panics, poll_once};
use tokio::{
    sync::Semaphore,
    time::{advance, timeout},
};
use tower::{
    Layer, Service, ServiceBuilder, ServiceExt, balance::p2c::Balance, buffer::Buffer,
    discover::ServiceList, limit::GlobalConcurrencyLimitLayer, service_fn,
};

const SECOND: Duration = Duration::from_secs(1);
const OPEN_FOR: Duration = Duration::from_secs(5);
const INSTANT: Duration = Duration::from_millis(1);

type Guarded = CircuitBreakerService<Probe>;

/// Opens at two failures of two calls, for exactly five seconds; one probe decides.
fn quick() -> CircuitBreakerBuilder {
    CircuitBreaker::builder("test")
        .min_calls(2)
        .open_for(Backoff::constant(OPEN_FOR).jitter(Jitter::None))
        .probes(1)
        .half_open_for(10 * SECOND)
}

fn build(builder: CircuitBreakerBuilder) -> (CircuitBreaker, Guarded, Arc<Counts>) {
    let breaker = builder.build().unwrap();
    let (probe, counts) = Probe::new();
    (breaker, breaker.layer().layer(probe), counts)
}

fn trip(breaker: CircuitBreaker) {
    while breaker.state() == State::Closed {
        breaker.try_acquire().unwrap().record(Verdict::Transient);
    }
    assert_eq!(breaker.state(), State::Open);
}

/// A breaker that has just become half-open.
async fn half_open(builder: CircuitBreakerBuilder) -> (CircuitBreaker, Guarded, Arc<Counts>) {
    let (breaker, service, counts) = build(builder);
    trip(breaker);
    advance(OPEN_FOR).await;
    assert_eq!(breaker.state(), State::HalfOpen);
    (breaker, service, counts)
}

fn waiting() -> CircuitBreakerBuilder {
    quick().when_open(WhenOpen::Wait)
}

fn poll_ready(service: &mut impl Service<Act>, waker: &Waker) -> bool {
    match service.poll_ready(&mut Context::from_waker(waker)) {
        Poll::Ready(ready) => {
            assert!(ready.is_ok(), "law 1: a refusal is no error of readiness");
            true
        }
        Poll::Pending => false,
    }
}

fn is_ready(service: &mut impl Service<Act>) -> bool {
    poll_ready(service, Waker::noop())
}

fn is_refusal(outcome: &Result<&'static str, TestError>) -> bool {
    let error = outcome.as_ref().err().and_then(StackError::policy_error);
    error.is_some_and(|error| error.kind() == PolicyErrorKind::CircuitOpen)
}

fn polled_ready(counts: &Counts) -> usize {
    counts.polled_ready.load(Ordering::SeqCst)
}

// ---- Law 1: readiness while refusing -------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn law_01_an_open_breaker_is_ready_without_asking_the_inner_service() {
    let (breaker, mut service, counts) = build(quick());
    trip(breaker);
    for _ in 0..3 {
        assert!(is_ready(&mut service));
        assert!(is_refusal(&service.call(Act::Succeed).await));
    }
    assert_eq!((polled_ready(&counts), counts.called()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn law_01_readied_while_open_it_refuses_even_if_the_circuit_has_closed() {
    let (breaker, mut service, counts) = build(quick());
    trip(breaker);
    assert!(is_ready(&mut service));
    breaker.reset();
    assert_eq!(breaker.state(), State::Closed);
    // The clone has not been told anything, and the next `poll_ready` decides anew.
    let mut clone = service.clone();
    assert!(is_refusal(&service.call(Act::Succeed).await));
    assert_eq!(counts.called(), 0);
    assert!(is_ready(&mut service));
    assert!(service.call(Act::Succeed).await.is_ok());
    assert!(is_ready(&mut clone));
    assert!(clone.call(Act::Succeed).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn law_01_a_decision_to_refuse_is_taken_anew_by_every_poll() {
    let (breaker, mut service, counts) = build(quick());
    trip(breaker);
    assert!(is_ready(&mut service));
    breaker.reset();
    assert!(is_ready(&mut service));
    assert!(service.call(Act::Succeed).await.is_ok());
    assert_eq!((polled_ready(&counts), counts.called()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn law_01_readied_while_closed_it_refuses_once_the_circuit_is_open() {
    for builder in [quick(), waiting()] {
        let (breaker, mut service, counts) = build(builder);
        assert!(is_ready(&mut service));
        trip(breaker);
        assert!(is_refusal(&service.call(Act::Succeed).await));
        assert_eq!(counts.called(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn law_01_an_error_of_readiness_goes_through_and_is_counted() {
    let (breaker, mut service, counts) = build(quick());
    counts.unready_errors.store(2, Ordering::SeqCst);
    for failures in 1..=2 {
        let error = service.ready().await.unwrap_err();
        assert_eq!(error, Error::Service("not ready"));
        assert_eq!(breaker.snapshot().failures, if failures == 2 { 0 } else { failures });
    }
    assert_eq!(breaker.state(), State::Open, "two failures of two calls");
    // A dead probe is a failed probe.
    advance(OPEN_FOR).await;
    counts.unready_errors.store(1, Ordering::SeqCst);
    service.ready().await.unwrap_err();
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn law_01_a_refusal_does_not_kill_a_buffer() {
    let breaker = quick().build().unwrap();
    let inner = service_fn(|_: Act| async { Ok::<_, BoxError>("good") });
    let mut buffer = Buffer::new(breaker.layer().layer(inner), 4);
    trip(breaker);
    for _ in 0..3 {
        let error = buffer.ready().await.unwrap().call(Act::Succeed).await.unwrap_err();
        assert!(error.policy_error().is_some(), "the circuit's error, not the buffer's: {error}");
    }
    breaker.reset();
    assert_eq!(buffer.ready().await.unwrap().call(Act::Succeed).await.unwrap(), "good");
}

/// Says the same load for ever, so that a balancer chooses by readiness alone.
#[derive(Clone)]
struct Level<S>(S);

impl<S> tower::load::Load for Level<S> {
    type Metric = u8;

    fn load(&self) -> u8 {
        0
    }
}

impl<S: Service<Act>> Service<Act> for Level<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, act: Act) -> S::Future {
        self.0.call(act)
    }
}

#[tokio::test(start_paused = true)]
async fn law_01_a_balancer_goes_elsewhere_and_evicts_nobody() {
    let breakers = [waiting().build().unwrap(), waiting().build().unwrap()];
    let answers = ["one", "other"];
    let services = [0, 1].map(|at: usize| {
        let inner = service_fn(move |_: Act| async move { Ok::<_, BoxError>(answers[at]) });
        Level(breakers[at].layer().layer(inner))
    });
    let mut balance = Balance::new(ServiceList::new::<Act>(services));
    let served = async |balance: &mut Balance<_, Act>| {
        let mut counts = [0; 2];
        for _ in 0..40 {
            let answer = balance.ready().await.unwrap().call(Act::Succeed).await.unwrap();
            counts[usize::from(answer == "other")] += 1;
        }
        counts
    };
    let [one, other] = served(&mut balance).await;
    assert!(one > 0 && other > 0, "both are used: {one} and {other}");

    trip(breakers[0]);
    assert_eq!(served(&mut balance).await, [0, 40]);
    assert_eq!(balance.len(), 2, "nobody was evicted");
    trip(breakers[1]);
    let nobody = timeout(OPEN_FOR.saturating_sub(SECOND), balance.ready()).await;
    assert!(nobody.is_err(), "with both circuits open the balancer waits");
    advance(SECOND).await;
    let [one, other] = served(&mut balance).await;
    assert!(one > 0 && other > 0, "both are back: {one} and {other}");
    assert_eq!(balance.len(), 2);
}

// ---- Waiting: backpressure in `poll_ready` -------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn a_waiting_service_is_pending_while_open_and_woken_at_half_open() {
    let (breaker, mut service, counts) = build(waiting());
    trip(breaker);
    let (waker, woken) = Wakes::new();
    assert!(!poll_ready(&mut service, &waker));
    advance(OPEN_FOR.saturating_sub(INSTANT)).await;
    assert_eq!((woken.count(), polled_ready(&counts)), (0, 0), "law 5: nothing spins");
    advance(2 * INSTANT).await;
    assert!(woken.count() >= 1, "woken when calls may pass");
    assert!(poll_ready(&mut service, &waker));
    assert_eq!(service.call(Act::Succeed).await, Ok("good"));
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_waiting_service_is_woken_by_a_reset() {
    let (breaker, mut service, _) = build(waiting());
    trip(breaker);
    let (waker, woken) = Wakes::new();
    assert!(!poll_ready(&mut service, &waker));
    breaker.reset();
    assert_eq!(woken.count(), 1);
    assert!(poll_ready(&mut service, &waker));
    assert_eq!(service.call(Act::Succeed).await, Ok("good"));
}

#[tokio::test(start_paused = true)]
async fn law_01_a_probe_is_reserved_for_one_and_lapses_after_a_second() {
    let (breaker, mut one, counts) = half_open(waiting()).await;
    let mut other = one.clone();
    let (waker, woken) = Wakes::new();
    assert!(is_ready(&mut one));
    assert!(is_ready(&mut one), "asked again, it is still ready");
    assert!(!poll_ready(&mut other, &waker), "there is one probe only");
    assert!(breaker.try_acquire().is_err(), "for nobody");
    advance(SECOND.saturating_sub(INSTANT)).await;
    assert!(!poll_ready(&mut other, &waker));
    let woken_before = woken.count();
    advance(2 * INSTANT).await;
    assert!(woken.count() > woken_before, "the lease is over");
    assert!(poll_ready(&mut other, &waker));
    // Whose reservation has lapsed asks like everybody else.
    assert!(is_refusal(&one.call(Act::Succeed).await));
    assert_eq!(counts.called(), 0);
    assert_eq!(other.call(Act::Succeed).await, Ok("good"));
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn law_01_a_service_dropped_with_a_reservation_hands_it_to_the_next_in_order() {
    let (breaker, mut holder, _) = half_open(waiting()).await;
    assert!(is_ready(&mut holder));
    let mut queue: Vec<_> = (0..3).map(|_| (holder.clone(), Wakes::new())).collect();
    for (service, (waker, _)) in &mut queue {
        assert!(!poll_ready(service, waker));
    }
    drop(holder);
    let woken = |queue: &[(Guarded, (Waker, Arc<Wakes>))]| -> Vec<usize> {
        queue.iter().map(|(_, (_, woken))| woken.count()).collect()
    };
    assert_eq!(woken(&queue), [1, 0, 0], "the first, and no more than there are probes");
    let (service, (waker, _)) = &mut queue[0];
    assert!(poll_ready(service, waker));
    // The second has moved up to watch, and is not ready; nor is the third, out of order.
    for (service, (waker, _)) in &mut queue[1..] {
        assert!(!poll_ready(service, waker));
    }
    let first = queue.remove(0);
    drop(first);
    let (third, (waker, _)) = &mut queue[1];
    assert!(!poll_ready(third, waker), "not before its turn");
    let (second, (waker, woken)) = &mut queue[0];
    assert!(woken.count() > 0);
    assert!(poll_ready(second, waker));
    assert_eq!(second.call(Act::Succeed).await, Ok("good"));
    assert_eq!(breaker.state(), State::Closed);
    let (third, (waker, woken)) = &mut queue[1];
    assert!(woken.count() > 0, "the circuit is closed, everybody may pass");
    assert!(poll_ready(third, waker));
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_is_dropped_hands_its_turn_over() {
    let (breaker, mut first, _) = build(waiting());
    trip(breaker);
    let mut second = first.clone();
    let (waker, woken) = Wakes::new();
    assert!(!is_ready(&mut first));
    assert!(!poll_ready(&mut second, &waker));
    drop(first);
    assert!(!poll_ready(&mut second, &waker));
    let before = woken.count();
    advance(OPEN_FOR + INSTANT).await;
    assert!(woken.count() > before, "it is the first now");
    assert!(poll_ready(&mut second, &waker));
}

#[tokio::test(start_paused = true)]
async fn law_01_no_more_waiters_are_ready_than_there_are_probes() {
    let builder = waiting().probes(2).success_ratio(1.0);
    let (breaker, service, counts) = build(builder);
    trip(breaker);
    let ready = Arc::new(AtomicUsize::new(0));
    let go = Arc::new(Semaphore::new(0));
    let tasks: Vec<_> = (0..10)
        .map(|_| {
            let (mut service, ready, go) = (service.clone(), Arc::clone(&ready), Arc::clone(&go));
            tokio::spawn(async move {
                service.ready().await.unwrap();
                ready.fetch_add(1, Ordering::SeqCst);
                let _go = go.acquire().await.unwrap();
                service.call(Act::Succeed).await
            })
        })
        .collect();
    tokio::time::sleep(OPEN_FOR + SECOND / 2).await;
    assert_eq!(ready.load(Ordering::SeqCst), 2);
    assert_eq!(counts.called(), 0);
    go.add_permits(2);
    for task in tasks {
        assert_eq!(task.await.unwrap(), Ok("good"));
    }
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn an_inner_service_that_is_not_ready_for_a_second_goes_to_the_end_of_the_queue() {
    let breaker = waiting().build().unwrap();
    trip(breaker);
    advance(OPEN_FOR).await;
    let permits = Arc::new(Semaphore::new(0));
    let limit = GlobalConcurrencyLimitLayer::with_semaphore(Arc::clone(&permits));
    let mut slow = breaker.layer().layer(limit.layer(Probe::new().0));
    let mut good = breaker.layer().layer(Probe::new().0);
    let (slow_waker, slow_woken) = Wakes::new();
    let (good_waker, good_woken) = Wakes::new();
    assert!(!poll_ready(&mut slow, &slow_waker));
    assert!(!poll_ready(&mut good, &good_waker), "it is not its turn");
    advance(SECOND + INSTANT).await;
    assert_eq!((slow_woken.count(), good_woken.count()), (1, 0));
    assert!(!poll_ready(&mut slow, &slow_waker));
    assert_eq!(good_woken.count(), 1, "its turn now");
    assert!(poll_ready(&mut good, &good_waker));
    assert_eq!(good.call(Act::Succeed).await, Ok("good"));
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn law_05_alone_over_a_service_that_is_not_ready_a_waiter_does_not_spin() {
    let breaker = waiting().build().unwrap();
    trip(breaker);
    advance(OPEN_FOR).await;
    let permits = Arc::new(Semaphore::new(0));
    let limit = GlobalConcurrencyLimitLayer::with_semaphore(Arc::clone(&permits));
    let mut service = breaker.layer().layer(limit.layer(Probe::new().0));
    let (waker, woken) = Wakes::new();
    for second in 0..5 {
        assert!(!poll_ready(&mut service, &waker));
        assert_eq!(woken.count(), second, "once a second, to look to the others in the queue");
        advance(SECOND + INSTANT).await;
    }
    permits.add_permits(1);
    assert!(poll_ready(&mut service, &waker));
    assert_eq!(service.call(Act::Succeed).await, Ok("good"));
}

#[tokio::test(start_paused = true)]
async fn law_01_an_unused_reservation_is_no_hung_probe() {
    let (breaker, mut service, _) = half_open(waiting()).await;
    assert!(is_ready(&mut service));
    advance(60 * SECOND).await;
    assert_eq!(breaker.state(), State::HalfOpen, "nobody is out, so nobody is overdue");
    assert!(breaker.try_acquire().is_ok());
    assert_eq!(breaker.snapshot().failures, 0);
    // It asks for another, or gets the error of everybody else.
    assert!(is_ready(&mut service));
    assert_eq!(service.call(Act::Succeed).await, Ok("good"));
}

#[tokio::test(start_paused = true)]
async fn law_03_a_reserved_probe_that_is_called_and_dropped_is_free_for_the_next() {
    let (breaker, mut one, counts) = half_open(waiting()).await;
    let mut other = one.clone();
    let (waker, woken) = Wakes::new();
    assert!(is_ready(&mut one));
    let mut call = Box::pin(one.call(Act::Hang));
    assert!(poll_once(call.as_mut()).is_pending());
    assert!(!poll_ready(&mut other, &waker));
    drop(call);
    assert_eq!(counts.alive(), 0);
    assert_eq!(woken.count(), 1);
    assert!(poll_ready(&mut other, &waker));
    assert_eq!(other.call(Act::Succeed).await, Ok("good"));
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn law_04_a_reservation_of_an_older_generation_starts_nothing() {
    let (breaker, mut service, counts) = half_open(waiting()).await;
    assert!(is_ready(&mut service));
    breaker.force_open("by hand", None);
    assert!(is_refusal(&service.call(Act::Succeed).await));
    assert_eq!(counts.called(), 0);
    assert!(!is_ready(&mut service));
}

// ---- Law 2 and 3 ---------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn law_03_a_panic_does_not_leak_the_probe() {
    for act in [Act::Panic, Act::PanicInCall] {
        let (breaker, mut service, _) = half_open(quick().probes(2).success_ratio(0.5)).await;
        assert!(is_ready(&mut service));
        let panicked = panics(|| {
            let _ = poll_once(Box::pin(service.call(act)).as_mut());
        });
        assert!(panicked);
        let snapshot = breaker.snapshot();
        let probes = snapshot.probes.expect("still half-open");
        assert_eq!(probes.failed, 1, "a panic is a failure");
        assert_eq!(probes.outstanding, 0);
        // The other probe is free, and decides.
        assert!(is_ready(&mut service));
        assert_eq!(service.call(Act::Succeed).await, Ok("good"));
        assert_eq!(breaker.state(), State::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn law_03_a_panic_counts_in_a_closed_circuit() {
    let (breaker, mut service, _) = build(quick());
    for act in [Act::Panic, Act::PanicInCall] {
        assert!(is_ready(&mut service));
        assert!(panics(|| {
            let _ = poll_once(Box::pin(service.call(act)).as_mut());
        }));
    }
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn law_03_a_call_dropped_by_the_unwinding_of_something_else_is_no_failure() {
    let (breaker, mut service, counts) = build(quick());
    for _ in 0..4 {
        assert!(is_ready(&mut service));
        let mut call = Box::pin(service.call(Act::Hang));
        assert!(poll_once(call.as_mut()).is_pending());
        assert!(panics(move || {
            let _innocent = call;
            panic!("something else");
        }));
    }
    assert_eq!((breaker.state(), counts.alive()), (State::Closed, 0));
    assert_eq!(breaker.snapshot().calls, 0);
    // Nor does it cost a probe.
    trip(breaker);
    advance(OPEN_FOR).await;
    assert!(is_ready(&mut service));
    let call = Box::pin(service.call(Act::Hang));
    assert!(panics(move || {
        let _innocent = call;
        panic!("something else");
    }));
    assert_eq!(breaker.state(), State::HalfOpen);
    assert!(is_ready(&mut service));
    assert_eq!(service.call(Act::Succeed).await, Ok("good"));
}

// ---- What a service answers ----------------------------------------------------------------------

#[derive(Clone, Debug, PartialEq)]
struct Reply {
    status: u16,
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_failures_trip() {
    let breaker = quick().build().unwrap();
    let classifier = classify_response(|reply: &Reply| match reply.status {
        429 => Verdict::Throttled { retry_after: None },
        500.. => Verdict::Transient,
        400.. => Verdict::Permanent,
        _ => Verdict::Success,
    });
    let mut service = ServiceBuilder::new()
        .layer(breaker.layer().classify(classifier))
        .layer(ServiceErrors)
        .service(service_fn(|status: u16| async move { Ok::<_, BoxError>(Reply { status }) }));
    for status in [404, 404] {
        let reply = service.ready().await.unwrap().call(status).await.unwrap();
        assert_eq!(reply, Reply { status }, "answers go through as they are");
    }
    assert_eq!(breaker.state(), State::Closed);
    for status in [503, 429] {
        let reply = service.ready().await.unwrap().call(status).await.unwrap();
        assert_eq!(reply, Reply { status });
    }
    assert_eq!(breaker.state(), State::Open, "two of four");
    let error = service.ready().await.unwrap().call(200).await.unwrap_err();
    assert!(error.policy_error().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_breaker_shared_by_the_routes_of_an_axum_router() {
    async fn refused(error: BoxError) -> (StatusCode, String) {
        (StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
    let breaker = quick().build().unwrap();
    let called = Arc::new(AtomicUsize::new(0));
    let counting = |status: StatusCode| {
        let called = Arc::clone(&called);
        move || async move {
            called.fetch_add(1, Ordering::SeqCst);
            status
        }
    };
    let classifier = classify_response(|response: &axum::response::Response| {
        if response.status().is_server_error() { Verdict::Transient } else { Verdict::Success }
    });
    // axum applies the layer once to each route.
    let app = Router::new()
        .route("/good", get(counting(StatusCode::OK)))
        .route("/bad", get(counting(StatusCode::BAD_GATEWAY)))
        .route("/worse", get(counting(StatusCode::INTERNAL_SERVER_ERROR)))
        .layer(
            ServiceBuilder::new()
                .layer(HandleErrorLayer::new(refused))
                .layer(breaker.layer().classify(classifier))
                .map_err(BoxError::from),
        );
    let ask = async |path: &str| {
        let request = axum::http::Request::get(path).body(Body::empty()).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = axum::body::to_bytes(response.into_body(), 1024).await.unwrap();
        (status.as_u16(), String::from_utf8(body.to_vec()).unwrap())
    };
    assert_eq!(ask("/bad").await.0, 502);
    assert_eq!(ask("/worse").await.0, 500);
    assert_eq!(breaker.state(), State::Open, "one failure on each of two routes");
    let (status, body) = ask("/good").await;
    assert_eq!(status, 503);
    assert!(body.starts_with("circuit \"test\" is open: 2 of the last 2 calls failed"), "{body}");
    assert_eq!(called.load(Ordering::SeqCst), 2, "no handler ran");
    advance(OPEN_FOR).await;
    assert_eq!(ask("/good").await.0, 200);
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn law_05_a_waiter_that_nobody_polls_any_more_does_not_hold_up_the_others() {
    let (breaker, mut idle, _) = build(waiting());
    trip(breaker);
    let mut other = idle.clone();
    assert!(!is_ready(&mut idle));
    // Kept, but not polled again: its task has something else to do.
    let waited = timeout(OPEN_FOR + 5 * SECOND, other.ready()).await;
    assert!(waited.is_ok(), "half-open, a probe is free, and nobody may have it");
}

#[tokio::test(start_paused = true)]
async fn law_05_the_queue_dissolves_when_the_circuit_closes() {
    let breaker = waiting().build().unwrap();
    trip(breaker);
    advance(OPEN_FOR).await;
    let permits = Arc::new(Semaphore::new(0));
    let limit = GlobalConcurrencyLimitLayer::with_semaphore(Arc::clone(&permits));
    let mut slow = breaker.layer().layer(limit.layer(Probe::new().0));
    let mut good = breaker.layer().layer(Probe::new().0);
    let (waker, woken) = Wakes::new();
    assert!(!is_ready(&mut slow));
    assert!(!poll_ready(&mut good, &waker), "it is not its turn");
    breaker.reset();
    assert!(woken.count() > 0, "the circuit is closed, everybody may pass");
}

#[tokio::test(start_paused = true)]
async fn forced_closed_nobody_queues() {
    let breaker = waiting().build().unwrap();
    breaker.force_closed("by hand", None);
    let permits = Arc::new(Semaphore::new(0));
    let limit = GlobalConcurrencyLimitLayer::with_semaphore(Arc::clone(&permits));
    let mut slow = breaker.layer().layer(limit.layer(Probe::new().0));
    let mut good = breaker.layer().layer(Probe::new().0);
    assert!(!is_ready(&mut slow));
    assert!(is_ready(&mut good), "calls pass, so nobody has to wait for a turn");
}

#[tokio::test(start_paused = true)]
async fn permitted_is_not_held_up_by_a_waiter_that_nobody_polls() {
    let (breaker, mut idle, _) = build(waiting());
    trip(breaker);
    assert!(!is_ready(&mut idle));
    let waited = timeout(OPEN_FOR + 5 * SECOND, breaker.permitted()).await;
    assert!(waited.is_ok(), "half-open, a probe is free, and nobody may have it");
}
