mod body;
mod config;
mod future;
mod handle;
mod layer;
mod watch;

pub use body::TimeoutBody;
pub use config::{BodyTimeoutBuilder, BodyTimeoutConfig};
pub use future::BodyTimeoutFuture;
pub use handle::BodyTimeout;
pub use layer::{BodyTimeoutLayer, BodyTimeoutService};
