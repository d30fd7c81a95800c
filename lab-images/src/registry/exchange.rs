//! One request with everything around it: authorisation, redirects, retries, pacing, limits.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE,
};
use reqwest::{Client, Method, StatusCode, Url, redirect};
use serde::de::DeserializeOwned;
use sidecar::tls::Watched;
use tokio::sync::Semaphore;

use super::challenge::{self, Challenge};
use super::credentials::{Credentials, Login};
use super::error::{Problem, RegistryError};
use super::token::{self, Token};
use super::{RegistryConfig, lock};
use crate::reference::Repository;

const MOST_TOKEN_BYTES: usize = 1024 * 1024;
const MOST_ERROR_BYTES: usize = 64 * 1024;
const MOST_REDIRECTS: usize = 5;

/// How often a server that fails, or can't be reached, is tried again.
const RETRIES: u32 = 3;

/// A longer pause between two tries is not made.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A request.
pub(super) struct Ask<'a> {
    repository: &'a Repository,
    url: Url,
    what: &'a str,
    method: Method,
    headers: HeaderMap,
    most_bytes: usize,
}

impl<'a> Ask<'a> {
    /// `what` says in errors what was tried; an answer has at most `most_bytes`.
    pub(super) fn get(repository: &'a Repository, url: Url, what: &'a str, most_bytes: usize) -> Self {
        Self { repository, url, what, method: Method::GET, headers: HeaderMap::new(), most_bytes }
    }

    pub(super) fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    pub(super) fn accept(mut self, kinds: &'static str) -> Self {
        self.headers.insert(ACCEPT, HeaderValue::from_static(kinds));
        self
    }

    /// A value that can't be sent is left out.
    pub(super) fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }
}

/// A whole answer: a success, or 304.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The media type without its parameters.
    pub(super) fn content_type(&self) -> Option<&str> {
        self.header(CONTENT_TYPE.as_str()).and_then(|value| value.split(';').next()).map(str::trim)
    }

    pub(super) fn json<T: DeserializeOwned>(&self, what: &str) -> Result<T, RegistryError> {
        serde_json::from_slice(&self.body).map_err(|error| RegistryError::new(what, Problem::Json(error)))
    }
}

/// What is shared with all requests to one host.
#[derive(Debug)]
struct Host {
    places: Semaphore,
    /// The registry asked to be left alone until then.
    not_before: Mutex<Option<Instant>>,
}

/// Sends requests.
#[derive(Debug)]
pub(super) struct Exchange {
    config: RegistryConfig,
    client: Mutex<(Watched, Client)>,
    credentials: Arc<Credentials>,
    hosts: Mutex<HashMap<String, Arc<Host>>>,
    /// By repository: a token for one is no good for another.
    tokens: Mutex<HashMap<Repository, Token>>,
}

/// What one try came to.
enum Tried {
    Answer(Answer),
    Redirect(Url),
    Unauthorised(Vec<String>, String),
    /// Worth another try, after this long if the server says so.
    Again {
        problem: Problem,
        pause: Option<Duration>,
    },
}

impl Exchange {
    pub(super) fn new(config: RegistryConfig) -> Result<Self, RegistryError> {
        let what = "set up the registry client";
        let credentials =
            Credentials::new(config.auth_file.clone()).map_err(|error| RegistryError::new(what, error.into()))?;
        let watched = Watched::root_bundle();
        let client = client().map_err(|problem| RegistryError::new(what, problem))?;
        Ok(Self {
            config,
            client: Mutex::new((watched, client)),
            credentials: Arc::new(credentials),
            hosts: Mutex::default(),
            tokens: Mutex::default(),
        })
    }

    pub(super) fn credentials(&self) -> Arc<Credentials> {
        self.credentials.clone()
    }

    /// `/v2/<path>/<rest>` on the repository's host.
    pub(super) fn url(&self, repository: &Repository, rest: &str) -> Result<Url, RegistryError> {
        let scheme = if self.is_plain(repository.host()) { "http" } else { "https" };
        let text = format!("{scheme}://{}/v2/{}/{rest}", repository.api_host(), repository.path());
        Url::parse(&text).map_err(|_| RegistryError::new("make a request", Problem::Url(text)))
    }

    fn is_plain(&self, host: &str) -> bool {
        self.config.insecure.iter().any(|insecure| insecure.eq_ignore_ascii_case(host))
    }

    /// The client, made anew when the root certificates changed on disk.
    fn client(&self) -> Client {
        let mut held = lock(&self.client);
        if held.0.changed() {
            match client() {
                Ok(client) => held.1 = client,
                Err(error) => tracing::warn!(%error, "the changed root certificates are left out"),
            }
        }
        held.1.clone()
    }

