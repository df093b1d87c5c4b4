//! The closing table: both clients side by side.

use buttress::breaker::State;

use crate::{
    figures::{Measured, milliseconds, ratio},
    paint::{Colour, Paint},
    script::{ONLY_ERRORS, Phase},
};

pub fn print(naive: &Measured, buttress: &Measured, paint: Paint) {
    let head =
        format!("{:>7}{:>10}{:>8}{:>10}{:>11}", "good", "degraded", "failed", "attempts", "p99");
    println!();
    println!("{}", paint.colour(Colour::Bold, &format!("{:14} | {:<46} | buttress", "", "naive")));
    println!("{:<14} | {head} | {head}", "phase");
    println!("{0:-<14}-+-{0:-<46}-+-{0:-<46}", "");
    for phase in &naive.script.phases {
        println!("{:<14} | {} | {}", phase.name, columns(naive, phase), columns(buttress, phase));
    }
    println!("attempts: requests that reached the server for each call offered in the phase.");
    println!("These servers are as fast under three times the load; a real one is not.\n");

    let both = |what: &str, figure: &dyn Fn(&Measured) -> String| {
        println!("{what:<48} {:>12} {:>12}", figure(naive), figure(buttress));
    };
    println!("{:<48} {:>12} {:>12}", "", "naive", "buttress");
    let dead = naive.script.phase(ONLY_ERRORS);
    both("calls offered while all answers were errors", &|client| {
        client.figures(dead).calls.to_string()
    });
    both("requests that reached the server meanwhile", &|client| client.attempts(dead).to_string());
    both("first good answer after the server was healthy", &|client| {
        milliseconds(client.recovery())
    });
    both("longest time a caller waited", &|client| {
        milliseconds(client.calls.iter().map(|call| call.took).max())
    });
    both("call that the load generator made latest", &|client| {
        milliseconds(client.calls.iter().map(|call| call.late).max())
    });
    both("requests to the server for each call, all phases", &|client| {
        format!("{:.2}x", ratio(client.arrivals.len(), client.calls.len()))
    });
}

fn columns(client: &Measured, phase: &Phase) -> String {
    let figures = client.figures(phase);
    format!(
        "{:>5.1} %{:>8.1} %{:>6.1} %{:>9.2}x{:>11}",
        figures.good_percent(),
        figures.degraded_percent(),
        figures.failed_percent(),
        client.amplification(phase),
        milliseconds(figures.p99),
    )
}

/// When the breaker opened and when it closed again, and why.
pub fn print_history(client: &Measured) {
    println!("\nWhat the breaker did, but for its probing while the server was down:");
    for transition in &client.transitions {
        if transition.from == State::Closed || transition.to == State::Closed {
            let time = client.script.time_of(transition.at).as_secs_f64();
            println!("{time:>6.2} s  {transition}");
        }
    }
}
