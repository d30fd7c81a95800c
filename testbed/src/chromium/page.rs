//! A page that stays open, to be clicked through: the DevTools protocol over the browser's pipe.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};

use super::{Look, SWITCHES};
use crate::folder::Folder;
use crate::{Error, Result, command, wait};

/// The browser reads commands from file descriptor 3 and writes answers to 4. It ends when 3 is closed.
const START: &str = "exec 3<&0 4>&1 </dev/null >/dev/null; exec chromium-headless-shell \"$@\"";

/// The browser ends its requests when an interface of this machine appears or goes away, which other tests' containers do.
const NETWORK_CHANGED: &str = "net::ERR_NETWORK_CHANGED";

/// Between two attempts to load a page, which would interrupt each other.
const RELOAD_PAUSE: Duration = Duration::from_secs(5);

/// How often a request is tried that ended this way.
const TRIES: usize = 5;

/// One page of a separate browser with separate cookies and trusted CAs.
#[derive(Debug)]
pub struct Page {
    browser: Child,
    commands: Option<ChildStdin>,
    answers: Receiver<Value>,
    sent: u64,
    session: Value,
    profile: Folder,
}

impl Page {
    pub(super) fn start(look: Look, authority: Option<&str>) -> Result<Page> {
        let profile = Folder::new("chromium")?;
        if let Some(authority) = authority {
            trust(&profile, authority)?;
        }
        let failed = || Error::io("start chromium-headless-shell");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", "sh", "-c", START, "chromium"]).args(SWITCHES).args(look.switches());
        command
            .arg("--remote-debugging-pipe")
            .env("HOME", profile.path())
            .arg(format!("--user-data-dir={}", profile.path().display()));
        let log = File::create(profile.join("log")).map_err(failed())?;
        let mut browser = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).spawn().map_err(failed())?;
        let (sender, answers) = channel();
        let commands = browser.stdin.take();
        if let Some(output) = browser.stdout.take() {
            thread::spawn(move || {
                let messages = BufReader::new(output).split(0).map_while(std::result::Result::ok);
                let mut parsed = messages.filter_map(|message| serde_json::from_slice(&message).ok());
                let _ = parsed.try_for_each(|message: Value| sender.send(message)); // until the receiver is dropped
            });
        }
        let mut page = Page { browser, commands, answers, sent: 0, session: Value::Null, profile };
        let target = page.ask("Target.createTarget", json!({"url": "about:blank"}))?["targetId"].clone();
        let attach = json!({"targetId": target, "flatten": true});
        page.session = page.ask("Target.attachToTarget", attach)?["sessionId"].clone();
        Ok(page)
    }

    /// Goes to an address.
    pub fn open(&mut self, address: &str) -> Result<()> {
        let mut answer = self.ask("Page.navigate", json!({"url": address}))?;
        for _ in 1..TRIES {
            if answer["errorText"] != NETWORK_CHANGED {
                break;
            }
            answer = self.ask("Page.navigate", json!({"url": address}))?;
        }
        match answer["errorText"].as_str() {
            None => Ok(()),
            Some(reason) => Err(Error::Http { request: format!("open {address}"), reason: reason.into() }),
        }
    }

    /// The value of a JavaScript expression. Waits for a promise. A failed `fetch` is tried again.
    pub fn evaluate(&mut self, expression: &str) -> Result<Value> {
        let mut value = self.evaluate_once(expression);
        for _ in 1..TRIES {
            if !matches!(&value, Err(error) if error.to_string().contains("TypeError: Failed to fetch")) {
                break;
            }
            value = self.evaluate_once(expression);
        }
        value
    }

    fn evaluate_once(&mut self, expression: &str) -> Result<Value> {
        let arguments = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let answer = self.ask("Runtime.evaluate", arguments)?;
        let thrown = &answer["exceptionDetails"];
        if thrown.is_null() {
            return Ok(answer["result"]["value"].clone());
        }
        let reason = thrown["exception"]["description"].as_str().unwrap_or("it threw something other than an Error");
        Err(Error::Missing(format!("a script in the page failed: {reason}")))
    }

    /// Changes the window's size, in CSS pixels.
    pub fn resize(&mut self, width: u32, height: u32) -> Result<()> {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.ask("Emulation.setDeviceMetricsOverride", size).map(drop)
    }

    /// What is wider than the window: the beginning of each element that ends beyond its right edge, or that a reader
    /// would have to scroll sideways; empty if all fits.
    pub fn overflow(&mut self) -> Result<Vec<String>> {
        let found = self.evaluate(include_str!("overflow.js"))?;
        Ok(found.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect())
    }

    /// Evaluates an expression repeatedly until the value is neither null, false, nor empty. If the page could not be
    /// loaded, it is loaded again.
    pub fn wait(&mut self, limit: Duration, expression: &str) -> Result<Value> {
        let nothing = |value: &Value| [Value::Null, false.into(), "".into()].contains(value);
        let mut reload = Instant::now();
        let seen = wait::patiently(limit, || {
            let failed = self.evaluate("location.protocol").is_ok_and(|protocol| protocol == "chrome-error:");
            if failed && Instant::now() >= reload {
                self.ask("Page.reload", json!({})).ok()?;
                reload = Instant::now() + RELOAD_PAUSE;
            }
            self.evaluate(expression).ok().filter(|value| !nothing(value))
        });
        seen.ok_or_else(|| {
            let text = self.evaluate("location.href + '\\n' + document.body.innerText").unwrap_or_default();
            let text = text.as_str().unwrap_or_default();
            Error::Missing(format!("not true within {limit:?}: {expression}\n{text}"))
        })
    }

    /// Clicks on the first element of this CSS selector, once it exists.
    pub fn click(&mut self, limit: Duration, selector: &str) -> Result<()> {
        let selector = json!(selector);
        let click = format!("(found => found && (found.click(), true))(document.querySelector({selector}))");
        self.wait(limit, &click).map(drop)
    }

    /// Writes a screenshot as a PNG file.
    pub fn picture(&mut self, file: &Path) -> Result<()> {
        let answer = self.ask("Page.captureScreenshot", json!({"format": "png"}))?;
        let data = BASE64_STANDARD.decode(answer["data"].as_str().unwrap_or_default());
        let data = data.map_err(|error| Error::Missing(format!("the browser's picture is invalid: {error}")))?;
        fs::write(file, data).map_err(Error::io(format!("write {}", file.display())))
    }

    fn ask(&mut self, method: &str, arguments: Value) -> Result<Value> {
        self.sent += 1;
        let mut command = json!({"id": self.sent, "method": method, "params": arguments});
        if !self.session.is_null() {
            command["sessionId"] = self.session.clone();
        }
        let log = self.profile.join("log");
        let gone = |reason: &str| Error::part("chromium", format!("{reason} ({method})"), &log);
        let written = self.commands.as_mut().map(|pipe| write!(pipe, "{command}\0").and_then(|()| pipe.flush()));
        if !matches!(written, Some(Ok(()))) {
            return Err(gone("has ended"));
        }
        let deadline = Instant::now() + wait::LIMIT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // Other messages are events of the page, which are not needed.
            let answer = self.answers.recv_timeout(left).map_err(|_| gone("did not answer"))?;
            if answer["id"] == self.sent {
                return match answer["error"]["message"].as_str() {
                    None => Ok(answer["result"].clone()),
                    Some(reason) => Err(Error::Missing(format!("chromium: {method}: {reason}"))),
                };
            }
        }
    }
}

