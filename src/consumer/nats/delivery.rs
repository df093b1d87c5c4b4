use std::{fmt, mem, sync::Arc, time::Duration};

use async_nats::{Subject, jetstream::AckKind};

use super::{DeadLetters, Message, dead_letter, link::Link};
use crate::consumer::{Delivery as ConsumerDelivery, Settle, SettleError};

/// A message that the server has delivered and waits to hear about.
pub struct Delivery {
    message: Message,
    /// Where its acknowledgement goes.
    reply: Subject,
    link: Arc<Link>,
    /// How often the server must hear of it.
    extend_every: Duration,
    /// Whether it counts as in hand.
    in_hand: bool,
    /// It lies with the dead letters already, and only its acknowledgement is missing.
    stored: bool,
}

impl Delivery {
    /// `None` for what is in hand already: that is settled, and the server takes it for this one.
    pub(super) fn new(
        message: Message,
        reply: Subject,
        link: &Arc<Link>,
        extend_every: Duration,
    ) -> Option<Self> {
        link.in_hand.take(message.place()).then(|| {
            let link = Arc::clone(link);
            Delivery { message, reply, link, extend_every, in_hand: true, stored: false }
        })
    }

    async fn acknowledge(&self, kind: AckKind) -> Result<(), SettleError> {
        if !self.link.in_hand.has(self.message.place()) {
            return Err(lost());
        }
        self.link.acknowledge(&self.reply, kind.into()).await
    }

    async fn give_back(&mut self, delay: Option<Duration>) -> Result<(), SettleError> {
        let place = self.message.place();
        // It comes again from now on, maybe before the server has confirmed this.
        if !mem::take(&mut self.in_hand) || !self.link.in_hand.release(place) {
            return Err(lost());
        }
        let said = self.link.acknowledge(&self.reply, AckKind::Nak(delay).into()).await;
        // Nobody may have heard it.
        self.in_hand = said.is_err() && self.link.in_hand.take_back(place);
        said
    }
}

impl ConsumerDelivery for Delivery {
    type Payload = Message;

    fn payload(&self) -> Message {
        self.message.clone()
    }

    fn attempt(&self) -> Option<u32> {
        Some(self.message.attempt())
    }

    fn ordering_key(&self) -> Option<&[u8]> {
        (self.link.ordering_key)(&self.message)
    }

    async fn settle(&mut self, settle: &Settle) -> Result<(), SettleError> {
        match settle {
            Settle::Ack => self.acknowledge(AckKind::Ack).await,
            Settle::Retry { after } => self.give_back((!after.is_zero()).then_some(*after)).await,
            Settle::Release => self.give_back(None).await,
            Settle::DeadLetter { reason } => match &self.link.dead_letters {
                DeadLetters::Terminate => self.acknowledge(AckKind::Term).await,
                DeadLetters::Publish(subject) => {
                    if !self.stored {
                        let headers = dead_letter::headers(&self.message, &self.link, reason);
                        let payload = self.message.payload().clone();
                        let store = self.link.store(subject.as_str().into(), headers, payload);
                        // Nobody else extends it while it is being settled.
                        self.link.extending(&self.reply, self.extend_every, store).await?;
                        self.stored = true;
                    }
                    self.acknowledge(AckKind::Ack).await
                }
            },
        }
    }

    /// Not confirmed: the server ignores it for a delivery that has passed on, without a word, and
    /// another follows before the time is up.
    fn extend(&self) -> impl Future<Output = Result<(), SettleError>> + Send + 'static {
        let (link, reply) = (Arc::clone(&self.link), self.reply.clone());
        let place = self.message.place();
        async move {
            if !link.in_hand.has(place) {
                // After a request for a delay, the server would keep it back for `ack_wait` instead.
                return Ok(());
            }
            link.send(reply, AckKind::Progress.into()).await
        }
    }
}

fn lost() -> SettleError {
    SettleError::lost("it has come again, or its stream was made anew and has another in its place")
}

/// Whatever became of it.
impl Drop for Delivery {
    fn drop(&mut self) {
        if self.in_hand {
            self.link.in_hand.release(self.message.place());
        }
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery").field("message", &self.message).finish_non_exhaustive()
    }
}
