//! The one place that knows `metrics` and `tracing`.
//!
//! Nothing here costs anything without its feature, and with feature `metrics` next to nothing
//! until a recorder is installed (law 11): handles are looked up once per policy, at the first
//! event after that. A policy counts by the row of its table below, so that the hot path is an
//! index and not a string.

#[cfg(feature = "metrics")]
use std::sync::{
    OnceLock,
    atomic::{AtomicBool, AtomicU32, Ordering},
};
use std::time::Duration;

#[cfg(any(feature = "metrics", feature = "tracing"))]
use crate::breaker::State;
#[cfg(feature = "metrics")]
use crate::clock::Tick;
use crate::{breaker::Transition, error::PolicyError, verdict::VerdictKind};

mod table;

#[cfg(feature = "metrics")]
use table::Row;
pub(crate) use table::*;

/// Counts what one policy does.
pub(crate) struct Meter {
    table: Table,
    name: &'static str,
    #[cfg(feature = "metrics")]
    handles: OnceLock<Handles>,
    /// Generation and state of a breaker's latest transition, `generation:29 | state:3`.
    #[cfg(feature = "metrics")]
    latest: AtomicU32,
    /// The gauge of a breaker's failures does not stand at zero.
    #[cfg(feature = "metrics")]
    failing: AtomicBool,
}

#[cfg(feature = "metrics")]
struct Handles {
    counters: Vec<metrics::Counter>,
    duration: metrics::Histogram,
    /// Of a breaker, one for each of [`State::ALL`].
    states: Vec<metrics::Gauge>,
    /// Of a breaker.
    failure_ratio: metrics::Gauge,
}

/// When a call began, if anybody wants to know how long it takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch {
    #[cfg(feature = "metrics")]
    started: Option<Tick>,
}

impl Meter {
    pub(crate) const fn new(name: &'static str, table: Table) -> Self {
        Meter {
            table,
            name,
            #[cfg(feature = "metrics")]
            handles: OnceLock::new(),
            #[cfg(feature = "metrics")]
            latest: AtomicU32::new(State::Closed as u32),
            #[cfg(feature = "metrics")]
            failing: AtomicBool::new(false),
        }
    }

    /// A call begins. Reads the clock only if a recorder is installed.
    #[inline]
    pub(crate) fn start(&self) -> Stopwatch {
        #[cfg(not(feature = "metrics"))]
        let _ = self;
        Stopwatch {
            #[cfg(feature = "metrics")]
            started: self.handles().map(|_| Tick::now()),
        }
    }

    /// A call ended with the outcome of this row.
    #[inline]
    pub(crate) fn finish(&self, outcome: usize, stopwatch: Stopwatch) {
        #[cfg(feature = "metrics")]
        if let Some(handles) = self.handles() {
            handles.counters[outcome].increment(1);
            if let Some(started) = stopwatch.started {
                handles.duration.record(Tick::now().since(started).as_secs_f64());
            }
        }
        #[cfg(not(feature = "metrics"))]
        let _ = (self, outcome, stopwatch);
    }

    /// An event of this row happened.
    #[inline]
    pub(crate) fn count(&self, row: usize) {
        #[cfg(feature = "metrics")]
        if let Some(handles) = self.handles() {
            handles.counters[row].increment(1);
        }
        #[cfg(not(feature = "metrics"))]
        let _ = (self, row);
    }

    /// A call has changed the share of failures in a breaker's window, for better or worse.
    ///
    /// Takes the failures and calls from a function, because adding them up is work that only
    /// somebody who listens is worth (law 11); `None` if the call changed nothing after all. A
    /// success where there is nothing to improve costs a load.
    #[inline]
    pub(crate) fn failure_ratio(&self, failed: bool, counts: impl FnOnce() -> Option<(u32, u32)>) {
        #[cfg(feature = "metrics")]
        if (failed || self.failing.load(Ordering::Relaxed))
            && self.table.is_breaker
            && let Some(handles) = self.handles()
            && let Some((failures, calls)) = counts()
        {
            self.failing.store(failures > 0, Ordering::Relaxed);
            handles.failure_ratio.set(f64::from(failures) / f64::from(calls.max(1)));
        }
        #[cfg(not(feature = "metrics"))]
        let _ = (self, failed, counts);
    }

