//! `log-shipper status`: shows up to which position each log file was shipped, from the checkpoints and the file
//! system.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::ExitCode;

use sidecar::human::{self, Table};
use sidecar::stdio;

use crate::checkpoint::{self, CheckpointError, Saved};
use crate::identity::FileKey;
use crate::settings::LogsSettings;

/// Prints [`tables`].
///
/// # Errors
///
/// If a checkpoint cannot be read, or printing fails.
pub fn run(logs: &LogsSettings) -> anyhow::Result<ExitCode> {
    let (text, failed) = tables(&logs.state_dir);
    stdio::print(&text)?;
    failed.map_or(Ok(ExitCode::SUCCESS), |error| Err(error.into()))
}

/// The progress in each checkpoint in `STATE_DIR`: one line per file, the one furthest behind first, and a sum. Also
/// returns the first checkpoint that cannot be read; the others are shown nevertheless.
pub fn tables(state_dir: &Path) -> (String, Option<CheckpointError>) {
    let (mut text, mut failed) = (String::new(), None);
    for (name, destination) in checkpoint::ALL {
        let path = state_dir.join(name);
        match checkpoint::read(&path) {
            Ok(Some(saved)) => {
                let gap = if text.is_empty() { "" } else { "\n" };
                let _ = write!(text, "{gap}Shipped {destination} ({}):\n{}", path.display(), table(&saved));
            }
            Ok(None) => (),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    if text.is_empty() && failed.is_none() {
        text = format!("no checkpoint in {} yet\n", state_dir.display());
    }
    (text, failed)
}

fn table(saved: &Saved) -> String {
    let mut rows = Vec::new();
    for (key, records) in saved {
        for record in records {
            let path = key.folder.join(&*record.name);
            let (size, state) = match fs::metadata(&path) {
                Ok(now) if (FileKey { device: now.dev(), inode: now.ino() }) != record.key => (record.size, "renamed"),
                // The current size of a compressed file cannot be compared.
                Ok(_) if record.name.ends_with(".gz") => (record.size, ""),
                Ok(now) => (now.len(), ""),
                Err(_) => (record.size, "gone"),
            };
            rows.push((size.saturating_sub(record.done.offset), record.done.offset, size, path, state));
        }
    }
    rows.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.3.cmp(&b.3)));
    let behind: u64 = rows.iter().map(|row| row.0).sum();
    let mut table = Table::new(&["BEHIND", "CONFIRMED", "SIZE", "FILE"]).right_aligned(&[0, 1, 2]);
    for (lag, done, size, path, state) in &rows {
        let mark = if state.is_empty() { String::new() } else { format!(" ({state})") };
        table.row([lag.to_string(), done.to_string(), size.to_string(), format!("{}{mark}", path.display())]);
    }
    let mut text = table.to_string();
    // Writing to a String does not fail.
    let files = rows.len() as u64;
    let _ = writeln!(text, "{files} file{}, {behind} byte{} behind", human::plural(files), human::plural(behind));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::LogKey;
    use crate::identity::{Head, Mark};
    use crate::ledger::FileRecord;

    #[test]
    fn the_file_that_is_furthest_behind_comes_first() {
        let folder = tempfile::tempdir().unwrap();
        let record = |name: &str, size: usize, done: u64| {
            let path = folder.path().join(name);
            fs::write(&path, vec![b'x'; size]).unwrap();
            let metadata = fs::metadata(&path).unwrap();
            let key = FileKey { device: metadata.dev(), inode: metadata.ino() };
            FileRecord {
                name: name.into(),
                key,
                head: Head::default(),
                size: 0,
                done: Mark { offset: done, tail: 0 },
                after_loss: false,
            }
        };
        let records = vec![record("0.log.1", 10, 10), record("0.log", 100, 40)];
        let key = LogKey { folder: folder.path().into(), base: "0".into() };
        let text = table(&[(key, records)].into_iter().collect());
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[1].trim_start().starts_with("60 ") && lines[1].ends_with("0.log"), "{text}");
        assert!(lines[3].contains("2 files, 60 bytes behind"), "{text}");
    }
    #[test]
    fn each_checkpoint_is_shown_and_a_broken_one_hides_none() {
        let folder = tempfile::tempdir().unwrap();
        assert!(tables(folder.path()).0.contains("no checkpoint in"));
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write(checkpoint::STDOUT_FILE_NAME, r#"{"version":1,"logs":[]}"#);
        let (text, failed) = tables(folder.path());
        assert!(text.contains("to standard output") && !text.contains("to the broker") && failed.is_none(), "{text}");
        write(checkpoint::FILE_NAME, r#"{"version":1,"logs":[]}"#);
        let (text, failed) = tables(folder.path());
        assert!(text.contains("to standard output") && text.contains("to the broker") && failed.is_none(), "{text}");
        write(checkpoint::FILE_NAME, "x");
        let (text, failed) = tables(folder.path());
        assert!(text.contains("to standard output") && failed.is_some(), "{text}");
    }
}