    fn host(&self, url: &Url) -> Arc<Host> {
        let name =
            format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default());
        let places = self.config.parallel.max(1);
        lock(&self.hosts)
            .entry(name)
            .or_insert_with(|| Arc::new(Host { places: Semaphore::new(places), not_before: Mutex::default() }))
            .clone()
    }

    /// Sends a request until it is answered, refused, or patience ends.
    pub(super) async fn send(&self, ask: Ask<'_>) -> Result<Answer, RegistryError> {
        let failed = |problem| RegistryError::new(ask.what, problem);
        let began = Instant::now();
        let (mut tries, mut redirects, mut logged_in) = (0, 0, false);
        let mut url = ask.url.clone();
        loop {
            let home = same_host(&url, &ask.url);
            let authorisation = if home { self.authorisation(&ask) } else { None };
            match self.try_once(&ask, &url, authorisation).await.map_err(failed)? {
                Tried::Answer(answer) => return Ok(answer),
                Tried::Redirect(target) => {
                    redirects += 1;
                    url = self.follow(&url, target, redirects).map_err(failed)?;
                }
                Tried::Unauthorised(challenges, told) if home && !logged_in => {
                    logged_in = true;
                    lock(&self.tokens).remove(ask.repository);
                    self.log_in(&ask, &challenges, told).await.map_err(failed)?;
                }
                Tried::Unauthorised(_, told) => {
                    return Err(failed(Problem::Denied { host: name(&url), status: 401, told }));
                }
                Tried::Again { problem, pause } => {
                    tries += 1;
                    let busy = matches!(problem, Problem::TooBusy { .. });
                    let pause = pause.unwrap_or_else(|| self.pause(tries));
                    let patient = began.elapsed() + pause <= self.config.patience;
                    if !patient || (!busy && tries > RETRIES) {
                        return Err(failed(match problem {
                            Problem::TooBusy { host, status, .. } => Problem::TooBusy { host, status, tries },
                            problem => problem,
                        }));
                    }
                    tracing::debug!(%problem, what = ask.what, "registry request is tried again");
                    self.leave_alone(&url, pause, busy).await;
                }
            }
        }
    }

    /// Waits; a busy host is left alone by every other request too.
    async fn leave_alone(&self, url: &Url, pause: Duration, busy: bool) {
        if busy {
            *lock(&self.host(url).not_before) = Some(Instant::now() + pause);
        } else {
            tokio::time::sleep(pause).await;
        }
    }

    fn pause(&self, tries: u32) -> Duration {
        let pause = self.config.first_pause.saturating_mul(2_u32.saturating_pow(tries.saturating_sub(1).min(16)));
        pause.min(LONGEST_PAUSE).mul_f64(1.0 + f64::from(rand_byte()) / 512.0)
    }

    /// What to show for this request without asking first.
    fn authorisation(&self, ask: &Ask<'_>) -> Option<HeaderValue> {
        let tokens = lock(&self.tokens);
        let token = tokens.get(ask.repository).filter(|token| token.serves(Instant::now()))?;
        token.header()
    }

    /// Meets the challenge of a 401; the next try then finds the token.
    async fn log_in(&self, ask: &Ask<'_>, challenges: &[String], told: String) -> Result<(), Problem> {
        let host = name(&ask.url);
        let login = self.credentials.login(ask.repository);
        match challenge::best(challenges.iter().map(String::as_str)) {
            None => {
                let challenge = challenges.join(", ").chars().take(200).collect();
                Err(Problem::NoChallenge { host, challenge })
            }
            Some(Challenge::Basic) => match login {
                Some(Login::Basic { username, password }) => {
                    let token = Token::basic(&username, &password);
                    lock(&self.tokens).insert(ask.repository.clone(), token);
                    Ok(())
                }
                _ => Err(Problem::Denied { host, status: 401, told }),
            },
            Some(Challenge::Bearer { realm, service, scope }) => {
                let realm = token::realm(&realm, &ask.url, self.is_plain(ask.repository.host()))?;
                let scope = scope.unwrap_or_else(|| format!("repository:{}:pull", ask.repository.path()));
                let token = self.ask_for_token(realm, service, &scope, login).await?;
                lock(&self.tokens).insert(ask.repository.clone(), token);
                Ok(())
            }
        }
    }

    async fn ask_for_token(
        &self,
        mut realm: Url,
        service: Option<String>,
        scope: &str,
        login: Option<Login>,
    ) -> Result<Token, Problem> {
        let server = name(&realm);
        let failed = |reason: String| Problem::NoToken { realm: server.clone(), reason };
        let client = self.client();
        let service = service.unwrap_or_default();
        let request = match login {
            Some(Login::IdentityToken(token)) => {
                let form = form_of(&[
                    ("grant_type", "refresh_token"),
                    ("refresh_token", token.expose()),
                    ("client_id", "labhands"),
                    ("service", &service),
                    ("scope", scope),
                ]);
                client.post(realm).header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form)
            }
            login => {
                // A challenge may name several scopes, with blanks between.
                for scope in scope.split_ascii_whitespace() {
                    realm.query_pairs_mut().append_pair("scope", scope);
                }
                if !service.is_empty() {
                    realm.query_pairs_mut().append_pair("service", &service);
                }
                match login {
                    Some(Login::Basic { username, password }) => {
                        client.get(realm).basic_auth(username, Some(password.expose()))
                    }
                    _ => client.get(realm),
                }
            }
        };
        let asked = Instant::now();
        let response = request.send().await.map_err(|error| failed(reason(error)))?;
        let status = response.status();
        let body = read_body(response, MOST_TOKEN_BYTES, &server).await?;
        if !status.is_success() {
            return Err(failed(format!("it answered {}{}; look at REGISTRY_AUTH_FILE", status.as_u16(), told(&body))));
        }
        token::read(&body, asked).map_err(failed)
    }

    async fn try_once(&self, ask: &Ask<'_>, url: &Url, authorisation: Option<HeaderValue>) -> Result<Tried, Problem> {
        let host = self.host(url);
        let _place = host.places.acquire().await.expect("nobody closes this semaphore");
        loop {
            let wait = lock(&host.not_before).map(|at| at.saturating_duration_since(Instant::now()));
            match wait.filter(|wait| !wait.is_zero()) {
                Some(wait) => tokio::time::sleep(wait).await,
                None => break,
            }
        }
        let mut request = self.client().request(ask.method.clone(), url.clone()).headers(ask.headers.clone());
        if let Some(authorisation) = authorisation {
            request = request.header(AUTHORIZATION, authorisation);
        }
        let host = name(url);
        let unreachable = |error| Tried::Again {
            problem: Problem::Unreachable { host: host.clone(), reason: reason(error) },
            pause: None,
        };
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Ok(unreachable(error)),
        };
        let (status, headers) = (response.status(), response.headers().clone());
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        if status.is_redirection() && status != StatusCode::NOT_MODIFIED {
            let target = text(LOCATION).and_then(|target| url.join(target).ok());
            let wrong = Problem::Redirect {
                host: host.clone(),
                target: "nowhere".to_owned(),
                reason: "its Location can't be read",
            };
            return target.map(Tried::Redirect).ok_or(wrong);
        }
        if status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::SERVICE_UNAVAILABLE {
            let pause = text(RETRY_AFTER).and_then(|text| retry_after(text, SystemTime::now()));
            return Ok(Tried::Again { problem: Problem::TooBusy { host, status: status.as_u16(), tries: 1 }, pause });
        }
        let most = if status.is_success() { ask.most_bytes } else { MOST_ERROR_BYTES };
        let body = if ask.method == Method::HEAD {
            Vec::new()
        } else {
            match read_body(response, most, &host).await {
                Ok(body) => body,
                Err(Problem::TooLarge { .. }) if !status.is_success() => Vec::new(),
                Err(problem @ Problem::Unreachable { .. }) => return Ok(Tried::Again { problem, pause: None }),
                Err(problem) => return Err(problem),
            }
        };
        match status {
            status if status.is_success() || status == StatusCode::NOT_MODIFIED => {
                Ok(Tried::Answer(Answer { status, headers, body }))
            }
            StatusCode::UNAUTHORIZED => {
                let challenges = headers
                    .get_all(WWW_AUTHENTICATE)
                    .iter()
                    .filter_map(|value| value.to_str().ok())
                    .map(str::to_owned)
                    .collect();
                Ok(Tried::Unauthorised(challenges, told(&body)))
            }
            StatusCode::FORBIDDEN => Err(Problem::Denied { host, status: 403, told: told(&body) }),
            status if status.is_server_error() => {
                let problem = Problem::Status { host, status: status.as_u16(), told: told(&body) };
                Ok(Tried::Again { problem, pause: None })
            }
            status if is_gone(status, &body) => Err(Problem::Gone { host, status: status.as_u16(), told: told(&body) }),
            status => Err(Problem::Status { host, status: status.as_u16(), told: told(&body) }),
        }
    }

    /// Where a redirect may lead: never from TLS to plain HTTP, never far.
    fn follow(&self, from: &Url, target: Url, redirects: usize) -> Result<Url, Problem> {
        let refused = |reason| {
            let shown = format!("{}://{}", target.scheme(), name(&target));
            Err(Problem::Redirect { host: name(from), target: shown, reason })
        };
        if redirects > MOST_REDIRECTS {
            return refused("there are too many redirects");
        }
        match target.scheme() {
            "https" => Ok(target),
            "http" if self.is_plain(&name(&target)) => Ok(target),
            "http" => refused("it is plain HTTP"),
            _ => refused("it is not HTTP"),
        }
    }
}

