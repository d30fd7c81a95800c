//! A daemon's verdicts on its exports, from its page, and what it takes for a mount.

use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use testbed::daemon::Daemon;
use testbed::wait;

/// `export: verdict (phase): sentence` for each export in the page's body; `None` while one has no verdict.
pub(crate) fn verdicts(body: &str) -> Option<Vec<String>> {
    let document: serde_json::Value = serde_json::from_str(body).ok()?;
    let text = |export: &serde_json::Value, key: &str| export[key].as_str().map(str::to_owned);
    document["exports"]
        .as_array()?
        .iter()
        .map(|export| {
            let [name, verdict, phase, sentence] =
                ["export", "verdict", "phase", "sentence"].map(|key| text(export, key));
            Some(format!("{}: {} ({}): {}", name?, verdict?, phase?, sentence?))
        })
        .collect()
}

/// Whether all are healthy.
#[allow(dead_code, reason = "not every test has a daemon")]
pub(crate) fn all_healthy(verdicts: &[String]) -> bool {
    verdicts.iter().all(|verdict| verdict.contains(": ok (") || verdict.contains(": grace ("))
}

/// Waits until a daemon's verdicts meet the condition.
#[allow(dead_code, reason = "not every test has a daemon on this machine")]
pub(crate) fn until(daemon: &Daemon, limit: Duration, wanted: impl Fn(&[String]) -> bool) -> Vec<String> {
    let mut last = None;
    let seen = wait::until(limit, || {
        let (_, body) = daemon.get("/exports")?;
        let seen = verdicts(&body);
        last = Some(body);
        seen.filter(|seen| wanted(seen))
    });
    seen.unwrap_or_else(|| panic!("{last:?}\n{}", daemon.log()))
}

/// A line of mountinfo that calls whatever is at `place` an NFS mount: the kernel here has no NFS, so another file system stands
/// for it.
#[allow(dead_code, reason = "not every test has a mount")]
pub(crate) fn mount(place: &Path, address: Ipv4Addr) -> String {
    let place = place.to_str().unwrap();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let device = mounts.lines().rev().find(|line| line.split(' ').nth(4) == Some(place)).map_or_else(
        || {
            let device = std::fs::metadata(place).unwrap().dev();
            format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device))
        },
        |line| line.split(' ').nth(2).unwrap().to_owned(),
    );
    format!("2 1 {device} / {place} rw - nfs4 {address}:/home rw,vers=4.1,addr={address}\n")
}
