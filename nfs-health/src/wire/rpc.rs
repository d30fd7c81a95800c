//! ONC RPC version 2 over TCP (RFC 5531), as far as a probe needs it: calls with AUTH_SYS, replies, record marking.

pub mod connection;
pub mod message;
pub mod record;
pub mod xdr;

use std::net::SocketAddr;

/// A program and its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its number.
    pub number: u32,
    /// Its version.
    pub version: u32,
}

/// The portmapper, version 2 (RFC 1833).
pub const PORTMAPPER: Program = Program { number: 100_000, version: 2 };
/// The mount protocol, version 3 (RFC 1813, appendix I).
pub const MOUNTD: Program = Program { number: 100_005, version: 3 };
/// NFS version 3 (RFC 1813).
pub const NFS_3: Program = Program { number: 100_003, version: 3 };
/// NFS version 4 (RFC 7530, RFC 8881, RFC 7862).
pub const NFS_4: Program = Program { number: 100_003, version: 4 };
/// A version of NFS that no server supports. The answer contains the supported ones.
pub const NFS_UNKNOWN: Program = Program { number: 100_003, version: 9 };

/// Parses an address with its port in universal format (RFC 5665, section 5.2.3): `10.0.0.9.8.1` is port 2049.
pub fn universal_address(text: &str) -> Option<SocketAddr> {
    let mut parts = text.rsplitn(3, '.');
    let (low, high): (u8, u8) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    Some(SocketAddr::new(parts.next()?.parse().ok()?, u16::from_be_bytes([high, low])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn universal_addresses_have_a_port() {
        for (text, expected) in [
            ("10.0.0.9.8.1", Some("10.0.0.9:2049")),
            ("fd00::9.8.1", Some("[fd00::9]:2049")),
            ("10.0.0.9", None),
            ("nas.8.1", None),
            ("10.0.0.9.256.1", None),
            ("", None),
        ] {
            assert_eq!(universal_address(text), expected.map(|address| address.parse().unwrap()), "{text}");
        }
    }
}
