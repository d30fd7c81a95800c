//! The token server of a registry: issues tokens for the distribution's token authentication.
//!
//! Sources: <https://distribution.github.io/distribution/spec/auth/token/>, `…/auth/jwt/` and `…/auth/oauth/`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine as _};
use rcgen::{CertificateParams, DnType, KeyPair};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::{Value, json};

use crate::{Error, Result, wait};

/// The longest head or form that is read.
const REQUEST_LIMIT: u64 = 64 * 1024;

/// The behavior of a token server.
#[derive(Clone, Debug)]
pub struct TokenAuth {
    /// The login for a token; `None` means anonymous.
    pub password: Option<(String, String)>,
    /// A refresh token that is accepted as well, through the OAuth 2 form.
    pub identity_token: Option<String>,
    /// The life of a token, in seconds. The specification's minimum is 60; shorter is for tests of renewal.
    pub expires_in: u64,
}

impl Default for TokenAuth {
    fn default() -> Self {
        TokenAuth { password: None, identity_token: None, expires_in: 300 }
    }
}

/// A running token server, on plain HTTP at the loopback address.
#[derive(Debug)]
pub struct TokenServer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    auth: TokenAuth,
    key: EcdsaKeyPair,
    certificate: rcgen::Certificate,
    requests: AtomicU64,
    refused: AtomicU64,
    over: AtomicBool,
}

impl TokenServer {
    /// Starts it on a free port.
    pub fn start(auth: TokenAuth) -> Result<TokenServer> {
        let failed =
            |error: &dyn std::fmt::Display| Error::Missing(format!("cannot make the token server's key: {error}"));
        let pair = KeyPair::generate().map_err(|error| failed(&error))?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "testbed tokens");
        let certificate = params.self_signed(&pair).map_err(|error| failed(&error))?;
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pair.serialize_der(), &random)
            .map_err(|error| failed(&error))?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(Error::io("listen for token requests"))?;
        let address = listener.local_addr().map_err(Error::io("listen for token requests"))?;
        let (requests, refused, over) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
        let shared = Arc::new(Shared { auth, key, certificate, requests, refused, over });
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if serving.over.load(Ordering::Relaxed) {
                    return;
                }
                let serving = Arc::clone(&serving);
                if let Ok(stream) = stream {
                    // A client that disconnects during a request does not fail the test.
                    thread::spawn(move || serving.answer(stream).ok());
                }
            }
        });
        Ok(TokenServer { address, shared })
    }

    /// The address in the registry's challenge.
    pub fn realm(&self) -> String {
        format!("http://{}/token", self.address)
    }

    /// The service in tokens.
    pub fn service(&self) -> &'static str {
        "testbed-registry"
    }

    /// The issuer in tokens.
    pub fn issuer(&self) -> &'static str {
        "testbed-tokens"
    }

    /// The certificate of the signing key, in PEM.
    pub fn certificate(&self) -> String {
        self.shared.certificate.pem()
    }

    /// How many tokens were requested.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// How many of these requests were refused.
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }

    /// A token, valid for a day, with all permissions on one repository.
    pub fn token_for(&self, repository: &str) -> Result<String> {
        let access = json!([{"type": "repository", "name": repository, "actions": ["pull", "push", "delete"]}]);
        self.shared.sign(access, 86_400)
    }
}

impl Drop for TokenServer {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address); // wakes the listening thread
    }
}

impl Shared {
    fn answer(&self, stream: TcpStream) -> std::io::Result<()> {
        stream.set_read_timeout(Some(wait::LIMIT))?;
        let mut writer = stream.try_clone()?;
        let mut reader = BufReader::new(stream.take(REQUEST_LIMIT));
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let (mut basic, mut length) = (None, 0_u64);
        loop {
            let mut header = String::new();
            if reader.read_line(&mut header)? == 0 || header.trim().is_empty() {
                break;
            }
            match header.split_once(':').map(|(name, value)| (name.to_ascii_lowercase(), value.trim())) {
                Some((name, value)) if name == "authorization" => {
                    basic = value.strip_prefix("Basic ").map(str::to_owned);
                }
                Some((name, value)) if name == "content-length" => length = value.parse().unwrap_or(0),
                _ => {}
            }
        }
        let mut form = String::new();
        reader.take(length).read_to_string(&mut form)?;
        let query = if form.is_empty() { target.split_once('?').map_or("", |(_, query)| query) } else { &form };
        let fields: Vec<(String, String)> =
            url::form_urlencoded::parse(query.as_bytes()).map(|(name, value)| (name.into(), value.into())).collect();
        let (status, body) = self.decide(basic.as_deref(), &fields, !form.is_empty());
        self.requests.fetch_add(1, Ordering::Relaxed);
        let body = body.to_string();
        write!(
            writer,
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
    }

    fn decide(&self, basic: Option<&str>, fields: &[(String, String)], oauth: bool) -> (&'static str, Value) {
        let field = |wanted: &str| fields.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
        let given = basic
            .and_then(|text| BASE64_STANDARD.decode(text).ok())
            .map(|text| String::from_utf8_lossy(&text).into_owned());
        let given = given.or_else(|| Some(format!("{}:{}", field("username")?, field("password")?)));
        let known = match (&self.auth.password, &self.auth.identity_token) {
            (_, Some(token)) if field("refresh_token").is_some() => field("refresh_token") == Some(token),
            (Some((user, password)), _) => given == Some(format!("{user}:{password}")),
            (None, Some(_)) => false,
            (None, None) => true,
        };
        if !known {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return ("401 Unauthorized", json!({"errors": [{"code": "UNAUTHORIZED", "message": "wrong credentials"}]}));
        }
        let scopes = fields.iter().filter(|(name, _)| name == "scope").flat_map(|(_, value)| value.split(' '));
        let access: Vec<Value> = scopes.filter_map(access).collect();
        match self.sign(Value::Array(access), self.auth.expires_in) {
            Ok(token) => {
                let name = if oauth { "access_token" } else { "token" };
                ("200 OK", json!({name: token, "expires_in": self.auth.expires_in}))
            }
            Err(error) => ("500 Internal Server Error", json!({"errors": [{"message": error.to_string()}]})),
        }
    }

    fn sign(&self, access: Value, expires_in: u64) -> Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let head = json!({"typ": "JWT", "alg": "ES256", "x5c": [BASE64_STANDARD.encode(self.certificate.der())]});
        let claims = json!({
            "iss": "testbed-tokens", "sub": "testbed", "aud": "testbed-registry", "jti": now.to_string(),
            // The registry accepts a token for another minute after it expires; this server refuses it once it has expired.
            "iat": now, "nbf": now.saturating_sub(5), "exp": (now + expires_in).saturating_sub(60), "access": access,
        });
        let encode = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(&head), encode(&claims));
        let signature = self
            .key
            .sign(&SystemRandom::new(), signed.as_bytes())
            .map_err(|error| Error::Missing(format!("cannot sign a token: {error}")))?;
        Ok(format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// `repository:owner/name:pull,push` as the claim that grants it.
fn access(scope: &str) -> Option<Value> {
    let (kind, rest) = scope.split_once(':')?;
    let (name, actions) = rest.rsplit_once(':')?;
    Some(json!({"type": kind, "name": name, "actions": actions.split(',').collect::<Vec<_>>()}))
}
