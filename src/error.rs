//! Errors: what a policy says when it refuses, and how that travels through a stack.
//!
//! A buttress layer never changes the error type of the service it wraps. It asks of that type one
//! thing only, [`StackError`]: that a [`PolicyError`] can be turned into it, and found in it again.
//! Two types speak it from the start:
//!
//! - [`Error<E>`], which says plainly whether the service failed or a policy refused. Put
//!   [`ServiceErrors`] below the innermost buttress layer and every layer above it agrees.
//! - [`BoxError`], tower's usual `Box<dyn Error + Send + Sync>`. The policy error is found through
//!   whatever other layers wrapped around it.
//!
//! Your own error enum joins with one variant and a few lines:
//!
//! ```
//! use buttress::{PolicyError, StackError};
//!
//! #[derive(Debug, thiserror::Error)]
//! enum OrderError {
//!     #[error("the order service said no: {0}")]
//!     Rejected(String),
//!     // Not `transparent`: that would hide the policy error from a walk along `source()`
//!     // once a foreign layer has boxed the whole.
//!     #[error("{0}")]
//!     Policy(#[from] PolicyError),
//! }
//!
//! impl StackError for OrderError {
//!     fn policy_error(&self) -> Option<&PolicyError> {
//!         match self {
//!             OrderError::Policy(error) => Some(error),
//!             OrderError::Rejected(_) => None,
//!         }
//!     }
//! }
//! ```
//!
//! When that is missing the compiler says so wherever `Service` is asked for as a bound. Called
//! through `.ready()` or `.oneshot()` it only says *"the method `ready` exists for struct `…`, but
//! its trait bounds were not satisfied"*. To see the reason, ask for the bound:
//!
//! ```
//! fn is_service<Req, S: tower::Service<Req>>(_: &S) {}
//! # use buttress::{ServiceErrors, Stack, Timeout};
//! # let client = Stack::new().timeout(std::time::Duration::from_secs(1)).layer(ServiceErrors)
//! #     .service(tower::service_fn(|_: ()| async { Ok::<_, std::io::Error>(()) }));
//! is_service::<(), _>(&client);
//! ```

use std::{fmt, time::Duration};

use crate::{
    breaker::{Evidence, OpenReason},
    clock::nanos,
    verdict::Verdict,
};

mod config;
mod service_errors;

pub use config::ConfigError;
pub use service_errors::{ServiceErrors, ServiceErrorsFuture, ServiceErrorsService};

/// The boxed error that tower's own middleware uses.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An error type that a stack of policies can speak.
///
/// Implemented for [`Error<E>`] and [`BoxError`]; see the [module page](self) for your own.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot carry the refusal of a buttress policy",
    label = "the service below has this error type",
    note = "put `.layer(buttress::ServiceErrors)` below the innermost buttress layer, or `.map_err(buttress::Error::Service)`",
    note = "or implement `StackError` for `{Self}`: `#[from] PolicyError` in one variant and five lines"
)]
pub trait StackError: From<PolicyError> {
    /// The policy error inside, if a policy raised this and not the service.
    fn policy_error(&self) -> Option<&PolicyError>;
}

/// Either the service failed or a policy refused.
///
/// Displays as what is inside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error<E> {
    /// The wrapped service's own error, unchanged.
    Service(E),
    /// A policy refused the call or gave it up.
    Policy(PolicyError),
}

impl<E> Error<E> {
    /// The service's error, if it was the service that failed.
    pub fn service(self) -> Option<E> {
        match self {
            Error::Service(error) => Some(error),
            Error::Policy(_) => None,
        }
    }
}

impl<E> From<PolicyError> for Error<E> {
    fn from(error: PolicyError) -> Self {
        Error::Policy(error)
    }
}

impl<E> StackError for Error<E> {
    #[inline]
    fn policy_error(&self) -> Option<&PolicyError> {
        match self {
            Error::Service(_) => None,
            Error::Policy(error) => Some(error),
        }
    }
}

impl<E: fmt::Display> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Service(error) => error.fmt(f),
            Error::Policy(error) => error.fmt(f),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for Error<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            // Displayed as itself, so its own message must not come a second time.
            Error::Service(error) => error.source(),
            // Displayed as itself, too; but a walk along the sources of a boxed error must find it.
            Error::Policy(error) => Some(error),
        }
    }
}

impl StackError for BoxError {
    fn policy_error(&self) -> Option<&PolicyError> {
        let mut next: Option<&(dyn std::error::Error + 'static)> = Some(&**self);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref::<PolicyError>() {
                return Some(found);
            }
            next = error.source();
        }
        None
    }
}

