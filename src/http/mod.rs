//! HTTP: what a response means, which requests may be repeated, and refusals as responses.

pub mod body;

mod connections;
mod context;
mod failure;
mod grpc_timeout;
mod hints;
mod idempotent;
mod inbound;
mod message;
mod propagate;
mod propagation;
mod refusals;
mod responses;
mod stack;

pub use body::{BodyTimeout, BodyTimeoutConfig, ReplayBody, ReplayLayer};
pub use connections::Connections;
pub use context::ExtensionContext;
pub use failure::{ClientError, Failure};
pub use hints::{MAX_HINT, retry_after};
pub use idempotent::{Idempotent, IdempotentOr, Repeatable};
pub use inbound::{InboundLayer, InboundService};
pub use message::{RequestHead, ResponseHead};
pub use propagate::{PropagateFuture, PropagateLayer, PropagateService};
pub use refusals::{Refusals, RefusalsFuture, RefusalsService, refusal_response};
pub use responses::Responses;
