use std::fmt;

/// Why a circuit is open: which condition tripped, and the counts it was decided on.
///
/// ```
/// use buttress::breaker::OpenReason;
///
/// let why = OpenReason::FailureRatio { failures: 57, calls: 100, limit: 0.5 };
/// assert_eq!(why.to_string(), "57 of the last 100 calls failed (57.0 %, limit 50.0 %)");
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum OpenReason {
    /// The share of failures in the window reached its limit.
    FailureRatio {
        /// Failures in the window.
        failures: u32,
        /// Completed calls in the window.
        calls: u32,
        /// The configured limit, above 0 and at most 1.
        limit: f32,
    },
    /// The share of slow calls in the window reached its limit.
    SlowRatio {
        /// Slow calls in the window.
        slow: u32,
        /// Completed calls in the window.
        calls: u32,
        /// The configured limit, above 0 and at most 1.
        limit: f32,
    },
    /// This many calls failed one after the other.
    ConsecutiveFailures {
        /// Failures in a row.
        failures: u32,
    },
    /// While half-open, so many probes failed that it could not close any more.
    ProbesFailed {
        /// Probes that failed.
        failed: u32,
        /// Probes of a half-open phase.
        probes: u32,
    },
    /// While half-open, the deadline passed with probes still under way.
    ProbesOverdue {
        /// Probes that had not come back.
        outstanding: u32,
        /// Probes of a half-open phase.
        probes: u32,
    },
    /// Somebody called `force_open`.
    Forced,
}

impl OpenReason {
    /// The reason as a metric label or log field: `failure_ratio`, `probes_failed`, ...
    pub const fn as_str(self) -> &'static str {
        match self {
            OpenReason::FailureRatio { .. } => "failure_ratio",
            OpenReason::SlowRatio { .. } => "slow_ratio",
            OpenReason::ConsecutiveFailures { .. } => "consecutive_failures",
            OpenReason::ProbesFailed { .. } => "probes_failed",
            OpenReason::ProbesOverdue { .. } => "probes_overdue",
            OpenReason::Forced => "forced",
        }
    }
}

impl fmt::Display for OpenReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |part: u32, whole: u32| 100.0 * f64::from(part) / f64::from(whole.max(1));
        match *self {
            OpenReason::FailureRatio { failures, calls, limit } => write!(
                f,
                "{failures} of the last {calls} calls failed ({:.1} %, limit {:.1} %)",
                percent(failures, calls),
                100.0 * limit
            ),
            OpenReason::SlowRatio { slow, calls, limit } => write!(
                f,
                "{slow} of the last {calls} calls were slow ({:.1} %, limit {:.1} %)",
                percent(slow, calls),
                100.0 * limit
            ),
            OpenReason::ConsecutiveFailures { failures } => {
                write!(f, "{failures} calls failed in a row")
            }
            OpenReason::ProbesFailed { failed, probes } => {
                write!(f, "{failed} of {probes} probes failed")
            }
            OpenReason::ProbesOverdue { outstanding, probes } => {
                write!(f, "{outstanding} of {probes} probes did not come back in time")
            }
            OpenReason::Forced => f.write_str("it was forced open"),
        }
    }
}
