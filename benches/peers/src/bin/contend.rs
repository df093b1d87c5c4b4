//! Metric c: one shared breaker, 1 thread vs 2 threads, aggregate calls/s.
//!
//! Two drivers: "spin" = OS threads pinned to cpu 0/1 polling by hand (a
//! pending future is re-polled at once); "tokio" = two tasks on a 2-worker
//! multi-thread runtime. 1- and 2-thread rounds are interleaved over all cases.
//!
//! usage: contend [--rounds N] [--ms SLICE_MS] [--tsv FILE]

use peers::{contend_cases, leaked_rt, pin_to, stats};
use std::{
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

fn arg(name: &str) -> Option<String> {
    let mut a = std::env::args();
    while let Some(x) = a.next() {
        if x == name {
            return a.next();
        }
    }
    None
}

fn spin_round(workers: Vec<contend_cases::Worker>, slice: Duration, h: &tokio::runtime::Handle) -> f64 {
    let k = workers.len();
    let stop = Arc::new(AtomicBool::new(false));
    let bar = Arc::new(Barrier::new(k + 1));
    let hs: Vec<_> = workers
        .into_iter()
        .enumerate()
        .map(|(i, mut w)| {
            let (stop, bar, h) = (stop.clone(), bar.clone(), h.clone());
            std::thread::spawn(move || {
                pin_to(if k == 1 { 1 } else { i });
                let _g = h.enter();
                w(512);
                bar.wait();
                let t = Instant::now();
                let mut n = 0u64;
                while !stop.load(Relaxed) {
                    let ok = w(256);
                    assert_eq!(ok, 256, "a call failed");
                    n += 256;
                }
                n as f64 / t.elapsed().as_secs_f64()
            })
        })
        .collect();
    bar.wait();
    std::thread::sleep(slice);
    stop.store(true, Relaxed);
    hs.into_iter().map(|h| h.join().unwrap()).sum()
}

/// Mops/s of `k` threads adding to private counters: how much of the 2 cpus
/// the hypervisor gives us right now (steal is not visible in /proc/stat here).
fn control(k: usize) -> f64 {
    let stop = Arc::new(AtomicBool::new(false));
    let bar = Arc::new(Barrier::new(k + 1));
    let hs: Vec<_> = (0..k)
        .map(|i| {
            let (stop, bar) = (stop.clone(), bar.clone());
            std::thread::spawn(move || {
                pin_to(if k == 1 { 1 } else { i });
                let c = Box::new(std::sync::atomic::AtomicU64::new(0));
                bar.wait();
                let t = Instant::now();
                let mut n = 0u64;
                while !stop.load(Relaxed) {
                    for _ in 0..256 {
                        std::hint::black_box(c.fetch_add(1, Relaxed));
                    }
                    n += 256;
                }
                n as f64 / t.elapsed().as_secs_f64() / 1e6
            })
        })
        .collect();
    bar.wait();
    std::thread::sleep(Duration::from_millis(3));
    stop.store(true, Relaxed);
    hs.into_iter().map(|h| h.join().unwrap()).sum()
}

fn main() {
    let rounds: usize = arg("--rounds").map_or(15, |s| s.parse().unwrap());
    let ms: u64 = arg("--ms").map_or(25, |s| s.parse().unwrap());
    let slice = Duration::from_millis(ms);
    let rt = leaked_rt();
    let _ctx = rt.enter();
    let mt = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .on_thread_start(|| {
            static N: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
            pin_to(N.fetch_add(1, Relaxed) % 2);
        })
        .build()
        .unwrap();
    let solo = (0..20).map(|_| control(1)).fold(0.0, f64::max);
    let (mut good, mut bad) = (0u32, 0u32);
    // a slice counts only if both cpus were really ours just before and after it
    let mut both_cpus = |f: &mut dyn FnMut() -> f64| -> Option<f64> {
        for _ in 0..4 {
            let before = control(2);
            let v = f();
            let after = control(2);
            if before.min(after) > 1.85 * solo {
                good += 1;
                return Some(v);
            }
            bad += 1;
        }
        None
    };
    let cases = contend_cases::all();
    let mut s: Vec<[Vec<f64>; 4]> = cases.iter().map(|_| Default::default()).collect();
    for _ in 0..rounds {
        for (c, s) in cases.iter().zip(&mut s) {
            for k in [1usize, 2] {
                let mut spin = || spin_round((c.workers)(k), slice, rt.handle());
                if k == 1 {
                    s[0].push(spin());
                } else if let Some(v) = both_cpus(&mut spin) {
                    s[1].push(v);
                }
                if let Some(tasks) = c.tasks {
                    let mut go = || {
                    let stop = Arc::new(AtomicBool::new(false));
                    let tasks = tasks(k, &stop);
                    let t = Instant::now();
                    let hs: Vec<_> = tasks.into_iter().map(|t| mt.spawn(t)).collect();
                    std::thread::sleep(slice);
                    stop.store(true, Relaxed);
                    let n: u64 = hs.into_iter().map(|h| mt.block_on(h).unwrap()).sum();
                    n as f64 / t.elapsed().as_secs_f64()
                    };
                    if k == 1 {
                        s[2].push(go());
                    } else if let Some(v) = both_cpus(&mut go) {
                        s[3].push(v);
                    }
                }
            }
        }
    }
    let mut tsv = String::from("crate\tvariant\tspin1\tspin2\tspin_ratio\ttokio1\ttokio2\n");
    println!("| crate | variant | 1 thread Mops/s | 2 threads Mops/s (sum) | ratio 2T/1T | ns/call per thread at 2T | tokio 1 task Mops/s | tokio 2 tasks Mops/s | ratio |");
    println!("|---|---|--:|--:|--:|--:|--:|--:|--:|");
    for (c, s) in cases.iter().zip(&mut s) {
        let m: Vec<f64> = s
            .iter_mut()
            .map(|v| if v.is_empty() { f64::NAN } else { stats::median(v) / 1e6 })
            .collect();
        let f = |x: f64| if x.is_nan() { "-".to_string() } else { format!("{x:.2}") };
        println!(
            "| {} | {} | {:.2} | {:.2} | {:.2} | {:.1} | {} | {} | {} |",
            c.krate, c.variant, m[0], m[1], m[1] / m[0], 2e3 / m[1], f(m[2]), f(m[3]), f(m[3] / m[2])
        );
        tsv += &format!(
            "{}\t{}\t{:.3}\t{:.3}\t{:.3}\t{:.3}\t{:.3}\n",
            c.krate, c.variant, m[0], m[1], m[1] / m[0], m[2], m[3]
        );
    }
    println!("\n({rounds} rounds of {ms} ms slices; control: {solo:.0} Mops/s per cpu; 2-thread slices kept {good}, thrown away because a cpu was stolen {bad})");
    if let Some(f) = arg("--tsv") {
        std::fs::write(f, tsv).unwrap();
    }
}
