//! What a stack of policies is for, as promises with a number in each.

use std::time::Duration;

use buttress::{CircuitBreaker, breaker::State};

use crate::{
    TOTAL_TIMEOUT,
    figures::{Measured, milliseconds, ratio},
    paint::{Colour, Paint},
    script::{BLACK_HOLE, HEALTHY, ONLY_ERRORS, SOME_ERRORS},
};

/// What a busy machine may add to a time: timers tick in milliseconds, tasks wait for a core.
const SCHEDULING: Duration = Duration::from_millis(100);

pub struct Promise {
    text: String,
    naive: String,
    buttress: String,
    pub kept: bool,
}

/// Each promise, with what was measured of buttress and, beside it, of the naive client.
pub fn all(naive: &Measured, buttress: &Measured, breaker: CircuitBreaker) -> Vec<Promise> {
    let mut promises = vec![
        good_at_least(99.9, HEALTHY, naive, buttress),
        good_at_least(97.0, SOME_ERRORS, naive, buttress),
        few_attempts(naive, buttress),
        in_time(naive, buttress),
    ];
    promises.extend(spares_the_dead(naive, buttress, breaker));
    promises.push(recovers(naive, buttress, breaker));
    promises
}

pub fn print(promises: &[Promise], paint: Paint) {
    println!("\n{:<7} {:<62} {:>16} {:>16}", "", "promise", "naive", "buttress");
    for Promise { text, naive, buttress, kept } in promises {
        let (colour, word) = if *kept { (Colour::Green, "ok") } else { (Colour::Red, "MISSED") };
        let word = paint.colour(colour, &format!("{word:<7}"));
        println!("{word} {text:<62} {naive:>16} {buttress:>16}");
    }
    if promises.iter().any(|promise| !promise.kept) {
        println!(
            "\nIf the load generator was late above, the machine was too busy: try a lower --rate."
        );
    }
}

fn good_at_least(percent: f64, phase: &str, naive: &Measured, buttress: &Measured) -> Promise {
    let good = |client: &Measured| client.figures(client.script.phase(phase)).good_percent();
    Promise {
        text: format!("{phase}: at least {percent} % good"),
        naive: format!("{:.2} %", good(naive)),
        buttress: format!("{:.2} %", good(buttress)),
        kept: good(buttress) >= percent,
    }
}

fn few_attempts(naive: &Measured, buttress: &Measured) -> Promise {
    const MOST: f64 = 1.15;
    let attempts = |client: &Measured| client.amplification(client.script.phase(SOME_ERRORS));
    Promise {
        text: format!("{SOME_ERRORS}: at most {MOST} attempts for a call"),
        naive: format!("{:.3}", attempts(naive)),
        buttress: format!("{:.3}", attempts(buttress)),
        kept: attempts(buttress) <= MOST,
    }
}

fn in_time(naive: &Measured, buttress: &Measured) -> Promise {
    let longest = |client: &Measured| client.figures(client.script.phase(BLACK_HOLE)).longest;
    Promise {
        text: format!(
            "{BLACK_HOLE}: every call over in its {TOTAL_TIMEOUT:?} (+ {SCHEDULING:?} scheduling)"
        ),
        naive: milliseconds(longest(naive)),
        buttress: milliseconds(longest(buttress)),
        kept: longest(buttress).is_some_and(|longest| longest <= TOTAL_TIMEOUT + SCHEDULING),
    }
}

/// Two promises: hardly a retry until the circuit opens, and nothing but probes after.
fn spares_the_dead(naive: &Measured, buttress: &Measured, breaker: CircuitBreaker) -> [Promise; 2] {
    const MOST: f64 = 1.1;
    let dead = buttress.script.phase(ONLY_ERRORS);
    let half_open = buttress.changes_to(State::HalfOpen, dead);
    // What was sent before the circuit opened may arrive just after; before the first probe it
    // still belongs there.
    let first_probe = half_open.first().copied().unwrap_or(dead.until);
    let before = buttress.arrivals.iter().filter(|time| (dead.from..first_probe).contains(*time));
    let before = before.count();
    let after = buttress.attempts(dead) - before;
    let allowed = half_open.len() * breaker.config().probes as usize;

    // A client that never retries sends one request for each call.
    let opened = buttress.changes_to(State::Open, dead).first().copied();
    let until = opened.unwrap_or(dead.until);
    let calls = buttress.calls.iter().filter(|call| (dead.from..until).contains(&call.made()));
    let calls = calls.count();
    [
        Promise {
            text: format!("{ONLY_ERRORS}: at most {MOST} x the calls made until it opened"),
            naive: format!("{:.2}", naive.amplification(dead)),
            buttress: format!("{before}/{calls} = {:.2}", ratio(before, calls)),
            kept: opened.is_some() && ratio(before, calls) <= MOST,
        },
        Promise {
            text: format!("{ONLY_ERRORS}: and then only its {allowed} probes"),
            naive: naive.attempts(dead).to_string(),
            buttress: after.to_string(),
            kept: opened.is_some() && after <= allowed,
        },
    ]
}

fn recovers(naive: &Measured, buttress: &Measured, breaker: CircuitBreaker) -> Promise {
    let open = breaker.config().open_for.longest();
    let most = open + Duration::from_secs(1);
    Promise {
        text: format!("healthy again: first good answer within {open:?} open + 1 s"),
        naive: milliseconds(naive.recovery()),
        buttress: milliseconds(buttress.recovery()),
        kept: buttress.recovery().is_some_and(|recovery| recovery <= most),
    }
}
