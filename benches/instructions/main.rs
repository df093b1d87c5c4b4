//! Runs one path so many times and nothing else, for `benches/gate` to count its instructions.
//!
//! `--list` prints the paths; `NAME CALLS` runs one, inside of [`buttress_measured`], which is where
//! the counting is switched on.

#[path = "../support/mod.rs"]
mod support;

#[inline(never)]
fn buttress_measured(run: &mut dyn FnMut(u64), calls: u64) {
    run(calls);
}

fn main() {
    let mut args = std::env::args().skip(1);
    let runtime = support::runtime();
    let _entered = runtime.enter();
    let wanted = args.next();
    let calls = args.next().and_then(|calls| calls.parse().ok());
    match (wanted.as_deref(), calls) {
        (Some("--list"), _) => {
            for case in support::cases() {
                println!("{}", case.name);
            }
        }
        (Some(name), Some(calls)) => {
            let mut case = support::cases().into_iter().find(|case| case.name == name);
            let case = case.as_mut().expect("a path that `--list` names");
            // Fill the windows first: what is counted is the steady state.
            (case.run)(2000);
            buttress_measured(&mut case.run, calls);
        }
        _ => println!("usage: instructions --list | NAME CALLS (see benches/gate)"),
    }
}
