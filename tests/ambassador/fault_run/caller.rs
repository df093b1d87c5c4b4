//! Who calls: one request after the other, each with an id, and what became of it.

use std::{
    error::Error,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};

use super::upstream::{Log, answer_to};
use crate::process::PATIENCE;

/// Made whatever time they take: after fewer the upstream has not yet done its worst.
const AT_LEAST: usize = 6000;
pub(super) const STATIC_ANSWER: &str = "sold out, perhaps";

/// What a request ended as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Good,
    Degraded,
    Refused,
    Truncated,
}

impl End {
    pub(super) const ALL: [End; 4] = [End::Good, End::Degraded, End::Refused, End::Truncated];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            End::Good => "good",
            End::Degraded => "degraded",
            End::Refused => "refused",
            End::Truncated => "truncated",
        }
    }
}

#[derive(Clone, Copy)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

type Body = Full<Bytes>;

enum Connection {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

impl Connection {
    async fn new(address: SocketAddr, protocol: Protocol) -> Self {
        let stream = TcpStream::connect(address).await.expect("the ambassador is always there");
        stream.set_nodelay(true).unwrap();
        let stream = TokioIo::new(stream);
        match protocol {
            Protocol::Http1 => {
                let (sender, connection) = http1::handshake(stream).await.unwrap();
                tokio::spawn(connection);
                Connection::Http1(sender)
            }
            Protocol::Http2 => {
                let executor = TokioExecutor::new();
                let (sender, connection) = http2::handshake(executor, stream).await.unwrap();
                tokio::spawn(connection);
                Connection::Http2(sender)
            }
        }
    }

    /// Whether another request can be made. None has been lost by asking.
    async fn ready(&mut self) -> bool {
        match self {
            Connection::Http1(sender) => sender.ready().await.is_ok(),
            Connection::Http2(sender) => sender.ready().await.is_ok(),
        }
    }

    async fn send(&mut self, request: Request<Body>) -> hyper::Result<Response<Incoming>> {
        match self {
            Connection::Http1(sender) => sender.send_request(request).await,
            Connection::Http2(sender) => sender.send_request(request).await,
        }
    }
}

/// Every fourth request is a POST, which must not be made twice.
pub(super) const fn is_payment(id: usize) -> bool {
    id.is_multiple_of(4)
}

pub(super) struct Caller {
    address: SocketAddr,
    protocol: Protocol,
}

impl Caller {
    pub(super) const fn new(address: SocketAddr, protocol: Protocol) -> Self {
        Caller { address, protocol }
    }

    /// Makes the next request as long as there is one, and counts how they ended.
    pub(super) async fn run(
        self,
        next: Arc<AtomicUsize>,
        requests: usize,
        deadline: Option<Instant>,
        log: Arc<Log>,
    ) -> [u64; End::ALL.len()] {
        let mut ends = [0; End::ALL.len()];
        let mut connection = Connection::new(self.address, self.protocol).await;
        let in_time = || deadline.is_none_or(|deadline| Instant::now() < deadline);
        while next.load(Ordering::Relaxed) < AT_LEAST || in_time() {
            let id = next.fetch_add(1, Ordering::Relaxed);
            if id >= requests {
                break;
            }
            while !connection.ready().await {
                connection = Connection::new(self.address, self.protocol).await;
            }
            let request = self.request(id);
            let end = timeout(PATIENCE, ask(&mut connection, id, request, &log)).await;
            ends[end.unwrap_or_else(|_| panic!("request {id} has no end")) as usize] += 1;
        }
        ends
    }

    fn request(&self, id: usize) -> Request<Body> {
        let uri = format!("http://{}/stock/{id}", self.address);
        let request = Request::builder().uri(uri).header("x-request-id", id);
        if is_payment(id) {
            let body = Full::new(Bytes::from(vec![b'p'; 300]));
            request.method("POST").header("host", "stock").body(body).unwrap()
        } else {
            request.header("host", "stock").body(Full::default()).unwrap()
        }
    }
}

/// The answer's body failed before its head had left the ambassador, and took that along. The caller
/// sees that there was one, and that it broke off; that the ambassador counts it so is compared.
fn broke_off(error: &hyper::Error) -> bool {
    let source = error.source().and_then(|source| source.downcast_ref::<h2::Error>());
    let reset = source.is_some_and(|error| {
        error.is_remote() && error.is_reset() && error.reason() == Some(h2::Reason::INTERNAL_ERROR)
    });
    reset || error.is_incomplete_message()
}

/// Makes this request, and sees to it that its answer is what its head says.
async fn ask(connection: &mut Connection, id: usize, request: Request<Body>, log: &Log) -> End {
    let (head, body) = match connection.send(request).await {
        Ok(response) => response.into_parts(),
        Err(error) if broke_off(&error) => return End::Truncated,
        Err(error) => panic!("request {id}: {error:?}"),
    };
    let seen = head.headers["x-request-id"].to_str().unwrap();
    assert_eq!(seen, id.to_string(), "the answer to another request");
    let Ok(body) = body.collect().await else { return End::Truncated };
    let body = body.to_bytes();
    let says = |name: &str, headers: &HeaderMap| {
        headers.get(name).map(|value| value.to_str().unwrap().to_owned())
    };
    let degraded = says("ambassador-degraded", &head.headers);
    let refused = says("ambassador-refused", &head.headers);
    match (refused.as_deref(), degraded.as_deref()) {
        (Some("upstream" | "backup"), None) => {
            assert_eq!(head.status, StatusCode::SERVICE_UNAVAILABLE);
            End::Refused
        }
        (Some(code), None) => {
            assert!(head.status.is_server_error(), "{id}: {code} is {}", head.status);
            let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(problem["code"], code);
            // Only what nobody has seen can be asked for again by anybody.
            if code == "circuit_open" || code == "unreachable" {
                assert!(!is_payment(id) || log.seen(id) == 0, "{id}: {code}, but it was sent");
            }
            End::Refused
        }
        (None, Some("static")) => {
            assert_eq!(body, STATIC_ANSWER);
            assert!(!is_payment(id), "a payment is made or not");
            End::Degraded
        }
        (None, by) => {
            assert_eq!(head.status, 200, "{id}");
            assert_eq!(body, answer_to(id), "{id}");
            assert!(log.seen(id) > 0, "{id} was never seen");
            if by.is_some() { End::Degraded } else { End::Good }
        }
        both => panic!("{id} ended twice: {both:?}"),
    }
}
