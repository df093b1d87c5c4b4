//! Review: interleavings through the public API, on real threads.
use buttress::{
    Backoff, CircuitBreaker, Jitter, Verdict, Window,
    breaker::{OpenReason, State},
};
use std::{
    sync::Barrier,
    time::{Duration, Instant},
};
const S: Duration = Duration::from_secs(1);
const ROUNDS: usize = 30_000;

#[test]
fn several_failures_at_the_limit_open_once_for_the_first_open_time() {
    const THREADS: usize = 4;
    let breaker = CircuitBreaker::builder("hammer")
        .window(Window::calls(100))
        .min_calls(1)
        .open_for(Backoff::exponential(5 * S).max(60 * S).jitter(Jitter::None))
        .build()
        .unwrap();
    let barrier = Barrier::new(THREADS);
    let wrong = std::sync::Mutex::new((0, 0, String::new()));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (barrier, wrong) = (&barrier, &wrong);
            scope.spawn(move || {
                for _ in 0..ROUNDS {
                    let permit = breaker.try_acquire().unwrap();
                    barrier.wait();
                    permit.record(Verdict::Transient);
                    barrier.wait();
                    if thread == 0 {
                        let snapshot = breaker.snapshot();
                        let open_for = snapshot.ready_at.unwrap() - snapshot.since;
                        let mut wrong = wrong.lock().unwrap();
                        if open_for > 5500 * S / 1000 {
                            wrong.0 += 1;
                            wrong.2 = format!("{open_for:?}");
                        }
                        if snapshot.reason != snapshot.transitions.last().unwrap().reason {
                            wrong.1 += 1;
                        }
                        breaker.reset();
                    }
                    barrier.wait();
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert_eq!(
        (wrong.0, wrong.1),
        (0, 0),
        "of {ROUNDS}: open too long (e.g. {}), evidence of another",
        wrong.2
    );
}

#[test]
fn forced_open_without_expiry_does_not_expire() {
    let breaker = CircuitBreaker::builder("hammer")
        .window(Window::calls(100))
        .min_calls(1)
        .open_for(5 * S)
        .build()
        .unwrap();
    let barrier = Barrier::new(2);
    let mut wrong = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..ROUNDS {
                let permit = breaker.try_acquire().unwrap();
                barrier.wait();
                permit.record(Verdict::Transient);
                barrier.wait();
                barrier.wait();
            }
        });
        for _ in 0..ROUNDS {
            barrier.wait();
            breaker.force_open("maintenance", None);
            barrier.wait();
            let snapshot = breaker.snapshot();
            assert_eq!(snapshot.state, State::ForcedOpen);
            wrong += usize::from(snapshot.ready_at.is_some());
            breaker.reset();
            barrier.wait();
        }
    });
    assert_eq!(wrong, 0, "of {ROUNDS} would end by themselves");
}

#[test]
fn calls_after_a_recovery_are_not_lost() {
    const THREADS: usize = 3;
    let breaker = CircuitBreaker::builder("hammer")
        .window(Window::calls(100))
        .min_calls(10)
        .open_for(Backoff::constant(Duration::from_nanos(1)).jitter(Jitter::None))
        .probes(3)
        .build()
        .unwrap();
    let barrier = Barrier::new(THREADS);
    let recorded = std::sync::atomic::AtomicU32::new(0);
    let wrong = std::sync::atomic::AtomicU32::new(0);
    use std::sync::atomic::Ordering::SeqCst;
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (barrier, recorded, wrong) = (&barrier, &recorded, &wrong);
            scope.spawn(move || {
                for _ in 0..ROUNDS {
                    if thread == 0 {
                        recorded.store(0, SeqCst);
                        for _ in 0..10 {
                            breaker.try_acquire().unwrap().record(Verdict::Transient);
                        }
                        assert_eq!(breaker.state(), State::HalfOpen);
                    }
                    barrier.wait();
                    let permit = breaker.try_acquire().unwrap();
                    barrier.wait();
                    permit.record(Verdict::Success);
                    if breaker.state() == State::Closed {
                        breaker.try_acquire().unwrap().record(Verdict::Transient);
                        recorded.fetch_add(1, SeqCst);
                    }
                    barrier.wait();
                    if thread == 0 {
                        let snapshot = breaker.snapshot();
                        if snapshot.calls != recorded.load(SeqCst) {
                            wrong.fetch_add(1, SeqCst);
                        }
                        breaker.reset();
                    }
                    barrier.wait();
                }
            });
        }
    });
    assert_eq!(wrong.into_inner(), 0, "of {ROUNDS} lost failures");
}

