//! A headless browser, to see pages as users do.

mod page;

use std::path::Path;
use std::process::Command;

pub use page::Page;

use crate::folder::Folder;
use crate::packages::{self, Part};
use crate::{Result, command};

/// How many seconds a page may take to load.
const LIMIT_SECONDS: &str = "300";

/// The options for every start.
const SWITCHES: [&str; 8] = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

/// Chromium, started for each look, with an empty profile.
#[derive(Debug)]
pub struct Browser;

/// The window in which a page is shown.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// The window's width in CSS pixels.
    pub width: u32,
    /// Its height.
    pub height: u32,
    /// Whether the reader prefers dark colors.
    pub dark: bool,
}

impl Browser {
    /// Makes sure that the browser is installed.
    pub fn find() -> Result<Browser> {
        packages::require(Part::Chromium)?;
        Ok(Browser)
    }

    /// A page that stays open, to be clicked through. It trusts a CA (PEM) besides the usual ones.
    pub fn page(&self, look: Look, authority: Option<&str>) -> Result<Page> {
        Page::start(look, authority)
    }

    /// The page's elements once it has loaded, as HTML.
    pub fn dom(&self, address: &str, look: Look) -> Result<String> {
        run(look, "--dump-dom", address)
    }

    /// Writes a picture of the page as a PNG file.
    pub fn picture(&self, address: &str, look: Look, file: &Path) -> Result<()> {
        run(look, &format!("--screenshot={}", file.display()), address).map(drop)
    }
}

fn run(look: Look, action: &str, address: &str) -> Result<String> {
    let profile = Folder::new("chromium")?;
    let mut browser = Command::new("setpriv");
    // `timeout` forwards the signal to the browser, and the browser to its own processes.
    browser.args(["--pdeathsig", "TERM", "--", "timeout", "--kill-after=5", LIMIT_SECONDS, "chromium-headless-shell"]);
    browser.args(SWITCHES).args(look.switches());
    browser.arg(format!("--user-data-dir={}", profile.path().display()));
    command::run(browser.arg(action).arg(address))
}

impl Look {
    fn switches(self) -> [String; 2] {
        let scheme = i32::from(!self.dark); // Chromium's numbers for light and dark
        let scheme = format!("--blink-settings=preferredColorScheme={scheme}");
        [format!("--window-size={},{}", self.width, self.height), scheme]
    }
}
