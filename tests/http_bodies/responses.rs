//! Responses watched to their end over loopback sockets: real servers, real clients, real time.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use buttress::{
    BoxError, CircuitBreaker, PolicyErrorKind, ServiceErrors, Stack, StackError, Verdict, Window,
    breaker::State, http::BodyTimeout,
};
use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use tokio::{
    io::AsyncWriteExt,
    time::{Instant, sleep},
};
use tower::{Service, ServiceExt};

use crate::{
    script::ms,
    sockets::{hyper_client, raw, read_head},
};

/// Answers each connection's first request with these bytes, and then does this.
async fn answering(head_and_body: &'static str, then: Then) -> SocketAddr {
    raw(move |_, mut stream| async move {
        read_head(&mut stream).await;
        stream.write_all(head_and_body.as_bytes()).await.unwrap();
        match then {
            Then::Hang => sleep(Duration::from_secs(60)).await,
            Then::Reset => {
                sleep(ms(30)).await;
                stream.set_zero_linger().unwrap(); // Dropped, it is reset.
            }
            Then::Close => {}
        }
    })
    .await
}

#[derive(Clone, Copy)]
enum Then {
    Hang,
    Reset,
    Close,
}

fn get(address: SocketAddr) -> Request<Empty<Bytes>> {
    Request::get(format!("http://{address}/")).body(Empty::new()).unwrap()
}

const HALF: &str = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf!";

/// Trips at the second failure of two.
fn breaker() -> CircuitBreaker {
    let breaker = CircuitBreaker::builder("downloads").window(Window::calls(10));
    breaker.min_calls(2).failure_ratio(1.0).probes(1).build().unwrap()
}

fn stall(time: Duration) -> BodyTimeout {
    BodyTimeout::builder("downloads").stall(time).build().unwrap()
}

#[tokio::test]
async fn a_stalled_body_times_out_and_trips_the_breaker() {
    let address = answering(HALF, Then::Hang).await;
    let breaker = breaker();
    let mut client = Stack::http()
        .breaker_through_body(breaker)
        .layer(stall(ms(100)).layer())
        .layer(ServiceErrors)
        .service(hyper_client());
    for _ in 0..2 {
        assert_eq!(breaker.state(), State::Closed);
        let response = client.ready().await.unwrap().call(get(address)).await.unwrap();
        let start = Instant::now();
        let error = response.into_body().collect().await.unwrap_err();
        assert_eq!(error.policy_error().unwrap().kind(), PolicyErrorKind::TimedOut, "{error}");
        assert!((ms(100)..ms(1000)).contains(&start.elapsed()), "{:?}", start.elapsed());
    }
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test]
async fn a_slow_reader_is_not_blamed() {
    const PIECES: usize = 5;
    let piece = Arc::new(vec![7; 200_000]);
    let whole = Arc::clone(&piece);
    let address = raw(move |_, mut stream| {
        let piece = Arc::clone(&whole);
        async move {
            read_head(&mut stream).await;
            let head =
                format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", PIECES * piece.len());
            stream.write_all(head.as_bytes()).await.unwrap();
            for _ in 0..PIECES {
                stream.write_all(&piece).await.unwrap();
            }
        }
    })
    .await;
    let breaker = breaker();
    let mut client = Stack::http()
        .breaker_through_body(breaker)
        .layer(stall(ms(50)).layer())
        .layer(ServiceErrors)
        .service(hyper_client());
    let response = client.ready().await.unwrap().call(get(address)).await.unwrap();
    let mut body = Box::pin(response.into_body());
    let (mut read, mut naps) = (0, 0);
    while let Some(frame) = body.frame().await {
        read += frame.unwrap().into_data().unwrap().len();
        if naps < 3 {
            naps += 1;
            sleep(ms(150)).await;
        }
    }
    assert_eq!(read, PIECES * piece.len());
    assert!(naps > 1, "it came all at once");
    let snapshot = breaker.snapshot();
    assert_eq!((snapshot.calls, snapshot.failures), (1, 0));
}

#[tokio::test]
async fn a_reset_in_mid_body_is_a_failure_with_the_guard_and_a_success_without() {
    let address = answering(HALF, Then::Reset).await;
    let (guarded, unguarded) = (breaker(), breaker());
    let mut with =
        Stack::http().breaker_through_body(guarded).layer(ServiceErrors).service(hyper_client());
    let response = with.ready().await.unwrap().call(get(address)).await.unwrap();
    assert!(response.into_body().collect().await.is_err());
    let mut without = Stack::http().breaker(unguarded).layer(ServiceErrors).service(hyper_client());
    let response = without.ready().await.unwrap().call(get(address)).await.unwrap();
    assert!(response.into_body().collect().await.is_err());

    let (with, without) = (guarded.snapshot(), unguarded.snapshot());
    assert_eq!((with.calls, with.failures), (1, 1));
    assert_eq!((without.calls, without.failures), (1, 0));
}

