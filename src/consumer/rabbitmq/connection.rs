use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use lapin::{
    Channel, Connection,
    options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions},
    types::{FieldTable, ShortString},
    uri::AMQPUri,
};

use super::{Error, attempt};

type Connecting = Pin<Box<dyn Future<Output = lapin::Result<Connection>> + Send>>;

/// How connections to the broker are made, as often as one is needed.
#[derive(Clone)]
pub(super) struct Connect(Arc<dyn Fn() -> Connecting + Send + Sync>);

impl Connect {
    /// To the broker at this URI.
    pub(super) fn to(uri: AMQPUri) -> Self {
        Connect::with(move || attempt::connect(uri.clone()))
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
    prefetch: u16,
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
        Ok(Subscription { consumer, channel, connection, prefetch })
    }

    /// Ends it so that the broker has heard of all that was settled.
    ///
    /// To close the channel would not be enough, although its requests are answered in turn. Before a
    /// quorum queue that is slow, RabbitMQ keeps acknowledgements back in the channel, and forgets
    /// them with it. The answer to the cancellation comes from the queue; with it, what is kept back
    /// is sent; and the answer to any request after that says that this has been done.
    pub(super) async fn close(self) -> Result<(), Error> {
        const SUCCESS: u16 = 200;
        let (channel, text) = (&self.channel, "consumer stopped");
        channel.basic_cancel(self.consumer.tag(), BasicCancelOptions::default()).await?;
        channel.basic_qos(self.prefetch, BasicQosOptions::default()).await?;
        channel.close(SUCCESS, text.into()).await?;
        Ok(self.connection.close(SUCCESS, text.into()).await?)
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
