mod body;
mod future;
mod layer;
mod service;
mod trailers;

pub use body::GuardedBody;
pub use future::ThroughBodyFuture;
pub use layer::ThroughBodyLayer;
pub use service::ThroughBodyService;
pub use trailers::{ClassifyTrailers, Complete};
