//! A source over a quorum queue of RabbitMQ, with [lapin] 4.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use buttress::{
//!     CircuitBreaker, ServiceErrors, Stack,
//!     consumer::{
//!         Consumer,
//!         rabbitmq::{DeadLetters, Message, Source},
//!     },
//! };
//!
//! # async fn save(order: String) -> Result<(), std::io::Error> { drop(order); Ok(()) }
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Both queues exist: declared with `x-queue-type: quorum`, by whoever declares queues.
//! let source = Source::builder(
//!     "amqp://guest:guest@localhost:5672/%2f?heartbeat=10",
//!     "orders",
//!     DeadLetters::to_queue("orders.dead"),
//! )
//! .prefetch(64)
//! .delayed_retry()
//! .build()?;
//!
//! let database = CircuitBreaker::builder("database").build()?;
//! let handler = Stack::new()
//!     .breaker(database)
//!     .timeout(Duration::from_secs(1))
//!     .layer(ServiceErrors)
//!     .service(tower::service_fn(save));
//!
//! let consumer = Consumer::builder("orders").gate(database).concurrency(16).build()?;
//! let decode = |message: &Message| String::from_utf8(message.body().to_vec());
//! let running = consumer.start_decoded(source, decode, handler);
//!
//! tokio::signal::ctrl_c().await?;
//! println!("{:?}", running.shutdown(Duration::from_secs(10)).await);
//! # Ok(()) }
//! ```
//!
//! # What it does
//!
//! It consumes with `basic.consume` under a [prefetch](SourceBuilder::prefetch), and acknowledges
//! each message by itself.
//!
//! - **Connection.** It connects when it is polled for the first time, and anew after each error,
//!   whenever the consumer asks again. lapin's own recovery is not used: it goes on in silence,
//!   while a delivery whose channel was closed must be known to be lost. What closes the channel
//!   only, or cancels the consumer because its queue was deleted, is treated alike: one error, and
//!   then a new connection. It never ends by itself.
//! - **Order.** The [key](crate::consumer::Delivery::ordering_key) is the routing key that the message was
//!   published with at first, or [a header](SourceBuilder::order_by_header). A queue keeps its order for one
//!   consumer. Across several, declare it with `x-single-active-consumer`: the broker then sends to one of
//!   them, and to the next when that is gone.
//! - **Pause.** While the circuit is open, the subscription stays: the broker sends no more than the prefetch
//!   ahead of acknowledgements, and so it stops by itself. What it has sent waits in lapin's buffer: the broker
//!   lists it as unacknowledged, and [`in_hand`](super::Status::in_hand) does not count it. To cancel and consume
//!   anew would spare other consumers at most that, and give away the activity of a single active consumer.
//! - **Deliveries** are counted by the broker in `x-delivery-count`, for quorum queues only. A classic queue works,
//!   but does not count, so the consumer counts what it sees itself, and a message that kills the process
//!   comes back for ever. A stream does not work: it forgets what was acknowledged, and cannot take anything back.
//! - **Dead letters** go where [`DeadLetters`] says.
//!
//! # Delayed retry
//!
//! AMQP has no delay, so with [`delayed_retry`](SourceBuilder::delayed_retry) a message that is to come back
//! later is published to a queue whose messages live for a fixed time and then dead-letter to where they
//! came from: `orders.retry.100ms`, `orders.retry.200ms`, and so on, doubling up to 38 days. It waits in the
//! first that is long enough: never less than asked for, and less than twice as long, or 100 ms. (With a time
//! to live per message instead, a long one would hold up all behind it.)
//!
//! They are declared when first needed, as durable quorum queues with at-least-once dead-lettering, and
//! they stay: a queue that expires when nobody uses it takes the messages in it along. There are at most 26
//! for one queue, and as many as the delays need, which is ten for the consumer's defaults. Delete
//! them together with their queue. The user needs the permission to declare them. Keep policies away from them
//! that say something about `expires`, `message-ttl` or `max-length`: the first loses what waits there.
//!
//! # What a copy carries
//!
//! A dead letter and a message for later are copies, published persistent and `mandatory` over a connection
//! of their own, because a broker short of memory stops reading from connections that publish. The
//! original is acknowledged when the broker has confirmed the copy; until then
//! the settlement is [unconfirmed](crate::consumer::SettleErrorKind::Unconfirmed), and repeated.
//!
//! | header | on | says |
//! |---|---|---|
//! | `x-buttress-reason` | dead letters | why, up to 4096 bytes |
//! | `x-buttress-queue` | dead letters | the queue it was consumed from |
//! | `x-buttress-deliveries` | dead letters | how often it had been delivered |
//! | `x-buttress-deliveries-before` | messages for later | how often it had been delivered, to be counted on from |
//! | `x-buttress-exchange`, `x-buttress-routing-key` | both | where it was published at first, which [`Message`] tells |
//! | `x-buttress-copy` | both | a number; two copies with the same are one that was stored twice |
//!
//! A dead letter can be put back into its queue as it is: its deliveries are counted from one again. (From one
//! that the broker made of a message that had been delayed, take `x-buttress-deliveries-before` off.)
//!
//! While the broker says that it is short of memory or disk, copies wait, and their originals with them.
//!
//! # What it cannot do
//!
//! - **Acknowledgements are not confirmed** in AMQP 0-9-1. That one was settled says that it was sent on an
//!   open channel. What was on its way when the connection broke, or was kept back in the broker's channel
//!   because the queue was slow to write it down, is delivered again: at most the prefetch. At the
//!   end the source makes sure that all have got through, before it closes the channel.
//! - **Nothing is held for longer than `consumer_timeout`**, which is 30 minutes if the broker's configuration does
//!   not say otherwise: there is no heartbeat for a delivery, and one that is held, or handled, for
//!   longer closes the channel, gives everything on it back, and costs each a delivery. With the next probe the
//!   source connects anew and work goes on: so an outage costs a delivery in every such time, and one of more
//!   of them than [`max_deliveries`](crate::consumer::ConsumerBuilder::max_deliveries) makes dead letters of
//!   what was held. Raise it above your longest outage: `consumer_timeout` in `rabbitmq.conf`, in milliseconds;
//!   from 3.12 on also the policy `consumer-timeout` or the argument `x-consumer-timeout` of the queue.
//! - **Giving back counts** as a delivery for quorum queues: at a shutdown, what was not handled; at the death of the
//!   process or the connection, all that was in hand or on its way, whether it was handed out or not.
//! - **A limit of the queue's own** is not seen from here: beyond `x-delivery-limit` (20 by default from RabbitMQ 4
//!   on) the broker dead-letters as the queue says, and where it says nothing drops the message. It should be more
//!   than [`max_deliveries`](crate::consumer::ConsumerBuilder::max_deliveries).
//! - **A delayed message loses its place.** It comes behind those that were published meanwhile. Where order is asked
//!   for, the consumer retries in hand.
//! - **`expiration` and `user-id` do not survive a copy**, nor do the headers `CC` and `BCC`. Nor does `x-death`
//!   survive a delay: RabbitMQ keeps back what expires on its way to a queue that is named there, for it seems to go
//!   in circles.
//! - **A copy may be stored twice.** What the broker has not confirmed within the
//!   [`timeout`](SourceBuilder::timeout) is published again: a queue that has lost its majority may have a copy
//!   from every try when that is back, all with the same `x-buttress-copy`.
//! - **Headers that leave no room** cannot be copied: with what is added, 5 kB at most, they must fit into one frame, of
//!   128 KiB if the broker does not say otherwise. If not, the broker closes the connection at every try.
//! - **Dead connections are noticed by heartbeat**: after twice the time that the broker suggests, 60 s, or that the
//!   URI's `heartbeat` says. Until then it is quiet, and nothing is lost.
//! - **lapin tells the log too much**: of a copy that no queue takes, it writes the body too, as a warning.
//! - **RabbitMQ 3.10 forgets a quorum queue that it was told of moments before a `SIGKILL`** or a loss of power: it is
//!   listed afterwards, and never answers. That can hit a delay queue at its first use on a broker without
//!   replicas; where this matters, declare those ahead.
//!
//! # Versions
//!
//! This module follows lapin 4, whose types are in its interface: a new major version of lapin is
//! one of this feature. `amqps` needs one of lapin's features for TLS, switched on in your own `Cargo.toml`;
//! without, it is an error.
//! Tested against RabbitMQ 3.10.8; delayed retry needs 3.10 at least, for times to live in quorum queues.

mod attempt;
mod builder;
mod connection;
mod copy;
mod dead_letters;
mod delay;
mod delivery;
mod error;
mod link;
mod message;
mod publisher;
mod source;

pub use builder::SourceBuilder;
pub use dead_letters::DeadLetters;
pub use delivery::Delivery;
pub use error::Error;
pub use message::Message;
pub use source::Source;