/// What a policy says when it refuses a call or gives one up.
///
/// It explains itself without having allocated anything: which policy, why, on which evidence, and
/// when it is worth trying again. 48 bytes, so that carrying it in every `Result` stays cheap.
///
/// ```
/// # tokio_test::block_on(async {
/// use buttress::{CircuitBreaker, Error, PolicyErrorKind, StackError};
///
/// let breaker = CircuitBreaker::builder("payments").build()?;
/// breaker.force_open("maintenance until noon", None);
/// let refused: Result<(), Error<std::io::Error>> = breaker.call(|| async { Ok(()) }).await;
///
/// let error = refused.unwrap_err();
/// let policy = error.policy_error().expect("the breaker refused");
/// assert_eq!(policy.kind(), PolicyErrorKind::CircuitOpen);
/// assert!(!policy.reached_service());
/// assert_eq!(error.to_string(), r#"circuit "payments" is forced open"#);
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
#[derive(Clone, Copy, PartialEq)]
pub struct PolicyError {
    name: &'static str,
    /// Nanoseconds, [`NO_HINT`] for none: half the size of an `Option<Duration>`.
    retry_after: u64,
    reason: Reason,
}

const NO_HINT: u64 = u64::MAX;

/// What happened, with its evidence.
#[derive(Clone, Copy, PartialEq)]
enum Reason {
    CircuitOpen(Evidence),
    ProbesTaken(Evidence),
    TimedOut(Duration),
    /// A limit that came with the request, shorter than the timeout's own.
    CallerTimedOut(Duration),
    /// A body made no progress for so long.
    Stalled(Duration),
    /// What is left until the caller's deadline, and the least a call needs; in nanoseconds.
    DeadlineTooShort {
        left: u64,
        needed: u64,
    },
}

/// Which kind of refusal a [`PolicyError`] is. More kinds come with more policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PolicyErrorKind {
    /// A circuit breaker is open, or half-open with all its probes under way.
    CircuitOpen,
    /// The call took longer than its timeout. It may have been executed all the same.
    TimedOut,
    /// The caller's deadline has passed, or leaves too little time for a call. None was made.
    DeadlineTooShort,
}

impl PolicyErrorKind {
    /// The kind as a metric label or log field: `circuit_open`, `timed_out`, `deadline_too_short`.
    pub const fn as_str(self) -> &'static str {
        match self {
            PolicyErrorKind::CircuitOpen => "circuit_open",
            PolicyErrorKind::TimedOut => "timed_out",
            PolicyErrorKind::DeadlineTooShort => "deadline_too_short",
        }
    }
}

impl PolicyError {
    /// `retry_after` in nanoseconds.
    #[inline]
    pub(crate) fn circuit_open(
        name: &'static str,
        why: Evidence,
        retry_after: Option<u64>,
    ) -> Self {
        let retry_after = retry_after.unwrap_or(NO_HINT);
        PolicyError { name, retry_after, reason: Reason::CircuitOpen(why) }
    }

    #[inline]
    pub(crate) const fn probes_taken(name: &'static str, why: Evidence) -> Self {
        PolicyError { name, retry_after: NO_HINT, reason: Reason::ProbesTaken(why) }
    }

    pub(crate) const fn timed_out(name: &'static str, after: Duration) -> Self {
        PolicyError { name, retry_after: NO_HINT, reason: Reason::TimedOut(after) }
    }

    pub(crate) const fn caller_timed_out(name: &'static str, after: Duration) -> Self {
        PolicyError { name, retry_after: NO_HINT, reason: Reason::CallerTimedOut(after) }
    }

    #[cfg_attr(not(feature = "http"), allow(dead_code))] // only bodies stall
    pub(crate) const fn stalled(name: &'static str, after: Duration) -> Self {
        PolicyError { name, retry_after: NO_HINT, reason: Reason::Stalled(after) }
    }

    pub(crate) fn deadline_too_short(name: &'static str, left: Duration, needed: Duration) -> Self {
        let reason = Reason::DeadlineTooShort { left: nanos(left), needed: nanos(needed) };
        PolicyError { name, retry_after: NO_HINT, reason }
    }

    /// The name the policy was built with; empty for one that was given none.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// What happened.
    pub const fn kind(&self) -> PolicyErrorKind {
        match self.reason {
            Reason::CircuitOpen(_) | Reason::ProbesTaken(_) => PolicyErrorKind::CircuitOpen,
            Reason::TimedOut(_) | Reason::CallerTimedOut(_) | Reason::Stalled(_) => {
                PolicyErrorKind::TimedOut
            }
            Reason::DeadlineTooShort { .. } => PolicyErrorKind::DeadlineTooShort,
        }
    }

