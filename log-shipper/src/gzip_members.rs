//! Decompresses the members of a gzip file one after the other.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};

use flate2::bufread::GzDecoder;

/// The content of all members of a gzip file (RFC 1952, section 2.2). NULs after a member are padding, as for `gzip -d`:
/// tapes and a crash of the machine leave them.
#[derive(Debug)]
pub struct GzipMembers {
    /// The current member; `None` after the last.
    member: Option<GzDecoder<BufReader<File>>>,
}

impl GzipMembers {
    /// Starts at the beginning of the file.
    ///
    /// # Errors
    ///
    /// The system's error.
    pub fn open(file: &File) -> io::Result<Self> {
        let mut file = file.try_clone()?;
        file.rewind()?;
        Ok(Self { member: Some(GzDecoder::new(BufReader::with_capacity(16 * 1024, file))) })
    }
}

impl Read for GzipMembers {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let count = member.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            if let Some(ended) = self.member.take() {
                self.member = skip_padding(ended.into_inner())?.map(GzDecoder::new);
            }
        }
        Ok(0)
    }
}

/// Skips NULs; `None` if nothing else follows.
fn skip_padding(mut rest: BufReader<File>) -> io::Result<Option<BufReader<File>>> {
    loop {
        let bytes = rest.fill_buf()?;
        let length = bytes.len();
        if length == 0 {
            return Ok(None);
        }
        let nuls = bytes.iter().take_while(|byte| **byte == 0).count();
        rest.consume(nuls);
        if nuls < length {
            return Ok(Some(rest));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn compress(content: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn members_follow_each_other_and_padding_is_no_damage() {
        let (one, two, nuls) = (compress(b"one\n"), compress(b"two\n"), |count| vec![0; count]);
        for (bytes, content, damaged) in [
            ([one.clone(), two.clone()].concat(), "one\ntwo\n", false),
            ([one.clone(), nuls(1)].concat(), "one\n", false),
            ([one.clone(), nuls(40_000)].concat(), "one\n", false),
            ([one.clone(), nuls(512), two.clone()].concat(), "one\ntwo\n", false),
            ([one.clone(), nuls(7), b"rest".to_vec()].concat(), "one\n", true),
            ([one.clone(), two[..two.len() - 1].to_vec()].concat(), "one\ntwo\n", true),
            ([one, b"\x1f".to_vec()].concat(), "one\n", true),
            (nuls(100), "", true),
            (Vec::new(), "", true),
        ] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&bytes).unwrap();
            let mut read = Vec::new();
            let result = GzipMembers::open(&file).unwrap().read_to_end(&mut read);
            assert_eq!((String::from_utf8_lossy(&read).as_ref(), result.is_err()), (content, damaged), "{bytes:?}");
        }
    }
}
