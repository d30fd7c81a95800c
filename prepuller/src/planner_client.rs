//! An HTTP client of the planner, for commands that run elsewhere.

use std::time::Duration;

use reqwest::Client;
use thiserror::Error;
use url::Url;

use crate::page::query::Query;
use crate::page::view::View;

/// A planner that does not answer within this time counts as down.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// The planner, at its address.
#[derive(Clone, Debug)]
pub struct PlannerClient {
    client: Client,
    address: Url,
}

/// Why a request to the planner failed.
#[expect(missing_docs, reason = "the messages show what the fields are")]
#[derive(Debug, Error)]
pub enum ClientError {
    /// The HTTP client could not be built.
    #[error("cannot build an HTTP client for PREPULLER_URL: {0}")]
    Client(String),
    /// The planner did not answer.
    #[error("the planner at {address} does not answer: {reason}; is PREPULLER_URL correct?")]
    Unreachable { address: Url, reason: String },
    /// The answer does not come from a planner.
    #[error("unexpected response from {address}: {reason}; is it a planner? Check PREPULLER_URL")]
    Answer { address: Url, reason: String },
}

impl PlannerClient {
    /// A client for the planner at `address`.
    ///
    /// # Errors
    ///
    /// [`ClientError::Client`] if there are no root certificates.
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

    /// The planner's view for `query`.
    ///
    /// # Errors
    ///
    /// [`ClientError`] if it does not answer, or not as expected.
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

    /// Requests a scan of the registry now.
    ///
    /// # Errors
    ///
    /// [`ClientError`] if it does not answer, or refuses.
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
        // The base address can have a path, so joining a fixed path never fails.
        self.address.join(path).unwrap_or_else(|_| self.address.clone())
    }
}

/// The whole chain of causes, because the first one alone is not specific.
fn reason(error: &reqwest::Error) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    causes.last().map_or_else(|| error.to_string(), ToString::to_string)
}
