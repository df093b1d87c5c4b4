//! Requests sent again over loopback sockets: real servers, real clients, real time.

use std::{
    collections::hash_map::DefaultHasher,
    convert::Infallible,
    hash::Hasher,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use buttress::{
    Backoff, BoxError, Error, Fallback, Jitter, Retry, RetryBudget, ServiceErrors, Stack, Timeout,
    http::{
        Idempotent, ReplayLayer,
        body::{ReplayBody, ReplayError},
    },
};
use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::{Mutex, Notify},
    time::sleep,
};
use tower::{Service, ServiceExt, service_fn as client_fn, util::BoxCloneService};

use crate::{
    script::ms,
    sockets::{hyper_client, raw, read_head},
};

/// What a server saw of one request.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    bytes: usize,
    hash: u64,
    trailers: Option<HeaderMap>,
    complete: bool,
}

/// A hyper server that reads each request to its end and answers with the status of its turn.
async fn reading(statuses: &'static [u16]) -> (SocketAddr, Arc<Mutex<Vec<Seen>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let address = raw(move |_, stream| {
        let log = Arc::clone(&log);
        let service = service_fn(move |request: Request<Incoming>| {
            let log = Arc::clone(&log);
            async move {
                let request = see(request.into_body()).await;
                let mut log = log.lock().await;
                let status = statuses[log.len().min(statuses.len() - 1)];
                log.push(request);
                let mut response = Response::new(Full::new(Bytes::from("read")));
                *response.status_mut() = StatusCode::from_u16(status).unwrap();
                Ok::<_, Infallible>(response)
            }
        });
        async move {
            let connection = hyper::server::conn::http1::Builder::new();
            let _ = connection.serve_connection(TokioIo::new(stream), service).await;
        }
    })
    .await;
    (address, seen)
}

async fn see(mut body: Incoming) -> Seen {
    let mut hasher = DefaultHasher::new();
    let mut seen = Seen { bytes: 0, hash: 0, trailers: None, complete: true };
    while let Some(frame) = body.frame().await {
        match frame.map(Frame::into_data) {
            Ok(Ok(data)) => {
                hasher.write(&data);
                seen.bytes += data.len();
            }
            Ok(Err(frame)) => seen.trailers = frame.into_trailers().ok(),
            Err(_) => {
                seen.complete = false;
                break;
            }
        }
    }
    seen.hash = hasher.finish();
    seen
}

fn put<B>(address: SocketAddr, body: B) -> Request<B> {
    Request::put(format!("http://{address}/")).body(body).unwrap()
}

/// Pieces of a body, each of which counts its bytes for as long as it lives.
#[derive(Clone, Default)]
struct Alive {
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

struct Piece(Vec<u8>, Alive);

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.1.now.fetch_sub(self.0.len(), Ordering::SeqCst);
    }
}

impl Alive {
    fn piece(&self, content: Vec<u8>) -> Bytes {
        let now = self.now.fetch_add(content.len(), Ordering::SeqCst) + content.len();
        self.most.fetch_max(now, Ordering::SeqCst);
        Bytes::from_owner(Piece(content, self.clone()))
    }
}

fn content(number: usize, size: usize) -> Vec<u8> {
    (0..size).map(|place| (number * 31 + place) as u8).collect()
}

type Stream = Pin<Box<dyn Body<Data = Bytes, Error = BoxError> + Send>>;

/// So many pieces of so many bytes, as they are asked for.
fn stream(pieces: usize, size: usize, alive: &Alive) -> Stream {
    let alive = alive.clone();
    let pieces = futures::stream::iter(0..pieces)
        .map(move |number| Ok(Frame::data(alive.piece(content(number, size)))));
    Box::pin(StreamBody::new(pieces))
}

fn hash(pieces: usize, size: usize) -> u64 {
    let mut hasher = DefaultHasher::new();
    for number in 0..pieces {
        hasher.write(&content(number, size));
    }
    hasher.finish()
}

