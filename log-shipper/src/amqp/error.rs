//! Why a connection to a broker could not be had, or came to its end.

use std::io;
use std::net::SocketAddr;

use amq_protocol::protocol::AMQPClass;
use thiserror::Error;

use super::Refusal;

/// Why a connection could not be had or came to its end.
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
    Name {
        /// The name.
        host: String,
        /// What the system said.
        error: io::Error,
    },
    /// One of several addresses of a name failed.
    #[error("{address}: {error}")]
    At {
        /// The address.
        address: SocketAddr,
        /// What failed there.
        error: Box<ConnectionError>,
    },
    /// The broker ended it.
    #[error("the broker closed it: {} {}{who}", refusal.code, refusal.text)]
    Closed {
        /// Its reply code and words.
        refusal: Refusal,
        /// As whom we came, where that may be why.
        who: String,
    },
    /// What answers is no AMQP 0-9-1, or no TLS.
    #[error("{0}")]
    Protocol(String),
    /// A method came that does not belong there.
    #[error("the broker answered {got} where {expected} was expected")]
    Unexpected {
        /// What was waited for.
        expected: &'static str,
        /// What came.
        got: String,
    },
    /// The credentials can't be read, or the broker takes none of this kind.
    #[error("{0}")]
    Credentials(String),
    /// Nothing came in time.
    #[error("{0}")]
    Timeout(String),
}

/// What came in place of what was expected.
pub(super) fn unexpected(expected: &'static str, got: &AMQPClass) -> ConnectionError {
    let got = format!("class {} method {}", got.get_amqp_class_id(), got.get_amqp_method_id());
    ConnectionError::Unexpected { expected, got }
}
