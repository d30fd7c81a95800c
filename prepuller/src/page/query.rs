//! The parameters of a page: a filter, a part of a node's name, a missing image, the page's number.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Longer texts are cut; names of nodes and images are shorter.
const MOST_BYTES: usize = 512;

/// Which nodes are shown.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Query {
    /// The filter.
    pub show: Show,
    /// Only nodes whose name contains this.
    pub node: String,
    /// Only nodes that should have this image and do not.
    pub missing: String,
    /// The number of the page, from 1.
    pub page: usize,
}

/// A filter of nodes by their state.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Show {
    /// All nodes, those with problems first and complete ones last.
    #[default]
    All,
    /// Nodes with a failed or refused image.
    Problems,
    /// Nodes that are pulling now.
    Pulling,
    /// Nodes that wait for their turn.
    Waiting,
    /// Nodes that have all wanted images.
    Complete,
    /// Nodes that should have no images now.
    NotEligible,
}

impl Show {
    /// All filters, in the order of the page.
    pub const ALL: [Self; 6] =
        [Self::All, Self::Problems, Self::Pulling, Self::Waiting, Self::Complete, Self::NotEligible];

    /// Its name in an address.
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

    /// Its label on the page.
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
    /// Parses the part of an address after `?`. Unknown parts are ignored, so that any address shows a page.
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

    /// The same query on another page.
    pub fn on_page(&self, page: usize) -> Self {
        Self { page, ..self.clone() }
    }

    /// The first page of other nodes.
    pub fn showing(&self, show: Show) -> Self {
        Self { show, page: 1, ..self.clone() }
    }
}

/// `?show=problems&page=2`, or nothing for the default query.
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
    fn an_address_selects_what_is_shown() {
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
        fn any_query_survives_a_round_trip(text in ".{0,600}") {
            let query = Query::parse(&text);
            prop_assert_eq!(Query::parse(query.to_string().trim_start_matches('?')), query);
        }
    }
}
