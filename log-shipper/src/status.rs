//! `log-shipper status`: how far each log file was shipped, from the checkpoint and the file system.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::checkpoint::{self, CheckpointError, Saved};
use crate::identity::FileKey;
use crate::settings::LogsSettings;

/// One line per file of the checkpoint, the one furthest behind first, and a sum.
///
/// # Errors
///
/// When the checkpoint can't be read.
pub fn table(settings: &LogsSettings) -> Result<String, CheckpointError> {
    let path = settings.state_dir.join(checkpoint::FILE_NAME);
    let Some(saved) = checkpoint::read(&path)? else {
        return Ok(format!("no checkpoint in {} yet\n", settings.state_dir.display()));
    };
    Ok(render(&saved))
}

fn render(saved: &Saved) -> String {
    let mut rows = Vec::new();
    for (key, records) in saved {
        for record in records {
            let path = key.folder.join(&record.name);
            let (size, state) = match fs::metadata(&path) {
                Ok(now) if (FileKey { device: now.dev(), inode: now.ino() }) != record.key => (record.size, "renamed"),
                // The size of a compressed file says nothing.
                Ok(_) if record.name.ends_with(".gz") => (record.size, ""),
                Ok(now) => (now.len(), ""),
                Err(_) => (record.size, "gone"),
            };
            rows.push((size.saturating_sub(record.done.offset), record.done.offset, size, path, state));
        }
    }
    rows.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.3.cmp(&b.3)));
    let behind: u64 = rows.iter().map(|row| row.0).sum();
    let mut text = format!("{:>12} {:>14} {:>14}  FILE\n", "BEHIND", "CONFIRMED", "SIZE");
    for (lag, done, size, path, state) in &rows {
        let mark = if state.is_empty() { String::new() } else { format!(" ({state})") };
        // Writing to a String does not fail.
        let _ = writeln!(text, "{lag:>12} {done:>14} {size:>14}  {}{mark}", path.display());
    }
    let _ = writeln!(text, "{} files, {behind} bytes behind", rows.len());
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
            FileRecord { name: name.into(), key, head: Head::default(), size: 0, done: Mark { offset: done, tail: 0 } }
        };
        let records = vec![record("0.log.1", 10, 10), record("0.log", 100, 40)];
        let key = LogKey { folder: folder.path().into(), base: "0".into() };
        let table = render(&[(key, records)].into_iter().collect());
        let lines: Vec<_> = table.lines().collect();
        assert!(lines[1].contains(" 60 ") && lines[1].ends_with("0.log"), "{table}");
        assert!(lines[3].contains("2 files, 60 bytes behind"), "{table}");
    }
}
