use std::sync::{Arc, Mutex, MutexGuard, atomic::AtomicBool, atomic::Ordering};

use super::{DeadLetters, Error, Message, Order, offsets::Offsets};
use crate::{
    consumer::{self, Settle, SettleError},
    sync::lock,
};

/// One assignment of one partition: what its deliveries settle themselves with.
///
/// A partition that is revoked and assigned again is another one of these, so a delivery of the
/// earlier assignment cannot be mistaken for one of the later.
#[derive(Debug)]
pub(super) struct Assigned {
    pub(super) topic: Arc<str>,
    pub(super) number: i32,
    order: Order,
    /// The partition as a key of order: its topic, and its number in four bytes.
    place: Box<[u8]>,
    pub(super) dead_letters: Arc<DeadLetters>,
    /// Shared by all partitions: some prefix has grown, so there is something to store.
    pub(super) grown: Arc<AtomicBool>,
    offsets: Mutex<Offsets>,
}

impl Assigned {
    pub(super) fn new(
        topic: &str,
        number: i32,
        order: Order,
        dead_letters: Arc<DeadLetters>,
        grown: Arc<AtomicBool>,
    ) -> Self {
        let place = [topic.as_bytes(), &number.to_be_bytes()].concat().into();
        let offsets = Mutex::default();
        Assigned { topic: topic.into(), number, order, place, dead_letters, grown, offsets }
    }

    pub(super) fn offsets(&self) -> MutexGuard<'_, Offsets> {
        lock(&self.offsets)
    }

    fn lost(&self) -> SettleError {
        let Assigned { topic, number, .. } = self;
        SettleError::lost(format!("partition {number} of {topic} was revoked"))
    }
}

/// A message of Kafka in hand.
///
/// Kafka is not told of one message, only of how far a partition has come. So [`Settle::Ack`] is done
/// in memory and at once; the offset follows, when all before it is settled.
#[derive(Debug)]
pub struct Delivery {
    message: Message,
    assigned: Arc<Assigned>,
    place: u64,
}

impl Delivery {
    pub(super) fn new(message: Message, assigned: Arc<Assigned>) -> Self {
        let place = assigned.offsets().hand_out(message.offset());
        Delivery { message, assigned, place }
    }

    fn done(&self) -> Result<(), SettleError> {
        let grown = self.assigned.offsets().settle(self.place);
        if grown.map_err(|_| self.assigned.lost())? {
            // Whoever sees this looks at the offsets under their lock.
            self.assigned.grown.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl consumer::Delivery for Delivery {
    type Payload = Message;

    fn payload(&self) -> Message {
        self.message.clone()
    }

    /// Always `None`: Kafka does not count.
    fn attempt(&self) -> Option<u32> {
        None
    }

    fn ordering_key(&self) -> Option<&[u8]> {
        match self.assigned.order {
            Order::Key => self.message.key(),
            Order::Partition => Some(&self.assigned.place),
        }
    }

    fn is_lost(&self) -> bool {
        self.assigned.offsets().is_given_up()
    }

    async fn settle(&mut self, settle: &Settle) -> Result<(), SettleError> {
        match settle {
            Settle::Ack => self.done(),
            Settle::DeadLetter { reason } => {
                // The next owner of the partition has it too, and finds the same.
                if self.is_lost() {
                    return Err(self.assigned.lost());
                }
                let stored = self.assigned.dead_letters.put(&self.message, reason).await;
                stored.map_err(|error| SettleError::unconfirmed(Error::Client(error)))?;
                self.done()
            }
            // Its offset stays where it is, so whoever has the partition next begins with it.
            Settle::Release => Ok(()),
            // `redelivers` says so, and the consumer does not ask.
            Settle::Retry { .. } => Err(SettleError::unconfirmed("Kafka does not deliver again")),
        }
    }
}
