//! Requests to a registry, with redirects and logins on top of `transport.rs`.

use std::sync::Arc;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH, LOCATION};
use reqwest::{Method, StatusCode, Url};

use super::RegistryConfig;
use super::credentials::Credentials;
use super::error::{Problem, RegistryError};
use super::login::{Attempts, Logins};
use super::request::{Answer, Request, name, same_host};
use super::token::Realms;
use super::transport::Transport;
use crate::reference::Repository;

const MOST_REDIRECTS: usize = 5;

/// The error codes of registries for something that does not exist; Harbor uses `NOT_FOUND` for all of them.
const GONE_CODES: [&str; 3] = ["MANIFEST_UNKNOWN", "NAME_UNKNOWN", "NOT_FOUND"];

/// The error codes of some registries for a refusal with a status other than 401 and 403.
const DENIED_CODES: [&str; 2] = ["UNAUTHORIZED", "DENIED"];

/// A request about one repository.
pub(super) struct Ask<'a> {
    repository: &'a Repository,
    what: &'a str,
    request: Request,
}

impl<'a> Ask<'a> {
    /// `what` describes the operation in errors; an answer has at most `most_bytes`.
    pub(super) fn get(repository: &'a Repository, url: Url, what: &'a str, most_bytes: usize) -> Self {
        Self { repository, what, request: Request::get(url, most_bytes) }
    }

    pub(super) fn method(mut self, method: Method) -> Self {
        self.request.method = method;
        self
    }

    pub(super) fn accept(mut self, kinds: &'static str) -> Self {
        self.request = self.request.accept(kinds);
        self
    }

    /// Adds a header. An invalid value is left out.
    pub(super) fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.request.headers.insert(name, value);
        }
        self
    }
}

/// Sends requests to registries.
#[derive(Debug)]
pub(super) struct Exchange {
    insecure: Vec<String>,
    transport: Transport,
    logins: Logins,
}

/// The meaning of an answer.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Success, or a requested 304.
    Good,
    Redirect,
    Unauthorized,
    /// Refused, possibly because of the credentials.
    Forbidden,
    Gone,
    /// Another status.
    Other,
}

fn verdict(answer: &Answer, asked: &HeaderMap) -> Verdict {
    match answer.status {
        StatusCode::NOT_MODIFIED if asked.contains_key(IF_NONE_MATCH) => Verdict::Good,
        status if status.is_success() => Verdict::Good,
        StatusCode::UNAUTHORIZED => Verdict::Unauthorized,
        StatusCode::FORBIDDEN => Verdict::Forbidden,
        status if matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) => Verdict::Redirect,
        StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND if answer.errors().has(&DENIED_CODES) => Verdict::Forbidden,
        StatusCode::NOT_FOUND | StatusCode::GONE if answer.errors().has(&GONE_CODES) => Verdict::Gone,
        _ => Verdict::Other,
    }
}

impl Exchange {
    pub(super) fn new(config: RegistryConfig) -> Result<Self, RegistryError> {
        let failed = |problem| RegistryError::new("set up the registry client", problem);
        let transport = Transport::new(&config).map_err(failed)?;
        let credentials = Credentials::new(config.credentials).map_err(|error| failed(error.into()))?;
        let realms = Realms { token_servers: config.token_servers, insecure: config.insecure.clone() };
        Ok(Self { insecure: config.insecure, transport, logins: Logins::new(credentials, realms) })
    }

    pub(super) fn credentials(&self) -> Arc<Credentials> {
        self.logins.credentials()
    }

    /// `/v2/<path>/<rest>` on the repository's host.
    pub(super) fn url(&self, repository: &Repository, rest: &str) -> Result<Url, RegistryError> {
        let scheme = if self.is_plain(repository.host()) { "http" } else { "https" };
        let text = format!("{scheme}://{}/v2/{}/{rest}", repository.api_host(), repository.path());
        Url::parse(&text).map_err(|_| RegistryError::new("make a request", Problem::Url(text)))
    }

    fn is_plain(&self, host: &str) -> bool {
        self.insecure.iter().any(|insecure| insecure.eq_ignore_ascii_case(host))
    }

    /// Sends a request until it is answered or refused, or the time limit is exceeded.
    pub(super) async fn send(&self, ask: Ask<'_>) -> Result<Answer, RegistryError> {
        let home = self.url(ask.repository, "")?;
        let failed = |problem| RegistryError::new(ask.what, problem);
        self.answered(&ask, &home).await.map_err(failed)
    }

