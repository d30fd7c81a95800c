//! Formats sizes, times, numbers and tables in the same readable way in every program.

use std::fmt;
use std::time::Duration;

/// Formats a number of bytes in binary units: `512 B`, `120.00 MiB`, `7.45 GiB`.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    // A value that rounds to 1024.00 of a unit is 1.00 of the next one.
    let (mut value, mut unit) = (bytes as f64 / 1024.0, 0);
    while value >= 1023.995 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.2} {}", UNITS[unit])
}

/// Formats a duration roughly, in one unit: `38 seconds`, `12 minutes`. A larger unit is used from one and a half of it
/// on.
pub fn duration(duration: Duration) -> String {
    const UNITS: [(u64, &str); 6] =
        [(365 * 86_400, "year"), (7 * 86_400, "week"), (86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second")];
    let seconds = duration.as_secs_f64().round() as u64;
    let fits = |(unit, _): &&(u64, &str)| 2 * seconds >= 3 * unit;
    let (unit, name) = UNITS.iter().find(fits).copied().unwrap_or((1, "second"));
    let number = (seconds + unit / 2) / unit;
    format!("{} {name}{}", count(number), plural(number))
}

/// Formats a number with thousands separators: `5,000`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The plural ending of a noun after this number.
pub fn plural(number: u64) -> &'static str {
    if number == 1 { "" } else { "s" }
}

/// Rows with aligned columns, for a terminal. Control characters are replaced.
#[derive(Clone, Debug, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
    right: &'static [usize],
}

impl Table {
    /// A table with these headings as its first row.
    pub fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(|heading| (*heading).to_owned()).collect()], right: &[] }
    }

    /// Aligns these columns, counted from 0, to the right.
    #[must_use]
    pub fn right_aligned(self, columns: &'static [usize]) -> Self {
        Self { right: columns, ..self }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let shown = |cell: String| cell.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        self.rows.push(cells.into_iter().map(shown).collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let mut widths = vec![0; columns];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        for row in &self.rows {
            let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
                if self.right.contains(&column) { format!("{cell:>width$}") } else { format!("{cell:width$}") }
            });
            writeln!(f, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_units() {
        for (number, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (120 << 20, "120.00 MiB"),
            (8_000_000_000, "7.45 GiB"),
            ((1 << 30) - 1, "1.00 GiB"),
            (u64::MAX, "16.00 EiB"),
        ] {
            assert_eq!(bytes(number), text);
        }
    }

    #[test]
    fn times_have_the_unit_that_fits() {
        for (seconds, text) in [
            (0.0, "0 seconds"),
            (0.6, "1 second"),
            (89.0, "89 seconds"),
            (90.0, "2 minutes"),
            (12.0 * 60.0, "12 minutes"),
            (89.9 * 60.0, "90 minutes"),
            (5400.0, "2 hours"),
            (3.0 * 86_400.0, "3 days"),
            (14.0 * 86_400.0, "2 weeks"),
            (4e12, "126,839 years"),
        ] {
            assert_eq!(duration(Duration::from_secs_f64(seconds)), text);
        }
    }

    #[test]
    fn thousands_are_apart() {
        for (number, text) in [(0, "0"), (999, "999"), (5000, "5,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(number), text);
        }
    }

    #[test]
    fn columns_are_aligned_and_no_control_character_is_shown() {
        let mut table = Table::new(&["NAME", "SIZE", "WHY"]).right_aligned(&[1]);
        table.row(["é", "10 B", "a\u{1b}[2J\nb"].map(str::to_owned));
        table.row(["longer", "7.45 GiB", ""].map(str::to_owned));
        assert_eq!(
            table.to_string(),
            "NAME        SIZE  WHY\né           10 B  a\u{fffd}[2J\u{fffd}b\nlonger  7.45 GiB\n"
        );
    }
}
