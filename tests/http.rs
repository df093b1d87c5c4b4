//! HTTP and gRPC, with the real clients against real servers on the loopback interface.
//!
//! Real sockets and paused time do not mix: these tests take real, short times.

#![cfg(all(feature = "h2", feature = "hyper-util", feature = "reqwest", feature = "tonic"))]

#[path = "http/connections.rs"]
mod connections;
#[path = "http/grpc.rs"]
mod grpc;
#[path = "http/http2.rs"]
mod http2;
#[path = "http/idempotent.rs"]
mod idempotent;
#[path = "http/responses.rs"]
mod responses;
#[path = "http/servers.rs"]
mod servers;
#[path = "http/stacks.rs"]
mod stacks;
