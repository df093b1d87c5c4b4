//! The contract that every layer keeps, whatever its policy: each law is one function, run against
//! each layer of `contract/cases.rs` and the whole stack.

#[path = "contract/cases.rs"]
mod cases;
mod support;

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, Waker},
    time::Duration,
};

use buttress::{
    BoxError, Error, Fallback, Retry, RetryBudget, ServiceErrors, StackError, Timeout, Verdict,
    classify_fn,
};
use cases::{Boxed, Case, LIMIT, Outcome, Readiness, STEP, boxed, every_layer, retry, tripping};
use support::{Act, Counts, Probe, Wakes, panics, poll_once};
use tokio::{sync::Semaphore, time::advance};
use tower::{
    Layer, Service, ServiceExt, buffer::Buffer, limit::GlobalConcurrencyLimitLayer, service_fn,
};

/// Makes `service` ready and calls it. A law that deadlocks fails here and does not hang.
async fn operate(service: &mut Boxed, act: Act) -> Outcome {
    let operation = async { service.ready().await?.call(act).await };
    tokio::time::timeout(Duration::from_secs(60), operation).await.expect("no deadlock")
}

/// Over a service that has one permit, and the permits.
fn limited(case: &Case) -> (Boxed, Arc<Counts>, Arc<Semaphore>) {
    let permits = Arc::new(Semaphore::new(1));
    let (probe, counts) = Probe::new();
    let limit = GlobalConcurrencyLimitLayer::with_semaphore(Arc::clone(&permits));
    (case.wrap(limit.layer(boxed(probe))), counts, permits)
}

fn strict(case: &Case) -> (Boxed, Arc<Counts>) {
    let (probe, counts) = Probe::new();
    (case.wrap(boxed(probe)), counts)
}

/// The readiness of `service`, polled once with this waker.
fn poll_ready(service: &mut Boxed, waker: &Waker) -> Poll<Result<(), BoxError>> {
    service.poll_ready(&mut Context::from_waker(waker))
}

fn is_ready(service: &mut Boxed) -> bool {
    poll_ready(service, Waker::noop()).is_ready()
}

/// The layer still does its work, and nothing is left of what was done before.
async fn assert_usable(case: &Case, mut service: Boxed, counts: &Counts) {
    let name = case.name;
    assert_eq!(counts.alive(), 0, "{name}: a call is still alive");
    let called = counts.called();
    assert_eq!(operate(&mut service, Act::Succeed).await.unwrap(), "good", "{name}");
    assert_eq!(counts.called(), called + 1, "{name}");
    assert_eq!(counts.alive(), 0, "{name}");
}

// ---- Law 1: readiness ----------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn law_01_only_instances_that_were_ready_are_called() {
    for case in every_layer() {
        let (mut service, counts) = strict(&case);
        for _ in 0..3 {
            assert_eq!(operate(&mut service, Act::Succeed).await.unwrap(), "good");
            assert_eq!(operate(&mut service, Act::Fail).await.is_ok(), case.answers);
            assert_eq!(operate(&mut service.clone(), Act::Yield(2)).await.unwrap(), "good");
        }
        assert_eq!(counts.called(), 3 * (2 + case.attempts), "{}", case.name);
    }
}

#[tokio::test(start_paused = true)]
async fn law_01_a_clone_is_as_ready_as_it_was_made_itself() {
    for case in every_layer() {
        let (mut service, counts) = strict(&case);
        assert!(is_ready(&mut service), "{}", case.name);
        let mut clone = service.clone();
        let unready = panics(|| drop(clone.call(Act::Succeed)));
        assert_eq!(unready, case.readiness != Readiness::Awaited, "{}", case.name);
        assert_eq!(counts.called(), 0, "{}: the clone took its original's readiness", case.name);
        assert_eq!(service.call(Act::Succeed).await.unwrap(), "good", "{}", case.name);
        assert_usable(&case, clone, &counts).await;
    }
}

