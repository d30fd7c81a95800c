//! The keepalive record: 512 bytes, one line of text, padded with spaces.
//!
//! `labhands-keepalive 1 sequence=7 time=2026-11-23T08:31:15Z node=n pod=p interval=60 crc32=xxxxxxxx`. The checksum is
//! the CRC-32 (IEEE) of all bytes before the space that precedes `crc32=`, in eight hexadecimal digits.

use jiff::Timestamp;
use thiserror::Error;

/// The size of a record, in bytes: one disk sector, so that it is written whole.
pub const SIZE: usize = 512;

/// The longest writer's name (node or pod), in bytes. Two of them fit into a record and into a file name.
pub const LONGEST_NAME: usize = 100;

const MAGIC: &str = "labhands-keepalive";
const VERSION: &str = "1";

/// The fields of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The number of this round since the writer started.
    pub sequence: u64,
    /// When it was written, by the writer's clock.
    pub time: Timestamp,
    /// The node of the writer.
    pub node: String,
    /// The pod of the writer.
    pub pod: String,
    /// Seconds until the next record is due.
    pub interval: u64,
}

/// Why bytes are not a record.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RecordError {
    /// Not 512 bytes.
    #[error("a keepalive record has {SIZE} bytes, not {0}")]
    Size(usize),
    /// Not one padded line with a checksum, or another version.
    #[error("not a keepalive record of version {VERSION}")]
    Format,
    /// The checksum does not match.
    #[error("the checksum does not match: the record is torn or changed")]
    Checksum,
}

impl Record {
    /// Encodes the record. Cuts names to [`LONGEST_NAME`] bytes, so that it always fits.
    pub fn encode(&self) -> [u8; SIZE] {
        let Self { sequence, time, node, pod, interval } = self;
        let (node, pod) = (cut(node), cut(pod));
        let fields_text =
            format!("{MAGIC} {VERSION} sequence={sequence} time={time} node={node} pod={pod} interval={interval}");
        let line = format!("{fields_text} crc32={:08x}", crc32fast::hash(fields_text.as_bytes()));
        let mut bytes = [b' '; SIZE];
        let length = line.len().min(SIZE - 1);
        bytes[..length].copy_from_slice(&line.as_bytes()[..length]);
        bytes[SIZE - 1] = b'\n';
        bytes
    }

    /// Decodes a record.
    ///
    /// # Errors
    ///
    /// [`RecordError`] if the bytes are not a whole record.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        if bytes.len() != SIZE {
            return Err(RecordError::Size(bytes.len()));
        }
        let line = std::str::from_utf8(bytes).map_err(|_| RecordError::Format)?.trim_end();
        let (fields_text, checksum) = line.rsplit_once(" crc32=").ok_or(RecordError::Format)?;
        if checksum != format!("{:08x}", crc32fast::hash(fields_text.as_bytes())) {
            return Err(RecordError::Checksum);
        }
        fields(fields_text).ok_or(RecordError::Format)
    }
}

fn fields(fields_text: &str) -> Option<Record> {
    let mut words = fields_text.split(' ');
    if words.next()? != MAGIC || words.next()? != VERSION {
        return None;
    }
    let mut field = |name: &str| words.next()?.strip_prefix(name)?.strip_prefix('=');
    Some(Record {
        sequence: field("sequence")?.parse().ok()?,
        time: field("time")?.parse().ok()?,
        node: field("node")?.to_owned(),
        pod: field("pod")?.to_owned(),
        interval: field("interval")?.parse().ok()?,
    })
}

fn cut(name: &str) -> &str {
    &name[..name.floor_char_boundary(LONGEST_NAME)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record() -> Record {
        let time = "2026-11-23T08:31:15Z".parse().unwrap();
        Record { sequence: 7, time, node: "node-1".into(), pod: "fs-keepalive-x2b".into(), interval: 60 }
    }

    #[test]
    fn a_record_is_one_line_of_512_bytes() {
        let bytes = record().encode();
        let text = std::str::from_utf8(&bytes).unwrap();
        assert!(
            text.starts_with("labhands-keepalive 1 sequence=7 time=2026-11-23T08:31:15Z node=node-1 pod="),
            "{text}"
        );
        assert!(text.ends_with(" \n") && text.lines().count() == 1);
        assert_eq!(Record::decode(&bytes), Ok(record()));
    }

    #[test]
    fn a_changed_byte_is_noticed() {
        let mut bytes = record().encode();
        bytes[30] ^= 1;
        assert_eq!(Record::decode(&bytes), Err(RecordError::Checksum));
        assert_eq!(Record::decode(&[b' '; SIZE]), Err(RecordError::Format));
        assert_eq!(Record::decode(b"short"), Err(RecordError::Size(5)));
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(sequence: u64, interval: u64, node in "[a-z0-9.-]{1,300}", pod in "[a-zé]{1,300}",
                                    seconds in 0_i64..4_000_000_000, nanoseconds in 0_i32..1_000_000_000) {
            let time = Timestamp::new(seconds, nanoseconds).unwrap();
            let record = Record { sequence, time, node: node.clone(), pod: pod.clone(), interval };
            let bytes = record.encode();
            let cut = Record { node: cut(&node).into(), pod: cut(&pod).into(), ..record };
            prop_assert_eq!(Record::decode(&bytes), Ok(cut));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), SIZE)) {
            prop_assert!(Record::decode(&bytes).is_err());
        }
    }
}