    /// A breaker changed its state.
    pub(crate) fn transition(&self, transition: &Transition) {
        #[cfg(feature = "metrics")]
        self.meter_transition(transition);
        #[cfg(feature = "tracing")]
        if self.table.is_breaker {
            log_transition(self.name, None, transition);
        }
        #[cfg(not(any(feature = "metrics", feature = "tracing")))]
        let _ = (self, transition);
    }

    /// A policy refused a call or gave it up.
    #[inline]
    pub(crate) fn raised(&self, error: &PolicyError) {
        #[cfg(feature = "tracing")]
        {
            let (policy, name, kind) = (self.table.policy, self.name, error.kind().as_str());
            if error.reached_service() {
                tracing::debug!(policy, name, kind, %error, "call given up");
            } else {
                tracing::debug!(policy, name, kind, %error, "call refused");
            }
        }
        #[cfg(not(feature = "tracing"))]
        let _ = (self, error);
    }

    /// Another attempt follows after this delay.
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
        let _ = (self, attempt, verdict, delay);
    }

    /// No other attempt follows this one, which failed: `row` of [`RETRY`] says why.
    pub(crate) fn not_retrying(&self, attempt: u32, verdict: VerdictKind, row: usize) {
        #[cfg(feature = "tracing")]
        if let Some((_, result)) = self.table.rows[row].label {
            tracing::debug!(
                name = self.name,
                attempt,
                verdict = verdict.as_str(),
                result,
                "not retrying"
            );
        }
        #[cfg(not(feature = "tracing"))]
        let _ = (self, attempt, verdict, row);
    }

    /// The fallback is taken. `original` is the failure it stands in for.
    pub(crate) fn falling_back(&self, kind: &'static str, original: VerdictKind) {
        #[cfg(feature = "tracing")]
        tracing::debug!(name = self.name, kind, verdict = original.as_str(), "falling back");
        #[cfg(not(feature = "tracing"))]
        let _ = (self, kind, original);
    }

    /// The fallback failed as well; its own outcome is the caller's, this was the original's.
    pub(crate) fn fallback_failed(&self, kind: &'static str, original: VerdictKind) {
        #[cfg(feature = "tracing")]
        tracing::debug!(
            name = self.name,
            kind,
            verdict = original.as_str(),
            "the fallback failed too"
        );
        #[cfg(not(feature = "tracing"))]
        let _ = (self, kind, original);
    }
}

#[cfg(feature = "metrics")]
impl Meter {
    fn meter_transition(&self, transition: &Transition) {
        // Two threads may tell of their transitions in either order, and an older one must not be
        // shown after a newer one. (Generations wrap, and 29 bits of them fill the word's top.)
        let told = transition.generation << 3 | transition.to as u32;
        let newer = |known: u32| (told.wrapping_sub(known).cast_signed() > 0).then_some(told);
        let _ = self.latest.fetch_update(Ordering::SeqCst, Ordering::SeqCst, newer);
        let Some(handles) = self.handles() else { return };
        let (name, from, to) = (self.name, transition.from.as_str(), transition.to.as_str());
        metrics::counter!("buttress_breaker_transitions_total", "name" => name, "from" => from, "to" => to)
            .increment(1);
        self.show_state(handles);
        if matches!(transition.to, State::Closed | State::ForcedClosed) {
            // It begins with an empty window.
            self.failing.store(false, Ordering::Relaxed);
            handles.failure_ratio.set(0.0);
        }
    }

    /// Whoever comes last has seen the latest state: each looks again after it has written.
    fn show_state(&self, handles: &Handles) {
        loop {
            let latest = self.latest.load(Ordering::SeqCst);
            for (state, gauge) in State::ALL.into_iter().zip(&handles.states) {
                gauge.set(if state as u32 == latest & 7 { 1.0 } else { 0.0 });
            }
            if self.latest.load(Ordering::SeqCst) == latest {
                return;
            }
        }
    }

    #[inline]
    fn handles(&self) -> Option<&Handles> {
        match self.handles.get() {
            Some(handles) => Some(handles),
            None if recorder_is_installed() => Some(self.look_up()),
            None => None,
        }
    }

    #[cold]
    fn look_up(&self) -> &Handles {
        let handles = self.handles.get_or_init(|| self.register());
        self.show_state(handles);
        handles
    }

