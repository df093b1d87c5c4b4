//! One breaker, one thread and two: `cargo bench --bench contention`.
//!
//! Each thread calls its own clone of a service over the one shared handle for a slice of time, and
//! the calls of all are added up. A slice with two threads counts only if two threads with nothing in
//! common did twice the work of one right before and after it: on a virtual machine one of two
//! processors may be gone for a while, and nothing else shows that.

// Measuring takes real time.
#![allow(clippy::disallowed_methods)]

use std::{
    hint::black_box,
    sync::{
        Barrier,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use buttress::{Window, breaker::CircuitBreakerBuilder};
use tower::{Layer, Service};

mod support;
use support::{Failure, READY, breaker, call, runtime, stack};

const SLICE: Duration = Duration::from_millis(25);
const ROUNDS: usize = 15;

fn main() {
    // `cargo test --benches` wants to see that it starts, not what it says.
    let quick = std::env::args().any(|arg| arg == "--test");
    let rounds = if quick { 1 } else { ROUNDS };
    let runtime = runtime();
    let _entered = runtime.enter();
    println!("| shared | 1 thread, Mcalls/s | 2 threads | ratio | slices kept |");
    println!("|---|--:|--:|--:|--:|");
    measure("nothing", rounds, &READY);
    let one = |builder: CircuitBreakerBuilder| builder.build().expect("valid").layer().layer(READY);
    measure("breaker", rounds, &one(breaker()));
    measure("breaker, row of 5", rounds, &one(breaker().consecutive_failures(5)));
    let window = Window::time(Duration::from_secs(10));
    measure("breaker, time window", rounds, &one(breaker().window(window)));
    measure("stack", rounds, &stack(READY));
}

fn measure<S>(name: &str, rounds: usize, service: &S)
where
    S: Service<u64, Response = u64, Error = Failure> + Clone + Send + Sync,
{
    let (mut single, mut double, mut kept) = (Vec::new(), Vec::new(), 0);
    for _ in 0..rounds {
        single.push(slice(1, service));
        let before = slice(2, &READY) / slice(1, &READY);
        let both = slice(2, service);
        let after = slice(2, &READY) / slice(1, &READY);
        if before > 1.85 && after > 1.85 {
            double.push(both);
            kept += 1;
        }
    }
    let single = median(single);
    match median(double) {
        both if both > 0.0 => println!(
            "| {name} | {single:.1} | {both:.1} | {:.2} | {kept} of {rounds} |",
            both / single
        ),
        _ => println!("| {name} | {single:.1} | - | - | 0 of {rounds} |"),
    }
}

/// Millions of calls a second by so many threads.
fn slice<S>(threads: usize, service: &S) -> f64
where
    S: Service<u64, Response = u64, Error = Failure> + Clone + Send + Sync,
{
    let stop = AtomicBool::new(false);
    let start = Barrier::new(threads + 1);
    let calls: u64 = thread::scope(|scope| {
        let work = || {
            let mut service = service.clone();
            start.wait();
            let mut calls = 0;
            while !stop.load(Ordering::Relaxed) {
                for request in 0..256 {
                    let _ = black_box(call(&mut service, request));
                }
                calls += 256;
            }
            calls
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        start.wait();
        thread::sleep(SLICE);
        stop.store(true, Ordering::Relaxed);
        workers.into_iter().map(|worker| worker.join().expect("no panic")).sum()
    });
    calls as f64 / SLICE.as_secs_f64() / 1e6
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}
