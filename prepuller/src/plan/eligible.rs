//! Decides which nodes should have lab images, from the node alone. Pure.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::seen::{SeenNode, Taint};

/// The label of z2jh's user nodes.
const PURPOSE: (&str, &str) = ("hub.jupyter.org/node-purpose", "user");

/// The keys of z2jh's taints on user nodes; the second is for clouds that do not allow a slash.
const DEDICATED: [&str; 2] = ["hub.jupyter.org/dedicated", "hub.jupyter.org_dedicated"];

/// The prefix of taints that Kubernetes itself sets while something is wrong with a node.
const OF_KUBERNETES: &str = "node.kubernetes.io/";

/// Whether a node should have lab images.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Eligibility {
    /// Yes.
    Eligible,
    /// Not now: it keeps its orders and gets no new ones.
    Paused(String),
    /// No: it has no orders.
    Excluded(String),
}

impl Eligibility {
    /// Why it is not eligible.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Eligible => None,
            Self::Paused(why) | Self::Excluded(why) => Some(why),
        }
    }
}

/// The rules that choose nodes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NodeRules {
    /// `LAB_NODE_SELECTOR`; unset means z2jh's user nodes if there are any, else all nodes.
    pub selector: Option<Selector>,
    /// Taints that labs tolerate, besides z2jh's.
    pub tolerated: Vec<Tolerated>,
    /// The key of the gate's taint.
    pub gate_taint: String,
}

impl NodeRules {
    /// Whether the node has z2jh's label for user nodes.
    pub fn is_user_node(node: &SeenNode) -> bool {
        node.labels.get(PURPOSE.0).is_some_and(|value| value == PURPOSE.1)
    }

    /// Whether the rules use a label with this key.
    pub fn looks_at(&self, key: &str) -> bool {
        key == PURPOSE.0 || self.selector.as_ref().is_some_and(|selector| selector.looks_at(key))
    }

    /// Classifies a node; `user_nodes` is whether any node has z2jh's label.
    pub fn eligibility(&self, node: &SeenNode, user_nodes: bool) -> Eligibility {
        match &self.selector {
            Some(selector) if !selector.matches(|key| node.labels.get(key).map(String::as_str)) => {
                return Eligibility::Excluded(format!("LAB_NODE_SELECTOR {selector} does not match"));
            }
            None if user_nodes && !Self::is_user_node(node) => {
                return Eligibility::Excluded(format!("not labeled {}={}", PURPOSE.0, PURPOSE.1));
            }
            _ => {}
        }
        if node.os.as_deref().is_some_and(|os| os != "linux") {
            return Eligibility::Excluded("does not run Linux".to_owned());
        }
        let hindering = node.taints.iter().find(|taint| !self.tolerates(taint));
        if let Some(taint) = hindering.filter(|taint| !taint.key.starts_with(OF_KUBERNETES)) {
            return Eligibility::Excluded(format!("taint {taint}"));
        }
        if !node.ready {
            return Eligibility::Paused("not ready".to_owned());
        }
        if node.unschedulable {
            return Eligibility::Paused("cordoned".to_owned());
        }
        hindering.map_or(Eligibility::Eligible, |taint| Eligibility::Paused(format!("taint {taint}")))
    }

    /// Whether the gate's taint is on the node.
    pub fn is_gated(&self, node: &SeenNode) -> bool {
        node.taints.iter().any(|taint| taint.key == self.gate_taint)
    }

    fn tolerates(&self, taint: &Taint) -> bool {
        taint.effect == "PreferNoSchedule"
            || taint.key == self.gate_taint
            || (DEDICATED.contains(&taint.key.as_str()) && taint.value.as_deref() == Some("user"))
            || self.tolerated.iter().any(|tolerated| tolerated.matches(taint))
    }
}

/// A label selector: `key=value`, `key!=value`, `key`, `!key`, joined by commas; all must hold.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Selector(Vec<Term>);

#[derive(Clone, Debug, Eq, PartialEq)]
enum Term {
    Is(String, String),
    IsNot(String, String),
    Has(String),
    HasNot(String),
}

