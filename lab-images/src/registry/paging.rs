//! `Link: <…>; rel="next"` (RFC 8288), as registries page with it.

use reqwest::Url;

use super::error::Problem;

/// The next page, which must be on the same host by the same scheme as `current`.
pub(super) fn next(link: &str, current: &Url) -> Result<Option<Url>, Problem> {
    let broken = || Problem::Link(link.chars().take(200).collect());
    let mut left = link.trim();
    while !left.is_empty() {
        let (target, after) = left.strip_prefix('<').and_then(|rest| rest.split_once('>')).ok_or_else(broken)?;
        // Parameters have no angle brackets: the next link begins at one.
        let (parameters, rest) = after.split_at(after.find('<').unwrap_or(after.len()));
        if is_next(parameters) {
            let url = current.join(target).map_err(|_| broken())?;
            let same = url.scheme() == current.scheme()
                && url.host() == current.host()
                && url.port_or_known_default() == current.port_or_known_default();
            return if same {
                Ok(Some(url))
            } else {
                Err(Problem::ForeignPage { target: url.host_str().unwrap_or_default().to_owned() })
            };
        }
        left = rest;
    }
    Ok(None)
}

fn is_next(parameters: &str) -> bool {
    parameters.split([';', ',']).any(|parameter| {
        let Some((name, value)) = parameter.split_once('=') else { return false };
        let value = value.trim().trim_matches('"');
        name.trim().eq_ignore_ascii_case("rel")
            && value.split_ascii_whitespace().any(|rel| rel.eq_ignore_ascii_case("next"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_as_registries_write_them() {
        let current = Url::parse("https://r.example.org/v2/lab/tags/list?n=2").unwrap();
        let next = |link: &str| next(link, &current).map(|url| url.map(|url| url.to_string()));
        let page = "https://r.example.org/v2/lab/tags/list?n=2&last=b";
        for link in [
            r#"</v2/lab/tags/list?n=2&last=b>; rel="next""#,
            r#"</v2/lab/tags/list?n=2&last=b>;rel=next"#,
            r#"<https://r.example.org/v2/lab/tags/list?n=2&last=b>; title="x"; REL="prev next""#,
            r#"</first>; rel="first", </v2/lab/tags/list?n=2&last=b>; rel="next""#,
        ] {
            assert_eq!(next(link).unwrap().as_deref(), Some(page), "{link}");
        }
        assert_eq!(next(r#"</x>; rel="prev""#).unwrap(), None);
        for foreign in [
            "<https://evil.example.org/x>; rel=next",
            "<http://r.example.org/x>; rel=next",
            "<//evil/x>; rel=next",
            "<https://r.example.org:444/x>; rel=next",
        ] {
            assert!(matches!(next(foreign), Err(Problem::ForeignPage { .. })), "{foreign}");
        }
        assert!(matches!(next("garbage"), Err(Problem::Link(_))));
    }
}
