//! Which server, and which of its exports.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use thiserror::Error;

/// The port of NFS.
pub const NFS_PORT: u16 = 2049;

/// A server's address with an export: `host[:port][/export]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Server {
    /// A name or an IP address.
    pub host: Host,
    /// The port of NFS.
    pub port: u16,
    /// The export, if one is to be looked at: a path that begins with `/`.
    pub export: Option<String>,
}

/// A name or an IP address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// An IP address.
    Address(IpAddr),
    /// A name to be looked up in each round.
    Name(String),
}

/// Why a text names no server.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{text:?} is not host[:port]/export: {reason}")]
pub struct ServerError {
    text: String,
    reason: &'static str,
}

impl FromStr for Server {
    type Err = ServerError;

    /// Also takes `host:/export`, as mount(8) does. An IPv6 address stands in brackets.
    fn from_str(text: &str) -> Result<Self, ServerError> {
        let wrong = |reason| ServerError { text: text.to_owned(), reason };
        let (place, export) = match text.find('/') {
            Some(at) => (&text[..at], Some(text[at..].to_owned())),
            None => (text, None),
        };
        let (host, port) = match place.strip_prefix('[') {
            Some(rest) => {
                let (address, port) = rest.split_once(']').ok_or_else(|| wrong("the bracket is not closed"))?;
                let address: Ipv6Addr = address.parse().map_err(|_| wrong("no IPv6 address in the brackets"))?;
                let port = match port {
                    "" => "",
                    port => port.strip_prefix(':').ok_or_else(|| wrong("only a port may follow the bracket"))?,
                };
                (Host::Address(address.into()), port)
            }
            None => {
                let (host, port) = place.split_once(':').unwrap_or((place, ""));
                if port.contains(':') {
                    return Err(wrong("an IPv6 address needs brackets"));
                }
                (Host::named(host).ok_or_else(|| wrong("no host"))?, port)
            }
        };
        let port = match port {
            "" => NFS_PORT,
            port => {
                port.parse().ok().filter(|port| *port > 0).ok_or_else(|| wrong("the port is not from 1 to 65535"))?
            }
        };
        Ok(Self { host, port, export })
    }
}

impl Host {
    /// The host of this name or address, if it can be one.
    pub fn named(host: &str) -> Option<Self> {
        if let Ok(address) = host.parse() {
            return Some(Self::Address(address));
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        (!host.is_empty() && host.len() <= 253 && host.chars().all(allowed)).then(|| Self::Name(host.to_owned()))
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]")?,
            Host::Address(address) => write!(f, "{address}")?,
            Host::Name(name) => f.write_str(name)?,
        }
        if self.port != NFS_PORT {
            write!(f, ":{}", self.port)?;
        }
        f.write_str(self.export.as_deref().unwrap_or_default())
    }
}

impl Server {
    /// Whether `other`, which may also go by the name `alias`, is this server's export or a folder in it.
    pub fn holds(&self, other: &Self, alias: Option<&str>) -> bool {
        let same_host = self.host == other.host || matches!(&self.host, Host::Name(name) if alias == Some(name));
        let (Some(whole), Some(export)) = (&self.export, &other.export) else { return false };
        let rest = export.strip_prefix(whole.trim_end_matches('/'));
        same_host && self.port == other.port && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The address to connect to, on another port if need be. Looking up a name may block for as long as the resolver likes.
    ///
    /// # Errors
    ///
    /// What the resolver said.
    pub async fn resolve(&self, port: u16) -> std::io::Result<SocketAddr> {
        match &self.host {
            Host::Address(address) => Ok(SocketAddr::new(*address, port)),
            Host::Name(name) => {
                let mut found = tokio::net::lookup_host((name.as_str(), port)).await?;
                found.next().ok_or_else(|| std::io::Error::other("the name has no address"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn servers_are_written_in_several_ways() {
        for (text, shown) in [
            ("10.0.0.9/home", "10.0.0.9/home"),
            ("10.0.0.9:2049/home", "10.0.0.9/home"),
            ("10.0.0.9:12049/a/b", "10.0.0.9:12049/a/b"),
            ("fileserver.labs.svc:/home", "fileserver.labs.svc/home"),
            ("[fd00::1]/home", "[fd00::1]/home"),
            ("[fd00::1]:2050/", "[fd00::1]:2050/"),
            ("fileserver", "fileserver"),
        ] {
            assert_eq!(text.parse::<Server>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, reason) in [
            ("/home", "no host"),
            ("", "no host"),
            ("a b/home", "no host"),
            ("fd00::1/home", "brackets"),
            ("[fd00::1/home", "not closed"),
            ("[nfs]/home", "no IPv6"),
            ("[fd00::1]2049/home", "only a port"),
            ("nfs:0/home", "port"),
            ("nfs:70000/home", "port"),
        ] {
            let said = text.parse::<Server>().unwrap_err().to_string();
            assert!(said.contains(reason), "{text}: {said}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_again(text in "[a-z0-9:./\\[\\]-]{0,30}") {
            if let Ok(server) = text.parse::<Server>() {
                prop_assert_eq!(server.to_string().parse::<Server>(), Ok(server));
            }
        }
    }
}
