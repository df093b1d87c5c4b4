//! Verdicts: what an outcome *means*, said once and understood by every policy.
//!
//! A service answers with a `Result`, but `Ok(503)` is no success and `Err(invalid card number)`
//! is no reason to open a circuit. A classifier turns an outcome into a [`Verdict`], and the
//! policies read the verdict:
//!
//! | verdict | breaker | retry | budget | fallback | example |
//! |---|---|---|---|---|---|
//! | [`Success`](Verdict::Success) | good | stop | deposit | no | 200 |
//! | [`Transient`](Verdict::Transient) | failure | retry | no | yes | 503, connection reset, timeout |
//! | [`Unreachable`](Verdict::Unreachable) | failure | retry, whatever the request | no | yes | connection refused |
//! | [`Throttled`](Verdict::Throttled) | failure; leaves "consecutive" as it is | not before the hint | no | yes | 429 |
//! | [`Final`](Verdict::Final) | failure | stop | no | yes | gRPC's "do not retry", lost data |
//! | [`Permanent`](Verdict::Permanent) | good: the service answered | stop | deposit | if asked for | 404 |
//! | [`Refused`](Verdict::Refused) | not counted | stop | no | yes | an inner circuit is open |
//! | [`Ignored`](Verdict::Ignored) | not counted | stop | no | if asked for | cancelled by the caller |
//!
//! An error that a policy raised itself never reaches your classifier: a timeout is `Transient`
//! (unless it was the caller's own, shorter limit), every other refusal is `Refused`. So a natural
//! `Err(_) => Transient` neither retries an open circuit nor counts a breaker's own refusals against
//! it.
//!
//! Three ways to say what a failure is, from the least to the most:
//!
//! - nothing: [`Errors`], the default, calls `Ok` a success and `Err` transient;
//! - [`classify_response`], a closure over the response, where every error is transient;
//! - [`classify_fn`], a closure over the whole outcome. A bare closure will do where the compiler
//!   can see that it must work for every lifetime; where it says *"implementation of `Fn` is not
//!   general enough"*, wrap it in this function.

use std::{fmt, time::Duration};

use crate::error::{PolicyErrorKind, StackError};

/// What an outcome means. See the [module page](self) for what each policy does with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The service did what it was asked for.
    Success,
    /// It failed in a way that may pass: worth another attempt.
    Transient,
    /// The connection failed and nothing was sent, so nothing was executed: worth another attempt,
    /// even for a request that must not be executed twice.
    Unreachable,
    /// It said that this is too much. Worth another attempt, but not before the hint.
    Throttled {
        /// How long the service asked to be left alone, if it said so.
        retry_after: Option<Duration>,
    },
    /// It failed, and another attempt would be wrong: it said that it wants none, or what is lost is
    /// lost. Unlike a [`Permanent`](Verdict::Permanent) answer this is the service's failure.
    Final,
    /// It answered, and the answer will be the same next time: a 404, a validation error.
    Permanent,
    /// It was never asked: a policy refused the call.
    Refused {
        /// When the policy expects to admit calls again, if it knows.
        retry_after: Option<Duration>,
    },
    /// Says nothing about the service: cancelled by the caller, say.
    Ignored,
}

impl Verdict {
    /// The verdict without its hint.
    pub const fn kind(self) -> VerdictKind {
        match self {
            Verdict::Success => VerdictKind::Success,
            Verdict::Transient => VerdictKind::Transient,
            Verdict::Unreachable => VerdictKind::Unreachable,
            Verdict::Throttled { .. } => VerdictKind::Throttled,
            Verdict::Final => VerdictKind::Final,
            Verdict::Permanent => VerdictKind::Permanent,
            Verdict::Refused { .. } => VerdictKind::Refused,
            Verdict::Ignored => VerdictKind::Ignored,
        }
    }

    /// How long the service or a policy asked to be left alone, if it said so.
    pub const fn retry_after(self) -> Option<Duration> {
        match self {
            Verdict::Throttled { retry_after } | Verdict::Refused { retry_after } => retry_after,
            _ => None,
        }
    }

    /// Reads an outcome: policy errors by themselves, the rest by the classifier.
    #[inline]
    pub(crate) fn of<C, Res, Err>(classifier: &C, outcome: &Result<Res, Err>) -> Verdict
    where
        C: Classify<Res, Err>,
        Err: StackError,
    {
        if let Err(error) = outcome
            && let Some(policy) = error.policy_error()
        {
            return policy.verdict();
        }
        classifier.classify(outcome.as_ref())
    }
}

/// A [`Verdict`] without its hint: for sets, labels and counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum VerdictKind {
    /// [`Verdict::Success`]
    Success,
    /// [`Verdict::Transient`]
    Transient,
    /// [`Verdict::Unreachable`]
    Unreachable,
    /// [`Verdict::Throttled`]
    Throttled,
    /// [`Verdict::Final`]
    Final,
    /// [`Verdict::Permanent`]
    Permanent,
    /// [`Verdict::Refused`]
    Refused,
    /// [`Verdict::Ignored`]
    Ignored,
}

impl VerdictKind {
    /// Every kind, in the order of the table on the [module page](self).
    pub const ALL: [VerdictKind; 8] = [
        VerdictKind::Success,
        VerdictKind::Transient,
        VerdictKind::Unreachable,
        VerdictKind::Throttled,
        VerdictKind::Final,
        VerdictKind::Permanent,
        VerdictKind::Refused,
        VerdictKind::Ignored,
    ];

    /// The kind as a metric label or log field: `success`, `transient`, ...
    pub const fn as_str(self) -> &'static str {
        match self {
            VerdictKind::Success => "success",
            VerdictKind::Transient => "transient",
            VerdictKind::Unreachable => "unreachable",
            VerdictKind::Throttled => "throttled",
            VerdictKind::Final => "final",
            VerdictKind::Permanent => "permanent",
            VerdictKind::Refused => "refused",
            VerdictKind::Ignored => "ignored",
        }
    }
}

