//! Upstreams that are down, come back, break off, and what must not happen twice.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, http::StatusCode, response::IntoResponse, routing::get};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpSocket},
    time::Instant,
};

use super::{
    process::{Ambassador, client, until},
    servers::{answer_and_reset, closed_port, raw, read_head, serve},
};

/// Decides after four calls, and looks again after a fifth of a second.
const POLICIES: &str = r#"
[upstreams.stock.policies]
timeout = { after = "2s" }
attempt_timeout = { after = "500ms" }
[upstreams.stock.policies.retry]
max_attempts = 2
backoff = "10ms"
[upstreams.stock.policies.breaker]
window = { calls = 4 }
min_calls = 4
open_for = "200ms"
probes = 1
half_open_for = "2s"
[upstreams.stock.body_timeout]
stall = "500ms"
"#;

fn in_front_of(primary: SocketAddr, more: &str) -> Ambassador {
    Ambassador::start(&format!(
        "[upstreams.stock]\nlisten = \"127.0.0.1:0\"\n{more}\n\
         [upstreams.stock.primary]\nurl = \"http://{primary}\"\n{POLICIES}"
    ))
}

const DEGRADED: &str = "degraded = { body = '{\"in_stock\":null}' }";

fn router() -> Router {
    Router::new().route("/", get(|| async { "twelve" }).post(|| async { "bought" }))
}

#[tokio::test]
async fn an_outage_opens_the_circuit_is_answered_for_and_ends() {
    let primary = closed_port().await;
    let ambassador = in_front_of(primary, DEGRADED);
    let (client, url) = (client(), ambassador.url("stock", "/"));

    // Down: the static answer for who reads, at once, and a refusal for who buys.
    for _ in 0..4 {
        let began = Instant::now();
        let answer = client.get(&url).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["ambassador-degraded"], "static");
        assert_eq!(answer.headers()["content-type"], "application/json");
        assert_eq!(answer.text().await.unwrap(), r#"{"in_stock":null}"#);
        assert!(began.elapsed() < Duration::from_secs(2));
    }
    let head = client.head(&url).send().await.unwrap();
    assert_eq!(head.headers()["ambassador-degraded"], "static");
    assert_eq!(head.headers()["content-length"], "17");
    let state = ambassador.policies("stock").await["breaker"]["state"].clone();
    assert!(state == "open" || state == "half_open", "{state}");
    let refusal = client.post(&url).body("a payment").send().await.unwrap();
    assert_eq!(refusal.status(), 503);
    assert_eq!(refusal.headers()["content-type"], "application/problem+json");
    assert_eq!(refusal.headers()["retry-after"], "1");
    assert!(refusal.headers().contains_key("ambassador-refused"));
    assert!(!refusal.headers().contains_key("ambassador-degraded"));

    // Back: the circuit closes by itself.
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(primary).unwrap();
    let listener: TcpListener = socket.listen(16).unwrap();
    tokio::spawn(async move { axum::serve(listener, router()).await });
    until("back", async || {
        client.get(&url).send().await.unwrap().text().await.unwrap() == "twelve"
    })
    .await;
    let answer = client.post(&url).body("a payment").send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "bought");

    let view = ambassador.policies("stock").await;
    assert_eq!(view["breaker"]["state"], "closed");
    let history = view["breaker"]["history"].as_array().unwrap();
    assert!(history[0]["what"].as_str().unwrap().contains("lately 4 unreachable"), "{history:?}");
    let degraded = ambassador.ended("stock", "degraded").await;
    assert_eq!(view["fallback"]["static"]["degraded"], degraded);
    assert!(ambassador.ended("stock", "refused").await >= 1);
    assert_eq!(ambassador.ended("stock", "truncated").await, 0);
    // Each transition is a line of the log.
    let told = ambassador.logged("breaker transition").len();
    assert!(told >= history.len(), "{told} of {history:?}");
}

