//! Logs in to a repository's registry: one login at a time for each repository, and refusals are remembered.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::header::{AUTHORIZATION, HeaderValue, LOCATION};
use reqwest::{Method, StatusCode, Url};
use sidecar::sync::lock;

use super::challenge::{self, Challenge};
use super::credentials::{Credentials, Login};
use super::error::Problem;
use super::request::{Answer, name};
use super::token::{self, Realms, Token};
use super::transport::Transport;
use crate::reference::Repository;

const MOST_TOKEN_BYTES: usize = 1024 * 1024;
const MOST_REDIRECTS: usize = 3;

/// How long a refused login is not tried again, unless it changed.
const REFUSAL_LIFE: Duration = Duration::from_secs(60);

/// The token that was sent to the registry, and the login it belongs to.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    token: Token,
    /// `None` for an anonymous token.
    login: Option<Login>,
    challenge: Challenge,
    /// The number of this repository's login.
    number: u64,
}

impl Shown {
    pub(super) fn header(&self) -> Option<HeaderValue> {
        self.token.header()
    }

    /// Whether it comes from credentials and is not anonymous.
    pub(super) fn is_of_someone(&self) -> bool {
        self.login.is_some()
    }
}

/// The state for one repository.
#[derive(Debug, Default)]
struct Session {
    shown: Mutex<Option<Shown>>,
    renewal: tokio::sync::Mutex<Renewal>,
}

#[derive(Debug, Default)]
struct Renewal {
    logins: u64,
    refused: Vec<(Option<Login>, Challenge, Instant)>,
}

/// The state of one request's logins.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    rounds: u32,
    forbidden: Vec<Option<Login>>,
}

/// The most logins for one request. No site has more credentials for one registry.
const MOST_ROUNDS: u32 = 8;

/// Logs in.
#[derive(Debug)]
pub(super) struct Logins {
    credentials: Arc<Credentials>,
    realms: Realms,
    sessions: Mutex<HashMap<Repository, Arc<Session>>>,
}

impl Logins {
    pub(super) fn new(credentials: Credentials, realms: Realms) -> Self {
        Self { credentials: Arc::new(credentials), realms, sessions: Mutex::default() }
    }

    pub(super) fn credentials(&self) -> Arc<Credentials> {
        self.credentials.clone()
    }

    /// The token to send for this repository at first.
    pub(super) fn shown(&self, repository: &Repository) -> Option<Shown> {
        let session = self.session(repository);
        let shown = lock(&session.shown).clone();
        shown.filter(|shown| shown.token.serves(Instant::now()))
    }

    /// The registry accepted the token.
    pub(super) fn accepted(&self, repository: &Repository, shown: &Shown) {
        if let Some(login) = &shown.login {
            self.credentials.accept(repository, login);
        }
    }

    /// After a 401 to a request with `shown`. Returns `Ok` if there is another token to send.
    pub(super) async fn after_401(
        &self,
        transport: &Transport,
        repository: &Repository,
        answer: &Answer,
        shown: Option<&Shown>,
        attempts: &mut Attempts,
    ) -> Result<(), Problem> {
        attempts.rounds += 1;
        let headers = answer.header_list(reqwest::header::WWW_AUTHENTICATE);
        let session = self.session(repository);
        let mut renewal = session.renewal.lock().await;
        if attempts.rounds > MOST_ROUNDS {
            return Err(self.denied(repository, answer, shown.is_some()));
        }
        // Another request was faster, and its token was not refused.
        if lock(&session.shown).as_ref().is_some_and(|now| shown.is_none_or(|shown| shown.number != now.number)) {
            return Ok(());
        }
        let challenge = challenge::best(headers.iter().map(String::as_str)).ok_or_else(|| Problem::NoChallenge {
            host: name(&answer.url),
            challenge: headers.join(", ").chars().take(200).collect(),
        })?;
        *lock(&session.shown) = None;
        renewal.refused.retain(|(_, _, at)| at.elapsed() < REFUSAL_LIFE);
        if let Some(shown) = shown {
            // A token that was accepted before has expired. One that was requested for this very challenge is refused.
            let direct =
                matches!(shown.challenge, Challenge::Basic) || matches!(shown.login, Some(Login::RegistryToken(_)));
            if shown.challenge == challenge && (direct || attempts.rounds > 1) {
                self.refuse(repository, &mut renewal, shown.login.clone(), &challenge);
            }
        }
        self.log_in(transport, repository, answer, challenge, &session, &mut renewal).await
    }

