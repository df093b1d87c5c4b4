use std::{fmt, time::Duration};

use super::{
    DeadLetters, Source,
    connection::Connect,
    dead_letters::Route,
    publisher::{Publisher, Target},
    source::{OrderBy, Settings},
};
use crate::error::ConfigError;

/// The kind of thing that errors are about.
const WHAT: &str = "RabbitMQ source";
/// How long a name may be in AMQP, in bytes.
const LONGEST_NAME: usize = 255;
/// As much is left of it for the name of a queue that gets [`DelayQueue`](super::delay::DelayQueue)s.
const LONGEST_WITH_DELAYS: usize = 230;

/// How the broker is reached.
#[derive(Clone)]
pub(super) enum Reached {
    At(String),
    By(Connect),
}

impl fmt::Debug for Reached {
    /// Without the URI, which has a password in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reached::At(_) => "At(..)",
            Reached::By(_) => "By(..)",
        })
    }
}

/// Makes a [`Source`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build`"]
pub struct SourceBuilder {
    broker: Reached,
    queue: String,
    dead_letters: DeadLetters,
    prefetch: u16,
    consumer_tag: String,
    timeout: Duration,
    delayed_retry: bool,
    order_by: OrderBy,
}

impl SourceBuilder {
    pub(super) fn new(broker: Reached, queue: String, dead_letters: DeadLetters) -> Self {
        SourceBuilder {
            broker,
            queue,
            dead_letters,
            prefetch: 100,
            consumer_tag: String::new(),
            timeout: Duration::from_secs(10),
            delayed_retry: false,
            order_by: OrderBy::RoutingKey,
        }
    }

    /// How many messages the broker sends ahead of their acknowledgement, from 1 to 65 535. Also
    /// how many are held while the circuit is open, and how many are delivered a second time if
    /// this process is killed.
    ///
    /// Default: 100, the lower end of the 100 to 300 that RabbitMQ's guide finds to give the full
    /// throughput. It should not be below the consumer's concurrency, nor so high that the messages
    /// held cannot be handled within the broker's [`consumer_timeout`](super#what-it-cannot-do).
    pub fn prefetch(mut self, messages: u16) -> Self {
        self.prefetch = messages;
        self
    }

    /// The name of this consumer in the broker's listings, at most 255 bytes.
    ///
    /// Default: none, so that the broker makes one up.
    pub fn consumer_tag(mut self, tag: impl Into<String>) -> Self {
        self.consumer_tag = tag.into();
        self
    }

    /// How long the broker may take to accept a connection and the subscription on it, to confirm
    /// a copy, and to hear of the end; above zero.
    ///
    /// A copy that it has not confirmed by then is an error, and published again; but not while it says
    /// that it is short of memory or disk, which is waited out.
    ///
    /// Default: 10 s, which a broker in good health is far from, and one that starts up with many
    /// queues may need.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }

    /// Has the broker keep back a message that is to be tried again later, in a queue declared for
    /// that: [see there](super#delayed-retry).
    ///
    /// Default: off, because it needs the permission to declare queues, and moves messages behind
    /// those that came after them. Without it the consumer keeps such a message in hand, and calls the
    /// handler again when its time has come: it occupies a place in the prefetch for so long, and
    /// it counts as one delivery however often the handler was called.
    pub fn delayed_retry(mut self) -> Self {
        self.delayed_retry = true;
        self
    }

    /// Orders messages by the value of this header, a text, bytes or a whole number, where
    /// [order is asked for](crate::consumer::ConsumerBuilder::ordered). Those without it are in no
    /// order.
    ///
    /// Default: by routing key, which is what an exchange orders by too. It is the name of the queue
    /// for messages that were published to that directly.
    pub fn order_by_header(mut self, name: impl Into<String>) -> Self {
        self.order_by = OrderBy::Header(name.into());
        self
    }

    /// The source, which has not connected yet.
    pub fn build(self) -> Result<Source, ConfigError> {
        self.validate()?;
        let connect = match self.broker {
            Reached::At(uri) => {
                let uri = uri.parse().map_err(|error: String| {
                    let rule = format!("must be a URI of AMQP ({error})");
                    // It may have a password in it.
                    ConfigError::new(WHAT, "uri", rule, format_args!("not shown here"))
                })?;
                Connect::to(uri)
            }
            Reached::By(connect) => connect,
        };
        let publisher = Publisher::new(connect.clone(), self.timeout);
        Ok(Source::new(Settings {
            connect,
            queue: self.queue,
            tag: self.consumer_tag,
            prefetch: self.prefetch,
            timeout: self.timeout,
            delayed_retry: self.delayed_retry,
            order_by: self.order_by,
            dead_letters: self.dead_letters,
            publisher,
        }))
    }

    fn validate(&self) -> Result<(), ConfigError> {
        let longest = if self.delayed_retry { LONGEST_WITH_DELAYS } else { LONGEST_NAME };
        name("queue", &self.queue, 1, longest)?;
        name("consumer_tag", &self.consumer_tag, 0, LONGEST_NAME)?;
        if self.prefetch == 0 {
            return Err(ConfigError::new(WHAT, "prefetch", "must be at least 1", self.prefetch));
        }
        if self.timeout.is_zero() {
            return Err(ConfigError::new(WHAT, "timeout", "must be above zero", self.timeout));
        }
        if let OrderBy::Header(header) = &self.order_by {
            name("order_by_header", header, 1, LONGEST_NAME)?;
        }
        match &self.dead_letters.0 {
            // By name, or by that exchange which has a route to every queue.
            Route::Publish(target) if target.address() == ("", &self.queue) => {
                let rule = "must go to another queue than the one consumed";
                Err(ConfigError::new(WHAT, "dead_letters", rule, &self.queue))
            }
            Route::Publish(target) => {
                let (exchange, routing_key) = target.address();
                let shortest = usize::from(matches!(target, Target::Queue(_)));
                name("dead_letters", exchange, 0, LONGEST_NAME)?;
                name("dead_letters", routing_key, shortest, LONGEST_NAME)
            }
            Route::Reject => Ok(()),
        }
    }
}

/// Checks that a name can be told to the broker.
fn name(
    field: &'static str,
    given: &str,
    shortest: usize,
    longest: usize,
) -> Result<(), ConfigError> {
    if (shortest..=longest).contains(&given.len()) {
        return Ok(());
    }
    let rule = format!("must have {shortest} to {longest} bytes");
    Err(ConfigError::new(WHAT, field, rule, given))
}
