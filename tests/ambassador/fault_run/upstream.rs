//! An upstream of sockets and bytes, for servers do not fail like this when asked to.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    time::sleep,
};

/// Which requests have been seen, by their ids.
pub(super) struct Log {
    seen: Vec<AtomicU8>,
    arrivals: AtomicUsize,
    faults: AtomicUsize,
}

impl Log {
    pub(super) fn new(requests: usize) -> Arc<Self> {
        let seen = (0..requests).map(|_| AtomicU8::new(0)).collect();
        Arc::new(Log { seen, arrivals: AtomicUsize::new(0), faults: AtomicUsize::new(0) })
    }

    pub(super) fn seen(&self, id: usize) -> u8 {
        self.seen[id].load(Relaxed)
    }

    pub(super) fn arrivals(&self) -> usize {
        self.arrivals.load(Relaxed)
    }

    pub(super) fn faults(&self) -> usize {
        self.faults.load(Relaxed)
    }

    /// The ids that were seen more than once, of those that this is true of.
    pub(super) fn repeated(&self, of: impl Fn(usize) -> bool) -> Vec<usize> {
        (0..self.seen.len()).filter(|id| of(*id) && self.seen(*id) > 1).collect()
    }
}

#[derive(Clone, Copy)]
pub(super) enum Manner {
    /// Well for most of the time, and then in turn everything that can go wrong.
    Faulty,
    /// Every third answer is a 503.
    Unwilling,
}

/// What is done with a request that has been read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    Slow,
    Unavailable,
    Close,
    Reset,
    ResetHalfway,
    Stall,
    StallHalfway,
    /// The listener goes away for a while, with all connections.
    Down,
}

impl Manner {
    fn fault(self, number: usize) -> Fault {
        match self {
            Manner::Unwilling if number.is_multiple_of(3) => Fault::Unavailable,
            Manner::Unwilling => Fault::None,
            Manner::Faulty => match number % 4000 {
                100 | 1100 | 2100 => Fault::Reset,
                200 | 1200 | 2200 => Fault::ResetHalfway,
                300 | 1300 => Fault::Stall,
                400 | 1400 => Fault::StallHalfway,
                500 | 1500 | 2500 => Fault::Close,
                600..630 => Fault::Slow,
                1700..1705 | 2800..2870 => Fault::Unavailable,
                3500 => Fault::Down,
                _ => Fault::None,
            },
        }
    }
}

/// The body that answers this id.
pub(super) fn answer_to(id: usize) -> Bytes {
    let mut body = BytesMut::from(format!("id={id}\n").as_bytes());
    body.resize(2048, b'.');
    body.freeze()
}

struct Upstream {
    manner: Manner,
    number: AtomicUsize,
    down: AtomicBool,
    log: Arc<Log>,
}

const OUTAGE: Duration = Duration::from_millis(150);

/// Starts one, and says where.
pub(super) async fn start(manner: Manner, log: Arc<Log>) -> SocketAddr {
    let mut listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let down = AtomicBool::new(false);
    let upstream = Arc::new(Upstream { manner, number: AtomicUsize::new(0), down, log });
    tokio::spawn(async move {
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let (stream, _) = accepted.unwrap();
                    tokio::spawn(Arc::clone(&upstream).serve(stream));
                }
                () = sleep(Duration::from_millis(5)), if upstream.down.load(Relaxed) => {
                    drop(listener);
                    sleep(OUTAGE).await;
                    let socket = TcpSocket::new_v4().unwrap();
                    socket.set_reuseaddr(true).unwrap();
                    socket.bind(address).unwrap();
                    listener = socket.listen(1024).unwrap();
                    upstream.down.store(false, Relaxed);
                }
            }
        }
    });
    address
}

impl Upstream {
    async fn serve(self: Arc<Self>, mut stream: TcpStream) {
        stream.set_nodelay(true).unwrap();
        let mut read = BytesMut::with_capacity(4096);
        // Until the ambassador, or a fault, closes the connection.
        while let Some(id) = next_request(&mut stream, &mut read).await {
            self.log.seen[id].fetch_add(1, Relaxed);
            self.log.arrivals.fetch_add(1, Relaxed);
            let number = self.number.fetch_add(1, Relaxed);
            let fault = self.manner.fault(number);
            if fault != Fault::None {
                self.log.faults.fetch_add(1, Relaxed);
            }
            if self.down.load(Relaxed) || !self.answer(&mut stream, id, fault).await {
                return;
            }
        }
    }

    /// Whether the connection can be used again.
    async fn answer(&self, stream: &mut TcpStream, id: usize, fault: Fault) -> bool {
        let answer = answer(id);
        let half = &answer[..answer.len() / 2];
        match fault {
            Fault::None => return stream.write_all(&answer).await.is_ok(),
            Fault::Slow => {
                sleep(Duration::from_millis(20)).await;
                return stream.write_all(&answer).await.is_ok();
            }
            Fault::Unavailable => {
                let answer = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy";
                return stream.write_all(answer).await.is_ok();
            }
            Fault::Close => {}
            Fault::Reset => reset(stream),
            Fault::ResetHalfway => {
                let _ = stream.write_all(half).await;
                // It must be on its way before the reset overtakes it.
                sleep(Duration::from_millis(5)).await;
                reset(stream);
            }
            Fault::Stall => hold(stream).await,
            Fault::StallHalfway => {
                let _ = stream.write_all(half).await;
                hold(stream).await;
            }
            Fault::Down => self.down.store(true, Relaxed),
        }
        false
    }
}

/// The whole answer, every second one in chunks.
fn answer(id: usize) -> Vec<u8> {
    let body = answer_to(id);
    let mut answer = Vec::with_capacity(body.len() + 100);
    if id.is_multiple_of(2) {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        answer.extend_from_slice(head.as_bytes());
        answer.extend_from_slice(&body);
    } else {
        let head =
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n", body.len());
        answer.extend_from_slice(head.as_bytes());
        answer.extend_from_slice(&body);
        answer.extend_from_slice(b"\r\n0\r\n\r\n");
    }
    answer
}

/// Reads a request to its end and gives back its id; `None` when there are no more.
async fn next_request(stream: &mut TcpStream, read: &mut BytesMut) -> Option<usize> {
    loop {
        if let Some(end) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let head = read.split_to(end + 4);
            let head = str::from_utf8(&head).unwrap().to_ascii_lowercase();
            let field = |name: &str| {
                let line = head.lines().find_map(|line| line.strip_prefix(name))?;
                Some(line.trim().parse::<usize>().unwrap())
            };
            let length = field("content-length:").unwrap_or(0);
            while read.len() < length {
                if stream.read_buf(read).await.unwrap_or(0) == 0 {
                    return None;
                }
            }
            let _ = read.split_to(length);
            return Some(field("x-request-id:").expect("every request has an id"));
        }
        if stream.read_buf(read).await.unwrap_or(0) == 0 {
            return None;
        }
    }
}

/// Says nothing any more until the other side has had enough.
async fn hold(stream: &mut TcpStream) {
    let _ = stream.read_u8().await;
}

/// Closes with RST instead of FIN. (Deprecated because it may block, but not with a zero.)
#[allow(deprecated)]
fn reset(stream: &TcpStream) {
    let _ = stream.set_linger(Some(Duration::ZERO));
}
