//! `nfs-health check` against servers with faults that no real one produces on demand: garbage, slowness, endless records.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod exports;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use testbed::daemon::Daemon;
use testbed::folder::Folder;
use testbed::ganesha::{Firewall, Ganesha, Setup};
use testbed::wait;

/// Serves each connection by `serve`, on its own thread; returns the address. The threads end with the test's process.
fn server(serve: impl Fn(TcpStream) + Send + Sync + Clone + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = serve.clone();
            thread::spawn(move || serve(stream));
        }
    });
    format!("{address}/home")
}

/// The verdict of a check that has 200 MB of address space: a claimed or endless length must not be believed.
fn check(server: &str) -> String {
    check_with(server, &[])
}

fn check_with(server: &str, settings: &[(&str, &str)]) -> String {
    let output = Command::new("sh")
        .args(["-c", "ulimit -v 200000 && exec \"$0\" check", env!("CARGO_BIN_EXE_nfs-health")])
        .env("NFS_SERVERS", server)
        .env("NFS_MOUNTS", "no")
        .env("NFS_TIMEOUT", "1s")
        .envs(settings.iter().copied())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().last().unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    line.split_whitespace().skip(2).collect::<Vec<_>>().join(" ")
}

/// The call's number, after the call was read.
fn read_call(stream: &mut TcpStream) -> [u8; 4] {
    let mut header = [0; 4];
    stream.read_exact(&mut header).unwrap();
    let mut call = vec![0; (u32::from_be_bytes(header) & 0x7fff_ffff) as usize];
    stream.read_exact(&mut call).unwrap();
    call[..4].try_into().unwrap()
}

