//! A server whose name has several addresses in the DNS: a working one is found, whichever the resolver returns first.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::process::Command;
use std::thread;

use testbed::folder::Folder;
use testbed::ganesha::{Firewall, Ganesha, Setup};

/// One of two loopback addresses for fixed ports, which no other process of this test has.
fn own_address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 64, 0, 0)) + (2 * std::process::id() + number) % (1 << 22))
}

/// Greets like a server of another protocol, at the port of NFS. Returns its address.
fn serve_another_protocol() -> Ipv4Addr {
    let address = own_address(1);
    let listener = TcpListener::bind((address, 2049)).unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                stream.write_all(b"SSH-2.0-x\r\n").and_then(|()| stream.read_to_end(&mut Vec::new()))
            });
        }
    });
    address
}

/// Answers by RFC 1035 with the IPv4 addresses of a name, in the given order; it knows no other names and types. Returns its
/// address.
fn serve_names(names: HashMap<&'static str, Vec<Ipv4Addr>>) -> Ipv4Addr {
    let address = own_address(0);
    let socket = UdpSocket::bind((address, 53)).unwrap();
    // It ends with the test's process.
    thread::spawn(move || {
        let mut question = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut question) {
            socket.send_to(&answer(&question[..length], &names), from).unwrap();
        }
    });
    address
}

fn answer(question: &[u8], names: &HashMap<&str, Vec<Ipv4Addr>>) -> Vec<u8> {
    let (head, mut rest) = question.split_at(12);
    let mut labels = Vec::new();
    while rest[0] != 0 {
        let (label, more) = rest[1..].split_at(usize::from(rest[0]));
        labels.push(std::str::from_utf8(label).unwrap());
        rest = more;
    }
    let is_address = rest[1..3] == [0, 1];
    let addresses = names.get(labels.join(".").as_str()).filter(|_| is_address).cloned().unwrap_or_default();
    let end = question.len() - rest.len() + 5; // a zero, type and class
    // The same id; a response, with recursion; one question and these answers.
    let mut answer =
        [&head[..2], &[0x81, 0x80, 0, 1, 0, addresses.len() as u8, 0, 0, 0, 0], &question[12..end]].concat();
    for address in addresses {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]); // the requested name, A, IN, not to be cached
        answer.extend(address.octets());
    }
    answer
}

#[test]
fn one_working_address_is_enough_wherever_it_comes_in_the_dns() {
    let (dead, alive) = (Ganesha::start(Setup::default()).unwrap(), Ganesha::start(Setup::default()).unwrap());
    dead.firewall(Firewall::Drop).unwrap();
    // It accepts connections and does not answer.
    let mut silent = Ganesha::start(Setup::default()).unwrap();
    silent.pause();
    let (dead, alive, refuses) = (dead, alive.address(), [Ipv4Addr::new(127, 0, 0, 9), Ipv4Addr::new(127, 0, 0, 8)]);
    let other = serve_another_protocol();
    let name_server = serve_names(HashMap::from([
        ("last.nas.test", vec![dead.address(), refuses[0], alive]),
        ("first.nas.test", vec![alive, dead.address(), refuses[0]]),
        ("gone.nas.test", refuses.to_vec()),
        ("silent.nas.test", vec![silent.address(), alive]),
        ("all-silent.nas.test", vec![refuses[0], silent.address()]),
        ("other.nas.test", vec![other, alive]),
        ("only-other.nas.test", vec![refuses[0], other]),
    ]));
    let folder = Folder::new("resolver").unwrap();
    let file = folder.write("resolv.conf", format!("nameserver {name_server}\n")).unwrap();
    let check = |name: &str| {
        let mut command = Command::new("unshare");
        let script = "mount --bind \"$1\" /etc/resolv.conf && exec \"$2\" check";
        command.args(["-m", "sh", "-ec", script, "sh"]).arg(&file).arg(env!("CARGO_BIN_EXE_nfs-health"));
        command.env("NFS_SERVERS", format!("{name}/home")).env("NFS_MOUNTS", "no").env("NFS_TIMEOUT", "20s");
        let output = command.output().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    for name in ["first.nas.test", "last.nas.test", "silent.nas.test", "other.nas.test"] {
        let printed = check(name);
        assert!(printed.contains("verdict             ok"), "{name}: {printed}");
    }
    let printed = check("only-other.nas.test");
    assert!(printed.contains("protocol_error"), "{printed}");
    let printed = check("gone.nas.test");
    assert!(printed.contains("server_down") && printed.contains("the connection is refused"), "{printed}");
    let printed = check("all-silent.nas.test");
    assert!(
        printed.contains("server_down") && printed.contains("it accepts connections but does not respond"),
        "{printed}"
    );
}
