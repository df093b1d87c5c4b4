//! What was measured, and the figures computed from it.

use std::time::Duration;

use buttress::breaker::{State, Transition};

use crate::{
    load::{Answer, Call},
    script::{HEALTHY_AGAIN, Phase, Script},
};

/// Counts and latencies of some calls.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    pub calls: usize,
    pub good: usize,
    pub degraded: usize,
    pub failed: usize,
    pub p50: Option<Duration>,
    pub p99: Option<Duration>,
    pub longest: Option<Duration>,
}

impl Figures {
    pub fn of(calls: &[Call]) -> Self {
        let count = |answer| calls.iter().filter(|call| call.answer == answer).count();
        let mut times: Vec<Duration> = calls.iter().map(|call| call.took).collect();
        times.sort_unstable();
        Figures {
            calls: calls.len(),
            good: count(Answer::Good),
            degraded: count(Answer::Degraded),
            failed: count(Answer::Failed),
            p50: percentile(&times, 50),
            p99: percentile(&times, 99),
            longest: times.last().copied(),
        }
    }

    /// Percent of the calls that were answered well.
    pub fn good_percent(&self) -> f64 {
        100.0 * ratio(self.good, self.calls)
    }

    pub fn degraded_percent(&self) -> f64 {
        100.0 * ratio(self.degraded, self.calls)
    }

    pub fn failed_percent(&self) -> f64 {
        100.0 * ratio(self.failed, self.calls)
    }
}

/// The nearest-rank percentile of sorted times.
fn percentile(sorted: &[Duration], percent: usize) -> Option<Duration> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

/// A time as it is printed everywhere.
pub fn milliseconds(time: Option<Duration>) -> String {
    time.map_or(String::from("-"), |time| format!("{:.1} ms", 1000.0 * time.as_secs_f64()))
}

/// All that was measured of one client.
pub struct Measured {
    pub script: Script,
    pub calls: Vec<Call>,
    /// When requests reached its server.
    pub arrivals: Vec<Duration>,
    /// What its breaker did; nothing for a client without one.
    pub transitions: Vec<Transition>,
}

impl Measured {
    /// The calls that were offered in a phase.
    pub fn figures(&self, phase: &Phase) -> Figures {
        let offered = self.calls.iter().filter(|call| phase.contains(call.offered));
        Figures::of(&offered.copied().collect::<Vec<_>>())
    }

    /// Requests that reached the server in a phase.
    pub fn attempts(&self, phase: &Phase) -> usize {
        self.arrivals.iter().filter(|time| phase.contains(**time)).count()
    }

    /// Requests that reached the server for each call that was offered: the load amplification.
    pub fn amplification(&self, phase: &Phase) -> f64 {
        ratio(self.attempts(phase), self.figures(phase).calls)
    }

    /// How long after the server was healthy again a caller got the first good answer.
    pub fn recovery(&self) -> Option<Duration> {
        let healthy = self.script.phase(HEALTHY_AGAIN).from;
        let good = self.calls.iter().filter(|call| call.answer == Answer::Good);
        let ends = good.map(|call| call.offered + call.took);
        ends.filter_map(|end| end.checked_sub(healthy)).min()
    }

    /// When the breaker went to this state, on the script's clock, within a phase.
    pub fn changes_to(&self, state: State, phase: &Phase) -> Vec<Duration> {
        let there = self.transitions.iter().filter(|transition| transition.to == state);
        let times = there.map(|transition| self.script.time_of(transition.at));
        times.filter(|time| phase.contains(*time)).collect()
    }
}

pub fn ratio(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}
