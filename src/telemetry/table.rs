//! What each kind of policy counts: its metrics and their labels.

use crate::verdict::VerdictKind;

/// One counter of a policy: the metric, whether several kinds of policy count in it and so `policy`
/// is among its labels, and the one label it has beside that and `name`.
#[derive(Clone, Copy)]
#[cfg_attr(not(feature = "metrics"), allow(dead_code))] // then only its place in the table is used
pub(crate) struct Row {
    pub(super) metric: &'static str,
    pub(super) by_policy: bool,
    pub(super) label: Option<(&'static str, &'static str)>,
}

/// What policies of one kind report.
#[derive(Clone, Copy)]
pub(crate) struct Table {
    pub(super) policy: &'static str,
    /// A breaker has gauges, too: its state and its share of failures. Those of a keyed one share
    /// a name, so they have none, and whoever knows the key logs their transitions.
    #[cfg_attr(not(any(feature = "metrics", feature = "tracing")), allow(dead_code))]
    pub(super) is_breaker: bool,
    /// How long its calls take is told. A consumer makes none.
    #[cfg_attr(not(feature = "metrics"), allow(dead_code))]
    pub(super) times_calls: bool,
    #[cfg_attr(not(any(feature = "metrics", feature = "tracing")), allow(dead_code))]
    pub(super) rows: &'static [Row],
}

impl Table {
    const fn new(policy: &'static str, rows: &'static [Row]) -> Self {
        Table { policy, is_breaker: false, times_calls: true, rows }
    }
}

const fn calls(outcome: &'static str) -> Row {
    let label = Some(("outcome", outcome));
    Row { metric: "buttress_calls_total", by_policy: true, label }
}

const fn rejections(reason: &'static str) -> Row {
    let label = Some(("reason", reason));
    Row { metric: "buttress_rejections_total", by_policy: true, label }
}

const fn retries(result: &'static str) -> Row {
    let label = Some(("result", result));
    Row { metric: "buttress_retry_attempts_total", by_policy: false, label }
}

const fn fallbacks(kind: &'static str) -> Row {
    let label = Some(("kind", kind));
    Row { metric: "buttress_fallbacks_total", by_policy: false, label }
}

#[cfg(feature = "consumer")]
const fn messages(settle: &'static str) -> Row {
    let label = Some(("settle", settle));
    Row { metric: "buttress_consumer_messages_total", by_policy: false, label }
}

const VERDICTS: usize = VerdictKind::ALL.len();

/// The rows of a policy that counts calls by their verdict, the row of each being `kind as usize`,
/// and after those its own.
const fn after_verdicts<const OWN: usize, const ALL: usize>(own: [Row; OWN]) -> [Row; ALL] {
    assert!(ALL == VERDICTS + OWN);
    let mut rows = [calls(""); ALL];
    let mut row = 0;
    while row < VERDICTS {
        let kind = VerdictKind::ALL[row];
        rows[kind as usize] = calls(kind.as_str());
        row += 1;
    }
    while row < ALL {
        rows[row] = own[row - VERDICTS];
        row += 1;
    }
    rows
}

pub(crate) const BREAKER: Table = Table {
    is_breaker: true,
    ..Table::new(
        "circuit_breaker",
        &after_verdicts::<3, 11>([
            rejections("open"),
            rejections("probes_taken"),
            rejections("shadow"),
        ]),
    )
};
/// One of the breakers of a keyed one: the rows of [`BREAKER`], and one more.
pub(crate) const KEYED_BREAKER: Table = Table::new(
    "circuit_breaker",
    &after_verdicts::<4, 12>([
        rejections("open"),
        rejections("probes_taken"),
        rejections("shadow"),
        Row { metric: "buttress_breaker_unprotected_total", by_policy: false, label: None },
    ]),
);
pub(crate) const BREAKER_OPEN: usize = VERDICTS;
pub(crate) const BREAKER_PROBES_TAKEN: usize = VERDICTS + 1;
/// A shadow breaker let a call pass that it would have refused.
pub(crate) const BREAKER_SHADOW: usize = VERDICTS + 2;
/// A keyed breaker had no place for a key and let its call pass.
pub(crate) const BREAKER_UNPROTECTED: usize = VERDICTS + 3;

pub(crate) const RETRY: Table = Table::new(
    "retry",
    &after_verdicts::<7, 15>([
        retries("retried"),
        retries("exhausted"),
        retries("budget_denied"),
        retries("uncloneable"),
        retries("out_of_time"),
        retries("not_idempotent"),
        retries("retried_above"),
    ]),
);
/// Another attempt was started.
pub(crate) const RETRY_RETRIED: usize = VERDICTS;
/// The last allowed attempt failed.
pub(crate) const RETRY_EXHAUSTED: usize = VERDICTS + 1;
/// The budget had no token for another attempt.
pub(crate) const RETRY_BUDGET_DENIED: usize = VERDICTS + 2;
/// The request could not be cloned for another attempt.
pub(crate) const RETRY_UNCLONEABLE: usize = VERDICTS + 3;
/// The next attempt would have started after `max_elapsed`, or the caller's deadline.
pub(crate) const RETRY_OUT_OF_TIME: usize = VERDICTS + 4;
/// The request must not be repeated after an attempt that may have been executed.
pub(crate) const RETRY_NOT_IDEMPOTENT: usize = VERDICTS + 5;
/// Somebody above repeats the operation already.
pub(crate) const RETRY_RETRIED_ABOVE: usize = VERDICTS + 6;

