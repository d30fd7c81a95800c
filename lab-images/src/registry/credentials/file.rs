//! Parses a dockerconfigjson as Docker, containers and kubelet do. An invalid entry is reported and skipped.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Map, Value};
use sidecar::secret::Secret;
use thiserror::Error;

use super::Login;
use super::key::Key;

const MOST_BYTES: u64 = 1024 * 1024;

/// Other programs write base64 with or without padding.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);

/// Why a file of credentials cannot be used.
#[derive(Debug, Error)]
pub enum CredentialsError {
    /// It could not be read.
    #[error("cannot read the credentials in {path}: {error}; REGISTRY_AUTH_FILE names a dockerconfigjson")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
    /// It is not a dockerconfigjson.
    #[error(
        "REGISTRY_AUTH_FILE {path} is not a dockerconfigjson: {reason}; create it with docker login or kubectl create secret docker-registry"
    )]
    Form {
        /// The file.
        path: PathBuf,
        /// The position of the error, never content.
        reason: String,
    },
}

/// The content of a file.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) entries: Vec<(Key, Login)>,
    /// Helper programs for single registries.
    pub(super) helpers: Vec<(Key, String)>,
    /// The program for all other registries.
    pub(super) store: Option<String>,
    /// Entries that are invalid, and why.
    pub(super) notes: Vec<(Key, String)>,
}

impl Contents {
    /// Describes the settings with helper programs.
    pub(super) fn named_helpers(&self) -> Option<String> {
        let store = self.store.iter().map(|name| format!("credsStore {name:?}"));
        let helpers = self.helpers.iter().map(|(_, name)| format!("credHelpers {name:?}"));
        let named: Vec<String> = store.chain(helpers).collect();
        (!named.is_empty()).then(|| named.join(", "))
    }
}

/// Reads a file.
pub(super) fn read(path: &Path) -> Result<Contents, CredentialsError> {
    let failed = |error| CredentialsError::Read { path: path.to_owned(), error };
    let wrong = |reason: String| CredentialsError::Form { path: path.to_owned(), reason };
    if std::fs::metadata(path).map_err(failed)?.len() > MOST_BYTES {
        return Err(wrong("it is too large".to_owned()));
    }
    let bytes = std::fs::read(path).map_err(failed)?;
    parse(&bytes).map_err(wrong)
}

/// Errors contain the position and not the content, which may be a password.
fn parse(bytes: &[u8]) -> Result<Contents, String> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let value: Value = serde_json::from_slice(bytes)
        .map_err(|error| format!("invalid JSON at line {}, column {}", error.line(), error.column()))?;
    let Value::Object(mut file) = value else { return Err("line 1 does not begin a JSON object".to_owned()) };
    let mut take = |name: &str| match file.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(map)) => Ok(Some(map)),
        Some(_) => Err(format!("{name} is not an object")),
    };
    let (auths, helpers) = (take("auths")?, take("credHelpers")?);
    let store = file.get("credsStore").and_then(Value::as_str).filter(|name| !name.is_empty()).map(str::to_owned);
    let auths = match auths {
        Some(auths) => auths,
        // In the form before `auths` (.dockercfg), the map is the whole file.
        None if helpers.is_none() && store.is_none() && is_old_form(&file) => file,
        None => Map::new(),
    };
    let mut contents = Contents { store, ..Contents::default() };
    for (key, entry) in auths {
        let key_of = Key::new(&key);
        match login(&entry) {
            Ok(Some(login)) => contents.entries.push((key_of, login)),
            Ok(None) => {}
            Err(reason) => contents.notes.push((key_of, format!("the entry for {key:?} is ignored: {reason}"))),
        }
    }
    for (key, name) in helpers.unwrap_or_default() {
        match name.as_str() {
            Some("") => {}
            Some(name) => contents.helpers.push((Key::new(&key), name.to_owned())),
            None => {
                contents.notes.push((Key::new(&key), format!("the helper for {key:?} is ignored: it is not a string")));
            }
        }
    }
    Ok(contents)
}

fn is_old_form(file: &Map<String, Value>) -> bool {
    const FIELDS: [&str; 5] = ["auth", "username", "password", "identitytoken", "registrytoken"];
    file.values().any(|entry| FIELDS.iter().any(|field| entry.get(field).is_some()))
}

/// `Ok(None)` for an empty entry, which `docker login` with a helper writes.
fn login(entry: &Value) -> Result<Option<Login>, &'static str> {
    let entry = match entry {
        Value::Null => return Ok(None),
        Value::Object(entry) => entry,
        _ => return Err("it is not an object"),
    };
    let field = |name: &str| match entry.get(name) {
        None | Some(Value::Null) => Ok(""),
        Some(Value::String(text)) => Ok(text.as_str()),
        Some(_) => Err("one of its fields is not a string"),
    };
    let token = field("identitytoken")?;
    if !token.is_empty() {
        return Ok(Some(Login::IdentityToken(Secret::new(token))));
    }
    let token = field("registrytoken")?;
    if !token.is_empty() {
        return Ok(Some(Login::RegistryToken(Secret::new(token))));
    }
    // Like Docker and kubelet: `auth` before the two single fields.
    let auth: String = field("auth")?.split_whitespace().collect();
    let (username, password) = (field("username")?, field("password")?);
    match decoded(&auth) {
        Some((username, password)) => Ok(Some(Login::new(&username, &password))),
        None if !username.is_empty() => Ok(Some(Login::new(line(username), line(password)))),
        None if auth.is_empty() => Ok(None),
        None => Err("its auth is not the base64 of name:password"),
    }
}

