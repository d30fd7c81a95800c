//! Tokens: where they may be requested, and how long they are valid (distribution specification, "Token
//! Authentication"; OAuth2 with an identity token as Docker documents it).

use std::net::IpAddr;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Method, Url};
use serde::Deserialize;
use serde_json::Value;
use sidecar::secret::Secret;

use super::credentials::{Login, host_matches};
use super::error::Problem;
use super::request::{Request, name};

/// The life of a token if its server gives none, or a shorter one: no token has a shorter life (distribution
/// specification, "Token Authentication").
const SHORTEST_LIFE: Duration = Duration::from_secs(60);

/// The longest life of a token, whatever its server says.
const LONGEST_LIFE: Duration = Duration::from_secs(24 * 3600);

/// The authorization for a repository.
#[derive(Clone, Debug)]
pub(super) struct Token {
    /// The value of `Authorization`.
    authorization: Secret,
    until: Instant,
}

impl Token {
    /// A name and a password, sent as they are.
    pub(super) fn basic(username: &str, password: &Secret) -> Self {
        let pair = STANDARD.encode(format!("{username}:{}", password.expose()));
        Self { authorization: Secret::new(format!("Basic {pair}")), until: Instant::now() + LONGEST_LIFE }
    }

    /// A token from the credentials.
    pub(super) fn bearer(token: &Secret) -> Self {
        let authorization = Secret::new(format!("Bearer {}", token.expose()));
        Self { authorization, until: Instant::now() + LONGEST_LIFE }
    }

    /// The header's value; `None` for a token with bytes that a header cannot contain.
    pub(super) fn header(&self) -> Option<HeaderValue> {
        let mut value = HeaderValue::from_str(self.authorization.expose()).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// Whether it is still valid. The last tenth of its life is reserved for requests in progress.
    pub(super) fn serves(&self, now: Instant) -> bool {
        now < self.until
    }
}

/// The request for a token: a GET with or without a password, or a form with an identity token.
pub(super) fn request(mut realm: Url, service: &str, scope: &str, login: Option<&Login>, most_bytes: usize) -> Request {
    if let Some(Login::IdentityToken(token)) = login {
        let form = form_of(&[
            ("grant_type", "refresh_token"),
            ("refresh_token", token.expose()),
            ("client_id", "labhands"),
            ("service", service),
            ("scope", scope),
        ]);
        return Request { method: Method::POST, form: Some(form), ..Request::get(realm, most_bytes) };
    }
    // A challenge may contain several scopes, separated by spaces.
    for scope in scope.split_ascii_whitespace() {
        realm.query_pairs_mut().append_pair("scope", scope);
    }
    if !service.is_empty() {
        realm.query_pairs_mut().append_pair("service", service);
    }
    let mut request = Request::get(realm, most_bytes);
    if let Some(Login::Basic { username, password }) = login {
        request.headers.extend(Token::basic(username, password).header().map(|value| (AUTHORIZATION, value)));
    }
    request
}

fn form_of(pairs: &[(&str, &str)]) -> String {
    let mut url = Url::parse("form:").expect("a constant that is a URL");
    url.query_pairs_mut().extend_pairs(pairs);
    url.query().unwrap_or_default().to_owned()
}

/// A token server's answer. Both names of the token are in use.
#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    /// In seconds; some servers send a string.
    #[serde(default)]
    expires_in: Value,
}

/// Parses the answer to a request that was sent at `asked`.
pub(super) fn read(body: &[u8], asked: Instant) -> Result<Token, String> {
    // The error contains only the position, because the body contains the token.
    let answer: Answer = serde_json::from_slice(body)
        .map_err(|error| format!("its answer is not the expected JSON (column {})", error.column()))?;
    let tokens = [answer.token, answer.access_token].into_iter().flatten();
    let token = tokens.map(|token| token.trim().to_owned()).find(|token| !token.is_empty());
    let authorization = Secret::new(format!("Bearer {}", token.ok_or("its answer has no token")?));
    let token = Token { authorization, until: asked + life(&answer.expires_in).mul_f64(0.9) };
    match token.header() {
        Some(_) => Ok(token),
        None => Err("its token has characters that no HTTP header may have".to_owned()),
    }
}

/// The life of a token, whatever number its server sends.
fn life(expires_in: &Value) -> Duration {
    let seconds = expires_in.as_f64().or_else(|| expires_in.as_str()?.trim().parse().ok());
    let seconds = seconds.filter(|seconds| !seconds.is_nan()).unwrap_or_default();
    Duration::from_secs_f64(seconds.clamp(SHORTEST_LIFE.as_secs_f64(), LONGEST_LIFE.as_secs_f64()))
}