#[test]
fn what_is_not_an_nfs_server_is_a_protocol_error() {
    for (greeting, words) in [
        (&b"SSH-2.0-OpenSSH_9.2\r\n"[..], "a record of more than"),
        (b"\x80\0\0\x04oops", "not the answer to the call"),
        (b"\x80\0\0\x18\0\0\0\x63\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "not the answer to the call"),
    ] {
        let server = server(move |mut stream| {
            let _ = stream.write_all(greeting);
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let said = check(&server);
        assert!(said.starts_with("protocol_error null: ") && said.contains(words), "{said}");
    }
}

#[test]
fn records_without_end_are_refused() {
    let fragment = [&[0, 1, 0, 0][..], &[7; 65536]].concat();
    for (endless, words) in [(fragment, "more than 1052672 bytes"), (vec![0; 4096], "fragments")] {
        let server = server(move |mut stream| while stream.write_all(&endless).is_ok() {});
        let said = check(&server);
        assert!(said.starts_with("protocol_error null: ") && said.contains(words), "{said}");
    }
}

#[test]
fn a_server_that_sends_one_byte_at_a_time_is_ok_if_it_finishes_in_time() {
    let ganesha = Ganesha::start(Setup::default()).unwrap();
    let address = (ganesha.address(), 2049);
    let relay = |pause: Duration| {
        server(move |client| {
            let mut server = TcpStream::connect(address).unwrap();
            let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || std::io::copy(&mut from_client, &mut to_server));
            client.set_nodelay(true).unwrap();
            let (mut client, mut byte) = (client, [0]);
            while server.read_exact(&mut byte).is_ok() && client.write_all(&byte).is_ok() {
                thread::sleep(pause);
            }
        })
    };
    assert!(check(&relay(Duration::ZERO)).starts_with("ok"));
    let said = check(&relay(Duration::from_millis(100)));
    assert!(said.starts_with("server_down null: it accepts connections but does not respond"), "{said}");
}

#[test]
fn a_connection_that_ends_instead_of_an_answer_is_a_server_that_is_down() {
    let said = check(&server(drop));
    assert!(said.starts_with("server_down null: the connection broke"), "{said}");
}

#[test]
fn a_server_of_another_version_only_is_named_with_its_version() {
    let server = server(|mut stream| {
        let number = read_call(&mut stream);
        let reply = [0_u32, 0, 0].map(u32::to_be_bytes).concat();
        let versions = [2_u32, 2, 2].map(u32::to_be_bytes).concat();
        let message = [&number[..], &1_u32.to_be_bytes(), &reply, &versions].concat();
        let length = u32::try_from(message.len()).unwrap() | 1 << 31;
        stream.write_all(&[&length.to_be_bytes()[..], &message].concat()).unwrap();
        let number = read_call(&mut stream);
        let message = [&number[..], &1_u32.to_be_bytes(), &reply, &versions].concat();
        stream.write_all(&[&length.to_be_bytes()[..], &message].concat()).unwrap();
    });
    let said = check(&server);
    assert!(said.starts_with("protocol_error null: the server has versions 2 to 2"), "{said}");
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
fn status(said: &Mutex<HashMap<String, u32>>, operation: &str, name: &str) -> u32 {
    let Some(rest) = name.strip_prefix(operation) else { return 0 };
    let (status, times) = rest.split_once("-times-").unwrap_or((rest, "4000000000"));
    let mut said = said.lock().unwrap();
    let so_far = said.entry(name.to_owned()).or_insert(0);
    *so_far += 1;
    if *so_far > times.parse().unwrap() { 0 } else { status.parse().unwrap() }
}

/// A server of NFSv3 (with mountd) and NFSv4.0 in which the names of a path say what becomes of it: `lookup-5` is not to be looked
/// up for the status 5, `getattr-`, `setattr-`, `readlink-`, `mnt-` and `fsstat-` are alike; `lookup-10008-times-2` gives that
/// status twice and is then good; `link-to-x` is a symbolic link, and `moved-to-a+b` is on one of these servers.
fn by_name(mut stream: TcpStream, said: &Mutex<HashMap<String, u32>>) {
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
        let answer = match (version, procedure) {
            (3 | 4, 0) => words(&[0]),
            (3, _) => [words(&[0]), version_3(program, procedure, &mut rest, said)].concat(),
            (4, _) => [words(&[0]), compound(&mut rest, said)].concat(),
            _ => words(&[2, 4, 4]),
        };
        let message = [words(&[xid, 1, 0, 0, 0]), answer].concat();
        let length = u32::try_from(message.len()).unwrap() | 1 << 31;
        stream.write_all(&[words(&[length]), message].concat()).unwrap();
    }
}

/// mountd: its handles are paths; and the two calls of NFSv3 that a probe makes.
fn version_3(program: u32, procedure: u32, rest: &mut &[u8], said: &Mutex<HashMap<String, u32>>) -> Vec<u8> {
    let path = opaque(rest);
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap();
    let name = std::str::from_utf8(name).unwrap();
    let (operation, body) = match (program, procedure) {
        (100_005, 1) => ("mnt-", [string(&path), words(&[1, 1])].concat()),
        (100_005, _) => return Vec::new(),
        (_, 18) => ("fsstat-", [words(&[0]), [9_u64; 6].map(u64::to_be_bytes).concat(), words(&[0])].concat()),
        _ => ("setattr-", words(&[0, 0])),
    };
    let status = status(said, operation, name);
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

/// The status and the result of an operation of NFSv4.1. The server forgets the session as often as `said` has it.
fn of_a_session(operation: u32, rest: &mut &[u8], said: &Mutex<HashMap<String, u32>>) -> (u32, Vec<u8>) {
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
            match said.lock().unwrap().get_mut("forget") {
                Some(times) if *times > 0 => {
                    *times -= 1;
                    (10052, Vec::new())
                }
                _ => (0, words(&[0; 4 + 5])),
            }
        }
        44 | 57 | 58 => {
            skip(
                rest,
                if operation == 44 {
                    16
                } else if operation == 57 {
                    8
                } else {
                    4
                },
            );
            (0, Vec::new())
        }
        // OPEN: there is no such file. Nothing comes after it.
        _ => (2, Vec::new()),
    }
}

fn compound(rest: &mut &[u8], said: &Mutex<HashMap<String, u32>>) -> Vec<u8> {
    opaque(rest);
    let most = said.lock().unwrap().get("minor").copied().unwrap_or(0);
    if word(rest) > most {
        return words(&[10021, 0, 0]);
    }
    let (mut results, mut name, mut last, mut count) = (Vec::new(), String::new(), 0, 0);
    let status = |operation: &str, name: &str| status(said, operation, name);
    for _ in 0..word(rest) {
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
                *rest = &rest[16..];
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
                let (status, result) = of_a_session(operation, rest, said);
                body = result;
                status
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

#[test]
fn each_status_of_nfs_has_its_meaning() {
    let said = Arc::<Mutex<HashMap<String, u32>>>::default();
    let place = server(move |stream| by_name(stream, &said));
    let place = place.trim_end_matches("/home");
    let table = [
        ("plain", "ok compound: the server works"),
        (
            "lookup-1",
            "denied compound: NFS4ERR_PERM; does the export allow this client, and ports above 1023 (`insecure`)?",
        ),
        ("lookup-2", "denied compound: there is no such export"),
        ("lookup-63", "denied compound: there is no such export: NFS4ERR_NAMETOOLONG"),
        ("lookup-10041", "denied compound: there is no such export: NFS4ERR_BADNAME"),
        ("lookup-22", "denied compound: there is no such export: NFS4ERR_INVAL"),
        ("link-to-plain", "ok compound: the server works"),
        ("link-to-..", "ok compound: the server works"),
        (
            "link-to-lookup-2",
            "denied compound: the export's path has a symbolic link that leads nowhere: /link-to-lookup-2 leads to \"lookup-2\"",
        ),
        ("link-to-lookup-5", "server_down compound: the server answers, but its storage fails: NFS4ERR_IO"),
        ("a/lookup-13", "denied compound: NFS4ERR_ACCESS: neither user 65534 nor root of this client may enter /a;"),
        ("lookup-10016", "denied compound: the server works, but requires Kerberos"),
        ("lookup-10019", "denied compound: the export is on another server, but it does not say which"),
        ("getattr-10019", "denied compound: the export is on another server, but it does not say which"),
        ("readlink-22", "server_down compound: the server answers NFS4ERR_INVAL"),
        ("lookup-5", "server_down compound: the server answers, but its storage fails: NFS4ERR_IO"),
        ("getattr-6", "server_down compound: the server answers, but its storage fails: NFS4ERR_NXIO"),
        ("lookup-10006", "server_down compound: the server answers, but its storage fails: NFS4ERR_SERVERFAULT"),
        ("setattr-5", "server_down compound: the server answers, but its storage fails: NFS4ERR_IO"),
        ("lookup-10018", "server_down compound: the server answers, but its storage fails: NFS4ERR_RESOURCE"),
        ("lookup-10011", "server_down compound: the server answers NFS4ERR_EXPIRED instead of what was requested"),
        ("lookup-4711", "server_down compound: the server answers NFSv4 status 4711, which no RFC defines"),
        ("getattr-70", "stale compound"),
        ("lookup-10014", "stale compound"),
        ("setattr-30", "readonly compound"),
        ("setattr-69", "full compound: the quota is used up: NFS4ERR_DQUOT"),
        ("setattr-28", "full compound: no space left"),
        ("setattr-13", "ok compound"),
        ("getattr-10013", "grace compound"),
        ("setattr-10013", "grace session"),
        // After an answer to try again later, the probe does so until the time limit.
        ("lookup-10008-times-2", "ok compound"),
        ("setattr-10008-times-1", "ok compound"),
        ("lookup-10008", "server_down compound: the server keeps answering to try again later (NFS4ERR_DELAY)"),
        ("setattr-10008", "server_down compound: the server keeps answering to try again later (NFS4ERR_DELAY)"),
    ];
    for (path, expected) in table {
        let said = check(&format!("{place}/{path}"));
        assert!(said.starts_with(expected), "{path}: {said}");
    }
}

#[test]
fn each_status_of_version_3_and_mountd_has_its_meaning() {
    let said = Arc::<Mutex<HashMap<String, u32>>>::default();
    let place = server(move |stream| by_name(stream, &said));
    let place = place.trim_end_matches("/home");
    let port = place.rsplit(':').next().unwrap();
    let table = [
        ("plain", "ok compound: the server works"),
        ("mnt-1", "denied mountd: PERM"),
        ("mnt-2", "denied mountd: there is no such export"),
        ("mnt-13", "denied mountd: ACCES; does the export allow this client, and ports above 1023 (`insecure`)?"),
        ("mnt-20", "denied mountd: there is no such export"),
        ("mnt-22", "denied mountd: there is no such export: INVAL"),
        ("mnt-63", "denied mountd: there is no such export: NAMETOOLONG"),
        ("mnt-5", "server_down mountd: the server answers, but its storage fails: IO"),
        ("mnt-10004", "server_down mountd: the server answers NOTSUPP instead of what was requested"),
        ("mnt-10006", "server_down mountd: the server answers, but its storage fails: SERVERFAULT"),
        ("mnt-4711", "server_down mountd: the server answers NFSv3 status 4711, which no RFC defines"),
        ("fsstat-1", "denied compound: PERM"),
        ("fsstat-19", "server_down compound: the server answers, but its storage fails: NODEV"),
        ("fsstat-70", "stale compound"),
        ("fsstat-10001", "stale compound"),
        ("fsstat-10004", "server_down compound: the server answers NOTSUPP instead of what was requested"),
        ("fsstat-10008-times-2", "ok compound"),
        ("fsstat-10008", "server_down compound: the server keeps answering to try again later (JUKEBOX)"),
        ("setattr-30", "readonly compound"),
        ("setattr-28", "full compound: no space left"),
        ("setattr-69", "full compound: the quota is used up: DQUOT"),
        ("setattr-5", "server_down compound: the server answers, but its storage fails: IO"),
        ("setattr-70", "stale compound"),
        ("setattr-10008-times-1", "ok compound"),
        // A server that does not let anybody set attributes serves nevertheless.
        ("setattr-1", "ok compound"),
        ("setattr-13", "ok compound"),
        ("setattr-22", "ok compound"),
        ("setattr-10002", "ok compound"),
        ("setattr-10004", "ok compound"),
    ];
    for (path, expected) in table {
        let said = check_with(&format!("{place}/{path}"), &[("NFS_VERSION", "3"), ("NFS_MOUNT_PORT", port)]);
        assert!(said.starts_with(expected), "{path}: {said}");
    }
}

#[test]
fn a_server_that_forgot_the_session_is_asked_once_more() {
    for (times, expected) in [
        (0, "ok compound: the server works"),
        (1, "ok compound: the server works"),
        (9, "server_down compound: the server forgot the session (NFS4ERR_BADSESSION)"),
    ] {
        let said = HashMap::from([("minor".to_owned(), 1), ("forget".to_owned(), times)]);
        let said = Arc::new(Mutex::new(said));
        let place = server(move |stream| by_name(stream, &said));
        let said = check(&place.replace("/home", "/plain"));
        assert!(said.starts_with(expected), "{times}: {said}");
    }
}

#[test]
fn each_server_of_a_referral_is_tried() {
    let said = Arc::<Mutex<HashMap<String, u32>>>::default();
    let place = server(move |stream| by_name(stream, &said));
    let place = place.trim_end_matches("/home");
    let port: u16 = place.rsplit(':').next().unwrap().parse().unwrap();
    // The form in which RFC 5665 writes an address with its port.
    let alive = format!("127.0.0.1.{}.{}", port / 256, port % 256);
    let silent = Ganesha::start(Setup::default()).unwrap();
    silent.firewall(Firewall::Drop).unwrap();
    // Nothing listens at 127.0.0.9.
    for (servers, expected) in [
        (alive.clone(), "ok compound"),
        (format!("127.0.0.9+{alive}"), "ok compound"),
        (format!("{alive}+127.0.0.9"), "ok compound"),
        (format!("{}+no.such.host.invalid+{alive}", silent.address()), "ok compound"),
        (
            "127.0.0.9".to_owned(),
            "server_down connect: the connection is refused (the server refers to 127.0.0.9/home)",
        ),
    ] {
        let said = check_with(&format!("{place}/moved-to-{servers}"), &[("NFS_TIMEOUT", "6s")]);
        assert!(said.starts_with(expected) && said.contains("the server refers to 127.0.0."), "{servers}: {said}");
    }
}

#[test]
fn a_grace_period_that_does_not_end_is_a_server_that_is_down() {
    let said = Arc::<Mutex<HashMap<String, u32>>>::default();
    let place = server(move |stream| by_name(stream, &said));
    // The lease is 2 s: 20 s of grace are healthy.
    let servers = place.replace("/home", "/setattr-10013");
    let settings = [("NFS_SERVERS", servers.as_str()), ("NFS_INTERVAL", "1s"), ("NFS_MOUNTS", "no")];
    let daemon = Daemon::start(env!("CARGO_BIN_EXE_nfs-health"), &["run"], &settings).unwrap();
    let said = |wanted: &str| exports::until(&daemon, Duration::from_secs(120), |said| said[0].contains(wanted));
    said(": grace (session)");
    let said = said(": server_down (session)");
    assert!(said[0].contains("its lease is 2 s: it opens no files and does not leave the grace period"), "{said:?}");
    let healthy = format!("labhands_nfs_health_healthy{{export=\"{servers}\"}}");
    assert_eq!(daemon.metric(&healthy), Some(0.0));
}

#[test]
fn every_address_of_a_name_is_tried_within_the_time() {
    let said = Arc::<Mutex<HashMap<String, u32>>>::default();
    let place = server(move |stream| by_name(stream, &said));
    let port = place.trim_end_matches("/home").rsplit(':').next().unwrap();
    let folder = Folder::new("hosts").unwrap();
    // 127.0.0.9 refuses connections, and nothing answers at the dead address.
    let (dead, alive) = (Ganesha::start(Setup::default()).unwrap(), Ganesha::start(Setup::default()).unwrap());
    dead.firewall(Firewall::Drop).unwrap();
    let hosts = format!(
        "127.0.0.9 refused gone\n127.0.0.1 refused\n{} dead\n{} dead\n::1 localhost\n127.0.0.1 localhost\n",
        dead.address(),
        alive.address()
    );
    let hosts = folder.write("hosts", hosts).unwrap();
    let check = |server: &str| {
        let mut command = Command::new("unshare");
        let script = "mount --bind \"$1\" /etc/hosts && exec \"$2\" check";
        command.args(["-m", "sh", "-ec", script, "sh"]).arg(&hosts).arg(env!("CARGO_BIN_EXE_nfs-health"));
        command.env("NFS_SERVERS", server).env("NFS_MOUNTS", "no").env("NFS_TIMEOUT", "6s");
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    // The listener is on IPv4 alone, and `localhost` may be ::1 first.
    for server in [format!("refused:{port}/plain"), format!("localhost:{port}/plain"), "dead/home".to_owned()] {
        let said = check(&server);
        assert!(said.contains("verdict             ok"), "{server}: {said}");
    }
    let said = check(&format!("gone:{port}/plain"));
    assert!(said.contains("server_down") && said.contains("the connection is refused"), "{said}");
}

#[test]
fn a_server_on_one_link_is_named_with_its_zone() {
    let ganesha = Ganesha::start(Setup::default()).unwrap();
    let shown = ganesha.inside(&["ip", "-6", "-o", "address", "show", "dev", "eth0", "scope", "link"]).unwrap();
    let address = shown.split_whitespace().find(|word| word.starts_with("fe80")).unwrap().split('/').next().unwrap();
    let host = format!("[{address}%{}]", ganesha.interface());
    let said = wait::until(Duration::from_secs(20), || {
        Some(check(&format!("{host}/home"))).filter(|said| said.starts_with("ok"))
    });
    assert!(said.is_some(), "{}", check(&format!("{host}:/home")));
}

#[test]
fn outputs_for_programs_and_for_nagios() {
    let said = Arc::<Mutex<HashMap<String, u32>>>::default();
    let place = server(move |stream| by_name(stream, &said));
    let place = place.trim_end_matches("/home");
    let run = |paths: &[&str], arguments: &[&str]| {
        let servers: Vec<String> = paths.iter().map(|path| format!("{place}/{path}")).collect();
        let mut command = Command::new(env!("CARGO_BIN_EXE_nfs-health"));
        command.arg("check").args(arguments).env("NFS_SERVERS", servers.join(",")).env("NFS_TIMEOUT", "2s");
        let output = command.env("NFS_MOUNTS", "no").output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, said) = run(&["plain"], &["--output=nagios", "--warn=20s", "--critical=30s"]);
    assert!(said.starts_with(&format!("NFS OK - {place}/plain: ok in ")) && said.contains("s;20;30;0\n"), "{said}");
    assert_eq!(code, Some(0));
    for (paths, arguments, expected, word) in [
        (&["plain"][..], &["--output=nagios", "--warn=1us"][..], 1, "NFS WARNING - "),
        (&["plain"], &["--output=nagios", "--critical=1us"], 2, "NFS CRITICAL - "),
        (&["setattr-10013"], &["--output=nagios"], 1, "NFS WARNING - "),
        (&["plain", "lookup-5"], &["--output=nagios"], 2, "NFS CRITICAL - 1 of 2 exports are not healthy: "),
        (&[], &["--output=nagios", "--nfs-mounts=true", "--nfs-mountinfo=/dev/null"], 3, "NFS UNKNOWN - "),
        (&["plain"], &["--critical=1us"], 1, place),
        (&["plain"], &["--warn=1us"], 0, place),
    ] {
        let (code, said) = run(paths, arguments);
        assert!(code == Some(expected) && said.starts_with(word), "{arguments:?}: {code:?} {said}");
    }
    let (code, said) = run(&["plain", "lookup-5"], &["--output=json"]);
    let document: serde_json::Value = serde_json::from_str(&said).unwrap();
    let verdicts: Vec<&str> = [0, 1].map(|at| document["exports"][at]["verdict"].as_str().unwrap()).into();
    assert_eq!((code, verdicts), (Some(1), vec!["server_down", "ok"]));
}

#[test]
fn a_name_is_resolved_and_a_missing_one_is_reported() {
    let address = server(drop);
    let by_name = address.replace("127.0.0.1", "localhost");
    let said = check(&by_name);
    assert!(said.starts_with("server_down "), "{said}");
    let said = check("no-such-host.invalid/home");
    assert!(said.starts_with("unreachable resolve: the name can't be resolved"), "{said}");
}
