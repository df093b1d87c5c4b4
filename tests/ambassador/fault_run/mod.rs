//! The fault run: full speed, an upstream that fails in every way there is, and nothing is lost.
//!
//! Bounded by default, in requests and in time. The long one, whose figures are in the example's
//! README:
//!
//! ```text
//! AMBASSADOR_FAULT_REQUESTS=1000000 cargo test --release --all-features --test ambassador \
//!     fault_run -- --nocapture
//! ```

mod caller;
mod upstream;

use std::{
    env,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use self::{
    caller::{Caller, End, Protocol},
    upstream::{Log, Manner},
};
use super::process::{Ambassador, until};

/// How many requests, and for how long at the most, unless the environment says otherwise.
const REQUESTS: usize = 20_000;
const LIMIT: Duration = Duration::from_secs(8);
/// How many requests are under way at a time: over connections of HTTP/1.1, and over one of HTTP/2.
const CALLERS: [(Protocol, usize); 2] = [(Protocol::Http1, 24), (Protocol::Http2, 8)];
/// Pools are full and every kind of fault has been met after this share of the requests.
const WARM_UP: f64 = 0.2;
const ALLOWED_GROWTH: u64 = 5 * 1024; // KiB

fn configuration(primary: std::net::SocketAddr, backup: std::net::SocketAddr) -> String {
    format!(
        r#"
[upstreams.stock]
listen = "127.0.0.1:0"
primary = {{ url = "http://{primary}" }}
backup = {{ url = "http://{backup}" }}
backup_timeout = {{ after = "500ms" }}
degraded = {{ body = "{}", content_type = "text/plain" }}
body_timeout = {{ stall = "200ms" }}
[upstreams.stock.policies]
timeout = {{ after = "1s" }}
attempt_timeout = {{ after = "200ms" }}
retry = {{ max_attempts = 3, backoff = {{ base = "5ms", max = "20ms" }} }}
breaker = {{ open_for = "100ms", half_open_for = "1s" }}
"#,
        caller::STATIC_ANSWER
    )
}

/// Resident memory of a process, in KiB.
fn resident(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_run() {
    let asked = env::var("AMBASSADOR_FAULT_REQUESTS").ok().map(|text| text.parse().unwrap());
    let requests: usize = asked.unwrap_or(REQUESTS);
    let log = Log::new(requests);
    let primary = upstream::start(Manner::Faulty, Arc::clone(&log)).await;
    let backup = upstream::start(Manner::Unwilling, Arc::clone(&log)).await;
    let ambassador = Ambassador::start(&configuration(primary, backup));

    let began = Instant::now();
    let deadline = asked.is_none().then(|| began + LIMIT);
    let next = Arc::new(AtomicUsize::new(0));
    let callers = CALLERS.iter().flat_map(|(protocol, count)| vec![*protocol; *count]);
    let callers: Vec<_> = callers
        .map(|protocol| {
            let caller = Caller::new(ambassador.address("stock"), protocol);
            let (next, log) = (Arc::clone(&next), Arc::clone(&log));
            tokio::spawn(caller.run(next, requests, deadline, log))
        })
        .collect();

    let warm = (requests as f64 * WARM_UP) as usize;
    until_under_way(&next, warm, deadline).await;
    let (early, early_requests) = (resident(ambassador.id()), next.load(Ordering::Relaxed));
    let mut ends = [0_u64; End::ALL.len()];
    for caller in callers {
        for (sum, count) in ends.iter_mut().zip(caller.await.unwrap()) {
            *sum += count;
        }
    }
    let elapsed = began.elapsed();
    until("idle", async || ambassador.policies("stock").await["in_flight"] == 0).await;
    let late = resident(ambassador.id());

    let view = ambassador.policies("stock").await;
    let total: u64 = ends.iter().sum();
    println!(
        "{total} requests in {elapsed:.1?} ({:.0} a second): {}\n\
         upstreams saw {} requests, answered {} with a fault\n\
         breaker: {} transitions, now {}\n\
         retry: {}\nfallback: {}\n\
         resident memory: {early} KiB after {early_requests} requests, {late} KiB at the end",
        total as f64 / elapsed.as_secs_f64(),
        End::ALL
            .iter()
            .zip(ends)
            .map(|(end, count)| format!("{count} {}", end.as_str()))
            .collect::<Vec<_>>()
            .join(", "),
        log.arrivals(),
        log.faults(),
        ambassador.logged("breaker transition").len(),
        view["breaker"]["state"],
        view["retry"],
        view["fallback"],
    );

    // Every request ended, as exactly one of the four, and both sides agree how.
    assert_eq!(total, next.load(Ordering::Relaxed).min(requests) as u64);
    for (end, count) in End::ALL.iter().zip(ends) {
        assert_eq!(ambassador.ended("stock", end.as_str()).await, count, "{end:?}");
        assert!(count > 0, "no request ended as {end:?}: it was no test of that");
    }
    assert_eq!(ambassador.ended("stock", "gone").await, 0);
    // Payments, which are the ids that can be divided by four.
    assert_eq!(log.repeated(caller::is_payment), Vec::<usize>::new(), "seen twice");
    assert!(log.repeated(|id| !caller::is_payment(id)).len() > 10, "the others are repeated");
    assert!(ambassador.logged("\"to\":\"open\"").len() > 1, "the circuit has opened");
    assert!(late <= early + ALLOWED_GROWTH, "memory grew from {early} to {late} KiB");
}

async fn until_under_way(next: &AtomicUsize, warm: usize, deadline: Option<Instant>) {
    // Whichever of the two limits of the run is met first.
    let latest = deadline.map(|at| at - LIMIT.mul_f64(1.0 - WARM_UP));
    while next.load(Ordering::Relaxed) < warm && latest.is_none_or(|at| Instant::now() < at) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
