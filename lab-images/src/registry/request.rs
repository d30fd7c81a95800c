//! Sends one request and reads the whole answer, without retries and redirects.

use std::io::Read as _;
use std::sync::Mutex;
use std::time::Duration;

use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, StatusCode, Url, redirect};
use serde::Deserialize;
use serde_json::Value;
use sidecar::sync::lock;
use sidecar::tls::Watched;

use super::error::Problem;

/// The most bytes that are read of an error's body.
const MOST_ERROR_BYTES: usize = 64 * 1024;

/// The time limit of one try, even if bytes still arrive.
const LONGEST_TRY: Duration = Duration::from_secs(120);

/// The request.
#[derive(Clone)]
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    /// A form.
    pub(super) form: Option<String>,
    /// The most bytes of a successful answer.
    pub(super) most_bytes: usize,
}

impl Request {
    pub(super) fn get(url: Url, most_bytes: usize) -> Self {
        Self { method: Method::GET, url, headers: HeaderMap::new(), form: None, most_bytes }
    }

    pub(super) fn accept(mut self, kinds: &'static str) -> Self {
        self.headers.insert(ACCEPT, HeaderValue::from_static(kinds));
        self
    }
}

/// A complete answer, whatever its status.
pub(super) struct Answer {
    /// The requested URL.
    pub(super) url: Url,
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// A header that occurs at most once.
    pub(super) fn header(&self, name: impl AsRef<str>) -> Option<&str> {
        self.headers.get(name.as_ref())?.to_str().ok()
    }

    /// All values of a header that is a list; bytes that are not text are replaced.
    pub(super) fn header_list(&self, name: HeaderName) -> Vec<String> {
        self.headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
    }

    /// The media type without its parameters.
    pub(super) fn content_type(&self) -> Option<&str> {
        self.header(CONTENT_TYPE).and_then(|value| value.split(';').next()).map(str::trim)
    }

    /// The body as a JSON object. An error body with a success status is an error nevertheless.
    pub(super) fn object<T: for<'de> Deserialize<'de>>(&self) -> Result<T, Problem> {
        let host = || name(&self.url);
        let start = self.body.iter().find(|byte| !byte.is_ascii_whitespace());
        if start != Some(&b'{') {
            return Err(Problem::NoObject { host: host(), begins: shortened(&self.body, 40) });
        }
        let errors = Errors::of(&self.body);
        if !errors.0.is_empty() {
            return Err(Problem::Status { host: host(), status: self.status.as_u16(), message: errors.message() });
        }
        serde_json::from_slice(&self.body).map_err(Problem::Json)
    }

    pub(super) fn errors(&self) -> Errors {
        Errors::of(&self.body)
    }
}

/// The errors in a body (distribution specification, "Error Codes"); empty if there are none.
pub(super) struct Errors(Vec<(String, String)>);

impl Errors {
    fn of(body: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Body {
            #[serde(default)]
            errors: Value,
            #[serde(default)]
            details: Value,
        }
        let Ok(body) = serde_json::from_slice::<Body>(body) else { return Self(Vec::new()) };
        let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
        let error = |error: &Value| (text(error.get("code")), text(error.get("message")));
        let errors: Vec<_> =
            body.errors.as_array().map(|errors| errors.iter().map(error).collect()).unwrap_or_default();
        match body.details.as_str() {
            // Docker Hub's token servers use this form.
            Some(details) if errors.is_empty() => Self(vec![(String::new(), details.to_owned())]),
            _ => Self(errors),
        }
    }

    pub(super) fn has(&self, codes: &[&str]) -> bool {
        self.0.iter().any(|(code, _)| codes.contains(&code.as_str()))
    }

    /// `: <message>` of the first error, or its code, or nothing.
    pub(super) fn message(&self) -> String {
        let first = self.0.iter().map(|(code, message)| if message.is_empty() { code } else { message });
        match first.into_iter().find(|text| !text.is_empty()) {
            Some(text) => format!(": {}", shortened(text.as_bytes(), 200)),
            None => String::new(),
        }
    }
}

/// Sends requests.
#[derive(Debug)]
pub(super) struct Wire(Mutex<(Watched, Client)>);

impl Wire {
    pub(super) fn new() -> Result<Self, Problem> {
        let watched = Watched::root_bundle();
        Ok(Self(Mutex::new((watched, client()?))))
    }

    /// The client. It is built again when the root certificates changed on disk.
    fn client(&self) -> Client {
        let mut held = lock(&self.0);
        if held.0.changed() {
            match client() {
                Ok(client) => held.1 = client,
                Err(error) => tracing::warn!(%error, "ignoring the changed root certificates"),
            }
        }
        held.1.clone()
    }

