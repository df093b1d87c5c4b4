//! What a call costs on every path: `cargo bench --bench hot_path`, and with a metrics recorder
//! installed `cargo bench --features metrics --bench hot_path`.
//!
//! Prints criterion's own report and then a table: each path as a multiple of the bare inner call
//! of the same run, and the size of its future.

// Measuring takes real time.
#![allow(clippy::disallowed_types)]

use std::{env, fs, path::Path};

use criterion::Criterion;
use serde_json::Value;

mod support;

fn main() {
    #[cfg(feature = "metrics")]
    metrics::set_global_recorder(metrics_util::debugging::DebuggingRecorder::new())
        .expect("no other recorder");
    let runtime = support::runtime();
    let _entered = runtime.enter();
    let mut criterion = Criterion::default().configure_from_args();
    let mut measured = Vec::new();
    for mut case in support::cases() {
        criterion.bench_function(&case.name, |bencher| {
            bencher.iter_custom(|calls| {
                let start = std::time::Instant::now();
                (case.run)(calls);
                start.elapsed()
            });
        });
        measured.push((case.name, case.future_bytes));
    }
    criterion.final_summary();
    table(&measured);
}

/// From the estimates that criterion has left behind; nothing where it did not measure.
fn table(measured: &[(String, usize)]) {
    let target = env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| String::from("target"));
    let nanos = |name: &str| {
        let folder = name.replace(['/', '?', '"', '\\', '*', '<', '>', ':', '|', '^'], "_");
        let path = Path::new(&target).join("criterion").join(folder).join("new/estimates.json");
        let estimates: Value = serde_json::from_str(&fs::read_to_string(path).ok()?).ok()?;
        estimates["median"]["point_estimate"].as_f64()
    };
    let Some(bare) = nanos("bare") else { return };
    println!("\n| path | ns | x bare | bytes of the future |\n|---|--:|--:|--:|");
    for (name, bytes) in measured {
        if let Some(nanos) = nanos(name) {
            println!("| {name} | {nanos:.1} | {:.1} | {bytes} |", nanos / bare);
        }
    }
}
