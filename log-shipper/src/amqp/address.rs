//! Parses `AMQP_URL`, the addresses of a cluster's brokers. The format is RabbitMQ's URI specification, with several
//! hosts.

use thiserror::Error;

use super::MOST_SHORT_BYTES;

/// One broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Its name or IP address.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// The content of an `AMQP_URL`.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    /// The brokers, any of which may be used.
    pub addresses: Vec<Address>,
    /// Whether to use TLS (`amqps`).
    pub tls: bool,
    /// The virtual host.
    pub virtual_host: String,
    /// The user, and the password if the URL has one.
    pub user: Option<(String, Option<String>)>,
}

/// Why an `AMQP_URL` is invalid. The message never contains the URL, which may contain a password.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AddressError {
    /// It contains no host.
    #[error("it names no host")]
    Empty,
    /// The scheme is missing, and there is no default.
    #[error("it has no scheme; write amqps:// for TLS, or amqp:// without")]
    NoScheme,
    /// The scheme is neither amqp nor amqps.
    #[error("the scheme must be amqp or amqps")]
    Scheme,
    /// Quotation marks around the value, which Docker's `--env-file` keeps.
    #[error("it begins with a quotation mark; leave out the quotation marks")]
    Quoted,
    /// The hosts have different schemes.
    #[error("all hosts must have the same scheme")]
    Mixed,
    /// The hosts have different users.
    #[error("all hosts must have the same user and password; write them once, at the first host")]
    MixedUsers,
    /// The user or password contains an unescaped character that ends the host.
    #[error(
        "an @ comes after a /, ? or #; in a user, password or virtual host write / as %2f, ? as %3f, # as %23 and @ as %40, \
         or set AMQP_USERNAME and AMQP_PASSWORD"
    )]
    Unescaped,
    /// Queries are specific to RabbitMQ's own clients.
    #[error(
        "it has a query (after ?), which log-shipper ignores; set AMQP_HEARTBEAT, AMQP_CERT_FILE and the like instead"
    )]
    Query,
    /// Fragments have no meaning.
    #[error("it has an unescaped #; write it as %23 in a user, password or virtual host")]
    Fragment,
    /// An @ without a user before it.
    #[error("there is no user before the @; write amqps://USER:PASSWORD@HOST, or set AMQP_USERNAME and AMQP_PASSWORD")]
    NoUser,
    /// One of the hosts is invalid.
    #[error("host {index} is not a host name or address with an optional port: {reason}")]
    Host {
        /// The position of the host in the comma-separated list, from 1.
        index: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// A percent sign that does not begin an escaped character (RFC 3986, section 2.1), or bytes that are not text.
    #[error("a % must begin an escaped character such as %2f; in a user, password or virtual host write % as %25")]
    Percent,
    /// The path has more than one component.
    #[error("nothing may follow the virtual host; write a / in its name as %2f")]
    Path,
    /// The hosts have different virtual hosts.
    #[error("all hosts must have the same virtual host; write it once, at the last host")]
    MixedVirtualHosts,
    /// The virtual host is too long for the protocol.
    #[error("the virtual host has more than {MOST_SHORT_BYTES} bytes")]
    LongVirtualHost,
}

/// The user, and the password if there is one.
type User = (String, Option<String>);

impl Url {
    /// Parses `amqps://host-1:5671,host-2/vhost`; hosts after the first may have a scheme, too, and the last may have
    /// the virtual host (`%2f` is `/`, the default). A comma in the user or password of the first host is a literal
    /// comma (RFC 3986, section 3.2.1).
    ///
    /// # Errors
    ///
    /// [`AddressError`].
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(AddressError::Empty);
        }
        if text.starts_with(['"', '\'']) {
            return Err(AddressError::Quoted);
        }
        let (scheme, mut rest) = text.split_once("://").ok_or(AddressError::NoScheme)?;
        let tls = is_tls(scheme)?;
        let mut url = Self { addresses: Vec::new(), tls, virtual_host: "/".into(), user: None };
        let mut virtual_host = None;
        let mut index = 0;
        loop {
            index += 1;
            if index > 1
                && let Some((scheme, after)) = rest.split_once("://").filter(|(scheme, _)| is_scheme(scheme))
            {
                if is_tls(scheme)? != tls {
                    return Err(AddressError::Mixed);
                }
                rest = after.trim_start();
            }
            let (userinfo, after) = split_user(rest, index == 1)?;
            if let Some(user) = userinfo.map(user).transpose()?
                && url.user.get_or_insert_with(|| user.clone()) != &user
            {
                return Err(AddressError::MixedUsers);
            }
            let end = after.find([',', '/', '?', '#']).unwrap_or(after.len());
            let (host, more) = after.split_at(end);
            url.addresses.push(address(host.trim(), tls, index)?);
            let more = match more.strip_prefix('/') {
                Some(path) => {
                    let end = path.find([',', '?', '#']).unwrap_or(path.len());
                    let (path, more) = path.split_at(end);
                    if path.contains('/') {
                        return Err(AddressError::Path);
                    }
                    if !path.is_empty() {
                        let name = decode(path)?;
                        if virtual_host.get_or_insert_with(|| name.clone()) != &name {
                            return Err(AddressError::MixedVirtualHosts);
                        }
                    }
                    more
                }
                None => more,
            };
            match more.chars().next() {
                None => break,
                Some('?') => return Err(AddressError::Query),
                Some('#') => return Err(AddressError::Fragment),
                Some(_) => rest = more[1..].trim_start(),
            }
            if rest.is_empty() {
                break;
            }
        }
        if let Some(name) = virtual_host {
            url.virtual_host = name;
        }
        if url.virtual_host.len() > MOST_SHORT_BYTES {
            return Err(AddressError::LongVirtualHost);
        }
        Ok(url)
    }
}

