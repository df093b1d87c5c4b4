//! Kafka, with [rdkafka] 0.39, which is librdkafka 2.12.
//!
//! A [`Source`] is one member of a consumer group. Its messages come as [`Message`], a handle
//! that is cheap to clone.
//!
//! # Example
//!
//! ```no_run
//! # #[derive(Clone, Debug)] struct Order;
//! # impl Order { fn parse(_: &[u8]) -> Result<Order, std::io::Error> { Ok(Order) } }
//! # async fn store(_: Order) -> Result<(), std::io::Error> { Ok(()) }
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//!
//! use buttress::{
//!     CircuitBreaker, ServiceErrors, Stack,
//!     consumer::{
//!         Consumer,
//!         kafka::{DeadLetters, Source, Message},
//!     },
//! };
//! use rdkafka::{ClientConfig, producer::FutureProducer};
//! use tower::service_fn;
//!
//! let mut client = ClientConfig::new();
//! client.set("bootstrap.servers", "localhost:9092");
//! let producer: FutureProducer = client.clone().set("enable.idempotence", "true").create()?;
//! client.set("group.id", "warehouse").set("auto.offset.reset", "earliest");
//!
//! let dead_letters = DeadLetters::to_topic("orders.dead", producer);
//! let source = Source::builder(&client, ["orders"], dead_letters).build()?;
//!
//! let breaker = CircuitBreaker::builder("database").build()?;
//! let handler = Stack::new()
//!     .breaker(breaker)
//!     .timeout(Duration::from_secs(2))
//!     .layer(ServiceErrors)
//!     .service(service_fn(store));
//!
//! let consumer = Consumer::builder("orders").concurrency(16).ordered().gate(breaker).build()?;
//! let running =
//!     consumer.start_decoded(source, |message: &Message| Order::parse(message.body()), handler);
//!
//! tokio::signal::ctrl_c().await?;
//! let summary = running.shutdown(Duration::from_secs(20)).await;
//! println!("{summary:?}");
//! # Ok(()) }
//! ```
//!
//! # What becomes of a message
//!
//! Kafka is not told of one message. It keeps one number for each partition and group: the offset from
//! which the next owner of the partition reads on. So settling is done here:
//!
//! | settlement | is |
//! |---|---|
//! | [`Ack`](super::Settle::Ack) | noted, in memory and at once |
//! | [`Retry`](super::Settle::Retry) | never asked for: the consumer waits and calls the handler again, with the message in hand |
//! | [`DeadLetter`](super::Settle::DeadLetter) | produced to a topic, and noted when the delivery report is there: see [`DeadLetters`] |
//! | [`Release`](super::Settle::Release) | nothing. The partition's next owner begins with it |
//!
//! What is committed of a partition is the *contiguous prefix* of what was settled: never an offset beyond
//! a delivery that is not settled. That is done every `auto.commit.interval.ms` (librdkafka's default: five
//! seconds) by this source, not by librdkafka, when the partition is given up, and at the end.
//!
//! # What is guaranteed
//!
//! - **Nothing is lost**: each message is handled at least once, by this member or by another, if it is
//!   still in the log. That needs `auto.offset.reset=earliest`, which is set unless you say otherwise. It
//!   says where a partition is begun of which the group has no offset, or one that is no longer in the
//!   log: a partition that was added while the group runs, or one whose first messages were in hand when
//!   their owner died. With `latest` those are passed over. With `error` such a partition is told of
//!   [once](Error::Consume), and not read until it is assigned anew.
//! - **Nothing is committed that was not settled**, whenever and however the process ends.
//! - **What is delivered again** after a crash or a rebalance is what was settled since the last commit,
//!   and what was settled ahead of an unsettled message. The first is bounded by time,
//!   `auto.commit.interval.ms`; the second by
//!   [`max_span`](SourceBuilder::max_span), in each partition. After an orderly shutdown it is what
//!   was not handled, and what was handled ahead of that.
//! - **Order** is Kafka's: within a partition. With
//!   [`ordered`](super::ConsumerBuilder::ordered) it is kept [per key](Order) while many keys are handled
//!   at a time. While a partition changes hands, a handler of its old owner may still be running when the
//!   new owner begins: it was told nothing, and what it does cannot be undone. [`Message::offset`] says
//!   which message it is, to recognise one that comes twice.
//!
//! # Rebalances
//!
//! With eager and with cooperative assignment, and where the coordinator assigns
//! (`group.protocol=consumer`, since Kafka 4.0), what is settled of a partition is committed before
//! the partition is given up, and the group waits for that. Deliveries in hand are
//! [lost](super::SettleErrorKind::Lost): not handled if they have not begun, and not acknowledged if they
//! have. The group is not kept waiting for them.
//!
//! # Pauses, and no room
//!
//! Each partition is read from a queue of its own, so this source serves the group, and keeps
//! `max.poll.interval.ms`, whether or not anybody can take a message: however slow the handlers are, and
//! however long the circuit is open. What librdkafka has fetched in advance stays in its buffers, and
//! comes when there is room: `queued.max.messages.kbytes` of each partition, which is 4 MiB here unless you
//! say otherwise, so that a member that has a hundred of them and is far behind needs 400 MiB. A pause that
//! lasts a second pauses the partitions at the brokers, too, also those assigned during it, and throws
//! that away.
//!
//! # Trouble
//!
//! librdkafka connects again by itself, so an [`Error`] of this source is news, not a call for help. It is
//! told once until messages come again. A [fatal](Error::is_fatal) one is told for ever: a member with
//! the same `group.instance.id` has taken over, and to come back would throw that one out in turn.
//!
//! # What it cannot do
//!
//! - **Count deliveries.** Kafka does not: [`attempt`](super::Delivery::attempt) is `None`, and a message
//!   that kills the process each time is delivered for ever.
//! - **Delay.** A message that waits to be tried again is in hand, counts in the
//!   [prefetch](SourceBuilder::prefetch), and keeps its partition's offset where it is.
//! - **Give back one message.** See above: its partition would have to be given back.
//! - **Exactly once.** Offsets are not part of a transaction here.
//!
//! [rdkafka]: https://docs.rs/rdkafka/0.39

mod builder;
mod committer;
mod context;
mod dead_letters;
mod delivery;
mod error;
mod group;
mod message;
mod offsets;
mod signal;
mod source;

pub use builder::{Order, SourceBuilder};
pub use dead_letters::DeadLetters;
pub use delivery::Delivery;
pub use error::Error;
pub use message::Message;
pub use source::Source;