    fn register(&self) -> Handles {
        use metrics::{Label, counter, gauge, histogram};
        describe();
        let (policy, name) = (self.table.policy, self.name);
        let counter = |row: &Row| {
            let mut labels = vec![Label::from_static_parts("name", name)];
            if row.by_policy {
                labels.push(Label::from_static_parts("policy", policy));
            }
            labels.extend(row.label.map(|(key, value)| Label::from_static_parts(key, value)));
            counter!(row.metric, labels)
        };
        let state = |state: State| gauge!("buttress_breaker_state", "name" => name, "state" => state.as_str());
        let Table { is_breaker, rows, .. } = self.table;
        Handles {
            counters: rows.iter().map(counter).collect(),
            duration: if self.table.times_calls {
                histogram!("buttress_call_duration_seconds", "policy" => policy, "name" => name)
            } else {
                metrics::Histogram::noop()
            },
            states: if is_breaker { State::ALL.map(state).into() } else { Vec::new() },
            failure_ratio: if is_breaker {
                gauge!("buttress_breaker_failure_ratio", "name" => name)
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
    describe_counter!(
        "buttress_calls_total",
        Unit::Count,
        "Completed calls through a policy, by outcome"
    );
    describe_histogram!(
        "buttress_call_duration_seconds",
        Unit::Seconds,
        "How long completed calls through a policy took; what was refused at once is not among them"
    );
    describe_counter!(
        "buttress_rejections_total",
        Unit::Count,
        "Calls a policy refused, by reason; `shadow` counts calls a shadow breaker let pass all the same"
    );
    describe_gauge!(
        "buttress_breaker_state",
        Unit::Count,
        "1 for the state the breaker was in as of the last call, 0 for the others"
    );
    describe_counter!(
        "buttress_breaker_transitions_total",
        Unit::Count,
        "State changes of a breaker"
    );
    describe_gauge!(
        "buttress_breaker_failure_ratio",
        Unit::Count,
        "Share of failures in the window as of the last call, a ratio from 0 to 1"
    );
    describe_counter!(
        "buttress_breaker_unprotected_total",
        Unit::Count,
        "Calls a keyed breaker let pass without a breaker, because every place was taken"
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
        "Fallbacks taken, by what stood in; `uncloneable` and `not_idempotent` could not be taken"
    );
    #[cfg(feature = "consumer")]
    describe_counter!(
        "buttress_consumer_messages_total",
        Unit::Count,
        "Deliveries that a consumer is done with, by what became of them"
    );
    #[cfg(feature = "consumer")]
    describe_gauge!(
        "buttress_consumer_paused",
        Unit::Count,
        "How many consumers of this name do not pull because their dependency is down"
    );
}

/// A header that a trusted caller sent could not be read, and is ignored.
#[cfg(feature = "http")]
pub(crate) fn malformed_header(header: &str) {
    #[cfg(feature = "tracing")]
    tracing::debug!(header, "ignoring a header that cannot be read");
    #[cfg(not(feature = "tracing"))]
    let _ = header;
}

/// A breaker changed its state; `key` says which, if it is one of a keyed breaker.
#[cfg(feature = "tracing")]
fn log_transition(name: &str, key: Option<&dyn std::fmt::Debug>, transition: &Transition) {
    let (from, to) = (transition.from.as_str(), transition.to.as_str());
    let key = key.map(tracing::field::debug);
    let reason = transition.reason.map(crate::breaker::OpenReason::as_str);
    let evidence = transition.reason.map(tracing::field::display);
    let (generation, note) = (transition.generation, transition.note.as_deref());
    if matches!(transition.to, State::Open | State::ForcedOpen) {
        tracing::warn!(
            name,
            key,
            from,
            to,
            generation,
            reason,
            evidence,
            note,
            "breaker transition"
        );
    } else {
        tracing::info!(
            name,
            key,
            from,
            to,
            generation,
            reason,
            evidence,
            note,
            "breaker transition"
        );
    }
}

/// The breaker that a keyed one has for this key changed its state. The key is in the log and in no
/// metric: there may be as many as there are hosts in the world.
pub(crate) fn keyed_transition(
    name: &'static str,
    key: &dyn std::fmt::Debug,
    transition: &Transition,
) {
    #[cfg(feature = "tracing")]
    log_transition(name, Some(key), transition);
    #[cfg(not(feature = "tracing"))]
    let _ = (name, key, transition);
}

/// A keyed breaker has begun to let calls pass unprotected.
pub(crate) fn places_taken(name: &'static str, places: usize) {
    #[cfg(feature = "tracing")]
    tracing::warn!(
        name,
        places,
        "every place of a keyed breaker is taken by a circuit that is not closed; other keys pass unprotected"
    );
    #[cfg(not(feature = "tracing"))]
    let _ = (name, places);
}

/// One consumer that does not pull, counted for as long as this lives: a gauge that each consumer of a
/// name *set* would say what the last of them did, and go on saying so when that has panicked.
#[cfg(feature = "consumer")]
pub(crate) struct ConsumerPause {
    /// The one it was counted in, also if another recorder has been installed since.
    #[cfg(feature = "metrics")]
    gauge: metrics::Gauge,
}

#[cfg(feature = "consumer")]
impl ConsumerPause {
    pub(crate) fn begin(
        name: &'static str,
        gate: Option<&'static str>,
        why: &str,
        last_error: Option<&str>,
    ) -> Self {
        #[cfg(feature = "tracing")]
        tracing::warn!(name, gate, why, last_error, "consumer paused");
        #[cfg(feature = "metrics")]
        let gauge = metrics::gauge!("buttress_consumer_paused", "name" => name);
        #[cfg(feature = "metrics")]
        gauge.increment(1.0);
        let _ = (name, gate, why, last_error);
        ConsumerPause {
            #[cfg(feature = "metrics")]
            gauge,
        }
    }
}

#[cfg(feature = "consumer")]
impl Drop for ConsumerPause {
    fn drop(&mut self) {
        #[cfg(feature = "metrics")]
        self.gauge.decrement(1.0);
    }
}

/// A consumer pulls again.
#[cfg(feature = "consumer")]
pub(crate) fn consumer_goes_on(name: &'static str) {
    #[cfg(feature = "tracing")]
    tracing::info!(name, "consumer goes on");
    #[cfg(not(feature = "tracing"))]
    let _ = name;
}

/// A message failed, and will be tried again: here, or when the broker delivers it again.
#[cfg(feature = "consumer")]
pub(crate) fn message_failed(
    name: &'static str,
    attempt: u32,
    again_after: std::time::Duration,
    reason: &str,
) {
    #[cfg(feature = "tracing")]
    tracing::debug!(name, attempt, ?again_after, reason, "message failed, to be tried again");
    #[cfg(not(feature = "tracing"))]
    let _ = (name, attempt, again_after, reason);
}

/// A message was put aside.
#[cfg(feature = "consumer")]
pub(crate) fn dead_letter(name: &'static str, reason: &str) {
    #[cfg(feature = "tracing")]
    tracing::warn!(name, reason, "dead letter");
    #[cfg(not(feature = "tracing"))]
    let _ = (name, reason);
}

/// The broker was not, or not surely, told of what became of a message.
#[cfg(feature = "consumer")]
pub(crate) fn not_settled(name: &'static str, settle: &str, error: &dyn std::fmt::Display) {
    #[cfg(feature = "tracing")]
    tracing::warn!(name, settle, %error, "delivery not settled");
    #[cfg(not(feature = "tracing"))]
    let _ = (name, settle, error);
}

/// The handler of a consumer panicked.
#[cfg(feature = "consumer")]
pub(crate) fn handler_panicked(name: &'static str, reason: &str) {
    // Not in a field `message`: that is the event's own, which would be there twice.
    #[cfg(feature = "tracing")]
    tracing::warn!(name, reason, "handler panicked");
    #[cfg(not(feature = "tracing"))]
    let _ = (name, reason);
}

/// A consumer's source gave an error; the first one in a row is worth a warning.
#[cfg(feature = "consumer")]
pub(crate) fn source_failed(name: &'static str, first: bool, error: &dyn std::fmt::Display) {
    #[cfg(feature = "tracing")]
    if first {
        tracing::warn!(name, %error, "source failed");
    } else {
        tracing::debug!(name, %error, "source failed again");
    }
    #[cfg(not(feature = "tracing"))]
    let _ = (name, first, error);
}

/// A consumer's source gives deliveries again.
#[cfg(feature = "consumer")]
pub(crate) fn source_works(name: &'static str) {
    #[cfg(feature = "tracing")]
    tracing::info!(name, "source works again");
    #[cfg(not(feature = "tracing"))]
    let _ = name;
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
        f.debug_struct("Meter")
            .field("policy", &self.table.policy)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
