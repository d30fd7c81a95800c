//! Measures how full the file system of images is, as `df` shows it.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use sidecar::sync::lock;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::RuntimeError;

/// A file system by its block counts (POSIX `statvfs`), in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSystem {
    /// A folder on it.
    pub path: PathBuf,
    /// Its whole size, including what is reserved for root.
    pub size: u64,
    /// Bytes in use.
    pub used: u64,
    /// Bytes available to ordinary users.
    pub available: u64,
}

/// A file system that does not answer within this time counts as hung.
const LIMIT: Duration = Duration::from_secs(10);

/// The folders that hang. No new measurement is started there until the last one ends.
static HUNG: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

impl FileSystem {
    /// Measures the file system that contains `path`, in a separate thread, because it may hang.
    ///
    /// # Errors
    /// If the path does not exist (in a container: is not mounted), cannot be measured or does not answer within ten
    /// seconds.
    pub async fn measure(path: &Path) -> Result<Self, RuntimeError> {
        let failed = |source: io::Error| RuntimeError::FileSystem { path: path.to_owned(), source };
        let silent = || failed(io::Error::new(io::ErrorKind::TimedOut, "it does not answer"));
        if hung().contains(path) {
            return Err(silent());
        }
        let (sender, mut measured) = oneshot::channel();
        let owned = path.to_owned();
        let work = move || {
            // If it took too long, there is no longer a receiver.
            let _ = sender.send(Self::measure_here(&owned));
            hung().remove(&owned);
        };
        std::thread::Builder::new().name("statvfs".into()).stack_size(64 * 1024).spawn(work).map_err(failed)?;
        if let Ok(Ok(found)) = timeout(LIMIT, &mut measured).await {
            return found.map_err(failed);
        }
        hung().insert(path.to_owned());
        // If it has just answered, it does not hang.
        if measured.try_recv().is_ok() {
            hung().remove(path);
        }
        Err(silent())
    }

    fn measure_here(path: &Path) -> io::Result<Self> {
        let measured = rustix::fs::statvfs(path)?;
        let bytes = |blocks: u64| blocks.saturating_mul(measured.f_frsize);
        Ok(Self {
            path: path.to_owned(),
            size: bytes(measured.f_blocks),
            used: bytes(measured.f_blocks.saturating_sub(measured.f_bfree)),
            available: bytes(measured.f_bavail),
        })
    }

    /// The bytes that it can hold: used and available, without what is reserved for root. `df` calculates its
    /// percentage from this.
    pub fn capacity(&self) -> u64 {
        self.used.saturating_add(self.available)
    }

    /// The percentage that `df` shows: used of capacity, rounded up.
    pub fn used_percent(&self) -> u8 {
        percent(self.used, self.capacity())
    }
}

fn hung() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    lock(&HUNG)
}

/// `part` of `whole` in percent, rounded up, at most 255; 0 if `whole` is 0.
pub(super) fn percent(part: u64, whole: u64) -> u8 {
    if whole == 0 {
        return 0;
    }
    u8::try_from((u128::from(part) * 100).div_ceil(u128::from(whole))).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_percentage_is_the_one_of_df() {
        let df = std::process::Command::new("df").args(["--output=pcent", "/"]).output().unwrap();
        let shown = String::from_utf8(df.stdout).unwrap();
        let shown: u8 = shown.lines().nth(1).unwrap().trim().trim_end_matches('%').parse().unwrap();
        let measured = FileSystem::measure_here(Path::new("/")).unwrap().used_percent();
        // Other processes write to this disk between the two measurements.
        assert!(measured.abs_diff(shown) <= 1, "df {shown}, here {measured}");
    }

    #[test]
    fn percent_rounds_up_and_never_divides_by_zero() {
        let table = [(0, 0, 0), (0, 10, 0), (1, 1000, 1), (750, 1000, 75), (751, 1000, 76), (u64::MAX, 1, 255)];
        for (part, whole, expected) in table {
            assert_eq!(percent(part, whole), expected, "{part} of {whole}");
        }
    }

    #[tokio::test]
    async fn a_path_that_is_not_there_is_named() {
        let error = FileSystem::measure(Path::new("/not/there")).await.unwrap_err().to_string();
        assert!(error.contains("/not/there"), "{error}");
    }
}
