use std::{borrow::Cow, fmt};

use tokio::time::Instant;

use super::{OpenReason, State};
use crate::verdict::FailureKind;

/// One change of a breaker's state, with the evidence it was made on.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Transition {
    /// When, on tokio's clock. `at.elapsed()` says how long ago.
    ///
    /// A change that time alone causes is dated to the moment it was due, not to the call that
    /// noticed.
    pub at: Instant,
    /// The state before.
    pub from: State,
    /// The state after.
    pub to: State,
    /// The number of the life that begins here. It grows by one with each transition.
    pub generation: u32,
    /// Which condition opened the circuit, with its counts; `None` where it did not open.
    pub reason: Option<OpenReason>,
    /// The kinds of the last failures before it opened (at most the last 32 of this life of the
    /// breaker), commonest first.
    pub failures: Vec<(FailureKind, u32)>,
    /// What somebody who forced or reset the breaker gave as the reason.
    pub note: Option<Cow<'static, str>>,
}

/// `closed -> open: 57 of the last 100 calls failed (57.0 %, limit 50.0 %); 40 timed_out, 17 failed`
impl fmt::Display for Transition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.from, self.to)?;
        if let Some(reason) = self.reason {
            write!(f, ": {reason}")?;
        }
        for (index, (kind, count)) in self.failures.iter().enumerate() {
            let separator = if index == 0 { "; lately " } else { ", " };
            write!(f, "{separator}{count} {kind}")?;
        }
        match &self.note {
            Some(note) => write!(f, " ({note})"),
            None => Ok(()),
        }
    }
}