#[test]
fn evidence_of_a_trip_reaches_its_limit() {
    const THREADS: usize = 4;
    let breaker = CircuitBreaker::builder("hammer")
        .window(Window::calls(20))
        .min_calls(20)
        .open_for(5 * S)
        .build()
        .unwrap();
    let barrier = Barrier::new(THREADS);
    let wrong = std::sync::Mutex::new((0, String::new()));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (barrier, wrong) = (&barrier, &wrong);
            scope.spawn(move || {
                for _ in 0..ROUNDS {
                    if thread == 0 {
                        (0..20)
                            .for_each(|_| breaker.try_acquire().unwrap().record(Verdict::Success));
                        (0..6).for_each(|_| {
                            breaker.try_acquire().unwrap().record(Verdict::Transient)
                        });
                    }
                    barrier.wait();
                    let permits = [breaker.try_acquire().unwrap(), breaker.try_acquire().unwrap()];
                    barrier.wait();
                    permits.map(|permit| permit.record(Verdict::Transient));
                    barrier.wait();
                    if thread == 0 {
                        let snapshot = breaker.snapshot();
                        match snapshot.transitions.last().unwrap().reason {
                            Some(OpenReason::FailureRatio { failures, calls, .. })
                                if failures * 2 >= calls => {}
                            other => {
                                let mut wrong = wrong.lock().unwrap();
                                wrong.0 += 1;
                                wrong.1 = format!("{other:?}");
                            }
                        }
                        breaker.reset();
                    }
                    barrier.wait();
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert_eq!(wrong.0, 0, "of {ROUNDS}, e.g. {}", wrong.1);
}

/// Nothing loops for ever or trips an assertion at the shortest times there are.
#[test]
fn shortest_times_terminate() {
    let tiny = Duration::from_nanos(1);
    let breaker = CircuitBreaker::builder("hammer")
        .window(Window::calls(4))
        .min_calls(1)
        .probes(2)
        .open_for(Backoff::constant(tiny).jitter(Jitter::None))
        .half_open_for(tiny)
        .build()
        .unwrap();
    let end = Instant::now() + Duration::from_secs(3);
    std::thread::scope(|scope| {
        for thread in 0..4_u32 {
            scope.spawn(move || {
                let mut n = thread;
                while Instant::now() < end {
                    n = n.wrapping_mul(1664525).wrapping_add(1013904223);
                    match n >> 28 {
                        0 => breaker.reset(),
                        1 => breaker.force_open("x", Some(tiny)),
                        2 => breaker.force_closed("x", Some(tiny)),
                        3..6 => drop(breaker.try_acquire()),
                        6..10 => {
                            if let Ok(p) = breaker.try_acquire() {
                                p.record(Verdict::Success)
                            }
                        }
                        _ => {
                            if let Ok(p) = breaker.try_acquire() {
                                p.record(Verdict::Transient)
                            }
                        }
                    }
                    let _ = breaker.state();
                }
            });
        }
    });
    let history = breaker.snapshot().transitions;
    assert!(
        history.windows(2).all(|w| w[0].to == w[1].from && w[1].generation == w[0].generation + 1)
    );
    breaker.reset();
    assert!(breaker.try_acquire().is_ok());
}
