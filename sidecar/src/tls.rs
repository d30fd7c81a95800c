//! TLS: one crypto provider for the whole process, and the trusted roots.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;

use crate::files::Stamp;

/// Makes ring the crypto provider of the process. Must be the first call of every `main`; a second call has no effect.
pub fn install_crypto_provider() {
    // An error means that a provider is installed already, which can only be this one.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Why there are no roots.
#[derive(Debug, Error)]
pub enum RootsError {
    /// There is no usable root certificate.
    #[error("no root certificates found{}; mount a bundle of certificates and name it in SSL_CERT_FILE", listed(.0))]
    None(Vec<String>),
}

fn listed(errors: &[String]) -> String {
    errors.iter().map(|error| format!(", {error}")).collect()
}

/// The current root certificates of the system, or of `SSL_CERT_FILE` (and `SSL_CERT_DIR`).
///
/// # Errors
///
/// [`RootsError::None`] if there is none.
pub fn roots() -> Result<Vec<CertificateDer<'static>>, RootsError> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        return Err(RootsError::None(found.errors.iter().map(ToString::to_string).collect()));
    }
    for error in &found.errors {
        tracing::warn!(%error, "a root certificate was skipped");
    }
    Ok(found.certs)
}

/// A TLS client configuration with [`roots`] and without a client certificate. The caller sets ALPN.
///
/// # Errors
///
/// [`RootsError`] if there are no roots.
pub fn client_config() -> Result<Arc<ClientConfig>, RootsError> {
    let mut store = RootCertStore::empty();
    let (_added, ignored) = store.add_parsable_certificates(roots()?);
    if ignored > 0 {
        tracing::warn!(ignored, "root certificates that cannot be parsed were skipped");
    }
    Ok(Arc::new(ClientConfig::builder().with_root_certificates(store).with_no_client_auth()))
}

/// A TLS error that retries would not fix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The server's certificate is not accepted.
    Certificate(String),
    /// The server does not speak TLS.
    NotTls,
}

/// Finds a TLS fault among an error's causes.
pub fn fault(error: &(dyn std::error::Error + 'static)) -> Option<Fault> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return match tls {
                rustls::Error::InvalidCertificate(reason) => Some(Fault::Certificate(words(reason))),
                rustls::Error::InvalidMessage(_) => Some(Fault::NotTls),
                _ => None,
            };
        }
        // An I/O error's `source` skips the inner error, so look at the inner error itself.
        let inside = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = inside.map(|inside| inside as &(dyn std::error::Error + 'static)).or_else(|| error.source());
    }
    None
}

/// What is wrong with a certificate, and what to do.
fn words(reason: &rustls::CertificateError) -> String {
    use rustls::CertificateError as Wrong;
    match reason {
        Wrong::UnknownIssuer => {
            "its CA is not known here; if the CA is your own, set SSL_CERT_FILE to a file with its certificate"
                .to_owned()
        }
        Wrong::Expired | Wrong::ExpiredContext { .. } => {
            "it has expired; renew it, or set the clock of this machine".to_owned()
        }
        Wrong::NotValidYet | Wrong::NotValidYetContext { .. } => {
            "it is not valid yet; set the clock of this machine".to_owned()
        }
        Wrong::NotValidForName | Wrong::NotValidForNameContext { .. } => {
            format!("{reason}; use one of its names, or issue it for this one")
        }
        // rustls has no variant for it. `openssl req -x509` creates such certificates.
        Wrong::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            "it is a CA's own certificate; a server needs one that a CA issued for it".to_owned()
        }
        reason => reason.to_string(),
    }
}

/// Detects that certificate files changed on disk.
#[derive(Debug)]
pub struct Watched {
    files: Vec<(PathBuf, Option<Stamp>)>,
}

impl Watched {
    /// Watches these files, starting from their current state.
    pub fn new(files: impl IntoIterator<Item = PathBuf>) -> Self {
        Self { files: files.into_iter().map(|file| (file.clone(), Stamp::of(&file))).collect() }
    }

    /// Watches the bundle that `SSL_CERT_FILE` names, if any.
    pub fn root_bundle() -> Self {
        Self::new(std::env::var_os("SSL_CERT_FILE").map(PathBuf::from))
    }

    /// Whether one of them changed since the last call.
    pub fn changed(&mut self) -> bool {
        let mut changed = false;
        for (file, stamp) in &mut self.files {
            let now = Stamp::of(file);
            changed |= now != *stamp;
            *stamp = now;
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_found_inside_io_errors() {
        let unknown = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let wrapped = std::io::Error::other(std::io::Error::other(unknown));
        assert!(matches!(fault(&wrapped), Some(Fault::Certificate(words)) if words.contains("SSL_CERT_FILE")));
        let plain = rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType);
        assert_eq!(fault(&std::io::Error::other(plain)), Some(Fault::NotTls));
        assert_eq!(fault(&std::io::Error::other(rustls::Error::DecryptError)), None);
        assert_eq!(fault(&std::io::Error::from_raw_os_error(111)), None);
    }

    #[test]
    fn each_invalid_certificate_has_its_own_advice() {
        use rustls::CertificateError as Wrong;
        for (wrong, advice) in [
            (Wrong::UnknownIssuer, "SSL_CERT_FILE"),
            (Wrong::Expired, "renew it"),
            (Wrong::NotValidYet, "clock"),
            (Wrong::NotValidForName, "one of its names"),
        ] {
            let words = words(&wrong);
            assert!(words.contains(advice), "{words}");
            assert_eq!(words.contains("SSL_CERT_FILE"), wrong == Wrong::UnknownIssuer, "{words}");
        }
    }

    #[test]
    fn a_changed_file_is_noticed_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.crt");
        let mut watched = Watched::new([path.clone()]);
        assert!(!watched.changed());
        crate::files::replace(&path, b"x").unwrap();
        assert!(watched.changed());
        assert!(!watched.changed());
    }
}
