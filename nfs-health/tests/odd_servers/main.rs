//! `nfs-health check` against servers with faults that no real one produces on demand: garbage, slowness, endless records.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod addresses;
#[path = "../exports/mod.rs"]
mod exports;
mod scripted;
mod statuses;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::Duration;

use testbed::daemon::Daemon;
use testbed::ganesha::{Ganesha, Setup};
use testbed::wait::LIMIT;

use self::scripted::Script;

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

/// The time limit of a check that has to wait for its end.
pub(crate) const SHORT: [(&str, &str); 1] = [("NFS_TIMEOUT", "4s")];

/// The verdict of a check that has 200 MB of address space: a claimed or endless length must not be believed.
fn check(server: &str) -> String {
    check_with(server, &[])
}

fn check_with(server: &str, settings: &[(&str, &str)]) -> String {
    let output = Command::new("sh")
        .args(["-c", "ulimit -v 200000 && exec \"$0\" check", env!("CARGO_BIN_EXE_nfs-health")])
        .env("NFS_SERVERS", server)
        .env("NFS_MOUNTS", "no")
        .env("NFS_TIMEOUT", "60s")
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
        let verdict = check(&server);
        assert!(verdict.starts_with("protocol_error null: ") && verdict.contains(words), "{verdict}");
    }
}

#[test]
fn records_without_end_are_refused() {
    let fragment = [&[0, 1, 0, 0][..], &[7; 65536]].concat();
    for (endless, words) in [(fragment, "more than 1052672 bytes"), (vec![0; 4096], "fragments")] {
        let server = server(move |mut stream| while stream.write_all(&endless).is_ok() {});
        let verdict = check(&server);
        assert!(verdict.starts_with("protocol_error null: ") && verdict.contains(words), "{verdict}");
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
    let verdict = check_with(&relay(Duration::ZERO), &[("NFS_TIMEOUT", "5m")]);
    assert!(verdict.starts_with("ok"), "{verdict}");
    let verdict = check_with(&relay(Duration::from_secs(1)), &SHORT);
    assert!(verdict.starts_with("server_down null: it accepts connections but does not respond"), "{verdict}");
}

#[test]
fn a_server_that_answers_too_slowly_is_called_slow() {
    let place = scripted::start(Script { pause: Duration::from_secs(3), ..Script::default() });
    let verdict = check_with(&format!("{place}/plain"), &[("NFS_TIMEOUT", "10s")]);
    assert!(verdict.starts_with("server_down ") && verdict.contains("it answers too slowly: "), "{verdict}");
}

#[test]
fn a_connection_that_ends_instead_of_an_answer_is_a_server_that_is_down() {
    let verdict = check(&server(drop));
    assert!(verdict.starts_with("server_down null: the connection broke"), "{verdict}");
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
    let verdict = check(&server);
    assert!(verdict.starts_with("protocol_error null: the server has versions 2 to 2"), "{verdict}");
}

#[test]
fn a_grace_period_that_does_not_end_is_a_server_that_is_down() {
    // The lease is 2 s: 20 s of grace are healthy.
    let servers = format!("{}/setattr-10013", scripted::start(Script::default()));
    let settings = [("NFS_SERVERS", servers.as_str()), ("NFS_INTERVAL", "1s"), ("NFS_MOUNTS", "no")];
    let daemon = Daemon::start(env!("CARGO_BIN_EXE_nfs-health"), &["run"], &settings).unwrap();
    let until = |wanted: &str| exports::until(&daemon, LIMIT, |verdicts| verdicts[0].contains(wanted));
    until(": grace (session)");
    let verdicts = until(": server_down (session)");
    assert!(
        verdicts[0].contains("its lease is 2 s: it opens no files and does not leave the grace period"),
        "{verdicts:?}"
    );
    let healthy = format!("labhands_nfs_health_healthy{{export=\"{servers}\"}}");
    assert_eq!(daemon.metric(&healthy), Some(0.0));
}

#[test]
fn outputs_for_programs_and_for_nagios() {
    let place = scripted::start(Script::default());
    let run = |paths: &[&str], arguments: &[&str]| {
        let servers: Vec<String> = paths.iter().map(|path| format!("{place}/{path}")).collect();
        let mut command = Command::new(env!("CARGO_BIN_EXE_nfs-health"));
        command.arg("check").args(arguments).env("NFS_SERVERS", servers.join(",")).env("NFS_TIMEOUT", "60s");
        let output = command.env("NFS_MOUNTS", "no").output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, printed) = run(&["plain"], &["--output=nagios", "--warn=50s", "--critical=60s"]);
    assert!(
        printed.starts_with(&format!("NFS OK - {place}/plain: ok in ")) && printed.contains("s;50;60;0\n"),
        "{printed}"
    );
    assert_eq!(code, Some(0));
    for (paths, arguments, expected, word) in [
        (&["plain"][..], &["--output=nagios", "--warn=1us"][..], 1, "NFS WARNING - "),
        (&["plain"], &["--output=nagios", "--critical=1us"], 2, "NFS CRITICAL - "),
        (&["setattr-10013"], &["--output=nagios"], 1, "NFS WARNING - "),
        (&["plain", "lookup-5"], &["--output=nagios"], 2, "NFS CRITICAL - 1 of 2 exports are not healthy: "),
        (&[], &["--output=nagios", "--nfs-mounts=true", "--nfs-mountinfo=/dev/null"], 3, "NFS UNKNOWN - "),
        (&["plain"], &["--critical=1us"], 1, &place),
        (&["plain"], &["--warn=1us"], 0, &place),
    ] {
        let (code, printed) = run(paths, arguments);
        assert!(code == Some(expected) && printed.starts_with(word), "{arguments:?}: {code:?} {printed}");
    }
    let (code, printed) = run(&["plain", "lookup-5"], &["--output=json"]);
    let document: serde_json::Value = serde_json::from_str(&printed).unwrap();
    let verdicts: Vec<&str> = [0, 1].map(|at| document["exports"][at]["verdict"].as_str().unwrap()).into();
    assert_eq!((code, verdicts), (Some(1), vec!["server_down", "ok"]));
}
