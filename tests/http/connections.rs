//! Connections that fail, before and after the request was sent.

use std::{net::SocketAddr, time::Duration};

use buttress::{
    BoxError, Classify, Error, Verdict,
    http::{ClientError, Connections, Failure, Responses},
};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::servers::{answer_and_reset, closed_port, raw, read_head};

pub(crate) type HyperClient = Client<HttpConnector, Full<Bytes>>;

pub(crate) fn hyper() -> HyperClient {
    Client::builder(TokioExecutor::new()).build_http()
}

pub(crate) fn hyper_http2() -> HyperClient {
    Client::builder(TokioExecutor::new()).http2_only(true).build_http()
}

pub(crate) fn reqwest() -> reqwest::ClientBuilder {
    reqwest::Client::builder().no_proxy()
}

pub(crate) fn get(address: SocketAddr) -> http::Request<Full<Bytes>> {
    http::Request::get(format!("http://{address}/")).body(Full::default()).unwrap()
}

/// What the two classifiers say of a call that failed with this.
pub(crate) fn verdicts<E: ClientError>(error: E) -> (Verdict, Verdict) {
    let outcome = Err::<http::Response<()>, E>(error);
    (Responses::new().classify(outcome.as_ref()), Connections.classify(outcome.as_ref()))
}

const UNREACHABLE: (Verdict, Verdict) = (Verdict::Unreachable, Verdict::Unreachable);
const NO_ANSWER: (Verdict, Verdict) = (Verdict::Transient, Verdict::Ignored);

#[tokio::test]
async fn a_refused_connection_is_unreachable_to_every_client() {
    let address = closed_port().await;
    for client in [hyper(), hyper_http2()] {
        let error = client.request(get(address)).await.unwrap_err();
        assert_eq!(verdicts(error), UNREACHABLE);
    }
    for client in [reqwest(), reqwest().http2_prior_knowledge()] {
        let client = client.build().unwrap();
        let error = client.get(format!("http://{address}/")).send().await.unwrap_err();
        assert!(!error.is_timeout());
        assert_eq!(verdicts(error), UNREACHABLE);
        // A body changes nothing: there was nobody to send it to.
        let error = client.post(format!("http://{address}/")).body("x").send().await.unwrap_err();
        assert_eq!(verdicts(error), UNREACHABLE);
    }
    let error = TcpStream::connect(address).await.unwrap_err();
    assert_eq!(verdicts(error), UNREACHABLE);
}

#[tokio::test]
async fn it_is_found_through_boxes_and_wrappers() {
    let address = closed_port().await;
    let ask = || async { reqwest::get(format!("http://{address}/")).await.unwrap_err() };
    assert_eq!(verdicts(Error::Service(ask().await)), UNREACHABLE);
    assert_eq!(verdicts(BoxError::from(ask().await)), UNREACHABLE);
    assert_eq!(verdicts(Error::Service(BoxError::from(ask().await))), UNREACHABLE);
    assert_eq!(verdicts(std::io::Error::other(ask().await)), UNREACHABLE);
    let boxed = BoxError::from(std::io::Error::other(std::io::Error::other(ask().await)));
    assert_eq!(verdicts(boxed), UNREACHABLE);
    // Above a `tower::buffer::Buffer`, say.
    assert_eq!(verdicts(BoxError::from(Error::Service(ask().await))), UNREACHABLE);
    let refused = Error::Service(std::io::Error::from(std::io::ErrorKind::ConnectionRefused));
    assert_eq!(verdicts(BoxError::from(refused)), UNREACHABLE);
    let nonsense = reqwest::get("no address").await.unwrap_err();
    assert_eq!(verdicts(BoxError::from(Error::Service(nonsense))).0, Verdict::Ignored);
}