pub(crate) const TIMEOUT: Table = Table::new(
    "timeout",
    &[
        calls("success"),
        calls("error"),
        calls("timed_out"),
        Row { metric: "buttress_timeouts_total", by_policy: false, label: None },
        rejections("deadline_too_short"),
    ],
);
pub(crate) const TIMEOUT_SUCCESS: usize = 0;
pub(crate) const TIMEOUT_ERROR: usize = 1;
pub(crate) const TIMEOUT_TIMED_OUT: usize = 2;
/// A timeout fired.
pub(crate) const TIMEOUT_FIRED: usize = 3;
/// The caller's deadline left too little time for a call.
pub(crate) const TIMEOUT_TOO_SHORT: usize = 4;

pub(crate) const FALLBACK: Table = Table::new(
    "fallback",
    &[
        calls("good"),
        calls("degraded"),
        calls("failed"),
        fallbacks("value"),
        fallbacks("function"),
        fallbacks("service"),
        fallbacks("uncloneable"),
        fallbacks("not_idempotent"),
    ],
);
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
/// The backup service must not get a request that the primary may have executed.
pub(crate) const FALLBACK_NOT_IDEMPOTENT: usize = 7;

#[cfg(feature = "http")]
pub(crate) const BODY_TIMEOUT: Table = Table::new(
    "body_timeout",
    &[
        calls("success"),
        calls("error"),
        calls("timed_out"),
        calls("stalled"),
        Row { metric: "buttress_timeouts_total", by_policy: false, label: None },
    ],
);
/// The body was read to its end.
#[cfg(feature = "http")]
pub(crate) const BODY_SUCCESS: usize = 0;
/// The call or its body failed.
#[cfg(feature = "http")]
pub(crate) const BODY_ERROR: usize = 1;
/// The call with its body took too long.
#[cfg(feature = "http")]
pub(crate) const BODY_TIMED_OUT: usize = 2;
/// The body made no progress.
#[cfg(feature = "http")]
pub(crate) const BODY_STALLED: usize = 3;
/// A body timeout fired, for either reason.
#[cfg(feature = "http")]
pub(crate) const BODY_FIRED: usize = 4;

#[cfg(feature = "consumer")]
pub(crate) const CONSUMER: Table = Table {
    times_calls: false,
    ..Table::new(
        "consumer",
        &[
            messages("ack"),
            messages("retry"),
            messages("dead_letter"),
            messages("release"),
            messages("unconfirmed"),
            messages("lost"),
        ],
    )
};
#[cfg(feature = "consumer")]
pub(crate) const CONSUMER_ACK: usize = 0;
#[cfg(feature = "consumer")]
pub(crate) const CONSUMER_RETRY: usize = 1;
#[cfg(feature = "consumer")]
pub(crate) const CONSUMER_DEAD_LETTER: usize = 2;
#[cfg(feature = "consumer")]
pub(crate) const CONSUMER_RELEASE: usize = 3;
/// It was settled, and the broker never confirmed it.
#[cfg(feature = "consumer")]
pub(crate) const CONSUMER_UNCONFIRMED: usize = 4;
/// It had passed to somebody else before it could be settled.
#[cfg(feature = "consumer")]
pub(crate) const CONSUMER_LOST: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_where_they_are_looked_for() {
        let of_the_breaker = [
            (BREAKER_OPEN, "open"),
            (BREAKER_PROBES_TAKEN, "probes_taken"),
            (BREAKER_SHADOW, "shadow"),
        ];
        let of_the_retry = [
            (RETRY_RETRIED, "retried"),
            (RETRY_EXHAUSTED, "exhausted"),
            (RETRY_BUDGET_DENIED, "budget_denied"),
            (RETRY_UNCLONEABLE, "uncloneable"),
            (RETRY_OUT_OF_TIME, "out_of_time"),
            (RETRY_NOT_IDEMPOTENT, "not_idempotent"),
            (RETRY_RETRIED_ABOVE, "retried_above"),
        ];
        let (breaker, retry) = (&of_the_breaker[..], &of_the_retry[..]);
        for (table, own) in [(BREAKER, breaker), (KEYED_BREAKER, breaker), (RETRY, retry)] {
            for (row, kind) in VerdictKind::ALL.into_iter().enumerate() {
                assert_eq!(row, kind as usize);
                assert_eq!(table.rows[row].label, Some(("outcome", kind.as_str())));
            }
            for (row, value) in own {
                assert_eq!(table.rows[*row].label.unwrap().1, *value);
            }
        }
        let unprotected = KEYED_BREAKER.rows[BREAKER_UNPROTECTED].metric;
        assert_eq!(unprotected, "buttress_breaker_unprotected_total");
    }
}