/// Why a selector or toleration is invalid.
#[derive(Clone, Debug, Error, Eq, PartialEq)]
pub enum RuleError {
    /// Not a selector.
    #[error("{0:?} is none of key=value, key!=value, key and !key")]
    Selector(String),
    /// Not a toleration.
    #[error("{0:?} is not of the form key, key=value, key:Effect or key=value:Effect")]
    Toleration(String),
}

impl Selector {
    fn looks_at(&self, key: &str) -> bool {
        self.0.iter().any(|term| match term {
            Term::Is(of, _) | Term::IsNot(of, _) | Term::Has(of) | Term::HasNot(of) => of == key,
        })
    }

    fn matches<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.0.iter().all(|term| match term {
            Term::Is(key, value) => label(key) == Some(value),
            Term::IsNot(key, value) => label(key) != Some(value),
            Term::Has(key) => label(key).is_some(),
            Term::HasNot(key) => label(key).is_none(),
        })
    }
}

/// Whether text can be the key or value of a label or taint.
fn is_word(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c))
}

impl FromStr for Selector {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let term = |term: &str| {
            let wrong = || RuleError::Selector(term.to_owned());
            let (key, term) = if let Some((key, value)) = term.split_once("!=") {
                (key, Term::IsNot(key.trim().to_owned(), value.trim().to_owned()))
            } else if let Some((key, value)) = term.split_once('=') {
                let value = value.strip_prefix('=').unwrap_or(value);
                (key, Term::Is(key.trim().to_owned(), value.trim().to_owned()))
            } else if let Some(key) = term.strip_prefix('!') {
                (key, Term::HasNot(key.trim().to_owned()))
            } else {
                (term, Term::Has(term.to_owned()))
            };
            let value = match &term {
                Term::Is(_, value) | Term::IsNot(_, value) => value,
                Term::Has(_) | Term::HasNot(_) => "",
            };
            let fits = !key.trim().is_empty() && is_word(key.trim()) && is_word(value);
            if fits { Ok(term) } else { Err(wrong()) }
        };
        let terms = sidecar::settings::values::list(text).map(term).collect::<Result<Vec<_>, _>>()?;
        if terms.is_empty() { Err(RuleError::Selector(text.to_owned())) } else { Ok(Self(terms)) }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let terms: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&terms.join(","))
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Is(key, value) => write!(f, "{key}={value}"),
            Self::IsNot(key, value) => write!(f, "{key}!={value}"),
            Self::Has(key) => f.write_str(key),
            Self::HasNot(key) => write!(f, "!{key}"),
        }
    }
}

/// A taint that labs tolerate: `key[=value][:Effect]`; omitted parts match anything.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tolerated {
    key: String,
    value: Option<String>,
    effect: Option<String>,
}

impl Tolerated {
    fn matches(&self, taint: &Taint) -> bool {
        self.key == taint.key
            && self.value.as_deref().is_none_or(|value| taint.value.as_deref().unwrap_or_default() == value)
            && self.effect.as_ref().is_none_or(|effect| *effect == taint.effect)
    }
}