fn retry(name: &'static str) -> Retry {
    let budget = RetryBudget::builder(name).build().unwrap();
    let retry = Retry::builder(name).max_attempts(3).budget(budget);
    retry.backoff(Backoff::constant(ms(5))).build().unwrap()
}

type Uploads<B> =
    BoxCloneService<Request<B>, Response<Incoming>, Error<hyper_util::client::legacy::Error>>;

/// A client that may repeat streaming bodies.
fn uploads(retry: Retry) -> Uploads<Stream> {
    BoxCloneService::new(
        Stack::http()
            .layer(ReplayLayer::new())
            .retry(retry)
            .layer(ServiceErrors)
            .service(hyper_client::<ReplayBody<Stream>>()),
    )
}

#[tokio::test]
async fn a_long_body_goes_through_untouched_and_is_not_retried() {
    const PIECES: usize = 640;
    const SIZE: usize = 16 * 1024;
    let (address, seen) = reading(&[503]).await;
    let (retry, alive) = (retry("long"), Alive::default());
    let mut client = uploads(retry);
    let request = put(address, stream(PIECES, SIZE, &alive));
    let response = client.ready().await.unwrap().call(request).await.unwrap();

    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE, "the only answer there is");
    let seen = seen.lock().await;
    assert_eq!(seen.len(), 1, "sent once");
    assert_eq!((seen[0].bytes, seen[0].complete), (PIECES * SIZE, true), "all of the 10 MiB");
    assert_eq!(seen[0].hash, hash(PIECES, SIZE));
    let counts = retry.counts();
    assert_eq!((counts.retried, counts.uncloneable), (0, 1));
    let most = alive.most.load(Ordering::SeqCst);
    assert!(most < 2 * 1024 * 1024, "{most} bytes of it were in memory at the same time");
}

#[tokio::test]
async fn a_short_streaming_body_is_the_same_in_every_attempt() {
    let (address, seen) = reading(&[503, 503, 200]).await;
    let (retry, alive) = (retry("short"), Alive::default());
    let mut client = uploads(retry);
    let request = put(address, stream(10, 1024, &alive));
    let response = client.ready().await.unwrap().call(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let seen = seen.lock().await;
    assert_eq!(seen.len(), 3);
    for seen in &*seen {
        let whole = Seen { bytes: 10 * 1024, hash: hash(10, 1024), trailers: None, complete: true };
        assert_eq!(*seen, whole);
    }
    assert_eq!(retry.counts().retried, 2);
    assert_eq!(alive.now.load(Ordering::SeqCst), 0, "what was sent is gone");
}

#[tokio::test]
async fn a_body_whose_connection_was_reset_halfway_is_sent_from_its_beginning() {
    const PIECES: usize = 10;
    let halfway = Arc::new(Notify::new());
    let (seen, at_half) = (Arc::new(Mutex::new(Vec::new())), Arc::clone(&halfway));
    let log = Arc::clone(&seen);
    let address = raw(move |number, mut stream| {
        let (log, at_half) = (Arc::clone(&log), Arc::clone(&at_half));
        async move {
            if number == 0 {
                let (_, mut body) = read_head(&mut stream).await;
                while body.len() < 5 * 1024 {
                    let mut piece = [0; 1024];
                    let count = stream.read(&mut piece).await.unwrap();
                    body.extend_from_slice(&piece[..count]);
                }
                stream.set_zero_linger().unwrap(); // Dropped, it is reset.
                at_half.notify_one();
                return;
            }
            let service = service_fn(move |request: Request<Incoming>| {
                let log = Arc::clone(&log);
                async move {
                    log.lock().await.push(see(request.into_body()).await);
                    Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
                }
            });
            let connection = hyper::server::conn::http1::Builder::new();
            let _ = connection.serve_connection(TokioIo::new(stream), service).await;
        }
    })
    .await;
    // The second half comes only after the reset.
    let pieces = futures::stream::iter(0..PIECES).then(move |number| {
        let halfway = Arc::clone(&halfway);
        async move {
            if number == PIECES / 2 + 1 {
                halfway.notified().await;
                sleep(ms(20)).await;
            }
            Ok(Frame::data(Bytes::from(content(number, 1024))))
        }
    });
    let retry = retry("reset");
    let body: Stream = Box::pin(StreamBody::new(pieces));
    let response = uploads(retry).ready().await.unwrap().call(put(address, body)).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(retry.counts().retried, 1);
    let seen = seen.lock().await;
    assert_eq!((seen[0].bytes, seen[0].hash), (PIECES * 1024, hash(PIECES, 1024)));
}

#[tokio::test]
async fn trailers_are_sent_again_too() {
    let (address, seen) = reading(&[503, 200]).await;
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "42".parse().unwrap());
    let frames = [Ok(Frame::data(Bytes::from("body"))), Ok(Frame::trailers(trailers.clone()))];
    let body: Stream = Box::pin(StreamBody::new(futures::stream::iter(frames)));
    let mut request = put(address, body);
    request.headers_mut().insert("trailer", "x-sum".parse().unwrap());
    let response = uploads(retry("trailers")).oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let seen = seen.lock().await;
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(|seen| seen.trailers.as_ref() == Some(&trailers)), "{seen:?}");
}

