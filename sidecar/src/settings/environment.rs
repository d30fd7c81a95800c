//! The environment as a map, and variable names from earlier systems.

use std::collections::BTreeMap;

/// Environment variables by name, without the newline at the end that a file, a Secret or a `ConfigMap` often has. Empty
/// values are left out: they count as unset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment(BTreeMap<String, String>);

/// A name that an earlier system used.
#[derive(Clone, Copy, Debug)]
pub struct OldName {
    /// The variable's old name.
    pub name: &'static str,
    /// Its meaning today.
    pub now: Now,
}

/// The current meaning of an old name.
#[derive(Clone, Copy, Debug)]
pub enum Now {
    /// The same value has this new name, which wins if both are set.
    Setting(&'static str),
    /// It no longer has a meaning; the text says what to use instead.
    Gone(&'static str),
}

impl Environment {
    /// The environment of this process. Values that are not UTF-8 get replacement characters, so that the setting's own
    /// parser reports them.
    pub fn of_process() -> Self {
        std::env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
            .collect()
    }

    /// The value of `name`, if it is set and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Sets `name` unless it is set already. An empty value has no effect.
    pub fn default_to(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.0.entry(name.to_owned()).or_insert_with(|| value.to_owned());
        }
    }

    /// Translates old names. Returns one sentence for each that was found, to be logged as a warning.
    ///
    /// A value that begins with `tcp://` comes from a Service of the same name (Kubernetes' service links) and has no
    /// meaning here.
    pub fn take_over(&mut self, old_names: &[OldName]) -> Vec<String> {
        let mut warnings = Vec::new();
        for old in old_names {
            let Some(value) = self.0.remove(old.name) else { continue };
            if value.starts_with("tcp://") {
                warnings.push(format!(
                    "{} comes from a Kubernetes Service and is ignored; set enableServiceLinks: false in the pod",
                    old.name
                ));
                continue;
            }
            match old.now {
                Now::Setting(new) if self.0.contains_key(new) => {
                    warnings.push(format!("{} is ignored because {new} is set", old.name));
                }
                Now::Setting(new) => {
                    warnings.push(format!("{} is an old name and is read as {new}", old.name));
                    self.0.insert(new.to_owned(), value);
                }
                Now::Gone(instead) => warnings.push(format!("{} is no longer used: {instead}", old.name)),
            }
        }
        warnings
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let pairs = pairs.into_iter().map(|(name, value)| (name.into(), without_newline(&value.into()).to_owned()));
        Self(pairs.filter(|(_, value)| !value.is_empty()).collect())
    }
}

/// The text without one newline at its end.
pub(crate) fn without_newline(text: &str) -> &str {
    text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &[OldName] = &[
        OldName { name: "OLD_A", now: Now::Setting("NEW_A") },
        OldName { name: "OLD_B", now: Now::Gone("use NEW_B") },
        OldName { name: "THING_PORT", now: Now::Gone("put the port into THING") },
    ];

    #[test]
    fn an_empty_value_counts_as_unset() {
        let environment: Environment = [("A", ""), ("B", "x")].into_iter().collect();
        assert_eq!((environment.get("A"), environment.get("B")), (None, Some("x")));
    }

    #[test]
    fn a_values_last_newline_does_not_count() {
        for (value, expected) in
            [("one\n", Some("one")), ("one\r\n", Some("one")), ("one\n\n", Some("one\n")), ("\n", None)]
        {
            let environment: Environment = [("A", value)].into_iter().collect();
            assert_eq!(environment.get("A"), expected);
        }
    }

    #[test]
    fn an_old_name_becomes_the_new_one_and_is_warned_about() {
        let mut environment: Environment = [("OLD_A", "1"), ("OLD_B", "2")].into_iter().collect();
        let warnings = environment.take_over(OLD);
        assert_eq!(environment.get("NEW_A"), Some("1"));
        assert_eq!(warnings, ["OLD_A is an old name and is read as NEW_A", "OLD_B is no longer used: use NEW_B"]);
    }

    #[test]
    fn the_new_name_wins_over_the_old_one() {
        let mut environment: Environment = [("OLD_A", "1"), ("NEW_A", "2")].into_iter().collect();
        assert_eq!(environment.take_over(OLD), ["OLD_A is ignored because NEW_A is set"]);
        assert_eq!(environment.get("NEW_A"), Some("2"));
    }

    #[test]
    fn a_variable_of_a_kubernetes_service_is_never_fatal() {
        let mut environment: Environment = [("THING_PORT", "tcp://10.0.0.1:80")].into_iter().collect();
        assert!(environment.take_over(OLD)[0].contains("enableServiceLinks"));
        assert_eq!(environment.get("THING_PORT"), None);
    }
}
