//! A real RabbitMQ with a separate state, node name and ports, over plain TCP and TLS, with passwords and client
//! certificates.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::process::Signal;
use sha2::{Digest, Sha256};

use crate::certificates::Authority;
use crate::enclosure::Enclosure;
use crate::folder::Folder;
use crate::packages::{self, Part};
use crate::process::Process;
use crate::{Error, Result, command, ports};

/// How long it may take to stop normally.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// The programs for root; those in `/usr/sbin` would change to another user.
const PROGRAMS: &str = "/usr/lib/rabbitmq/bin";

/// The name in its certificate.
const HOST: &str = "localhost";

/// A user that logs in with [`PASSWORD`].
pub const USER: &str = "shipper";
/// That user's password.
pub const PASSWORD: &str = "a test's password";
/// A user without password, for a certificate with this common name.
pub const CERTIFIED_USER: &str = "certified";

/// A running broker. Both users may do everything in the virtual host `/`.
#[derive(Debug)]
pub struct RabbitMq {
    server: Option<Process>,
    /// Contains the server, and the port mapper that it starts.
    enclosure: Option<Enclosure>,
    environment: Vec<(&'static str, String)>,
    plain: u16,
    tls: u16,
    folder: Folder,
}

impl RabbitMq {
    /// Starts a broker and waits until it listens.
    pub fn start() -> Result<RabbitMq> {
        packages::require(Part::RabbitMq)?;
        let folder = Folder::new("rabbitmq")?;
        let [plain, tls, mapper, distribution] = ports::free()?;
        let authority = Authority::new("testbed")?;
        let server = authority.issue(HOST, None, &[HOST, "127.0.0.1"])?;
        let client = authority.issue(CERTIFIED_USER, None, &[])?;
        let ca = folder.write("ca.crt", authority.certificate())?;
        let certificate = folder.write("server.crt", &server.certificate)?;
        let key = folder.write("server.key", &server.key)?;
        folder.write("client.crt", &client.certificate)?;
        folder.write("client.key", &client.key)?;
        let definitions = folder.write("definitions.json", definitions())?;
        let plugins = folder.write("plugins", "[rabbitmq_auth_mechanism_ssl].")?;
        folder.folder("home")?;
        let configuration = format!(
            "listeners.tcp.1 = 127.0.0.1:{plain}\nlisteners.ssl.1 = 127.0.0.1:{tls}\n\
             load_definitions = {}\n\
             ssl_options.cacertfile = {}\nssl_options.certfile = {}\nssl_options.keyfile = {}\n\
             ssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = false\n\
             ssl_cert_login_from = common_name\n\
             auth_mechanisms.1 = PLAIN\nauth_mechanisms.2 = EXTERNAL\n\
             disk_free_limit.absolute = 50MB\n",
            definitions.display(),
            ca.display(),
            certificate.display(),
            key.display(),
        );
        let configuration = folder.write("rabbitmq.conf", configuration)?;
        let path = |name: &str| folder.join(name).display().to_string();
        let environment = vec![
            ("HOME", path("home")),
            ("RABBITMQ_MNESIA_BASE", path("state")),
            ("RABBITMQ_LOG_BASE", path("logs")),
            ("RABBITMQ_PID_FILE", path("pid")),
            ("RABBITMQ_CONFIG_FILE", configuration.display().to_string()),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", plugins.display().to_string()),
            ("RABBITMQ_NODENAME", format!("testbed{plain}@{HOST}")),
            ("RABBITMQ_DIST_PORT", distribution.to_string()),
            ("ERL_EPMD_PORT", mapper.to_string()),
            ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
        ];
        let mut this = RabbitMq { server: None, enclosure: None, environment, plain, tls, folder };
        this.resume()?;
        Ok(this)
    }

    /// The address for plain connections.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.plain).into()
    }

    /// The address for TLS connections, as `localhost`.
    pub fn tls_address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.tls).into()
    }

    /// Its certificate authority, and certificate and key of [`CERTIFIED_USER`], as PEM files.
    pub fn client_files(&self) -> [PathBuf; 3] {
        ["ca.crt", "client.crt", "client.key"].map(|name| self.folder.join(name))
    }

    /// Stops it normally.
    pub fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.signal(Signal::TERM);
            let _ = server.wait(STOP_LIMIT); // it is killed if it does not end
        }
        self.enclosure = None;
    }

    /// Kills it, like a machine failure.
    pub fn kill(&mut self) {
        // The enclosure's end ends all processes in it.
        self.enclosure = None;
        self.server = None;
    }

    /// Starts it again with its stored data.
    pub fn resume(&mut self) -> Result<()> {
        let enclosure = Enclosure::start(&self.folder)?;
        let mut start = enclosure.command("env");
        start.args(self.environment.iter().map(|(name, value)| format!("{name}={value}")));
        start.arg(format!("{PROGRAMS}/rabbitmq-server"));
        let mut server = enclosure.process("rabbitmq", &start, &self.folder.join("log"))?;
        for address in [self.address(), self.tls_address()] {
            server.ready("listen", || TcpStream::connect(address).ok())?;
        }
        (self.server, self.enclosure) = (Some(server), Some(enclosure));
        Ok(())
    }

    /// Runs `rabbitmqctl` (about two seconds) and returns its output.
    pub fn control(&self, arguments: &[&str]) -> Result<String> {
        command::run(self.control_command()?.arg("--quiet").args(arguments))
    }

    /// A program that is this broker's `rabbitmqctl`, for scripts that run it.
    pub fn control_program(&self) -> Result<PathBuf> {
        let run = self.control_command()?;
        let words = [run.get_program()].into_iter().chain(run.get_args()).map(|word| quoted(&word.to_string_lossy()));
        let words: Vec<String> = words.collect();
        let path = self.folder.write("rabbitmqctl", format!("#!/bin/sh\nexec {} \"$@\"\n", words.join(" ")))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))
            .map_err(Error::io("allow its execution"))?;
        Ok(path)
    }

    fn control_command(&self) -> Result<Command> {
        let enclosure = self
            .enclosure
            .as_ref()
            .ok_or_else(|| Error::Missing("the broker is not running: resume it first".into()))?;
        let mut run: Command = enclosure.command("env");
        run.args(self.environment.iter().map(|(name, value)| format!("{name}={value}")));
        run.arg(format!("{PROGRAMS}/rabbitmqctl"));
        Ok(run)
    }
}

impl Drop for RabbitMq {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Quotes a word for a shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// Users, virtual host and permissions (RabbitMQ: "Definition Export and Import", "Credential Hashing").
fn definitions() -> String {
    let salt = [1, 2, 3, 4];
    let hash = Sha256::new().chain_update(salt).chain_update(PASSWORD).finalize();
    let hashed = STANDARD.encode([&salt[..], &hash].concat());
    let user = |name: &str, hash: &str| {
        serde_json::json!({
            "name": name, "password_hash": hash, "tags": "",
            "hashing_algorithm": "rabbit_password_hashing_sha256",
        })
    };
    let permission =
        |name: &str| serde_json::json!({"user": name, "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"});
    serde_json::json!({
        "vhosts": [{"name": "/"}],
        "users": [user(USER, &hashed), user(CERTIFIED_USER, "")],
        "permissions": [permission(USER), permission(CERTIFIED_USER)],
    })
    .to_string()
}
