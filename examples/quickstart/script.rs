//! What the server goes through, as a script that both servers follow.

use std::time::Duration;

use tokio::time::Instant;

use crate::ATTEMPT_TIMEOUT;

/// What a server does with a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Behaviour {
    /// Answers 200 at once.
    Healthy,
    /// Answers 503 at once, this share of the time.
    Errors(f64),
    /// Answers 200, but late: this share slower than any client waits for one attempt, this share
    /// merely slow, the rest at once.
    Brownout { too_slow: f64, slow: f64 },
    /// Takes the request and never answers.
    BlackHole,
}

/// How long a slow answer takes in a brownout.
pub const SLOW: Duration = ATTEMPT_TIMEOUT.checked_div(2).unwrap();

/// How long an answer takes that is too slow for every client.
pub const TOO_SLOW: Duration = ATTEMPT_TIMEOUT.saturating_mul(2);

/// A stretch of time with one behaviour. Times count from the start of the script.
#[derive(Clone, Copy, Debug)]
pub struct Phase {
    pub name: &'static str,
    pub behaviour: Behaviour,
    pub from: Duration,
    pub until: Duration,
}

impl Phase {
    pub fn contains(&self, time: Duration) -> bool {
        (self.from..self.until).contains(&time)
    }
}

/// The phases, by their names.
pub const HEALTHY: &str = "healthy";
pub const SOME_ERRORS: &str = "10 % errors";
pub const ONLY_ERRORS: &str = "100 % errors";
pub const BROWNOUT: &str = "brownout";
pub const BLACK_HOLE: &str = "black hole";
pub const HEALTHY_AGAIN: &str = "healthy again";

/// The phases in order, each with its share of the whole.
const PHASES: [(&str, f64, Behaviour); 6] = [
    (HEALTHY, 4.0 / 30.0, Behaviour::Healthy),
    (SOME_ERRORS, 6.0 / 30.0, Behaviour::Errors(0.1)),
    (ONLY_ERRORS, 5.0 / 30.0, Behaviour::Errors(1.0)),
    (BROWNOUT, 5.0 / 30.0, Behaviour::Brownout { too_slow: 0.1, slow: 0.4 }),
    (BLACK_HOLE, 5.0 / 30.0, Behaviour::BlackHole),
    (HEALTHY_AGAIN, 5.0 / 30.0, Behaviour::Healthy),
];

/// The phases laid out on a clock.
#[derive(Clone, Debug)]
pub struct Script {
    pub start: Instant,
    pub phases: Vec<Phase>,
}

impl Script {
    pub fn new(start: Instant, length: Duration) -> Self {
        let mut from = Duration::ZERO;
        let phases = PHASES.map(|(name, share, behaviour)| {
            let phase = Phase { name, behaviour, from, until: from + length.mul_f64(share) };
            from = phase.until;
            phase
        });
        Script { start, phases: phases.to_vec() }
    }

    /// The time on the script's clock.
    pub fn now(&self) -> Duration {
        self.time_of(Instant::now())
    }

    /// This moment on the script's clock.
    pub fn time_of(&self, moment: Instant) -> Duration {
        moment.saturating_duration_since(self.start)
    }

    pub fn length(&self) -> Duration {
        self.phases.last().expect("a script has phases").until
    }

    /// The phase at this time; the last one goes on for ever.
    pub fn phase_at(&self, time: Duration) -> &Phase {
        let last = self.phases.last().expect("a script has phases");
        self.phases.iter().find(|phase| phase.contains(time)).unwrap_or(last)
    }

    pub fn phase(&self, name: &str) -> &Phase {
        self.phases.iter().find(|phase| phase.name == name).expect("every name is in the script")
    }
}
