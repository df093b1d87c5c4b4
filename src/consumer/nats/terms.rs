use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, Info};

use super::Error;

/// How long the server keeps a request for messages that it has none for. Long enough to cost
/// nothing, short enough that a consumer that pauses is left alone soon.
const EXPIRES: Duration = Duration::from_secs(10);
/// How long the server waits for an acknowledgement where its consumer does not say.
const ACK_WAIT: Duration = Duration::from_secs(30);

/// What a JetStream consumer allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    /// How often it must hear of a delivery.
    pub(super) extend_every: Duration,
    /// How many messages may be asked for in one request.
    pub(super) batch: usize,
    /// How long a request may wait.
    pub(super) expires: Duration,
}

impl Terms {
    /// The terms of this consumer, if nothing is lost under them.
    pub(super) fn of(info: &Info, prefetch: usize) -> Result<Self, Error> {
        let config = &info.config;
        let unsuitable = |reason: String| Error::Unsuitable {
            stream: info.stream_name.clone(),
            consumer: info.name.clone(),
            reason,
        };
        if config.deliver_subject.is_some() {
            return Err(unsuitable("it must be a pull consumer, but pushes".to_owned()));
        }
        if config.ack_policy != AckPolicy::Explicit {
            let policy = config.ack_policy;
            return Err(unsuitable(format!("its ack_policy must be Explicit, but is {policy:?}")));
        }
        if config.max_deliver > 0 {
            return Err(unsuitable(format!(
                "its max_deliver must be -1, for no limit, but is {}: the server drops a message at \
                 its limit without keeping it, and counts a delivery that was given back or cut \
                 short; the consumer has its own max_deliveries",
                config.max_deliver
            )));
        }
        if config.durable_name.is_none() {
            return Err(unsuitable(
                "it must be durable: the server deletes one that is not, and what it was to deliver, \
                 while nobody pulls, as when the consumer pauses"
                    .to_owned(),
            ));
        }
        if let Ok(pending @ 1..) = usize::try_from(config.max_ack_pending)
            && pending < prefetch
        {
            return Err(unsuitable(format!(
                "its max_ack_pending must be at least the prefetch, which is {prefetch}, but is \
                 {pending}"
            )));
        }

        let waits = config.backoff.iter().copied().chain([config.ack_wait]);
        let wait = waits.filter(|wait| !wait.is_zero()).min().unwrap_or(ACK_WAIT);
        Ok(Terms {
            // Two may go astray before the server takes the delivery for lost.
            extend_every: wait / 3,
            batch: at_most(config.max_batch).unwrap_or(usize::MAX),
            expires: match config.max_expires {
                limit if limit.is_zero() => EXPIRES,
                limit => limit.min(EXPIRES),
            },
        })
    }
}

/// A limit of the server: there is none where it is not positive.
fn at_most(limit: i64) -> Option<usize> {
    usize::try_from(limit).ok().filter(|limit| *limit > 0)
}

/// Whether a subject matches a filter: `*` stands for one token, `>` at the end for one or more.
pub(super) fn matches(filter: &str, subject: &str) -> bool {
    let mut subject = subject.split('.');
    let mut filter = filter.split('.');
    loop {
        match (filter.next(), subject.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(_)) => {}
            (Some(expected), Some(token)) if expected == token => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_as_the_server_matches() {
        for (filter, subject) in
            [("a.b", "a.b"), ("a.*", "a.b"), ("*.b", "a.b"), (">", "a"), ("a.>", "a.b.c"), ("*", "a")]
        {
            assert!(matches(filter, subject), "{filter} {subject}");
        }
        for (filter, subject) in
            [("a.b", "a"), ("a", "a.b"), ("a.*", "a"), ("a.>", "a"), ("*", "a.b"), ("a.b", "a.c")]
        {
            assert!(!matches(filter, subject), "{filter} {subject}");
        }
    }
}
