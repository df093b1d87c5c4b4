use std::collections::HashSet;

use lapin::{
    Channel, Connection, ConnectionStatus, ExchangeKind, PublisherConfirm,
    options::{
        BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueDeclareOptions,
    },
    types::FieldTable,
};

use super::{
    Error,
    connection::Connect,
    publisher::{Copy, Target},
};

/// What copies are stored through: a connection, and on it a channel with confirmations.
pub(super) struct Link {
    connection: Connection,
    channel: Channel,
    /// The names of delay queues and exchanges that were there when this channel asked.
    found: HashSet<String>,
}

impl Link {
    pub(super) async fn open(connect: &Connect) -> Result<Self, Error> {
        Link::over(connect.connect().await?).await
    }

    async fn over(connection: Connection) -> Result<Self, Error> {
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Link { connection, channel, found: HashSet::new() })
    }

    /// Another channel over the same connection.
    pub(super) async fn reopen(self) -> Result<Self, Error> {
        Link::over(self.connection).await
    }

    pub(super) fn is_open(&self) -> bool {
        self.connection.status().connected() && self.channel.status().connected()
    }

    /// The status of the connection, now and later.
    pub(super) fn status(&self) -> ConnectionStatus {
        self.connection.status().clone()
    }

    /// Makes sure that the target is there, as far as `mandatory` does not: publishing to an exchange
    /// that does not exist closes the channel, with all on it that is not confirmed yet.
    pub(super) async fn find(&mut self, target: &Target) -> Result<(), Error> {
        let name = match target {
            Target::Queue(_) => return Ok(()),
            Target::Exchange { exchange, .. } => exchange,
            Target::Delay(queue) => &queue.name,
        };
        if name.is_empty() || self.found.contains(name) {
            return Ok(());
        }
        if let Target::Delay(queue) = target {
            let options = QueueDeclareOptions { durable: true, ..Default::default() };
            self.channel.queue_declare(name.as_str().into(), options, queue.arguments()).await?;
        } else {
            let options = ExchangeDeclareOptions { passive: true, ..Default::default() };
            // The broker does not look at the kind of one that is only asked for.
            let (kind, arguments) = (ExchangeKind::Direct, FieldTable::default());
            self.channel.exchange_declare(name.as_str().into(), kind, options, arguments).await?;
        }
        self.found.insert(name.clone());
        Ok(())
    }

    /// Has the target looked for again, because it seems to be gone.
    pub(super) fn forget(&mut self, target: &Target) {
        if let Target::Delay(queue) = target {
            self.found.remove(&queue.name);
        }
    }

    pub(super) async fn publish(&self, copy: &Copy) -> Result<PublisherConfirm, Error> {
        let (exchange, routing_key) = copy.target.address();
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let properties = copy.properties.clone();
        let publishing = self.channel.basic_publish(
            exchange.into(),
            routing_key.into(),
            options,
            &copy.body,
            properties,
        );
        Ok(publishing.await?)
    }
}