    /// Why the circuit is open: the counts it was decided on. `None` for other kinds.
    pub const fn open_reason(&self) -> Option<OpenReason> {
        match self.reason {
            Reason::CircuitOpen(why) | Reason::ProbesTaken(why) => Some(why.reason()),
            _ => None,
        }
    }

    /// The timeout that elapsed, or how long a body may stall. `None` for other kinds.
    pub const fn timeout(&self) -> Option<Duration> {
        match self.reason {
            Reason::TimedOut(after) | Reason::CallerTimedOut(after) | Reason::Stalled(after) => {
                Some(after)
            }
            _ => None,
        }
    }

    /// How long it was until the caller's deadline, which was too short. `None` for other kinds.
    pub const fn time_left(&self) -> Option<Duration> {
        match self.reason {
            Reason::DeadlineTooShort { left, .. } => Some(Duration::from_nanos(left)),
            _ => None,
        }
    }

    /// How long until it is worth trying again, where the policy knows.
    ///
    /// An open circuit says when it will probe. A half-open one whose probes are all under way
    /// does not know, and neither does one that is forced open without an expiry.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self.retry_after {
            NO_HINT => None,
            nanos => Some(Duration::from_nanos(nanos)),
        }
    }

    /// Whether the service may have seen the call, and so may have acted on it.
    ///
    /// True for a timeout, false for a refusal: after `false` it is safe to send the same request
    /// elsewhere, whatever it does.
    pub const fn reached_service(&self) -> bool {
        matches!(self.kind(), PolicyErrorKind::TimedOut)
    }

    /// Whether it was the caller who left too little time, so that it says nothing about the service.
    #[cfg_attr(not(any(feature = "consumer", feature = "http")), allow(dead_code))]
    pub(crate) const fn is_callers_hurry(&self) -> bool {
        matches!(self.reason, Reason::CallerTimedOut(_) | Reason::DeadlineTooShort { .. })
    }

    /// What this error means to an outer policy. A timeout is the service's failure, unless it was
    /// the caller's own short limit; that and everything else is a refusal, which nobody counts and
    /// nobody retries.
    pub(crate) const fn verdict(&self) -> Verdict {
        match self.reason {
            Reason::TimedOut(_) | Reason::Stalled(_) => Verdict::Transient,
            Reason::CircuitOpen(_)
            | Reason::ProbesTaken(_)
            | Reason::CallerTimedOut(_)
            | Reason::DeadlineTooShort { .. } => {
                Verdict::Refused { retry_after: self.retry_after() }
            }
        }
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name;
        match self.reason {
            Reason::CircuitOpen(why) => match why.reason() {
                OpenReason::Forced => write!(f, "circuit {name:?} is forced open")?,
                why => write!(f, "circuit {name:?} is open: {why}")?,
            },
            Reason::ProbesTaken(why) => {
                let why = why.reason();
                write!(
                    f,
                    "circuit {name:?} is half-open, all its probes are under way; it was open because {why}"
                )?;
            }
            Reason::TimedOut(after) if name.is_empty() => write!(f, "timed out after {after:?}")?,
            Reason::TimedOut(after) => write!(f, "timeout {name:?} elapsed after {after:?}")?,
            Reason::Stalled(after) => {
                write!(f, "timeout {name:?}: the body stalled for {after:?}")?;
            }
            Reason::CallerTimedOut(after) => {
                write!(f, "the caller's own limit of {after:?} elapsed")?;
            }
            Reason::DeadlineTooShort { left: 0, .. } => {
                f.write_str("the caller's deadline has passed")?;
            }
            Reason::DeadlineTooShort { left, needed } => {
                let [left, needed] = [left, needed].map(Duration::from_nanos);
                write!(f, "the caller's deadline is too short: {left:?} left, {needed:?} needed")?;
            }
        }
        match (self.reason, self.retry_after()) {
            (Reason::CircuitOpen(why), Some(wait)) if why.reason() == OpenReason::Forced => {
                write!(f, "; the force ends in {:.1} s", wait.as_secs_f64())
            }
            (Reason::CircuitOpen(_), Some(wait)) => {
                write!(f, "; next probe in {:.1} s", wait.as_secs_f64())
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PolicyError")
            .field("kind", &self.kind())
            .field("name", &self.name)
            .field("message", &format_args!("{self}"))
            .finish_non_exhaustive()
    }
}

impl Eq for PolicyError {}

impl std::error::Error for PolicyError {}
