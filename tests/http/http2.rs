//! What HTTP/2 says of streams that were not processed.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use buttress::{Verdict, http::ClientError};
use h2::Reason;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    connections::{get, hyper_http2, reqwest, verdicts},
    servers::raw,
};

/// A server that resets every stream, with a count of them.
pub(crate) async fn resets(reason: Reason) -> (SocketAddr, Arc<AtomicUsize>) {
    let streams = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&streams);
    let (address, _) = raw(move |stream| {
        let count = Arc::clone(&count);
        async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                respond.send_reset(reason);
            }
        }
    })
    .await;
    (address, streams)
}

/// A server that goes away before it has processed anything, graciously or not.
async fn goes_away(code: u8) -> (SocketAddr, Arc<AtomicUsize>) {
    raw(move |mut stream| async move {
        const HEADERS: u8 = 1;
        let mut preface = [0; 24];
        stream.read_exact(&mut preface).await.unwrap();
        // SETTINGS, empty.
        stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await.unwrap();
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            stream.read_exact(&mut vec![0; length as usize]).await.unwrap();
            if head[3] == HEADERS {
                break;
            }
        }
        // GOAWAY: the last stream that was processed is 0.
        let go_away = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, code];
        stream.write_all(&go_away).await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await
}

async fn by_hyper(address: SocketAddr) -> impl ClientError {
    hyper_http2().request(get(address)).await.unwrap_err()
}

async fn by_reqwest(address: SocketAddr, retry: Option<reqwest::retry::Builder>) -> reqwest::Error {
    let client = reqwest().http2_prior_knowledge();
    let client = match retry {
        Some(retry) => client.retry(retry),
        None => client,
    };
    let client = client.build().unwrap();
    client.post(format!("http://{address}/")).body("payment").send().await.unwrap_err()
}

const NEVER: fn() -> Option<reqwest::retry::Builder> = || Some(reqwest::retry::never());
const UNREACHABLE: (Verdict, Verdict) = (Verdict::Unreachable, Verdict::Unreachable);
const NO_ANSWER: (Verdict, Verdict) = (Verdict::Transient, Verdict::Ignored);

#[tokio::test]
async fn a_refused_stream_was_not_processed() {
    let (address, _) = resets(Reason::REFUSED_STREAM).await;
    assert_eq!(verdicts(by_hyper(address).await), UNREACHABLE);
    assert_eq!(verdicts(by_reqwest(address, NEVER()).await), UNREACHABLE);
}

/// reqwest repeats what HTTP/2 says was not processed, twice, before anybody sees it.
#[tokio::test]
async fn reqwest_tries_refused_streams_itself() {
    let (address, streams) = resets(Reason::REFUSED_STREAM).await;
    assert_eq!(verdicts(by_reqwest(address, None).await), UNREACHABLE);
    assert_eq!(streams.swap(0, Ordering::SeqCst), 3);
    by_reqwest(address, NEVER()).await;
    assert_eq!(streams.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn any_other_reset_may_have_been_executed() {
    for reason in [Reason::INTERNAL_ERROR, Reason::CANCEL, Reason::ENHANCE_YOUR_CALM] {
        let (address, streams) = resets(reason).await;
        assert_eq!(verdicts(by_hyper(address).await), NO_ANSWER, "{reason}");
        assert_eq!(verdicts(by_reqwest(address, None).await), NO_ANSWER, "{reason}");
        assert_eq!(streams.load(Ordering::SeqCst), 2, "{reason}");
    }
}

#[tokio::test]
async fn a_server_that_goes_away_has_not_processed_what_came_after() {
    const NO_ERROR: u8 = 0;
    const INTERNAL_ERROR: u8 = 2;
    let (address, _) = goes_away(NO_ERROR).await;
    assert_eq!(verdicts(by_hyper(address).await), UNREACHABLE);
    assert_eq!(verdicts(by_reqwest(address, NEVER()).await), UNREACHABLE);
    let (address, _) = goes_away(INTERNAL_ERROR).await;
    assert_eq!(verdicts(by_hyper(address).await), NO_ANSWER);
}
