//! SIGTERM: what is under way ends, nothing new begins.

use std::{io::ErrorKind, time::Duration};

use axum::{Router, body::Body, routing::get};
use bytes::Bytes;
use tokio::{net::TcpStream, sync::mpsc, time::Instant};

use super::{
    process::{Ambassador, client, until},
    servers::serve,
};

/// An upstream whose answer to `/` ends when the test says so.
async fn upstream() -> (std::net::SocketAddr, mpsc::Sender<&'static str>) {
    let (sender, receiver) = mpsc::channel::<&'static str>(1);
    let receiver = std::sync::Arc::new(std::sync::Mutex::new(Some(receiver)));
    let router = Router::new().route(
        "/",
        get(move || {
            let receiver = receiver.lock().unwrap().take().expect("one request");
            let stream = futures::stream::unfold(receiver, async |mut receiver| {
                let piece = receiver.recv().await?;
                Some((Ok::<_, std::io::Error>(Bytes::from(piece)), receiver))
            });
            async move { Body::from_stream(stream) }
        }),
    );
    (serve(router.route("/quick", get(|| async { "quick" }))).await, sender)
}

fn start(upstream: std::net::SocketAddr, drain: &str) -> Ambassador {
    Ambassador::start(&format!(
        "drain = \"{drain}\"\n[upstreams.stock]\nlisten = \"127.0.0.1:0\"\n\
         primary = {{ url = \"http://{upstream}\" }}\n"
    ))
}

#[tokio::test]
async fn a_request_under_way_ends_and_a_new_one_does_not_begin() {
    let (upstream, pieces) = upstream().await;
    let mut ambassador = start(upstream, "15s");
    let address = ambassador.address("stock");
    // A connection that is kept for a next request must not hold the end up.
    let idle = client();
    idle.get(ambassador.url("stock", "/quick")).send().await.unwrap().text().await.unwrap();
    pieces.send("under ").await.unwrap();
    let answer = client().get(ambassador.url("stock", "/")).send().await.unwrap();

    ambassador.terminate();
    until("closed", async || {
        let refused = TcpStream::connect(address).await;
        refused.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    })
    .await;
    assert_eq!(ambassador.admin("/readyz").await, "stopping\n");
    assert_eq!(ambassador.policies("stock").await["in_flight"], 1);
    pieces.send("way").await.unwrap();
    drop(pieces);
    assert_eq!(answer.text().await.unwrap(), "under way");
    assert_eq!(ambassador.exit().await.code(), Some(0));
    assert_eq!(ambassador.logged("drained").len(), 1);
}

#[tokio::test]
async fn what_does_not_end_in_time_is_cut_off_and_told() {
    let (upstream, pieces) = upstream().await;
    let mut ambassador = start(upstream, "200ms");
    pieces.send("under ").await.unwrap();
    let answer = client().get(ambassador.url("stock", "/")).send().await.unwrap();
    let began = Instant::now();
    ambassador.terminate();
    answer.text().await.unwrap_err();
    assert_eq!(ambassador.exit().await.code(), Some(1));
    assert!(began.elapsed() >= Duration::from_millis(200));
    let told = ambassador.logged("cut off");
    assert!(told[0].contains("\"requests\":1"), "{told:?}");
}