#[tokio::test]
async fn law_03_a_reader_that_goes_away_gives_its_probe_back() {
    let address = answering(HALF, Then::Hang).await;
    let breaker = breaker();
    breaker.force_open("for the test", Some(Duration::ZERO));
    let mut client =
        Stack::http().breaker_through_body(breaker).layer(ServiceErrors).service(hyper_client());
    for _ in 0..3 {
        let response = client.ready().await.unwrap().call(get(address)).await.unwrap();
        let mut body = response.into_body();
        let _ = body.frame().await;
        assert_eq!(breaker.snapshot().probes.unwrap().outstanding, 1);
        drop(body);
        let probes = breaker.snapshot().probes.unwrap();
        assert_eq!((probes.outstanding, probes.succeeded, probes.failed), (0, 0, 0));
    }
}

#[tokio::test]
async fn a_grpc_status_in_chunked_trailers_counts() {
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\
        trailer: grpc-status\r\n\r\n4\r\nhalf\r\n0\r\ngrpc-status: 14\r\n\r\n";
    let address = answering(CHUNKED, Then::Close).await;
    let breaker = breaker();
    let layer = breaker.layer().through_body_with(|trailers: &HeaderMap| {
        let ok = trailers.get("grpc-status").is_some_and(|status| status == "0");
        if ok { Verdict::Success } else { Verdict::Transient }
    });
    let mut client = Stack::new().layer(layer).layer(ServiceErrors).service(hyper_client());
    let mut request = get(address);
    request.headers_mut().insert("te", "trailers".parse().unwrap());
    let response = client.ready().await.unwrap().call(request).await.unwrap();
    assert_eq!(breaker.snapshot().calls, 0);
    let body = response.into_body().collect().await.unwrap();
    assert_eq!(body.trailers().unwrap()["grpc-status"], "14");
    let snapshot = breaker.snapshot();
    assert_eq!((snapshot.calls, snapshot.failures), (1, 1));
}

/// Over HTTP/2 as gRPC has it: the classifier that knows its statuses reads the trailers by itself.
#[cfg(feature = "tonic")]
#[tokio::test]
async fn grpc_over_http2_is_judged_by_its_status() {
    let address = raw(|_, stream| async move {
        let service = service_fn(|request: Request<Incoming>| async move {
            let mut trailers = HeaderMap::new();
            let mut response = Response::builder();
            let mut frames = vec![Ok(Frame::data(Bytes::from("message")))];
            match request.uri().path().split_at(1).1 {
                "reset" => frames.push(Err(std::io::Error::other("reset"))),
                "silent" => {}
                "at-once" => {
                    response = response.header("grpc-status", "14");
                    frames.clear();
                }
                status => {
                    trailers.insert("grpc-status", status.parse().unwrap());
                    frames.push(Ok(Frame::trailers(trailers)));
                }
            }
            let frames =
                futures::stream::iter(frames).then(|frame: Result<_, std::io::Error>| async move {
                    if frame.is_err() {
                        sleep(ms(30)).await; // Or it would overtake the head.
                    }
                    frame
                });
            Ok::<_, Infallible>(response.body(StreamBody::new(frames)).unwrap())
        });
        let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let _ = connection.serve_connection(TokioIo::new(stream), service).await;
    })
    .await;
    let client: Client<HttpConnector, Empty<Bytes>> =
        Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    for (path, failures) in
        [("0", 0), ("5", 0), ("14", 1), ("at-once", 1), ("silent", 1), ("reset", 1)]
    {
        let breaker = breaker();
        let client = Stack::classified(buttress::grpc::Statuses::new())
            .breaker_through_body(breaker)
            .layer(ServiceErrors)
            .service(client.clone());
        let request = Request::get(format!("http://{address}/{path}")).body(Empty::new()).unwrap();
        let response = client.oneshot(request).await.unwrap();
        let read = response.into_body().collect().await;
        assert_eq!(read.is_err(), path == "reset");
        let snapshot = breaker.snapshot();
        assert_eq!((snapshot.calls, snapshot.failures), (1, failures), "{path}");
    }
}

