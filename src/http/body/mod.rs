mod end;
mod replay;
mod replay_copies;
mod replay_error;
mod replay_layer;
mod through;
mod timeout;

pub use replay::ReplayBody;
pub use replay_error::ReplayError;
pub use replay_layer::{ReplayLayer, ReplayService};
pub use through::{
    ClassifyTrailers, Complete, GuardedBody, ThroughBodyFuture, ThroughBodyLayer,
    ThroughBodyService,
};
pub use timeout::{
    BodyTimeout, BodyTimeoutBuilder, BodyTimeoutConfig, BodyTimeoutFuture, BodyTimeoutLayer,
    BodyTimeoutService, TimeoutBody,
};