/// An attempt is given up by a timeout while hyper's connection task still sends its body: the next
/// attempt gets all of the body, and the server of the first sees a request that was cut off.
#[tokio::test]
async fn an_attempt_that_was_given_up_leaves_the_body_to_the_next() {
    const PIECES: usize = 12;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let address = raw(move |number, stream| {
        let log = Arc::clone(&log);
        let service = service_fn(move |request: Request<Incoming>| {
            let log = Arc::clone(&log);
            async move {
                let seen = see(request.into_body()).await;
                log.lock().await.push((number, seen));
                Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
            }
        });
        async move {
            let connection = hyper::server::conn::http1::Builder::new();
            let _ = connection.serve_connection(TokioIo::new(stream), service).await;
        }
    })
    .await;
    // 120 ms for all of it, and the first attempt has 50.
    let pieces = futures::stream::iter(0..PIECES).then(|number| async move {
        sleep(ms(10)).await;
        Ok(Frame::data(Bytes::from(content(number, 1024))))
    });
    let body: Stream = Box::pin(StreamBody::new(pieces));
    let retry = retry("given up");
    let attempts = Arc::new(AtomicUsize::new(0));
    let limited = client_fn(move |request: Request<ReplayBody<Stream>>| {
        let first = attempts.fetch_add(1, Ordering::SeqCst) == 0;
        let limit = Timeout::after(if first { ms(50) } else { ms(5000) });
        let client = hyper_client::<ReplayBody<Stream>>();
        limit.call(move || async move { client.request(request).await.map_err(Error::Service) })
    });
    let mut client =
        Stack::new().clone_with(Idempotent).layer(ReplayLayer::new()).retry(retry).service(limited);
    let response = client.ready().await.unwrap().call(put(address, body)).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(retry.counts().retried, 1);
    sleep(ms(50)).await;
    let seen = seen.lock().await;
    let second = seen.iter().find(|(number, _)| *number == 1).unwrap();
    assert_eq!((second.1.bytes, second.1.hash), (PIECES * 1024, hash(PIECES, 1024)));
    let first = seen.iter().find(|(number, _)| *number == 0).unwrap();
    assert!(!first.1.complete, "cut off, not complete and shorter: {first:?}");
}

