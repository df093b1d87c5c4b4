//! Consumers: the same policies around the handler of a message queue, and nothing lost.
//!
//! A consumer is not a client. When the database behind a handler is down, an HTTP client that is
//! refused goes home; a message that is refused comes back at once, is refused again, and within
//! milliseconds has used up the deliveries it is allowed. So thousands of good messages end in the
//! dead-letter queue because something else was broken. The right answer to an outage is to stop
//! pulling, to hold what is in hand, to probe with a few, and to go on when it works again.
//!
//! ```text
//!             room, pause, resume           payload
//!   broker <--------------------> Consumer -----------> your stack: retry, breaker, timeout
//!          ---- delivery ------->  holds  <-----------        |
//!          <--- settle, extend --    |       outcome          v
//!                                    '--- gate ---- breaker   database
//! ```
//!
//! A [`Source`] hands out deliveries, and a [`Consumer`] hands their payloads to the handler, any
//! tower service that can be cloned, and settles each by what comes of it. The consumer owns the
//! delivery and the handler sees the payload alone, whose clones are cheap; so a retry inside the
//! stack costs no copy.
//!
//! ```
//! use std::time::Duration;
//!
//! use buttress::{
//!     CircuitBreaker, Retry, ServiceErrors, Stack,
//!     consumer::{Consumer, Delivery, Running, Source},
//! };
//! # async fn save(order: String) -> Result<(), std::io::Error> { drop(order); Ok(()) }
//!
//! fn orders<S>(source: S) -> Result<Running, buttress::ConfigError>
//! where
//!     S: Source,
//!     S::Delivery: Delivery<Payload = Vec<u8>>,
//! {
//!     let database = CircuitBreaker::builder("database").consecutive_failures(5).build()?;
//!     let handler = Stack::new()
//!         .retry(Retry::builder("save order").build()?)
//!         .breaker(database)
//!         .timeout(Duration::from_secs(1))
//!         .layer(ServiceErrors)
//!         .service(tower::service_fn(save));
//!
//!     let consumer = Consumer::builder("orders")
//!         .gate(database)         // stop pulling while the database is down
//!         .concurrency(16)
//!         .max_deliveries(5)
//!         .build()?;
//!     // What cannot be decoded is a dead letter, and the handler never sees it.
//!     Ok(consumer.start_decoded(source, |payload| String::from_utf8(payload.clone()), handler))
//! }
//! # drop(orders::<Nowhere>);
//! # enum Nowhere {}
//! # impl Source for Nowhere {
//! #     type Delivery = Nowhere;
//! #     type Error = std::io::Error;
//! #     fn prefetch(&self) -> usize { match *self {} }
//! #     fn poll_next(&mut self, _: &mut std::task::Context<'_>, _: usize)
//! #         -> std::task::Poll<Option<Result<Nowhere, std::io::Error>>> { match *self {} }
//! #     fn pause(&mut self) {}
//! #     fn resume(&mut self) {}
//! #     async fn close(&mut self) -> Result<(), std::io::Error> { Ok(()) }
//! # }
//! # impl Delivery for Nowhere {
//! #     type Payload = Vec<u8>;
//! #     fn payload(&self) -> Vec<u8> { match *self {} }
//! #     fn attempt(&self) -> Option<u32> { None }
//! #     async fn settle(&mut self, _: &buttress::consumer::Settle)
//! #         -> Result<(), buttress::consumer::SettleError> { Ok(()) }
//! # }
//! ```
//!
//! and at the end of the program `running.shutdown(Duration::from_secs(10)).await`, which says what
//! became of everything.
//!
//! # What becomes of a message
//!
//! | what came of it | what is done |
//! |---|---|
//! | success | [`Ack`](Settle::Ack) |
//! | [permanent](crate::Verdict::Permanent) or [final](crate::Verdict::Final) failure, payload that cannot be decoded | [`DeadLetter`](Settle::DeadLetter) with the reason |
//! | transient, unreachable, throttled or [ignored](crate::Verdict::Ignored), after the stack's own retries; a panic of the handler | [`Retry`](Settle::Retry) after a jittered delay, the hint of a throttling service being its least; at [`max_deliveries`](ConsumerBuilder::max_deliveries) a dead letter |
//! | refused by a policy: an open circuit, say | [held](Decision::Hold) |
//! | any of the failures of the third row while the gate is not closed, or after a refusal | held: it is the dependency's failure, and no message's |
//! | arrived with more deliveries behind it than it may have | a dead letter, unhandled: it may be what kills the process |
//!
//! What an outcome means is for the consumer's own [classifier](ConsumerBuilder::classified) to say, to which by
//! default every error is transient. It is not told what the stack takes for permanent: where the stack is
//! [classified](crate::Stack::classified), give the same classifier to both, or such a message is tried again
//! until its deliveries are spent. [`ConsumerBuilder::decide`] says otherwise where you know better.
//!
//! Where order is [asked for](ConsumerBuilder::ordered), or the broker has no redelivery, a retry is made
//! in hand: the delivery stays, its key waits, the others go on.
//!
//! # The pause
//!
//! With a [gate](ConsumerBuilder::gate), nothing is pulled and no handler starts while its circuit is
//! open; what had been asked for before, and comes now, is held with the rest. When the open time is over
//! as many messages as there are probes are handed to the handler, from what is in hand, or pulled
//! for that if nothing is. They close the circuit, and everything goes on at once; or they open it
//! again and go behind the others in hand, so that the next probe is another message. Where all that is
//! in hand was such a probe already, one more is pulled for the next, as long as there is room: what is
//! in hand may itself be what fails, and must not hold up the recovery. No probe spends a delivery. What
//! is in hand is *extended* meanwhile, where the broker wants to hear of it.
//!
//! Without a gate a refusal is noticed all the same, and then one message at a time finds out
//! whether it is over, after [`probe_after`](ConsumerBuilder::probe_after).
//!
//! What failed before the breaker had seen enough has spent a delivery: no more of them than
//! the breaker wants to see, and the concurrency. So allow more deliveries than one, and a
//! [prefetch](Source::prefetch) larger than the number of messages that may fail by themselves at one
//! time: when every message in hand fails, nothing tells that from an outage, and they are held.
//!
//! **Where messages are few, or kept in order, have the breaker look at a row of failures**, with
//! [`consecutive_failures`](crate::breaker::CircuitBreakerBuilder::consecutive_failures) no greater than
//! `max_deliveries`. Its window alone wants up to 50 failures, and where there are not as many messages it sees
//! the same ones fail again and again: at one message a second, an outage makes dead letters of the first few
//! before the circuit opens.
//!
//! # What is promised
//!
//! - **At least once.** Nothing is acknowledged before the handler has answered, and no dead letter before
//!   the broker has confirmed its copy. What is not settled is delivered again; so a handler must
//!   bear being called twice for one message.
//! - **A handler that panics** fails its own message.
//! - **Shutdown**: pulling stops, what runs may finish until the deadline with the heartbeats of all in hand going
//!   on, what finished is settled, and then the rest is given back. A shutdown or a kill costs each message
//!   that was in hand one delivery, where the broker counts them, and those are at most the prefetch; tries in
//!   hand are forgotten with the process.
//! - **A broker that goes away** is asked again, later and later, and work goes on when it is back. What could
//!   not be settled meanwhile is [counted](Summary::unconfirmed) and logged, not passed over. An acknowledgement is
//!   said ten times in all, with the first delays of [`reconnect_after`](ConsumerBuilder::reconnect_after) between,
//!   which is half a minute at most unless the broker takes longer to answer; then the message is let go,
//!   and is handled a second time when the broker delivers it again.
//!
//! # Brokers
//!
//! | | [NATS](nats) JetStream | [RabbitMQ](rabbitmq), quorum queue | [Kafka](kafka) |
//! |---|---|---|---|
//! | client, its version | async-nats 0.51 (Rust 1.89) | lapin 4 | rdkafka 0.39 |
//! | tested with | nats-server 2.9.10 | RabbitMQ 3.10.8 | the mock cluster of librdkafka 2.12 |
//! | who counts deliveries | the server | the broker, and a header across delayed copies | nobody: the consumer, while it has the message in hand |
//! | [`Retry`](Settle::Retry) | negative acknowledgement with a delay | where asked for, a copy in a queue with a time to live; else in hand | in hand |
//! | [`DeadLetter`](Settle::DeadLetter) | published to a subject, confirmed, then acknowledged; or terminated without a copy | published to a queue or exchange, confirmed, then acknowledged; or rejected, for the broker's own | produced to a topic, reported, then noted; or dropped knowingly |
//! | is an [`Ack`](Settle::Ack) confirmed? | yes, each, unless you say otherwise | not before the end of the channel | by the next commit of offsets |
//! | heartbeat of what is held | every third of `ack_wait`, for as long as you like | none: `consumer_timeout` (30 minutes) ends every pause | none needed: the group is served whatever happens |
//! | giving back | counts as a delivery | counts as a delivery | costs nothing: it was never taken from the log |
//! | after a kill, delivered again | what was in hand, after `ack_wait`; of a killed *server* also what it had been told of in its last moments, seldom all of it | what was in hand, at once | what was settled since the last commit, or beyond an unsettled message |
//! | order | per subject, or what you say; one process, while its connection stands | per routing key, or header; one active consumer | per key, within a partition |
//! | what it cannot do | tell a consumer that its delivery passed to another; order across processes | confirm acknowledgements; hold for longer than `consumer_timeout`, at which all that is in hand comes again and has spent a delivery: an outage of so many times half an hour makes dead letters of good messages, so raise it | count deliveries, so a message that kills the process comes for ever; delay; give back one message |
//!
//! Amazon SQS would fit (a receipt, a receive count, a visibility timeout to extend) and is not here: its
//! client needs Rust 1.94. A [`Source`] of your own can be for any broker.
//!
//! # Watching it
//!
//! [`Running::status`] tells what is in hand, since when it is paused and what went wrong last; the metrics
//! are in the [table](crate#features) of the crate. What is in hand, held, tried again in hand or panicked, and
//! whether the source is broken, is in no metric: a page of metrics takes it from a [`Monitor`].
//!
//! Feature `tracing` tells, at WARN: a pause with its gate and the last error, each dead letter with its reason, each
//! panic of the handler, the first error of a source in a row, and each settlement that was not confirmed or came
//! too late; at INFO: that it goes on, and that the source works again; at DEBUG: why a message is to be tried again.
//! No line says which message it was, for a payload may be anything: what the handler logs does.

mod config;
mod driver;
mod halt;
mod hand;
mod handle;
mod handling;
#[cfg(feature = "nats")]
#[cfg_attr(docsrs, doc(cfg(feature = "nats")))]
pub mod nats;
mod outcome;
#[cfg(feature = "rabbitmq")]
#[cfg_attr(docsrs, doc(cfg(feature = "rabbitmq")))]
pub mod rabbitmq;
mod running;
mod settle;
mod source;

pub use config::{ConsumerBuilder, ConsumerConfig};
pub use handle::Consumer;
pub use outcome::{Handled, Outcome};
pub use running::{Monitor, Running, Status, Summary};
pub use settle::{Decision, Settle, SettleError, SettleErrorKind};
pub use source::{Delivery, Source};

#[cfg(feature = "kafka")]
pub mod kafka;
