//! Parses `Link: <…>; rel="next"` (RFC 8288), which registries use for paging.

use reqwest::Url;

use super::challenge::quoted_string;
use super::error::Problem;

/// The next page: the URL that answered, with the query of the link.
///
/// The scheme, host, port and path of a link are the server's own names, which may differ from ours behind a proxy or
/// in a virtual repository. Only the query is needed from it.
///
/// # Errors
///
/// If a link is invalid, or the next one has no query: then there is a page that cannot be requested.
pub(super) fn next(links: &[String], answered: &Url) -> Result<Option<Url>, Problem> {
    let broken = |link: &str| Problem::Link(link.chars().take(200).collect());
    let mut unread = None;
    for field in links {
        let mut left = field.as_str();
        while let Some((target, parameters, rest)) = link(left) {
            left = rest;
            let target = target.split_once('#').map_or(target, |(target, _fragment)| target);
            let query = target.split_once('?').map_or("", |(_, query)| query);
            // Registries that leave out `rel` mean the next page, as Docker and go-containerregistry read it.
            if !relation(&parameters).map_or(!query.is_empty(), is_next) {
                continue;
            }
            if query.is_empty() {
                return Err(broken(field));
            }
            let mut url = answered.clone();
            url.set_query(Some(query));
            return Ok(Some(url));
        }
        if !left.trim_matches([' ', '\t', ',']).is_empty() {
            unread = Some(broken(field));
        }
    }
    unread.map_or(Ok(None), Err)
}

/// Names and values.
type Parameters = Vec<(String, String)>;

/// The first link: its target, its parameters, and the text after it. `None` if there is no link.
fn link(text: &str) -> Option<(&str, Parameters, &str)> {
    let text = text.trim_start_matches([' ', '\t', ',']);
    let (target, mut left) = text.strip_prefix('<')?.split_once('>')?;
    let mut parameters = Parameters::new();
    loop {
        left = left.trim_start_matches([' ', '\t']);
        let Some(after) = left.strip_prefix(';') else { break };
        let after = after.trim_start_matches([' ', '\t']);
        let (name, after) = after.split_at(after.find(['=', ';', ',']).unwrap_or(after.len()));
        let (value, after) = match after.strip_prefix('=') {
            Some(after) => value(after.trim_start_matches([' ', '\t'])),
            None => (String::new(), after),
        };
        parameters.push((name.trim().to_ascii_lowercase(), value));
        left = after;
    }
    (left.is_empty() || left.starts_with(',')).then_some((target, parameters, left))
}

/// A token or a quoted string, and the text after it.
fn value(text: &str) -> (String, &str) {
    quoted_string(text).unwrap_or_else(|| {
        let (value, rest) = text.split_at(text.find([';', ',']).unwrap_or(text.len()));
        (value.trim().to_owned(), rest)
    })
}

/// The value of `rel`. Only the first one counts (RFC 8288, section 3.3).
fn relation(parameters: &[(String, String)]) -> Option<&str> {
    parameters.iter().find(|(name, _)| name == "rel").map(|(_, value)| value.trim_matches('\''))
}

fn is_next(relation: &str) -> bool {
    relation.split_ascii_whitespace().any(|relation| relation.eq_ignore_ascii_case("next"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn next_of(links: &[&str]) -> Result<Option<String>, Problem> {
        let answered = Url::parse("https://r.example.org/v2/lab/tags/list?n=2").unwrap();
        let links: Vec<String> = links.iter().map(|link| (*link).to_owned()).collect();
        next(&links, &answered).map(|url| url.map(|url| url.to_string()))
    }

    #[test]
    fn links_as_registries_write_them() {
        let page = "https://r.example.org/v2/lab/tags/list?n=2&last=b";
        for link in [
            r#"</v2/lab/tags/list?n=2&last=b>; rel="next""#,
            "</v2/lab/tags/list?n=2&last=b>;rel=next",
            r#"<https://r.example.org/v2/lab/tags/list?n=2&last=b>; title="x"; REL="prev next""#,
            r#"</first?x>; rel="first", </v2/lab/tags/list?n=2&last=b>; rel="next""#,
            r#"<?n=2&last=b>; rel="next""#,
            "<?n=2&last=b#top>; rel=next",
            "<?n=2&last=b>",
            r#"<?n=2&last=b>; title="more""#,
            "<?n=2&last=b>; rel='next'",
            r#"</first>; title="a, <b>; \"rel=next"; rel="first", <?n=2&last=b>; rel = "next""#,
            // The own names of servers behind proxies and in virtual repositories.
            "<http://r.example.org/v2/lab/tags/list?n=2&last=b>; rel=next",
            "<http://registry.internal:5000/v2/lab/tags/list?n=2&last=b>; rel=next",
            "<https://r.example.org/repository/docker/v2/lab/tags/list?n=2&last=b>; rel=next",
            "<//elsewhere.example.org/x?n=2&last=b>; rel=next",
            "<:not:a:url?n=2&last=b>; rel=next",
        ] {
            assert_eq!(next_of(&[link]).unwrap().as_deref(), Some(page), "{link}");
        }
        let other = r#"<https://docs.example.org/x?y>; rel="deprecation""#;
        let first = "<?n=2&last=b>; rel=next";
        for links in [&[other, first][..], &[first, other], &["", first], &["garbage", first]] {
            assert_eq!(next_of(links).unwrap().as_deref(), Some(page), "{links:?}");
        }
        for none in [
            &[][..],
            &[r#"</x?y>; rel="prev""#],
            &["</x>; title=\"rel=next\""],
            &["</style.css>"],
            &[""],
            &["</x?y>; rel=first; rel=next"],
        ] {
            assert_eq!(next_of(none).unwrap(), None, "{none:?}");
        }
        for broken in [&["garbage"][..], &["</x?y; rel=next"], &["</x>; rel=next"], &[other, "\u{fffd}"]] {
            assert!(matches!(next_of(broken), Err(Problem::Link(_))), "{broken:?}");
        }
    }

    proptest! {
        #[test]
        fn no_link_leads_elsewhere_or_makes_it_panic(link in r#"[<>/?a-c:=;, "\\]{0,60}"#) {
            if let Ok(Some(url)) = next_of(&[&link]) {
                prop_assert!(url.starts_with("https://r.example.org/v2/lab/tags/list?"));
            }
        }
    }
}
