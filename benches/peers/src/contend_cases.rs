//! Shared-breaker cases for 1 vs 2 threads.

use std::{
    future::poll_fn,
    hint::black_box,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tower_layer::Layer;
use tower_service::Service;

use crate::{
    E, Inner,
    cases::{bt, fs, rc, sb, tr},
    drive::tower_call_spin,
    floor::{self, Breaker, Core},
};

/// Runs `n` calls, returns how many succeeded.
pub type Worker = Box<dyn FnMut(u64) -> u64 + Send>;
/// The same as a tokio task: loops until told to stop, returns the call count.
pub type Task = Pin<Box<dyn Future<Output = u64> + Send>>;

pub struct Contend {
    pub krate: &'static str,
    pub variant: &'static str,
    pub workers: fn(usize) -> Vec<Worker>,
    /// also run as tasks on a multi-thread tokio runtime
    pub tasks: Option<fn(usize, &Arc<AtomicBool>) -> Vec<Task>>,
}

fn tower_workers<S>(svc: S, k: usize) -> Vec<Worker>
where
    S: Service<u64, Response = u64> + Clone + Send + 'static,
{
    (0..k)
        .map(|_| {
            let mut svc = svc.clone();
            Box::new(move |n| {
                let svc = black_box(&mut svc);
                let mut ok = 0;
                for i in 0..n {
                    ok += tower_call_spin(svc, i).is_ok() as u64;
                }
                ok
            }) as Worker
        })
        .collect()
}

fn tower_tasks<S>(svc: S, k: usize, stop: &Arc<AtomicBool>) -> Vec<Task>
where
    S: Service<u64, Response = u64> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
{
    (0..k)
        .map(|_| {
            let mut svc = svc.clone();
            let stop = stop.clone();
            Box::pin(async move {
                let mut n = 0u64;
                while !stop.load(Relaxed) {
                    for i in 0..64 {
                        if poll_fn(|cx| svc.poll_ready(cx)).await.is_err() {
                            panic!("not ready");
                        }
                        let r = svc.call(black_box(i)).await;
                        assert!(r.is_ok());
                    }
                    n += 64;
                }
                n
            }) as Task
        })
        .collect()
}

fn fn_workers<F, Er>(mk: impl Fn() -> F, k: usize) -> Vec<Worker>
where
    F: FnMut(u64) -> Result<u64, Er> + Send + 'static,
{
    (0..k)
        .map(|_| {
            let mut f = mk();
            Box::new(move |n| {
                let f = black_box(&mut f);
                let mut ok = 0;
                for i in 0..n {
                    ok += f(black_box(i)).is_ok() as u64;
                }
                ok
            }) as Worker
        })
        .collect()
}

fn leak<T>(t: T) -> &'static T {
    Box::leak(Box::new(t))
}
fn core() -> Core {
    Core::new(false)
}

macro_rules! tower_case {
    ($krate:literal, $variant:literal, $svc:expr) => {
        Contend {
            krate: $krate,
            variant: $variant,
            workers: |k| tower_workers($svc, k),
            tasks: Some(|k, s| tower_tasks($svc, k, s)),
        }
    };
}
macro_rules! fn_case {
    ($krate:literal, $variant:literal, $shared:expr, |$s:ident, $r:ident| $body:expr) => {
        Contend {
            krate: $krate,
            variant: $variant,
            workers: |k| {
                let shared: &'static _ = leak($shared);
                fn_workers(
                    || {
                        let $s = shared;
                        move |$r: u64| $body
                    },
                    k,
                )
            },
            tasks: None,
        }
    };
}

