//! The testbed's own HTTP client: blocking, any status is an answer, safe to use from async tests.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};
use ureq::{Agent, AsSendBody, Body, SendBody};

use crate::certificates;
use crate::{Error, Result};

/// How long a connection may take, with TLS. A busy machine takes seconds; an address that is not there yet is tried again.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

/// A client that keeps connections; cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    agent: Agent,
    authorization: Option<String>,
}

/// A complete answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: ureq::http::HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

impl Client {
    /// A client that trusts only the given authority (PEM), if any.
    pub fn new(authority: Option<&str>, authorization: Option<String>) -> Result<Client> {
        Self::build(authority, None, authorization)
    }

    /// A client that trusts only this authority (PEM) and shows this certificate.
    pub fn with_certificate(authority: &str, own: &certificates::Certificate) -> Result<Client> {
        let failed = |error: ureq::Error| Error::Missing(format!("the client's certificate: {error}"));
        let certificate = Certificate::from_pem(own.certificate.as_bytes()).map_err(failed)?;
        let key = PrivateKey::from_pem(own.key.as_bytes()).map_err(failed)?;
        Self::build(Some(authority), Some(ClientCert::new_with_certs(&[certificate], key)), None)
    }

    fn build(authority: Option<&str>, own: Option<ClientCert>, authorization: Option<String>) -> Result<Client> {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .timeout_connect(Some(CONNECT_LIMIT))
            .max_idle_connections_per_host(32);
        if let Some(pem) = authority {
            let root = Certificate::from_pem(pem.as_bytes())
                .map_err(|error| Error::Missing(format!("the authority's certificate: {error}")))?;
            let tls = TlsConfig::builder()
                .root_certs(RootCerts::from(vec![root]))
                .client_cert(own)
                .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .build();
            config = config.tls_config(tls);
        }
        Ok(Client { agent: config.build().into(), authorization })
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// If there is no answer; any status is an answer.
    pub fn send(&self, method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Answer> {
        if body.is_empty() {
            return self.exchange(method, url, headers, SendBody::none());
        }
        self.exchange(method, url, headers, body)
    }

    /// As [`Client::send`], with a file as the body, read while it is sent.
    pub fn send_file(&self, method: &str, url: &str, headers: &[(&str, &str)], file: &File) -> Result<Answer> {
        self.exchange(method, url, headers, file)
    }

    fn exchange(&self, method: &str, url: &str, headers: &[(&str, &str)], body: impl AsSendBody) -> Result<Answer> {
        let failed = |reason: String| Error::Http { request: format!("{method} {url}"), reason };
        let mut request = ureq::http::Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
        let request = request.body(body).map_err(|error| failed(error.to_string()))?;
        let answer: ureq::http::Response<Body> = self.agent.run(request).map_err(|error| failed(error.to_string()))?;
        let (parts, mut body) = answer.into_parts();
        let body = body.read_to_vec().map_err(|error| failed(error.to_string()))?;
        Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
    }
}

impl Answer {
    /// Returns itself if the status is the expected one.
    ///
    /// # Errors
    /// The status and the body, if it is not.
    pub fn expect(self, status: u16, request: &str) -> Result<Answer> {
        if self.status == status {
            return Ok(self);
        }
        let body = String::from_utf8_lossy(&self.body).into_owned();
        Err(Error::Http { request: request.into(), reason: format!("{} instead of {status}: {body}", self.status) })
    }

    /// A header as text; empty if absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}
