//! Types of values that several daemons' settings have: durations, percentages, sizes, lists, switches.

use std::time::Duration;

use thiserror::Error;

/// Why a value could not be parsed.
#[expect(missing_docs, reason = "the messages show what the fields are")]
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ValueError {
    /// Not a duration.
    #[error("{0:?} is not a duration; write a number and a unit (ms, s, m, h, d)")]
    Duration(String),
    /// A duration of zero where zero is not allowed.
    #[error("{0:?} must be longer than zero")]
    Zero(String),
    /// A duration outside of its limits.
    #[error("{value:?} is not from {} to {}", humantime::format_duration(*.least), humantime::format_duration(*.most))]
    DurationLimits { value: String, least: Duration, most: Duration },
    /// Not a percentage.
    #[error("{0:?} is not a whole percentage from 1 to 99")]
    Percent(String),
    /// Not a size.
    #[error("{0:?} is not a size; write a number and a unit (B, KiB, MiB, GiB, kB, MB, GB)")]
    Bytes(String),
    /// Not a whole number within its limits.
    #[error("{value:?} is not a whole number from {least} to {most}")]
    Count { value: String, least: u32, most: u32 },
    /// Neither true nor false.
    #[error("{0:?} is neither true nor false")]
    Switch(String),
}

/// Parses a duration longer than zero: `90s`, `5m`, `1h 30m`; a bare number means seconds.
///
/// # Errors
///
/// [`ValueError::Duration`] or [`ValueError::Zero`].
pub fn duration(text: &str) -> Result<Duration, ValueError> {
    let duration = match text.parse::<u32>() {
        Ok(seconds) => Duration::from_secs(seconds.into()),
        Err(_) => humantime::parse_duration(text).map_err(|_| ValueError::Duration(text.to_owned()))?,
    };
    if duration.is_zero() { Err(ValueError::Zero(text.to_owned())) } else { Ok(duration) }
}

/// Parses a duration from `least` to `most`.
///
/// # Errors
///
/// [`ValueError::Duration`], [`ValueError::Zero`] or [`ValueError::DurationLimits`].
pub fn duration_within(text: &str, least: Duration, most: Duration) -> Result<Duration, ValueError> {
    let duration = duration(text)?;
    if (least..=most).contains(&duration) {
        return Ok(duration);
    }
    Err(ValueError::DurationLimits { value: text.to_owned(), least, most })
}

/// Parses a whole percentage from 1 to 99, with or without its sign: `75`, `75%`, `75 %`.
///
/// # Errors
///
/// [`ValueError::Percent`].
pub fn percent(text: &str) -> Result<u8, ValueError> {
    let number = text.strip_suffix('%').unwrap_or(text).trim_end();
    match number.parse() {
        Ok(percent @ 1..=99) => Ok(percent),
        _ => Err(ValueError::Percent(text.to_owned())),
    }
}

/// Parses a number of bytes: `1048576`, `8MiB`, `1.5 GB`.
///
/// # Errors
///
/// [`ValueError::Bytes`].
pub fn bytes(text: &str) -> Result<u64, ValueError> {
    let wrong = || ValueError::Bytes(text.to_owned());
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let factor: u64 = match unit.trim() {
        "" | "B" => 1,
        "kB" => 1000,
        "MB" => 1000_u64.pow(2),
        "GB" => 1000_u64.pow(3),
        "KiB" | "Ki" => 1024,
        "MiB" | "Mi" => 1024_u64.pow(2),
        "GiB" | "Gi" => 1024_u64.pow(3),
        _ => return Err(wrong()),
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor).ok_or_else(wrong);
    }
    let bytes = number.parse::<f64>().map_err(|_| wrong())? * factor as f64;
    // Above 2^53 an f64 cannot hold every whole number.
    if bytes < 9e15 { Ok(bytes as u64) } else { Err(wrong()) }
}

/// Parses a whole number from `least` to `most`.
///
/// # Errors
///
/// [`ValueError::Count`].
pub fn count(text: &str, least: u32, most: u32) -> Result<u32, ValueError> {
    match text.parse() {
        Ok(count) if (least..=most).contains(&count) => Ok(count),
        _ => Err(ValueError::Count { value: text.to_owned(), least, most }),
    }
}

/// Parses a switch: `true`, `yes`, `on`, `1`, or their opposites, in any case.
///
/// # Errors
///
/// [`ValueError::Switch`].
pub fn switch(text: &str) -> Result<bool, ValueError> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err(ValueError::Switch(text.to_owned())),
    }
}

/// The items of a comma-separated list, trimmed, without empty ones.
pub fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations() {
        assert_eq!(duration("60"), Ok(Duration::from_secs(60)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(duration("1h 30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("0s"), Err(ValueError::Zero("0s".into())));
        assert_eq!(duration("-1"), Err(ValueError::Duration("-1".into())));
    }

    #[test]
    fn durations_keep_their_limits() {
        let (least, most) = (Duration::from_secs(1), Duration::from_secs(86_400));
        let within = |text| duration_within(text, least, most);
        assert_eq!(within("1s"), Ok(least));
        assert_eq!(within("1d"), Ok(most));
        for text in ["999ms", "24h 1s", "4294967295", "100y"] {
            let words = within(text).unwrap_err().to_string();
            assert_eq!(words, format!("{text:?} is not from 1s to 1day"));
        }
        assert_eq!(within("0"), Err(ValueError::Zero("0".into())));
    }

    #[test]
    fn percentages() {
        for text in ["75", "75%", "75 %"] {
            assert_eq!(percent(text), Ok(75));
        }
        for text in ["0", "100", "72.5", "-5", "NaN", "", "%", "7 5"] {
            assert_eq!(percent(text), Err(ValueError::Percent(text.into())));
        }
    }

    #[test]
    fn sizes() {
        for (text, size) in
            [("0", 0), ("17", 17), ("1KiB", 1024), ("8 MiB", 8 << 20), ("1.5kB", 1500), ("2Gi", 2 << 30)]
        {
            assert_eq!(bytes(text), Ok(size), "{text}");
        }
        for text in ["", "MiB", "1 furlong", "-1", "99999999999GiB", "1.2.3MB"] {
            assert_eq!(bytes(text), Err(ValueError::Bytes(text.into())), "{text}");
        }
    }

    #[test]
    fn counts_keep_their_limits() {
        assert_eq!(count("2", 1, 10), Ok(2));
        assert!(count("0", 1, 10).is_err() && count("11", 1, 10).is_err() && count("x", 1, 10).is_err());
    }

    #[test]
    fn lists_leave_out_what_is_empty() {
        assert_eq!(list(" a, b,,c ,").collect::<Vec<_>>(), ["a", "b", "c"]);
    }

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text in ".{0,40}") {
            let _ = (duration(&text), percent(&text), bytes(&text), count(&text, 0, 9), switch(&text));
        }
    }
}
