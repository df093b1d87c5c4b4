use super::publisher::Target;

/// Where dead letters go: a choice that every [`Source`](super::Source) has to make.
///
/// | | kept with it | confirmed before the original goes |
/// |---|---|---|
/// | [`to_queue`](Self::to_queue), [`to_exchange`](Self::to_exchange) | reason, origin, number of deliveries | always |
/// | [`by_broker`](Self::by_broker) | `x-death` | as the queue is declared |
///
/// A copy is made of body, headers and properties. It is published persistent and `mandatory`, and
/// the original acknowledged when the broker has confirmed that it is stored. Of the properties
/// only `expiration` and `user-id` stay behind: the copy is there to be looked at, and the broker
/// lets nobody publish in another's name. So do the headers `CC` and `BCC`, which would send it
/// once more to where the original went. What is added are
/// [headers](super#what-a-copy-carries).
#[derive(Clone, Debug)]
pub struct DeadLetters(pub(super) Route);

#[derive(Clone, Debug)]
pub(super) enum Route {
    Publish(Target),
    Reject,
}

impl DeadLetters {
    /// To this queue, which must exist: if it does not, dead letters are errors, and their
    /// originals stay unacknowledged.
    pub fn to_queue(queue: impl Into<String>) -> Self {
        DeadLetters(Route::Publish(Target::Queue(queue.into())))
    }

    /// To this exchange with this routing key. If it does not exist, or no queue is bound to it
    /// for that key, dead letters are errors, and their originals stay unacknowledged.
    pub fn to_exchange(exchange: impl Into<String>, routing_key: impl Into<String>) -> Self {
        let (exchange, routing_key) = (exchange.into(), routing_key.into());
        DeadLetters(Route::Publish(Target::Exchange { exchange, routing_key }))
    }

    /// Rejected, which makes the broker dead-letter it as the queue's `x-dead-letter-exchange`
    /// says.
    ///
    /// It costs no connection and no copy through the client. But the reason is lost; the client is
    /// told nothing; **a queue without a dead-letter exchange drops the message**; and unless
    /// the queue has `x-dead-letter-strategy: at-least-once`, so does one whose target is not
    /// there or not well.
    pub fn by_broker() -> Self {
        DeadLetters(Route::Reject)
    }
}
