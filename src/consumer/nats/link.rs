use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use async_nats::{
    Client, HeaderMap, Request, Statistics, Subject,
    client::RequestErrorKind,
    connection::State,
    jetstream::{AckKind, Context},
};
use bytes::Bytes;
use std::sync::atomic::Ordering;
use tokio::time::timeout;

use super::{Acks, DeadLetters, Error, Message, in_hand::InHand};
use crate::consumer::SettleError;

/// How long it takes at most to notice that a connection was lost and made anew, and with it a
/// confirmation.
const SLICE: Duration = Duration::from_secs(1);

/// What a source and its deliveries share: the way to the server, and what was decided about it.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) context: Context,
    pub(super) client: Client,
    pub(super) statistics: Arc<Statistics>,
    pub(super) stream: String,
    pub(super) consumer: String,
    pub(super) dead_letters: DeadLetters,
    pub(super) acks: Acks,
    pub(super) confirm_within: Duration,
    pub(super) ordering_key: fn(&Message) -> Option<&[u8]>,
    pub(super) in_hand: InHand,
}

impl Link {
    /// How often the client has connected: another number is another connection.
    pub(super) fn connects(&self) -> u64 {
        self.statistics.connects.load(Ordering::Relaxed)
    }

    pub(super) fn connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// Sends an acknowledgement, and waits for the server's confirmation where that is asked for.
    pub(super) async fn acknowledge(
        &self,
        reply: &Subject,
        acknowledgement: Bytes,
    ) -> Result<(), SettleError> {
        match self.acks {
            Acks::Sent => self.send(reply.clone(), acknowledgement).await,
            Acks::Confirmed => {
                // The time limit is the one around it, which covers the way into the client, too.
                let request = Request::new().payload(acknowledgement).timeout(None);
                let request = self.client.send_request(reply.clone(), request);
                match self.confirmed(request).await? {
                    Ok(_) => Ok(()),
                    Err(error) if error.kind() == RequestErrorKind::NoResponders => {
                        // The consumer is gone, or the server has just come back and not loaded it yet.
                        Err(SettleError::unconfirmed("the server does not know the consumer"))
                    }
                    Err(error) => Err(SettleError::unconfirmed(error)),
                }
            }
        }
    }

    /// Sends an acknowledgement into a connection that stands, and waits for nothing.
    pub(super) async fn send(
        &self,
        reply: Subject,
        acknowledgement: Bytes,
    ) -> Result<(), SettleError> {
        if !self.connected() {
            return Err(SettleError::unconfirmed(Error::Disconnected));
        }
        let sent = self.client.publish(reply, acknowledgement);
        match timeout(self.confirm_within, sent).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(SettleError::unconfirmed(error)),
            Err(_) => Err(SettleError::unconfirmed(Error::NotConfirmed(self.confirm_within))),
        }
    }

    /// Stores a message in the stream that takes this subject.
    pub(super) async fn store(
        &self,
        subject: Subject,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<(), SettleError> {
        let stored = async {
            // The outer future sends it, the inner one is the stream's answer.
            self.context.publish_with_headers(subject, headers, payload).await?.await
        };
        self.confirmed(stored).await?.map(|_| ()).map_err(SettleError::unconfirmed)
    }

    /// Does something that may take longer than the server waits to hear of a delivery, and tells it
    /// before that and meanwhile.
    pub(super) async fn extending<F: Future>(
        &self,
        reply: &Subject,
        every: Duration,
        work: F,
    ) -> F::Output {
        let mut work = pin!(work);
        loop {
            // Where it does not get through another follows, as when the consumer extends it.
            let _ = self.send(reply.clone(), AckKind::Progress.into()).await;
            if let Ok(output) = timeout(every, work.as_mut()).await {
                return output;
            }
        }
    }

    /// Waits for an answer as long as it can still come: until the time is up, or the connection
    /// it was asked for on is no more. (What the client had not yet written is asked for on the next
    /// one and answered at once, so nothing is given up that would have come.)
    async fn confirmed<F: Future>(&self, answer: F) -> Result<F::Output, SettleError> {
        let connects = self.connects();
        let mut answer = pin!(answer);
        let mut left = self.confirm_within;
        loop {
            let slice = left.min(SLICE);
            if let Ok(output) = timeout(slice, answer.as_mut()).await {
                return Ok(output);
            }
            left -= slice;
            if self.connects() != connects {
                return Err(SettleError::unconfirmed("the connection was lost before the answer"));
            }
            if left.is_zero() {
                return Err(SettleError::unconfirmed(Error::NotConfirmed(self.confirm_within)));
            }
        }
    }
}