    /// `home` is the host that may receive credentials, wherever redirects lead.
    async fn answered(&self, ask: &Ask<'_>, home: &Url) -> Result<Answer, Problem> {
        let (mut redirects, mut attempts) = (0, Attempts::default());
        let mut request = ask.request.clone();
        loop {
            let at_home = same_host(&request.url, home);
            let shown = if at_home { self.logins.shown(ask.repository) } else { None };
            request.headers.remove(AUTHORIZATION);
            request.headers.extend(shown.as_ref().and_then(|shown| shown.header()).map(|value| (AUTHORIZATION, value)));
            let answer = self.transport.send(&request).await?;
            let refused = shown.as_ref().is_some_and(|shown| shown.is_of_someone());
            match (verdict(&answer, &request.headers), &shown) {
                (Verdict::Good, shown) => {
                    if let Some(shown) = shown {
                        self.logins.accepted(ask.repository, shown);
                    }
                    return Ok(answer);
                }
                (Verdict::Redirect, _) => {
                    redirects += 1;
                    request.url = self.follow(&answer, redirects)?;
                }
                (Verdict::Unauthorized, shown) if at_home => {
                    let (transport, shown) = (&self.transport, shown.as_ref());
                    self.logins.after_401(transport, ask.repository, &answer, shown, &mut attempts).await?;
                }
                (Verdict::Forbidden, Some(shown))
                    if self
                        .logins
                        .after_403(&self.transport, ask.repository, &answer, shown, &mut attempts)
                        .await? => {}
                (Verdict::Unauthorized | Verdict::Forbidden, _) => {
                    return Err(self.logins.denied(ask.repository, &answer, refused));
                }
                (Verdict::Gone, _) => {
                    let (status, message) = (answer.status.as_u16(), answer.errors().message());
                    return Err(Problem::Gone { host: name(&answer.url), status, message });
                }
                (Verdict::Other, _) => {
                    let (status, message) = (answer.status.as_u16(), answer.errors().message());
                    return Err(Problem::Status { host: name(&answer.url), status, message });
                }
            }
        }
    }

    /// The target of a redirect: never from TLS to plain HTTP, and only a few in a row.
    fn follow(&self, answer: &Answer, redirects: usize) -> Result<Url, Problem> {
        let refused = |target: String, reason| Err(Problem::Redirect { host: name(&answer.url), target, reason });
        let Some(target) = answer.header(LOCATION).and_then(|target| answer.url.join(target).ok()) else {
            return refused("nowhere".to_owned(), "its Location can't be read");
        };
        let shown = format!("{}://{}", target.scheme(), name(&target));
        if redirects > MOST_REDIRECTS {
            return refused(shown, "there are too many redirects");
        }
        match target.scheme() {
            "https" => Ok(target),
            "http" if self.is_plain(&name(&target)) => Ok(target),
            "http" => refused(shown, "it is plain HTTP"),
            _ => refused(shown, "it is not HTTP"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_classified() {
        let errors = |code: &str| format!(r#"{{"errors":[{{"code":"{code}","message":"m"}}]}}"#);
        for (status, body, expected) in [
            (200, String::new(), Verdict::Good),
            (304, String::new(), Verdict::Other),
            (300, String::new(), Verdict::Other),
            (307, String::new(), Verdict::Redirect),
            (401, String::new(), Verdict::Unauthorized),
            (403, String::new(), Verdict::Forbidden),
            (400, errors("DENIED"), Verdict::Forbidden),
            (404, errors("UNAUTHORIZED"), Verdict::Forbidden),
            (404, errors("MANIFEST_UNKNOWN"), Verdict::Gone),
            (410, errors("NAME_UNKNOWN"), Verdict::Gone),
            (404, "<html>".to_owned(), Verdict::Other),
            (400, errors("MANIFEST_UNKNOWN"), Verdict::Other),
            (501, String::new(), Verdict::Other),
        ] {
            let answer = Answer {
                url: Url::parse("https://r.example.org").unwrap(),
                status: StatusCode::from_u16(status).unwrap(),
                headers: HeaderMap::new(),
                body: body.clone().into_bytes(),
            };
            assert_eq!(verdict(&answer, &HeaderMap::new()), expected, "{status} {body}");
        }
    }
}