/// The server answers at once and does not read; hyper goes on sending. By the time of the next
/// attempt the body is past what is kept, so the answer there is, is the answer.
#[tokio::test]
async fn a_body_that_gets_too_far_during_the_backoff_is_not_sent_again() {
    let address = raw(|_, mut stream| async move {
        read_head(&mut stream).await;
        let answer = "HTTP/1.1 503 Not Now\r\ncontent-length: 100\r\n\r\nhalf";
        stream.write_all(answer.as_bytes()).await.unwrap();
        let mut sink = vec![0; 65536];
        while stream.read(&mut sink).await.is_ok_and(|count| count > 0) {}
    })
    .await;
    let pieces = futures::stream::iter(0..1000).then(|number| async move {
        sleep(ms(2)).await;
        Ok(Frame::data(Bytes::from(content(number, 4096))))
    });
    let body: Stream = Box::pin(StreamBody::new(pieces));
    let retry = Retry::builder("too far").max_attempts(2);
    let backoff = Backoff::constant(ms(300)).jitter(Jitter::None);
    let retry = retry.backoff(backoff).build().unwrap();
    let response = uploads(retry).oneshot(put(address, body)).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(retry.counts().retried, 0);
    assert_eq!(retry.counts().uncloneable, 1);
}

#[tokio::test]
async fn a_backup_gets_no_body_that_the_primary_got_too_far_with() {
    let (primary, _) = reading(&[503]).await;
    let (backup, at_backup) = reading(&[200]).await;
    for (pieces, status, uncloneable) in [(10, 200, 0), (100, 503, 1)] {
        let fallback = Fallback::builder("uploads").build().unwrap();
        // As a client would that knows of another server.
        let elsewhere = tower::ServiceBuilder::new()
            .layer(ServiceErrors)
            .map_request(move |request: Request<ReplayBody<Stream>>| {
                put(backup, request.into_body())
            })
            .service(hyper_client());
        let client = Stack::http()
            .layer(ReplayLayer::new())
            .named_fallback_to(fallback, elsewhere)
            .layer(ServiceErrors)
            .service(hyper_client());
        let request = put(primary, stream(pieces, 1024, &Alive::default()));
        let response = client.oneshot(request).await.unwrap();
        assert_eq!(response.status(), status);
        assert_eq!(fallback.counts().uncloneable, uncloneable);
    }
    let at_backup = at_backup.lock().await;
    assert_eq!(at_backup.len(), 1);
    assert_eq!((at_backup[0].bytes, at_backup[0].hash), (10 * 1024, hash(10, 1024)));
}

#[tokio::test]
async fn a_body_of_any_length_is_sent_again_where_nothing_was_read_of_it() {
    // Bound and not listening: refused.
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (address, seen) = reading(&[200]).await;
    let retry = retry("refused");
    let attempts = Arc::new(AtomicUsize::new(0));
    let client = tower::ServiceBuilder::new()
        .layer(ServiceErrors)
        .map_request(move |request: Request<ReplayBody<Stream>>| {
            let refused = attempts.fetch_add(1, Ordering::SeqCst) == 0;
            let to = if refused { nobody } else { address };
            Request::post(format!("http://{to}/")).body(request.into_body()).unwrap()
        })
        .service(hyper_client());
    let client = Stack::http().layer(ReplayLayer::new()).retry(retry).service(client);
    // A POST, too, for nobody has seen it.
    let body = stream(100, 16 * 1024, &Alive::default());
    let request = Request::post(format!("http://{address}/")).body(body).unwrap();
    assert_eq!(client.oneshot(request).await.unwrap().status(), StatusCode::OK);
    assert_eq!(retry.counts().retried, 1);
    assert_eq!(seen.lock().await[0].hash, hash(100, 16 * 1024));
}

#[tokio::test]
async fn a_client_s_error_says_why_a_body_could_not_be_sent_again() {
    let (address, _) = reading(&[200]).await;
    let mut first = ReplayBody::new(stream(2, 1024, &Alive::default()), 16);
    let second = first.try_clone().unwrap();
    let _ = first.frame().await;
    let error = hyper_client().request(put(address, second)).await.unwrap_err();
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    let found = loop {
        let error = source.expect("somewhere along the sources");
        if let Some(found) = error.downcast_ref::<ReplayError>() {
            break *found;
        }
        source = error.source();
    };
    assert_eq!(found, ReplayError::TooLong { limit: 16 });
}
