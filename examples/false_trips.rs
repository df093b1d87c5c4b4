//! How often does a circuit breaker trip by chance alone?
//!
//! Every failure is another look at the window, and whoever looks often enough sees any share of
//! failures in the end. This counts how often that happens: for each window, failure ratio and
//! `min_calls`, the share of runs in which the circuit opens within 10 000 calls to a service whose
//! calls fail independently of each other at a given true rate. It drives real breakers through
//! their handles, and prints the table that the defaults were chosen from. Where the true rate is
//! no lower than the ratio there is no such thing as a false trip, and the cell says `due`.
//!
//! ```text
//! cargo run --release --example false_trips                  # the whole table, 500 runs per cell
//! cargo run --example false_trips -- --runs 5                # a quick look, without optimisation
//! ```

use std::{env, error::Error, process::ExitCode};

use buttress::{CircuitBreaker, ConfigError, Verdict, Window, breaker::State};
use rand::{RngExt, SeedableRng, rngs::StdRng};

const CALLS_PER_RUN: u32 = 10_000;
const DEFAULT_RUNS: u32 = 500;
const WINDOWS: [u32; 5] = [10, 20, 50, 100, 200];
const RATIOS: [f64; 5] = [0.1, 0.2, 0.3, 0.5, 0.7];
const TRUE_RATES: [f64; 6] = [0.01, 0.05, 0.1, 0.2, 0.3, 0.4];

/// What a breaker is built with; a row of the table.
#[derive(Clone, Copy)]
struct Row {
    window: u32,
    ratio: f64,
    min_calls: u32,
}

impl Row {
    /// Every window with every ratio, as careful as the default `min_calls` of 20 makes it where
    /// the window has room for that; then a few that show what `min_calls` does.
    fn all() -> Vec<Row> {
        let careful = |window: u32| window.min(20);
        let grid = WINDOWS.into_iter().flat_map(|window| {
            RATIOS.map(|ratio| Row { window, ratio, min_calls: careful(window) })
        });
        let others = [
            (20, 0.5, 5),
            (100, 0.3, 5),
            (100, 0.5, 5),
            (100, 0.5, 10),
            (100, 0.5, 50),
            (100, 0.5, 100),
        ]
        .map(|(window, ratio, min_calls)| Row { window, ratio, min_calls });
        grid.chain(others).collect()
    }

    /// In how many of `runs` the circuit opens falsely, for each of the true rates; `None` where
    /// that would be no mistake.
    fn simulate(self, runs: u32) -> Result<[Option<u32>; TRUE_RATES.len()], ConfigError> {
        // A breaker lives as long as the process, so each row has one, and resets it.
        let breaker = CircuitBreaker::builder("false trips")
            .window(Window::calls(self.window))
            .failure_ratio(self.ratio)
            .min_calls(self.min_calls)
            .build()?;
        let mut rng = StdRng::seed_from_u64(1);
        Ok(TRUE_RATES.map(|rate| {
            let trips = (0..runs).filter(|_| {
                breaker.reset();
                opens(breaker, rate, &mut rng)
            });
            (rate < self.ratio).then(|| trips.count() as u32)
        }))
    }
}

/// Whether the circuit opens within one run.
fn opens(breaker: CircuitBreaker, true_rate: f64, rng: &mut StdRng) -> bool {
    for _ in 0..CALLS_PER_RUN {
        let Ok(permit) = breaker.try_acquire() else { return true };
        let fails = rng.random_bool(true_rate);
        permit.record(if fails { Verdict::Transient } else { Verdict::Success });
    }
    breaker.state() == State::Open
}

/// A share as far as this many runs can tell: what never happened may still be rarer than one.
fn share(trips: Option<u32>, runs: u32) -> String {
    let percent = |part: u32| 100.0 * f64::from(part) / f64::from(runs);
    match trips {
        None => String::from("due"),
        Some(0) => format!("< {:.1} %", percent(1)),
        Some(trips) if trips == runs => format!("> {:.1} %", percent(runs - 1)),
        Some(trips) => format!("{:.1} %", percent(trips)),
    }
}

fn print_table(runs: u32) -> Result<(), ConfigError> {
    println!("The circuit opens within {CALLS_PER_RUN} calls, share of {runs} runs:\n");
    let rates = TRUE_RATES.map(|rate| format!("{:>8}", format!("{:.0} %", 100.0 * rate)));
    println!("| window | ratio | min_calls | {} |", rates.join(" | "));
    println!("|-------:|------:|----------:|{}", "---------:|".repeat(rates.len()));
    for row in Row::all() {
        let cells = row.simulate(runs)?.map(|trips| format!("{:>8}", share(trips, runs)));
        let ratio = format!("{:.0} %", 100.0 * row.ratio);
        let Row { window, min_calls, .. } = row;
        println!("| {window:>6} | {ratio:>5} | {min_calls:>9} | {} |", cells.join(" | "));
    }
    Ok(())
}

/// `--runs N`, or nothing.
fn runs_asked_for(arguments: &[String]) -> Result<u32, String> {
    match arguments {
        [] => Ok(DEFAULT_RUNS),
        [option, runs] if option == "--runs" => match runs.parse() {
            Ok(runs @ 1..) => Ok(runs),
            _ => Err(format!("--runs must be a whole number of at least 1, but is {runs:?}")),
        },
        _ => Err(String::from("usage: false_trips [--runs N]")),
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    print_table(runs_asked_for(&arguments)?)?;
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
