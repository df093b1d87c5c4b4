//! placeholder
mod reason;
mod state;
pub use reason::OpenReason;
pub use state::State;