#[tokio::test]
async fn a_backup_answers_and_the_static_answer_comes_after_it() {
    let backup = serve(router()).await;
    let backup_is_there = format!("backup = {{ url = \"http://{backup}\" }}\n{DEGRADED}");
    let ambassador = in_front_of(closed_port().await, &backup_is_there);
    let (client, url) = (client(), ambassador.url("stock", "/"));
    let answer = client.get(&url).send().await.unwrap();
    assert_eq!(answer.headers()["ambassador-degraded"], "backup");
    assert_eq!(answer.text().await.unwrap(), "twelve");
    // Nothing was sent to the primary, so a payment may be made elsewhere.
    let answer = client.post(&url).body("a payment").send().await.unwrap();
    assert_eq!(answer.headers()["ambassador-degraded"], "backup");
    assert_eq!(answer.text().await.unwrap(), "bought");

    let backup_is_gone =
        format!("backup = {{ url = \"http://{}\" }}\n{DEGRADED}", closed_port().await);
    let ambassador = in_front_of(closed_port().await, &backup_is_gone);
    let url = ambassador.url("stock", "/");
    let answer = client.get(&url).send().await.unwrap();
    assert_eq!(answer.headers()["ambassador-degraded"], "static");
    let answer = client.post(&url).send().await.unwrap();
    assert_eq!(answer.headers()["ambassador-refused"], "unreachable");
}

#[tokio::test]
async fn a_payment_reaches_an_upstream_at_most_once() {
    let payments = Arc::new(AtomicUsize::new(0));
    let count = |payments: &Arc<AtomicUsize>| {
        let payments = Arc::clone(payments);
        move || {
            payments.fetch_add(1, Ordering::SeqCst);
            async { StatusCode::SERVICE_UNAVAILABLE.into_response() }
        }
    };
    let backup = serve(Router::new().fallback(count(&payments))).await;
    let failing = serve(Router::new().fallback(count(&payments))).await;
    let counter = Arc::clone(&payments);
    let (resetting, _) = raw(move |stream| {
        counter.fetch_add(1, Ordering::SeqCst);
        answer_and_reset(stream, "")
    })
    .await;
    let counter = Arc::clone(&payments);
    let (silent, _) = raw(move |mut stream| {
        counter.fetch_add(1, Ordering::SeqCst);
        async move {
            read_head(&mut stream).await;
            std::future::pending::<()>().await;
        }
    })
    .await;
    for (primary, status) in [(failing, 503), (resetting, 502), (silent, 504)] {
        let ambassador = in_front_of(primary, &format!("backup = {{ url = \"http://{backup}\" }}"));
        let url = ambassador.url("stock", "/");
        let answer = client().post(&url).body("a payment").send().await.unwrap();
        assert_eq!(answer.status(), status);
        assert!(answer.headers().contains_key("ambassador-refused"));
        assert_eq!(payments.swap(0, Ordering::SeqCst), 1, "{status}");
        // What may be repeated is, and goes to the backup in the end.
        client().put(&url).body("a payment").send().await.unwrap();
        assert_eq!(payments.swap(0, Ordering::SeqCst), 3, "{status}");
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_seen_to_break_off() {
    let (resetting, _) =
        raw(|stream| answer_and_reset(stream, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"))
            .await;
    let (stalling, _) = raw(|mut stream| async move {
        read_head(&mut stream).await;
        let half = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n";
        stream.write_all(half).await.unwrap();
        std::future::pending::<()>().await;
    })
    .await;
    let http2 = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    for upstream in [resetting, stalling] {
        let ambassador = in_front_of(upstream, DEGRADED);
        for client in [client(), http2.clone()] {
            let answer = client.get(ambassador.url("stock", "/")).send().await.unwrap();
            assert_eq!(answer.status(), 200);
            answer.bytes().await.unwrap_err();
        }
        assert_eq!(ambassador.ended("stock", "truncated").await, 2);
        // The breaker has watched the bodies.
        assert_eq!(ambassador.policies("stock").await["breaker"]["failures"], 2);
    }
}

#[tokio::test]
async fn where_connections_are_monitored_answers_do_not_count() {
    let failing = serve(Router::new().fallback(|| async { StatusCode::BAD_GATEWAY })).await;
    let ambassador = in_front_of(failing, "monitor = \"connections\"");
    for _ in 0..6 {
        let answer = client().get(ambassador.url("stock", "/")).send().await.unwrap();
        assert_eq!(answer.status(), 502);
        assert_eq!(answer.headers()["ambassador-refused"], "upstream");
    }
    assert_eq!(ambassador.policies("stock").await["breaker"]["state"], "closed");

    let ambassador = in_front_of(closed_port().await, "monitor = \"connections\"");
    for _ in 0..6 {
        client().get(ambassador.url("stock", "/")).send().await.unwrap();
    }
    let state = ambassador.policies("stock").await["breaker"]["state"].clone();
    assert!(state == "open" || state == "half_open", "{state}");
}
