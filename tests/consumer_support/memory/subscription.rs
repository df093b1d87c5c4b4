use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use buttress::consumer::{Delivery, Settle, SettleError, Source};
use bytes::Bytes;
use tokio::time::{Instant, Sleep, sleep_until};

use super::{Broken, InFlight, Memory, State};
use crate::consumer_support::message::Message;

/// A subscription to a [`Memory`].
#[derive(Debug)]
pub struct MemorySource {
    broker: Memory,
    connection: Option<u64>,
    paused: bool,
    /// Deliveries asked for that have not come, of a broker that is pulled.
    asked: usize,
    /// For what time alone causes.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl MemorySource {
    pub(super) fn new(broker: Memory) -> Self {
        MemorySource { broker, connection: None, paused: false, asked: 0, alarm: None }
    }

    /// Whether there is a connection; one that broke is told once.
    fn connect(&mut self, state: &mut State) -> Result<(), Broken> {
        if state.down {
            return Err(Broken);
        }
        if state.failing_polls > 0 {
            state.failing_polls -= 1;
            return Err(Broken);
        }
        if self.connection != Some(state.connection) {
            self.connection = Some(state.connection);
            self.asked = 0;
            state.connects += 1;
        }
        Ok(())
    }

    fn hand_out(&self, state: &mut State) -> Option<MemoryDelivery> {
        let (_, mut queued) = state.ready.pop_first()?;
        queued.deliveries += 1;
        let options = &self.broker.options;
        let tag = state.next_tag;
        state.next_tag += 1;
        let delivery = MemoryDelivery {
            broker: self.broker.clone(),
            connection: state.connection,
            tag,
            attempt: options.counts.then_some(queued.deliveries),
            message: queued.message.clone(),
        };
        let expires = options.ack_wait.map(|ack_wait| Instant::now() + ack_wait);
        state.in_flight.insert(tag, InFlight { queued, expires });
        Some(delivery)
    }
}

impl Source for MemorySource {
    type Delivery = MemoryDelivery;
    type Error = Broken;

    fn prefetch(&self) -> usize {
        self.broker.options.prefetch
    }

    fn extend_every(&self) -> Option<Duration> {
        self.broker.options.extend_every
    }

    fn redelivers(&self) -> bool {
        self.broker.options.redelivers
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        room: usize,
    ) -> Poll<Option<Result<MemoryDelivery, Broken>>> {
        let broker = self.broker.clone();
        let mut state = broker.state();
        if state.is_over() {
            return Poll::Ready(None);
        }
        if let Err(broken) = self.connect(&mut state) {
            return Poll::Ready(Some(Err(broken)));
        }
        let room = if self.paused { 0 } else { room };
        if broker.options.pulls {
            self.asked = self.asked.max(room);
        }
        if room.max(self.asked) > 0
            && state.in_flight.len() < broker.options.prefetch
            && let Some(delivery) = self.hand_out(&mut state)
        {
            self.asked = self.asked.saturating_sub(1);
            return Poll::Ready(Some(Ok(delivery)));
        }
        state.waker = Some(cx.waker().clone());
        self.alarm = state.next().map(|next| Box::pin(sleep_until(next)));
        drop(state);
        if let Some(alarm) = &mut self.alarm
            && alarm.as_mut().poll(cx).is_ready()
        {
            // It came due this very moment; the next poll sees what it brought.
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    fn pause(&mut self) {
        self.paused = true;
    }

    fn resume(&mut self) {
        self.paused = false;
    }

    async fn close(&mut self) -> Result<(), Broken> {
        Ok(())
    }
}

/// A delivery of a [`Memory`].
#[derive(Debug)]
pub struct MemoryDelivery {
    broker: Memory,
    connection: u64,
    tag: u64,
    attempt: Option<u32>,
    message: Message,
}

impl Delivery for MemoryDelivery {
    type Payload = Bytes;

    fn payload(&self) -> Bytes {
        self.message.body.clone()
    }

    fn attempt(&self) -> Option<u32> {
        self.attempt
    }

    fn ordering_key(&self) -> Option<&[u8]> {
        Some(self.message.key.as_bytes())
    }

    /// A client knows of its own connection, not of an ack wait that is over at the broker.
    fn is_lost(&self) -> bool {
        self.broker.state().connection != self.connection
    }

    async fn settle(&mut self, settle: &Settle) -> Result<(), SettleError> {
        let takes = self.broker.options.settle_takes;
        if !takes.is_zero() {
            tokio::time::sleep(takes).await;
        }
        self.broker.change(|state| state.settle(self.tag, settle))
    }

    fn extend(&self) -> impl Future<Output = Result<(), SettleError>> + Send + 'static {
        let (broker, tag) = (self.broker.clone(), self.tag);
        async move {
            let mut state = broker.state();
            match state.in_flight.get_mut(&tag) {
                Some(in_flight) => {
                    in_flight.expires =
                        broker.options.ack_wait.map(|ack_wait| Instant::now() + ack_wait);
                    Ok(())
                }
                None => Err(SettleError::lost("it has been delivered to somebody else")),
            }
        }
    }
}
