//! Parses a server's address with an export.

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
    /// The NFS port.
    pub port: u16,
    /// The export, if one is to be checked: a path, or a name that the server gave it.
    pub export: Option<String>,
}

/// A name or an IP address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// An IP address.
    Address(IpAddr),
    /// An IPv6 address that is valid on one link only, with the name or number of the interface (RFC 4007, section 11).
    LinkLocal(Ipv6Addr, String),
    /// A name, which is resolved in each round.
    Name(String),
}

/// Why a text is not a server.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{text:?} is not host[:port]/export: {reason}")]
pub struct ServerError {
    text: String,
    reason: &'static str,
}

impl FromStr for Server {
    type Err = ServerError;

    /// Also accepts `host:/export` and `host:export`, as mount(8) does, and `nfs://host[:port]/export` (RFC 2224). An IPv6
    /// address must be in brackets, with its zone if it has one.
    fn from_str(text: &str) -> Result<Self, ServerError> {
        let wrong = |reason| ServerError { text: text.to_owned(), reason };
        let text = text.strip_prefix("nfs://").unwrap_or(text);
        let (host, rest) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, rest) = rest.split_once(']').ok_or_else(|| wrong("the bracket is not closed"))?;
                let host = Host::named(address).filter(|host| !matches!(host, Host::Name(_)) && address.contains(':'));
                if !(rest.is_empty() || rest.starts_with([':', '/'])) {
                    return Err(wrong("only a port may follow the bracket"));
                }
                (host.ok_or_else(|| wrong("no IPv6 address in the brackets"))?, rest)
            }
            None => {
                let (host, rest) = text.split_at(text.find([':', '/']).unwrap_or(text.len()));
                let place = text.split('/').next().unwrap_or_default();
                if place.matches(':').count() > 1 && place.parse::<Ipv6Addr>().is_ok() {
                    return Err(wrong("an IPv6 address needs brackets"));
                }
                let reason = if host.is_empty() { "no host" } else { "the host is neither a name nor an address" };
                (Host::named(host).ok_or_else(|| wrong(reason))?, rest)
            }
        };
        let (port, export) = match rest.strip_prefix(':') {
            None => ("", Some(rest).filter(|rest| !rest.is_empty())),
            Some(rest) => match rest.find(|c: char| !c.is_ascii_digit()) {
                None => (rest, None),
                // `host:/export`, `host:2049/export`, `host:2049:export` and `host:export`.
                Some(at) if rest[at..].starts_with('/') => (&rest[..at], Some(&rest[at..])),
                Some(at) if rest[at..].starts_with(':') => (&rest[..at], Some(&rest[at + 1..])),
                Some(_) => ("", Some(rest)),
            },
        };
        let export = export.map(str::to_owned);
        if export.as_deref() == Some("") {
            return Err(wrong("there is no export after the colon"));
        }
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
    /// The host with this name or address, if it is valid. An IPv4 address in IPv6's form is that IPv4 address.
    pub fn named(host: &str) -> Option<Self> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Some(Self::Address(address.to_canonical()));
        }
        if let Some((address, zone)) = host.split_once('%') {
            // RFC 6874 writes the `%` of a zone as `%25` in URIs.
            let zone =
                zone.strip_prefix("25").filter(|rest| rest.starts_with(|c: char| !c.is_ascii_digit())).unwrap_or(zone);
            let is_zone = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '@');
            let well_formed = !zone.is_empty() && zone.len() <= 15 && zone.chars().all(is_zone);
            return well_formed.then(|| Some(Self::LinkLocal(address.parse().ok()?, zone.to_owned()))).flatten();
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        (!host.is_empty() && host.len() <= 253 && host.chars().all(allowed))
            .then(|| Self::Name(host.to_ascii_lowercase()))
    }

    fn is_same_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Name(name), Self::Name(other)) => is_same_name(name, other),
            (host, other) => host == other,
        }
    }
}

/// The names in an export's path. Volumes, mounts and settings write the same path with more or fewer slashes.
fn folders(export: &str) -> impl Iterator<Item = &str> {
    export.split('/').filter(|name| !name.is_empty() && *name != ".")
}

/// Whether two names of the DNS are the same: case does not count, and neither does a dot at the end (RFC 4343).
fn is_same_name(name: &str, other: &str) -> bool {
    name.trim_end_matches('.').eq_ignore_ascii_case(other.trim_end_matches('.'))
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]")?,
            Host::Address(address) => write!(f, "{address}")?,
            Host::LinkLocal(address, zone) => write!(f, "[{address}%{zone}]")?,
            Host::Name(name) => f.write_str(name)?,
        }
        // An export whose name looks like a port needs the port before it.
        let is_number = |export: &String| export.starts_with(|c: char| c.is_ascii_digit() || c == ':');
        if self.port != NFS_PORT || self.export.as_ref().is_some_and(is_number) {
            write!(f, ":{}", self.port)?;
        }
        match &self.export {
            Some(export) if export.starts_with('/') => f.write_str(export),
            Some(export) => write!(f, ":{export}"),
            None => Ok(()),
        }
    }
}

impl Server {
    /// Whether `other`, which may also have the name `alias`, is this server's export or a folder in it.
    pub fn holds(&self, other: &Self, alias: Option<&str>) -> bool {
        let has_alias = |alias| matches!(&self.host, Host::Name(name) if is_same_name(name, alias));
        let same_host = self.host.is_same_as(&other.host) || alias.is_some_and(has_alias);
        let (Some(whole), Some(export)) = (&self.export, &other.export) else { return false };
        let mut folders = folders(export);
        same_host && self.port == other.port && self::folders(whole).all(|folder| folders.next() == Some(folder))
    }

