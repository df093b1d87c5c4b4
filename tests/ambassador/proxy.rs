//! What every proxy owes both sides.

use std::sync::{Arc, Mutex};

use axum::{Router, body::Body, routing::post};
use bytes::Bytes;
use futures::StreamExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    time::timeout,
};

use super::{
    process::{Ambassador, PATIENCE, client},
    servers::{raw, serve},
};

fn in_front_of(address: impl std::fmt::Display, more: &str) -> Ambassador {
    Ambassador::start(&format!(
        "[upstreams.stock]\nlisten = \"127.0.0.1:0\"\n{more}\n\
         [upstreams.stock.primary]\nurl = \"http://{address}\"\n"
    ))
}

/// Sends what it gets, as it gets it.
async fn echo() -> std::net::SocketAddr {
    serve(Router::new().route("/echo", post(|body: Body| async { body }))).await
}

async fn streams_both_ways(ambassador: &Ambassador, client: reqwest::Client) {
    let (sender, receiver) = mpsc::channel::<Result<Bytes, std::io::Error>>(1);
    let body = futures::stream::unfold(receiver, async |mut receiver| {
        Some((receiver.recv().await?, receiver))
    });
    let body = reqwest::Body::wrap_stream(body);
    sender.send(Ok(Bytes::from("first"))).await.unwrap();
    let call = client.post(ambassador.url("stock", "/echo")).body(body).send();
    let response = timeout(PATIENCE, call).await.unwrap().unwrap();
    assert_eq!(response.status(), 200);
    let mut pieces = response.bytes_stream();
    // The first piece has come back before the last was sent.
    for piece in ["first", "second", "third"] {
        let came = timeout(PATIENCE, pieces.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(came, piece);
        if let Some(next) = match piece {
            "first" => Some("second"),
            "second" => Some("third"),
            _ => None,
        } {
            sender.send(Ok(Bytes::from(next))).await.unwrap();
        }
    }
    drop(sender);
    while let Some(rest) = timeout(PATIENCE, pieces.next()).await.unwrap() {
        assert_eq!(rest.unwrap(), "", "an empty frame may say that this was all");
    }
}

#[tokio::test]
async fn bodies_stream_both_ways_over_http1() {
    let ambassador = in_front_of(echo().await, "");
    streams_both_ways(&ambassador, client()).await;
    assert_eq!(ambassador.ended("stock", "good").await, 1);
}

#[tokio::test]
async fn bodies_stream_both_ways_over_http2_without_tls() {
    let configuration = format!(
        "[upstreams.stock]\nlisten = \"127.0.0.1:0\"\n\
         [upstreams.stock.primary]\nurl = \"http://{}\"\nprotocol = \"http2\"\n",
        echo().await
    );
    let ambassador = Ambassador::start(&configuration);
    let client = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    streams_both_ways(&ambassador, client.clone()).await;
    let gone = client.get(ambassador.url("stock", "/nothing")).send().await.unwrap();
    assert_eq!((gone.version(), gone.status().as_u16()), (http::Version::HTTP_2, 404));
    assert_eq!(ambassador.ended("stock", "good").await, 2);
}

/// Sends a request as it is and gives back all that comes.
async fn say(ambassador: &Ambassador, request: &str) -> String {
    let mut stream = TcpStream::connect(ambassador.address("stock")).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8(answer).unwrap().to_lowercase()
}

async fn read_text(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap().to_lowercase()
}

/// An upstream that answers everything with this, and the heads of the requests it got.
async fn recording(answer: &'static str) -> (std::net::SocketAddr, Arc<Mutex<Vec<String>>>) {
    let heads = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&heads);
    let treat = move |mut stream: TcpStream| {
        let log = Arc::clone(&log);
        async move {
            let head = read_text(&mut stream).await;
            log.lock().unwrap().push(head);
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    };
    (raw(treat).await.0, heads)
}

#[tokio::test]
async fn hop_by_hop_headers_end_here_in_both_directions() {
    let (upstream, heads) = recording(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close, X-Internal\r\nX-Internal: 1\r\n\
         Keep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nX-Public: 1\r\n\
         Ambassador-Degraded: static\r\nAmbassador-Refused: never\r\n\r\nok",
    )
    .await;
    let ambassador = in_front_of(upstream, "");
    let answer = say(
        &ambassador,
        "GET /path?query HTTP/1.1\r\nHost: stock.local:8081\r\nConnection: close, X-Secret\r\n\
         X-Secret: 1\r\nKeep-Alive: 5\r\nProxy-Connection: keep-alive\r\nTE: trailers, deflate\r\n\
         Proxy-Authorization: Basic 1234\r\nUpgrade: h2c\r\nX-End-To-End: 1\r\n\
         X-Forwarded-For: 10.0.0.1\r\nX-Request-Id: abc-1\r\n\r\n",
    )
    .await;
    let head = heads.lock().unwrap().remove(0);
    assert!(head.starts_with("get /path?query http/1.1\r\n"), "{head}");
    for gone in ["x-secret", "keep-alive", "proxy-", "upgrade", "deflate", "close", "10.0.0.1"] {
        assert!(!head.contains(gone), "{gone} in {head}");
    }
    for there in [
        "\r\nx-end-to-end: 1\r\n",
        "\r\nte: trailers\r\n",
        "\r\nvia: 1.1 ambassador\r\n",
        "\r\nx-forwarded-for: 127.0.0.1\r\n",
        "\r\nx-forwarded-proto: http\r\n",
        "\r\nx-forwarded-host: stock.local:8081\r\n",
        "\r\nx-request-id: abc-1\r\n",
        &format!("\r\nhost: {upstream}\r\n"),
    ] {
        assert!(head.contains(there), "{there} not in {head}");
    }
    assert!(answer.starts_with("http/1.1 200 ok\r\n"), "{answer}");
    for gone in ["x-internal", "keep-alive", "proxy-authenticate", "ambassador-"] {
        assert!(!answer.contains(gone), "{gone} in {answer}");
    }
    for there in ["x-public: 1", "via: 1.1 ambassador", "x-request-id: abc-1", "\r\n\r\nok"] {
        assert!(answer.contains(there), "{there} not in {answer}");
    }
}

#[tokio::test]
async fn hosts_addresses_and_callers_that_are_trusted() {
    let (upstream, heads) = recording("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await;
    let ambassador = in_front_of(upstream, "preserve_host = true\ntrust_inbound = true");
    // In the absolute form the address holds, not `Host` (RFC 9112, section 3.2.2).
    say(
        &ambassador,
        "GET http://shop.local/a HTTP/1.1\r\nHost: other.local\r\nConnection: close\r\n\
         X-Forwarded-For: 10.0.0.1\r\nX-Forwarded-Proto: https\r\n\r\n",
    )
    .await;
    say(&ambassador, "OPTIONS * HTTP/1.1\r\nHost: shop.local\r\nConnection: close\r\n\r\n").await;
    let heads = heads.lock().unwrap();
    assert!(heads[0].starts_with("get /a http/1.1\r\n"), "{heads:?}");
    for there in [
        "\r\nhost: shop.local\r\n",
        "\r\nx-forwarded-for: 10.0.0.1, 127.0.0.1\r\n",
        "\r\nx-forwarded-proto: https\r\n",
    ] {
        assert!(heads[0].contains(there), "{there} not in {heads:?}");
    }
    assert!(heads[1].starts_with("options * http/1.1\r\n"), "{heads:?}");
    let id = heads[1].split("x-request-id: ").nth(1).expect("an id of its own");
    assert_eq!(id.split("\r\n").next().unwrap().len(), 32);
}

#[tokio::test]
async fn what_cannot_be_passed_on_is_refused() {
    let (upstream, heads) = recording("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").await;
    let ambassador = in_front_of(upstream, "");
    for (request, status, code) in [
        (
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade, close\r\nUpgrade: websocket",
            501,
            "upgrade_not_supported",
        ),
        (
            "CONNECT shop.local:443 HTTP/1.1\r\nHost: shop.local:443\r\nConnection: close",
            501,
            "connect_not_supported",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\nExpect: a-miracle",
            417,
            "expectation_not_supported",
        ),
        ("GET / HTTP/1.1\r\nConnection: close", 400, "host_missing_or_ambiguous"),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close",
            400,
            "host_missing_or_ambiguous",
        ),
    ] {
        let answer = say(&ambassador, &format!("{request}\r\n\r\n")).await;
        assert!(answer.starts_with(&format!("http/1.1 {status} ")), "{request}: {answer}");
        assert!(answer.contains("\r\ncontent-type: application/problem+json\r\n"), "{answer}");
        assert!(answer.contains(&format!("\"code\":\"{code}\"")), "{answer}");
    }
    assert_eq!(heads.lock().unwrap().len(), 0);
    assert_eq!(ambassador.ended("stock", "refused").await, 5);
}

#[tokio::test]
async fn somebody_who_waits_for_100_continue_gets_it() {
    let ambassador = in_front_of(echo().await, "");
    let mut stream = TcpStream::connect(ambassador.address("stock")).await.unwrap();
    let head = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\
                Connection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let interim = timeout(PATIENCE, read_text(&mut stream)).await.unwrap();
    assert!(interim.starts_with("http/1.1 100 continue"), "{interim}");
    stream.write_all(b"hello").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("hello"), "{answer}");
}