pub fn all() -> Vec<Contend> {
    vec![
        // baselines
        tower_case!("-", "bare inner call (nothing shared)", Inner),
        fn_case!("std", "AtomicU64 fetch_add", AtomicU64::new(0), |s, r| Ok::<u64, E>(
            r + s.fetch_add(1, Relaxed)
        )),
        fn_case!("std", "Mutex<u64> += 1", std::sync::Mutex::new(0u64), |s, r| {
            let mut g = s.lock().unwrap();
            *g += 1;
            Ok::<u64, E>(r + *g)
        }),
        fn_case!("parking_lot", "Mutex<u64> += 1", parking_lot::Mutex::new(0u64), |s, r| {
            let mut g = s.lock();
            *g += 1;
            Ok::<u64, E>(r + *g)
        }),
        // floors
        tower_case!("floor", "load only, &'static", Breaker::new(Inner, leak(core()) as &_, floor::LoadOnly)),
        tower_case!("floor", "load only, Arc in future", Breaker::new(Inner, Arc::new(core()), floor::LoadOnly)),
        tower_case!("floor", "load only, per-clone Arc in future", Breaker::new(Inner, Arc::new(Arc::new(core())), floor::LoadOnly)),
        tower_case!("floor", "load + fetch_add, &'static", Breaker::new(Inner, leak(core()) as &_, floor::FetchAdd)),
        tower_case!("floor", "load + fetch_add, Arc in future", Breaker::new(Inner, Arc::new(core()), floor::FetchAdd)),
        tower_case!("floor", "load + striped add, &'static", Breaker::new(Inner, leak(core()) as &_, floor::Striped)),
        tower_case!("floor", "load + striped add, Arc in future", Breaker::new(Inner, Arc::new(core()), floor::Striped)),
        tower_case!("floor", "load + striped add, per-clone Arc in future", Breaker::new(Inner, Arc::new(Arc::new(core())), floor::Striped)),
        tower_case!("floor", "load + 64-bit shift register CAS, &'static", Breaker::new(Inner, leak(core()) as &_, floor::ShiftReg)),
        tower_case!("floor", "time bucket: std Instant, &'static", Breaker::new(Inner, leak(core()) as &_, floor::StdWindow)),
        // peers
        tower_case!("tower-resilience", "count-based", tr::breaker()),
        tower_case!("failsafe", "consecutive failures, async", fs::Svc { inner: Inner, cb: fs::consec() }),
        fn_case!("failsafe", "consecutive failures, sync", fs::consec(), |s, r| {
            failsafe::CircuitBreaker::call(s, || Inner::go(r))
        }),
        tower_case!("failsafe", "success rate over 30 s (EMA), async", fs::Svc { inner: Inner, cb: fs::window() }),
        tower_case!("recloser", "ring 100, async", rc::svc()),
        fn_case!("recloser", "ring 100, sync", rc::sync_breaker(), |s, r| s.call(|| Inner::go(r))),
        tower_case!("seatbelt", "tower, 30 s window", sb::tower_breaker(false)),
        Contend {
            krate: "seatbelt",
            variant: "layered, 30 s window",
            workers: sb::layered_workers,
            tasks: None,
        },
        tower_case!("buttress", "last 100 calls", bt::shared()),
        tower_case!("buttress", "30 s window", bt::window_shared()),
        // other shared patterns, for reference
        fn_case!(
            "governor",
            "direct check(), quanta clock",
            governor::RateLimiter::direct(governor::Quota::per_second(
                std::num::NonZeroU32::new(1_000_000_000).unwrap()
            )),
            |s, r| s.check().map(|_| r)
        ),
        tower_case!("tower", "ConcurrencyLimit(1000)", tower::limit::ConcurrencyLimit::new(Inner, 1000)),
        tower_case!(
            "tower-resilience",
            "Bulkhead(1000)",
            tower_resilience::bulkhead::BulkheadLayer::builder()
                .max_concurrent_calls(1000)
                .build()
                .unwrap()
                .layer(Inner)
        ),
        tower_case!(
            "tower-resilience",
            "RateLimiter fixed window",
            tower_resilience::ratelimiter::RateLimiterLayer::builder()
                .limit_for_period(1 << 50)
                .refresh_period(Duration::from_secs(1))
                .build()
                .unwrap()
                .layer(Inner)
        ),
    ]
}
