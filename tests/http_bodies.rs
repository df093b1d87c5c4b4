//! Bodies: sent again, limited in time, watched by a breaker. Time is paused where the bodies are
//! written by hand, and real where the network is.

#![cfg(feature = "http")]

#[path = "http_bodies/costs.rs"]
mod costs;
#[path = "http_bodies/replay.rs"]
mod replay;
#[path = "http_bodies/requests.rs"]
mod requests;
#[path = "http_bodies/responses.rs"]
mod responses;
#[path = "http_bodies/script.rs"]
mod script;
#[path = "http_bodies/sockets.rs"]
mod sockets;
#[path = "support/mod.rs"]
mod support;
#[path = "http_bodies/through.rs"]
mod through;
#[path = "http_bodies/timeout.rs"]
mod timeout;
