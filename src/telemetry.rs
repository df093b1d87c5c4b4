//! The one place that knows `metrics` and `tracing`.
//!
//! Nothing here costs anything without its feature, and with feature `metrics` next to nothing
//! until a recorder is installed (law 11): handles are looked up once per policy, at the first
//! event after that. A policy counts by the row of its table below, so that the hot path is an
//! index and not a string.

#[cfg(feature = "metrics")]
use std::sync::OnceLock;
use std::time::Duration;

#[cfg(any(feature = "metrics", feature = "tracing"))]
use crate::breaker::State;
#[cfg(feature = "metrics")]
use crate::clock::Tick;
use crate::{breaker::Transition, error::PolicyError, verdict::VerdictKind};

/// One counter of a policy: the metric, and the one label it has beside `policy` and `name`.
pub(crate) struct Row {
    #[cfg_attr(not(feature = "metrics"), allow(dead_code))]
    metric: &'static str,
    #[cfg_attr(not(feature = "metrics"), allow(dead_code))]
    label: Option<(&'static str, &'static str)>,
}

const fn calls(outcome: &'static str) -> Row {
    Row { metric: "buttress_calls_total", label: Some(("outcome", outcome)) }
}

const fn row(metric: &'static str, key: &'static str, value: &'static str) -> Row {
    Row { metric, label: Some((key, value)) }
}

/// The first six rows are the verdicts, in the order of [`VerdictKind`].
pub(crate) const BREAKER: &[Row] = &[
    calls("success"),
    calls("transient"),
    calls("throttled"),
    calls("permanent"),
    calls("refused"),
    calls("ignored"),
    row("buttress_rejections_total", "reason", "open"),
    row("buttress_rejections_total", "reason", "probes_taken"),
    row("buttress_rejections_total", "reason", "shadow"),
];
pub(crate) const BREAKER_OPEN: usize = 6;
pub(crate) const BREAKER_PROBES_TAKEN: usize = 7;
/// A shadow breaker let a call pass that it would have refused.
pub(crate) const BREAKER_SHADOW: usize = 8;

/// The first six rows are the verdicts, in the order of [`VerdictKind`].
pub(crate) const RETRY: &[Row] = &[
    calls("success"),
    calls("transient"),
    calls("throttled"),
    calls("permanent"),
    calls("refused"),
    calls("ignored"),
    row("buttress_retry_attempts_total", "result", "retried"),
    row("buttress_retry_attempts_total", "result", "exhausted"),
    row("buttress_retry_attempts_total", "result", "budget_denied"),
    row("buttress_retry_attempts_total", "result", "uncloneable"),
    row("buttress_retry_attempts_total", "result", "out_of_time"),
];
/// Another attempt was started.
pub(crate) const RETRY_RETRIED: usize = 6;
/// The last allowed attempt failed.
pub(crate) const RETRY_EXHAUSTED: usize = 7;
/// The budget had no token for another attempt.
pub(crate) const RETRY_BUDGET_DENIED: usize = 8;
/// The request could not be cloned for another attempt.
pub(crate) const RETRY_UNCLONEABLE: usize = 9;
/// The next attempt would have started after `max_elapsed`.
pub(crate) const RETRY_OUT_OF_TIME: usize = 10;

pub(crate) const TIMEOUT: &[Row] = &[
    calls("success"),
    calls("error"),
    calls("timed_out"),
    Row { metric: "buttress_timeouts_total", label: None },
];
pub(crate) const TIMEOUT_SUCCESS: usize = 0;
pub(crate) const TIMEOUT_ERROR: usize = 1;
pub(crate) const TIMEOUT_TIMED_OUT: usize = 2;
/// A timeout fired.
pub(crate) const TIMEOUT_FIRED: usize = 3;

pub(crate) const FALLBACK: &[Row] = &[
    calls("good"),
    calls("degraded"),
    calls("failed"),
    row("buttress_fallbacks_total", "kind", "value"),
    row("buttress_fallbacks_total", "kind", "function"),
    row("buttress_fallbacks_total", "kind", "service"),
    row("buttress_fallbacks_total", "kind", "uncloneable"),
];
/// The primary's outcome went through as it was, and it was no failure to fall back from.
pub(crate) const FALLBACK_GOOD: usize = 0;
/// The fallback answered.
pub(crate) const FALLBACK_DEGRADED: usize = 1;
/// The call failed: the fallback did too, or there was none to be had.
pub(crate) const FALLBACK_FAILED: usize = 2;
/// The fallback was taken: a fixed value.
pub(crate) const FALLBACK_VALUE: usize = 3;
/// The fallback was taken: a function of the outcome.
pub(crate) const FALLBACK_FUNCTION: usize = 4;
/// The fallback was taken: a backup service.
pub(crate) const FALLBACK_SERVICE: usize = 5;
/// There was no copy of the request to give to the backup service.
pub(crate) const FALLBACK_UNCLONEABLE: usize = 6;

