//! A real registry (CNCF distribution, Debian's `docker-registry`): open, with a password, or with token authentication.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use base64::prelude::{BASE64_STANDARD, Engine as _};

use crate::certificates::Authority;
use crate::folder::Folder;
use crate::http::Client;
use crate::packages::{self, Part};
use crate::process::Process;
use crate::token_server::{TokenAuth, TokenServer};
use crate::{Error, Result, ports};

/// The options of a registry; the default is open, plain HTTP, on a free loopback port.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Ask for this user and password (basic authentication).
    pub password: Option<(String, String)>,
    /// Ask for a bearer token of a separate token server.
    pub token: Option<TokenAuth>,
    /// Speak TLS with a certificate of a private authority.
    pub tls: bool,
    /// Listen on this port; a free one if `None`.
    pub port: Option<u16>,
}

/// A running registry; pushes and deletes are allowed.
#[derive(Debug)]
pub struct Registry {
    process: Process,
    port: u16,
    authority: Option<String>,
    basic: Option<String>,
    token_server: Option<TokenServer>,
    configuration: PathBuf,
    folder: Folder,
}

impl Registry {
    /// An open registry on plain HTTP.
    pub fn start() -> Result<Registry> {
        Registry::with(&Options::default())
    }

    /// A registry that asks for a user and password.
    pub fn with_password(user: &str, password: &str) -> Result<Registry> {
        Registry::with(&Options { password: Some((user.into(), password.into())), ..Options::default() })
    }

    /// A registry that asks for a token, and the server that issues it, as Docker Hub, GHCR and Harbor do.
    pub fn with_token_auth(token: TokenAuth) -> Result<Registry> {
        Registry::with(&Options { token: Some(token), ..Options::default() })
    }

    /// A registry with these options.
    pub fn with(options: &Options) -> Result<Registry> {
        packages::require(Part::Registry)?;
        let folder = Folder::new("registry")?;
        // In memory, because the registry syncs the disk for every tag: 30 ms each.
        folder.in_memory("storage")?;
        let token_server = options.token.clone().map(TokenServer::start).transpose()?;
        let authority = options.tls.then(|| tls_files(&folder)).transpose()?;
        let basic = options.password.as_ref();
        let basic =
            basic.map(|(user, password)| format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}"))));
        let [free] = ports::free()?;
        let port = options.port.unwrap_or(free);
        let configuration = configuration(options, &folder, token_server.as_ref(), port)?;
        let configuration = folder.write("config.yml", configuration)?;
        let process = serve(&folder, &configuration)?;
        Ok(Registry { process, port, authority, basic, token_server, configuration, folder })
    }

    /// `127.0.0.1:PORT`, as in image references.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The port on the loopback address.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `http://127.0.0.1:PORT`, or `https://…`.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.authority.is_some() { "https" } else { "http" }, self.host())
    }

    /// The certificate (PEM) to trust, if it speaks TLS.
    pub fn authority(&self) -> Option<&str> {
        self.authority.as_deref()
    }

    /// The server that issues its tokens, if it asks for one.
    pub fn token_server(&self) -> Option<&TokenServer> {
        self.token_server.as_ref()
    }

    /// A client with all permissions on one of its repositories.
    pub fn client(&self, repository: &str) -> Result<Client> {
        let bearer = self.token_server.as_ref().map(|server| server.token_for(repository)).transpose()?;
        Client::new(self.authority(), bearer.map(|token| format!("Bearer {token}")).or_else(|| self.basic.clone()))
    }

    /// The folder of its file system storage driver.
    pub fn storage(&self) -> PathBuf {
        self.folder.join("storage")
    }

    /// The registry's process, to pause or kill it.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Its log, with a line for each request.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.process.log()).unwrap_or_default()
    }

    /// Stops it; its content and port are kept for [`Registry::start_again`].
    pub fn stop(&mut self) {
        self.process.kill(); // SIGTERM would do nothing that a test needs
    }

    /// Starts it again on the same port with the same content.
    pub fn start_again(&mut self) -> Result<()> {
        self.process = serve(&self.folder, &self.configuration)?;
        Ok(())
    }
}

fn serve(folder: &Folder, configuration: &PathBuf) -> Result<Process> {
    let log = folder.join("registry.log");
    let before = std::fs::metadata(&log).map_or(0, |log| log.len());
    let mut command = Command::new("docker-registry");
    command.arg("serve").arg(configuration);
    let mut process = Process::start("docker-registry", &command, &log)?;
    process.ready("listen", || {
        let text = std::fs::read_to_string(&log).ok()?;
        text.get(usize::try_from(before).ok()?..)?.contains("msg=\"listening on").then_some(())
    })?;
    Ok(process)
}

fn configuration(options: &Options, folder: &Folder, token_server: Option<&TokenServer>, port: u16) -> Result<String> {
    let mut text = format!(
        "version: 0.1\nlog: {{accesslog: {{disabled: false}}, level: info}}\n\
         storage: {{filesystem: {{rootdirectory: {root}, maxthreads: 100}}, delete: {{enabled: true}}}}\n\
         http:\n  addr: 127.0.0.1:{port}\n  secret: testbed\n",
        root = folder.join("storage").display()
    );
    if options.tls {
        let path = folder.path().display();
        let _ = writeln!(text, "  tls: {{certificate: {path}/tls.crt, key: {path}/tls.key}}");
    }
    if let Some((user, password)) = &options.password {
        let file = folder.write("htpasswd", format!("{user}:{}\n", bcrypt(password)?))?;
        let _ = writeln!(text, "auth: {{htpasswd: {{realm: testbed, path: {}}}}}", file.display());
    } else if let Some(server) = token_server {
        let roots = folder.write("token-roots.pem", server.certificate())?;
        let _ = writeln!(
            text,
            "auth: {{token: {{realm: \"{}\", service: {}, issuer: {}, rootcertbundle: {}}}}}",
            server.realm(),
            server.service(),
            server.issuer(),
            roots.display()
        );
    }
    Ok(text)
}

/// Writes the server's certificate and key, and returns the authority's certificate.
fn tls_files(folder: &Folder) -> Result<String> {
    let authority = Authority::new("testbed registry")?;
    let server = authority.issue("127.0.0.1", None, &["127.0.0.1", "localhost"])?;
    folder.write("tls.crt", server.certificate)?;
    folder.write("tls.key", server.key)?;
    Ok(authority.certificate())
}

/// The bcrypt hash of a password, by the system's own `crypt(3)`: perl is on every Debian.
fn bcrypt(password: &str) -> Result<String> {
    let script = r#"print crypt(do { local $/; <STDIN> }, '$2y$05$testbedtestbedtestbed.')"#;
    let failed = || Error::io("hash a password with perl");
    let mut perl = Command::new("perl")
        .args(["-e", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed())?;
    if let Some(mut stdin) = perl.stdin.take() {
        stdin.write_all(password.as_bytes()).map_err(failed())?;
    }
    let output = perl.wait_with_output().map_err(failed())?;
    let hash = String::from_utf8_lossy(&output.stdout).into_owned();
    if hash.starts_with("$2y$") {
        Ok(hash)
    } else {
        Err(Error::Missing("crypt(3) without bcrypt: install libcrypt1".into()))
    }
}
