//! `--drive`: requests at a fixed rate, for measuring.
//!
//! Open loop: when a request is due does not depend on the one before it, and its latency is counted
//! from when it was due. A server that stops for a second is so seen by all who would have called
//! meanwhile, and not by one who waits in their place (Gil Tene calls that coordinated omission).
//!
//! Threads and blocking sockets, because tokio's timers know no less than a millisecond.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::{
    error::Error,
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    thread,
    time::{Duration, Instant},
};

use http::Uri;

const CONNECTIONS: u32 = 32;
/// Until all threads are there and connected.
const LEAD: Duration = Duration::from_millis(500);

/// What one connection has to do.
#[derive(Clone, Copy)]
struct Schedule {
    /// When the first request is due.
    first: Instant,
    /// From one request to the next.
    every: Duration,
    requests: u32,
}

/// `URL RATE SECONDS [CONNECTIONS]`
pub(crate) fn run(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let (url, rate, seconds, connections) = match arguments {
        [url, rate, seconds] => (url, rate, seconds, CONNECTIONS),
        [url, rate, seconds, connections] => (url, rate, seconds, connections.parse()?),
        _ => return Err("--drive URL RATE SECONDS [CONNECTIONS]".into()),
    };
    let (rate, seconds): (u32, u32) = (rate.parse()?, seconds.parse()?);
    let url: Uri = url.parse()?;
    let start = Instant::now() + LEAD;
    let threads: Vec<_> = (0..connections)
        .map(|number| {
            let url = url.clone();
            let schedule = Schedule {
                first: start + Duration::from_secs(1) * number / rate,
                every: Duration::from_secs(1) * connections / rate,
                requests: rate * seconds / connections,
            };
            thread::spawn(move || drive(&url, schedule))
        })
        .collect();
    let mut latencies = Vec::new();
    let mut failed = 0;
    for thread in threads {
        let (measured, failures) = thread.join().map_err(|_| "a thread has panicked")??;
        latencies.extend(measured);
        failed += failures;
    }
    latencies.sort_unstable();
    let at = |quantile: f64| {
        let index = (latencies.len() as f64 * quantile) as usize;
        let latency = latencies.get(index.min(latencies.len().saturating_sub(1)));
        latency.map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e6)
    };
    println!(
        "requests {} failed {failed} p50_us {:.0} p90_us {:.0} p99_us {:.0} p999_us {:.0} max_us {:.0}",
        latencies.len(),
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999),
        at(1.0),
    );
    Ok(())
}

/// The latencies of one connection's requests, and how many of them were not answered with a 200.
fn drive(url: &Uri, schedule: Schedule) -> io::Result<(Vec<Duration>, u32)> {
    let authority = url.authority().map_or("", |authority| authority.as_str());
    let address = authority.to_socket_addrs()?.next().ok_or(io::ErrorKind::NotFound)?;
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    let request = format!("GET {} HTTP/1.1\r\nHost: {authority}\r\n\r\n", url.path());
    let mut latencies = Vec::with_capacity(schedule.requests as usize);
    let mut failed = 0;
    for number in 0..schedule.requests {
        let due = schedule.first + schedule.every * number;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        stream.get_mut().write_all(request.as_bytes())?;
        failed += u32::from(read_response(&mut stream)? != 200);
        latencies.push(due.elapsed());
    }
    Ok((latencies, failed))
}

/// Reads a response that states its length, and gives back its status.
fn read_response(stream: &mut BufReader<TcpStream>) -> io::Result<u16> {
    let wrong = || io::Error::from(io::ErrorKind::InvalidData);
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(wrong)?;
    let mut length = None;
    loop {
        line.clear();
        stream.read_line(&mut line)?;
        if line.trim_end().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok();
        }
    }
    let mut body = vec![0; length.ok_or_else(wrong)?];
    stream.read_exact(&mut body)?;
    Ok(status)
}
