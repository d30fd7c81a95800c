//! Docker's credential helpers: `docker-credential-<name> get`, the server on stdin, JSON on stdout
//! (docker-credential-helpers, "Development").

use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use sidecar::secret::Secret;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use super::Login;

/// How long a helper may run. It may open a window or ask a cloud.
const LONGEST_RUN: Duration = Duration::from_secs(30);

const MOST_BYTES: u64 = 256 * 1024;

/// The helpers' user name for a bare token.
const TOKEN_NAME: &str = "<token>";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    // Docker reads the names in any case.
    #[serde(default, alias = "username")]
    username: String,
    #[serde(default, alias = "secret")]
    secret: String,
}

/// A helper's login for a server; `None` if it has none.
///
/// # Errors
///
/// Why it failed, without secrets.
pub(super) async fn ask(name: &str, server: &str) -> Result<Option<Login>, String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || !name.chars().all(is_name) {
        return Err(format!("{name:?} is not the name of a credential helper"));
    }
    let program = format!("docker-credential-{name}");
    let answered = tokio::time::timeout(LONGEST_RUN, run(&program, server)).await;
    let answered = answered.unwrap_or_else(|_| Err(format!("took longer than {} s", LONGEST_RUN.as_secs())));
    answered.map_err(|error| format!("the credential helper {program} {error}"))
}

async fn run(program: &str, server: &str) -> Result<Option<Login>, String> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => "is not installed".to_owned(),
        _ => format!("did not run: {error}"),
    };
    let mut child = Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that ends without reading its input has written its whole answer.
        let _ = stdin.write_all(format!("{server}\n").as_bytes()).await;
    }
    let mut output = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(MOST_BYTES).read_to_end(&mut output).await.map_err(failed)?;
    }
    let status = child.wait().await.map_err(failed)?;
    if status.success() {
        return read(&output).ok_or_else(|| "printed no valid credentials".to_owned());
    }
    let message: String = String::from_utf8_lossy(&output).chars().filter(|c| !c.is_control()).take(200).collect();
    if message.contains("credentials not found") {
        return Ok(None);
    }
    Err(format!("failed ({status}){}{message}", if message.is_empty() { "" } else { ": " }))
}

/// `None` for other JSON, `Some(None)` for an answer without credentials.
fn read(output: &[u8]) -> Option<Option<Login>> {
    let answer: Answer = serde_json::from_slice(output).ok()?;
    Some(match (answer.username.as_str(), answer.secret.is_empty()) {
        (_, true) | ("", _) => None,
        (TOKEN_NAME, _) => Some(Login::IdentityToken(Secret::new(answer.secret))),
        (username, _) => Some(Login::new(username, &answer.secret)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_helpers_print() {
        let basic = read(br#"{"ServerURL":"r.example.org","Username":"me","Secret":"s"}"#).unwrap().unwrap();
        assert_eq!(basic, Login::new("me", "s"));
        assert_eq!(read(br#"{"username":"me","secret":"s"}"#), Some(Some(Login::new("me", "s"))));
        let token = read(br#"{"ServerURL":"r.example.org","Username":"<token>","Secret":"s"}"#).unwrap().unwrap();
        assert_eq!(token, Login::IdentityToken(Secret::new("s")));
        assert_eq!(read(br#"{"Username":"","Secret":""}"#), Some(None));
        assert_eq!(read(b"credentials"), None);
    }

    #[tokio::test]
    async fn programs_that_know_nothing_fail_or_never_read() {
        let folder = tempfile::tempdir().unwrap();
        let program = |name: &str, script: &str| {
            let path = folder.path().join(name);
            // Written by another process, because a test that forks meanwhile would keep the file open and busy.
            let write = format!("printf '%s\\n' '#!/bin/sh' '{script}' > {0} && chmod 755 {0}", path.display());
            assert!(std::process::Command::new("sh").args(["-c", &write]).status().unwrap().success());
            path.display().to_string()
        };
        let run = |program: String| async move { run(&program, "r.example.org").await };
        let json = r#"echo "{\"Username\":\"me\",\"Secret\":\"s\"}""#;
        assert_eq!(run(program("deaf", json)).await, Ok(Some(Login::new("me", "s"))));
        let unknown = program("unknown", "echo credentials not found in native keychain; exit 1");
        assert_eq!(run(unknown).await, Ok(None));
        for (name, script, expected) in [
            ("broken", "echo no session; exit 3", "no session"),
            ("silent", "exit 0", "printed no valid credentials"),
            ("endless", "yes", "failed ("),
        ] {
            let error = run(program(name, script)).await.unwrap_err();
            assert!(error.contains(expected), "{name}: {error}");
        }
    }

    #[tokio::test]
    async fn a_name_that_is_a_path_and_a_missing_helper_are_errors() {
        for (name, expected) in
            [("../x", "not the name"), ("", "not the name"), ("labhands-missing", "is not installed")]
        {
            let error = ask(name, "r.example.org").await.unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