/// A proxy from HTTP/1.1 to HTTP/2: hyper's server writes as many bytes as were stated and drops the
/// body then, and hyper's client knows of its end only by a frame that comes after them.
#[tokio::test]
async fn a_length_that_a_proxy_has_passed_on_is_a_body_read_to_its_end() {
    let upstream = raw(|_, stream| async move {
        let service = service_fn(|_: Request<Incoming>| async move {
            // Its end is a piece of nothing, which comes later.
            let pieces = ["good", "news", ""].map(Bytes::from);
            let frames = futures::stream::iter(pieces).then(|piece| async move {
                sleep(ms(if piece.is_empty() { 50 } else { 10 })).await;
                Ok::<_, Infallible>(Frame::data(piece))
            });
            let response = Response::builder().header("content-length", "8");
            Ok::<_, Infallible>(response.body(StreamBody::new(frames)).unwrap())
        });
        let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let _ = connection.serve_connection(TokioIo::new(stream), service).await;
    })
    .await;
    let breaker = breaker();
    let proxy = raw(move |_, stream| async move {
        let client: Client<HttpConnector, Empty<Bytes>> =
            Client::builder(TokioExecutor::new()).http2_only(true).build_http();
        let client =
            Stack::http().breaker_through_body(breaker).layer(ServiceErrors).service(client);
        let service = service_fn(move |_: Request<Incoming>| {
            let request = Request::get(format!("http://{upstream}/")).body(Empty::new()).unwrap();
            let client = client.clone();
            async move {
                let response = client.oneshot(request).await.map_err(std::io::Error::other)?;
                Ok::<_, std::io::Error>(response.map(Box::pin))
            }
        });
        let connection = hyper::server::conn::http1::Builder::new();
        let _ = connection.serve_connection(TokioIo::new(stream), service).await;
    })
    .await;
    let response = hyper_client().request(get(proxy)).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "goodnews");
    sleep(ms(100)).await;
    assert_eq!(breaker.snapshot().calls, 1);
}

#[tokio::test]
async fn responses_without_a_body_are_over_with_their_head() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n";
    let no_content = "HTTP/1.1 204 No Content\r\n\r\n";
    let (head, no_content) =
        (answering(head, Then::Hang).await, answering(no_content, Then::Hang).await);
    let breaker = breaker();
    let mut client =
        Stack::http().breaker_through_body(breaker).layer(ServiceErrors).service(hyper_client());
    let request = Request::head(format!("http://{head}/")).body(Empty::<Bytes>::new()).unwrap();
    let _kept = client.ready().await.unwrap().call(request).await.unwrap();
    assert_eq!(breaker.snapshot().calls, 1);
    let _kept = client.ready().await.unwrap().call(get(no_content)).await.unwrap();
    assert_eq!(breaker.snapshot().calls, 2);
}

/// reqwest hides its bodies in a response of its own, which turns into `http`'s and back.
#[tokio::test]
async fn around_reqwest() {
    let address = answering(HALF, Then::Hang).await;
    let breaker = breaker();
    let client = tower::ServiceBuilder::new()
        .map_response(|response: Response<_>| {
            reqwest::Response::from(response.map(reqwest::Body::wrap))
        })
        .layer(breaker.layer().through_body())
        .layer(stall(ms(100)).layer())
        .layer(ServiceErrors)
        .map_response(Response::<reqwest::Body>::from)
        .service(reqwest::Client::builder().no_proxy().build().unwrap());
    let request =
        reqwest::Request::new(http::Method::GET, format!("http://{address}/").parse().unwrap());
    let response: reqwest::Response = client.oneshot(request).await.unwrap();
    let error: BoxError = response.bytes().await.unwrap_err().into();
    assert_eq!(error.policy_error().unwrap().kind(), PolicyErrorKind::TimedOut, "{error:?}");
    assert_eq!(breaker.snapshot().failures, 1);
}

/// A guarded body fits where servers want one.
#[tokio::test]
async fn guarded_bodies_go_where_bodies_go() {
    let address = answering("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwhole", Then::Close).await;
    let mut client = Stack::http()
        .breaker_through_body(breaker())
        .layer(stall(ms(1000)).layer())
        .layer(ServiceErrors)
        .service(hyper_client());
    let response = client.ready().await.unwrap().call(get(address)).await.unwrap();
    let whole = axum::body::to_bytes(axum::body::Body::new(response.into_body()), 100).await;
    assert_eq!(whole.unwrap(), "whole");
}
