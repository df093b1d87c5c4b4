use std::time::Duration;

use http::{
    HeaderMap,
    header::{DATE, RETRY_AFTER},
};

/// The longest hint that is told on: a day.
///
/// Whoever was asked for longer is told a day. That is beyond any operation that waits, so nobody
/// loses by it, and a server's typing error (or worse) stays a number that arithmetic can bear. A
/// [`Retry`](crate::Retry) follows a hint no further than its own
/// [`max_retry_after`](crate::retry::RetryBuilder::max_retry_after), by default half a minute.
pub const MAX_HINT: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a server asks to be left alone: its `Retry-After` header (RFC 9110, section 10.2.3),
/// from zero to [`MAX_HINT`].
///
/// Both forms are understood, whole seconds and a date, the latter in all three formats of
/// RFC 9110, section 5.6.7. A date is held against the response's own `Date`, so that what counts
/// is the server's clock and not the difference between two; only where a server names no `Date`
/// is it held against the clock of this machine. A date in the past is a hint of zero.
///
/// `None` without the header, and where it is neither form: half a hint is no hint.
///
/// ```
/// use buttress::http::retry_after;
/// use http::{HeaderMap, HeaderValue};
/// use std::time::Duration;
///
/// let mut headers = HeaderMap::new();
/// headers.insert("retry-after", HeaderValue::from_static("120"));
/// assert_eq!(retry_after(&headers), Some(Duration::from_secs(120)));
///
/// headers.insert("date", HeaderValue::from_static("Fri, 31 Dec 1999 23:59:29 GMT"));
/// headers.insert("retry-after", HeaderValue::from_static("Fri, 31 Dec 1999 23:59:59 GMT"));
/// assert_eq!(retry_after(&headers), Some(Duration::from_secs(30)));
/// ```
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let hint = match seconds(value) {
        Some(seconds) => Duration::from_secs(seconds),
        None => until(value, headers)?,
    };
    Some(hint.min(MAX_HINT))
}

/// `1*DIGIT` and nothing else: no sign, no fraction. A number beyond all bounds is a long time.
fn seconds(value: &str) -> Option<u64> {
    let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| value.parse().unwrap_or(u64::MAX))
}

fn until(date: &str, headers: &HeaderMap) -> Option<Duration> {
    let then = httpdate::parse_http_date(date).ok()?;
    let said = headers.get(DATE).and_then(|date| date.to_str().ok());
    let now = said.and_then(|date| httpdate::parse_http_date(date.trim()).ok());
    let now = now.unwrap_or_else(|| {
        // Law 10 keeps wall clocks out, because tests cannot wind them. But a date is a date of a
        // wall clock, and this server has not told us what its own shows.
        #[allow(clippy::disallowed_types)]
        std::time::SystemTime::now()
    });
    Some(then.duration_since(now).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    fn hint(value: &[u8]) -> Option<Duration> {
        hint_at(value, Some(NOW))
    }

    fn hint_at(value: &[u8], date: Option<&str>) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, value.try_into().unwrap());
        if let Some(date) = date {
            headers.insert(DATE, date.try_into().unwrap());
        }
        retry_after(&headers)
    }

    #[test]
    fn seconds_are_seconds() {
        for (value, expected) in [
            ("0", 0),
            ("007", 7),
            ("120", 120),
            (" 3 ", 3),
            ("86400", 86_400),
            ("86401", 86_400),
            ("18446744073709551616", 86_400),
            ("999999999999999999999999999999", 86_400),
        ] {
            assert_eq!(hint(value.as_bytes()), Some(Duration::from_secs(expected)), "{value}");
        }
    }

    #[test]
    fn a_date_counts_from_the_date_of_the_response_in_all_three_formats() {
        for value in [
            "Sun, 06 Nov 1994 08:50:00 GMT",  // IMF-fixdate
            "Sunday, 06-Nov-94 08:50:00 GMT", // RFC 850
            "Sun Nov  6 08:50:00 1994",       // asctime
        ] {
            assert_eq!(hint(value.as_bytes()), Some(Duration::from_secs(23)), "{value}");
        }
        assert_eq!(hint(b"Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO), "now");
        assert_eq!(hint(b"Sun, 06 Nov 1994 08:49:36 GMT"), Some(Duration::ZERO), "past");
        assert_eq!(hint(b"Fri, 31 Dec 9999 23:59:59 GMT"), Some(MAX_HINT), "clamped");
    }

    #[test]
    fn a_date_without_a_date_to_count_from_is_held_against_the_wall_clock() {
        for date in [None, Some("yesterday")] {
            assert_eq!(hint_at(NOW.as_bytes(), date), Some(Duration::ZERO), "long past");
            assert_eq!(hint_at(b"Fri, 31 Dec 9999 23:59:59 GMT", date), Some(MAX_HINT));
        }
    }

    #[test]
    fn anything_else_is_no_hint() {
        for value in [
            "",
            "-1",
            "+1",
            "1.5",
            "1s",
            "1 2",
            "0x10",
            "soon",
            "٣",
            "Sun, 06 Nov 1994 08:50:00",
            "Sun, 32 Nov 1994 08:50:00 GMT",
        ] {
            assert_eq!(hint(value.as_bytes()), None, "{value:?}");
        }
        assert_eq!(hint(b"\xff"), None);
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }

    proptest! {
        #[test]
        fn whatever_a_server_sends_is_a_hint_within_bounds_or_none(value: Vec<u8>, date: Vec<u8>) {
            let mut headers = HeaderMap::new();
            for (name, value) in [(RETRY_AFTER, value), (DATE, date)] {
                if let Ok(value) = value.try_into() {
                    headers.insert(name, value);
                }
            }
            prop_assert!(retry_after(&headers).is_none_or(|hint| hint <= MAX_HINT));
        }

        #[test]
        fn a_date_is_as_many_seconds_as_lie_between(from in 0_u64..4_000_000_000, wait in 0_u64..200_000) {
            let at = |seconds| httpdate::HttpDate::from(
                httpdate::parse_http_date("Thu, 01 Jan 1970 00:00:00 GMT").unwrap()
                    + Duration::from_secs(seconds),
            );
            let expected = Duration::from_secs(wait).min(MAX_HINT);
            let then = at(from + wait).to_string();
            prop_assert_eq!(hint_at(then.as_bytes(), Some(&at(from).to_string())), Some(expected));
        }
    }
}
