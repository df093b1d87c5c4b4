//! Servers that behave, and servers that do not.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::Router;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

pub(crate) async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// An address at which nobody listens.
pub(crate) async fn closed_port() -> SocketAddr {
    listener().await.1
}

/// A server that does what the router says, over HTTP/1.1 and HTTP/2.
pub(crate) async fn serve(router: Router) -> SocketAddr {
    let (listener, address) = listener().await;
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// A server that treats each connection in this way, and counts them.
pub(crate) async fn raw<F>(
    treat: impl Fn(TcpStream) -> F + Send + 'static,
) -> (SocketAddr, Arc<AtomicUsize>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let (listener, address) = listener().await;
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&accepted);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(treat(stream));
        }
    });
    (address, accepted)
}

/// Reads the head of a request over HTTP/1.1.
pub(crate) async fn read_head(stream: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
}

/// Answers a request with this text, and then resets the connection.
pub(crate) async fn answer_and_reset(mut stream: TcpStream, text: &'static str) {
    read_head(&mut stream).await;
    stream.write_all(text.as_bytes()).await.unwrap();
    // What was written must be on its way before the reset overtakes it.
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    // Closes with RST instead of FIN. (Deprecated because it may block, but not with a zero.)
    #[allow(deprecated)]
    stream.set_linger(Some(std::time::Duration::ZERO)).unwrap();
}
