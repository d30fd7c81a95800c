//! What a reader asked to see: a filter, a part of a node's name, an image that is missing, the page's number.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Longer texts are cut: no node's or image's name is.
const MOST_BYTES: usize = 512;

/// What is shown of the nodes.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Query {
    /// Which nodes.
    pub show: Show,
    /// Only nodes whose name has this in it.
    pub node: String,
    /// Only nodes that should hold this image and do not.
    pub missing: String,
    /// Which page, from 1.
    pub page: usize,
}

/// A choice of nodes by their standing.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Show {
    /// All of them, those with problems first and complete ones last.
    #[default]
    All,
    /// Those with a failed or refused image.
    Problems,
    /// Those that pull now.
    Pulling,
    /// Those that wait for their turn.
    Waiting,
    /// Those that hold all that is wanted.
    Complete,
    /// Those that should hold nothing now.
    NotEligible,
}

impl Show {
    /// All choices, in the order in which they are offered.
    pub const ALL: [Self; 6] =
        [Self::All, Self::Problems, Self::Pulling, Self::Waiting, Self::Complete, Self::NotEligible];

    /// As it stands in an address.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Problems => "problems",
            Self::Pulling => "pulling",
            Self::Waiting => "waiting",
            Self::Complete => "complete",
            Self::NotEligible => "not-eligible",
        }
    }

    /// As people read it.
    pub fn label(self) -> &'static str {
        match self {
            Self::All => "All",
            Self::Problems => "Problems",
            Self::Pulling => "Pulling",
            Self::Waiting => "Waiting",
            Self::Complete => "Complete",
            Self::NotEligible => "Not eligible",
        }
    }
}

impl Query {
    /// From the part of an address after `?`. What is not understood is left out: a page is shown for any address.
    pub fn parse(text: &str) -> Self {
        let mut query = Self::default();
        for (name, value) in url::form_urlencoded::parse(text.as_bytes()) {
            let value = value.trim();
            let short = value[..value.floor_char_boundary(MOST_BYTES)].trim_end();
            match &*name {
                "show" => query.show = Show::ALL.into_iter().find(|show| show.as_str() == value).unwrap_or_default(),
                "node" => query.node = short.to_owned(),
                "missing" => query.missing = short.to_owned(),
                "page" => query.page = value.parse().unwrap_or(1),
                _ => {}
            }
        }
        query.page = query.page.max(1);
        query
    }

    /// The same choice on another page.
    pub fn on_page(&self, page: usize) -> Self {
        Self { page, ..self.clone() }
    }

    /// Other nodes, from their first page.
    pub fn showing(&self, show: Show) -> Self {
        Self { show, page: 1, ..self.clone() }
    }
}

/// `?show=problems&page=2`, or nothing for what is shown without being asked.
impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut pairs = url::form_urlencoded::Serializer::new(String::new());
        if self.show != Show::All {
            pairs.append_pair("show", self.show.as_str());
        }
        for (name, value) in [("node", &self.node), ("missing", &self.missing)] {
            if !value.is_empty() {
                pairs.append_pair(name, value);
            }
        }
        if self.page > 1 {
            pairs.append_pair("page", &self.page.to_string());
        }
        let pairs = pairs.finish();
        if pairs.is_empty() { Ok(()) } else { write!(f, "?{pairs}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_address_says_what_is_shown() {
        let query = Query::parse("show=problems&node=gpu+1&missing=a%2Fb%3Ac&page=3&other=x");
        let expected = Query { show: Show::Problems, node: "gpu 1".to_owned(), missing: "a/b:c".to_owned(), page: 3 };
        assert_eq!(query, expected);
        assert_eq!(query.to_string(), "?show=problems&node=gpu+1&missing=a%2Fb%3Ac&page=3");
        assert_eq!(query.showing(Show::All).to_string(), "?node=gpu+1&missing=a%2Fb%3Ac");
    }

    #[test]
    fn what_is_not_understood_is_left_out() {
        for text in ["", "page=0", "page=-1", "page=x&show=nonsense", "&&=%%%"] {
            assert_eq!(Query::parse(text), Query { page: 1, ..Query::default() }, "{text}");
        }
        assert!(Query::parse("").to_string().is_empty());
    }

    proptest! {
        #[test]
        fn any_text_is_an_address_that_names_itself_again(text in ".{0,600}") {
            let query = Query::parse(&text);
            prop_assert_eq!(Query::parse(query.to_string().trim_start_matches('?')), query);
        }
    }
}