/// The name and the password in an `auth`.
fn decoded(auth: &str) -> Option<(String, String)> {
    let decode = |alphabet| GeneralPurpose::new(alphabet, LENIENT).decode(auth);
    let bytes = decode(&alphabet::STANDARD).or_else(|_| decode(&alphabet::URL_SAFE)).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    line(&text).split_once(':').map(|(username, password)| (username.to_owned(), password.to_owned()))
}

/// A text without the end of line that `echo` and editors add.
fn line(text: &str) -> &str {
    text.trim_end_matches(['\0', '\n', '\r'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE};
    use proptest::prelude::*;

    fn pair(login: &Login) -> String {
        match login {
            Login::Basic { username, password } => format!("{username}:{}", password.expose()),
            Login::IdentityToken(token) => format!("identity {}", token.expose()),
            Login::RegistryToken(token) => format!("registry {}", token.expose()),
        }
    }

    #[test]
    fn auth_is_read_in_the_forms_of_other_programs() {
        let plain = "me:p\u{e4}ss??>>~w:rd";
        let wrapped = STANDARD.encode(plain);
        let wrapped = format!("{}\\n{}\\n", &wrapped[..10], &wrapped[10..]);
        for auth in [STANDARD.encode(plain), STANDARD_NO_PAD.encode(plain), URL_SAFE.encode(plain), wrapped] {
            let contents = parse(format!(r#"{{"auths":{{"r.example.org":{{"auth":"{auth}"}}}}}}"#).as_bytes()).unwrap();
            assert_eq!(contents.entries.iter().map(|(_, login)| pair(login)).collect::<Vec<_>>(), [plain], "{auth}");
        }
    }

    #[test]
    fn auth_counts_before_the_single_fields_as_for_docker_and_kubelet() {
        for (entry, expected) in [
            (r#""auth":"bWU6bmV3","username":"me","password":"old""#, "me:new"),
            (r#""auth":"bWU6bmV3","username":"me""#, "me:new"),
            (r#""auth":"bWU6bmV3","username":"me","password":"""#, "me:new"),
            (r#""auth":"","username":"me","password":"new""#, "me:new"),
            (r#""auth":"%%%","username":"me","password":"new""#, "me:new"),
            (r#""username":"me","password":"new\n""#, "me:new"),
            (r#""username":"me\r\n","password":"two\nlines""#, "me:two\nlines"),
            (r#""auth":"bWU6bmV3Cg==""#, "me:new"),
        ] {
            let contents = parse(format!(r#"{{"auths":{{"r.example.org":{{{entry}}}}}}}"#).as_bytes()).unwrap();
            assert_eq!(
                contents.entries.iter().map(|(_, login)| pair(login)).collect::<Vec<_>>(),
                [expected],
                "{entry}"
            );
        }
    }

    #[test]
    fn an_invalid_entry_gives_a_note_and_null_means_absent() {
        for (json, entries, notes) in [
            (r#"{"auths":{"a":{"auth":"%%%"},"b":{"username":"u","password":"p"}}}"#, 1, 1),
            (r#"{"auths":{"a":{"auth":7},"b":[],"c":7}}"#, 0, 3),
            (r#"{"auths":{"a":{"auth":"bm9jb2xvbg=="}}}"#, 0, 1),
            (r#"{"auths":{"a":{"auth":"dTpw","username":null,"password":null,"identitytoken":null}}}"#, 1, 0),
            (r#"{"auths":{"a":null,"b":{}},"credsStore":null,"credHelpers":null}"#, 0, 0),
            (r#"{"auths":null}"#, 0, 0),
            (r#"{"a":{"auth":"dTpw"}}"#, 1, 0),
            (r#"{"HttpHeaders":{"User-Agent":"x"}}"#, 0, 0),
            (r#"{"credHelpers":{"a":7,"b":"ecr-login"}}"#, 0, 1),
            ("{}", 0, 0),
        ] {
            let contents = parse(json.as_bytes()).unwrap();
            assert_eq!(
                (contents.entries.len(), contents.notes.len()),
                (entries, notes),
                "{json}: {:?}",
                contents.notes
            );
        }
    }

    #[test]
    fn errors_name_what_is_wrong_without_the_secret() {
        for (json, expected) in [
            ("7", "line 1"),
            (r#"{"auths":{"a":{"auth":"hunter2"#, "line 1"),
            (r#"{"auths":["hunter2"]}"#, "auths is not an object"),
        ] {
            let error = parse(json.as_bytes()).unwrap_err();
            assert!(error.contains(expected) && !error.contains("hunter2"), "{error}");
        }
        let contents = parse(br#"{"auths":{"a":{"auth":"hunter2!"}}}"#).unwrap();
        assert!(contents.notes[0].1.contains("\"a\"") && !contents.notes[0].1.contains("hunter2"), "{contents:?}");
        let error = read(Path::new("/nonexistent/auth")).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/auth"), "{error}");
    }

    #[test]
    fn helpers_are_named() {
        let contents = parse(br#"{"credsStore":"desktop","credHelpers":{"r.example.org":"ecr-login"}}"#).unwrap();
        assert_eq!(contents.named_helpers().unwrap(), r#"credsStore "desktop", credHelpers "ecr-login""#);
        assert_eq!(parse(b"{}").unwrap().named_helpers(), None);
    }

    proptest! {
        #[test]
        fn no_file_makes_it_panic(text in ".{0,200}", auth in "[A-Za-z0-9+/=_-]{0,40}") {
            let _ = parse(text.as_bytes());
            let _ = parse(format!(r#"{{"auths":{{"a":{{"auth":"{auth}"}}}}}}"#).as_bytes());
        }
    }
}
