//! One TCP connection to an RPC program.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::Program;
use super::message::{self, ReplyError};
use super::record::{Assembler, RecordError, mark};

/// Why there was no good answer.
#[derive(Debug, Error)]
pub enum RpcError {
    /// The connection was lost.
    #[error("{0}")]
    Connection(#[from] io::Error),
    /// The server closed the connection instead of answering.
    #[error("the server closed the connection instead of answering")]
    Closed,
    /// The bytes are not a record.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The record is not a result.
    #[error(transparent)]
    Reply(#[from] ReplyError),
}

/// A connection without time limits: the caller sets one, and drops the connection when it is over.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    xid: u32,
    /// The user of the calls.
    pub user: u32,
}

impl Connection {
    /// Connects, from a port below 1024 if `reserved` asks for it and one is available.
    ///
    /// # Errors
    ///
    /// The system's error.
    pub async fn open(address: SocketAddr, reserved: bool) -> io::Result<Self> {
        let stream = match if reserved { from_reserved_port(address).await } else { None } {
            Some(stream) => stream?,
            None => TcpStream::connect(address).await?,
        };
        stream.set_nodelay(true)?;
        Ok(Self { stream, xid: 1, user: message::NOBODY })
    }

    /// Whether this connection is from a port below 1024.
    pub fn is_from_reserved_port(&self) -> bool {
        self.stream.local_addr().is_ok_and(|local| local.port() < 1024)
    }

    /// Calls a procedure and returns its result.
    ///
    /// # Errors
    ///
    /// [`RpcError`]. The connection can be used again only after [`RpcError::Reply`].
    pub async fn call(&mut self, program: Program, procedure: u32, arguments: &[u8]) -> Result<Vec<u8>, RpcError> {
        self.xid = self.xid.wrapping_add(1);
        self.stream.write_all(&mark(&message::call(self.xid, self.user, program, procedure, arguments))).await?;
        let record = self.record().await?;
        Ok(message::reply(self.xid, &record)?.to_vec())
    }

    async fn record(&mut self) -> Result<Vec<u8>, RpcError> {
        let mut assembler = Assembler::default();
        let mut buffer = [0; 4096];
        loop {
            let length = self.stream.read(&mut buffer).await?;
            if length == 0 {
                return Err(RpcError::Closed);
            }
            // There is one call at a time, so data after its answer is ignored.
            if let Some(record) = assembler.take(&mut &buffer[..length])? {
                return Ok(record);
            }
        }
    }
}

/// Connects from a port below 1024, which requires root or CAP_NET_BIND_SERVICE. `None` if no port is available.
async fn from_reserved_port(address: SocketAddr) -> Option<io::Result<TcpStream>> {
    // The kernel's own client takes ports from the upper end of this range.
    const PORTS: std::ops::RangeInclusive<u16> = 665..=1023;
    const MOST_TRIES: u16 = 32;
    let count = PORTS.end() - PORTS.start() + 1;
    let start = u16::try_from(RandomState::new().hash_one(address) % u64::from(count)).unwrap_or(0);
    for step in 0..MOST_TRIES {
        let port = PORTS.start() + (start + step * 11) % count;
        let (socket, any) = match address {
            SocketAddr::V4(_) => (TcpSocket::new_v4(), IpAddr::from(Ipv4Addr::UNSPECIFIED)),
            SocketAddr::V6(_) => (TcpSocket::new_v6(), IpAddr::from(Ipv6Addr::UNSPECIFIED)),
        };
        let socket = socket.ok()?;
        match socket.bind((any, port).into()) {
            Ok(()) => match socket.connect(address).await {
                // The same two ports were connected a moment ago.
                Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => (),
                connected => return Some(connected),
            },
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => (),
            Err(_) => return None,
        }
    }
    None
}
