use std::{io, sync::Arc};

use lapin::{
    Acker,
    options::{BasicAckOptions, BasicNackOptions, BasicRejectOptions},
};

use super::{
    Error, Message, copy,
    dead_letters::Route,
    delay::DelayQueue,
    message::{bytes, number},
    publisher::{Copy, Storing, Target},
    source::{OrderBy, Settings},
};
use crate::consumer::{self, Settle, SettleError};

/// A message from a queue, and the duty to settle it.
#[derive(Debug)]
pub struct Delivery {
    message: Message,
    acker: Acker,
    settings: Arc<Settings>,
    /// The value of the header that orders, where one does.
    key: Option<Vec<u8>>,
    /// Tells copies of this delivery from all others.
    id: i64,
    /// A copy that is being stored: it was asked for, and nobody has answered yet.
    storing: Option<Storing>,
    /// A copy is stored, so that the original must go whatever happens.
    stored: bool,
}

impl Delivery {
    pub(super) fn new(delivery: lapin::message::Delivery, settings: Arc<Settings>) -> Self {
        let acker = delivery.acker.clone();
        let message = Message::new(delivery);
        let key = match &settings.order_by {
            OrderBy::RoutingKey => None,
            OrderBy::Header(name) => message.header(name).and_then(|value| match number(value) {
                Some(number) => Some(number.to_string().into_bytes()),
                None => bytes(value).map(<[u8]>::to_vec),
            }),
        };
        Delivery { message, acker, settings, key, id: rand::random(), storing: None, stored: false }
    }

    /// Makes a copy of it that outlives it, or makes sure that there is one.
    async fn store(&mut self, copy: Copy) -> Result<(), SettleError> {
        let Settings { publisher, timeout, .. } = &*self.settings;
        // It may have been answered meanwhile. A failure has been told in its place already.
        if let Some(Ok(answer)) = self.storing.as_mut().map(Storing::try_recv) {
            (self.stored, self.storing) = (answer.is_ok(), None);
        }
        if self.stored {
            return Ok(());
        }
        let storing = self.storing.get_or_insert_with(|| publisher.store(copy));
        let answer = match tokio::time::timeout(*timeout, storing).await {
            Ok(answer) => answer.unwrap_or(Err(Error::ShutDown)),
            // A second one would be stored as well.
            Err(_) => return Err(SettleError::unconfirmed(Error::NoAnswer(*timeout))),
        };
        (self.stored, self.storing) = (answer.is_ok(), None);
        answer.map_err(SettleError::unconfirmed)
    }

    fn for_redelivery(&self, queue: DelayQueue) -> Copy {
        let properties = copy::for_redelivery(&self.message, self.id);
        self.copy(Target::Delay(queue), properties)
    }

    fn dead_letter(&self, target: Target, reason: &str) -> Copy {
        let queue = &self.settings.queue;
        self.copy(target, copy::dead_letter(&self.message, self.id, queue, reason))
    }

    fn copy(&self, target: Target, properties: lapin::BasicProperties) -> Copy {
        Copy { target, id: self.id, properties, body: self.message.body().clone() }
    }

    async fn ack(&self) -> Result<(), SettleError> {
        self.told(self.acker.ack(BasicAckOptions::default()).await)
    }

    async fn requeue(&self) -> Result<(), SettleError> {
        let options = BasicNackOptions { requeue: true, ..Default::default() };
        self.told(self.acker.nack(options).await)
    }

    async fn reject(&self) -> Result<(), SettleError> {
        self.told(self.acker.reject(BasicRejectOptions { requeue: false }).await)
    }

    /// What it means how lapin took it: `false` is from an acker that was used before, or whose
    /// channel is gone.
    fn told(&self, sent: lapin::Result<bool>) -> Result<(), SettleError> {
        match sent {
            Ok(true) => Ok(()),
            Ok(false) => self.held(),
            Err(error) => Err(SettleError::lost(error)),
        }
    }

    /// Whether it is still this consumer's.
    fn held(&self) -> Result<(), SettleError> {
        if self.acker.poisoned() {
            let closed = io::Error::new(io::ErrorKind::NotConnected, "its channel was closed");
            return Err(SettleError::lost(closed));
        }
        Ok(())
    }
}

impl consumer::Delivery for Delivery {
    type Payload = Message;

    fn payload(&self) -> Message {
        self.message.clone()
    }

    fn attempt(&self) -> Option<u32> {
        self.message.attempt()
    }

    fn ordering_key(&self) -> Option<&[u8]> {
        match &self.settings.order_by {
            OrderBy::RoutingKey => Some(self.message.routing_key().as_bytes()),
            OrderBy::Header(_) => self.key.as_deref(),
        }
    }

    fn is_lost(&self) -> bool {
        self.acker.poisoned()
    }

    /// Acknowledgements are not answered in AMQP 0-9-1: `Ok` says that it was sent on a channel that
    /// was open. Should that be lost on the way, the message is delivered again.
    async fn settle(&mut self, settle: &Settle) -> Result<(), SettleError> {
        // The broker will deliver it again, so a copy would be one too many.
        self.held()?;
        match settle {
            _ if self.stored => {}
            Settle::Ack => {}
            Settle::Retry { after } if self.settings.delayed_retry => {
                let queue = DelayQueue::of(&self.settings.queue, *after);
                self.store(self.for_redelivery(queue)).await?;
            }
            Settle::Retry { .. } | Settle::Release => return self.requeue().await,
            Settle::DeadLetter { reason } => match &self.settings.dead_letters.0 {
                Route::Reject => return self.reject().await,
                Route::Publish(target) => {
                    self.store(self.dead_letter(target.clone(), reason)).await?;
                }
            },
        }
        self.ack().await
    }
}
