//! Connections that can be given up while they are being made.
//!
//! lapin makes a connection in a thread of its own, which waits for the broker's answer for as long as
//! the operating system believes in the connection. A broker that hangs, or a proxy with no broker behind
//! it, does not answer and does not hang up either; so each attempt would leave a thread and a socket
//! behind. What ends the thread is the end of its socket.

#[cfg(unix)]
use std::os::fd::AsFd as _;
#[cfg(windows)]
use std::os::windows::io::AsSocket as _;
use std::{
    io,
    net::{Shutdown, TcpStream},
    sync::Mutex,
};

use lapin::{
    AsyncTcpStream, Connection, ConnectionProperties, Result,
    runtime::default_runtime,
    tcp::OwnedTLSConfig,
    uri::{AMQPScheme, AMQPUri},
};

use crate::sync::lock;

/// Connects to the broker at this URI.
///
/// Dropped, the attempt is given up.
pub(super) async fn connect(uri: AMQPUri) -> Result<Connection> {
    let runtime = default_runtime()?;
    let host = &uri.authority.host;
    let address = runtime.to_socket_addrs((host.clone(), uri.authority.port));
    let mut stream = AsyncTcpStream::connect(&runtime, address).await?;
    let mut attempt = Attempt(None);
    #[allow(irrefutable_let_patterns, reason = "with TLS, lapin has more of them")]
    if let AsyncTcpStream::Plain(stream) = &stream {
        #[cfg(unix)]
        let second = stream.get_ref().as_fd().try_clone_to_owned()?;
        #[cfg(windows)]
        let second = stream.get_ref().as_socket().try_clone_to_owned()?;
        attempt.0 = Some(second.into());
    }
    if uri.scheme == AMQPScheme::AMQPS {
        stream = stream.into_tls(host, OwnedTLSConfig::default().as_ref()).await?;
        #[allow(irrefutable_let_patterns, reason = "with TLS, lapin has more of them")]
        if let AsyncTcpStream::Plain(_) = &stream {
            // So lapin does without TLS, and then tells anybody the password.
            let missing = "amqps needs one of lapin's features for TLS";
            return Err(io::Error::new(io::ErrorKind::Unsupported, missing).into());
        }
    }
    // Asked for again if it breaks: but a connection that is lost does not come back by itself.
    let stream = Mutex::new(Some(stream));
    let dial = async move |_, _| {
        let stream = lock(&stream).take();
        Ok(stream.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))?)
    };
    let properties = ConnectionProperties::default();
    let connection = Connection::connector(uri, runtime, dial, properties).await;
    // From here on the socket is lapin's alone.
    attempt.0 = None;
    connection
}

/// Has a second handle on the socket of a connection that is being made, and shuts it down when dropped.
struct Attempt(Option<TcpStream>);

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Some(socket) = &self.0 {
            // Fails if the other side was first.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}
