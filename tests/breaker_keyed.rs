//! The keyed breaker: each key has a breaker of its own, as long as there are places, and no key
//! ever meets anything of another's.
#![allow(missing_docs)]

mod support;

use std::{
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress::{
    Backoff, CircuitBreaker, Error, Jitter, KeyedCircuitBreaker, PolicyErrorKind, ServiceErrors,
    Stack, StackError, Verdict, Window,
    breaker::{CircuitBreakerBuilder, OpenReason, Permit, State, WhenOpen},
};
use support::{Act, Probe, panics, poll_once};
use tokio::{sync::Semaphore, time::advance};
use tower::{Layer, Service, ServiceExt, limit::GlobalConcurrencyLimitLayer};

const SECOND: Duration = Duration::from_secs(1);

/// Trips at two failures of two calls, for exactly five seconds; one probe decides.
fn builder() -> CircuitBreakerBuilder {
    CircuitBreaker::builder("upstreams")
        .window(Window::calls(10))
        .min_calls(2)
        .open_for(Backoff::constant(5 * SECOND).jitter(Jitter::None))
        .probes(1)
}

fn keyed(places: usize) -> KeyedCircuitBreaker<u32> {
    builder().build_keyed(places).unwrap()
}

fn record(breakers: KeyedCircuitBreaker<u32>, key: u32, verdict: Verdict) {
    breakers.try_acquire(&key).expect("admitted").record(verdict);
}

fn trip(breakers: KeyedCircuitBreaker<u32>, key: u32) {
    (0..2).for_each(|_| record(breakers, key, Verdict::Transient));
    assert_eq!(breakers.state(&key), Some(State::Open));
}

/// As a call that has no place passes.
fn passes_unprotected(breakers: KeyedCircuitBreaker<u32>, key: u32) {
    let before = breakers.unprotected();
    record(breakers, key, Verdict::Transient);
    assert_eq!((breakers.unprotected(), breakers.state(&key)), (before + 1, None), "{key}");
}

// ---- Building ------------------------------------------------------------------------------------

#[test]
fn what_cannot_be_built_says_why() {
    let message = |builder: CircuitBreakerBuilder, places| {
        builder.build_keyed::<u32>(places).unwrap_err().to_string()
    };
    assert_eq!(
        message(builder(), 0),
        r#"circuit breaker "upstreams": places must be from 1 to 65536, but is 0"#
    );
    assert_eq!(
        message(builder(), 65_537),
        r#"circuit breaker "upstreams": places must be from 1 to 65536, but is 65537"#
    );
    assert_eq!(
        message(builder().when_open(WhenOpen::Wait), 1),
        r#"circuit breaker "upstreams": when_open must be to refuse where there are keys, which nobody can wait for, but is Wait"#
    );
    assert_eq!(
        message(builder().probes(0), 1),
        r#"circuit breaker "upstreams": probes must be from 1 to 255, but is 0"#
    );
    assert!(builder().build_keyed::<u32>(65_536).is_ok());
}

#[test]
fn handles_are_small_and_shared_across_threads() {
    fn is_shared<T: Copy + Send + Sync + 'static>() {}
    is_shared::<KeyedCircuitBreaker<String>>();
    assert_eq!(size_of::<KeyedCircuitBreaker<String>>(), size_of::<usize>());
    let breakers = keyed(3);
    assert_eq!(breakers, { breakers });
    assert_ne!(breakers, keyed(3));
    assert_eq!((breakers.name(), breakers.places()), ("upstreams", 3));
    assert_eq!(breakers.config().min_calls, 2);
    let shown = format!("{breakers:?}");
    assert_eq!(shown, r#"KeyedCircuitBreaker { name: "upstreams", places: 3, keys: 0, .. }"#);
}

#[tokio::test(start_paused = true)]
async fn a_place_takes_as_many_bytes_as_documented() {
    let per_place = |builder: CircuitBreakerBuilder| {
        let breakers = builder.build_keyed::<u32>(1000).unwrap();
        let empty = breakers.bytes();
        (0..1000).for_each(|key| record(breakers, key, Verdict::Success));
        ((breakers.bytes() - empty).div_ceil(1000).div_ceil(1024), breakers, empty)
    };
    let (kib, breakers, empty) = per_place(CircuitBreaker::builder("test").min_calls(1));
    assert_eq!(kib, 3, "just above 2 KiB");
    for key in 0..1000 {
        for _ in 0..40 {
            let _ = breakers.force_open(&key, "by hand", None);
            assert!(breakers.reset(&key));
        }
    }
    // What metrics and logs keep is a part of it.
    let full = (breakers.bytes() - empty).div_ceil(1000).div_ceil(1024);
    assert!((5..=6).contains(&full), "{full} KiB");
    let (kib, ..) = per_place(CircuitBreaker::builder("test").window(Window::time(SECOND)));
    assert_eq!(kib, 2, "just above 1 KiB");
}

// ---- Keys ----------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn a_key_that_fails_is_refused_and_the_others_are_not() {
    let breakers = keyed(10);
    trip(breakers, 7);
    let refusal = breakers.try_acquire(&7).unwrap_err();
    assert_eq!(refusal.kind(), PolicyErrorKind::CircuitOpen);
    assert_eq!((refusal.name(), refusal.retry_after()), ("upstreams", Some(5 * SECOND)));
    for key in 0..7 {
        record(breakers, key, Verdict::Success);
        assert_eq!(breakers.state(&key), Some(State::Closed));
    }
    assert_eq!(breakers.open_keys(), [(7, State::Open)]);
    assert_eq!((breakers.len(), breakers.is_empty(), breakers.unprotected()), (8, false, 0));
    let mut keys = breakers.keys();
    keys.sort_unstable();
    assert_eq!(keys, (0..8).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_key_recovers_by_its_own_probes() {
    let breakers = keyed(10);
    trip(breakers, 1);
    advance(SECOND).await;
    trip(breakers, 2);
    advance(4 * SECOND).await;
    assert_eq!(breakers.state(&1), Some(State::HalfOpen));
    assert_eq!(breakers.state(&2), Some(State::Open));
    let probe = breakers.try_acquire(&1).unwrap();
    assert_eq!(breakers.try_acquire(&1).unwrap_err().kind(), PolicyErrorKind::CircuitOpen);
    probe.record(Verdict::Success);
    assert_eq!(breakers.open_keys(), [(2, State::Open)]);
}

#[test]
fn a_key_that_was_never_called_has_no_breaker() {
    let breakers = keyed(1);
    assert_eq!((breakers.state(&1), breakers.snapshot(&1)), (None, None));
    assert!(!breakers.reset(&1) && !breakers.remove(&1));
    assert!(breakers.is_empty());
}

#[test]
fn keys_can_be_asked_for_as_in_a_map() {
    let breakers: KeyedCircuitBreaker<String> = builder().build_keyed(2).unwrap();
    breakers.try_acquire("example.org").unwrap().record(Verdict::Success);
    breakers.try_acquire(&String::from("example.org")).unwrap().record(Verdict::Success);
    assert_eq!(breakers.snapshot("example.org").unwrap().calls, 2);
}

// ---- Places --------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn a_closed_circuit_makes_room_and_any_other_does_not() {
    let kept: [fn(KeyedCircuitBreaker<u32>); 4] = [
        |breakers| trip(breakers, 0),
        |breakers| assert!(breakers.force_open(&0, "by hand", None)),
        |breakers| assert!(breakers.force_closed(&0, "by hand", None)),
        |breakers| assert!(breakers.force_closed(&0, "by hand", Some(SECOND))),
    ];
    for keep in kept {
        let breakers = keyed(2);
        keep(breakers);
        let state = breakers.state(&0);
        for key in 1..20 {
            record(breakers, key, Verdict::Success);
            assert_eq!((breakers.state(&0), breakers.state(&key)), (state, Some(State::Closed)));
            assert_eq!((breakers.len(), breakers.unprotected()), (2, 0));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_half_open_circuit_keeps_its_place_with_and_without_probes() {
    let breakers = keyed(1);
    trip(breakers, 0);
    advance(5 * SECOND).await;
    passes_unprotected(breakers, 1);
    let probe = breakers.try_acquire(&0).unwrap();
    passes_unprotected(breakers, 1);
    drop(probe);
    passes_unprotected(breakers, 1);
    assert_eq!(breakers.state(&0), Some(State::HalfOpen));
}

#[test]
fn a_key_that_is_called_again_gets_a_second_chance() {
    let breakers = keyed(3);
    for key in [1, 2, 3, 1, 3] {
        record(breakers, key, Verdict::Success);
    }
    record(breakers, 4, Verdict::Success);
    let have = |keys: [u32; 3]| keys.map(|key| breakers.state(&key).is_some());
    assert_eq!(have([1, 2, 3]), [true, false, true]);
    // Looking for the place has used up the chance of key 1, but not that of key 3.
    record(breakers, 5, Verdict::Success);
    record(breakers, 6, Verdict::Success);
    assert_eq!(have([1, 3, 4]), [false, true, false]);
}

#[tokio::test(start_paused = true)]
async fn without_a_place_calls_pass_unprotected_and_are_counted() {
    let breakers = keyed(2);
    trip(breakers, 1);
    trip(breakers, 2);
    for round in 1..=10 {
        record(breakers, 3, Verdict::Transient);
        assert_eq!(breakers.unprotected(), round);
    }
    assert_eq!((breakers.state(&3), breakers.len()), (None, 2));
    assert!(!breakers.force_open(&3, "by hand", None));
    assert!(!breakers.force_closed(&3, "by hand", None));
    // Those that have one are as well protected as ever.
    assert!(breakers.try_acquire(&1).is_err());

    advance(5 * SECOND).await;
    record(breakers, 1, Verdict::Success);
    record(breakers, 3, Verdict::Transient);
    assert_eq!(breakers.unprotected(), 10);
    assert_eq!((breakers.state(&1), breakers.state(&3)), (None, Some(State::Closed)));
    record(breakers, 3, Verdict::Transient);
    assert_eq!(breakers.state(&3), Some(State::Open));
}

#[tokio::test(start_paused = true)]
async fn whatever_frees_a_place_is_noticed() {
    let free: [fn(KeyedCircuitBreaker<u32>); 3] = [
        |breakers| assert!(breakers.reset(&0)),
        |breakers| assert!(breakers.remove(&0)),
        |breakers| {
            assert!(breakers.force_closed(&0, "by hand", Some(SECOND)));
            passes_unprotected(breakers, 1);
        },
    ];
    for free in free {
        let breakers = keyed(1);
        trip(breakers, 0);
        passes_unprotected(breakers, 1);
        passes_unprotected(breakers, 1);
        free(breakers);
        // Time alone ends what was forced closed, and nobody has to look.
        advance(SECOND).await;
        record(breakers, 1, Verdict::Success);
        assert_eq!((breakers.state(&0), breakers.state(&1)), (None, Some(State::Closed)));
    }
}

// ---- Law 4: nothing is left of the last tenant ---------------------------------------------------

#[tokio::test(start_paused = true)]
async fn law_04_a_late_result_of_the_last_tenant_changes_nothing() {
    for verdict in [Verdict::Transient, Verdict::Success] {
        let breakers = builder().consecutive_failures(2).build_keyed(1).unwrap();
        let late: Vec<Permit> = (0..5).map(|_| breakers.try_acquire(&1).unwrap()).collect();
        record(breakers, 2, Verdict::Transient);
        for permit in late {
            permit.record(verdict);
        }
        let snapshot = breakers.snapshot(&2).unwrap();
        assert_eq!((snapshot.calls, snapshot.failures, snapshot.consecutive_failures), (1, 1, 1));
        assert_eq!(snapshot.state, State::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn law_04_a_late_probe_of_the_last_tenant_changes_nothing() {
    let breakers = builder().probes(2).success_ratio(1.0).build_keyed(1).unwrap();
    let half_open = |key| {
        (0..2).for_each(|_| record(breakers, key, Verdict::Transient));
        advance(5 * SECOND)
    };
    half_open(1).await;
    let late = [breakers.try_acquire(&1).unwrap(), breakers.try_acquire(&1).unwrap()];
    assert!(breakers.remove(&1));
    half_open(2).await;
    let own = breakers.try_acquire(&2).unwrap();
    let [first, second] = late;
    first.record(Verdict::Success);
    second.record(Verdict::Transient);
    assert_eq!(breakers.state(&2), Some(State::HalfOpen));
    let probes = breakers.snapshot(&2).unwrap().probes.unwrap();
    assert_eq!((probes.outstanding, probes.succeeded, probes.failed), (1, 0, 0));
    own.record(Verdict::Success);
    record(breakers, 2, Verdict::Success);
    assert_eq!(breakers.state(&2), Some(State::Closed));
}

#[tokio::test(start_paused = true)]
async fn law_04_a_new_tenant_finds_no_history_no_evidence_and_no_escalation() {
    let backoff = Backoff::exponential(5 * SECOND).max(60 * SECOND).jitter(Jitter::None);
    let breakers = builder().open_for(backoff).build_keyed(1).unwrap();
    for times in [1, 2] {
        let throttled = Verdict::Throttled { retry_after: None };
        if times == 1 {
            (0..2).for_each(|_| record(breakers, 1, throttled));
        } else {
            record(breakers, 1, throttled);
        }
        let wait = breakers.try_acquire(&1).unwrap_err().retry_after();
        assert_eq!(wait, Some(times * 5 * SECOND));
        advance(times * 5 * SECOND).await;
    }
    assert!(breakers.remove(&1));

    record(breakers, 2, Verdict::Success);
    let snapshot = breakers.snapshot(&2).unwrap();
    assert_eq!((snapshot.calls, snapshot.failures), (1, 0));
    assert_eq!((snapshot.outage, snapshot.reason), (None, None));
    assert_eq!(snapshot.transitions, []);
    assert_eq!(snapshot.since, tokio::time::Instant::now());

    record(breakers, 2, Verdict::Transient);
    assert_eq!(breakers.try_acquire(&2).unwrap_err().retry_after(), Some(5 * SECOND));
    let snapshot = breakers.snapshot(&2).unwrap();
    let [opened] = &snapshot.transitions[..] else { panic!("{:?}", snapshot.transitions) };
    let reason = OpenReason::FailureRatio { failures: 1, calls: 2, limit: 0.5 };
    assert_eq!((opened.reason, opened.failures.len()), (Some(reason), 1));
}

#[tokio::test(start_paused = true)]
async fn law_04_windows_of_time_start_anew_as_well() {
    let breakers = builder().window(Window::time(10 * SECOND)).min_calls(3).build_keyed(1).unwrap();
    for key in 0..200 {
        record(breakers, key, Verdict::Transient);
        record(breakers, key, Verdict::Transient);
        assert_eq!(breakers.snapshot(&key).unwrap().calls, 2, "{key}");
    }
}

#[tokio::test(start_paused = true)]
async fn law_04_a_key_that_was_removed_is_forgotten() {
    let breakers = keyed(2);
    let late = breakers.try_acquire(&1).unwrap();
    record(breakers, 1, Verdict::Transient);
    assert!(breakers.remove(&1) && !breakers.remove(&1));
    assert_eq!((breakers.state(&1), breakers.len()), (None, 0));
    late.record(Verdict::Transient);
    record(breakers, 1, Verdict::Transient);
    assert_eq!(breakers.snapshot(&1).unwrap().calls, 1);
}

// ---- Subscribing ---------------------------------------------------------------------------------

type Told = Arc<Mutex<Vec<(u32, State, State)>>>;

fn listen(breakers: KeyedCircuitBreaker<u32>) -> (Told, buttress::breaker::Subscription) {
    let told = Told::default();
    let log = Arc::clone(&told);
    let subscription = breakers.subscribe(move |key, transition| {
        log.lock().unwrap().push((*key, transition.from, transition.to));
    });
    (told, subscription)
}

#[tokio::test(start_paused = true)]
async fn law_12_transitions_are_told_with_their_key_until_the_guard_is_dropped() {
    let breakers = keyed(1);
    let (told, subscription) = listen(breakers);
    trip(breakers, 1);
    assert!(breakers.reset(&1));
    trip(breakers, 2);
    assert!(breakers.remove(&2));
    let all = [
        (1, State::Closed, State::Open),
        (1, State::Open, State::Closed),
        (2, State::Closed, State::Open),
        (2, State::Open, State::Closed),
    ];
    assert_eq!(*told.lock().unwrap(), all);
    drop(subscription);
    trip(breakers, 3);
    assert_eq!(told.lock().unwrap().len(), all.len());
}

/// Being let to another key, or removed while closed, is no transition.
#[tokio::test(start_paused = true)]
async fn nothing_is_told_of_a_closed_circuit_that_makes_room() {
    let breakers = keyed(1);
    let (told, _subscription) = listen(breakers);
    (0..10).for_each(|key| record(breakers, key, Verdict::Success));
    assert!(breakers.remove(&9));
    assert_eq!(*told.lock().unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn law_12_callbacks_may_use_the_breaker_and_may_panic() {
    let breakers = keyed(2);
    let _panics = breakers.subscribe(|_, _| panic!("as told"));
    let _uses = breakers.subscribe(move |key, _| {
        if *key < 100 {
            record(breakers, key + 100, Verdict::Success);
            assert!(breakers.state(key).is_some());
            breakers.remove(&(key + 100));
        }
    });
    let (told, _subscription) = listen(breakers);
    panics(|| {
        trip(breakers, 1);
        panic!("only to silence the panics within");
    });
    assert_eq!(*told.lock().unwrap(), [(1, State::Closed, State::Open)]);
    assert!(breakers.reset(&1));
    (2..10).for_each(|key| record(breakers, key, Verdict::Success));
    assert_eq!(breakers.unprotected(), 0);
}

// ---- Calls ---------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn calls_without_tower() {
    let breakers = keyed(1);
    let call = |key: u32, outcome: Result<u32, Error<&'static str>>| async move {
        breakers.call(&key, || async move { outcome }).await
    };
    assert_eq!(call(1, Ok(5)).await, Ok(5));
    assert_eq!(call(1, Err(Error::Service("failed"))).await, Err(Error::Service("failed")));
    let refused = call(1, Ok(5)).await.unwrap_err();
    assert_eq!(refused.policy_error().unwrap().kind(), PolicyErrorKind::CircuitOpen);
    // No place: passes all the same.
    assert_eq!(call(2, Ok(5)).await, Ok(5));
    assert!(breakers.reset(&1));
    let permanent =
        buttress::classify_fn(|outcome: Result<&u32, &Error<&'static str>>| match outcome {
            Ok(_) => Verdict::Success,
            Err(_) => Verdict::Permanent,
        });
    for _ in 0..3 {
        let failing = || async { Err::<u32, _>(Error::Service("gone")) };
        assert!(breakers.call_with(&1, permanent, failing).await.is_err());
    }
    let snapshot = breakers.snapshot(&1).unwrap();
    assert_eq!((snapshot.calls, snapshot.failures), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn law_03_a_call_that_is_dropped_says_nothing_and_a_panic_is_a_failure() {
    let breakers = keyed(1);
    trip(breakers, 1);
    advance(5 * SECOND).await;
    let operation = || std::future::pending::<Result<(), Error<&'static str>>>();
    {
        let mut probe = pin!(breakers.call(&1, operation));
        assert!(poll_once(probe.as_mut()).is_pending());
        assert!(breakers.try_acquire(&1).is_err());
    }
    assert_eq!(breakers.state(&1), Some(State::HalfOpen));
    {
        let mut panicking = pin!(breakers.call(&1, || async {
            assert!(breakers.is_empty(), "as told");
            Ok::<(), Error<&'static str>>(())
        }));
        assert!(panics(|| assert!(poll_once(panicking.as_mut()).is_pending())));
    }
    assert_eq!(breakers.state(&1), Some(State::Open));
}

/// The key is whether the call succeeds.
fn by_act(act: &Act) -> u32 {
    u32::from(*act == Act::Fail)
}

#[tokio::test(start_paused = true)]
async fn law_01_readiness_is_that_of_the_wrapped_service() {
    let breakers = keyed(5);
    let (probe, counts) = Probe::new();
    let mut service = breakers.layer(by_act).layer(probe);
    for _ in 0..2 {
        assert!(service.ready().await.unwrap().call(Act::Fail).await.is_err());
        assert!(service.ready().await.unwrap().call(Act::Succeed).await.is_ok());
    }
    assert_eq!(breakers.state(&1), Some(State::Open));
    // Ready even so, for the request may be for another key; refused in `call`. The probe insists
    // on having been ready before it is called again, and is.
    let refused = service.ready().await.unwrap().call(Act::Fail).await.unwrap_err();
    assert!(refused.policy_error().is_some());
    assert_eq!(counts.called(), 4);
    assert!(service.call(Act::Succeed).await.is_ok());
    // An error of readiness is passed on, and is nobody's failure.
    counts.unready_errors.store(5, std::sync::atomic::Ordering::SeqCst);
    for _ in 0..5 {
        assert_eq!(service.ready().await.err(), Some(Error::Service("not ready")));
    }
    assert_eq!(breakers.snapshot(&0).unwrap().failures, 0);
}

#[tokio::test(start_paused = true)]
async fn law_02_what_a_refused_call_had_reserved_is_let_go_of() {
    let breakers = keyed(5);
    trip(breakers, 1);
    let permits = Arc::new(Semaphore::new(1));
    let limited = || {
        let limit = GlobalConcurrencyLimitLayer::with_semaphore(Arc::clone(&permits));
        limit.layer(Probe::new().0)
    };
    let mut keeping = breakers.layer(by_act).layer(limited());
    let mut releasing = breakers.layer(by_act).releasing().layer(limited());
    assert!(keeping.ready().await.unwrap().call(Act::Fail).await.is_err());
    assert_eq!(permits.available_permits(), 0);
    drop(keeping);
    assert!(releasing.ready().await.unwrap().call(Act::Fail).await.is_err());
    assert_eq!(permits.available_permits(), 1);
    assert!(releasing.ready().await.unwrap().call(Act::Succeed).await.is_ok());
    assert_eq!(permits.available_permits(), 1);
}

#[tokio::test(start_paused = true)]
async fn clones_copies_and_layers_share_the_breakers() {
    let breakers = keyed(5);
    let layer = breakers.layer(by_act);
    let (probe, counts) = Probe::new();
    let services = [layer.layer(probe.clone()), layer.clone().layer(probe.clone())];
    for service in services {
        let mut service = service.clone();
        assert_eq!(service.breakers(), breakers);
        assert!(service.ready().await.unwrap().call(Act::Fail).await.is_err());
    }
    assert_eq!(breakers.state(&1), Some(State::Open));
    let mut third = breakers.layer(by_act).layer(probe);
    assert!(third.ready().await.unwrap().call(Act::Fail).await.is_err());
    assert_eq!(counts.called(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_classifier_decides_and_a_stack_takes_the_layer() {
    let breakers = keyed(5);
    let busy = buttress::classify_response(|status: &u16| match status {
        503 => Verdict::Transient,
        _ => Verdict::Success,
    });
    let mut client = Stack::new()
        .layer(breakers.layer(|status: &u16| u32::from(*status)).classify(busy))
        .layer(ServiceErrors)
        .service(tower::service_fn(|status: u16| async move { Ok::<_, std::io::Error>(status) }));
    for _ in 0..2 {
        assert_eq!(client.ready().await.unwrap().call(503).await.unwrap(), 503);
        assert_eq!(client.ready().await.unwrap().call(200).await.unwrap(), 200);
    }
    assert!(client.ready().await.unwrap().call(503).await.is_err());
    assert_eq!(breakers.open_keys(), [(503, State::Open)]);
}

#[tokio::test(start_paused = true)]
async fn a_shadow_refuses_nothing() {
    let breakers = builder().shadow().build_keyed(1).unwrap();
    (0..5).for_each(|_| record(breakers, 1, Verdict::Transient));
    assert_eq!(breakers.state(&1), Some(State::Open));
    passes_unprotected(breakers, 2);
}

#[test]
fn every_type_can_be_looked_at() {
    let breakers = keyed(1);
    let layer = breakers.layer(by_act);
    assert!(format!("{layer:?}").starts_with("KeyedCircuitBreakerLayer"));
    assert!(format!("{:?}", layer.clone().releasing()).starts_with("Releasing"));
    let mut service = layer.layer(Probe::new().0);
    assert!(format!("{service:?}").starts_with("KeyedCircuitBreakerService"));
    let _: &Probe = service.get_ref();
    let _: &mut Probe = service.get_mut();
    let _: Probe = service.into_inner();
}

// ---- Keys whose code misbehaves ------------------------------------------------------------------

thread_local! {
    /// What the next so many of a [`Wild`] key's hashes do.
    static PANIC_AT_HASH: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
    static AT_CLONE: std::cell::Cell<Option<fn()>> = const { std::cell::Cell::new(None) };
}

#[derive(Debug, PartialEq, Eq)]
struct Wild(u32);

impl std::hash::Hash for Wild {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        let left = PANIC_AT_HASH.get();
        PANIC_AT_HASH.set(left.saturating_sub(1));
        assert!(left != 1, "panic in hash, as told");
        self.0.hash(state);
    }
}

impl Clone for Wild {
    fn clone(&self) -> Self {
        if let Some(code) = AT_CLONE.take() {
            code();
        }
        Wild(self.0)
    }
}

/// Whichever of the hashes it is that panics while a place changes hands.
#[tokio::test(start_paused = true)]
async fn law_04_a_hash_that_panics_leaves_no_place_to_two_keys() {
    for places in [1, 2] {
        for which in 1..6 {
            let breakers = builder().build_keyed::<Wild>(places).unwrap();
            let touch = |key| {
                drop(breakers.try_acquire(&Wild(key)).unwrap());
            };
            (0..places as u32).for_each(touch);
            PANIC_AT_HASH.set(which);
            panics(|| touch(10));
            PANIC_AT_HASH.set(0);
            // Frees a place, so that those that nobody has are looked for.
            breakers.remove(&Wild(1));
            (20..24).for_each(touch);
            let mut keys = breakers.keys();
            keys.sort_by_key(|key| key.0);
            assert!(keys.len() <= places, "{which}: {keys:?} in {places}");
            for key in &keys {
                assert!(breakers.force_open(key, "by hand", None));
                assert_eq!(breakers.open_keys().len(), 1, "{which}: of {keys:?}");
                assert!(breakers.reset(key));
            }
            assert_eq!((keys.len(), breakers.unprotected()), (places, 0), "{which}");
        }
    }
}

/// Cloning is no part of looking up, so it is done outside of locks and may do anything.
#[test]
fn law_12_keys_are_cloned_outside_of_locks() {
    static BREAKERS: std::sync::LazyLock<KeyedCircuitBreaker<Wild>> =
        std::sync::LazyLock::new(|| builder().build_keyed(4).unwrap());
    for list in [|| BREAKERS.keys().len(), || BREAKERS.open_keys().len()] {
        let (done, listed) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            assert!(BREAKERS.force_open(&Wild(1), "by hand", None));
            AT_CLONE.set(Some(|| assert!(!BREAKERS.remove(&Wild(2)))));
            done.send(list()).unwrap();
        });
        assert_eq!(listed.recv_timeout(SECOND), Ok(1));
    }
}

/// Who looks for a place copies the key first, and holds up all others while it looks.
#[tokio::test(start_paused = true)]
async fn nobody_looks_for_a_place_while_there_can_be_none() {
    let breakers = builder().build_keyed::<Wild>(2).unwrap();
    let looks = |key| {
        static COPIED: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
        COPIED.store(false, std::sync::atomic::Ordering::SeqCst);
        AT_CLONE.set(Some(|| COPIED.store(true, std::sync::atomic::Ordering::SeqCst)));
        drop(breakers.try_acquire(&Wild(key)).unwrap());
        AT_CLONE.set(None);
        COPIED.load(std::sync::atomic::Ordering::SeqCst)
    };
    assert!(breakers.force_open(&Wild(1), "by hand", None));
    assert!(breakers.force_closed(&Wild(2), "by hand", Some(SECOND)));
    assert_eq!([looks(3), looks(3), looks(4)], [true, false, false]);
    advance(SECOND).await;
    assert!(looks(3));
    assert_eq!((breakers.state(&Wild(3)), breakers.unprotected()), (Some(State::Closed), 3));
}

/// What a panic carries may panic as well when it is dropped.
#[tokio::test(start_paused = true)]
async fn law_12_a_panic_that_panics_wedges_nothing() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("panic in drop, as told");
        }
    }
    let breakers = keyed(1);
    let _bomb = breakers.subscribe(|_, _| std::panic::panic_any(Bomb));
    let (told, _subscription) = listen(breakers);
    panics(|| {
        trip(breakers, 1);
        panic!("only to silence the panics within");
    });
    panics(|| {
        breakers.reset(&1);
        panic!("only to silence the panics within");
    });
    assert_eq!(told.lock().unwrap().len(), 2);
    record(breakers, 2, Verdict::Success);
    assert_eq!((breakers.state(&2), breakers.unprotected()), (Some(State::Closed), 0));
}