    /// Whether the host is a loopback address, which means a different server on each machine.
    pub fn is_loopback(&self) -> bool {
        match &self.host {
            Host::Address(address) => address.to_canonical().is_loopback(),
            Host::LinkLocal(..) => false,
            Host::Name(name) => is_localhost(&name.trim_end_matches('.').to_ascii_lowercase()),
        }
    }
}

/// The names of the loopback interface: those of RFC 6761, section 6.3, and those that distributions write into `/etc/hosts`.
fn is_localhost(name: &str) -> bool {
    const USUAL: [&str; 6] =
        ["localhost", "localhost.localdomain", "localhost4", "localhost6", "ip6-localhost", "ip6-loopback"];
    USUAL.contains(&name) || name.ends_with(".localhost")
}

impl Host {
    /// The addresses to connect to, in the order in which they are tried (RFC 6724, section 2), without duplicates.
    /// Resolving a name may block for as long as the resolver likes.
    ///
    /// # Errors
    ///
    /// The resolver's error.
    pub async fn resolve(&self, port: u16) -> std::io::Result<Vec<SocketAddr>> {
        /// The most addresses of a name that are tried.
        const MOST_ADDRESSES: usize = 16;
        let name = match self {
            Self::Address(address) => return Ok(vec![SocketAddr::new(*address, port)]),
            Self::LinkLocal(address, zone) => format!("{address}%{zone}"),
            Self::Name(name) => name.clone(),
        };
        let mut addresses = Vec::new();
        for address in tokio::net::lookup_host((name.as_str(), port)).await? {
            if !addresses.contains(&address) && addresses.len() < MOST_ADDRESSES {
                addresses.push(address);
            }
        }
        if addresses.is_empty() { Err(std::io::Error::other("the name has no address")) } else { Ok(addresses) }
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
            ("[::ffff:10.0.0.9]:/home", "10.0.0.9/home"),
            ("fileserver", "fileserver"),
            ("fileserver:homes", "fileserver:homes"),
            ("fileserver:2050:homes", "fileserver:2050:homes"),
            ("fileserver:2049:7", "fileserver:2049:7"),
            ("10.0.0.9:a/b", "10.0.0.9:a/b"),
            ("[fe80::1%eth0]/home", "[fe80::1%eth0]/home"),
            ("[fe80::1%25eth0]:/home", "[fe80::1%eth0]/home"),
            ("[fe80::1%5]:2050/home", "[fe80::1%5]:2050/home"),
            ("FileServer.example.org/Home", "fileserver.example.org/Home"),
            ("nfs://10.0.0.9/home", "10.0.0.9/home"),
            ("nfs://nas:2050/home", "nas:2050/home"),
            ("nfs://[fd00::1]:2049/home", "[fd00::1]/home"),
        ] {
            assert_eq!(text.parse::<Server>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn the_loopback_interface_is_known_by_its_addresses_and_names() {
        for (text, is_loopback) in [
            ("127.0.0.1:20127/", true),
            ("127.7.7.7/home", true),
            ("[::1]/home", true),
            ("[::ffff:127.0.0.1]/home", true),
            ("localhost/home", true),
            ("LocalHost./home", true),
            ("efs.localhost/home", true),
            ("ip6-localhost/home", true),
            ("localhost.localdomain/home", true),
            ("localhost.example.org/home", false),
            ("mylocalhost/home", false),
            ("10.0.0.9/home", false),
            ("[fe80::1%lo]/home", false),
        ] {
            assert_eq!(text.parse::<Server>().unwrap().is_loopback(), is_loopback, "{text}");
        }
    }

    #[test]
    fn an_export_holds_its_folders_in_every_spelling_of_the_path() {
        let holds = |whole: &str, export: &str| {
            let [whole, export] = [whole, export].map(|text| text.parse::<Server>().unwrap());
            whole.holds(&export, None)
        };
        for (whole, export, expected) in [
            ("a/home", "a/home", true),
            ("a/home/", "a/home", true),
            ("a/home", "a/home/ann/", true),
            ("a//home", "a/home/ann", true),
            ("a/home", "a:home", true),
            ("a:home/./", "a:/home//ann", true),
            ("a/", "a/anything", true),
            ("a/.", "a:homes", true),
            ("a/home", "a/homes", false),
            ("a/home/ann", "a/home", false),
            ("a/Home", "a/home", false),
            ("a/home", "b/home", false),
            ("a/home", "a", false),
        ] {
            assert_eq!(holds(whole, export), expected, "{whole} {export}");
        }
    }

    #[test]
    fn errors_name_what_is_wrong() {
        for (text, reason) in [
            ("/home", "no host"),
            ("", "no host"),
            ("a b/home", "neither a name nor an address"),
            ("näs/home", "neither a name nor an address"),
            ("user@nas:/home", "neither a name nor an address"),
            ("fd00::1/home", "brackets"),
            ("[fd00::1/home", "not closed"),
            ("[nfs]/home", "no IPv6"),
            ("[fd00::1]2049/home", "only a port"),
            ("nfs:0/home", "port"),
            ("nfs:70000/home", "port"),
            ("nfs:2049:", "no export"),
            ("[fe80::1%]/home", "no IPv6"),
            ("[10.0.0.9]/home", "no IPv6"),
        ] {
            let error = text.parse::<Server>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn displayed_servers_parse_again(text in "[a-z0-9:.%/\\[\\]-]{0,30}") {
            if let Ok(server) = text.parse::<Server>() {
                prop_assert_eq!(server.to_string().parse::<Server>(), Ok(server));
            }
        }
    }
}
