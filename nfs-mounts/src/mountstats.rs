//! `/proc/PID/mountstats`: the counters of the kernel's NFS client for each mount (nfs_show_stats in the kernel's
//! fs/nfs/super.c).

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::mountinfo;

/// The counters of one NFS mount since it was mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountStatistics {
    /// The source, such as `server:/export`.
    pub source: String,
    /// The mount point, relative to the process's root.
    pub mount_point: PathBuf,
    /// How long it has been mounted.
    pub age: Duration,
    /// Calls that were started.
    pub operations: u64,
    /// Calls that were sent, including each retransmission.
    pub transmissions: u64,
    /// Calls without an answer within `timeo` and its retries.
    pub timeouts: u64,
    /// Bytes sent.
    pub bytes_sent: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// Total time that calls waited for their answers.
    pub round_trips: Duration,
    /// How often a connection was opened (TCP only).
    pub connects: u64,
    /// Time since the connection was last used (TCP only).
    pub idle: Duration,
}

impl MountStatistics {
    /// Calls that were retransmitted.
    pub fn retransmissions(&self) -> u64 {
        self.transmissions.saturating_sub(self.operations)
    }
}

/// Reads and parses a mountstats file. It never blocks on a hung mount.
///
/// # Errors
///
/// The system's error.
pub fn read(path: &Path) -> io::Result<Vec<MountStatistics>> {
    Ok(parse(&mountinfo::read(path)?))
}

/// Parses the file's content. Returns NFS mounts only, and skips unknown lines, because newer kernels add some.
pub fn parse(text: &[u8]) -> Vec<MountStatistics> {
    let mut all = Vec::new();
    let mut current: Option<MountStatistics> = None;
    let mut per_operation = false;
    for line in text.split(|byte| *byte == b'\n') {
        if line.starts_with(b"device ") || line.starts_with(b"no device ") {
            all.extend(current.take());
            current = header(line);
            per_operation = false;
        } else if let Some(statistics) = &mut current {
            let line = String::from_utf8_lossy(line);
            let line = line.trim();
            if line == "per-op statistics" {
                per_operation = true;
            } else if let Some((name, rest)) = line.split_once(':') {
                let numbers: Vec<u64> = rest.split_whitespace().map_while(|word| word.parse().ok()).collect();
                match (name, per_operation) {
                    ("age", false) => statistics.age = Duration::from_secs(numbers.first().copied().unwrap_or(0)),
                    ("xprt", false) if rest.trim_start().starts_with("tcp") => transport(statistics, rest),
                    (_, true) => operation(statistics, &numbers),
                    _ => (),
                }
            }
        }
    }
    all.extend(current);
    all
}

/// `device SOURCE mounted on POINT with fstype TYPE …`
fn header(line: &[u8]) -> Option<MountStatistics> {
    let mut words = line.split(|byte| *byte == b' ');
    let source = mountinfo::text(words.by_ref().find(|word| *word != b"no" && *word != b"device")?);
    let mount_point = mountinfo::path(words.by_ref().skip_while(|word| *word != b"on").nth(1)?);
    let file_system = words.skip_while(|word| *word != b"fstype").nth(1)?;
    let nfs = matches!(file_system, b"nfs" | b"nfs4");
    nfs.then(|| MountStatistics { source, mount_point, ..MountStatistics::default() })
}

/// `xprt: tcp port binds connects connect-time idle-time …`, times in seconds. With several connections there are several lines.
fn transport(statistics: &mut MountStatistics, rest: &str) {
    let numbers: Vec<u64> = rest.split_whitespace().skip(1).map_while(|word| word.parse().ok()).collect();
    if let [_, _, connects, _, idle, ..] = numbers[..] {
        statistics.connects = statistics.connects.saturating_add(connects);
        statistics.idle = Duration::from_secs(idle);
    }
}

/// `NAME: operations transmissions timeouts bytes-sent bytes-received queue-ms round-trip-ms execute-ms …`
fn operation(statistics: &mut MountStatistics, numbers: &[u64]) {
    if let [operations, transmissions, timeouts, sent, received, _, round_trip, ..] = *numbers {
        statistics.operations = statistics.operations.saturating_add(operations);
        statistics.transmissions = statistics.transmissions.saturating_add(transmissions);
        statistics.timeouts = statistics.timeouts.saturating_add(timeouts);
        statistics.bytes_sent = statistics.bytes_sent.saturating_add(sent);
        statistics.bytes_received = statistics.bytes_received.saturating_add(received);
        statistics.round_trips = statistics.round_trips.saturating_add(Duration::from_millis(round_trip));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TWO: &str = "\
device rootfs mounted on / with fstype rootfs
device proc mounted on /proc with fstype proc
device 10.0.2.2:/home mounted on /mnt/home\\040one with fstype nfs4 statvers=1.1
\topts:\trw,vers=4.1,rsize=1048576,hard,proto=tcp,port=12049,timeo=600,retrans=2
\tage:\t23
\tcaps:\tcaps=0x3ffbffff,wtmult=512,dtsize=1048576,bsize=0,namlen=255
\tsec:\tflavor=1,pseudoflavor=1
\tevents:\t1 2 3 4 5
\tRPC iostats version: 1.1  p/v: 100003/4 (nfs)
\txprt:\ttcp 0 1 2 0 7 23 23 0 23 0 2 0 0
\tper-op statistics
\t        NULL: 1 1 0 44 24 0 0 0 0
\t       WRITE: 10 13 2 5000 1500 1 40 45 0
\t      COMMIT: 0 0 0 0 0 0 0 0 0

device fileserver:/data mounted on /data with fstype nfs statvers=1.1
\tage:\t5
";

    #[test]
    fn counters_are_added_up_for_each_nfs_mount() {
        let statistics = parse(TWO.as_bytes());
        let home = MountStatistics {
            source: "10.0.2.2:/home".into(),
            mount_point: "/mnt/home one".into(),
            age: Duration::from_secs(23),
            operations: 11,
            transmissions: 14,
            timeouts: 2,
            bytes_sent: 5044,
            bytes_received: 1524,
            round_trips: Duration::from_millis(40),
            connects: 2,
            idle: Duration::from_secs(7),
        };
        assert_eq!(home.retransmissions(), 3);
        assert_eq!(statistics[0], home);
        assert_eq!((statistics[1].source.as_str(), statistics[1].age.as_secs()), ("fileserver:/data", 5));
        assert_eq!(statistics.len(), 2);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in proptest::collection::vec(any::<u8>(), 0..400)) {
            parse(&text);
        }

        #[test]
        fn no_numbers_make_it_panic(numbers in proptest::collection::vec(any::<u64>(), 0..12)) {
            let numbers: String = numbers.iter().map(|n| format!(" {n}")).collect();
            let text = format!("device a:/b mounted on /c with fstype nfs\n age:{numbers}\n xprt: tcp{numbers}\nper-op statistics\n X:{numbers}\n X:{numbers}\n");
            prop_assert_eq!(parse(text.as_bytes()).len(), 1);
        }
    }
}
