//! Asking the planner, for commands that run elsewhere.

use std::time::Duration;

use reqwest::Client;
use thiserror::Error;
use url::Url;

use crate::page::query::Query;
use crate::page::view::View;

/// A planner that does not answer within this counts as not there.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// The planner, at its address.
#[derive(Clone, Debug)]
pub struct Planner {
    client: Client,
    address: Url,
}

/// Why the planner could not be asked.
#[derive(Debug, Error)]
pub enum ClientError {
    /// There is no client.
    #[error("cannot make a client for PREPULLER_URL: {0}")]
    Client(String),
    /// Nobody answered.
    #[error("the planner at {address} does not answer: {reason}; is PREPULLER_URL right?")]
    Unreachable {
        /// What was asked.
        address: Url,
        /// What went wrong.
        reason: String,
    },
    /// The answer is not a planner's.
    #[error("unexpected response from {address}: {reason}; is it a planner? Check PREPULLER_URL")]
    Answer {
        /// What was asked.
        address: Url,
        /// What is wrong.
        reason: String,
    },
}

impl Planner {
    /// The planner at `address`.
    ///
    /// # Errors
    ///
    /// [`ClientError::Client`] when there are no root certificates.
    pub fn at(mut address: Url) -> Result<Self, ClientError> {
        if !address.path().ends_with('/') {
            address.set_path(&format!("{}/", address.path()));
        }
        let tls = sidecar::tls::client_config().map_err(|error| ClientError::Client(error.to_string()))?;
        let client = Client::builder()
            .tls_backend_preconfigured((*tls).clone())
            .user_agent(concat!("labhands/", env!("CARGO_PKG_VERSION")))
            .timeout(ANSWER_LIMIT)
            .build();
        Ok(Self { client: client.map_err(|error| ClientError::Client(reason(&error)))?, address })
    }

    /// What it shows for `query`.
    ///
    /// # Errors
    ///
    /// [`ClientError`] when it does not answer, or not as expected.
    pub async fn view(&self, query: &Query) -> Result<View, ClientError> {
        let address = self.to(&format!("status.json{query}"));
        let answer = self.client.get(address.clone()).send().await;
        let answer =
            answer.map_err(|error| ClientError::Unreachable { address: address.clone(), reason: reason(&error) })?;
        if !answer.status().is_success() {
            return Err(ClientError::Answer { address, reason: format!("the answer is {}", answer.status()) });
        }
        answer.json().await.map_err(|error| ClientError::Answer { address, reason: reason(&error) })
    }

    /// Has it scan the registry now.
    ///
    /// # Errors
    ///
    /// [`ClientError`] when it does not answer, or refuses.
    pub async fn scan(&self) -> Result<(), ClientError> {
        let address = self.to("scan");
        let answer = self.client.post(address.clone()).send().await;
        let answer =
            answer.map_err(|error| ClientError::Unreachable { address: address.clone(), reason: reason(&error) })?;
        if !answer.status().is_success() {
            return Err(ClientError::Answer { address, reason: format!("the answer is {}", answer.status()) });
        }
        Ok(())
    }

    fn to(&self, path: &str) -> Url {
        // A path of our own below a base that can have one: it always fits.
        self.address.join(path).unwrap_or_else(|_| self.address.clone())
    }
}

/// The whole chain of causes: the first alone says little.
fn reason(error: &reqwest::Error) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    causes.last().map_or_else(|| error.to_string(), ToString::to_string)
}