/// Where tokens may be requested besides the registries' own hosts, and which hosts may have no TLS.
#[derive(Clone, Debug, Default)]
pub(super) struct Realms {
    /// Hosts, with wildcards as in credentials (`LAB_TOKEN_SERVERS`).
    pub(super) token_servers: Vec<String>,
    /// Hosts with their ports (`LAB_INSECURE_REGISTRIES`).
    pub(super) insecure: Vec<String>,
}

impl Realms {
    /// The realm as a URL, if a token may be requested there.
    ///
    /// It must be the registry's own host (on any port), its parent (`gitlab.com` for `registry.gitlab.com`), a sibling
    /// (`auth.docker.io` for `registry-1.docker.io`), or a host in `LAB_TOKEN_SERVERS`. It must use HTTPS, unless it is
    /// on this machine, is the host of a registry that may use plain HTTP, or may use plain HTTP itself.
    pub(super) fn check(&self, realm: &str, registry: &Url) -> Result<Url, Problem> {
        let host = |url: &Url| url.host_str().unwrap_or_default().to_ascii_lowercase();
        let from = name(registry);
        let url = Url::parse(realm).map_err(|_| Problem::NoToken {
            realm: realm.chars().take(200).collect(),
            reason: "it is not a URL".to_owned(),
        })?;
        let (there, here) = (host(&url), host(registry));
        let named = |server: &String| host_matches(server, &there) || host_matches(server, &name(&url));
        if !is_related(&there, &here) && !self.token_servers.iter().any(named) {
            return Err(Problem::ForeignRealm { host: from, realm: name(&url) });
        }
        let insecure = |url: &Url| self.insecure.iter().any(|insecure| insecure.eq_ignore_ascii_case(&name(url)));
        let plain_is_fine = is_loopback(&there) || insecure(&url) || (insecure(registry) && there == here);
        match url.scheme() {
            "https" => Ok(url),
            "http" if plain_is_fine => Ok(url),
            _ => Err(Problem::PlainRealm { host: from, realm: name(&url) }),
        }
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
    fn where_a_token_may_be_requested() {
        let realms = Realms {
            token_servers: ["api.scaleway.com", "*.corp.example.org", "tokens.example.net:8443"]
                .map(str::to_owned)
                .into(),
            insecure: ["registry.local:5000", "auth.svc.cluster.local"].map(str::to_owned).into(),
        };
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
            ("https://rg.fr-par.scw.cloud/v2/", "https://api.scaleway.com/registry-internal/tokens", true),
            ("https://rg.fr-par.scw.cloud/v2/", "http://api.scaleway.com/registry-internal/tokens", false),
            ("https://rg.fr-par.scw.cloud/v2/", "https://api.scaleway.com.evil.io/tokens", false),
            ("https://registry.example.com/v2/", "https://gitlab.corp.example.org/jwt/auth", true),
            ("https://registry.example.com/v2/", "https://tokens.example.net:8443/auth", true),
            ("https://registry.example.com/v2/", "https://tokens.example.net/auth", false),
            ("https://registry.svc.cluster.local/v2/", "http://auth.svc.cluster.local/token", true),
        ] {
            let registry = Url::parse(registry).unwrap();
            assert_eq!(realms.check(wanted, &registry).is_ok(), fine, "{registry} {wanted}");
        }
    }

    #[test]
    fn a_token_is_used_for_most_of_its_life() {
        let now = Instant::now();
        let serves = |expires_in: &str, seconds: u64| {
            let body = format!(r#"{{"token":"x"{expires_in}}}"#);
            read(body.as_bytes(), now).unwrap().serves(now + Duration::from_secs(seconds))
        };
        let day = 24 * 3600;
        for (expires_in, seconds) in [
            (r#","expires_in":100"#, 90),
            (r#","expires_in":"100""#, 90),
            (r#","expires_in":100.0"#, 90),
            ("", 54),
            (r#","expires_in":0"#, 54),
            (r#","expires_in":-5"#, 54),
            (r#","expires_in":null"#, 54),
            (r#","expires_in":"soon""#, 54),
            (r#","expires_in":"NaN""#, 54),
            (r#","expires_in":18446744073709551615"#, day / 10 * 9),
            (r#","expires_in":1e300"#, day / 10 * 9),
        ] {
            assert!(serves(expires_in, seconds - 1) && !serves(expires_in, seconds + 1), "{expires_in}");
        }
    }

    #[test]
    fn the_token_has_two_names_and_must_be_there() {
        let read = |body: &str| read(body.as_bytes(), Instant::now());
        for body in
            [r#"{"access_token":"x"}"#, r#"{"token":null,"access_token":"x"}"#, r#"{"token":"","access_token":"x"}"#]
        {
            assert_eq!(read(body).unwrap().header().unwrap(), "Bearer x", "{body}");
        }
        for (body, expected) in
            [("{}", "no token"), ("x", "column"), (r#"{"token":7}"#, "column"), (r#"{"token":"a\nb"}"#, "header")]
        {
            assert!(read(body).unwrap_err().contains(expected), "{body}");
        }
    }
}
