//! A connection to one of a host's addresses.

use std::net::SocketAddr;
use std::time::Instant;

use crate::probe::fault::Fault;
use crate::wire::rpc::NFS_UNKNOWN;
use crate::wire::rpc::connection::{Connection, RpcError};
use crate::wire::rpc::message::ReplyError;

pub(super) fn with_port(mut address: SocketAddr, port: u16) -> SocketAddr {
    address.set_port(port);
    address
}

/// Tries each address in turn, with its share of the remaining time (RFC 6724, section 2). Of several addresses, it uses the first
/// that accepts the connection and answers as NFS does.
pub(super) async fn first_that_connects(
    addresses: Vec<SocketAddr>,
    deadline: Instant,
    reserved: bool,
) -> Result<(Connection, SocketAddr), Fault> {
    let mut failures: Vec<(SocketAddr, Fault)> = Vec::new();
    for (index, address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        let share = Instant::now() + share;
        let fault = match tokio::time::timeout_at(share.into(), Connection::open(*address, reserved)).await {
            Ok(Ok(mut connection)) if addresses.len() > 1 => {
                let call = connection.call(NFS_UNKNOWN, 0, &[]);
                match tokio::time::timeout_at(share.into(), call).await {
                    Err(_) => Fault::Silent,
                    // Whatever it says of versions and callers, it has the program.
                    Ok(
                        Ok(_)
                        | Err(RpcError::Reply(
                            ReplyError::Versions { .. } | ReplyError::Refused(_) | ReplyError::Failed(_),
                        )),
                    ) => return Ok((connection, *address)),
                    Ok(Err(error)) => error.into(),
                }
            }
            Ok(Ok(connection)) => return Ok((connection, *address)),
            Ok(Err(error)) => match error.kind() {
                std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::ConnectionReset => Fault::Refused,
                _ => Fault::Unreachable(error.to_string()),
            },
            Err(_) => Fault::Unreachable("no answer in time".to_owned()),
        };
        failures.push((*address, fault));
    }
    // A failure that shows a running server comes first, then one that shows another program, then one that shows a running host.
    let in_order: [fn(&Fault) -> bool; 3] = [
        |fault| matches!(fault, Fault::Silent | Fault::Broken(_)),
        |fault| matches!(fault, Fault::Protocol(_) | Fault::NoVersion(_)),
        |fault| *fault == Fault::Refused,
    ];
    for wanted in in_order {
        if let Some((_, fault)) = failures.iter().find(|(_, fault)| wanted(fault)) {
            return Err(fault.clone());
        }
    }
    let describe = |(address, fault): &(SocketAddr, Fault)| match fault {
        Fault::Unreachable(why) if failures.len() == 1 => why.clone(),
        Fault::Unreachable(why) => format!("{}: {why}", address.ip()),
        fault => fault.to_string(),
    };
    Err(Fault::Unreachable(failures.iter().map(describe).collect::<Vec<_>>().join("; ")))
}
