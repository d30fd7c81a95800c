//! `nfs-health check` against servers that do what no real one can be made to: garbage, slowness, records without end.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::Duration;

use testbed::ganesha::{Ganesha, Setup};

/// Serves each connection by `serve`, on its own thread; gives the address. The threads end with the test's process.
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
    let output = Command::new("sh")
        .args(["-c", "ulimit -v 200000 && exec \"$0\" check", env!("CARGO_BIN_EXE_nfs-health")])
        .env("NFS_SERVERS", server)
        .env("NFS_MOUNTS", "no")
        .env("NFS_TIMEOUT", "1s")
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
fn what_is_no_nfs_server_is_a_protocol_error() {
    for (greeting, words) in [
        (&b"SSH-2.0-OpenSSH_9.2\r\n"[..], "a record of more than"),
        (b"\x80\0\0\x04oops", "no answer to the call"),
        (b"\x80\0\0\x18\0\0\0\x63\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "no answer to the call"),
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
fn a_server_that_sends_one_byte_at_a_time_is_as_good_as_any_if_it_gets_done() {
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
    assert!(said.starts_with("server_down null: it takes the connection and does not answer"), "{said}");
}

#[test]
fn a_connection_that_ends_instead_of_an_answer_is_a_server_that_is_down() {
    let said = check(&server(drop));
    assert!(said.starts_with("server_down null: the connection breaks"), "{said}");
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

#[test]
fn a_name_is_looked_up_and_one_that_does_not_exist_is_said() {
    let address = server(drop);
    let by_name = address.replace("127.0.0.1", "localhost");
    let said = check(&by_name);
    assert!(said.starts_with("server_down "), "{said}");
    let said = check("no-such-host.invalid/home");
    assert!(said.starts_with("unreachable resolve: the name can't be looked up"), "{said}");
}
