//! placeholder
#![cfg_attr(docsrs, feature(doc_cfg))]

mod cell;
mod clock;
mod request;
mod sync;
mod telemetry;

pub mod backoff;
pub mod breaker;
pub mod error;
pub mod verdict;

pub use breaker::{CircuitBreaker, CircuitBreakerConfig, Window};
pub use backoff::{Backoff, Jitter};
pub use error::{
    BoxError, ConfigError, Error, PolicyError, PolicyErrorKind, ServiceErrors, StackError,
};
pub use request::{CloneRequest, Cloned};
pub use verdict::{
    Classify, ClassifyResponse, Errors, FailureKind, Verdict, VerdictKind, classify_fn,
    classify_response,
};
