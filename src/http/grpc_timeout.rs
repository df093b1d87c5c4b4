//! gRPC's wire format for the time that is left.
//!
//! `Timeout → "grpc-timeout" TimeoutValue TimeoutUnit`, where the value is a "positive integer as
//! ASCII string of at most 8 digits" and the unit one of `H M S m u n`: gRPC over HTTP/2, the
//! document `PROTOCOL-HTTP2.md`.

use std::time::Duration;

const MAX_VALUE: u128 = 99_999_999;

/// In a second.
const NANOS: u128 = 1_000_000_000;

/// The units from the finest to the coarsest, in nanoseconds.
const UNITS: [(u8, u128); 6] = [
    (b'n', 1),
    (b'u', 1_000),
    (b'm', 1_000_000),
    (b'S', 1_000_000_000),
    (b'M', 60_000_000_000),
    (b'H', 3_600_000_000_000),
];

/// In the finest unit that holds it, rounded down; at most what the coarsest holds, 11 thousand
/// years. `None` for zero, which the format does not have.
pub(super) fn encode(time: Duration) -> Option<String> {
    let nanos = time.as_nanos();
    let holds = UNITS.into_iter().find(|(_, size)| nanos / size <= MAX_VALUE);
    let (unit, value) = match holds {
        Some((unit, size)) => (unit, nanos / size),
        None => (b'H', MAX_VALUE),
    };
    (value > 0).then(|| format!("{value}{}", char::from(unit)))
}

/// `None` for whatever is not of the format. Zero is among that: to some it means "at once", to
/// others (Envoy) "whenever you like".
pub(super) fn decode(text: &[u8]) -> Option<Duration> {
    let (unit, digits) = text.split_last()?;
    let (_, size) = UNITS.into_iter().find(|(known, _)| known == unit)?;
    if digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value: u128 = str::from_utf8(digits).ok()?.parse().ok()?;
    let nanos = value * size;
    (value > 0).then(|| Duration::new((nanos / NANOS) as u64, (nanos % NANOS) as u32))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_finest_unit_that_holds_it() {
        assert_eq!(encode(Duration::ZERO), None);
        assert_eq!(encode(Duration::from_nanos(1)).unwrap(), "1n");
        assert_eq!(encode(Duration::from_nanos(99_999_999)).unwrap(), "99999999n");
        assert_eq!(encode(Duration::from_nanos(100_000_999)).unwrap(), "100000u");
        assert_eq!(encode(Duration::from_millis(1500)).unwrap(), "1500000u");
        assert_eq!(encode(Duration::from_micros(99_999_999)).unwrap(), "99999999u");
        assert_eq!(encode(Duration::from_secs(100)).unwrap(), "100000m");
        assert_eq!(encode(Duration::from_secs(100_000)).unwrap(), "100000S");
        assert_eq!(encode(Duration::from_secs(100_000_000)).unwrap(), "1666666M");
        assert_eq!(encode(Duration::from_secs(6_000_000_000)).unwrap(), "1666666H");
        assert_eq!(encode(Duration::MAX).unwrap(), "99999999H");
    }

    #[test]
    fn what_is_not_of_the_format() {
        let wrong =
            ["", "m", "1", "0m", "00000000S", "-1m", "+1m", "1.5S", "1s", "1h", "1 m", " 1m"];
        for text in wrong.into_iter().chain(["123456789n", "1mm", "१m", "m1", "1m ", "1ms"]) {
            assert_eq!(decode(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(decode(&[0xff, b'm']), None);
        assert_eq!(decode(b"00000001S"), Some(Duration::from_secs(1)));
        assert_eq!(decode(b"99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
    }

    proptest! {
        #[test]
        fn never_longer_than_what_is_left_and_hardly_shorter(
            secs in prop_oneof![0_u64..10, 0_u64..1_000_000, any::<u64>()],
            nanos in 0_u32..1_000_000_000,
        ) {
            let time = Duration::new(secs, nanos);
            let Some(text) = encode(time) else {
                prop_assert!(time.is_zero());
                return Ok(());
            };
            prop_assert!((2..=9).contains(&text.len()), "{text}");
            let back = decode(text.as_bytes()).unwrap();
            prop_assert!(back <= time, "{text} is longer than {time:?}");
            // The next coarser unit still has five digits or more.
            let lost = time.min(Duration::from_secs(99_999_999 * 3600)).saturating_sub(back);
            prop_assert!(lost <= time / 100_000, "{text} is much shorter than {time:?}");
        }

        #[test]
        fn what_is_written_is_read_back(value in 1_u32..=99_999_999, unit in 0_usize..6) {
            let (letter, _) = UNITS[unit];
            let text = format!("{value}{}", char::from(letter));
            let time = decode(text.as_bytes()).unwrap();
            let size = [1e-9, 1e-6, 1e-3, 1.0, 60.0, 3600.0][unit];
            let expected = f64::from(value) * size;
            prop_assert!((time.as_secs_f64() - expected).abs() <= expected * 1e-9, "{text}");
            prop_assert_eq!(decode(encode(time).unwrap().as_bytes()), Some(time));
        }

        #[test]
        fn nothing_makes_it_panic(text in any::<Vec<u8>>()) {
            let _ = decode(&text);
        }
    }
}
