//! Every layer of the crate behind one type, so that each law is one function over all of them.
#![allow(unreachable_pub)]

use std::time::Duration;

use buttress::{
    Backoff, BoxError, CircuitBreaker, Error, Fallback, Jitter, Retry, ServiceErrors, Stack,
    Timeout,
    breaker::{CircuitBreakerBuilder, WhenOpen},
    retry::RetryBuilder,
};
use tower::{Layer, ServiceExt, util::BoxCloneSyncService};

use crate::support::{Act, Probe, TestError};

/// What the layers wrap, and what they make of it. The box passes everything straight through; that
/// it takes them is the proof that services are `Clone + Send + Sync` and futures `Send`.
pub type Boxed = BoxCloneSyncService<Act, &'static str, BoxError>;

pub type Outcome = Result<&'static str, BoxError>;

/// Longer than any delay between attempts, shorter than any timeout.
pub const STEP: Duration = Duration::from_millis(100);
/// The timeout of one attempt, and of the layers that have but one.
pub const LIMIT: Duration = Duration::from_secs(5);

/// Whose the readiness of the wrapped service is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Readiness {
    /// The caller's, errors included.
    Passed,
    /// The caller's, but an error of it is answered by the next call.
    Answered,
    /// The future's.
    Awaited,
}

pub struct Case {
    pub name: &'static str,
    pub readiness: Readiness,
    /// Attempts made of one failing call.
    pub attempts: usize,
    /// Whether a failing call is answered all the same.
    pub answers: bool,
    wrap: Box<dyn Fn(Boxed) -> Boxed>,
}

impl Case {
    fn new<L>(name: &'static str, layer: L) -> Case
    where
        L: Layer<Boxed, Service: Layered> + 'static,
    {
        let wrap = Box::new(move |inner| layer.layer(inner).boxed());
        Case { name, readiness: Readiness::Passed, attempts: 1, answers: false, wrap }
    }

    fn answering(self) -> Case {
        Case { readiness: Readiness::Answered, answers: true, ..self }
    }

    /// Applies the layer, as a framework does for each of its routes.
    pub fn wrap<S>(&self, inner: S) -> Boxed
    where
        S: tower::Service<Act, Response = &'static str, Error: Into<BoxError>, Future: Send>,
        S: Clone + Send + Sync + 'static,
    {
        (self.wrap)(BoxCloneSyncService::new(inner.map_err(Into::into)))
    }
}

/// A service as the layers make them: over the error type of what they wrap, or over `Error` of it.
pub trait Layered {
    fn boxed(self) -> Boxed;
}

impl<S> Layered for S
where
    S: tower::Service<Act, Response = &'static str, Error: Plain, Future: Send>,
    S: Clone + Send + Sync + 'static,
{
    fn boxed(self) -> Boxed {
        BoxCloneSyncService::new(self.map_err(Plain::plain))
    }
}

/// `Error<BoxError>` is no `std::error::Error`, because `BoxError` is none.
pub trait Plain {
    fn plain(self) -> BoxError;
}

impl Plain for BoxError {
    fn plain(self) -> BoxError {
        self
    }
}

impl Plain for Error<BoxError> {
    fn plain(self) -> BoxError {
        match self {
            Error::Service(error) => error,
            Error::Policy(error) => error.into(),
        }
    }
}

/// The mock with an error that every layer and every foreign service can carry.
pub fn boxed(probe: Probe) -> Boxed {
    BoxCloneSyncService::new(probe.map_err(|error: TestError| match error {
        Error::Service(error) => BoxError::from(error),
        Error::Policy(error) => error.into(),
    }))
}

/// Trips at two failures of two calls, for exactly five seconds.
pub fn tripping() -> CircuitBreakerBuilder {
    CircuitBreaker::builder("contract")
        .min_calls(2)
        .open_for(Backoff::constant(Duration::from_secs(5)).jitter(Jitter::None))
        .probes(1)
}

/// Does not trip within any of the laws.
fn patient() -> CircuitBreakerBuilder {
    CircuitBreaker::builder("contract").failure_ratio(1.0).min_calls(100)
}

/// Three attempts, half a step apart.
pub fn retry() -> RetryBuilder {
    Retry::builder("contract")
        .max_attempts(3)
        .backoff(Backoff::constant(STEP / 2).jitter(Jitter::None))
        .without_budget()
}

/// Every layer, each with policies of its own.
pub fn every_layer() -> Vec<Case> {
    let breaker = |builder: CircuitBreakerBuilder| builder.build().unwrap().layer();
    let (backup, _) = Probe::new();
    let backup = boxed(backup).map_request(|_: Act| Act::Succeed).map_response(|_| "backup");
    let timeout = Timeout::after(LIMIT).layer();
    let unnamed = Fallback::unnamed();
    let stack = Stack::new()
        .fallback_to_value("value")
        .timeout(3 * LIMIT)
        .retry(retry().build().unwrap())
        .breaker(patient().build().unwrap())
        .timeout(LIMIT)
        .layer(ServiceErrors);
    vec![
        Case::new("breaker", breaker(patient())),
        Case::new("keyed breaker", patient().build_keyed(1).unwrap().layer(|_: &Act| "key")),
        Case::new("waiting breaker", breaker(patient().when_open(WhenOpen::Wait))),
        Case::new("shadow breaker", breaker(tripping().shadow())),
        Case { attempts: 3, ..Case::new("retry", retry().build().unwrap().layer()) },
        Case::new("timeout", timeout),
        Case {
            readiness: Readiness::Awaited,
            ..Case::new("timeout including readiness", timeout.including_readiness())
        },
        Case::new("fallback to a value", unnamed.to_value("value")).answering(),
        Case::new("fallback to a function", unnamed.to_fn(|_: Outcome| Ok("function"))).answering(),
        Case::new(
            "fallback to an async function",
            unnamed.to_async_fn(|_: Outcome| async { Ok("async") }),
        )
        .answering(),
        Case::new("fallback to a service", unnamed.to_service(BoxCloneSyncService::new(backup)))
            .answering(),
        Case::new("service errors", ServiceErrors),
        Case { attempts: 3, ..Case::new("stack", stack) }.answering(),
    ]
}
