//! What an export's path may lead to: symbolic links and other servers (`fs_locations`, RFC 8881, section 11.16); and
//! the kinds of authentication that it accepts (SECINFO, section 18.29).

use super::CompoundError;
use crate::wire::rpc::xdr::{Reader, Writer, XdrError};

/// Number of the attribute `fs_locations`.
const LOCATIONS: u32 = 24;

const MOST_NAME_BYTES: u32 = 4096;
const MOST_NAMES: u32 = 256;
const MOST_LOCATIONS: u32 = 1024;

/// The place of a file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The server's name or address; empty for the server that was asked.
    pub server: String,
    /// The names of its path there.
    pub path: Vec<String>,
}

/// A kind of authentication (RFC 8881, section 18.29; RFC 5403 for its numbers).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavor {
    /// None.
    None,
    /// The client's own claim (AUTH_SYS).
    Sys,
    /// Kerberos, in one of its strengths.
    Kerberos(&'static str),
    /// Another one, by its number.
    Other(u32),
}

impl Flavor {
    /// The flavor of a number, if GSS flavors have their own numbers, as in mountd.
    pub fn of(number: u32) -> Self {
        match number {
            0 => Self::None,
            1 => Self::Sys,
            390_003 => Self::Kerberos("krb5"),
            390_004 => Self::Kerberos("krb5i"),
            390_005 => Self::Kerberos("krb5p"),
            other => Self::Other(other),
        }
    }

    /// The flavor as exports(5) writes it.
    pub fn name(self) -> String {
        match self {
            Self::None => "none".to_owned(),
            Self::Sys => "sys".to_owned(),
            Self::Kerberos(name) => name.to_owned(),
            Self::Other(number) => format!("flavor {number}"),
        }
    }

    /// Whether a client that only claims its identity is accepted.
    pub fn is_open(self) -> bool {
        matches!(self, Self::None | Self::Sys)
    }
}

/// The arguments of GETATTR for the locations.
pub fn ask_locations() -> Vec<u8> {
    Writer::default().u32(1).u32(1 << LOCATIONS).bytes()
}

/// Parses the locations in the result of GETATTR.
///
/// # Errors
///
/// [`CompoundError::Unreadable`].
pub fn locations(reader: &mut Reader<'_>) -> Result<Vec<Location>, CompoundError> {
    let mut mask = 0;
    for word in 0..reader.length(4)? {
        let bits = reader.u32()?;
        mask = if word == 0 { bits } else { mask };
    }
    let values = reader.opaque(64 * 1024)?;
    if mask != 1 << LOCATIONS {
        return Ok(Vec::new());
    }
    let mut values = Reader::new(values);
    let _root = path(&mut values)?;
    let mut locations = Vec::new();
    for _ in 0..values.length(MOST_LOCATIONS)? {
        let servers: Result<Vec<String>, XdrError> =
            (0..values.length(MOST_LOCATIONS)?).map(|_| text(&mut values)).collect();
        let (servers, path) = (servers?, path(&mut values)?);
        locations.extend(servers.into_iter().map(|server| Location { server, path: path.clone() }));
    }
    Ok(locations)
}

/// Parses the result of READLINK.
///
/// # Errors
///
/// [`CompoundError::Unreadable`].
pub fn link(reader: &mut Reader<'_>) -> Result<String, CompoundError> {
    Ok(text(reader)?)
}

/// Parses the flavors in the result of SECINFO.
///
/// # Errors
///
/// [`CompoundError::Unreadable`].
pub fn flavors(reader: &mut Reader<'_>) -> Result<Vec<Flavor>, CompoundError> {
    const GSS: u32 = 6;
    let mut flavors = Vec::new();
    for _ in 0..reader.length(MOST_LOCATIONS)? {
        let flavor = match reader.u32()? {
            GSS => {
                let (_mechanism, _quality) = (reader.opaque(MOST_NAME_BYTES)?, reader.u32()?);
                match reader.u32()? {
                    1 => Flavor::Kerberos("krb5"),
                    2 => Flavor::Kerberos("krb5i"),
                    3 => Flavor::Kerberos("krb5p"),
                    _ => Flavor::Other(GSS),
                }
            }
            other => Flavor::of(other),
        };
        flavors.push(flavor);
    }
    Ok(flavors)
}

/// The remaining path if the link at `path[..depth]` leads to `target`. Above the root is the root, as for a client's kernel.
/// `None` if `path[..depth]` has no name.
pub fn follow(path: &[String], depth: usize, target: &str) -> Option<Vec<String>> {
    let base = if target.starts_with('/') { &[] } else { path.get(..depth.checked_sub(1)?)? };
    let mut followed = base.to_vec();
    for name in target.split('/') {
        match name {
            "" | "." => (),
            ".." => drop(followed.pop()),
            name => followed.push(name.to_owned()),
        }
    }
    followed.extend_from_slice(path.get(depth..)?);
    Some(followed)
}

fn path(reader: &mut Reader<'_>) -> Result<Vec<String>, XdrError> {
    (0..reader.length(MOST_NAMES)?).map(|_| text(reader)).collect()
}

fn text(reader: &mut Reader<'_>) -> Result<String, XdrError> {
    Ok(String::from_utf8_lossy(reader.opaque(MOST_NAME_BYTES)?).into_owned())
}

#[cfg(test)]
mod tests {
    use super::super::names;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn links_lead_on_within_the_server() {
        let table = [
            ("/home/link/sub", 2, "real", Some("/home/real/sub")),
            ("/home/link", 2, "/data/./x/", Some("/data/x")),
            ("/home/link/sub", 2, "../other", Some("/other/sub")),
            // Nothing is above the root, as for a client's kernel.
            ("/link", 1, "..", Some("/")),
            ("/home/link/sub", 2, "../../../data", Some("/data/sub")),
            ("/home", 0, "x", None),
        ];
        for (path, depth, target, expected) in table {
            assert_eq!(follow(&names(path), depth, target), expected.map(names), "{path} {target}");
        }
    }

    #[test]
    fn locations_are_read_for_each_server() {
        let name = |writer: Writer, name: &str| writer.opaque(name.as_bytes());
        let root = name(Writer::default().u32(1), "ref").u32(1).u32(2);
        let values = name(name(name(root, "a"), "b").u32(1), "home").bytes();
        let bytes = Writer::default().u32(2).u32(1 << LOCATIONS).u32(0).opaque(&values).bytes();
        let location = |server: &str| Location { server: server.to_owned(), path: names("/home") };
        assert_eq!(locations(&mut Reader::new(&bytes)), Ok(vec![location("a"), location("b")]));
    }

    #[test]
    fn flavors_have_the_names_of_exports() {
        let bytes = Writer::default().u32(2).u32(6).opaque(b"oid").u32(0).u32(3).u32(1).bytes();
        assert_eq!(flavors(&mut Reader::new(&bytes)), Ok(vec![Flavor::Kerberos("krb5p"), Flavor::Sys]));
        assert_eq!(Flavor::of(390_004).name(), "krb5i");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100), depth in 0_usize..9) {
            let _ = (locations(&mut Reader::new(&bytes)), flavors(&mut Reader::new(&bytes)), link(&mut Reader::new(&bytes)));
            let _ = follow(&names("/a/b/c"), depth, &String::from_utf8_lossy(&bytes));
        }
    }
}
