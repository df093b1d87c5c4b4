//! Listeners: HTTP/1.1 and HTTP/2 without TLS, until somebody says stop.

use std::{convert::Infallible, error::Error as StdError, io, net::SocketAddr, time::Duration};

use http::{Request, Response};
use hyper::{
    body::{Body, Incoming},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{
        conn::auto,
        graceful::{GracefulShutdown, Watcher},
    },
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

/// How long somebody may take to send the head of a request, the first one or the next.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// Before the next attempt to accept where one has failed: most likely there are no files left.
const BREATHER: Duration = Duration::from_millis(50);

/// All the listeners, with the connections they have accepted.
pub(crate) struct Listeners {
    stop: watch::Sender<()>,
    listening: JoinSet<()>,
}

impl Listeners {
    pub(crate) fn new() -> Self {
        Listeners { stop: watch::Sender::new(()), listening: JoinSet::new() }
    }

    /// Answers what comes in at this address with `answer`.
    pub(crate) async fn add<F, B>(
        &mut self,
        name: &str,
        address: SocketAddr,
        answer: impl Fn(Request<Incoming>, SocketAddr) -> F + Copy + Send + Sync + 'static,
    ) -> io::Result<()>
    where
        F: Future<Output = Response<B>> + Send + 'static,
        B: Body<Data: Send, Error: Into<Box<dyn StdError + Send + Sync>>> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        tracing::info!(listener = name, %address, "listening");
        let mut stop = self.stop.subscribe();
        self.listening.spawn(async move {
            let connections = GracefulShutdown::new();
            loop {
                tokio::select! {
                    biased;
                    // Also where the sender is gone.
                    _ = stop.changed() => break,
                    accepted = listener.accept() => match accepted {
                        Ok((stream, caller)) => serve(stream, caller, answer, connections.watcher()),
                        Err(error) => {
                            tracing::warn!(%address, %error, "cannot accept");
                            tokio::time::sleep(BREATHER).await;
                        }
                    },
                }
            }
            drop(listener);
            connections.shutdown().await;
        });
        Ok(())
    }

    /// Closes the listeners, tells every connection that this request is its last, and waits for
    /// them. Cancel safe; but there is no way back.
    pub(crate) async fn drain(self) {
        self.stop.send_replace(());
        self.listening.join_all().await;
    }
}

fn serve<F, B>(
    stream: TcpStream,
    caller: SocketAddr,
    answer: impl Fn(Request<Incoming>, SocketAddr) -> F + Copy + Send + Sync + 'static,
    watcher: Watcher,
) where
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data: Send, Error: Into<Box<dyn StdError + Send + Sync>>> + Send + 'static,
{
    tokio::spawn(async move {
        // What fails here the peer has closed already.
        let _ = stream.set_nodelay(true);
        let service = service_fn(move |request| {
            let answer = answer(request, caller);
            async { Ok::<_, Infallible>(answer.await) }
        });
        let mut server = auto::Builder::new(TokioExecutor::new());
        server.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
        server.http2().timer(TokioTimer::new());
        let connection = server.serve_connection(TokioIo::new(stream), service).into_owned();
        if let Err(error) = watcher.watch(connection).await {
            tracing::debug!(%caller, %error, "connection ended");
        }
    });
}