    /// After a 403, or similar, to a request with `shown`. Returns `true` if there are other credentials to try.
    pub(super) async fn after_403(
        &self,
        transport: &Transport,
        repository: &Repository,
        answer: &Answer,
        shown: &Shown,
        attempts: &mut Attempts,
    ) -> Result<bool, Problem> {
        attempts.rounds += 1;
        let session = self.session(repository);
        let mut renewal = session.renewal.lock().await;
        if attempts.rounds > MOST_ROUNDS {
            return Ok(false);
        }
        if lock(&session.shown).as_ref().is_some_and(|now| shown.number != now.number && now.login != shown.login) {
            return Ok(true);
        }
        attempts.forbidden.push(shown.login.clone());
        if let Some(login) = &shown.login {
            self.credentials.refuse(repository, login);
        }
        let others = self.others(repository, &renewal, &shown.challenge).await;
        let Some(login) = others.into_iter().find(|login| !attempts.forbidden.contains(&Some(login.clone()))) else {
            return Ok(false);
        };
        match self.token(transport, repository, answer, &shown.challenge, Some(&login)).await? {
            Ok(token) => self.show(&session, &mut renewal, token, Some(login), shown.challenge.clone()),
            Err(_refused) => {
                self.refuse(repository, &mut renewal, Some(login), &shown.challenge);
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The error for a registry that refuses access.
    pub(super) fn denied(&self, repository: &Repository, answer: &Answer, refused: bool) -> Problem {
        Problem::Denied {
            host: name(&answer.url),
            status: answer.status.as_u16(),
            message: answer.errors().message(),
            hint: self.credentials.hint(repository, refused),
        }
    }

    fn session(&self, repository: &Repository) -> Arc<Session> {
        lock(&self.sessions).entry(repository.clone()).or_default().clone()
    }

    fn show(&self, session: &Session, renewal: &mut Renewal, token: Token, login: Option<Login>, challenge: Challenge) {
        renewal.logins += 1;
        *lock(&session.shown) = Some(Shown { token, login, challenge, number: renewal.logins });
    }

    fn refuse(&self, repository: &Repository, renewal: &mut Renewal, login: Option<Login>, challenge: &Challenge) {
        if let Some(login) = &login {
            self.credentials.refuse(repository, login);
        }
        renewal.refused.push((login, challenge.clone(), Instant::now()));
    }

    /// The logins that were not refused a short while ago.
    async fn others(&self, repository: &Repository, renewal: &Renewal, challenge: &Challenge) -> Vec<Login> {
        let mut logins = self.credentials.logins(repository).await;
        logins.retain(|login| !renewal.is_refused(Some(login), challenge));
        logins
    }

    /// Tries one login after another, and an anonymous token if there are none.
    async fn log_in(
        &self,
        transport: &Transport,
        repository: &Repository,
        answer: &Answer,
        challenge: Challenge,
        session: &Session,
        renewal: &mut Renewal,
    ) -> Result<(), Problem> {
        let all = self.credentials.logins(repository).await;
        let mut tried: Vec<Option<Login>> = all.iter().cloned().map(Some).collect();
        if all.is_empty() && matches!(challenge, Challenge::Bearer { .. }) {
            tried.push(None);
        }
        let mut last = None;
        for login in tried {
            if renewal.is_refused(login.as_ref(), &challenge) {
                continue;
            }
            match self.token(transport, repository, answer, &challenge, login.as_ref()).await? {
                Ok(token) => {
                    self.show(session, renewal, token, login, challenge);
                    return Ok(());
                }
                Err(refused) => {
                    self.refuse(repository, renewal, login, &challenge);
                    last = Some(refused);
                }
            }
        }
        Err(last.unwrap_or_else(|| self.denied(repository, answer, !all.is_empty())))
    }

    /// Requests the token for a login. The inner error is the reason of a refusal.
    async fn token(
        &self,
        transport: &Transport,
        repository: &Repository,
        answer: &Answer,
        challenge: &Challenge,
        login: Option<&Login>,
    ) -> Result<Result<Token, Problem>, Problem> {
        match (challenge, login) {
            (Challenge::Basic, Some(Login::Basic { username, password })) => Ok(Ok(Token::basic(username, password))),
            (Challenge::Basic, _) => Ok(Err(self.denied(repository, answer, false))),
            (Challenge::Bearer { .. }, Some(Login::RegistryToken(token))) => Ok(Ok(Token::bearer(token))),
            (Challenge::Bearer { realm, service, scope }, login) => {
                let realm = self.realms.check(realm, &answer.url)?;
                let own = || format!("repository:{}:pull", repository.path());
                let scope = scope.clone().filter(|scope| !scope.trim().is_empty()).unwrap_or_else(own);
                self.exchange(
                    transport,
                    repository,
                    &answer.url,
                    realm,
                    service.as_deref().unwrap_or_default(),
                    &scope,
                    login,
                )
                .await
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "each is a part of one HTTP request")]
    async fn exchange(
        &self,
        transport: &Transport,
        repository: &Repository,
        registry: &Url,
        realm: Url,
        service: &str,
        scope: &str,
        login: Option<&Login>,
    ) -> Result<Result<Token, Problem>, Problem> {
        let server = name(&realm);
        let failed = |reason: String| Problem::NoToken { realm: server.clone(), reason };
        let asked = Instant::now();
        let mut request = token::request(realm, service, scope, login, MOST_TOKEN_BYTES);
        let mut answer = transport.send(&request).await?;
        for _ in 0..MOST_REDIRECTS {
            let target = answer.header(LOCATION).and_then(|target| request.url.join(target).ok());
            let Some(target) = target.filter(|_| answer.status.is_redirection() && request.method == Method::GET)
            else {
                break;
            };
            // Credentials are sent only to a permitted realm, and only to the host that was asked.
            let target = self.realms.check(target.as_str(), registry)?;
            if target.host() != request.url.host() {
                request.headers.remove(AUTHORIZATION);
            }
            request.url = target;
            answer = transport.send(&request).await?;
        }
        if answer.status.is_success() {
            return token::read(&answer.body, asked).map(Ok).map_err(failed);
        }
        let (status, message) = (answer.status, answer.errors().message());
        // An expired refresh token is answered with 400 (RFC 6749, section 5.2).
        let by_form = status == StatusCode::BAD_REQUEST && request.form.is_some();
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) || by_form {
            let hint = self.credentials.hint(repository, login.is_some());
            return Ok(Err(failed(format!("it answered {}{message}; {hint}", status.as_u16()))));
        }
        Err(failed(format!("it answered {}{message}", status.as_u16())))
    }
}

impl Renewal {
    fn is_refused(&self, login: Option<&Login>, challenge: &Challenge) -> bool {
        self.refused
            .iter()
            .any(|(refused, at, when)| refused.as_ref() == login && at == challenge && when.elapsed() < REFUSAL_LIFE)
    }
}
