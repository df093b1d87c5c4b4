//! The headers that a call's context is written to and read from.

use std::{num::NonZeroU32, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::grpc_timeout;
use crate::{context::CallContext, error::PolicyError, telemetry};

static GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
static GRPC_PREVIOUS_ATTEMPTS: HeaderName = HeaderName::from_static("grpc-previous-rpc-attempts");

/// Longer than any call waits for its answer.
const MAX_TIME: Duration = Duration::from_secs(365 * 24 * 3600);

/// The headers of plain HTTP; gRPC's own have the names that they have.
#[derive(Debug)]
pub(super) struct Headers {
    pub(super) deadline: HeaderName,
    pub(super) attempt: HeaderName,
}

/// The defaults; see [`PropagateLayer`](super::PropagateLayer) for where the names are from.
pub(super) static DEFAULT: Headers = Headers {
    deadline: HeaderName::from_static("x-envoy-expected-rq-timeout-ms"),
    attempt: HeaderName::from_static("buttress-attempt"),
};

impl Headers {
    /// Writes what is known of a call, and returns the time that it then says is left; refuses one
    /// that has not the time that could be written.
    pub(super) fn write(
        &self,
        grpc: bool,
        context: CallContext,
        headers: &mut HeaderMap,
    ) -> Result<Option<Duration>, PolicyError> {
        let mut told = None;
        if let Some(left) = context.time_left() {
            let (name, text, unit) = if grpc {
                (&GRPC_TIMEOUT, grpc_timeout::encode(left), Duration::from_nanos(1))
            } else {
                (&self.deadline, encode_millis(left), Duration::from_millis(1))
            };
            let Some(value) = text.and_then(|text| HeaderValue::try_from(text).ok()) else {
                return Err(PolicyError::deadline_too_short("", left, unit));
            };
            // A shorter one is the request's own limit, such as tonic's `Request::set_timeout`.
            told = self.read_time(name, headers).filter(|there| *there <= left);
            if told.is_none() {
                headers.insert(name, value);
                told = self.read_time(name, headers);
            }
        }
        // Not what a proxy has handed on from a caller that it does not trust.
        headers.remove(&self.attempt);
        headers.remove(&GRPC_PREVIOUS_ATTEMPTS);
        if let Some(attempt) = context.attempt {
            let attempt = attempt.get();
            headers.insert(&self.attempt, HeaderValue::from(attempt));
            if grpc && attempt > 1 {
                headers.insert(&GRPC_PREVIOUS_ATTEMPTS, HeaderValue::from(attempt - 1));
            }
        }
        Ok(told)
    }

    /// Takes away what only a trusted sender may say.
    pub(super) fn strip(&self, headers: &mut HeaderMap) {
        for name in [&GRPC_TIMEOUT, &GRPC_PREVIOUS_ATTEMPTS, &self.deadline, &self.attempt] {
            headers.remove(name);
        }
    }

    /// What the sender of these headers says, on top of what is known. Never longer than that.
    pub(super) fn read(&self, mut context: CallContext, headers: &HeaderMap) -> CallContext {
        for name in [&GRPC_TIMEOUT, &self.deadline] {
            if let Some(time) = self.read_time(name, headers) {
                context = context.due_in(time.min(MAX_TIME));
            }
        }
        if context.attempt.is_none() {
            let number = |name| parsed(name, headers, decode_number);
            let previous = |count: NonZeroU32| count.saturating_add(1);
            context.attempt =
                number(&self.attempt).or_else(|| number(&GRPC_PREVIOUS_ATTEMPTS).map(previous));
        }
        context
    }

    fn read_time(&self, name: &HeaderName, headers: &HeaderMap) -> Option<Duration> {
        let decode = if *name == self.deadline { decode_millis } else { grpc_timeout::decode };
        parsed(name, headers, decode)
    }
}

/// The value of a header, if it has one that can be read, and the least if it has several. One that
/// cannot is as good as none: nobody's call fails because of a header that was to make it fail sooner.
fn parsed<T: Ord>(
    name: &HeaderName,
    headers: &HeaderMap,
    decode: impl Fn(&[u8]) -> Option<T>,
) -> Option<T> {
    let value = |text: &HeaderValue| {
        let value = decode(text.as_bytes());
        if value.is_none() {
            telemetry::malformed_header(name.as_str());
        }
        value
    };
    headers.get_all(name).iter().filter_map(value).min()
}

/// Rounded down; `None` for zero, which means "no limit" to some.
fn encode_millis(time: Duration) -> Option<String> {
    let millis = time.min(MAX_TIME).as_millis();
    (millis > 0).then(|| millis.to_string())
}

fn decode_millis(text: &[u8]) -> Option<Duration> {
    let digits = digits(text)?;
    // More than a `u64` holds is longer than anybody waits.
    let millis = digits.parse().unwrap_or(u64::MAX);
    (millis > 0).then(|| Duration::from_millis(millis))
}

fn decode_number(text: &[u8]) -> Option<NonZeroU32> {
    NonZeroU32::new(digits(text)?.parse().unwrap_or(u32::MAX))
}

/// Digits and nothing else: Rust's own numbers may begin with a plus.
fn digits(text: &[u8]) -> Option<&str> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    if digits { str::from_utf8(text).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers<const N: usize>(pairs: [(&'static str, &str); N]) -> HeaderMap {
        let value = |text: &str| HeaderValue::from_bytes(text.as_bytes()).unwrap();
        pairs.into_iter().map(|(name, text)| (HeaderName::from_static(name), value(text))).collect()
    }

    fn read<const N: usize>(pairs: [(&'static str, &str); N]) -> (Option<Duration>, Option<u32>) {
        let context = DEFAULT.read(CallContext::new(), &headers(pairs));
        (context.time_left(), context.attempt.map(NonZeroU32::get))
    }

    const MS: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn the_sooner_deadline_counts_and_huge_ones_are_clamped() {
        let both = [("grpc-timeout", "3S"), ("x-envoy-expected-rq-timeout-ms", "250")];
        assert_eq!(read(both).0, Some(250 * MS));
        assert_eq!(read([("grpc-timeout", "99999999H")]).0, Some(MAX_TIME));
        let digits = "9".repeat(40);
        assert_eq!(read([("x-envoy-expected-rq-timeout-ms", &digits)]).0, Some(MAX_TIME));
        assert_eq!(read([("buttress-attempt", &digits)]).1, Some(u32::MAX));
        assert_eq!(read([("grpc-previous-rpc-attempts", &digits)]).1, Some(u32::MAX));

        let mut twice = headers([("grpc-timeout", "3S")]);
        twice.append("grpc-timeout", HeaderValue::from_static("never"));
        twice.append("grpc-timeout", HeaderValue::from_static("1S"));
        let told = DEFAULT.read(CallContext::new(), &twice);
        assert_eq!(told.time_left(), Some(1000 * MS));

        let known = CallContext::new().due_in(100 * MS).attempt(2);
        let longer = headers([("grpc-timeout", "3S"), ("buttress-attempt", "9")]);
        assert_eq!(DEFAULT.read(known, &longer), known);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_malformed_is_as_good_as_none() {
        for text in ["", "-1", "+1", "1.5", "soon", "0", "1 ", "0x10"] {
            let told = read([
                ("grpc-timeout", text),
                ("x-envoy-expected-rq-timeout-ms", text),
                ("buttress-attempt", text),
                ("grpc-previous-rpc-attempts", text),
            ]);
            assert_eq!(told, (None, None), "{text:?}");
        }
        assert_eq!(
            read([("buttress-attempt", "x"), ("grpc-previous-rpc-attempts", "2")]).1,
            Some(3)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_left_is_written_and_a_shorter_limit_stays() {
        let context = CallContext::new().due_in(1500 * MS).attempt(3);
        for (grpc, name, text) in
            [(false, "x-envoy-expected-rq-timeout-ms", "1500"), (true, "grpc-timeout", "1500000u")]
        {
            let mut written = HeaderMap::new();
            DEFAULT.write(grpc, context, &mut written).unwrap();
            assert_eq!(written[name], text);
            assert_eq!(written["buttress-attempt"], "3");
            assert_eq!(written.contains_key("grpc-previous-rpc-attempts"), grpc);
            assert_eq!(written.len(), if grpc { 3 } else { 2 });
            let back = DEFAULT.read(CallContext::new(), &written);
            assert_eq!(back, context);
        }
        let mut own =
            headers([("grpc-timeout", "20m"), ("x-envoy-expected-rq-timeout-ms", "wrong")]);
        DEFAULT.write(true, context, &mut own).unwrap();
        DEFAULT.write(false, context, &mut own).unwrap();
        assert_eq!(
            (&own["grpc-timeout"], &own["x-envoy-expected-rq-timeout-ms"]),
            (&"20m".parse().unwrap(), &"1500".parse().unwrap())
        );
        let mut longer = headers([("grpc-timeout", "2S")]);
        DEFAULT.write(true, context, &mut longer).unwrap();
        assert_eq!(longer["grpc-timeout"], "1500000u");
    }

    #[tokio::test(start_paused = true)]
    async fn never_zero_on_the_wire() {
        let mut written = HeaderMap::new();
        let context = CallContext::new().due_in(Duration::from_micros(999));
        let error = DEFAULT.write(false, context, &mut written).unwrap_err();
        let text = "the caller's deadline is too short: 999µs left, 1ms needed";
        assert_eq!(error.to_string(), text);
        DEFAULT.write(true, context, &mut written).unwrap();
        assert_eq!(written["grpc-timeout"], "999000n");
        let context = CallContext::new().due_in(Duration::ZERO);
        assert!(DEFAULT.write(true, context, &mut written).is_err());
    }

    #[tokio::test]
    async fn an_attempt_that_was_handed_on_unread_goes_no_further() {
        let mut proxied = headers([("buttress-attempt", "3"), ("grpc-previous-rpc-attempts", "2")]);
        DEFAULT.write(false, CallContext::new(), &mut proxied).unwrap();
        assert!(proxied.is_empty());

        // Nor beside a number of our own.
        let mut proxied = headers([("buttress-attempt", "3"), ("grpc-previous-rpc-attempts", "2")]);
        DEFAULT.write(true, CallContext::new().attempt(1), &mut proxied).unwrap();
        assert_eq!(proxied["buttress-attempt"], "1");
        assert_eq!(proxied.len(), 1);
    }
}
