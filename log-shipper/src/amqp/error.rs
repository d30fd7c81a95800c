//! Why a connection to a broker failed or ended.

use std::io;
use std::net::SocketAddr;

use amq_protocol::protocol::AMQPClass;
use thiserror::Error;

use super::Refusal;

/// Why a connection failed or ended.
#[expect(missing_docs, reason = "the messages show what the fields are")]
#[derive(Debug, Error)]
pub enum ConnectionError {
    /// A socket failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A frame could not be read or written.
    #[error("{0}")]
    Codec(String),
    /// The name could not be resolved.
    #[error("the name {host} can't be resolved: {error}")]
    Name { host: String, error: io::Error },
    /// An address of a name with several failed.
    #[error("{address}: {error}")]
    At { address: SocketAddr, error: Box<ConnectionError> },
    /// All addresses of a name failed, each for its own reason.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Each(Vec<ConnectionError>),
    /// The broker closed it.
    #[error("the broker closed it: {} {}{who}", refusal.code, refusal.text)]
    Closed { refusal: Refusal, who: String },
    /// The peer does not speak AMQP 0-9-1, or not TLS.
    #[error("{0}")]
    Protocol(String),
    /// An unexpected method.
    #[error("the broker answered {got} where {expected} was expected")]
    Unexpected { expected: &'static str, got: String },
    /// The credentials cannot be read, or the broker does not support their mechanism.
    #[error("{0}")]
    Credentials(String),
    /// There was no answer in time.
    #[error("{0}")]
    Timeout(String),
}

/// The error for an unexpected method.
pub(super) fn unexpected(expected: &'static str, got: &AMQPClass) -> ConnectionError {
    let got = format!("class {} method {}", got.get_amqp_class_id(), got.get_amqp_method_id());
    ConnectionError::Unexpected { expected, got }
}