    /// Sends a request once and reads the whole answer.
    pub(super) async fn send(&self, request: &Request) -> Result<Answer, Problem> {
        let host = name(&request.url);
        let mut builder = self.client().request(request.method.clone(), request.url.clone());
        builder = builder.headers(request.headers.clone()).header(ACCEPT_ENCODING, "identity").timeout(LONGEST_TRY);
        if let Some(form) = &request.form {
            builder = builder.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form.clone());
        }
        let response = builder.send().await.map_err(|error| problem(&host, error))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let most = if status.is_success() { request.most_bytes } else { MOST_ERROR_BYTES };
        let body = match read_body(response, most, &host).await.and_then(|body| decoded(body, &headers, most, &host)) {
            _ if request.method == Method::HEAD => Vec::new(),
            Ok(body) => body,
            Err(Problem::TooLarge { .. } | Problem::Encoding { .. }) if !status.is_success() => Vec::new(),
            Err(problem) => return Err(problem),
        };
        Ok(Answer { url: request.url.clone(), status, headers, body })
    }
}

/// A client that does not follow redirects, because `exchange.rs` decides about them. Proxies come from the
/// environment.
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
        let Some(chunk) = response.chunk().await.map_err(|error| problem(host, error))? else { return Ok(body) };
        if body.len() + chunk.len() > most {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
}

/// Decodes a body that a proxy encoded although it was asked not to (RFC 9110, section 8.4).
fn decoded(body: Vec<u8>, headers: &HeaderMap, most: usize, host: &str) -> Result<Vec<u8>, Problem> {
    let encoding = headers.get(CONTENT_ENCODING).map(|value| String::from_utf8_lossy(value.as_bytes()).to_lowercase());
    match encoding.as_deref().map(str::trim) {
        None | Some("" | "identity") => Ok(body),
        // The answer to HEAD, or a 304, has the encoding of a missing body.
        Some(_) if body.is_empty() => Ok(body),
        Some("gzip" | "x-gzip") => {
            let mut plain = Vec::new();
            let mut reader = flate2::read::MultiGzDecoder::new(body.as_slice()).take(most as u64 + 1);
            let broken = |_| Problem::Encoding { host: host.to_owned(), encoding: "invalid gzip".to_owned() };
            reader.read_to_end(&mut plain).map_err(broken)?;
            if plain.len() > most { Err(Problem::TooLarge { host: host.to_owned(), most }) } else { Ok(plain) }
        }
        Some(other) => Err(Problem::Encoding { host: host.to_owned(), encoding: shortened(other.as_bytes(), 40) }),
    }
}

/// Why there is no answer.
fn problem(host: &str, error: reqwest::Error) -> Problem {
    let host = host.to_owned();
    match sidecar::tls::fault(&error) {
        Some(sidecar::tls::Fault::Certificate(reason)) => Problem::Certificate { host, reason },
        Some(sidecar::tls::Fault::NotTls) => Problem::NotTls { host },
        None => Problem::Unreachable { host, reason: reason(error) },
    }
}

/// An error with its cause, without the URL (its query may contain a token).
fn reason(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(deeper) = cause {
        text = deeper.to_string();
        cause = deeper.source();
    }
    shortened(text.as_bytes(), 300)
}

/// Shortens foreign text, on one line.
pub(super) fn shortened(text: &[u8], most: usize) -> String {
    let text = String::from_utf8_lossy(&text[..text.len().min(most * 4)]);
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(most).collect()
}

pub(super) fn same_host(a: &Url, b: &Url) -> bool {
    a.scheme() == b.scheme() && a.host() == b.host() && a.port_or_known_default() == b.port_or_known_default()
}

/// Host and port as in references.
pub(super) fn name(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or(host.to_owned(), |port| format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_body_is_shortened() {
        for (body, expected) in [
            (r#"{"errors":[{"code":"X","message":"no\nway"}]}"#, ": no way"),
            (r#"{"errors":[{"code":"X"}]}"#, ": X"),
            (r#"{"errors":null}"#, ""),
            (r#"{"details":"incorrect username or password"}"#, ": incorrect username or password"),
            ("<html>", ""),
            ("[]", ""),
        ] {
            assert_eq!(Errors::of(body.as_bytes()).message(), expected, "{body}");
        }
    }

    #[test]
    fn a_compressed_body_is_unpacked_within_the_limit() {
        let packed = |text: &[u8]| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            std::io::Write::write_all(&mut encoder, text).unwrap();
            encoder.finish().unwrap()
        };
        let headers =
            |encoding: &'static str| HeaderMap::from_iter([(CONTENT_ENCODING, HeaderValue::from_static(encoding))]);
        let read = |body: Vec<u8>, encoding| decoded(body, &headers(encoding), 100, "r.example.org");
        assert_eq!(read(packed(b"content"), "gzip").unwrap(), b"content");
        assert_eq!(read(b"content".to_vec(), "identity").unwrap(), b"content");
        assert!(matches!(read(packed(&[b'x'; 101]), "gzip"), Err(Problem::TooLarge { .. })));
        assert!(matches!(read(b"content".to_vec(), "gzip"), Err(Problem::Encoding { .. })));
        assert!(matches!(read(b"content".to_vec(), "br"), Err(Problem::Encoding { .. })));
    }
}
