//! Which lines are dropped, joined or cut.

use regex::bytes::RegexSet;
use sidecar::settings::{Problems, values};

use super::size;
use crate::arguments::LinesArguments;
use crate::traces::Languages;

/// How lines are processed.
#[derive(Debug)]
pub struct LinesSettings {
    /// Lines to drop.
    pub exclude: Option<RegexSet>,
    /// The languages whose stack traces are joined.
    pub traces: Languages,
    /// `MAX_LINE`, in bytes.
    pub max_line: usize,
    /// `PARTIAL_BYTES_MAX`, in bytes.
    pub partial_bytes_max: usize,
    /// Whether JSON objects become fields.
    pub json: bool,
    /// How many lines per second one container may write.
    pub per_second: Option<u32>,
}

impl LinesArguments {
    /// How lines are processed.
    pub(super) fn settings(&self, problems: &mut Problems) -> Option<LinesSettings> {
        let exclude = match &self.exclude_lines {
            // `parse` would trim the text, but a space may be part of an expression.
            Some(text) => match RegexSet::new(expressions(text)) {
                Ok(set) => Some(Some(set).filter(|set| !set.is_empty())),
                Err(error) => {
                    problems.add("EXCLUDE_LINES", error, "GET / ,nanny_lib\\.go");
                    None
                }
            },
            None => Some(None),
        };
        let max_line = size(problems, "MAX_LINE", &self.max_line, 1 << 10, 4 << 20);
        let partial = size(problems, "PARTIAL_BYTES_MAX", &self.partial_bytes_max, 64 << 10, 1 << 30);
        let traces = problems.parse("MULTILINE", &self.multiline, "java,python", languages);
        let json = problems.parse("JSON_LINES", &self.json_lines, "on", values::switch);
        let rate = problems.parse("LINES_PER_SECOND", &self.lines_per_second, "1000", |text| match text {
            "off" => Ok(None),
            count => values::count(count, 1, 10_000_000).map(Some).map_err(|error| format!("{error}, or off")),
        });
        Some(LinesSettings {
            exclude: exclude?,
            traces: traces?,
            max_line: max_line?,
            partial_bytes_max: partial?,
            json: json?,
            per_second: rate?,
        })
    }
}

fn languages(text: &str) -> Result<Languages, String> {
    let mut languages = Languages::default();
    for name in values::list(text).filter(|name| *name != "off") {
        match name {
            "java" => languages.java = true,
            "python" => languages.python = true,
            "go" => languages.go = true,
            other => return Err(format!("{other:?} is neither java, python, go nor off")),
        }
    }
    Ok(languages)
}

/// Splits at newlines if there are any, else at commas that are neither escaped nor within brackets.
fn expressions(text: &str) -> Vec<&str> {
    if text.contains('\n') {
        return text.lines().filter(|line| !line.is_empty()).collect();
    }
    let (mut parts, mut start, mut depth, mut escaped) = (Vec::new(), 0, 0_u32, false);
    for (at, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => (),
        }
    }
    parts.push(&text[start..]);
    parts.retain(|part| !part.is_empty());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_split_at_commas_and_keep_their_spaces() {
        assert_eq!(expressions("GET / ,nanny_lib\\.go"), ["GET / ", "nanny_lib\\.go"]);
        assert_eq!(expressions("a{1,2},[,],b\\,c"), ["a{1,2}", "[,]", "b\\,c"]);
        assert_eq!(expressions("a,b\nc"), ["a,b", "c"]);
    }
}
