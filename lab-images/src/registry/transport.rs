//! Sends a request until it is answered: rate limits, retries and time limits, the same for registries and token
//! servers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use reqwest::StatusCode;
use reqwest::header::RETRY_AFTER;
use sidecar::sync::lock;

use super::RegistryConfig;
use super::backoff::{self, LONGEST_PAUSE};
use super::error::Problem;
use super::host::Host;
use super::request::{Answer, Request, Wire, name};

/// How often a request is retried if the server fails or is unreachable.
const RETRIES: u32 = 3;

#[derive(Debug)]
pub(super) struct Transport {
    wire: Wire,
    hosts: Mutex<HashMap<String, Arc<Host>>>,
    patience: Duration,
    first_pause: Duration,
    parallel: usize,
    per_second: usize,
}

/// Why a request is retried.
#[derive(Debug, PartialEq, Eq)]
enum Trouble {
    /// The whole host is too busy, and may say for how long.
    Busy(Option<Duration>),
    /// This request is not served at the moment, which may last.
    Unavailable,
    /// A failure that may be temporary.
    Failed,
}

impl Trouble {
    fn of(answer: &Answer, now: SystemTime) -> Option<Self> {
        let asked = || answer.header(RETRY_AFTER).and_then(|text| backoff::retry_after(text, now));
        match answer.status {
            StatusCode::TOO_MANY_REQUESTS => Some(Self::Busy(asked())),
            StatusCode::SERVICE_UNAVAILABLE => Some(asked().map_or(Self::Unavailable, |pause| Self::Busy(Some(pause)))),
            // Retries would not change these.
            StatusCode::NOT_IMPLEMENTED | StatusCode::HTTP_VERSION_NOT_SUPPORTED => None,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY => Some(Self::Failed),
            status if status.is_server_error() => Some(Self::Failed),
            _ => None,
        }
    }
}

impl Transport {
    pub(super) fn new(config: &RegistryConfig) -> Result<Self, Problem> {
        Ok(Self {
            wire: Wire::new()?,
            hosts: Mutex::default(),
            patience: config.patience,
            first_pause: config.first_pause,
            parallel: config.parallel,
            per_second: config.per_second,
        })
    }

    /// Sends a request until there is an answer that a retry would not change, whatever its status.
    pub(super) async fn send(&self, request: &Request) -> Result<Answer, Problem> {
        let host = self.host(request);
        let (mut tries, mut trouble_since) = (0, None::<Instant>);
        loop {
            let turn = host.turn().await?;
            let came = self.wire.send(request).await;
            let trouble = match &came {
                Ok(answer) => Trouble::of(answer, SystemTime::now()),
                Err(Problem::Unreachable { .. }) => Some(Trouble::Failed),
                Err(_) => None,
            };
            let Some(trouble) = trouble else {
                host.answered(&turn);
                return came;
            };
            tries += 1;
            let since = *trouble_since.get_or_insert_with(Instant::now);
            let own = backoff::pause(self.first_pause, tries);
            let in_time = |pause| since.elapsed() + pause <= self.patience;
            let pause = match trouble {
                Trouble::Busy(asked) => {
                    host.busy(&turn, self.first_pause, asked, self.patience).filter(|pause| in_time(*pause))
                }
                Trouble::Unavailable => Some(own).filter(|pause| in_time(*pause)),
                Trouble::Failed => Some(own).filter(|pause| in_time(*pause) && tries <= RETRIES),
            };
            let Some(pause) = pause else {
                return self.given_up(&host, came, tries);
            };
            self.log_retry(&host, request, &came, &trouble, pause);
            drop(turn);
            // For a busy host the next turn comes after its pause.
            if !matches!(trouble, Trouble::Busy(_)) {
                tokio::time::sleep(pause).await;
            }
        }
    }

    /// The result after the last try.
    fn given_up(&self, host: &Host, came: Result<Answer, Problem>, tries: u32) -> Result<Answer, Problem> {
        match came {
            Ok(answer) if matches!(answer.status.as_u16(), 429 | 503) => {
                Err(Problem::TooBusy { host: name(&answer.url), status: answer.status.as_u16(), tries })
            }
            Ok(answer) => Ok(answer),
            Err(problem) => {
                if let Problem::Unreachable { reason, .. } = &problem {
                    host.unreachable(LONGEST_PAUSE.min(self.patience), reason);
                }
                Err(problem)
            }
        }
    }

    /// Logs the first retry in one line: the reason, and until when it is retried.
    fn log_retry(
        &self,
        host: &Host,
        request: &Request,
        came: &Result<Answer, Problem>,
        trouble: &Trouble,
        pause: Duration,
    ) {
        if !host.is_new_trouble() {
            return;
        }
        let longest = match trouble {
            Trouble::Busy(_) | Trouble::Unavailable => self.patience,
            Trouble::Failed => (1..=RETRIES).map(|tries| backoff::pause(self.first_pause, tries)).sum(),
        };
        let until =
            jiff::Timestamp::now().checked_add(longest).unwrap_or(jiff::Timestamp::MAX).strftime("%H:%M:%S UTC");
        let name = name(&request.url);
        let what = match came {
            Ok(answer) if answer.status == StatusCode::TOO_MANY_REQUESTS => {
                format!("{name} answered 429 (too many requests)")
            }
            Ok(answer) => format!("{name} answered {}{}", answer.status.as_u16(), answer.errors().message()),
            Err(Problem::Unreachable { reason, .. }) => format!("{name} does not answer ({reason})"),
            Err(problem) => problem.to_string(),
        };
        tracing::warn!(
            "{what}; waiting {:.1} s before the next try, and trying until about {until}",
            pause.as_secs_f64()
        );
    }

    fn host(&self, request: &Request) -> Arc<Host> {
        let name = name(&request.url);
        let new = || Arc::new(Host::new(name.clone(), self.parallel, self.per_second));
        lock(&self.hosts).entry(name.clone()).or_insert_with(new).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::Url;
    use reqwest::header::{HeaderMap, HeaderValue};

    #[test]
    fn what_is_retried_and_what_pauses_the_whole_host() {
        let seconds = Duration::from_secs;
        for (status, retry_after, expected) in [
            (200, None, None),
            (401, None, None),
            (404, Some("5"), None),
            (429, None, Some(Trouble::Busy(None))),
            (429, Some("5"), Some(Trouble::Busy(Some(seconds(5))))),
            (429, Some("0"), Some(Trouble::Busy(Some(seconds(0))))),
            (429, Some("soon"), Some(Trouble::Busy(None))),
            (503, None, Some(Trouble::Unavailable)),
            (503, Some("5"), Some(Trouble::Busy(Some(seconds(5))))),
            (500, Some("5"), Some(Trouble::Failed)),
            (502, None, Some(Trouble::Failed)),
            (408, None, Some(Trouble::Failed)),
            (425, None, Some(Trouble::Failed)),
            (501, None, None),
            (505, None, None),
        ] {
            let headers = retry_after.map(|text| (RETRY_AFTER, HeaderValue::from_static(text)));
            let answer = Answer {
                url: Url::parse("https://r.example.org").unwrap(),
                status: StatusCode::from_u16(status).unwrap(),
                headers: HeaderMap::from_iter(headers),
                body: Vec::new(),
            };
            assert_eq!(Trouble::of(&answer, SystemTime::now()), expected, "{status} {retry_after:?}");
        }
    }
}
