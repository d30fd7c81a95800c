//! Errors of registries: the operation, the problem, and what to do.

use thiserror::Error;

use crate::reference::Digest;

/// A request that failed.
#[derive(Debug, Error)]
#[error("cannot {what}: {problem}")]
pub struct RegistryError {
    what: String,
    /// The problem. It is not a `source`, because the message contains it already.
    pub problem: Problem,
}

impl RegistryError {
    /// Whether the registry answered, and no machine of the requested platforms can run the image.
    pub fn is_unusable(&self) -> bool {
        matches!(
            self.problem,
            Problem::NoPlatform { .. }
                | Problem::NoImage(_)
                | Problem::MediaType(_)
                | Problem::Malformed(_)
                | Problem::NestedIndex
        )
    }

    /// Whether the registry itself says that there is no such manifest (now): a known answer, unlike a failed
    /// request.
    ///
    /// Only a GET can show this, because only its body has the error code (distribution specification, "Error Codes").
    pub fn is_gone(&self) -> bool {
        matches!(self.problem, Problem::Gone { .. })
    }

    /// Whether the server answered with a refusal. Another request for the same thing may succeed.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self.problem, Problem::Status { .. } | Problem::Denied { status: 403, .. } | Problem::Gone { .. })
    }

    /// Whether a list of tags may have been refused because of the requested page size.
    pub(super) fn may_be_the_page_size(&self) -> bool {
        matches!(self.problem, Problem::Status { status: 400 | 406 | 413 | 414 | 416 | 422, .. })
    }

    pub(crate) fn new(what: &str, problem: Problem) -> Self {
        Self { what: what.to_owned(), problem }
    }
}

/// What went wrong.
#[expect(missing_docs, reason = "the messages show what the fields are")]
#[derive(Debug, Error)]
pub enum Problem {
    /// The connection failed or was lost.
    #[error(
        "{host} does not answer: {reason}; check the network, the proxy, and whether {host} should be listed in LAB_INSECURE_REGISTRIES"
    )]
    Unreachable { host: String, reason: String },
    /// A host that is not asked for a while, after too many failures.
    #[error("no requests are sent to {host} for another {seconds} s: {reason}")]
    LeftAlone { host: String, seconds: u64, reason: String },
    /// A certificate that is not accepted. Retries would not change that.
    #[error("the certificate of {host} is not accepted: {reason}")]
    Certificate { host: String, reason: String },
    /// The server does not speak TLS.
    #[error("{host} does not use TLS; if it only has plain HTTP, list {host} in LAB_INSECURE_REGISTRIES")]
    NotTls { host: String },
    /// A body with an encoding that was not requested.
    #[error(
        "{host} sent a response encoded as {encoding}, although the request did not allow it (Accept-Encoding: identity)"
    )]
    Encoding { host: String, encoding: String },
    /// A body that is not a JSON object.
    #[error("{host} did not send the expected JSON, but {begins:?}; is it a registry, or did a proxy answer?")]
    NoObject { host: String, begins: String },
    /// An unexpected status.
    #[error("{host} answered {status}{message}")]
    Status { host: String, status: u16, message: String },
    /// The registry has no such manifest or repository.
    #[error("{host} answered {status}{message}: it is not in the registry")]
    Gone { host: String, status: u16, message: String },
    /// 401 or 403 with all available credentials.
    #[error("{host} does not allow it ({status}){message}; {hint}")]
    Denied { host: String, status: u16, message: String, hint: String },
    /// 401 without a supported challenge.
    #[error("{host} answered 401 without a usable challenge (WWW-Authenticate: {challenge:?}); is it a registry?")]
    NoChallenge { host: String, challenge: String },
    /// The token server is another host.
    #[error(
        "{host} asks for a token from {realm}, which is another host; credentials are not sent there unless LAB_TOKEN_SERVERS names it"
    )]
    ForeignRealm { host: String, realm: String },
    /// The token server does not use TLS.
    #[error(
        "{host} asks for a token from {realm} over plain HTTP; credentials are not sent there unless LAB_INSECURE_REGISTRIES names it"
    )]
    PlainRealm { host: String, realm: String },
    /// The token server did not return a token.
    #[error("{realm} gave no token: {reason}")]
    NoToken { realm: String, reason: String },
    /// Too many requests, for too long.
    #[error("{host} answered {status} (too busy) {tries} times; wait, scan less often, or log in for a higher limit")]
    TooBusy { host: String, status: u16, tries: u32 },
    /// A redirect that is not followed.
    #[error("{host} redirects to {target}, which is not followed: {reason}")]
    Redirect { host: String, target: String, reason: &'static str },
    /// The answer is too large.
    #[error("{host} sent more than {most} bytes; that is too much for this request")]
    TooLarge { host: String, most: usize },
    /// Not the expected JSON.
    #[error("unexpected JSON in the response: {0}")]
    Json(serde_json::Error),
    /// The content does not match its digest.
    #[error("the content has digest {actual} instead of {expected}; it was changed in transit or in the registry")]
    DigestMismatch { expected: Digest, actual: Digest },
    /// The same page again.
    #[error("the pagination loops back to {url}")]
    PageLoop { url: String },
    /// An invalid `Link` header.
    #[error("the link to the next page can't be read: {0:?}")]
    Link(String),
    /// Too many tags.
    #[error("there are more than {most} tags; remove old ones from the registry")]
    TooManyTags { most: usize },
    /// Too many pages.
    #[error("there are more than {most} pages of tags")]
    TooManyPages { most: usize },
    /// A manifest that matches its digest, but that no runtime can read.
    #[error("its manifest is malformed: {0}; push the image again")]
    Malformed(serde_json::Error),
    /// A manifest of an unknown kind.
    #[error(
        "its media type {0:?} is not an image or index that a runtime can use; push it again as an OCI or Docker v2 image"
    )]
    MediaType(String),
    /// Another kind of artifact.
    #[error("it is not an image but {0:?}")]
    NoImage(String),
    /// No image for this platform.
    #[error("it has no image for {wanted}, only for {found}; build it for {wanted} or exclude these nodes")]
    NoPlatform { wanted: String, found: String },
    /// Indices are nested too deeply.
    #[error("its indices are nested too deeply; push it again as one index")]
    NestedIndex,
    /// A file of credentials that cannot be used.
    #[error(transparent)]
    Credentials(#[from] super::credentials::CredentialsError),
    /// No root certificates.
    #[error(transparent)]
    Roots(#[from] sidecar::tls::RootsError),
    /// An invalid URL.
    #[error("invalid URL {0:?}")]
    Url(String),
}
