//! NATS: a consumer of a JetStream stream, with [async-nats] 0.51.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use buttress::{
//!     CircuitBreaker, Retry, ServiceErrors, Stack,
//!     consumer::{
//!         Consumer,
//!         nats::{DeadLetters, Message, Source},
//!     },
//! };
//!
//! # async fn save(order: Message) -> Result<(), std::io::Error> { drop(order); Ok(()) }
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let client = async_nats::connect("nats://localhost:4222").await?;
//! let jetstream = async_nats::jetstream::new(client);
//!
//! // The durable consumer "billing" of the stream ORDERS, and a subject that another stream stores.
//! let dead_letters = DeadLetters::to("dead.orders");
//! let source = Source::builder(jetstream, "ORDERS", "billing", dead_letters).open().await?;
//!
//! let database = CircuitBreaker::builder("database").build()?;
//! let handler = Stack::new()
//!     .retry(Retry::builder("save order").build()?)
//!     .breaker(database)
//!     .timeout(Duration::from_secs(1))
//!     .layer(ServiceErrors)
//!     .service(tower::service_fn(save));
//!
//! let running = Consumer::builder("orders").gate(database).build()?.start(source, handler);
//! tokio::signal::ctrl_c().await?;
//! println!("{:?}", running.shutdown(Duration::from_secs(10)).await);
//! # Ok(()) }
//! ```
//!
//! # What it needs
//!
//! The stream and the consumer exist already: made by a deployment, or with async-nats. The consumer is
//! a **durable pull** consumer with an **explicit** `ack_policy` and **no `max_deliver`**:
//!
//! ```no_run
//! # async fn make(jetstream: async_nats::jetstream::Context) -> Result<(), async_nats::Error> {
//! use async_nats::jetstream::consumer::{PullConsumer, pull};
//!
//! let config = pull::Config {
//!     durable_name: Some("billing".to_owned()),
//!     max_deliver: -1,
//!     ..pull::Config::default()
//! };
//! let billing: PullConsumer = jetstream.create_consumer_on_stream(config, "ORDERS").await?;
//! # drop(billing); Ok(()) }
//! ```
//!
//! Anything else is refused by [`open`](SourceBuilder::open), which says why. A `max_deliver` in
//! particular makes the server drop a message at its limit without keeping it, and counts deliveries that
//! were given back or cut short by a crash; the
//! [limit of the consumer](super::ConsumerBuilder::max_deliveries) ends with a dead letter instead.
//!
//! Under an account with permissions the client must be allowed to publish to the consumer's
//! `$JS.API.CONSUMER.INFO` and `$JS.API.CONSUMER.MSG.NEXT`, to `$JS.ACK.>`, and for dead letters to
//! `$JS.API.STREAM.NAMES` and their subject; and to subscribe to its inbox, `_INBOX.>`.
//!
//! # How it works
//!
//! - **Pulling.** The server is asked for as many messages as there is room for, with one request at a time:
//!   never more than the [prefetch](SourceBuilder::prefetch) are with the consumer. (The client's own
//!   `messages()` asks for the next hundred while yours wait.) A request waits at the server for 10
//!   seconds, with a heartbeat every two; where those fail to come, and after each new connection, the
//!   consumer is looked up and asked anew.
//! - **The pause.** Nothing is asked for. A request that waits at the server cannot be taken back: what
//!   still comes for it, in its 10 seconds, is held with the rest.
//! - **`ack_wait`** is the time after which the server delivers a message again. Everything in hand is
//!   extended (`+WPI`) at least every third of it, so it need not be longer than the slowest handler: it is
//!   how long a message waits after a crash. Of a `backoff`, which nats-server 2.9 does not allow without a
//!   `max_deliver`, it is the shortest wait that counts.
//! - **No message is twice in hand.** One that comes again while it is in hand, as after the connection was
//!   lost, or the server stood still, for longer than `ack_wait`, is not handed over: settling the first is
//!   settling it. It counts as a delivery.
//! - **Retries** are a `-NAK` with the delay, and the server keeps the message back. It counts
//!   towards `max_ack_pending` meanwhile, 1000 by default, and at that number the server delivers nothing more:
//!   set it to what may wait in a bad hour.
//! - **Dead letters** are [published](DeadLetters::Publish) and confirmed before the original is acknowledged,
//!   with the message's own headers, except those that are orders to a stream (`Nats-...`), and with
//!   `Buttress-Reason`, `Buttress-Subject`, `Buttress-Stream`, `Buttress-Consumer`,
//!   `Buttress-Sequence`, `Buttress-Deliveries`. Their `Nats-Msg-Id` is made of stream, consumer and
//!   sequence, and the time at which the message was stored, so that one that is stored again, because the
//!   confirmation was lost, is there once (within the `duplicate_window` of their stream, two minutes by
//!   default). While it is being stored, the original is extended.
//! - **Acknowledgements** are [confirmed](Acks::Confirmed) by the server unless you say otherwise.
//! - **Order**, where it is [asked for](super::ConsumerBuilder::ordered), is kept per
//!   [subject](SourceBuilder::ordering_key), or whatever you say.
//!
//! # What NATS does not do
//!
//! - **It forgets.** A server that is killed has not written down the acknowledgements of the last tenth of
//!   a second, confirmed or not, and delivers those messages again; nor what it delivered in it, so that it
//!   may count one too few, and confirms an acknowledgement that it then has no use for. After
//!   seven of some ninety kills it came back as if next to none of the consumer's acknowledgements had been
//!   made. (Measured on a server alone; what
//!   replicas save of that was not.) And it leaves what it stores in the cache of the operating system
//!   for a while: a machine that loses power loses messages that were confirmed. See `sync_interval` of
//!   the server.
//! - **It does not tell who has a delivery.** Where its time was up and it went to another consumer, an
//!   acknowledgement by the first is still taken, and nobody is told that it was late.
//! - **It goes by a message's number.** A stream that is deleted and made anew, as one in memory is when its
//!   server restarts, begins with 1 again, and what is in hand of the old one would settle the new one's. Where
//!   the message that now has the number has come to this source, that is
//!   [`Lost`](super::SettleErrorKind::Lost) instead; where another process has it, nobody can know. So let
//!   consumers end before a stream is made anew.
//! - **It says nothing when a consumer is changed.** What the source knows of it was read when it last
//!   subscribed: end it before its `ack_wait` is made shorter, or its heartbeats come too late.
//! - **It does not take back what it gave.** A message that is given back, or was in hand when the process
//!   was killed, comes with a count one higher.
//! - **Its dead letters are no queue of their own**: only what *this* consumer puts aside arrives there, not
//!   what a stream's limits throw away.
//! - **One consumer's order is one process's.** Two processes that pull from one durable consumer share
//!   its messages, whatever their keys; so for order run one of them, or give each subjects of its
//!   own.
//! - **A connection that is lost takes along what was on its way.** Those messages come again when `ack_wait` is
//!   over: with a count one higher, and behind later ones that were asked for on the new connection, so order
//!   is not kept there.
//! - **Headers that the client cannot read**, of another encoding than UTF-8 say, break its connection, each
//!   time the message comes; what was on its way behind it has then spent a delivery, and may never arrive.
//!   A carriage return within a value ends the client for good, with a panic in its task: the status shows
//!   that it is closed, and only a new one helps. The server takes such headers from whoever publishes them,
//!   and the message must be deleted from the stream.
//! - **A dead letter must fit.** Its headers make it larger than the message; one that was within
//!   some 2 kB of the server's `max_payload` cannot be stored, and stays in hand with an error in the
//!   status.
//! - **An `inactive_threshold`** of a durable consumer runs while nothing is pulled and nothing in hand
//!   extended: one that is shorter than the circuit stays open, or the process is away, makes the server
//!   delete the consumer in that time.
//!
//! Tested with nats-server 2.9.10. A newer async-nats comes with a new version of this feature; it is
//! part of this module's interface, and of no other's.
//!
//! [async-nats]: https://docs.rs/async-nats

mod builder;
mod dead_letter;
mod delivery;
mod error;
mod in_hand;
mod link;
mod message;
mod pull;
mod source;
mod terms;

pub use builder::{Acks, DeadLetters, SourceBuilder};
pub use delivery::Delivery;
pub use error::Error;
pub use message::Message;
pub use source::Source;
