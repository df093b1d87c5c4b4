//! A port for a broker of one's own.

use std::{
    io,
    net::{Ipv4Addr, TcpListener},
    process,
    sync::atomic::{AtomicU16, Ordering},
};

/// Below those that the system gives to whoever connects (from 32 768 on Linux, higher elsewhere): while
/// the broker is down nobody else gets its port, nor does a client that tries to reach it end up
/// connected to itself.
const FIRST: u16 = 12_000;
const COUNT: u16 = 20_000;

/// One of the loopback interface that nobody has now. Should somebody take it before the broker does,
/// that ends at once and says so.
pub(crate) fn free() -> io::Result<u16> {
    /// No two of one process are the same; those of two processes are far apart.
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    let far = (u64::from(process::id()) * 97 % u64::from(COUNT)) as u16;
    for _ in 0..COUNT {
        let near = GIVEN.fetch_add(1, Ordering::Relaxed) % COUNT;
        let port = FIRST + (far + near) % COUNT;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}
