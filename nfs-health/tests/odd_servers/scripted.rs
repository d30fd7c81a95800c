//! A server of NFSv3 (with mountd) and NFSv4 whose answers follow a script.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::server;

/// What the server does besides what the names in the path ask for.
#[derive(Default)]
pub(crate) struct Script {
    /// The highest minor version of NFSv4.
    pub(crate) minor: u32,
    /// How often it still forgets the session.
    pub(crate) forgets: u32,
    /// An operation of sessions that it refuses, and the status; operation 0 is a request without operations.
    pub(crate) refuses: Option<(u32, u32)>,
    /// How long each answer takes.
    pub(crate) pause: Duration,
    /// How often each name was asked for.
    pub(crate) asked: HashMap<String, u32>,
}

/// Starts the server. Returns its address with its port.
pub(crate) fn start(script: Script) -> String {
    let script = Arc::new(Mutex::new(script));
    server(move |stream| by_name(stream, &script)).replace("/home", "")
}

/// Takes an XDR word from the front.
fn word(bytes: &mut &[u8]) -> u32 {
    let (word, rest) = bytes.split_first_chunk::<4>().unwrap();
    *bytes = rest;
    u32::from_be_bytes(*word)
}

/// Takes an XDR byte string from the front.
fn opaque(bytes: &mut &[u8]) -> Vec<u8> {
    let length = word(bytes) as usize;
    let (string, rest) = bytes.split_at(length.next_multiple_of(4));
    *bytes = rest;
    string[..length].to_vec()
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// An XDR byte string.
fn string(text: &[u8]) -> Vec<u8> {
    let mut bytes = [&words(&[u32::try_from(text.len()).unwrap()])[..], text].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// What becomes of `operation` on `name`, according to the name.
fn status(script: &Mutex<Script>, operation: &str, name: &str) -> u32 {
    let Some(rest) = name.strip_prefix(operation) else { return 0 };
    let (status, times) = rest.split_once("-times-").unwrap_or((rest, "4000000000"));
    let mut script = script.lock().unwrap();
    let so_far = script.asked.entry(name.to_owned()).or_insert(0);
    *so_far += 1;
    if *so_far > times.parse().unwrap() { 0 } else { status.parse().unwrap() }
}

/// Serves one connection. The names in a path determine the answers: a lookup of `lookup-5` gets the status 5, and so for
/// `getattr-`, `setattr-`, `open-`, `readlink-`, `mnt-` and `fsstat-`; `lookup-10008-times-2` gives that status twice and is then
/// good; `link-to-x` is a symbolic link, and `moved-to-a+b` is on one of these servers. Instead of an answer to UMNT for
/// `umnt-refused` the connection ends.
fn by_name(mut stream: TcpStream, script: &Mutex<Script>) {
    loop {
        let mut header = [0; 4];
        if stream.read_exact(&mut header).is_err() {
            return;
        }
        let mut call = vec![0; (u32::from_be_bytes(header) & 0x7fff_ffff) as usize];
        stream.read_exact(&mut call).unwrap();
        let mut rest = &call[..];
        let [xid, _, _, program, version, procedure] = [(); 6].map(|()| word(&mut rest));
        for _credentials_and_verifier in 0..2 {
            word(&mut rest);
            opaque(&mut rest);
        }
        let pause = script.lock().unwrap().pause;
        std::thread::sleep(pause);
        let answer = match (version, procedure) {
            (3 | 4, 0) => words(&[0]),
            (3, 3) if program == 100_005 && call.ends_with(b"umnt-refused") => return,
            (3, _) => [words(&[0]), version_3(program, procedure, &mut rest, script)].concat(),
            (4, _) => [words(&[0]), compound(&mut rest, script)].concat(),
            _ => words(&[2, 4, 4]),
        };
        let message = [words(&[xid, 1, 0, 0, 0]), answer].concat();
        let length = u32::try_from(message.len()).unwrap() | 1 << 31;
        stream.write_all(&[words(&[length]), message].concat()).unwrap();
    }
}

/// mountd: its handles are paths; and the two calls of NFSv3 that a probe makes.
fn version_3(program: u32, procedure: u32, rest: &mut &[u8], script: &Mutex<Script>) -> Vec<u8> {
    let path = opaque(rest);
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap();
    let name = std::str::from_utf8(name).unwrap();
    let (operation, body) = match (program, procedure) {
        (100_005, 1) => ("mnt-", [string(&path), words(&[1, 1])].concat()),
        (100_005, _) => return Vec::new(),
        (_, 18) => ("fsstat-", [words(&[0]), [9_u64; 6].map(u64::to_be_bytes).concat(), words(&[0])].concat()),
        _ => ("setattr-", words(&[0, 0])),
    };
    let status = status(script, operation, name);
    [words(&[status]), if status == 0 { body } else { words(&[0, 0]) }].concat()
}

/// The attribute `fs_locations`: the export is the folder `home` of each of the servers.
fn locations(servers: &str) -> Vec<u8> {
    let servers: Vec<&str> = servers.split('+').collect();
    let count = u32::try_from(servers.len()).unwrap();
    let servers: Vec<u8> = servers.iter().flat_map(|server| string(server.as_bytes())).collect();
    let value = [words(&[1]), string(b"moved"), words(&[1, count]), servers, words(&[1]), string(b"home")].concat();
    [words(&[1, 1 << 24]), string(&value)].concat()
}

fn skip(rest: &mut &[u8], length: usize) {
    *rest = &rest[length..];
}

/// The status and the result of an operation of NFSv4.1. The server forgets the session as often as the script has it.
fn of_a_session(operation: u32, rest: &mut &[u8], script: &Mutex<Script>) -> (u32, Vec<u8>) {
    match operation {
        42 => {
            skip(rest, 8);
            opaque(rest);
            skip(rest, 12);
            (0, [words(&[0, 7, 1, 0, 0, 0, 0]), string(b"owner"), string(b"scope"), words(&[0])].concat())
        }
        43 => {
            skip(rest, 84);
            (0, words(&[0; 4 + 2 + 2 * 7]))
        }
        53 => {
            skip(rest, 32);
            let mut script = script.lock().unwrap();
            if script.forgets > 0 {
                script.forgets -= 1;
                (10052, Vec::new())
            } else {
                (0, words(&[0; 4 + 5]))
            }
        }
        44 | 57 | 58 => {
            let length = match operation {
                44 => 16,
                57 => 8,
                _ => 4,
            };
            skip(rest, length);
            (0, Vec::new())
        }
        // OPEN: there is no such file. Nothing comes after it.
        _ => (2, Vec::new()),
    }
}

fn compound(rest: &mut &[u8], script: &Mutex<Script>) -> Vec<u8> {
    opaque(rest);
    if word(rest) > script.lock().unwrap().minor {
        return words(&[10021, 0, 0]);
    }
    let (mut results, mut name, mut last, mut count) = (Vec::new(), String::new(), 0, 0);
    let status = |operation: &str, name: &str| status(script, operation, name);
    let operations = word(rest);
    let refuses = script.lock().unwrap().refuses;
    if let (0, Some((0, status))) = (operations, refuses) {
        return words(&[status, 0, 0]);
    }
    for _ in 0..operations {
        let operation = word(rest);
        let mut body = Vec::new();
        last = match operation {
            24 => 0,
            15 => {
                name = String::from_utf8(opaque(rest)).unwrap();
                status("lookup-", &name)
            }
            27 => {
                body = string(name.trim_start_matches("link-to-").as_bytes());
                status("readlink-", &name)
            }
            9 => {
                let mask: Vec<u32> = (0..word(rest)).map(|_| word(rest)).collect();
                let moved = name.strip_prefix("moved-to-");
                let status = if moved.is_some() && mask.len() == 2 { 10019 } else { status("getattr-", &name) };
                if let Some(servers) = moved.filter(|_| mask.len() == 1) {
                    body = locations(servers);
                } else if status == 0 && mask.len() == 2 {
                    // Type, lease time, files and space, as requested.
                    let kind = if name.starts_with("readlink-") || name.starts_with("link-to-") { 5 } else { 2 };
                    let values =
                        [words(&[kind, 2]), [9_u64; 4].iter().flat_map(|number| number.to_be_bytes()).collect()];
                    let values = values.concat();
                    body = [words(&[2, mask[0], mask[1], u32::try_from(values.len()).unwrap()]), values].concat();
                } else if status == 0 {
                    // No locations are known.
                    body = words(&[1, 0, 0]);
                }
                status
            }
            34 => {
                skip(rest, 16);
                for _ in 0..word(rest) {
                    word(rest);
                }
                opaque(rest);
                body = words(&[0]);
                status("setattr-", &name)
            }
            33 => {
                opaque(rest);
                10004
            }
            18 | 42 | 43 | 44 | 53 | 57 | 58 => {
                let (mut answer, result) = of_a_session(operation, rest, script);
                body = result;
                if operation == 18 && name.starts_with("open-") {
                    answer = status("open-", &name);
                }
                refuses.filter(|(refused, _)| *refused == operation).map_or(answer, |(_, status)| status)
            }
            _ => 10044,
        };
        count += 1;
        results
            .extend([words(&[operation, last]), if last == 0 || operation == 34 { body } else { Vec::new() }].concat());
        if last != 0 {
            break;
        }
    }
    [words(&[last, 0, count]), results].concat()
}
