//! Bodies: sent again, limited in time, watched by a breaker. Time is paused where the bodies are
//! written by hand, and real where the network is.

#![cfg(feature = "http")]

#[path = "http_bodies/costs.rs"]
mod costs;
#[path = "http_bodies/network.rs"]
mod network;
#[path = "http_bodies/replay.rs"]
mod replay;
#[path = "http_bodies/script.rs"]
mod script;
#[path = "http_bodies/through.rs"]
mod through;
#[path = "http_bodies/timeout.rs"]
mod timeout;
