//! The example `ambassador` as it is run: a process of its own, real sockets on both sides.
#![cfg(all(
    feature = "h2",
    feature = "hyper-util",
    feature = "metrics",
    feature = "reqwest",
    feature = "serde",
    feature = "tracing"
))]

#[path = "ambassador/admin.rs"]
mod admin;
#[path = "ambassador/fault_run/mod.rs"]
mod fault_run;
#[path = "ambassador/outages.rs"]
mod outages;
#[path = "ambassador/process.rs"]
mod process;
#[path = "ambassador/proxy.rs"]
mod proxy;
#[path = "http/servers.rs"]
mod servers;
#[path = "ambassador/shutdown.rs"]
mod shutdown;
#[path = "ambassador/tls.rs"]
mod tls;