fn is_scheme(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn is_tls(scheme: &str) -> Result<bool, AddressError> {
    match scheme.trim().to_ascii_lowercase().as_str() {
        "amqp" => Ok(false),
        "amqps" => Ok(true),
        _ => Err(AddressError::Scheme),
    }
}

/// Splits off the user and password before the host. A late @ means that an earlier character should have been escaped.
fn split_user(text: &str, first: bool) -> Result<(Option<&str>, &str), AddressError> {
    let separators: &[char] = if first { &['/', '?', '#'] } else { &[',', '/', '?', '#'] };
    let element = if first {
        // Another host with a scheme, and perhaps a user, may follow.
        text.find("://").map_or(text, |at| &text[..at])
    } else {
        text
    };
    let authority = &element[..element.find(separators).unwrap_or(element.len())];
    if let Some(at) = authority.rfind('@') {
        return Ok((Some(&text[..at]), &text[at + 1..]));
    }
    let rest = &element[authority.len()..];
    let here = if first { rest } else { &rest[..rest.find(',').unwrap_or(rest.len())] };
    if here.contains('@') { Err(AddressError::Unescaped) } else { Ok((None, text)) }
}

fn user(text: &str) -> Result<User, AddressError> {
    let (user, password) = match text.split_once(':') {
        Some((user, password)) => (user, Some(password).filter(|password| !password.is_empty())),
        None => (text, None),
    };
    if user.is_empty() {
        return Err(AddressError::NoUser);
    }
    Ok((decode(user)?, password.map(decode).transpose()?))
}

fn address(text: &str, tls: bool, index: usize) -> Result<Address, AddressError> {
    let wrong = |reason| AddressError::Host { index, reason };
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or_else(|| wrong("a [ has no ]"))?;
            if host.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(wrong("the brackets do not contain an IPv6 address"));
            }
            if !port.is_empty() && !port.starts_with(':') {
                return Err(wrong("only a port may follow the ], as in [::1]:5671"));
            }
            (host.to_owned(), port.strip_prefix(':'))
        }
        None if text.matches(':').count() > 1 => {
            return Err(wrong(
                "it has several colons: put commas between hosts, and an IPv6 address in brackets, as in [::1]:5671",
            ));
        }
        None => match text.split_once(':') {
            Some((host, port)) => (decode(host)?, Some(port)),
            None => (decode(text)?, None),
        },
    };
    if host.is_empty() {
        return Err(wrong("it has no host"));
    }
    if !host.chars().all(|char| char.is_alphanumeric() || "-._:".contains(char)) {
        return Err(wrong("the host name contains a character that is not allowed"));
    }
    let port = match port {
        None | Some("") => {
            if tls {
                5671
            } else {
                5672
            }
        }
        Some(port) => match port.parse::<u16>() {
            Ok(port) if port > 0 && !text.contains('+') => port,
            _ => {
                return Err(wrong(
                    "the port is not a number from 1 to 65535; if this is a password, escape its / ? # and @",
                ));
            }
        },
    };
    Ok(Address { host, port })
}