impl fmt::Display for VerdictKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Says what an outcome means.
///
/// Implemented for closures `Fn(Result<&Res, &Err>) -> Verdict`. It is called once per attempt and
/// policy, also on the healthy path, so it should only look and not compute.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not classify outcomes `Result<{Res}, {Err}>`",
    note = "over responses: `buttress::classify_response(|response: &Response| ..)`",
    note = "over whole outcomes: `buttress::classify_fn(|outcome: Result<&Response, &Error>| ..)`"
)]
#[cfg_attr(
    feature = "http",
    diagnostic::on_unimplemented(
        note = "over HTTP: `http::Responses` reads a response that is a `ResponseHead` and an error that is a `ClientError`; those of reqwest, hyper-util and tonic are, each with the feature of its name"
    )
)]
pub trait Classify<Res, Err> {
    /// The verdict on this outcome. Never called with an error that a policy raised.
    fn classify(&self, outcome: Result<&Res, &Err>) -> Verdict;
}

impl<F, Res, Err> Classify<Res, Err> for F
where
    F: Fn(Result<&Res, &Err>) -> Verdict,
{
    #[inline]
    fn classify(&self, outcome: Result<&Res, &Err>) -> Verdict {
        self(outcome)
    }
}

/// The default classifier: `Ok` is a success, `Err` is transient.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Errors;

impl<Res, Err> Classify<Res, Err> for Errors {
    #[inline]
    fn classify(&self, outcome: Result<&Res, &Err>) -> Verdict {
        match outcome {
            Ok(_) => Verdict::Success,
            Err(_) => Verdict::Transient,
        }
    }
}

/// A classifier over responses, where every error of the service is transient.
///
/// ```
/// use buttress::{classify_response, Verdict};
///
/// struct Reply { status: u16 }
///
/// let classifier = classify_response(|reply: &Reply| match reply.status {
///     429 => Verdict::Throttled { retry_after: None },
///     500.. => Verdict::Transient,
///     400.. => Verdict::Permanent,
///     _ => Verdict::Success,
/// });
/// # let _ = classifier;
/// ```
pub const fn classify_response<F, Res>(classify: F) -> ClassifyResponse<F>
where
    F: Fn(&Res) -> Verdict,
{
    ClassifyResponse { classify }
}

/// Made by [`classify_response`].
#[derive(Clone, Copy)]
pub struct ClassifyResponse<F> {
    classify: F,
}

impl<F> fmt::Debug for ClassifyResponse<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClassifyResponse").finish_non_exhaustive()
    }
}

impl<F, Res, Err> Classify<Res, Err> for ClassifyResponse<F>
where
    F: Fn(&Res) -> Verdict,
{
    #[inline]
    fn classify(&self, outcome: Result<&Res, &Err>) -> Verdict {
        match outcome {
            Ok(response) => (self.classify)(response),
            Err(_) => Verdict::Transient,
        }
    }
}

/// A classifier over whole outcomes: the closure itself, with its bound spelled out so that the
/// compiler infers one that works for every lifetime.
///
/// ```
/// use buttress::{classify_fn, Verdict};
/// use std::io::{Error, ErrorKind};
///
/// let classifier = classify_fn(|outcome: Result<&String, &Error>| match outcome {
///     Ok(_) => Verdict::Success,
///     Err(error) if error.kind() == ErrorKind::NotFound => Verdict::Permanent,
///     Err(_) => Verdict::Transient,
/// });
/// # let _ = classifier;
/// ```
pub const fn classify_fn<F, Res, Err>(classify: F) -> F
where
    F: Fn(Result<&Res, &Err>) -> Verdict,
{
    classify
}

/// What kind of failure an attempt was: for evidence, and for what a retry of it costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum FailureKind {
    /// A failure of the service, transient or final, whatever its error.
    Failed,
    /// The connection failed, nothing was sent.
    Unreachable,
    /// A buttress timeout below gave the attempt up.
    TimedOut,
    /// The service said that this is too much.
    Throttled,
    /// The call panicked.
    Panicked,
    /// The caller gave the call up, and the policy was told to count that.
    Abandoned,
    /// It succeeded, but took longer than the slow-call threshold.
    Slow,
}

impl FailureKind {
    pub(crate) const ALL: [FailureKind; 7] = [
        FailureKind::Failed,
        FailureKind::Unreachable,
        FailureKind::TimedOut,
        FailureKind::Throttled,
        FailureKind::Panicked,
        FailureKind::Abandoned,
        FailureKind::Slow,
    ];

    /// The kind as a log field: `failed`, `timed_out`, ...
    pub const fn as_str(self) -> &'static str {
        match self {
            FailureKind::Failed => "failed",
            FailureKind::Unreachable => "unreachable",
            FailureKind::TimedOut => "timed_out",
            FailureKind::Throttled => "throttled",
            FailureKind::Panicked => "panicked",
            FailureKind::Abandoned => "abandoned",
            FailureKind::Slow => "slow",
        }
    }

    /// The kind of an outcome whose verdict is a failure.
    pub(crate) fn of<Res, Err: StackError>(verdict: Verdict, outcome: &Result<Res, Err>) -> Self {
        match verdict {
            Verdict::Throttled { .. } => return FailureKind::Throttled,
            Verdict::Unreachable => return FailureKind::Unreachable,
            _ => {}
        }
        match outcome.as_ref().err().and_then(StackError::policy_error) {
            Some(error) if error.kind() == PolicyErrorKind::TimedOut => FailureKind::TimedOut,
            _ => FailureKind::Failed,
        }
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