/// Counts what one policy does.
pub(crate) struct Meter {
    #[cfg_attr(not(any(feature = "metrics", feature = "tracing")), allow(dead_code))]
    policy: &'static str,
    #[cfg_attr(not(any(feature = "metrics", feature = "tracing")), allow(dead_code))]
    name: &'static str,
    #[cfg_attr(not(feature = "metrics"), allow(dead_code))]
    rows: &'static [Row],
    #[cfg(feature = "metrics")]
    handles: OnceLock<Handles>,
}

#[cfg(feature = "metrics")]
struct Handles {
    counters: Vec<metrics::Counter>,
    duration: metrics::Histogram,
    failure_ratio: metrics::Gauge,
}

/// When a call began, if anybody wants to know how long it takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch {
    #[cfg(feature = "metrics")]
    started: Option<Tick>,
}

impl Meter {
    pub(crate) const fn new(
        policy: &'static str,
        name: &'static str,
        rows: &'static [Row],
    ) -> Self {
        Meter {
            policy,
            name,
            rows,
            #[cfg(feature = "metrics")]
            handles: OnceLock::new(),
        }
    }

    /// A call begins. Reads the clock only if a recorder is installed.
    #[inline]
    pub(crate) fn start(&self) -> Stopwatch {
        Stopwatch {
            #[cfg(feature = "metrics")]
            started: self.handles().map(|_| Tick::now()),
        }
    }

    /// A call ended with the outcome of this row.
    #[inline]
    #[cfg_attr(not(feature = "metrics"), allow(clippy::unused_self))]
    pub(crate) fn finish(&self, outcome: usize, stopwatch: Stopwatch) {
        #[cfg(feature = "metrics")]
        if let Some(handles) = self.handles() {
            handles.counters[outcome].increment(1);
            if let Some(started) = stopwatch.started {
                handles.duration.record(Tick::now().since(started).as_secs_f64());
            }
        }
        #[cfg(not(feature = "metrics"))]
        let _ = (outcome, stopwatch);
    }

    /// An event of this row happened.
    #[inline]
    #[cfg_attr(not(feature = "metrics"), allow(clippy::unused_self))]
    pub(crate) fn count(&self, row: usize) {
        #[cfg(feature = "metrics")]
        if let Some(handles) = self.handles() {
            handles.counters[row].increment(1);
        }
        #[cfg(not(feature = "metrics"))]
        let _ = row;
    }

    /// The share of failures in a breaker's window.
    #[cfg_attr(not(feature = "metrics"), allow(clippy::unused_self))]
    ///
    /// Takes the failures and calls from a function, because adding them up is work that only
    /// somebody who listens is worth (law 11).
    pub(crate) fn failure_ratio(&self, counts: impl FnOnce() -> (u32, u32)) {
        #[cfg(feature = "metrics")]
        if let Some(handles) = self.handles() {
            let (failures, calls) = counts();
            handles.failure_ratio.set(f64::from(failures) / f64::from(calls.max(1)));
        }
        #[cfg(not(feature = "metrics"))]
        let _ = counts;
    }

    /// A breaker changed its state.
    #[cfg_attr(not(any(feature = "metrics", feature = "tracing")), allow(clippy::unused_self))]
    pub(crate) fn transition(&self, transition: &Transition) {
        #[cfg(feature = "metrics")]
        if self.handles().is_some() {
            let (name, from, to) = (self.name, transition.from.as_str(), transition.to.as_str());
            metrics::counter!("buttress_breaker_transitions_total", "name" => name, "from" => from, "to" => to)
                .increment(1);
            for state in State::ALL {
                let hot = if state == transition.to { 1.0 } else { 0.0 };
                metrics::gauge!("buttress_breaker_state", "name" => name, "state" => state.as_str())
                    .set(hot);
            }
        }
        #[cfg(feature = "tracing")]
        {
            let reason = transition.reason.map(tracing::field::display);
            let (name, from, to) = (self.name, transition.from.as_str(), transition.to.as_str());
            let (generation, note) = (transition.generation, transition.note.as_deref());
            if matches!(transition.to, State::Open | State::ForcedOpen) {
                tracing::warn!(name, from, to, generation, reason, note, "breaker transition");
            } else {
                tracing::info!(name, from, to, generation, reason, note, "breaker transition");
            }
        }
        #[cfg(not(any(feature = "metrics", feature = "tracing")))]
        let _ = transition;
    }

    /// A policy refused a call or gave it up.
    #[inline]
    #[cfg_attr(not(feature = "tracing"), allow(clippy::unused_self))]
    pub(crate) fn raised(&self, error: &PolicyError) {
        #[cfg(feature = "tracing")]
        tracing::debug!(policy = self.policy, name = self.name, %error, "call refused");
        #[cfg(not(feature = "tracing"))]
        let _ = error;
    }

