//! The broker's settings: exchange, user and credentials.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use sidecar::secret::SecretSource;

use super::{ConnectionError, RoutingKey};

/// How the client authenticates.
#[derive(Clone, Debug)]
pub enum Auth {
    /// SASL PLAIN. The password is read again for each connection.
    Password {
        /// `AMQP_USERNAME`.
        user: String,
        /// `AMQP_PASSWORD`.
        password: SecretSource,
    },
    /// SASL EXTERNAL: the client certificate authenticates.
    Certificate,
}

/// Where to publish, and with which credentials.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Whether to use TLS.
    pub tls: bool,
    /// The name that the broker's certificate must have, if it is not the host's name.
    pub server_name: Option<String>,
    /// The client certificate's chain and key, as PEM files; read again for each connection.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// How the client authenticates.
    pub auth: Auth,
    /// The virtual host.
    pub virtual_host: String,
    /// The exchange, which must exist. The default exchange has an empty name.
    pub exchange: String,
    /// The routing key of every message.
    pub routing_key: RoutingKey,
    /// The exchange for messages that cannot be delivered, which must exist.
    pub dead_letter_exchange: Option<String>,
    /// The heartbeat interval that we request.
    pub heartbeat: Duration,
}

impl Auth {
    /// The user's name, as far as it is known.
    pub fn user(&self) -> &str {
        match self {
            Self::Password { user, .. } => user,
            Self::Certificate => "the certificate's user",
        }
    }
}

/// Adds the user and the virtual host to a refused login.
pub(super) fn named(error: ConnectionError, endpoint: &Endpoint) -> ConnectionError {
    match error {
        ConnectionError::Closed { refusal, .. } => {
            let who = format!(" (user {}, virtual host {})", endpoint.auth.user(), endpoint.virtual_host);
            ConnectionError::Closed { refusal, who }
        }
        error => error,
    }
}

/// Explains a failed TLS handshake, including answers in another protocol.
pub(super) fn not_tls(error: io::Error) -> ConnectionError {
    let by_rustls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    if matches!(by_rustls, Some(rustls::Error::InvalidMessage(_))) {
        let message =
            "the port does not speak TLS: use amqp:// in AMQP_URL, or the broker's TLS port (5671 by default)";
        return ConnectionError::Protocol(message.to_owned());
    }
    if let Some(rustls::Error::AlertReceived(alert)) = by_rustls {
        let cause = match alert {
            rustls::AlertDescription::ProtocolVersion => "the broker must allow TLS 1.2 or 1.3",
            // With TLS 1.2, servers answer so if a client certificate is missing, too.
            rustls::AlertDescription::HandshakeFailure => {
                "does it require a client certificate (AMQP_CERT_FILE), or other cipher suites?"
            }
            _ => return ConnectionError::Io(error),
        };
        return ConnectionError::Io(io::Error::new(error.kind(), format!("{error}; {cause}")));
    }
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return ConnectionError::Protocol(
            "it closed the connection during the TLS handshake; does this port speak TLS?".to_owned(),
        );
    }
    ConnectionError::Io(error)
}

/// The SASL mechanism, and its response.
pub(super) fn credentials(auth: &Auth) -> Result<(&'static str, String), ConnectionError> {
    match auth {
        Auth::Password { user, password } => {
            let password = password.read().map_err(|error| ConnectionError::Credentials(error.to_string()))?;
            Ok(("PLAIN", format!("\0{user}\0{}", password.expose())))
        }
        Auth::Certificate => Ok(("EXTERNAL", String::new())),
    }
}

/// Trusts this machine's roots and configured ones, and presents the client certificate if there is one.
pub(super) fn tls(certificate: Option<&(PathBuf, PathBuf)>) -> Result<ClientConfig, ConnectionError> {
    let failed = |what: String| ConnectionError::Credentials(what);
    let roots = sidecar::tls::roots().map_err(|error| failed(error.to_string()))?;
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(roots);
    let builder = ClientConfig::builder().with_root_certificates(store);
    let Some((chain, key)) = certificate else { return Ok(builder.with_no_client_auth()) };
    let in_file = |path: &PathBuf, error: &dyn std::fmt::Display| failed(format!("{}: {error}", path.display()));
    let certificates = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| in_file(chain, &error))?;
    if certificates.is_empty() {
        return Err(in_file(chain, &"it contains no certificate (PEM)"));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| match error {
        pem::Error::NoItemsFound => in_file(key, &"it contains no private key (PEM)"),
        error => in_file(key, &error),
    })?;
    builder.with_client_auth_cert(certificates, private).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            failed(format!("the key in {} does not belong to the certificate in {}", key.display(), chain.display()))
        }
        error => in_file(chain, &error),
    })
}

/// With TLS 1.3 a client may write before the broker has checked its certificate, so a refusal often shows only as a
/// closed socket. A load balancer without brokers closes it, too, so with TLS the reason is not certain.
pub(super) fn silently_refused(error: ConnectionError, endpoint: &Endpoint) -> ConnectionError {
    let ConnectionError::Io(error) = error else { return error };
    let (kind, error) = (error.kind(), format!("{error} before the broker sent anything"));
    let likely = |reason: &str| io::Error::new(kind, format!("{error}; {reason}")).into();
    match (endpoint.tls, &endpoint.certificate) {
        (_, Some(_)) => likely("does it accept the client certificate?"),
        (true, None) => likely("does it require a client certificate (AMQP_CERT_FILE)?"),
        (false, None) => ConnectionError::Protocol(format!("{error}; does this port speak AMQP, or TLS (amqps://)?")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_closes_without_a_word_has_a_likely_reason() {
        let endpoint = |tls: bool, certificate: bool| Endpoint {
            tls,
            server_name: None,
            certificate: certificate.then(|| (PathBuf::new(), PathBuf::new())),
            auth: Auth::Certificate,
            virtual_host: "/".into(),
            exchange: String::new(),
            routing_key: RoutingKey::parse("logs").unwrap(),
            dead_letter_exchange: None,
            heartbeat: Duration::ZERO,
        };
        for (tls, certificate, expected) in [
            (false, false, "does this port speak AMQP"),
            (true, false, "does it require a client certificate"),
            (true, true, "does it accept the client certificate"),
        ] {
            let closed = ConnectionError::Io(io::ErrorKind::ConnectionReset.into());
            let error = silently_refused(closed, &endpoint(tls, certificate));
            assert!(error.to_string().contains(expected), "{error}");
            assert!(!matches!(error, ConnectionError::Credentials(_)), "the other addresses are not tried: {error}");
        }
    }
}
