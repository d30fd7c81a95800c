//! One TCP connection to an RPC program.

use std::io;
use std::net::SocketAddr;

use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Program;
use super::message::{self, ReplyError};
use super::record::{Assembler, RecordError, mark};

/// Why there was no answer, or no good one.
#[derive(Debug, Error)]
pub enum RpcError {
    /// The connection broke.
    #[error("{0}")]
    Connection(#[from] io::Error),
    /// The server closed the connection instead of answering.
    #[error("the server closed the connection instead of answering")]
    Closed,
    /// The bytes make no record.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The record is no result.
    #[error(transparent)]
    Reply(#[from] ReplyError),
}

/// A connection. It bears no time limit: whoever calls sets one around it, and drops the connection with it.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    xid: u32,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    ///
    /// What the system said.
    pub async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, xid: 1 })
    }

    /// Calls a procedure and gives back its result.
    ///
    /// # Errors
    ///
    /// [`RpcError`]; only after [`RpcError::Reply`] can the connection be used further.
    pub async fn call(&mut self, program: Program, procedure: u32, arguments: &[u8]) -> Result<Vec<u8>, RpcError> {
        self.xid = self.xid.wrapping_add(1);
        self.stream.write_all(&mark(&message::call(self.xid, program, procedure, arguments))).await?;
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
            // One call at a time: what comes after its answer belongs to nothing.
            if let Some(record) = assembler.take(&mut &buffer[..length])? {
                return Ok(record);
            }
        }
    }
}