fn decode(text: &str) -> Result<String, AddressError> {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let digits = part.get(..2).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).ok_or(AddressError::Percent)?;
        bytes.push(byte);
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).map_err(|_| AddressError::Percent)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hosts(url: &Url) -> Vec<String> {
        url.addresses.iter().map(|address| format!("{}:{}", address.host, address.port)).collect()
    }

    #[test]
    fn several_hosts_share_scheme_and_virtual_host() {
        let url = Url::parse("amqps://a:1, b ,c:3/logs").unwrap();
        assert_eq!(hosts(&url), ["a:1", "b:5671", "c:3"]);
        assert_eq!((url.tls, url.virtual_host.as_str()), (true, "logs"));
        let url = Url::parse("amqp://a,amqp://[::1]:7/").unwrap();
        assert_eq!(hosts(&url), ["a:5672", "::1:7"]);
        assert_eq!(url.virtual_host, "/");
        for text in ["amqp://a/v,b", "amqp://a,b/v", "amqp://a/v,b/v", "amqp://a/,b/v", "amqp://a/%76,b/v"] {
            assert_eq!(Url::parse(text).unwrap().virtual_host, "v", "{text}");
        }
    }

    #[test]
    fn a_virtual_host_is_never_longer_than_the_protocol_allows() {
        let host = |length: usize| Url::parse(&format!("amqp://h/{}", "%c3%a9".repeat(length / 2)));
        assert!(host(254).is_ok());
        assert_eq!(host(256).err(), Some(AddressError::LongVirtualHost));
    }

    #[test]
    fn names_are_decoded() {
        let url = Url::parse("amqp://us%40er:p%2Fw@h/%2flogs").unwrap();
        assert_eq!(url.user, Some(("us@er".into(), Some("p/w".into()))));
        assert_eq!(url.virtual_host, "/logs");
    }

    #[test]
    fn a_comma_may_be_in_a_user_or_password() {
        for (text, user, password, brokers) in [
            ("amqp://logs:1,2@rabbit", "logs", "1,2", &["rabbit:5672"][..]),
            ("amqp://lo,gs:p@a:1,b/v", "lo,gs", "p", &["a:1", "b:5672"]),
            ("amqps://u:p@a,amqps://u:p@b/v", "u", "p", &["a:5671", "b:5671"]),
            ("amqp://u:a@b@h", "u", "a@b", &["h:5672"]),
            ("AMQP://u:p@h,", "u", "p", &["h:5672"]),
        ] {
            let url = Url::parse(text).unwrap();
            assert_eq!(url.user, Some((user.into(), Some(password.into()))), "{text}");
            assert_eq!(hosts(&url), brokers, "{text}");
        }
        assert_eq!(Url::parse("amqp://logs@h").unwrap().user, Some(("logs".into(), None)));
    }

    #[test]
    fn errors_name_what_is_wrong_without_the_password() {
        for (text, expected) in [
            ("http://h", "amqp or amqps"),
            ("amqp://a,amqps://b", "same scheme"),
            ("amqp://h/a/b", "%2f"),
            ("", "no host"),
            ("rabbit.example.org", "no scheme"),
            ("user:secret@h", "no scheme"),
            ("secret://h", "amqp or amqps"),
            ("amqp://", "no host"),
            ("amqp://user:secret@h:port", "host 1"),
            ("amqp://user:12#secret@h", "%23"),
            ("amqp://user:12?secret@h", "%3f"),
            ("amqp://user:12/secret@h", "%2f"),
            ("amqp://user:se#cret@h", "%23"),
            ("amqp://user:secret#x", "escape"),
            ("amqp://h/v?heartbeat=5&verify=verify_none", "AMQP_HEARTBEAT"),
            ("amqp://h?heartbeat=5", "query"),
            ("amqp://h/v#x", "%23"),
            ("amqp://:secret@h", "no user"),
            ("amqp://@h", "no user"),
            ("\"amqp://u:secret@h\"", "quotation"),
            ("'amqps://h'", "quotation"),
            ("amqp://a/secret,b/w", "same virtual host"),
            ("amqp://a/v,amqp://b/%2f", "same virtual host"),
            ("amqp://[::1]5672", "as in [::1]:5671"),
            ("amqp://a:1;b:2", "commas"),
            ("amqp://a:1 b:2", "commas"),
            ("amqp://a,secret#x@b", "%23"),
            ("amqp://u:secret@a,amqp://other:secret@b", "same user"),
            ("amqp://::1", "brackets"),
            ("amqp://[::1", "no ]"),
            ("amqp://h:0", "65535"),
            ("amqp://a b", "not allowed"),
            ("amqp://a;b", "not allowed"),
            ("amqp://a%2fb", "not allowed"),
            ("amqp://u:50%secret@h", "%25"),
            ("amqp://u:secret%@h", "%25"),
            ("amqp://u:secret%2@h", "%25"),
            ("amqp://u:secret%+1@h", "%25"),
            ("amqp://u:secret%éa@h", "%25"),
            ("amqp://u:secret%ff@h", "%25"),
            ("amqp://h/%2", "%25"),
            ("amqp://h%zz", "%25"),
        ] {
            let error = Url::parse(text).err().unwrap_or_else(|| panic!("{text} is taken")).to_string();
            assert!(error.contains(expected) && !error.contains("secret"), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "(amqps?://)?[a-z0-9:,@/?#%\\[\\]. é]{0,40}") {
            let _ = Url::parse(&text);
        }
    }
}
