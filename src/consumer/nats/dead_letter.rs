//! What is written on a dead letter.

use async_nats::{HeaderMap, HeaderValue};

use super::{
    Message,
    link::Link,
    message::{Place, named},
};
use crate::consumer::settle::beginning;

/// The longest reason that is kept, in bytes. Errors may quote whole answers, and headers count
/// towards the largest message that the server takes.
const REASON: usize = 1024;

/// The message's own headers, and ours.
pub(super) fn headers(message: &Message, link: &Link, reason: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, values) in message.headers().into_iter().flat_map(HeaderMap::iter) {
        // Those are orders to the stream that the message was published to: an expected sequence, an
        // identifier that has been seen, a roll-up. To the stream of dead letters they would be wrong.
        if named(name).get(..5).is_some_and(|start| start.eq_ignore_ascii_case("nats-")) {
            continue;
        }
        for value in values {
            headers.append(name.clone(), value.clone());
        }
    }
    headers.insert("Buttress-Reason", one_line(reason));
    headers.insert("Buttress-Subject", one_line(message.subject()));
    headers.insert("Buttress-Stream", one_line(&link.stream));
    headers.insert("Buttress-Consumer", one_line(&link.consumer));
    headers.insert("Buttress-Sequence", HeaderValue::from(message.sequence()));
    headers.insert("Buttress-Deliveries", HeaderValue::from(message.attempt()));
    // Stored twice when it was not known whether it was stored, it is there once. The time tells it from
    // the one that has its number in a stream of the same name: made anew, or of another domain.
    let Place { sequence, published, .. } = message.place();
    let id = format!("dead:{}:{}:{sequence}:{published}", link.stream, link.consumer);
    headers.insert("Nats-Msg-Id", one_line(&id));
    headers
}

/// A header's value is one line, and bounded.
fn one_line(text: &str) -> String {
    beginning(text, REASON).replace(['\r', '\n'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_one_bounded_line() {
        assert_eq!(one_line("no such customer"), "no such customer");
        assert_eq!(one_line("a\r\nInjected: b"), "a  Injected: b");
        let long = "ü".repeat(REASON);
        assert_eq!(one_line(&long), "ü".repeat(REASON / 2));
    }
}
