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
            extend_every: (wait / 3).max(Duration::from_millis(1)),
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

    /// What a server says of a consumer with this configuration.
    fn info(config: &serde_json::Value) -> Info {
        let sequence = serde_json::json!({ "consumer_seq": 0, "stream_seq": 0 });
        let mut whole = serde_json::json!({
            "durable_name": "worker", "deliver_policy": "all", "ack_policy": "explicit",
            "ack_wait": 30_000_000_000_u64, "max_deliver": -1, "max_ack_pending": 1000,
            "replay_policy": "instant",
        });
        for (field, value) in config.as_object().unwrap() {
            whole[field] = value.clone();
        }
        let info = serde_json::json!({
            "stream_name": "ORDERS", "name": "worker", "created": "2026-01-01T00:00:00Z",
            "config": whole, "delivered": sequence, "ack_floor": sequence,
            "num_ack_pending": 0, "num_redelivered": 0, "num_waiting": 0, "num_pending": 0,
        });
        serde_json::from_value(info).unwrap()
    }

    #[test]
    fn the_terms_are_those_of_the_consumer() {
        let second = Duration::from_secs(1);
        let usual = Terms { extend_every: 10 * second, batch: usize::MAX, expires: EXPIRES };
        for (config, expected) in [
            (serde_json::json!({}), usual),
            (
                serde_json::json!({ "ack_wait": 3_000_000_000_u64 }),
                Terms { extend_every: second, ..usual },
            ),
            // The shortest wait counts: a backoff takes the place of the wait, delivery by delivery.
            (
                serde_json::json!({ "backoff": [9_000_000_000_u64, 6_000_000_000_u64, 60_000_000_000_u64] }),
                Terms { extend_every: 2 * second, ..usual },
            ),
            (
                serde_json::json!({ "max_batch": 10, "max_expires": 4_000_000_000_u64 }),
                Terms { batch: 10, expires: 4 * second, ..usual },
            ),
            (serde_json::json!({ "max_expires": 60_000_000_000_u64 }), usual),
        ] {
            assert_eq!(Terms::of(&info(&config), 64).unwrap(), expected, "{config}");
        }
    }

    #[test]
    fn a_consumer_that_loses_messages_is_refused() {
        for (config, said) in [
            (serde_json::json!({ "deliver_subject": "x" }), "must be a pull consumer"),
            (
                serde_json::json!({ "ack_policy": "none" }),
                "ack_policy must be Explicit, but is None",
            ),
            (
                serde_json::json!({ "max_deliver": 7 }),
                "max_deliver must be -1, for no limit, but is 7",
            ),
            (serde_json::json!({ "durable_name": null }), "must be durable"),
            (
                serde_json::json!({ "max_ack_pending": 63 }),
                "at least the prefetch, which is 64, but is 63",
            ),
        ] {
            let refusal = Terms::of(&info(&config), 64).unwrap_err().to_string();
            assert!(refusal.contains(said), "{refusal}");
        }
        assert!(Terms::of(&info(&serde_json::json!({ "max_ack_pending": -1 })), 64).is_ok());
        assert!(Terms::of(&info(&serde_json::json!({ "max_ack_pending": 64 })), 64).is_ok());
    }

    #[test]
    fn filters_match_as_the_server_matches() {
        for (filter, subject) in [
            ("a.b", "a.b"),
            ("a.*", "a.b"),
            ("*.b", "a.b"),
            (">", "a"),
            ("a.>", "a.b.c"),
            ("*", "a"),
        ] {
            assert!(matches(filter, subject), "{filter} {subject}");
        }
        for (filter, subject) in
            [("a.b", "a"), ("a", "a.b"), ("a.*", "a"), ("a.>", "a"), ("*", "a.b"), ("a.b", "a.c")]
        {
            assert!(!matches(filter, subject), "{filter} {subject}");
        }
    }
}
