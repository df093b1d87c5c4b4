use std::{sync::Arc, time::Duration};

use rdkafka::{
    ClientConfig, ClientContext, client::DefaultClientContext, config::NativeClientConfig,
};

use super::{
    DeadLetters, Error, Source,
    group::{Group, Settings},
    source::Intervals,
};
use crate::error::ConfigError;

const POLICY: &str = "kafka source";

/// What a source needs otherwise than librdkafka has it.
const OURS: [(&str, &str); 5] = [
    ("enable.auto.offset.store", "false"),
    ("enable.auto.commit", "false"),
    // A partition without an offset may be one that was added, or one whose first messages were in hand
    // of a member that died. At the end they would be passed over.
    ("auto.offset.reset", "earliest"),
    // librdkafka's 64 MiB are meant for all partitions together, and count for each of them where each has
    // a queue of its own.
    ("queued.max.messages.kbytes", "4096"),
    // How long a queue that was full is left alone. A second, which it is otherwise, is too long for
    // what is in one.
    ("fetch.queue.backoff.ms", "50"),
];

/// What [`ConsumerBuilder::ordered`](crate::consumer::ConsumerBuilder::ordered) keeps in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Order {
    /// Messages with the same key, of whatever topic. Those without one are not ordered: whoever sent them left it to
    /// chance in which partition they came to be.
    #[default]
    Key,
    /// Messages of the same partition, as Kafka keeps them. A message that is tried again holds up its
    /// whole partition.
    Partition,
}

/// How a [`Source`] is to be.
#[derive(Clone, Debug)]
#[must_use]
pub struct SourceBuilder {
    client: ClientConfig,
    topics: Vec<String>,
    dead_letters: DeadLetters,
    prefetch: usize,
    max_span: usize,
    order: Order,
}

impl SourceBuilder {
    pub(super) fn new(
        client: ClientConfig,
        topics: Vec<String>,
        dead_letters: DeadLetters,
    ) -> Self {
        let order = Order::default();
        SourceBuilder { client, topics, dead_letters, prefetch: 256, max_span: 10_000, order }
    }

    /// How many deliveries may be unsettled at one time, all partitions together, at least 1.
    ///
    /// Default: 256. It need not hide the network, for librdkafka fetches far ahead of this by itself.
    /// It must only be some times the concurrency, so that a few keys that wait, where order is asked
    /// for, do not leave handlers without work.
    pub fn prefetch(mut self, deliveries: usize) -> Self {
        self.prefetch = deliveries;
        self
    }

    /// How far a partition may go on beyond a delivery that is not settled yet, in messages, at least
    /// 1. At this distance nothing more of this partition is taken, until that one is settled.
    ///
    /// What lies between is delivered again if the process dies, settled or not, and is remembered
    /// until then, in 16 bytes each.
    ///
    /// Default: 10 000, so that a message that is tried again for ten seconds does not hold up a
    /// partition of a thousand messages a second. Set it to 1 to have a partition handled one message
    /// after the other.
    pub fn max_span(mut self, messages: usize) -> Self {
        self.max_span = messages;
        self
    }

    /// What is kept in order, where the consumer is
    /// [asked for order](crate::consumer::ConsumerBuilder::ordered).
    ///
    /// Default: [`Order::Key`].
    pub fn order(mut self, order: Order) -> Self {
        self.order = order;
        self
    }

    /// Makes the client and subscribes. It connects in the background, so that brokers that are not
    /// there are no error here, but of the source later on.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] says what is wrong with which setting; [`Error::Client`] is what librdkafka
    /// does not accept.
    pub fn build(self) -> Result<Source, Error> {
        self.build_with_context(DefaultClientContext)
    }

    /// The same, with a context of your own for librdkafka's log, statistics and OAuth tokens.
    ///
    /// It is called from within the polls of the source, in an asynchronous task. So it must not block: a
    /// token is to be there already when it is asked for.
    ///
    /// # Errors
    ///
    /// As for [`build`](Self::build).
    pub fn build_with_context<C: ClientContext + 'static>(
        mut self,
        context: C,
    ) -> Result<Source<C>, Error> {
        for (key, value) in OURS {
            if self.client.get(key).is_none() {
                self.client.set(key, value);
            }
        }
        self.check()?;
        let native = self.client.create_native_config().map_err(Error::Client)?;
        check_client(&native)?;
        let intervals = Intervals {
            // Three times, so that one poll may come late.
            serve: millis(&native, "max.poll.interval.ms")? / 3,
            commit: millis(&native, "auto.commit.interval.ms")?,
        };
        let settings = Settings {
            max_span: self.max_span,
            order: self.order,
            dead_letters: Arc::new(self.dead_letters),
        };
        let topics: Vec<&str> = self.topics.iter().map(String::as_str).collect();
        let group = Group::join(&self.client, context, &topics, settings);
        Ok(Source::new(group.map_err(Error::Client)?, self.prefetch, intervals))
    }

    fn check(&self) -> Result<(), ConfigError> {
        let at_least_1 = |field, given: usize| match given {
            0 => Err(ConfigError::new(POLICY, field, "must be at least 1", given)),
            _ => Ok(()),
        };
        at_least_1("prefetch", self.prefetch)?;
        at_least_1("max_span", self.max_span)?;
        if self.client.get("group.id").is_none_or(str::is_empty) {
            let rule = "must be set, because offsets are kept by group";
            return Err(ConfigError::new(POLICY, "group.id", rule, ""));
        }
        if self.topics.is_empty() || self.topics.iter().any(|topic| wrong_name(topic)) {
            let rule = "must name at least one topic, and none may be empty or contain a NUL";
            return Err(ConfigError::new(POLICY, "topics", rule, &self.topics));
        }
        let Some(dead) = self.dead_letters.topic() else { return Ok(()) };
        if wrong_name(dead) || self.topics.iter().any(|topic| topic == dead) {
            let rule = "must name a topic, and none of those that are consumed";
            return Err(ConfigError::new(POLICY, "dead_letters", rule, dead));
        }
        Ok(())
    }
}

/// librdkafka's names are C strings.
fn wrong_name(topic: &str) -> bool {
    topic.is_empty() || topic.contains('\0')
}

/// What must be so for offsets to mean what they should, as librdkafka has understood it.
fn check_client(native: &NativeClientConfig) -> Result<(), Error> {
    let must_be = |field: &'static str, value: &str, why: &str| match get(native, field)? {
        given if given == value => Ok(()),
        given => {
            let rule = format!("must be {value}, {why}");
            Err(Error::Config(ConfigError::new(POLICY, field, rule, given)))
        }
    };
    let why = "because only offsets of settled deliveries may be stored";
    must_be("enable.auto.offset.store", "false", why)?;
    must_be("enable.auto.commit", "false", "because the source commits, and in order")?;
    must_be("enable.partition.eof", "false", "because the end of a partition is no error")?;
    if millis(native, "auto.commit.interval.ms")?.is_zero() {
        let rule = "must be at least 1, because offsets are committed so often";
        return Err(ConfigError::new(POLICY, "auto.commit.interval.ms", rule, 0).into());
    }
    Ok(())
}

fn get(native: &NativeClientConfig, key: &str) -> Result<String, Error> {
    let value = native.get(key).map_err(Error::Client)?;
    Ok(value.trim_end_matches('\0').to_owned())
}

fn millis(native: &NativeClientConfig, key: &'static str) -> Result<Duration, Error> {
    let value = get(native, key)?;
    let millis = value.parse().map_err(|_| {
        ConfigError::new(POLICY, key, "must be a number of milliseconds", value.clone())
    })?;
    Ok(Duration::from_millis(millis))
}
