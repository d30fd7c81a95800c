//! Log files as a container runtime writes them.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Result;

/// How many files the lines are spread over.
pub(super) const FILES: u64 = 20;

/// The runtime whose format is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Cri,
    Docker,
}

/// Writes `lines` numbered lines with messages of about `length` bytes below `root`; returns the files, and their
/// total size in bytes.
pub(super) fn write(root: &Path, format: Format, lines: u64, length: usize) -> Result<(Vec<PathBuf>, u64)> {
    let (mut paths, mut bytes) = (Vec::new(), 0);
    for index in 0..FILES {
        let (folder, name) = match format {
            Format::Cri => {
                (root.join(format!("space-{}_pod-{index}_uid-{index:06}/main", index % 3)), "0.log".to_owned())
            }
            Format::Docker => (root.join(format!("{index:064x}")), format!("{index:064x}-json.log")),
        };
        fs::create_dir_all(&folder)?;
        let path = folder.join(name);
        let mut file = BufWriter::with_capacity(1 << 20, File::create(&path)?);
        for line in (index..lines).step_by(FILES as usize) {
            let time = format!("2026-11-22T10:{:02}:{:02}.{:09}Z", line / 60 % 60, line % 60, line % 1_000_000_000);
            let mut text =
                format!("seq={line:08} file={index:02} GET \\\"/hub/api/users/user-{}/activity\\\" 200", line % 977);
            while text.len() < length {
                text.push_str(" the quick brown fox jumps over the lazy dog"[..44.min(length - text.len())].as_ref());
            }
            let line = match format {
                Format::Cri => format!("{time} stdout F {}", text.replace('\\', "")),
                Format::Docker => format!("{{\"log\":\"{text}\\n\",\"stream\":\"stdout\",\"time\":\"{time}\"}}"),
            };
            writeln!(file, "{line}")?;
        }
        file.flush()?;
        bytes += file.into_inner()?.metadata()?.len();
        paths.push(path);
    }
    Ok((paths, bytes))
}

/// The number of the line in an event of any shipper.
pub(super) fn number(event: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(event).ok()?;
    text.split("seq=").nth(1)?.get(..8)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_written_once_and_has_its_number() {
        for format in [Format::Cri, Format::Docker] {
            let folder = testbed::folder::Folder::new("logs").unwrap();
            let (paths, bytes) = write(folder.path(), format, 45, 190).unwrap();
            let all: Vec<String> = paths.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
            assert_eq!(all.iter().map(|text| text.len() as u64).sum::<u64>(), bytes);
            let mut numbers: Vec<u64> =
                all.iter().flat_map(|text| text.lines()).map(|line| number(line.as_bytes()).unwrap()).collect();
            numbers.sort_unstable();
            assert_eq!(numbers, (0..45).collect::<Vec<_>>());
        }
    }
}
