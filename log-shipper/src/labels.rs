//! `LOG_LABELS` and `LOG_LABELS_EXCLUDED`: selects pods and Docker containers with Kubernetes' label selectors.

use std::collections::BTreeMap;

use kube::core::{Expression, Selector, SelectorExt};

/// Which labels are required and excluded.
#[derive(Clone, Debug, Default)]
pub struct LabelChoice {
    /// Only these labels, if set.
    pub wanted: Option<Selector>,
    /// Never these labels.
    pub excluded: Option<Selector>,
}

impl LabelChoice {
    /// Whether there is no selection.
    pub fn is_empty(&self) -> bool {
        self.wanted.is_none() && self.excluded.is_none()
    }

    /// Whether a pod or container with these labels is followed.
    pub fn takes(&self, labels: &BTreeMap<String, String>) -> bool {
        let wanted = self.wanted.as_ref().is_none_or(|selector| selector.matches(labels));
        wanted && !self.excluded.as_ref().is_some_and(|selector| selector.matches(labels))
    }
}

/// Parses a label selector as kubectl does: `key=value`, `key==value`, `key!=value`, `key in (a,b)`, `key notin (a,b)`,
/// `key`, `!key`, separated by commas; all must match.
///
/// # Errors
///
/// A sentence about the invalid part.
pub fn selector(text: &str) -> Result<Selector, String> {
    let parts = split(text);
    if parts.is_empty() {
        return Err("it is empty".to_owned());
    }
    parts.into_iter().map(|part| expression(part.trim())).collect()
}

/// Splits at commas outside parentheses.
fn split(text: &str) -> Vec<&str> {
    let mut depth = 0_u32;
    let parts = text.split(|character| {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => (),
        }
        character == ',' && depth == 0
    });
    parts.filter(|part| !part.trim().is_empty()).collect()
}

fn expression(text: &str) -> Result<Expression, String> {
    let wrong = || format!("{text:?} is none of key=value, key!=value, key in (a,b), key notin (a,b), key and !key");
    let word = |word: &str| {
        let word = word.trim();
        let fits = word.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
        if fits { Ok(word.to_owned()) } else { Err(wrong()) }
    };
    let key = |text: &str| word(text).and_then(|key| if key.is_empty() { Err(wrong()) } else { Ok(key) });
    if let Some((before, list)) = text.split_once('(') {
        let list = list.strip_suffix(')').ok_or_else(wrong)?;
        let values = list.split(',').map(word).collect::<Result<_, _>>()?;
        let mut words = before.split_whitespace();
        return match (words.next(), words.next(), words.next()) {
            (Some(name), Some("in"), None) => Ok(Expression::In(key(name)?, values)),
            (Some(name), Some("notin"), None) => Ok(Expression::NotIn(key(name)?, values)),
            _ => Err(wrong()),
        };
    }
    if let Some((name, value)) = text.split_once("!=") {
        return Ok(Expression::NotEqual(key(name)?, word(value)?));
    }
    if let Some((name, value)) = text.split_once('=') {
        return Ok(Expression::Equal(key(name)?, word(value.strip_prefix('=').unwrap_or(value))?));
    }
    match text.strip_prefix('!') {
        Some(name) => Ok(Expression::DoesNotExist(key(name)?)),
        None => Ok(Expression::Exists(key(text)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(labels: &[(&str, &str)]) -> BTreeMap<String, String> {
        labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn selectors_are_those_of_kubectl() {
        let web = labels(&[("app.kubernetes.io/name", "web"), ("tier", "front")]);
        let matching = [
            "app.kubernetes.io/name=web",
            "tier == front",
            "tier in (front, back)",
            "tier notin (back)",
            "tier,!debug",
            "debug!=on,tier",
            "app.kubernetes.io/name in (web),tier=front",
            // An empty list contains the empty value: the example of Kubernetes' parser.
            "tier in (front,,back),z notin ()",
        ];
        for text in matching {
            assert!(selector(text).unwrap().matches(&web), "{text}");
        }
        for text in ["tier=back", "debug", "!tier", "tier in (back,middle)", "tier notin (front)", "tier,debug"] {
            assert!(!selector(text).unwrap().matches(&web), "{text}");
        }
        for text in [
            "",
            " , ",
            "=x",
            "a b",
            "tier in front",
            "tier in (front",
            "(x)",
            "!",
            "a=b=c",
            "tier im (front)",
            "tier>1",
            "tier=~f",
            "tier=*",
            "ä=1",
        ] {
            assert!(selector(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_is_excluded_is_not_wanted() {
        let choice = LabelChoice { wanted: selector("tier").ok(), excluded: selector("debug").ok() };
        assert!(choice.takes(&labels(&[("tier", "front")])));
        assert!(!choice.takes(&labels(&[("tier", "front"), ("debug", "")])));
        assert!(!choice.takes(&labels(&[])));
        assert!(LabelChoice::default().takes(&labels(&[])));
    }
}
