//! The first calls of an NFS client, by ONC RPC over TCP (RFC 5531, RFC 1833). A port that listens does not show that a
//! server answers, or that the portmapper knows it.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

/// How long one call may take; callers retry.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// The longest answer that is read, in bytes.
const LONGEST: u32 = 4096;

/// The portmapper's port.
const PORTMAPPER_PORT: u16 = 111;

/// A program of RPC, and its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    number: u32,
    version: u32,
}

/// The portmapper, in the version for NFS version 3.
const PORTMAPPER: Program = Program { number: 100_000, version: 2 };
/// NFS version 3.
const NFS_3: Program = Program { number: 100_003, version: 3 };
/// NFS version 4.
const NFS_4: Program = Program { number: 100_003, version: 4 };
/// The program that gives clients of version 3 the handle of an export.
const MOUNT_3: Program = Program { number: 100_005, version: 3 };

/// Whether a portmapper answers.
pub(crate) fn portmapper_answers(host: IpAddr) -> Option<()> {
    null((host, PORTMAPPER_PORT).into(), PORTMAPPER)
}

/// Whether a server can be mounted in version 4, which needs only its port.
pub(crate) fn version_4_answers(host: IpAddr, port: u16) -> Option<()> {
    null((host, port).into(), NFS_4)
}

/// Whether a server can be mounted in version 3: it answers, and the portmapper knows it and a mountd that answers.
///
/// The server comes first: after a restart it removes the portmapper's old entries before it listens itself.
pub(crate) fn version_3_answers(host: IpAddr, port: u16) -> Option<()> {
    null((host, port).into(), NFS_3)?;
    for program in [MOUNT_3, NFS_3] {
        null((host, port_of(host, program)?).into(), program)?;
    }
    Some(())
}

/// The null call, which each program answers (RFC 5531, section 12.1).
fn null(address: SocketAddr, program: Program) -> Option<()> {
    call(address, program, 0, &[]).map(drop)
}

/// The TCP port of a program according to the portmapper (`PMAPPROC_GETPORT`; 6 is TCP).
fn port_of(host: IpAddr, program: Program) -> Option<u16> {
    let arguments = [program.number, program.version, 6, 0];
    let results = call((host, PORTMAPPER_PORT).into(), PORTMAPPER, 3, &arguments)?;
    let port = results.first().and_then(|&port| u16::try_from(port).ok())?;
    (port != 0).then_some(port)
}

/// One call on a new connection. Returns the words of its results, if it was accepted and successful.
fn call(address: SocketAddr, program: Program, procedure: u32, arguments: &[u32]) -> Option<Vec<u32>> {
    const ID: u32 = 1;
    let Program { number, version } = program;
    // A call of RPC version 2, with neither credentials nor verifier.
    let head = [ID, 0, 2, number, version, procedure, 0, 0, 0, 0];
    let message: Vec<u8> = head.iter().chain(arguments).flat_map(|word| word.to_be_bytes()).collect();
    let mark = u32::try_from(message.len()).ok()? | 1 << 31;
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_LIMIT).ok()?;
    stream.set_read_timeout(Some(ANSWER_LIMIT)).ok()?;
    stream.write_all(&[&mark.to_be_bytes()[..], &message].concat()).ok()?;
    let mut mark = [0; 4];
    stream.read_exact(&mut mark).ok()?;
    let length = u32::from_be_bytes(mark) & !(1 << 31);
    let mut answer = vec![0; usize::try_from(length.min(LONGEST)).ok()?];
    stream.read_exact(&mut answer).ok()?;
    let words: Vec<u32> =
        answer.chunks_exact(4).filter_map(|word| word.try_into().ok()).map(u32::from_be_bytes).collect();
    results(&words, ID).map(<[u32]>::to_vec)
}

/// The results in an answer that is accepted and successful.
fn results(words: &[u32], id: u32) -> Option<&[u32]> {
    let [of, kind, refused, _, verifier_length, rest @ ..] = words else { return None };
    let verifier_words = usize::try_from(verifier_length.div_ceil(4)).ok()?;
    let (status, results) = rest.get(verifier_words..)?.split_first()?;
    ((*of, *kind, *refused, *status) == (id, 1, 0, 0)).then_some(results)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_successful_answer_to_this_call_has_results() {
        assert_eq!(results(&[7, 1, 0, 0, 0, 0, 2049], 7), Some(&[2049][..]));
        assert_eq!(results(&[7, 1, 0, 0, 5, 1, 2, 0, 2049], 7), Some(&[2049][..]), "behind a verifier of five bytes");
        assert_eq!(results(&[7, 1, 0, 0, 0, 1], 7), None, "the program is not there");
        assert_eq!(results(&[7, 1, 1, 0, 0, 0], 7), None, "refused");
        assert_eq!(results(&[8, 1, 0, 0, 0, 0], 7), None, "of another call");
        assert_eq!(results(&[7, 1, 0, 0, u32::MAX, 0], 7), None, "a verifier that is not there");
    }
}