impl FromStr for Tolerated {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let (rest, effect) = match text.split_once(':') {
            Some((rest, effect)) => (rest, Some(effect)),
            None => (text, None),
        };
        let (key, value) = match rest.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (rest, None),
        };
        let fits = !key.is_empty()
            && is_word(key)
            && value.is_none_or(is_word)
            && effect.is_none_or(|effect| matches!(effect, "NoSchedule" | "NoExecute"));
        if !fits {
            return Err(RuleError::Toleration(text.to_owned()));
        }
        Ok(Self { key: key.to_owned(), value: value.map(str::to_owned), effect: effect.map(str::to_owned) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(labels: &str, taints: &[(&str, &str, &str)]) -> SeenNode {
        let labels = labels.split(',').filter_map(|label| label.split_once('='));
        let taint = |(key, value, effect): &(&str, &str, &str)| Taint {
            key: (*key).to_owned(),
            value: Some((*value).to_owned()),
            effect: (*effect).to_owned(),
        };
        SeenNode {
            labels: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            taints: taints.iter().map(taint).collect(),
            ready: true,
            ..SeenNode::default()
        }
    }

    fn rules(selector: Option<&str>, tolerated: &[&str]) -> NodeRules {
        NodeRules {
            selector: selector.map(|text| text.parse().unwrap()),
            tolerated: tolerated.iter().map(|text| text.parse().unwrap()).collect(),
            gate_taint: "labhands.dev/images".to_owned(),
        }
    }

    #[test]
    fn user_nodes_are_chosen_if_there_are_any() {
        let (user, other) = (node("hub.jupyter.org/node-purpose=user", &[]), node("", &[]));
        let eligibility = |node: &SeenNode, user_nodes| rules(None, &[]).eligibility(node, user_nodes);
        assert_eq!(eligibility(&user, true), Eligibility::Eligible);
        assert_eq!(eligibility(&other, false), Eligibility::Eligible);
        assert!(matches!(eligibility(&other, true), Eligibility::Excluded(why) if why.contains("node-purpose=user")));
    }

    #[test]
    fn a_selector_replaces_the_label() {
        let rules = rules(Some("pool=lab,!gpu,zone!=b"), &[]);
        for (labels, eligible) in [
            ("pool=lab", true),
            ("pool=lab,zone=a", true),
            ("pool=lab,zone=b", false),
            ("pool=lab,gpu=1", false),
            ("hub.jupyter.org/node-purpose=user", false),
        ] {
            assert_eq!(rules.eligibility(&node(labels, &[]), true) == Eligibility::Eligible, eligible, "{labels}");
        }
    }

    #[test]
    fn taints_are_tolerated_or_not() {
        for (tolerated, taint, eligibility) in [
            (vec![], ("hub.jupyter.org/dedicated", "user", "NoSchedule"), "eligible"),
            (vec![], ("hub.jupyter.org_dedicated", "user", "NoSchedule"), "eligible"),
            (vec![], ("hub.jupyter.org/dedicated", "core", "NoSchedule"), "excluded"),
            (vec![], ("labhands.dev/images", "", "NoSchedule"), "eligible"),
            (vec![], ("gpu", "yes", "NoSchedule"), "excluded"),
            (vec![], ("gpu", "yes", "PreferNoSchedule"), "eligible"),
            (vec!["gpu"], ("gpu", "yes", "NoExecute"), "eligible"),
            (vec!["gpu=yes:NoSchedule"], ("gpu", "yes", "NoSchedule"), "eligible"),
            (vec!["gpu=no"], ("gpu", "yes", "NoSchedule"), "excluded"),
            (vec!["gpu:NoExecute"], ("gpu", "yes", "NoSchedule"), "excluded"),
            (vec![], ("node.kubernetes.io/disk-pressure", "", "NoSchedule"), "paused"),
        ] {
            let found = match rules(None, &tolerated).eligibility(&node("", &[taint]), false) {
                Eligibility::Eligible => "eligible",
                Eligibility::Paused(_) => "paused",
                Eligibility::Excluded(_) => "excluded",
            };
            assert_eq!(found, eligibility, "{tolerated:?} {taint:?}");
        }
    }

    #[test]
    fn a_node_that_is_away_or_cordoned_is_paused() {
        let away = SeenNode { ready: false, ..node("", &[("node.kubernetes.io/not-ready", "", "NoExecute")]) };
        let cordoned = SeenNode { unschedulable: true, ..node("", &[]) };
        let rules = rules(None, &[]);
        assert_eq!(rules.eligibility(&away, false), Eligibility::Paused("not ready".to_owned()));
        assert_eq!(rules.eligibility(&cordoned, false), Eligibility::Paused("cordoned".to_owned()));
    }

    #[test]
    fn invalid_rules_are_refused() {
        for text in ["", "=", "a=b c", "!", "a b"] {
            assert!(text.parse::<Selector>().is_err(), "{text:?}");
        }
        for text in ["", "=x", "a:Never", "a:PreferNoSchedule", "a b"] {
            assert!(text.parse::<Tolerated>().is_err(), "{text:?}");
        }
        assert_eq!("a==b, !c,d!=e,f".parse::<Selector>().unwrap().to_string(), "a=b,!c,d!=e,f");
    }
}
