use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use lapin::{
    Channel, Connection, ConnectionProperties,
    options::{BasicConsumeOptions, BasicQosOptions},
    types::{FieldTable, ShortString},
    uri::AMQPUri,
};

use super::Error;

type Connecting = Pin<Box<dyn Future<Output = lapin::Result<Connection>> + Send>>;

/// How connections to the broker are made, as often as one is needed.
#[derive(Clone)]
pub(super) struct Connect(Arc<dyn Fn() -> Connecting + Send + Sync>);

impl Connect {
    /// To the broker at this URI. A host that does not take up the connection is given up in time,
    /// with the thread that lapin has for it.
    pub(super) fn to(mut uri: AMQPUri, timeout: Duration) -> Self {
        let millis = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        uri.query.connection_timeout.get_or_insert(millis.max(1));
        let uri = Arc::new(uri);
        Connect::with(move || {
            let uri = AMQPUri::clone(&uri);
            Connection::connect_uri(uri, ConnectionProperties::default())
        })
    }

    pub(super) fn with<F, Fut>(connect: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = lapin::Result<Connection>> + Send + 'static,
    {
        Connect(Arc::new(move || Box::pin(connect())))
    }

    pub(super) async fn connect(&self) -> lapin::Result<Connection> {
        (self.0)().await
    }
}

impl fmt::Debug for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connect")
    }
}

/// What a source consumes through. Dropped, it is closed, and what it has not settled goes back.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) consumer: lapin::Consumer,
    channel: Channel,
    connection: Connection,
}

impl Subscription {
    pub(super) async fn open(
        connect: Connect,
        queue: ShortString,
        tag: ShortString,
        prefetch: u16,
    ) -> Result<Self, Error> {
        let connection = connect.connect().await?;
        let channel = connection.create_channel().await?;
        channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        let consumer = channel.basic_consume(queue, tag, options, arguments).await?;
        Ok(Subscription { consumer, channel, connection })
    }

    /// Closes it in order. The broker answers what it is sent on a channel in turn, so its answer to
    /// the closing says that it has heard all the acknowledgements before.
    pub(super) async fn close(self) -> Result<(), Error> {
        const SUCCESS: u16 = 200;
        self.channel.close(SUCCESS, "consumer stopped".into()).await?;
        Ok(self.connection.close(SUCCESS, "consumer stopped".into()).await?)
    }
}

/// No answer at all is an error too.
pub(super) async fn within<T>(
    limit: Duration,
    answer: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout(limit, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(Error::NoAnswer(limit)),
    }
}