#[tokio::test(start_paused = true)]
async fn law_01_over_a_concurrency_limit_every_permit_comes_back() {
    for case in every_layer() {
        let (mut service, counts, permits) = limited(&case);
        for act in [Act::Succeed, Act::Fail, Act::Yield(3), Act::Succeed] {
            let _ = operate(&mut service, act).await;
        }
        let together = (0..8).map(|number| {
            let mut service = service.clone();
            let act = if number % 2 == 0 { Act::Yield(number) } else { Act::Fail };
            tokio::spawn(async move { drop(operate(&mut service, act).await) })
        });
        for task in together.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        assert_eq!(permits.available_permits(), 1, "{}", case.name);
        assert_usable(&case, service, &counts).await;
    }
}

#[tokio::test(start_paused = true)]
async fn law_01_over_and_under_a_buffer() {
    for case in every_layer() {
        let (probe, counts) = Probe::new();
        let over = case.wrap(Buffer::new(boxed(probe), 2));
        let (inner, inner_counts) = strict(&case);
        let under = buffered(inner);
        for service in [over.clone(), under.clone()] {
            let together = (0..8).map(|number| {
                let mut service = service.clone();
                let act = if number % 2 == 0 { Act::Yield(number) } else { Act::Fail };
                tokio::spawn(async move { operate(&mut service, act).await.is_ok() })
            });
            let mut good = 0;
            for task in together.collect::<Vec<_>>() {
                good += usize::from(task.await.unwrap());
            }
            assert_eq!(good, if case.answers { 8 } else { 4 }, "{}", case.name);
        }
        assert_usable(&case, over, &counts).await;
        assert_usable(&case, under, &inner_counts).await;
    }
}

fn buffered(inner: Boxed) -> Boxed {
    Boxed::new(Buffer::new(inner, 2))
}

#[tokio::test(start_paused = true)]
async fn law_01_pending_readiness_is_passed_on_and_woken() {
    for case in every_layer().into_iter().filter(|case| case.readiness != Readiness::Awaited) {
        let (mut service, counts, permits) = limited(&case);
        let taken = permits.acquire().await.unwrap();
        let (waker, woken) = Wakes::new();
        assert!(poll_ready(&mut service, &waker).is_pending(), "{}", case.name);
        assert_eq!(woken.count(), 0, "{}", case.name);
        drop(taken);
        assert_eq!(woken.count(), 1, "{}", case.name);
        assert!(is_ready(&mut service), "{}", case.name);
        assert_eq!(service.call(Act::Succeed).await.unwrap(), "good", "{}", case.name);
        assert_usable(&case, service, &counts).await;
    }
}

#[tokio::test(start_paused = true)]
async fn law_01_awaited_readiness_is_pending_in_the_future_and_woken() {
    for case in every_layer().into_iter().filter(|case| case.readiness == Readiness::Awaited) {
        let (mut service, counts, permits) = limited(&case);
        let taken = permits.acquire().await.unwrap();
        assert!(is_ready(&mut service), "{}", case.name);
        let mut call = service.call(Act::Succeed);
        let (waker, woken) = Wakes::new();
        let mut cx = Context::from_waker(&waker);
        assert!(call.as_mut().poll(&mut cx).is_pending(), "{}", case.name);
        assert_eq!((counts.called(), woken.count()), (0, 0), "{}", case.name);
        drop(taken);
        assert_eq!(woken.count(), 1, "{}", case.name);
        assert_eq!(call.await.unwrap(), "good", "{}", case.name);
        assert_usable(&case, service, &counts).await;
    }
}

#[tokio::test(start_paused = true)]
async fn law_01_an_error_of_readiness_goes_where_it_belongs() {
    for case in every_layer() {
        let (mut service, counts) = strict(&case);
        counts.unready_errors.store(1, Ordering::SeqCst);
        let Poll::Ready(ready) = poll_ready(&mut service, Waker::noop()) else {
            panic!("{}: pending over a service that is not", case.name)
        };
        match case.readiness {
            Readiness::Passed => assert_eq!(ready.unwrap_err().to_string(), "not ready"),
            Readiness::Answered => {
                ready.unwrap();
                assert_ne!(service.call(Act::Succeed).await.unwrap(), "good", "{}", case.name);
                assert_eq!(counts.called(), 0, "{}: a dead instance was called", case.name);
            }
            Readiness::Awaited => {
                ready.unwrap();
                let error = service.call(Act::Succeed).await.unwrap_err();
                assert_eq!(error.to_string(), "not ready");
                assert_eq!(counts.called(), 0, "{}: a dead instance was called", case.name);
            }
        }
        assert_usable(&case, service, &counts).await;
    }
}

