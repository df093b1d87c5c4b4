//! What every broker's tests put a consumer through.
//!
//! A test makes its [`Broker`] and calls one of these. They use the real clock, so that real
//! connections work; the memory broker can be put through them in paused time as well.

mod crash;
mod open_circuit;
mod outages;
mod shutdown;

use std::{collections::BTreeSet, env, time::Duration};

use buttress::{
    Backoff, CircuitBreaker, Error, Retry, ServiceErrors, Stack, Window,
    consumer::{Consumer, Delivery, Running, Source},
};
use bytes::Bytes;
pub use crash::crash;
pub use open_circuit::open_circuit;
pub use outages::{Order, outages};
pub use shutdown::{hard_shutdown, shutdown};
use tokio::time::{Instant, sleep};
use tower::{Service, service_fn};

use super::{
    dependency::{Dependency, Failure, verdict},
    ledger::{Ledger, Watched},
    message::{self, Message},
};

/// How long anything may take that has no other limit: the machine is shared.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How many deliveries a message has.
pub const MAX_DELIVERIES: u32 = 5;

/// The breaker's window: an outage is known after so many failed calls at the latest.
pub const WINDOW: u32 = 20;

/// The longest that the breaker stays open before it probes.
pub const LONGEST_OPEN: Duration = Duration::from_millis(400);

pub type PayloadOf<S> = <<S as Source>::Delivery as Delivery>::Payload;

/// A broker with one queue, empty when it is made and used by one test.
///
/// The ack wait, where it has one, should be about 2 s, so that an outage is longer.
pub trait Broker {
    type Source: Source;

    /// The prefetch of its sources; some 50.
    const PREFETCH: usize;

    /// How long before it is killed it may have confirmed acknowledgements that it then does not
    /// remember.
    const FORGETS: Duration = Duration::ZERO;

    /// Stores these, with their bodies, and their keys as what orders them. Returns when the broker
    /// has confirmed it.
    async fn publish(&self, messages: &[Message]);

    /// A subscription to the queue; with `ordered` one that keeps the order of each key.
    async fn source(&self, ordered: bool) -> Self::Source;

    /// The body that was published.
    fn body(payload: &PayloadOf<Self::Source>) -> Bytes;

    /// How many messages are neither acknowledged nor put aside, whether handed out or not.
    async fn left(&self) -> usize;

    /// The bodies of those that were put aside, with their reasons.
    async fn dead_letters(&self) -> Vec<(Bytes, String)>;

    /// Goes down without a word: SIGKILL.
    async fn kill(&self);

    /// Is there again, at the same address.
    async fn restart(&self);
}

/// 5 000 messages, or 50 000 with `BUTTRESS_FULL=1`.
pub fn messages() -> u64 {
    if is_full() { 50_000 } else { 5_000 }
}

/// How long the outage takes.
pub fn outage() -> Duration {
    Duration::from_secs(if is_full() { 10 } else { 3 })
}

fn is_full() -> bool {
    env::var_os("BUTTRESS_FULL").is_some_and(|full| full == "1")
}

/// The breaker of the handler's stack, and the gate.
pub fn breaker() -> CircuitBreaker {
    CircuitBreaker::builder("dependency")
        .window(Window::calls(WINDOW))
        .min_calls(10)
        .failure_ratio(0.5)
        .open_for(Backoff::exponential(LONGEST_OPEN / 4).max(LONGEST_OPEN))
        .probes(2)
        .build()
        .unwrap()
}

/// A handler as one would write it: retry around breaker around timeout.
pub fn handler(
    dependency: &Dependency,
    breaker: CircuitBreaker,
) -> impl Service<message::Order, Response = (), Error = Error<Failure>, Future: Send + 'static>
+ Clone
+ Send
+ 'static {
    let retry = Retry::builder("dependency")
        .max_attempts(2)
        .backoff(Backoff::exponential(Duration::from_millis(5)))
        .build()
        .unwrap();
    let dependency = dependency.clone();
    Stack::classified(buttress::classify_fn(verdict::<()>))
        .retry(retry)
        .breaker(breaker)
        // Longer than a busy machine may keep a handler waiting.
        .timeout(Duration::from_millis(250))
        .layer(ServiceErrors)
        .service(service_fn(move |order: message::Order| {
            let dependency = dependency.clone();
            async move { dependency.handle(order).await }
        }))
}

/// Starts a consumer of this broker, whose ledger that is.
pub async fn start<B: Broker>(
    broker: &B,
    dependency: &Dependency,
    breaker: CircuitBreaker,
    ordered: bool,
    ledger: &Ledger,
) -> Running {
    let source = broker.source(ordered).await;
    assert_eq!(source.prefetch(), B::PREFETCH);
    let source = Watched::new(source, ledger, |payload| message::id_of(&B::body(payload)));
    let mut consumer = Consumer::builder("scenario")
        .concurrency(16)
        .max_deliveries(MAX_DELIVERIES)
        .retry_after(Backoff::exponential(Duration::from_millis(200)))
        .gate(breaker)
        .classified(buttress::classify_fn(verdict::<()>));
    if ordered {
        consumer = consumer.ordered();
    }
    let decode = |payload: &PayloadOf<B::Source>| message::decode(&B::body(payload));
    consumer.build().unwrap().start_decoded(source, decode, handler(dependency, breaker))
}

/// Waits until that holds. Fails when it does not within [`PATIENCE`], five times that of a full run.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let patience = PATIENCE * if is_full() { 5 } else { 1 };
    let end = Instant::now() + patience;
    while !holds().await {
        assert!(Instant::now() < end, "waited {patience:?} in vain: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// The ids of the dead letters. Fails where one is there twice.
pub async fn dead_ids<B: Broker>(broker: &B) -> BTreeSet<u64> {
    let mut ids = BTreeSet::new();
    for (body, reason) in broker.dead_letters().await {
        let id = message::id_of(&body);
        assert!(ids.insert(id), "{id} is a dead letter twice, now because {reason:?}");
    }
    ids
}
