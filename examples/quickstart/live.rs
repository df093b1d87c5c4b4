//! One line a second for each client, while it runs.

use std::{sync::Arc, time::Duration};

use buttress::CircuitBreaker;
use tokio::time::sleep_until;

use crate::{
    figures::{Figures, Measured, milliseconds},
    load::Calls,
    paint::{Colour, Paint},
    script::Script,
    server::Server,
};

/// A client as the report sees it.
pub struct Watched {
    name: &'static str,
    server: Server,
    pub calls: Arc<Calls>,
    breaker: Option<CircuitBreaker>,
    seen: Seen,
}

/// How much of it is in a line already.
#[derive(Default)]
struct Seen {
    offered: usize,
    finished: usize,
    arrivals: usize,
}

impl Watched {
    pub fn new(name: &'static str, server: Server, breaker: Option<CircuitBreaker>) -> Self {
        Watched { name, server, calls: Arc::default(), breaker, seen: Seen::default() }
    }

    /// All that was measured of it; what its breaker did is known elsewhere.
    pub fn measured(&self, script: &Script) -> Measured {
        Measured {
            script: script.clone(),
            calls: self.calls.finished_from(0),
            arrivals: self.server.arrivals_from(0),
            transitions: Vec::new(),
        }
    }

    /// What happened since the last line. A call is in the line of the second in which it ended.
    fn line(&mut self, paint: Paint) -> String {
        let finished = self.calls.finished_from(self.seen.finished);
        let arrivals = self.server.arrivals_from(self.seen.arrivals);
        let offered = self.calls.offered() - self.seen.offered;
        self.seen.finished += finished.len();
        self.seen.arrivals += arrivals.len();
        self.seen.offered += offered;
        let figures = Figures::of(&finished);
        let state = self.breaker.map(CircuitBreaker::state);
        format!(
            "{:<9} {offered:>7} {} {} {} {:>9} {:>9} {:>9}  {}",
            self.name,
            paint.unless_zero(Colour::Green, figures.good, 7),
            paint.unless_zero(Colour::Yellow, figures.degraded, 9),
            paint.unless_zero(Colour::Red, figures.failed, 7),
            arrivals.len(),
            milliseconds(figures.p50),
            milliseconds(figures.p99),
            state.map_or(String::from("-"), |state| state.to_string()),
        )
    }
}

/// Prints until the script is over.
pub async fn report(script: &Script, clients: &mut [Watched; 2], paint: Paint) {
    println!(
        "\n{:>5}  {:<9} {:>7} {:>7} {:>9} {:>7} {:>9} {:>9} {:>9}  breaker",
        "time", "client", "offered", "good", "degraded", "failed", "at server", "p50", "p99",
    );
    let mut shown = "";
    let mut time = Duration::ZERO;
    while time < script.length() {
        let phase = script.phase_at(time);
        if phase.name != shown {
            let (from, until) = (phase.from.as_secs_f64(), phase.until.as_secs_f64());
            let title = format!("{}, from {from:.1} s to {until:.1} s", phase.name);
            println!("{}", paint.colour(Colour::Bold, &title));
            shown = phase.name;
        }
        time += Duration::from_secs(1);
        sleep_until(script.start + time).await;
        let [first, second] = clients.each_mut().map(|client| client.line(paint));
        println!("{:>3} s  {first}", time.as_secs());
        println!("{:>5}  {second}", "");
    }
}