/// Adds the authority to those that the user with this home trusts.
fn trust(home: &Folder, authority: &str) -> Result<()> {
    let file = home.write("authority.pem", authority)?;
    let database = format!("sql:{}", home.folder(".pki/nssdb")?.display());
    command::run_args("certutil", &["-d", &database, "-N", "--empty-password"])?;
    let add = ["-d", &database, "-A", "-n", "authority", "-t", "C,,", "-a", "-i", &file.to_string_lossy()];
    command::run_args("certutil", &add).map(drop)
}

impl Drop for Page {
    fn drop(&mut self) {
        self.commands = None;
        if wait::until(Duration::from_secs(5), || self.browser.try_wait().ok().flatten()).is_none() {
            let _ = self.browser.kill();
            let _ = self.browser.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::chromium::Browser;
    use crate::ports;
    use crate::registry::{Options, Registry};

    const PAGE: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\n\r\n<title>there</title>";

    const LOOK: Look = Look { width: 300, height: 200, dark: false };

    #[test]
    fn a_page_is_clicked_through_and_seen() {
        let mut page = Browser::find().unwrap().page(LOOK, None).unwrap();
        page.open("data:text/html,<button onclick=\"document.title='clicked'\">Go</button>").unwrap();
        page.click(wait::LIMIT, "button").unwrap();
        assert_eq!(page.evaluate("Promise.resolve(document.title)").unwrap(), "clicked");
        assert!(page.evaluate("nothing.here").is_err());
        let file = page.profile.join("picture.png");
        page.picture(&file).unwrap();
        assert!(fs::read(file).unwrap().starts_with(b"\x89PNG"));
    }

    #[test]
    fn a_page_that_could_not_be_loaded_is_loaded_again() {
        let mut page = Browser::find().unwrap().page(LOOK, None).unwrap();
        let [port] = ports::free().unwrap();
        assert!(page.open(&format!("http://127.0.0.1:{port}/")).is_err());
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                // The browser may open connections that it does not use.
                thread::spawn(move || {
                    let mut stream = stream.unwrap();
                    let request = BufReader::new(&stream).lines().map_while(std::result::Result::ok);
                    if request.take_while(|line| !line.is_empty()).count() > 0 {
                        stream.write_all(PAGE.as_bytes()).unwrap();
                    }
                });
            }
        });
        page.wait(wait::LIMIT, "document.title === 'there'").unwrap();
    }

    #[test]
    fn what_is_wider_than_the_window_is_found() {
        let mut page = Browser::find().unwrap().page(LOOK, None).unwrap();
        let wide = "data:text/html,<p style=width:290px>fits</p><p style=width:400px>too wide</p>\
                    <div style=overflow:auto><i style=display:block;width:500px>scrolls</i></div>";
        page.open(wide).unwrap();
        page.wait(wait::LIMIT, "document.readyState === 'complete'").unwrap();
        let found = page.overflow().unwrap();
        assert_eq!(found.len(), 4, "{found:?}");
        assert!(found[0].starts_with("the page is ") && found[1].contains("too wide"), "{found:?}");
        page.resize(600, 400).unwrap();
        assert_eq!(page.overflow().unwrap(), Vec::<String>::new());
    }

    #[test]
    fn only_a_trusted_authoritys_certificates_are_accepted() {
        let registry = Registry::with(&Options { tls: true, ..Options::default() }).unwrap();
        let (browser, url) = (Browser::find().unwrap(), format!("{}/v2/", registry.url()));
        let refused = browser.page(LOOK, None).unwrap().open(&url).unwrap_err().to_string();
        assert!(refused.contains("ERR_CERT_AUTHORITY_INVALID"), "{refused}");
        let mut page = browser.page(LOOK, registry.authority()).unwrap();
        page.open(&url).unwrap();
        page.wait(wait::LIMIT, "document.body.innerText.trim() === '{}'").unwrap();
    }
}
