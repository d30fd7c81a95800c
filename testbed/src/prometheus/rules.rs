//! The alert rules of `manifests/` with shorter durations: a test sees in seconds what a site sees in hours.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::{Error, Result};

const RULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests/components/monitoring/alerts.yaml");

/// The rules of the manifests as [`shortened`] gives them.
pub fn of_the_manifests(longest: Duration) -> Result<String> {
    let text = fs::read_to_string(Path::new(RULES)).map_err(Error::io(format!("read {RULES}")))?;
    Ok(shortened(&text, longest))
}

/// Rules in which the longest duration of each rule is `longest`, and the others are shortened in proportion: `for`,
/// ranges, and numbers of seconds that a time is compared with. A count within a range is reduced as much as its
/// range. A rule without a range or a number of seconds only waits, and waits a quarter of `longest`.
pub fn shortened(rules: &str, longest: Duration) -> String {
    let mut blocks: Vec<String> = vec![String::new()];
    for line in rules.split_inclusive('\n') {
        if line.trim_start().starts_with("- alert:") {
            blocks.push(String::new());
        }
        if let Some(block) = blocks.last_mut() {
            block.push_str(line);
        }
    }
    blocks.iter().map(|block| shortened_rule(block, longest.as_secs_f64())).collect()
}

fn shortened_rule(rule: &str, longest: f64) -> String {
    let (mut seconds, mut only_waits) = (0.0_f64, true);
    let _ = rewritten(rule, |amount| {
        if let Amount::Wait(amount) | Amount::Range(amount) | Amount::Seconds(amount) = amount {
            seconds = seconds.max(amount);
        }
        only_waits &= matches!(amount, Amount::Wait(_) | Amount::Count(_));
        String::new()
    });
    if seconds == 0.0 {
        return rule.to_owned();
    }
    let factor = if only_waits { longest / 4.0 } else { longest } / seconds;
    rewritten(rule, |amount| match amount {
        // Prometheus accepts no range of 0 ms.
        Amount::Wait(seconds) | Amount::Range(seconds) => format!("{:.0}ms", (seconds * factor * 1e3).max(1.0)),
        Amount::Seconds(amount) | Amount::Count(amount) => format!("{}", amount * factor),
    })
}

/// A number in a rule that depends on how long things take; all but counts in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Amount {
    /// `for: 15m`
    Wait(f64),
    /// `[1h]`
    Range(f64),
    /// `…_seconds > 3600`
    Seconds(f64),
    /// `increase(…[15m]) > 5`
    Count(f64),
}

/// The rule with each such number replaced.
fn rewritten(rule: &str, mut replace: impl FnMut(Amount) -> String) -> String {
    let mut text = String::new();
    for line in rule.split_inclusive('\n') {
        let is_text = line.trim_start().starts_with("summary:");
        let mut rest = line;
        while !is_text && let Some((start, end, amount)) = next(rest) {
            text.push_str(&rest[..start]);
            text.push_str(&replace(amount));
            rest = &rest[end..];
        }
        text.push_str(rest);
    }
    text
}

/// The next amount of a line, and where it is.
fn next(line: &str) -> Option<(usize, usize, Amount)> {
    type Read = fn(&str) -> Option<Amount>;
    let kinds: [(&str, Read); 4] = [
        ("for: ", |text| duration(text).map(Amount::Wait)),
        ("[", |text| duration(text).map(Amount::Range)),
        ("_seconds > ", |text| text.parse().ok().map(Amount::Seconds)),
        (") > ", |text| text.parse().ok().map(Amount::Count)),
    ];
    let found = kinds.iter().flat_map(|(mark, read)| {
        line.match_indices(mark).filter_map(|(at, _)| {
            let start = at + mark.len();
            let length = line[start..].find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '.');
            let end = length.map_or(line.len(), |length| start + length);
            Some((start, end, read(&line[start..end])?))
        })
    });
    found.min_by_key(|(start, ..)| *start)
}

/// Seconds of a duration as Prometheus writes it, such as `1h30m`.
fn duration(text: &str) -> Option<f64> {
    let (mut seconds, mut rest) = (0.0, text);
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit())?;
        let number: f64 = rest[..digits].parse().ok()?;
        let after = &rest[digits..];
        let unit = &after[..after.find(|letter: char| letter.is_ascii_digit()).unwrap_or(after.len())];
        let of_unit = match unit {
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            "w" => 604_800.0,
            _ => return None,
        };
        seconds += number * of_unit;
        rest = &after[unit.len()..];
    }
    (!text.is_empty()).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_secs(12);

    #[test]
    fn durations_are_read_as_prometheus_writes_them() {
        for (text, seconds) in [
            ("15m", Some(900.0)),
            ("1d", Some(86_400.0)),
            ("1h30m", Some(5400.0)),
            ("250ms", Some(0.25)),
            ("", None),
            ("5", None),
            ("5x", None),
            ("le", None),
        ] {
            assert_eq!(duration(text), seconds, "{text}");
        }
    }

    #[test]
    fn a_rule_keeps_the_proportions_of_its_durations() {
        let rule = |expression: &str, wait: &str| format!("      - alert: X\n        expr: {expression}\n{wait}");
        let wait = |duration: &str| format!("        for: {duration}\n");
        for (expression, waits, shorter, waits_shorter) in [
            ("increase(a_total[1h]) > 0", wait("3h"), "increase(a_total[4000ms]) > 0", wait("12000ms")),
            (
                "increase(a_total[15m]) > 5",
                wait("15m"),
                "increase(a_total[12000ms]) > 0.06666666666666667",
                wait("12000ms"),
            ),
            ("time() - a_seconds > 3600", wait("15m"), "time() - a_seconds > 12", wait("3000ms")),
            ("a_seconds > 120", wait("1m"), "a_seconds > 12", wait("6000ms")),
            ("max_over_time(a[1d])", wait("15m"), "max_over_time(a[12000ms])", wait("125ms")),
            ("increase(a_total[1h]) > 0", String::new(), "increase(a_total[12000ms]) > 0", String::new()),
            // Only the time that it waits is left.
            ("a > 1.5e9", wait("6h"), "a > 1.5e9", wait("3000ms")),
            ("a{b=\"c\"} > 0.5 * d", wait("1h"), "a{b=\"c\"} > 0.5 * d", wait("3000ms")),
            ("a > 0", String::new(), "a > 0", String::new()),
        ] {
            assert_eq!(shortened(&rule(expression, &waits), LONGEST), rule(shorter, &waits_shorter), "{expression}");
        }
    }

    #[test]
    fn each_rule_is_shortened_by_itself_and_texts_stay() {
        let rules = "groups:\n  - rules:\n      - alert: A\n        expr: rate(a[1h])\n        summary: '[1h] for: 1h'\n      - alert: B\n        for: 1h\n";
        let shorter = "groups:\n  - rules:\n      - alert: A\n        expr: rate(a[12000ms])\n        summary: '[1h] for: 1h'\n      - alert: B\n        for: 3000ms\n";
        assert_eq!(shortened(rules, LONGEST), shorter);
    }

    #[test]
    fn no_rule_of_the_manifests_takes_longer() {
        let text = of_the_manifests(LONGEST).unwrap();
        assert!(text.matches("- alert:").count() > 30);
        let mut longest = 0.0_f64;
        let _ = rewritten(&text, |amount| {
            if let Amount::Wait(seconds) | Amount::Range(seconds) | Amount::Seconds(seconds) = amount {
                longest = longest.max(seconds);
            }
            String::new()
        });
        assert_eq!(longest, LONGEST.as_secs_f64());
    }
}