    /// Another attempt follows after this delay.
    #[cfg_attr(not(feature = "tracing"), allow(clippy::unused_self))]
    pub(crate) fn retrying(&self, attempt: u32, verdict: VerdictKind, delay: Duration) {
        #[cfg(feature = "tracing")]
        tracing::debug!(
            name = self.name,
            attempt,
            verdict = verdict.as_str(),
            delay_ms = delay.as_secs_f64() * 1e3,
            "retrying"
        );
        #[cfg(not(feature = "tracing"))]
        let _ = (attempt, verdict, delay);
    }

    /// The fallback is taken. `original` is the failure it stands in for.
    #[cfg_attr(not(feature = "tracing"), allow(clippy::unused_self))]
    pub(crate) fn falling_back(&self, kind: &'static str, original: VerdictKind) {
        #[cfg(feature = "tracing")]
        tracing::debug!(name = self.name, kind, verdict = original.as_str(), "falling back");
        #[cfg(not(feature = "tracing"))]
        let _ = (kind, original);
    }

    /// The fallback failed as well; its own outcome is the caller's, this was the original's.
    #[cfg_attr(not(feature = "tracing"), allow(clippy::unused_self))]
    pub(crate) fn fallback_failed(&self, kind: &'static str, original: VerdictKind) {
        #[cfg(feature = "tracing")]
        tracing::debug!(
            name = self.name,
            kind,
            original = original.as_str(),
            "the fallback failed too"
        );
        #[cfg(not(feature = "tracing"))]
        let _ = (kind, original);
    }

    #[cfg(feature = "metrics")]
    #[inline]
    fn handles(&self) -> Option<&Handles> {
        match self.handles.get() {
            Some(handles) => Some(handles),
            None if recorder_is_installed() => Some(self.handles.get_or_init(|| self.look_up())),
            None => None,
        }
    }

    #[cfg(feature = "metrics")]
    #[cold]
    fn look_up(&self) -> Handles {
        describe();
        let (policy, name) = (self.policy, self.name);
        let counter = |row: &Row| match row.label {
            Some((key, value))
                if row.metric == "buttress_calls_total"
                    || row.metric == "buttress_rejections_total" =>
            {
                metrics::counter!(row.metric, "policy" => policy, "name" => name, key => value)
            }
            Some((key, value)) => metrics::counter!(row.metric, "name" => name, key => value),
            None => metrics::counter!(row.metric, "name" => name),
        };
        Handles {
            counters: self.rows.iter().map(counter).collect(),
            duration: metrics::histogram!(
                "buttress_call_duration_seconds", "policy" => policy, "name" => name
            ),
            failure_ratio: if std::ptr::eq(self.rows, BREAKER) {
                metrics::gauge!("buttress_breaker_failure_ratio", "name" => name)
            } else {
                metrics::Gauge::noop()
            },
        }
    }
}

/// The recorder that `metrics` uses while none is installed is the only one without a size.
///
/// (A recorder of your own that is a unit struct therefore counts as none; give it a field.)
#[cfg(feature = "metrics")]
#[inline]
fn recorder_is_installed() -> bool {
    metrics::with_recorder(|recorder| size_of_val(recorder) != 0)
}

#[cfg(feature = "metrics")]
fn describe() {
    use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
    describe_counter!("buttress_calls_total", Unit::Count, "Calls through a policy, by outcome");
    describe_histogram!(
        "buttress_call_duration_seconds",
        Unit::Seconds,
        "How long calls through a policy took, refusals included"
    );
    describe_counter!(
        "buttress_rejections_total",
        Unit::Count,
        "Calls a policy refused, by reason; `shadow` counts calls a shadow breaker let pass all the same"
    );
    describe_gauge!(
        "buttress_breaker_state",
        Unit::Count,
        "1 for the state the breaker is in, 0 for the others"
    );
    describe_counter!(
        "buttress_breaker_transitions_total",
        Unit::Count,
        "State changes of a breaker"
    );
    describe_gauge!(
        "buttress_breaker_failure_ratio",
        Unit::Percent,
        "Share of failures in the window, 0 to 1, as of the last failure"
    );
    describe_counter!(
        "buttress_retry_attempts_total",
        Unit::Count,
        "Retries made, and operations that ended without another one, by why"
    );
    describe_counter!("buttress_timeouts_total", Unit::Count, "Calls given up by a timeout");
    describe_counter!(
        "buttress_fallbacks_total",
        Unit::Count,
        "Fallbacks taken, by what stood in; `uncloneable` could not be taken"
    );
}

/// Somebody builds policies by the thousand.
pub(crate) fn many_policies(count: usize) {
    #[cfg(feature = "tracing")]
    tracing::warn!(
        count,
        "policies are kept for the life of the process; build them once, not per call or per key"
    );
    #[cfg(not(feature = "tracing"))]
    let _ = count;
}

impl std::fmt::Debug for Meter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Meter").field("policy", &self.policy).finish_non_exhaustive()
    }
}
