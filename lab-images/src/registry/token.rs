//! Tokens: where one may be asked for, and how long it serves (distribution specification, "Token Authentication"; OAuth2 with
//! an identity token as Docker documents it).

use std::net::IpAddr;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;
use reqwest::header::HeaderValue;
use serde::Deserialize;
use sidecar::secret::Secret;

use super::error::Problem;

/// What a token serves for when its server does not say.
const USUAL_LIFE: Duration = Duration::from_secs(60);

/// A token serves no longer than this, whatever its server says.
const LONGEST_LIFE: Duration = Duration::from_secs(24 * 3600);

/// What a repository's registry lets us in by.
#[derive(Clone, Debug)]
pub(super) struct Token {
    /// The value of `Authorization`.
    authorisation: Secret,
    until: Instant,
}

impl Token {
    /// A name and a password, sent as they are.
    pub(super) fn basic(username: &str, password: &Secret) -> Self {
        let pair = STANDARD.encode(format!("{username}:{}", password.expose()));
        Self { authorisation: Secret::new(format!("Basic {pair}")), until: Instant::now() + LONGEST_LIFE }
    }

    /// The header's value; `None` for a token with bytes that no header can have.
    pub(super) fn header(&self) -> Option<HeaderValue> {
        let mut value = HeaderValue::from_str(self.authorisation.expose()).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// Whether it still serves: the last tenth of its life is left for requests under way.
    pub(super) fn serves(&self, now: Instant) -> bool {
        now < self.until
    }
}

/// What a token server answers; both names of the token are in use.
#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
    #[serde(default)]
    expires_in: Option<u64>,
}

/// Reads the answer that came at `now`.
pub(super) fn read(body: &[u8], now: Instant) -> Result<Token, String> {
    // Only where it is wrong: the body has the token.
    let answer: Answer = serde_json::from_slice(body)
        .map_err(|error| format!("its answer is no JSON of that form at column {}", error.column()))?;
    let secret = if answer.token.is_empty() { answer.access_token } else { answer.token };
    if secret.is_empty() {
        return Err("its answer has no token".to_owned());
    }
    let life = answer.expires_in.map_or(USUAL_LIFE, Duration::from_secs).min(LONGEST_LIFE);
    Ok(Token { authorisation: Secret::new(format!("Bearer {secret}")), until: now + life.mul_f64(0.9) })
}

/// The realm as a URL, if a token may be asked for there.
///
/// It must be the registry's own host (on any port), its parent (`gitlab.com` for `registry.gitlab.com`), or a host beside it
/// (`auth.docker.io` for `registry-1.docker.io`), over HTTPS unless it is on this machine or the registry itself is allowed
/// plain HTTP and has the same host.
pub(super) fn realm(realm: &str, registry: &Url, plain_allowed: bool) -> Result<Url, Problem> {
    let host = |url: &Url| url.host_str().unwrap_or_default().to_ascii_lowercase();
    let from = registry.host_str().unwrap_or_default().to_owned();
    let url = Url::parse(realm).map_err(|_| Problem::NoToken {
        realm: realm.chars().take(200).collect(),
        reason: "it is no URL".to_owned(),
    })?;
    let (there, here) = (host(&url), host(registry));
    if !is_related(&there, &here) {
        return Err(Problem::ForeignRealm { host: from, realm: there });
    }
    let plain_is_fine = is_loopback(&there) || (plain_allowed && there == here);
    match url.scheme() {
        "https" => Ok(url),
        "http" if plain_is_fine => Ok(url),
        _ => Err(Problem::PlainRealm { host: from, realm: there }),
    }
}

fn is_related(there: &str, here: &str) -> bool {
    if there == here || (is_loopback(there) && is_loopback(here)) {
        return true;
    }
    let parent = |name: &str| match name.split_once('.') {
        Some((_, parent)) if parent.contains('.') && address(name).is_none() => Some(parent.to_owned()),
        _ => None,
    };
    let ours = parent(here);
    ours.is_some() && (ours.as_deref() == Some(there) || ours == parent(there))
}

fn address(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || address(host).is_some_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_token_may_be_asked_for() {
        for (registry, wanted, fine) in [
            ("https://registry-1.docker.io/v2/", "https://auth.docker.io/token", true),
            ("https://registry.gitlab.com/v2/", "https://gitlab.com/jwt/auth", true),
            ("https://ghcr.io/v2/", "https://ghcr.io/token", true),
            ("https://ghcr.io/v2/", "https://evil.io/token", false),
            ("https://registry.example.org/v2/", "https://evil.example.com/token", false),
            ("https://registry.example.org/v2/", "https://a.b.example.org/token", false),
            ("https://registry.example.org/v2/", "http://auth.example.org/token", false),
            ("https://10.0.0.1/v2/", "https://10.0.0.2/token", false),
            ("http://127.0.0.1:5000/v2/", "http://127.0.0.1:5001/token", true),
            ("http://localhost:5000/v2/", "http://[::1]:5001/token", true),
            ("http://registry.local:5000/v2/", "http://registry.local:5001/token", true),
            ("https://registry.example.org/v2/", "no url", false),
            ("https://registry.example.org/v2/", "ftp://registry.example.org/", false),
        ] {
            let plain = registry.starts_with("http://");
            let registry = Url::parse(registry).unwrap();
            assert_eq!(realm(wanted, &registry, plain).is_ok(), fine, "{registry} {wanted}");
        }
    }

    #[test]
    fn a_token_serves_for_most_of_its_life() {
        let now = Instant::now();
        let serves =
            |body: &str, seconds: u64| read(body.as_bytes(), now).unwrap().serves(now + Duration::from_secs(seconds));
        assert!(serves(r#"{"token":"x","expires_in":100}"#, 89) && !serves(r#"{"token":"x","expires_in":100}"#, 91));
        assert!(serves(r#"{"access_token":"x"}"#, 53) && !serves(r#"{"access_token":"x"}"#, 55));
        assert!(!serves(r#"{"token":"x","expires_in":18446744073709551615}"#, 24 * 3600));
        for (body, said) in [("{}", "no token"), ("x", "column"), (r#"{"token":7}"#, "column")] {
            assert!(read(body.as_bytes(), now).unwrap_err().contains(said), "{body}");
        }
    }
}
