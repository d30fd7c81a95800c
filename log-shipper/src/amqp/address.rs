//! `AMQP_URL`: where the brokers of a cluster are. Form: RabbitMQ's URI specification, with several hosts.

use thiserror::Error;

/// One broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Its name or IP address.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// What an `AMQP_URL` says.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    /// The brokers, any of which will do.
    pub addresses: Vec<Address>,
    /// Whether to use TLS (`amqps`).
    pub tls: bool,
    /// The virtual host.
    pub virtual_host: String,
    /// User and password, if the URL has them.
    pub user: Option<(String, String)>,
}

/// Why an `AMQP_URL` can't be used. Never tells the URL, which may hold a password.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AddressError {
    /// Not a URL.
    #[error("host {index} is not a URL or host name: {reason}")]
    NotUrl {
        /// Which of the comma-separated hosts, counted from 1.
        index: usize,
        /// What is wrong.
        reason: String,
    },
    /// Neither amqp nor amqps.
    #[error("the scheme is {0:?}, and must be amqp or amqps")]
    Scheme(String),
    /// Hosts that don't agree.
    #[error("all hosts must have the same scheme")]
    Mixed,
    /// More than the virtual host.
    #[error("after the virtual host nothing may follow")]
    Path,
}

impl Url {
    /// Parses `amqps://host-1:5671,host-2/vhost`; hosts after the first may have a scheme, too, and the last may bear the
    /// virtual host (`%2f` is `/`, the default).
    ///
    /// # Errors
    ///
    /// [`AddressError`].
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let mut found: Option<Self> = None;
        for (index, part) in text.split(',').map(str::trim).filter(|part| !part.is_empty()).enumerate() {
            let scheme = found.as_ref().map_or("amqp", |url| if url.tls { "amqps" } else { "amqp" });
            let whole = if part.contains("://") { part.to_owned() } else { format!("{scheme}://{part}") };
            let not_url = |reason: String| AddressError::NotUrl { index: index + 1, reason };
            let parsed = url::Url::parse(&whole).map_err(|error| not_url(error.to_string()))?;
            let tls = match parsed.scheme() {
                "amqp" => false,
                "amqps" => true,
                other => return Err(AddressError::Scheme(other.to_owned())),
            };
            let host =
                parsed.host_str().filter(|host| !host.is_empty()).ok_or_else(|| not_url("it has no host".into()))?;
            let host = decode(host.trim_start_matches('[').trim_end_matches(']'));
            let address = Address { host, port: parsed.port().unwrap_or(if tls { 5671 } else { 5672 }) };
            let path = parsed.path().strip_prefix('/').unwrap_or_default();
            if path.contains('/') {
                return Err(AddressError::Path);
            }
            let user = (!parsed.username().is_empty())
                .then(|| (decode(parsed.username()), decode(parsed.password().unwrap_or_default())));
            let url =
                found.get_or_insert_with(|| Self { addresses: Vec::new(), tls, virtual_host: "/".into(), user: None });
            if url.tls != tls {
                return Err(AddressError::Mixed);
            }
            url.addresses.push(address);
            if !path.is_empty() {
                url.virtual_host = decode(path);
            }
            url.user = url.user.take().or(user);
        }
        found.ok_or(AddressError::NotUrl { index: 1, reason: "there is none".into() })
    }
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match hex.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
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
    }

    #[test]
    fn names_are_decoded() {
        let url = Url::parse("amqp://us%40er:p%2Fw@h/%2flogs").unwrap();
        assert_eq!(url.user, Some(("us@er".into(), "p/w".into())));
        assert_eq!(url.virtual_host, "/logs");
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for (text, said) in [
            ("http://h", "\"http\""),
            ("amqp://a,amqps://b", "same scheme"),
            ("amqp://h/a/b", "nothing may follow"),
            ("", "there is none"),
            ("amqp://user:secret@h:port", "host 1"),
        ] {
            let error = Url::parse(text).err().unwrap().to_string();
            assert!(error.contains(said) && !error.contains("secret"), "{error}");
        }
    }
}
