//! What goes wrong with registries: what was tried, on what, what came, and what to do.

use thiserror::Error;

use crate::reference::Digest;

/// A request that did not work out.
#[derive(Debug, Error)]
#[error("cannot {what}: {problem}")]
pub struct RegistryError {
    what: String,
    /// What came instead. No `source`: the text has it already.
    pub problem: Problem,
}

impl RegistryError {
    /// Whether what is there is known, and no machine of the platforms that were asked for can run it.
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

    /// Whether the registry itself says that there is no such manifest (any more): a known answer, unlike a request that failed.
    ///
    /// Only a GET can tell, because only its body has the error code (distribution specification, "Error Codes").
    pub fn is_gone(&self) -> bool {
        matches!(self.problem, Problem::Gone { .. })
    }

    /// Whether the server answered, and refused: another request for the same thing may be answered otherwise.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self.problem, Problem::Status { .. } | Problem::Denied { status: 403, .. } | Problem::Gone { .. })
    }

    /// Whether a list of tags may have been refused for the number of tags that it asks for.
    pub(super) fn may_be_the_page_size(&self) -> bool {
        matches!(self.problem, Problem::Status { status: 400 | 406 | 413 | 414 | 416 | 422, .. })
    }

    pub(crate) fn new(what: &str, problem: Problem) -> Self {
        Self { what: what.to_owned(), problem }
    }
}

/// What came instead of an answer.
#[derive(Debug, Error)]
pub enum Problem {
    /// No connection, or one that broke.
    #[error(
        "{host} does not answer: {reason}; check the network, the proxy, and whether {host} should be listed in LAB_INSECURE_REGISTRIES"
    )]
    Unreachable {
        /// The registry.
        host: String,
        /// What the connection said.
        reason: String,
    },
    /// A host that was given up a short while ago.
    #[error("{host} gets no requests for another {seconds} s: {reason}")]
    LeftAlone {
        /// The host.
        host: String,
        /// Until then nothing is sent.
        seconds: u64,
        /// Why it was given up.
        reason: String,
    },
    /// A certificate that is not accepted. Another try would not change it.
    #[error(
        "the certificate of {host} is not accepted: {reason}; if the CA is your own, set SSL_CERT_FILE to a file with its certificate"
    )]
    Certificate {
        /// The host.
        host: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No TLS where TLS was expected.
    #[error("{host} does not use TLS; if it only has plain HTTP, list {host} in LAB_INSECURE_REGISTRIES")]
    NotTls {
        /// The host.
        host: String,
    },
    /// A body packed in a way that was not asked for.
    #[error(
        "{host} sent a response encoded as {encoding}, although the request did not allow it (Accept-Encoding: identity)"
    )]
    Encoding {
        /// The host.
        host: String,
        /// `Content-Encoding`.
        encoding: String,
    },
    /// A body that is no JSON object.
    #[error("{host} did not send the expected JSON, but {begins:?}; is it a registry, or did a proxy answer?")]
    NoObject {
        /// The host.
        host: String,
        /// The first letters.
        begins: String,
    },
    /// A status that is no answer.
    #[error("{host} answered {status}{told}")]
    Status {
        /// The registry.
        host: String,
        /// The status.
        status: u16,
        /// What it said, from `: ` on, or nothing.
        told: String,
    },
    /// The registry knows no such manifest or repository.
    #[error("{host} answered {status}{told}: it is not in the registry")]
    Gone {
        /// The registry.
        host: String,
        /// The status: 404 or 410.
        status: u16,
        /// What it said.
        told: String,
    },
    /// 401 or 403 with what credentials there are.
    #[error("{host} does not allow it ({status}){told}; {hint}")]
    Denied {
        /// The registry.
        host: String,
        /// The status.
        status: u16,
        /// What it said.
        told: String,
        /// What to do.
        hint: String,
    },
    /// 401 without a way to authorise.
    #[error("{host} answered 401 without a usable challenge (WWW-Authenticate: {challenge:?}); is it a registry?")]
    NoChallenge {
        /// The registry.
        host: String,
        /// The header, shortened.
        challenge: String,
    },
    /// The token server is somewhere else.
    #[error(
        "{host} asks for a token from {realm}, which is another host; credentials are not sent there unless LAB_TOKEN_SERVERS names it"
    )]
    ForeignRealm {
        /// The registry.
        host: String,
        /// The token server's host.
        realm: String,
    },
    /// The token server has no TLS.
    #[error(
        "{host} asks for a token from {realm} over plain HTTP; credentials are not sent there unless LAB_INSECURE_REGISTRIES names it"
    )]
    PlainRealm {
        /// The registry.
        host: String,
        /// The token server's host.
        realm: String,
    },
    /// The token server gave no token.
    #[error("{realm} gave no token: {reason}")]
    NoToken {
        /// The token server's host.
        realm: String,
        /// Why.
        reason: String,
    },
    /// Too many requests, for too long.
    #[error("{host} answered {status} (too busy) {tries} times; wait, scan less often, or log in for a higher limit")]
    TooBusy {
        /// The registry.
        host: String,
        /// The status.
        status: u16,
        /// How often it was tried.
        tries: u32,
    },
    /// A redirect that is not followed.
    #[error("{host} redirects to {target}, which is not followed: {reason}")]
    Redirect {
        /// The registry.
        host: String,
        /// Where to, without its query.
        target: String,
        /// Why not.
        reason: &'static str,
    },
    /// More bytes than any answer of this kind has.
    #[error("{host} sent more than {most} bytes; that is too much for this request")]
    TooLarge {
        /// The registry.
        host: String,
        /// The limit.
        most: usize,
    },
    /// Not the JSON that belongs there.
    #[error("unexpected JSON in the response: {0}")]
    Json(serde_json::Error),
    /// The content is not what its digest says.
    #[error("the content has digest {actual} instead of {expected}; it was changed on its way or in the registry")]
    DigestMismatch {
        /// What was asked for.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// A page again.
    #[error("the pagination loops back to {url}")]
    PageLoop {
        /// The page.
        url: String,
    },
    /// A `Link` that can't be read.
    #[error("the link to the next page can't be read: {0:?}")]
    Link(String),
    /// Too many tags.
    #[error("there are more than {most} tags; remove old ones from the registry")]
    TooManyTags {
        /// The limit.
        most: usize,
    },
    /// Too many pages.
    #[error("there are more than {most} pages of tags")]
    TooManyPages {
        /// The limit.
        most: usize,
    },
    /// A manifest that came as its digest says and that no runtime can read.
    #[error("its manifest is malformed: {0}; push the image again")]
    Malformed(serde_json::Error),
    /// A manifest of no known kind.
    #[error(
        "its media type {0:?} is not an image or index that a runtime can use; push it again as an OCI or Docker v2 image"
    )]
    MediaType(String),
    /// Something else that registries keep.
    #[error("it is not an image but {0:?}")]
    NoImage(String),
    /// Nothing for this platform.
    #[error("it has nothing for {wanted}, only for {found}; build it for {wanted} or exclude these nodes")]
    NoPlatform {
        /// The platform.
        wanted: String,
        /// What there is.
        found: String,
    },
    /// Indices inside indices without end.
    #[error("its indices are nested too deeply; push it again as one index")]
    NestedIndex,
    /// A file of credentials that can't be used.
    #[error(transparent)]
    Credentials(#[from] super::credentials::CredentialsError),
    /// No root certificates.
    #[error(transparent)]
    Roots(#[from] sidecar::tls::RootsError),
    /// A URL that can't be made.
    #[error("invalid URL {0:?}")]
    Url(String),
}
