//! Collects every invalid setting, so that all are reported together.

use std::fmt;
use std::process::ExitCode;

use super::EXIT_USAGE;
use crate::stdio;

/// One invalid setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The variable's name.
    pub setting: &'static str,
    /// What is wrong, with the value unless it is secret.
    pub reason: String,
    /// A value that would be valid.
    pub example: &'static str,
}

/// The problems found so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Records a problem.
    pub fn add(&mut self, setting: &'static str, reason: impl fmt::Display, example: &'static str) {
        self.0.push(Problem { setting, reason: reason.to_string(), example });
    }

    /// Parses `value`. Records a failure and returns `None`.
    pub fn parse<T, E: fmt::Display>(
        &mut self,
        setting: &'static str,
        value: &str,
        example: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        parse(value.trim()).map_err(|error| self.add(setting, error, example)).ok()
    }

    /// Parses `value` if it is set: `None` after a failure, `Some(None)` if nothing is set.
    pub fn parse_optional<T, E: fmt::Display>(
        &mut self,
        setting: &'static str,
        value: Option<&str>,
        example: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<Option<T>> {
        match value {
            Some(value) => self.parse(setting, value, example, parse).map(Some),
            None => Some(None),
        }
    }

    /// Returns the settings if there are no problems.
    ///
    /// # Errors
    ///
    /// All problems, if there is at least one.
    pub fn finish<T>(self, settings: Option<T>) -> Result<T, Self> {
        match settings {
            Some(settings) if self.0.is_empty() => Ok(settings),
            _ => Err(self),
        }
    }

    /// Prints one line per problem to stderr and returns exit code [`EXIT_USAGE`].
    pub fn report(&self) -> ExitCode {
        stdio::complain(self.to_string().trim_end());
        ExitCode::from(EXIT_USAGE)
    }

    /// The problems, in the order in which they were found.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }
}

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Problem { setting, reason, example } in &self.0 {
            // One line per problem, whatever characters the value contains.
            let reason: String = reason.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            writeln!(f, "{setting}: {reason} (example: {setting}={example})")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_problems_are_printed_one_line_each() {
        let mut problems = Problems::default();
        let a = problems
            .parse("A", "x\ny", "1", |text| text.parse::<u8>().map_err(|_| format!("{text:?} is no number\n!")));
        let b = problems.parse("B", "2", "1", str::parse::<u8>);
        problems.add("C", "must be set", "yes");
        let text = problems.finish((|| Some((a?, b?)))()).unwrap_err().to_string();
        assert_eq!(text, "A: \"x\\ny\" is no number ! (example: A=1)\nC: must be set (example: C=yes)\n");
    }

    #[test]
    fn without_problems_the_settings_are_returned() {
        let mut problems = Problems::default();
        let value = problems.parse("A", " 7 ", "1", str::parse::<u8>);
        let unset = problems.parse_optional("B", None, "1", str::parse::<u8>);
        assert_eq!(problems.finish((|| Some((value?, unset?)))()), Ok((7, None)));
    }
}
