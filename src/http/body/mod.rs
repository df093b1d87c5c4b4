mod end;
mod replay;
mod replay_error;
mod replay_layer;
mod replayed;
mod through;
mod timeout;

pub use replay::ReplayBody;
pub use replay_error::ReplayError;
pub use replay_layer::{ReplayLayer, ReplayService};
pub use replayed::Replayed;
pub use through::{
    ClassifyTrailers, Complete, GuardedBody, ThroughBodyFuture, ThroughBodyLayer,
    ThroughBodyService,
};
pub use timeout::{
    BodyTimeout, BodyTimeoutBuilder, BodyTimeoutConfig, BodyTimeoutFuture, BodyTimeoutLayer,
    BodyTimeoutService, TimeoutBody,
};
