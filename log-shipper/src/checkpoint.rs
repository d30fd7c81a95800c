//! The checkpoint: up to which offset each file was confirmed, in one JSON file that is replaced atomically.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::identity::{FileKey, Head, Mark};
use crate::ledger::FileRecord;

/// The name of the checkpoint of a broker in `STATE_DIR`.
pub const FILE_NAME: &str = "checkpoint.json";

/// The name of the checkpoint of standard output. It is separate, because lines that were only printed were not
/// shipped.
pub const STDOUT_FILE_NAME: &str = "checkpoint-stdout.json";

/// Both names, with the destination of the lines.
pub const ALL: [(&str, &str); 2] = [(FILE_NAME, "to the broker"), (STDOUT_FILE_NAME, "to standard output")];

const VERSION: u32 = 1;

/// The largest checkpoint that is read: more than 10,000 containers with 5 files each need.
const MOST_BYTES: u64 = 64 * 1024 * 1024;

/// Identifies the log of one container: its folder, and the base of its files' names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogKey {
    /// The folder that holds the files.
    pub folder: Arc<Path>,
    /// The part of their names before `.log`.
    pub base: Arc<str>,
}

/// The saved records of all files.
pub type Saved = BTreeMap<LogKey, Vec<FileRecord>>;

#[derive(Serialize, Deserialize)]
struct Document {
    version: u32,
    logs: Vec<LogEntry>,
}

#[derive(Serialize, Deserialize)]
struct LogEntry {
    folder: String,
    base: String,
    files: Vec<FileEntry>,
}

#[derive(Serialize, Deserialize)]
struct FileEntry {
    name: String,
    device: u64,
    inode: u64,
    head_length: u16,
    head: u64,
    size: u64,
    done: u64,
    tail: u64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    after_loss: bool,
}

/// Why a checkpoint cannot be used.
#[expect(missing_docs, reason = "the messages show what the fields are")]
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// It could not be read.
    #[error("cannot read the checkpoint {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    /// It is not a checkpoint.
    #[error("the checkpoint {path} is broken: {reason}")]
    Broken { path: PathBuf, reason: String },
}

/// Reads the checkpoint at `path`; `None` if there is none.
///
/// # Errors
///
/// [`CheckpointError`] if it cannot be read or parsed.
pub fn read(path: &Path) -> Result<Option<Saved>, CheckpointError> {
    let failed = |source| CheckpointError::Read { path: path.to_owned(), source };
    let broken = |reason| CheckpointError::Broken { path: path.to_owned(), reason };
    // Docker creates a folder for a missing file that it should mount, and opening a pipe waits.
    let opened = std::fs::metadata(path)
        .and_then(|metadata| if metadata.is_file() { std::fs::File::open(path).map(Some) } else { Ok(None) });
    let file = match opened {
        Ok(Some(file)) => file,
        Ok(None) => return Err(broken("it is not a regular file".to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(broken(format!("it has more than {MOST_BYTES} bytes")));
    }
    parse(&bytes).map(Some).map_err(broken)
}

/// Parses a checkpoint.
///
/// # Errors
///
/// A sentence about what is wrong.
pub fn parse(bytes: &[u8]) -> Result<Saved, String> {
    let document: Document = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if document.version != VERSION {
        return Err(format!("it has version {}; this program supports version {VERSION}", document.version));
    }
    let record = |file: FileEntry| FileRecord {
        name: file.name.into(),
        key: FileKey { device: file.device, inode: file.inode },
        head: Head { length: file.head_length, hash: file.head },
        size: file.size,
        done: Mark { offset: file.done, tail: file.tail },
        after_loss: file.after_loss,
    };
    let entry = |log: LogEntry| {
        let key = LogKey { folder: Path::new(&log.folder).into(), base: log.base.into() };
        (key, log.files.into_iter().map(record).collect())
    };
    Ok(document.logs.into_iter().map(entry).collect())
}

/// Renders a checkpoint.
pub fn render(saved: &Saved) -> Vec<u8> {
    let entry = |record: &FileRecord| FileEntry {
        name: record.name.to_string(),
        device: record.key.device,
        inode: record.key.inode,
        head_length: record.head.length,
        head: record.head.hash,
        size: record.size,
        done: record.done.offset,
        tail: record.done.tail,
        after_loss: record.after_loss,
    };
    let log = |(key, files): (&LogKey, &Vec<FileRecord>)| LogEntry {
        folder: key.folder.to_string_lossy().into_owned(),
        base: key.base.to_string(),
        files: files.iter().map(entry).collect(),
    };
    let document = Document { version: VERSION, logs: saved.iter().map(log).collect() };
    // A document of only numbers and strings can always be serialized.
    serde_json::to_vec(&document).unwrap_or_default()
}

/// Renames a broken checkpoint to `checkpoint.json.broken`. Returns its new path.
///
/// # Errors
///
/// The system's error.
pub fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let aside = path.with_extension("json.broken");
    std::fs::rename(path, &aside)?;
    Ok(aside)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn saved() -> Saved {
        let record = FileRecord {
            name: "0.log".into(),
            key: FileKey { device: 1, inode: 2 },
            head: Head { length: 3, hash: u64::MAX },
            size: 5,
            done: Mark { offset: 4, tail: 6 },
            after_loss: true,
        };
        [(LogKey { folder: Path::new("/var/log/pods/n_p_u/c").into(), base: "0".into() }, vec![record])]
            .into_iter()
            .collect()
    }

    #[test]
    fn what_is_written_is_read_back() {
        assert_eq!(parse(&render(&saved())).unwrap(), saved());
    }

    #[test]
    fn a_missing_file_is_an_empty_start_and_a_broken_one_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        assert_eq!(read(&path).unwrap(), None);
        std::fs::write(&path, b"{\"version\":1,").unwrap();
        assert!(matches!(read(&path), Err(CheckpointError::Broken { .. })));
        let aside = set_aside(&path).unwrap();
        assert_eq!(std::fs::read(aside).unwrap(), b"{\"version\":1,");
        assert_eq!(read(&path).unwrap(), None);
    }

    #[test]
    fn what_is_not_a_file_is_broken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("x"), "").unwrap();
        assert!(matches!(read(&path), Err(CheckpointError::Broken { .. })));
        set_aside(&path).unwrap();
        assert_eq!(read(&path).unwrap(), None);
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert!(matches!(read(&path), Err(CheckpointError::Broken { .. })));
    }

    #[test]
    fn another_version_is_refused_by_name() {
        assert!(parse(br#"{"version":2,"logs":[]}"#).unwrap_err().contains("version 2"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn a_torn_checkpoint_is_noticed(cut in 0usize..200) {
            let whole = render(&saved());
            prop_assert!(parse(&whole[..cut.min(whole.len() - 1)]).is_err());
        }
    }
}
