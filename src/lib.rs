//! placeholder
#![cfg_attr(docsrs, feature(doc_cfg))]

mod cell;
mod clock;
mod ready_call;
mod request;
mod stack;
mod sync;
mod telemetry;

pub mod backoff;
pub mod breaker;
pub mod error;
pub mod fallback;
pub mod retry;
pub mod timeout;
pub mod verdict;

pub use backoff::{Backoff, Jitter};
pub use breaker::{CircuitBreaker, CircuitBreakerConfig, Window};
pub use error::{
    BoxError, ConfigError, Error, PolicyError, PolicyErrorKind, ServiceErrors, StackError,
};
pub use fallback::{Fallback, FallbackConfig};
pub use ready_call::ReadyCall;
pub use request::{CloneRequest, Cloned};
pub use retry::{Retry, RetryBudget, RetryConfig};
pub use stack::Stack;
pub use timeout::{Timeout, TimeoutConfig};
pub use verdict::{
    Classify, ClassifyResponse, Errors, FailureKind, Verdict, VerdictKind, classify_fn,
    classify_response,
};
