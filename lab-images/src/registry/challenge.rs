//! `WWW-Authenticate`: challenges with their parameters (RFC 9110, section 11.6.1).

/// The authentication that a registry asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A name and a password.
    Basic,
    /// A token (distribution specification, "Token Authentication").
    Bearer {
        /// The URL of the token server.
        realm: String,
        /// The service to request a token for.
        service: Option<String>,
        /// The scope to request.
        scope: Option<String>,
    },
}

/// The best supported challenge: a bearer token before a password. Headers may contain several challenges, separated by
/// commas like their parameters.
pub(super) fn best<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Challenge> {
    let challenges: Vec<Challenge> = headers.flat_map(parse).collect();
    let bearer = challenges.iter().find(|challenge| matches!(challenge, Challenge::Bearer { .. }));
    bearer.or_else(|| challenges.first()).cloned()
}

fn parse(header: &str) -> Vec<Challenge> {
    let mut challenges = Vec::new();
    let mut scheme = String::new();
    let mut parameters: Vec<(String, String)> = Vec::new();
    let mut left = header.trim_start_matches([' ', '\t', ',']);
    while !left.is_empty() {
        let (word, after) = token(left);
        if word.is_empty() {
            // The rest is invalid, but the parameters so far may be usable.
            break;
        }
        let spaced = after.trim_start_matches([' ', '\t']);
        match spaced.strip_prefix('=') {
            Some(value) if !scheme.is_empty() => {
                let (value, rest) = value_of(value.trim_start_matches([' ', '\t']));
                parameters.push((word.to_ascii_lowercase(), value));
                left = rest;
            }
            _ => {
                challenges.extend(challenge(&scheme, &parameters));
                scheme = word.to_ascii_lowercase();
                parameters.clear();
                // The rest of a token68, which may contain slashes: the credentials of Negotiate and the like.
                left = after.trim_start_matches(|c: char| c == '/' || c == '=' || is_token(c));
            }
        }
        left = left.trim_start_matches([' ', '\t', ',']);
    }
    challenges.extend(challenge(&scheme, &parameters));
    challenges
}

fn challenge(scheme: &str, parameters: &[(String, String)]) -> Option<Challenge> {
    let parameter = |name: &str| parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    match scheme {
        "basic" => Some(Challenge::Basic),
        "bearer" => Some(Challenge::Bearer {
            realm: parameter("realm")?,
            service: parameter("service"),
            scope: parameter("scope"),
        }),
        _ => None,
    }
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

fn token(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c| !is_token(c)).unwrap_or(text.len()))
}

/// A token or a quoted string, without its quotes and escapes.
fn value_of(text: &str) -> (String, &str) {
    quoted_string(text).unwrap_or_else(|| {
        let (value, rest) = text.split_at(text.find([',', ' ', '\t']).unwrap_or(text.len()));
        (value.to_owned(), rest)
    })
}

/// A quoted string (RFC 9110, section 5.6.4) without its quotes and escapes, and the text after it; `None` if `text`
/// does not begin with one. Without an end quote, it extends to the end.
pub(super) fn quoted_string(text: &str) -> Option<(String, &str)> {
    let quoted = text.strip_prefix('"')?;
    let mut value = String::new();
    let mut letters = quoted.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.extend(letters.next().map(|(_, escaped)| escaped)),
            letter => value.push(letter),
        }
    }
    Some((value, ""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Some(Challenge::Bearer { realm: realm.to_owned(), service: owned(service), scope: owned(scope) })
    }

    #[test]
    fn challenges_as_registries_write_them() {
        for (header, expected) in [
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull""#,
                bearer("https://auth.docker.io/token", Some("registry.docker.io"), Some("repository:a/b:pull")),
            ),
            (
                r#"bearer  realm = "https://x/t" , scope="repository:a:pull,push""#,
                bearer("https://x/t", None, Some("repository:a:pull,push")),
            ),
            (r#"Basic realm="a, \"b\"", Bearer realm="https://x""#, bearer("https://x", None, None)),
            ("Bearer realm=https://x/t,service=y", bearer("https://x/t", Some("y"), None)),
            (r#"Basic realm="registry""#, Some(Challenge::Basic)),
            ("BASIC", Some(Challenge::Basic)),
            ("Negotiate, Basic realm=x", Some(Challenge::Basic)),
            ("Negotiate abc/d+f/g==, Basic realm=x", Some(Challenge::Basic)),
            (r#"Negotiate abc/def, Bearer realm="https://x""#, bearer("https://x", None, None)),
            ("Bearer realm=https://x service=y", bearer("https://x", Some("y"), None)),
            (r#"Bearer service="no realm""#, None),
            ("Digest realm=x", None),
            ("", None),
            ("= = =", None),
        ] {
            assert_eq!(best([header].into_iter()), expected, "{header}");
        }
        let two = ["Basic realm=x", "Bearer realm=\"https://x\""];
        assert_eq!(best(two.into_iter()), bearer("https://x", None, None));
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic_or_hang(header in "[a-zA-Z=\", \\\\é]{0,60}") {
            let _ = best([header.as_str()].into_iter());
        }
    }
}
