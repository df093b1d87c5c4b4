//! Single-thread ns/call for every case (groups a, b, d-j, n, z).
//!
//! Cases are interleaved: each round runs one batch of every case, the order
//! rotates between rounds, and the median over rounds is reported.
//!
//! usage: bench [--rounds N] [--ms BATCH_MS] [--filter SUBSTR] [--tsv FILE]

use peers::{Case, Expect, Tally, cases, leaked_rt, pin_to, stats};
use std::time::Instant;

fn arg(name: &str) -> Option<String> {
    let mut a = std::env::args();
    while let Some(x) = a.next() {
        if x == name {
            return a.next();
        }
    }
    None
}

fn check(c: &Case, n: u64, t: Tally) {
    let good = match c.expect {
        Expect::Ok => t.ok == n && t.err == 0,
        Expect::Err => t.err == n && t.ok == 0,
        Expect::Mixed => t.ok > t.err && t.ok + t.err == n,
    };
    assert!(good, "{}: unexpected outcomes {t:?} for {n} calls", c.id());
}

fn main() {
    let rounds: usize = arg("--rounds").map_or(31, |s| s.parse().unwrap());
    let ms: f64 = arg("--ms").map_or(6.0, |s| s.parse().unwrap());
    let filter = arg("--filter").unwrap_or_default();
    pin_to(1);
    let _ctx = leaked_rt().enter();
    let t0 = Instant::now();

    struct Row {
        case: Case,
        built: peers::Built,
        n: u64,
        samples: Vec<f64>,
    }
    let mut rows: Vec<Row> = Vec::new();
    for case in cases::all() {
        if !case.id().contains(&filter) {
            continue;
        }
        let mut built = (case.build)();
        // calibrate the batch size
        let mut n = 64u64;
        loop {
            let t = Instant::now();
            check(&case, n, (built.run)(n));
            let dt = t.elapsed().as_secs_f64() * 1e3;
            if dt > ms / 4.0 || n > 1 << 32 {
                n = ((n as f64) * ms / dt.max(1e-6)).ceil() as u64;
                break;
            }
            n *= 4;
        }
        rows.push(Row { case, built, n, samples: Vec::with_capacity(rounds) });
    }
    let k = rows.len();
    for round in 0..rounds {
        for i in 0..k {
            let r = &mut rows[(i + round * 7) % k];
            let t = Instant::now();
            let tally = (r.built.run)(r.n);
            let ns = t.elapsed().as_nanos() as f64 / r.n as f64;
            check(&r.case, r.n, tally);
            r.samples.push(ns);
        }
    }

    let mut tsv = String::from("group\tcrate\tvariant\tmin\tmedian\tp90\tfut_size\n");
    let mut out: Vec<(String, &Case, f64, f64, f64, usize)> = Vec::new();
    for r in &mut rows {
        let (min, med, p90) = stats::summary(&mut r.samples);
        tsv += &format!(
            "{}\t{}\t{}\t{min:.3}\t{med:.3}\t{p90:.3}\t{}\n",
            r.case.group, r.case.krate, r.case.variant, r.built.fut_size
        );
        out.push((r.case.group.to_string(), &r.case, min, med, p90, r.built.fut_size));
    }
    let bare = out
        .iter()
        .find(|o| o.1.variant == "bare inner call")
        .map_or(f64::NAN, |o| o.3);

    let mut groups: Vec<&str> = out.iter().map(|o| o.1.group).collect();
    groups.dedup();
    for g in groups {
        let best = out.iter().filter(|o| o.0 == g).map(|o| o.3).fold(f64::INFINITY, f64::min);
        println!("\n### {g}\n");
        println!("| crate | variant | ns/call (median) | min | p90 | x bare inner | x best in table | future bytes |");
        println!("|---|---|--:|--:|--:|--:|--:|--:|");
        for o in out.iter().filter(|o| o.0 == g) {
            println!(
                "| {} | {} | {:.2} | {:.2} | {:.2} | {:.1} | {:.2} | {} |",
                o.1.krate, o.1.variant, o.3, o.2, o.4, o.3 / bare, o.3 / best, if o.5 == 0 { "-".into() } else { o.5.to_string() }
            );
        }
    }
    println!(
        "\n({} cases, {rounds} rounds of ~{ms} ms, {:.1} s total)",
        out.len(),
        t0.elapsed().as_secs_f64()
    );
    if filter.is_empty() {
        scaling(&mut tsv);
        println!("\ntotal {:.1} s", t0.elapsed().as_secs_f64());
    }
    if let Some(f) = arg("--tsv") {
        std::fs::write(f, tsv).unwrap();
    }
}

/// tower-resilience's time window keeps one record per call and re-scans all of
/// them on each call, so its cost depends on how many calls are in the window.
fn scaling(tsv: &mut String) {
    use peers::{cases::tr, drive};
    println!("\n### d (scaling) tower-resilience time window vs records in the window\n");
    println!("| records in window | ns/call |\n|--:|--:|");
    for pop in [0u64, 100, 1_000, 10_000] {
        let n = 64;
        let mut v = Vec::new();
        for _ in 0..15 {
            let mut b = drive::tower(tr::breaker_window(std::time::Duration::from_secs(3600)));
            (b.run)(pop);
            let t = Instant::now();
            (b.run)(n);
            v.push(t.elapsed().as_nanos() as f64 / n as f64);
        }
        let m = stats::median(&mut v);
        println!("| {pop}-{} | {m:.0} |", pop + n);
        tsv.push_str(&format!("d scaling\ttower-resilience\t{pop} records\t\t{m:.1}\t\t\n"));
    }
}