// ---- Law 2: nothing is reserved while waiting ----------------------------------------------------

#[tokio::test(start_paused = true)]
async fn law_02_no_reservation_is_held_across_a_backoff() {
    for case in every_layer().into_iter().filter(|case| case.attempts > 1) {
        let (mut service, counts, permits) = limited(&case);
        assert!(is_ready(&mut service));
        let mut call = service.call(Act::Fail);
        for attempt in 1..case.attempts {
            assert!(poll_once(call.as_mut()).is_pending(), "{}: no backoff", case.name);
            assert_eq!(counts.called(), attempt, "{}", case.name);
            assert_eq!(permits.available_permits(), 1, "{}: held in a backoff", case.name);
            advance(STEP).await;
        }
        assert_eq!(call.await.is_ok(), case.answers);
        assert_eq!((counts.called(), permits.available_permits()), (case.attempts, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn law_02_no_reservation_is_held_while_the_fallback_runs() {
    let (backup, backup_counts) = Probe::new();
    let backup = boxed(backup).map_request(|_: Act| Act::Hang);
    let backup = Boxed::new(backup);
    let permits = Arc::new(Semaphore::new(1));
    let limit = GlobalConcurrencyLimitLayer::with_semaphore(Arc::clone(&permits));
    let (primary, _) = Probe::new();
    let mut by_service =
        Fallback::unnamed().to_service(backup).layer(limit.layer(boxed(primary.clone())));
    let hang = |_: Outcome| std::future::pending::<Outcome>();
    let mut by_function = Fallback::unnamed().to_async_fn(hang).layer(limit.layer(boxed(primary)));

    let mut call = pin!(by_service.ready().await.unwrap().call(Act::Fail));
    assert!(poll_once(call.as_mut()).is_pending());
    assert_eq!((backup_counts.alive(), permits.available_permits()), (1, 1));
    let mut call = pin!(by_function.ready().await.unwrap().call(Act::Fail));
    assert!(poll_once(call.as_mut()).is_pending());
    assert_eq!(permits.available_permits(), 1);
}

// ---- Law 3: cancel safety and panics -------------------------------------------------------------

/// A call of `act` that is given up after so many polls, half a backoff apart.
async fn give_up(service: &mut Boxed, act: Act, polls: usize) {
    let mut call = service.ready().await.unwrap().call(act);
    for _ in 0..polls {
        if poll_once(call.as_mut()).is_ready() {
            break;
        }
        advance(STEP / 4).await;
    }
}

#[tokio::test(start_paused = true)]
async fn law_03_a_call_dropped_at_any_poll_leaves_nothing_behind() {
    for case in every_layer() {
        for polls in 0..8 {
            for act in [Act::Yield(5), Act::Hang, Act::Fail] {
                let (mut service, counts, permits) = limited(&case);
                give_up(&mut service, act, polls).await;
                assert_eq!(counts.alive(), 0, "{} after {polls} polls", case.name);
                assert_eq!(permits.available_permits(), 1, "{} after {polls} polls", case.name);
                assert_usable(&case, service, &counts).await;
                assert_eq!(permits.available_permits(), 1, "{}", case.name);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn law_03_a_service_dropped_before_its_call_gives_its_permit_back() {
    for case in every_layer() {
        let (service, counts, permits) = limited(&case);
        let mut clone = service.clone();
        assert!(is_ready(&mut clone));
        let held = usize::from(case.readiness != Readiness::Awaited);
        assert_eq!(permits.available_permits(), 1 - held, "{}", case.name);
        drop(clone);
        assert_eq!(permits.available_permits(), 1, "{}", case.name);
        assert_usable(&case, service, &counts).await;
    }
}

#[tokio::test(start_paused = true)]
async fn law_03_a_panic_in_poll_or_call_goes_through_and_leaves_the_layer_usable() {
    for case in every_layer() {
        for act in [Act::Panic, Act::PanicInCall] {
            let (mut service, counts, permits) = limited(&case);
            assert!(is_ready(&mut service));
            let panicked = panics(|| {
                let mut call = service.call(act.clone());
                let _ = poll_once(call.as_mut());
            });
            assert!(panicked, "{}: {act:?} was swallowed", case.name);
            assert_eq!(permits.available_permits(), 1, "{}: {act:?}", case.name);
            assert_usable(&case, service, &counts).await;
        }
    }
}

// ---- Law 5: nothing spins ------------------------------------------------------------------------

/// Polls when woken, and only then. How often it was polled and woken until it was ready.
fn drive(mut call: Pin<&mut (impl Future<Output = Outcome> + ?Sized)>) -> (usize, usize) {
    let (waker, woken) = Wakes::new();
    let mut polls = 1;
    while call.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
        assert_eq!(woken.count(), polls, "pending, and woken once for each poll");
        polls += 1;
    }
    (polls, woken.count())
}

#[tokio::test(start_paused = true)]
async fn law_05_nothing_spins_a_call_is_woken_by_what_it_waits_for() {
    for case in every_layer() {
        let (mut service, counts) = strict(&case);
        let mut call = service.ready().await.unwrap().call(Act::Yield(5));
        assert_eq!(drive(call.as_mut()), (6, 5), "{}", case.name);
        drop(call);
        assert_usable(&case, service, &counts).await;
    }
}

#[tokio::test(start_paused = true)]
async fn law_05_nothing_spins_an_idle_call_is_not_woken() {
    for case in every_layer() {
        let (mut service, _counts) = strict(&case);
        let mut call = service.ready().await.unwrap().call(Act::Hang);
        let (waker, woken) = Wakes::new();
        assert!(call.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        advance(LIMIT.saturating_sub(STEP)).await;
        assert_eq!(woken.count(), 0, "{}: woken without a reason", case.name);
    }
}

#[tokio::test(start_paused = true)]
async fn law_05_nothing_spins_while_a_service_is_not_ready() {
    for case in every_layer() {
        let (mut service, _, permits) = limited(&case);
        let _taken = permits.acquire().await.unwrap();
        let (waker, woken) = Wakes::new();
        let pending = poll_ready(&mut service, &waker).is_pending();
        assert_eq!(pending, case.readiness != Readiness::Awaited, "{}", case.name);
        advance(20 * LIMIT).await;
        assert_eq!(woken.count(), 0, "{}: woken without a reason", case.name);
    }
}

/// A timer wakes a call once, at its time.
#[tokio::test(start_paused = true)]
async fn law_05_nothing_spins_a_timer_wakes_once() {
    for case in every_layer().into_iter().filter(|case| case.name.starts_with("timeout")) {
        let (mut service, _counts) = strict(&case);
        let mut call = service.ready().await.unwrap().call(Act::Hang);
        let (waker, woken) = Wakes::new();
        assert!(call.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        advance(LIMIT + STEP).await;
        assert_eq!(woken.count(), 1, "{}", case.name);
        let Poll::Ready(outcome) = poll_once(call.as_mut()) else {
            panic!("{}: woken for nothing", case.name)
        };
        assert!(outcome.unwrap_err().policy_error().is_some());
    }
}

// ---- One policy behind many services -------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn state_is_not_split_per_layer_call_nor_per_clone() {
    let breaker = tripping().build().unwrap();
    let layer = breaker.layer();
    let wrap = || {
        let (probe, counts) = Probe::new();
        (layer.layer(boxed(probe)), counts)
    };
    let (mut one, _) = wrap();
    let (mut other, other_counts) = wrap();
    for _ in 0..2 {
        one.ready().await.unwrap().call(Act::Fail).await.unwrap_err();
    }
    for service in [&mut other, &mut one.clone(), &mut one] {
        let error = service.ready().await.unwrap().call(Act::Succeed).await.unwrap_err();
        assert!(error.policy_error().is_some(), "{error}");
    }
    assert_eq!(other_counts.called(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_budget_is_not_split_per_layer_call_nor_per_clone() {
    let budget = RetryBudget::builder("contract").cap(2.0).refill_per_second(0.0).failed_cost(1.0);
    let budget = budget.build().unwrap();
    let layer = retry().max_attempts(2).budget(budget).build().unwrap().layer();
    let (probe, counts) = Probe::new();
    let one = layer.layer(boxed(probe.clone()));
    for mut service in [layer.layer(boxed(probe)), one.clone(), one] {
        service.ready().await.unwrap().call(Act::Fail).await.unwrap_err();
    }
    assert_eq!(counts.called(), 3 + 2, "two tokens, however many services");
}

// ---- Law 13: bounds ------------------------------------------------------------------------------

/// Nothing but what a service needs.
struct Bare(u8);

fn is_send_sync_clone<T: Send + Sync + Clone>(value: T) -> T {
    value
}

fn is_send<T: Send>(value: T) -> T {
    value
}

#[tokio::test(start_paused = true)]
async fn law_13_services_are_what_the_inner_one_is_and_futures_are_send() {
    let probe = Probe::new().0;
    let breaker = tripping().build().unwrap();
    let value = Fallback::unnamed().to_value("value");
    let whole = Timeout::after(LIMIT).layer().including_readiness();
    let mut breaker = is_send_sync_clone(breaker.layer().layer(probe.clone()));
    let mut retry = is_send_sync_clone(retry().build().unwrap().layer().layer(probe.clone()));
    let mut timeout = is_send_sync_clone(Timeout::after(LIMIT).layer().layer(probe.clone()));
    let mut whole = is_send_sync_clone(whole.layer(probe.clone()));
    let mut fallback = is_send_sync_clone(value.layer(probe.clone()));
    let mut errors = is_send_sync_clone(ServiceErrors.layer(probe));
    is_send(breaker.ready().await.unwrap().call(Act::Succeed)).await.unwrap();
    is_send(retry.ready().await.unwrap().call(Act::Succeed)).await.unwrap();
    is_send(timeout.ready().await.unwrap().call(Act::Succeed)).await.unwrap();
    is_send(whole.ready().await.unwrap().call(Act::Succeed)).await.unwrap();
    is_send(fallback.ready().await.unwrap().call(Act::Succeed)).await.unwrap();
    is_send(errors.ready().await.unwrap().call(Act::Succeed)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn law_13_nothing_is_cloned_by_a_layer_that_needs_no_second_one() {
    type BareOutcome = Result<Bare, Error<Bare>>;
    // Neither `Clone` nor `Sync`: it counts in a cell.
    let service = || {
        let calls = std::cell::Cell::new(0);
        service_fn(move |request: Bare| {
            calls.set(calls.get() + 1);
            std::future::ready(Ok::<_, Bare>(Bare(request.0 + calls.get())))
        })
    };
    let function = Fallback::unnamed().to_fn(|outcome: BareOutcome| outcome);
    let stack = buttress::Stack::new()
        .fallback(function)
        .timeout(LIMIT)
        .breaker(tripping().build().unwrap())
        .layer(ServiceErrors);
    let mut stack = stack.service(service());
    for expected in [1, 2] {
        let Ok(response) = stack.ready().await.ok().unwrap().call(Bare(0)).await else {
            panic!("it succeeds")
        };
        assert_eq!(response.0, expected);
    }
    // A retry needs a second request, but not `Clone` for it.
    let copier = |request: &Bare| Some(Bare(request.0));
    let retry: Retry = retry().build().unwrap();
    let classifier = classify_fn(|outcome: Result<&Bare, &Error<Bare>>| match outcome {
        Ok(Bare(3)) => Verdict::Success,
        _ => Verdict::Transient,
    });
    let calls = Arc::new(std::sync::atomic::AtomicU8::new(0));
    let mut service = retry.layer().classify(classifier).clone_with(copier).layer(
        ServiceErrors.layer(service_fn(move |_: Bare| {
            let calls = calls.fetch_add(1, Ordering::Relaxed) + 1;
            std::future::ready(Ok::<_, Bare>(Bare(calls)))
        })),
    );
    let response = service.ready().await.ok().unwrap().call(Bare(0)).await;
    assert_eq!(response.ok().unwrap().0, 3);
}
