//! How long to wait before a request is sent again. No I/O. Servers' requests are limited.

use std::time::{Duration, SystemTime};

use sidecar::retry;
use sidecar::schedule::random;

/// The longest pause between two tries, unless the server asks for a longer one.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The pause after the `tries`th failure in a row: `first`, doubled each time, plus up to half of it at random, so that
/// many clients do not retry at once.
pub(super) fn pause(first: Duration, tries: u32) -> Duration {
    retry::pause(first, tries, LONGEST_PAUSE).mul_f64(1.0 + random() / 2.0)
}

/// Parses `Retry-After` in seconds or as a date (RFC 9110, section 10.2.3); `None` if it is invalid.
///
/// It is a request, not an order: zero and a date in the past give zero, so the caller uses the longer of this and
/// [`pause`].
pub(super) fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number with more digits means a very long time.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::from(u32::MAX)).min(u64::from(u32::MAX))));
    }
    if let Ok(seconds) = text.parse::<f64>() {
        return (seconds.is_finite() && seconds >= 0.0)
            .then(|| Duration::from_secs_f64(seconds.min(f64::from(u32::MAX))));
    }
    let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    let now = jiff::Timestamp::try_from(now).ok()?;
    Some(Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn retry_after_in_both_forms() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        for (text, seconds) in [
            ("120", Some(120)),
            (" 7 ", Some(7)),
            ("0", Some(0)),
            ("99999999999999999999999", Some(u64::from(u32::MAX))),
            ("1.5", Some(1)),
            ("-5", None),
            ("NaN", None),
            ("inf", None),
            ("", None),
            ("soon", None),
            ("Tue, 14 Nov 2023 22:14:20 GMT", Some(60)),
            ("Tue, 14 Nov 2023 22:00:00 GMT", Some(0)),
        ] {
            assert_eq!(retry_after(text, now).map(|pause| pause.as_secs()), seconds, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_pause_grows_and_has_a_floor_and_a_ceiling(tries in any::<u32>(), first in 1_u64..100_000) {
            let first = Duration::from_millis(first);
            let pause = pause(first, tries);
            prop_assert!(pause >= first.min(LONGEST_PAUSE) && pause <= LONGEST_PAUSE.mul_f64(1.5));
        }

        #[test]
        fn no_header_makes_it_panic(text in ".{0,40}") {
            let _ = retry_after(&text, SystemTime::now());
        }
    }
}
