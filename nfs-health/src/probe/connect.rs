//! A connection to one of a host's addresses.

use std::net::SocketAddr;
use std::time::Instant;

use crate::probe::fault::Fault;
use crate::wire::rpc::connection::Connection;

pub(super) fn with_port(mut address: SocketAddr, port: u16) -> SocketAddr {
    address.set_port(port);
    address
}

/// Tries each address in turn, with its share of the time that is left (RFC 6724, section 2).
pub(super) async fn first_that_connects(
    addresses: Vec<SocketAddr>,
    deadline: Instant,
    reserved: bool,
) -> Result<(Connection, SocketAddr), Fault> {
    let mut failures: Vec<(SocketAddr, Fault)> = Vec::new();
    for (index, address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        let fault = match tokio::time::timeout(share, Connection::open(*address, reserved)).await {
            Ok(Ok(connection)) => return Ok((connection, *address)),
            Ok(Err(error)) => match error.kind() {
                std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::ConnectionReset => Fault::Refused,
                _ => Fault::Unreachable(error.to_string()),
            },
            Err(_) => Fault::Unreachable("no answer in time".to_owned()),
        };
        failures.push((*address, fault));
    }
    // One that refuses is a host that is there.
    if failures.iter().any(|(_, fault)| *fault == Fault::Refused) {
        return Err(Fault::Refused);
    }
    let said = |(address, fault): &(SocketAddr, Fault)| match fault {
        Fault::Unreachable(why) if failures.len() == 1 => why.clone(),
        Fault::Unreachable(why) => format!("{}: {why}", address.ip()),
        fault => fault.to_string(),
    };
    Err(Fault::Unreachable(failures.iter().map(said).collect::<Vec<_>>().join("; ")))
}