/// A client that follows no redirect by itself: where to, and with what, is decided here. Proxies come from the environment.
fn client() -> Result<Client, Problem> {
    let tls = sidecar::tls::client_config()?;
    Client::builder()
        .tls_backend_preconfigured((*tls).clone())
        .redirect(redirect::Policy::none())
        .user_agent(concat!("labhands/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_secs(10))
        .read_timeout(Duration::from_secs(30))
        .build()
        .map_err(|error| Problem::Unreachable { host: "the HTTP client".to_owned(), reason: reason(error) })
}

/// Reads a body of at most `most` bytes.
async fn read_body(mut response: reqwest::Response, most: usize, host: &str) -> Result<Vec<u8>, Problem> {
    let too_large = || Problem::TooLarge { host: host.to_owned(), most };
    if response.content_length().is_some_and(|length| length > most as u64) {
        return Err(too_large());
    }
    let mut body = Vec::new();
    loop {
        let chunk = response
            .chunk()
            .await
            .map_err(|error| Problem::Unreachable { host: host.to_owned(), reason: reason(error) })?;
        let Some(chunk) = chunk else { return Ok(body) };
        if body.len() + chunk.len() > most {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
}

/// What an error says, down to its cause, without the URL (its query may have a token).
fn reason(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(deeper) = cause {
        text = deeper.to_string();
        cause = deeper.source();
    }
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
}

/// `: <message>` from an error body (distribution specification, "Error Codes"), or nothing.
fn told(body: &[u8]) -> String {
    let json: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let message = json.as_ref().and_then(|json| {
        let first = json.get("errors").and_then(|errors| errors.get(0));
        first.and_then(|error| error.get("message")).or_else(|| json.get("details"))?.as_str()
    });
    message.map_or(String::new(), |message| {
        format!(": {}", message.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect::<String>())
    })
}

/// Whether the registry itself says that there is no such thing. A 404 without one of its codes may come from a proxy, or from
/// a registry that hides what one may not see.
fn is_gone(status: StatusCode, body: &[u8]) -> bool {
    // Harbor says NOT_FOUND for all of them.
    const CODES: [&str; 3] = ["MANIFEST_UNKNOWN", "NAME_UNKNOWN", "NOT_FOUND"];
    let errors = || serde_json::from_slice::<serde_json::Value>(body).ok()?.get("errors")?.as_array().cloned();
    let is_code = |error: &serde_json::Value| {
        error.get("code").and_then(serde_json::Value::as_str).is_some_and(|code| CODES.contains(&code))
    };
    matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE)
        && errors().is_some_and(|errors| errors.iter().any(is_code))
}

/// `Retry-After` in seconds or as a date (RFC 9110, section 10.2.3).
fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse::<u32>() {
        return Some(Duration::from_secs(seconds.into()));
    }
    let at = jiff::fmt::rfc2822::parse(text.trim()).ok()?.timestamp();
    let now = jiff::Timestamp::try_from(now).ok()?;
    Duration::try_from(at.duration_since(now)).ok().or(Some(Duration::ZERO))
}

fn same_host(a: &Url, b: &Url) -> bool {
    a.scheme() == b.scheme() && a.host() == b.host() && a.port_or_known_default() == b.port_or_known_default()
}

/// Host and port as references name them.
fn name(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or(host.to_owned(), |port| format!("{host}:{port}"))
}

fn form_of(pairs: &[(&str, &str)]) -> String {
    let mut url = Url::parse("form:").expect("a constant that is a URL");
    url.query_pairs_mut().extend_pairs(pairs);
    url.query().unwrap_or_default().to_owned()
}

/// A byte that differs from call to call: enough to keep many clients from coming back at once.
fn rand_byte() -> u8 {
    let nanoseconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |now| now.subsec_nanos());
    (nanoseconds.wrapping_mul(2_654_435_761) >> 24) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_in_both_forms() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        assert_eq!(retry_after("120", now), Some(Duration::from_secs(120)));
        assert_eq!(retry_after("Tue, 14 Nov 2023 22:14:20 GMT", now), Some(Duration::from_secs(60)));
        assert_eq!(retry_after("Tue, 14 Nov 2023 22:00:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(retry_after("soon", now), None);
    }

    #[test]
    fn an_error_body_is_told_shortly() {
        assert_eq!(told(br#"{"errors":[{"code":"X","message":"no\nway"}]}"#), ": no way");
        assert_eq!(told(b"<html>"), "");
    }
}