/// A resolver that has its own way with every name.
struct Resolver(Option<&'static str>);

impl reqwest::dns::Resolve for Resolver {
    fn resolve(&self, _: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let answer = self.0;
        Box::pin(async move {
            match answer {
                Some(error) => Err(error.into()),
                None => std::future::pending().await,
            }
        })
    }
}

#[tokio::test]
async fn no_such_host_and_too_long_to_connect_are_unreachable() {
    let nowhere = reqwest().dns_resolver(Resolver(Some("no such host"))).build().unwrap();
    let error = nowhere.get("http://nowhere.test/").send().await.unwrap_err();
    assert_eq!(verdicts(error), UNREACHABLE);

    let slow = reqwest()
        .dns_resolver(Resolver(None))
        .connect_timeout(Duration::from_millis(20))
        .build()
        .unwrap();
    let error = slow.get("http://nowhere.test/").send().await.unwrap_err();
    assert!(error.is_timeout(), "also a timeout");
    assert_eq!(verdicts(error), UNREACHABLE);
}

#[tokio::test]
async fn a_timeout_of_the_client_may_have_been_executed() {
    // While waiting for the answer.
    let (address, _) = raw(|mut stream| async move {
        read_head(&mut stream).await;
        std::future::pending::<()>().await;
    })
    .await;
    let client = reqwest().timeout(Duration::from_millis(50)).build().unwrap();
    let error = client.get(format!("http://{address}/")).send().await.unwrap_err();
    assert!(error.is_timeout());
    assert_eq!(verdicts(error), NO_ANSWER);
    // While connecting: the client does not say that, so the careful reading holds.
    let client =
        reqwest().dns_resolver(Resolver(None)).timeout(Duration::from_millis(20)).build().unwrap();
    let error = client.get("http://nowhere.test/").send().await.unwrap_err();
    assert!(error.is_timeout() && !error.is_connect());
    assert_eq!(verdicts(error), NO_ANSWER);
}

#[tokio::test]
async fn a_connection_that_breaks_after_the_request_is_no_answer() {
    for text in ["", "HTTP/1.1 200 OK\r\nContent-Le"] {
        let (address, _) = raw(move |stream| answer_and_reset(stream, text)).await;
        let error = hyper().request(get(address)).await.unwrap_err();
        assert_eq!(verdicts(error), NO_ANSWER);
        let client = reqwest().build().unwrap();
        let error = client.get(format!("http://{address}/")).send().await.unwrap_err();
        assert_eq!(verdicts(error), NO_ANSWER);
    }
    // Closed politely, but without an answer.
    let (address, _) = raw(|mut stream| async move { read_head(&mut stream).await }).await;
    let error = hyper().request(get(address)).await.unwrap_err();
    assert_eq!(verdicts(error), NO_ANSWER);
    // No HTTP at all.
    let (address, _) = raw(|mut stream| async move {
        read_head(&mut stream).await;
        stream.write_all(b"220 mail.example.com ESMTP\r\n\r\n").await.unwrap();
    })
    .await;
    let error = hyper().request(get(address)).await.unwrap_err();
    assert_eq!(verdicts(error), NO_ANSWER);
}

#[tokio::test]
async fn a_connection_that_ended_before_the_request_was_taken_up_is_unreachable() {
    let (address, _) = raw(|stream| async move { drop(stream) }).await;
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let _ = connection.await;
    let error = sender.send_request(get(address)).await.unwrap_err();
    assert!(error.is_canceled());
    assert_eq!(verdicts(error), UNREACHABLE);
}

#[tokio::test]
async fn a_body_that_is_cut_short_is_no_answer() {
    let text = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this";
    let (address, _) = raw(move |stream| answer_and_reset(stream, text)).await;
    let response = hyper().request(get(address)).await.unwrap();
    let error = response.into_body().collect().await.unwrap_err();
    assert_eq!(verdicts(error), NO_ANSWER);

    let client = reqwest().build().unwrap();
    let ask = || async { client.get(format!("http://{address}/")).send().await.unwrap() };
    assert_eq!(verdicts(ask().await.bytes().await.unwrap_err()), NO_ANSWER);
    let error = ask().await.json::<u32>().await.unwrap_err();
    assert!(error.is_decode(), "this is what reqwest says: {error:?}");
    assert_eq!(verdicts(error), NO_ANSWER);
}

#[tokio::test]
async fn what_the_client_makes_of_an_answer_is_not_the_connections_fault() {
    let text =
        "HTTP/1.1 302 Found\r\nLocation: /\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let (address, _) = raw(move |stream| answer_and_reset(stream, text)).await;
    let client = reqwest().build().unwrap();
    let error = client.get(format!("http://{address}/")).send().await.unwrap_err();
    assert!(error.is_redirect(), "{error:?}");
    assert_eq!(verdicts(error), (Verdict::Permanent, Verdict::Success));

    let text = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n<xml>";
    let (address, _) = raw(move |stream| answer_and_reset(stream, text)).await;
    let response = client.get(format!("http://{address}/")).send().await.unwrap();
    let error = response.json::<u32>().await.unwrap_err();
    assert_eq!(verdicts(error), (Verdict::Permanent, Verdict::Success));

    let text = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
    let (address, _) = raw(move |stream| answer_and_reset(stream, text)).await;
    let response = client.get(format!("http://{address}/")).send().await.unwrap();
    let error = response.error_for_status().unwrap_err();
    assert_eq!(error.failure(), Failure::Status(http::StatusCode::SERVICE_UNAVAILABLE));
    assert_eq!(verdicts(error), (Verdict::Transient, Verdict::Success));
}

#[tokio::test]
async fn a_request_that_cannot_be_sent_says_nothing_about_the_service() {
    let ignored = (Verdict::Ignored, Verdict::Ignored);
    let client = reqwest().build().unwrap();
    let error = client.get("no address").send().await.unwrap_err();
    assert_eq!(verdicts(error), ignored);

    // The request's own body fails.
    let (address, _) = raw(|mut stream| async move {
        read_head(&mut stream).await;
        std::future::pending::<()>().await;
    })
    .await;
    let broken = futures::stream::iter([Ok("begun"), Err("broken off")]);
    let body = reqwest::Body::wrap_stream(broken);
    let error = client.post(format!("http://{address}/")).body(body).send().await.unwrap_err();
    assert_eq!(verdicts(error), ignored);
}

#[test]
fn an_io_error_is_unreachable_only_where_it_cannot_be_anything_else() {
    use std::io::ErrorKind;
    for kind in [ErrorKind::ConnectionRefused, ErrorKind::AddrNotAvailable] {
        assert_eq!(Failure::of(&std::io::Error::from(kind)), Failure::NotSent, "{kind}");
    }
    for kind in [
        ErrorKind::ConnectionReset,
        ErrorKind::ConnectionAborted,
        ErrorKind::NotConnected,
        ErrorKind::BrokenPipe,
        ErrorKind::TimedOut,
        ErrorKind::UnexpectedEof,
        ErrorKind::HostUnreachable,
        ErrorKind::NetworkUnreachable,
        ErrorKind::NotFound,
        ErrorKind::Other,
    ] {
        assert_eq!(Failure::of(&std::io::Error::from(kind)), Failure::NoAnswer, "{kind}");
    }
}
