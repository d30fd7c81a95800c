//! Decides what to check: the configured servers, and those whose mounts are found here.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use nfs_mounts::mountinfo::{Device, Mount, Mounts};

use crate::probe::verdict::OnlyMounts;
use crate::probe::{Probing, Version};
use crate::server::{Host, NFS_PORT, Server};

/// The most exports that are checked, whatever is mounted.
pub const MOST_TARGETS: usize = 512;

/// What to check, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetSettings {
    /// The configured servers.
    pub servers: Vec<Server>,
    /// The servers behind addresses, by address (without an export).
    pub backends: Vec<(Server, Server)>,
    /// The file that lists the mounts; `None` if mounts are not checked.
    pub mountinfo: Option<PathBuf>,
    /// Mounts to ignore: patterns of paths.
    pub excluded: Vec<String>,
    /// How to probe.
    pub probing: Probing,
}

/// One export with its mounts here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// All paths of each device: several mounts of a device share their state, and each path leads to it.
    pub mounts: BTreeMap<Device, Vec<PathBuf>>,
    /// Mounts that are not touched, because they would not expire.
    pub automounts: Vec<PathBuf>,
    /// The version to probe, if the mounts do not use the server's highest.
    pub version: Option<Version>,
    /// The port of mountd that the mounts use, over TCP.
    pub mount_port: Option<u16>,
    /// The host of mountd, if it is not the server's.
    pub mount_address: Option<IpAddr>,
    /// The name in its mounts, if it differs from the server's.
    pub alias: Option<String>,
    /// The server itself, if the clients' address belongs to something else (a Service).
    pub behind: Option<Server>,
    /// Why a failure on the wire is not a verdict, if only the mounts count.
    pub only_mounts: Option<OnlyMounts>,
    /// Whether the mounts use Kerberos, so that the server need not accept less.
    pub kerberos: bool,
}

/// The result of a search for targets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// What to check.
    pub targets: BTreeMap<Server, Target>,
    /// How many mounts are not touched, by reason.
    pub left_out: BTreeMap<LeftOut, usize>,
}

/// Why a mount is not touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LeftOut {
    /// `NFS_MOUNTS_EXCLUDED` excludes it.
    Excluded,
    /// It is unmounted when it is not in use.
    Automount,
    /// There are too many.
    Limit,
    /// Its line in the list of mounts cannot be parsed.
    NotUnderstood,
}

/// All reasons.
pub const LEFT_OUT: [LeftOut; 4] = [LeftOut::Excluded, LeftOut::Automount, LeftOut::Limit, LeftOut::NotUnderstood];

impl TargetSettings {
    /// The server behind the address of `front`, with the same export.
    pub fn behind(&self, front: &Server) -> Option<Server> {
        let (_, behind) = self.backends.iter().find(|(at, _)| (&at.host, at.port) == (&front.host, front.port))?;
        Some(Server { export: front.export.clone(), ..behind.clone() })
    }
}

/// All targets: each configured server, whether mounted here or not, and each server that is mounted here.
pub fn targets(target_settings: &TargetSettings, mounts: &Mounts) -> Found {
    let named = target_settings.servers.iter().map(|server| (server.clone(), Target::default())).collect();
    let mut found = Found { targets: named, left_out: BTreeMap::new() };
    let mut leave_out = |why| *found.left_out.entry(why).or_insert(0) += 1;
    mounts.not_understood.iter().for_each(|_| leave_out(LeftOut::NotUnderstood));
    let by_id: HashMap<u32, &Mount> = mounts.mounts.iter().map(|mount| (mount.id, mount)).collect();
    for mount in mounts.nfs() {
        if target_settings.excluded.iter().any(|pattern| covers(pattern, &mount.mount_point)) {
            leave_out(LeftOut::Excluded);
            continue;
        }
        let Source { server, alias, only_mounts } = source(mount);
        let known = target_settings.servers.iter().find(|known| known.holds(&server, alias.as_deref()));
        let is_named = known.is_some();
        let server = known.cloned().unwrap_or(server);
        let is_new = !found.targets.contains_key(&server);
        if is_new && found.targets.len() >= MOST_TARGETS {
            leave_out(LeftOut::Limit);
            continue;
        }
        let target = found.targets.entry(server).or_default();
        // For a configured server the wire counts, and also for a mount that uses the same network path as this
        // process.
        target.only_mounts = if is_named || only_mounts.is_none() || !(is_new || target.only_mounts.is_some()) {
            None
        } else {
            only_mounts
        };
        if expires(mount, &by_id) {
            leave_out(LeftOut::Automount);
            target.automounts.push(mount.mount_point.clone());
        } else {
            target.mounts.entry(mount.device).or_default().push(mount.mount_point.clone());
        }
        target.alias = alias.or(target.alias.take());
        target.kerberos |= mount.option("sec").is_some_and(|security| security.starts_with("krb5"));
        if mount.option("vers") == Some("3") {
            target.version = Some(Version::V3);
            (target.mount_port, target.mount_address) = mountd(mount);
        }
    }
    for (server, target) in &mut found.targets {
        target.behind = target_settings.behind(server);
    }
    found
}

/// The source of a mount.
struct Source {
    server: Server,
    alias: Option<String>,
    only_mounts: Option<OnlyMounts>,
}

/// The server that a mount uses, by the address that the kernel uses, and its name, if it was mounted by name.
fn source(mount: &Mount) -> Source {
    let (name, export) = mount.nfs_source().unwrap_or(("", &mount.source));
    let written = Host::named(name);
    let address = mount.option("addr").and_then(Host::named).filter(|host| !matches!(host, Host::Name(_)));
    let host = match (&written, address) {
        // The kernel shows the zone by its number; the mount's source has the name that users know.
        (Some(Host::LinkLocal(link_local, _)), Some(Host::LinkLocal(address, _))) if *link_local == address => {
            written.clone()
        }
        (Some(Host::LinkLocal(link_local, _)), Some(Host::Address(address))) if *link_local == address => {
            written.clone()
        }
        (_, Some(address)) => Some(address),
        (_, None) => written.clone(),
    };
    let protocol = mount.option("proto").unwrap_or("tcp");
    let port = mount.option("port").and_then(|port| port.parse().ok()).filter(|port| *port > 0).unwrap_or(NFS_PORT);
    // RDMA has its own port (20049); over TCP the server has the usual one.
    let (port, only_mounts) = match protocol {
        "rdma" | "rdma6" => (NFS_PORT, Some(OnlyMounts::Rdma)),
        "udp" | "udp6" => (port, Some(OnlyMounts::Udp)),
        _ => (port, None),
    };
    let only_mounts = only_mounts.or_else(|| is_tls(mount.option("xprtsec")).then_some(OnlyMounts::Tls));
    let only_mounts = if host.is_none() { Some(OnlyMounts::NoServer) } else { only_mounts };
    let alias = match &host {
        Some(Host::Address(_) | Host::LinkLocal(..)) if written != host && !name.is_empty() => Some(name.to_owned()),
        _ => None,
    };
    let export = Some(export.to_owned()).filter(|export| !export.is_empty());
    let host = host.unwrap_or_else(|| Host::Name(if name.is_empty() { "(no server)" } else { name }.to_owned()));
    let server = Server { host, port, export };
    let only_mounts = only_mounts.or_else(|| server.is_loopback().then_some(OnlyMounts::Loopback));
    Source { server, alias, only_mounts }
}

/// Whether mounts with this option `xprtsec` use TLS (RFC 9289).
pub fn is_tls(security: Option<&str>) -> bool {
    security.is_some_and(|security| security != "none")
}

/// The port of mountd in mount options. A port belongs to a program, its version and its protocol (RFC 1833), so a port for another
/// one is ignored.
pub fn mountd_port<'a>(option: impl Fn(&str) -> Option<&'a str>) -> Option<u16> {
    let is_ours = option("mountproto").is_none_or(|protocol| protocol.starts_with("tcp"))
        && option("mountvers").is_none_or(|version| version == "3");
    option("mountport").and_then(|port| port.parse().ok()).filter(|port| is_ours && *port > 0)
}

/// The port and the host of mountd that a mount of version 3 used.
fn mountd(mount: &Mount) -> (Option<u16>, Option<IpAddr>) {
    let port = mountd_port(|name| mount.option(name));
    let parse = |name| mount.option(name).and_then(|address| address.parse::<IpAddr>().ok());
    let address = parse("mountaddr").filter(|address| !address.is_unspecified() && parse("addr") != Some(*address));
    (port, address)
}

/// Whether a mount belongs to an automounter that unmounts unused mounts.
fn expires(mount: &Mount, by_id: &HashMap<u32, &Mount>) -> bool {
    let mut above = mount;
    // The limit ends the loop for invalid input with a loop of parents.
    for _ in 0..by_id.len() {
        match by_id.get(&above.parent) {
            Some(parent) if parent.id != above.id => above = parent,
            _ => return false,
        }
        if above.file_system == "autofs" {
            let timeout = above.option("timeout").and_then(|timeout| timeout.parse::<u64>().ok());
            return timeout.is_some_and(|seconds| seconds > 0);
        }
    }
    false
}

/// Whether a path, or one above it, matches a pattern, in which `*` matches any characters.
fn covers(pattern: &str, path: &Path) -> bool {
    match pattern.trim_end_matches('/') {
        "" => true,
        pattern => path.ancestors().any(|path| fits(pattern, &path.to_string_lossy())),
    }
}

fn fits(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split('*');
    let Some(mut rest) = pieces.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut pieces: Vec<&str> = pieces.collect();
    let Some(last) = pieces.pop() else { return rest.is_empty() };
    for piece in pieces {
        match rest.find(piece) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

impl LeftOut {
    /// The reason in one word, for metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Excluded => "excluded",
            Self::Automount => "automount",
            Self::Limit => "limit",
            Self::NotUnderstood => "not_understood",
        }
    }

    /// The reason, for people.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Excluded => "excluded by NFS_MOUNTS_EXCLUDED",
            Self::Automount => "automounts, which would not expire",
            Self::Limit => "of more exports than are checked",
            Self::NotUnderstood => "in lines of the list of mounts that cannot be parsed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const NODE: &str = "\
1 0 8:1 / / rw - ext4 /dev/vda rw
2 1 0:40 / /var/lib/kubelet/pods/a/home rw - nfs4 fileserver:/home rw,vers=4.1,addr=10.0.0.9
3 1 0:40 / /var/lib/kubelet/pods/b/home rw - nfs4 fileserver:/home rw,vers=4.1,addr=10.0.0.9
4 1 0:41 /ann /srv/ann rw - nfs4 fileserver:/home/ann rw,vers=4.1,addr=10.0.0.9
5 1 0:42 / /data rw - nfs old:/data rw,vers=3,addr=10.0.0.8,mountport=20048
6 1 0:43 / /six rw - nfs4 [fd00::1]:/ rw,vers=4.2,addr=fd00::1,port=12049
";

    fn target_settings(named: &[&str]) -> TargetSettings {
        let probing = Probing::plain(Duration::from_secs(1));
        let servers = named.iter().map(|text| text.parse().unwrap()).collect();
        let backends = vec![("10.0.0.9".parse().unwrap(), "10.1.0.7".parse().unwrap())];
        TargetSettings { servers, backends, mountinfo: None, excluded: Vec::new(), probing }
    }

    fn seen(named: &[&str]) -> Vec<(String, usize)> {
        let found = targets(&target_settings(named), &Mounts::parse(NODE.as_bytes()));
        found.targets.into_iter().map(|(server, target)| (server.to_string(), target.mounts.len())).collect()
    }

    #[test]
    fn mounts_lead_to_their_servers_each_device_once() {
        let expected = [("10.0.0.8/data", 1), ("10.0.0.9/home", 1), ("10.0.0.9/home/ann", 1), ("[fd00::1]:12049/", 1)];
        assert_eq!(seen(&[]), expected.map(|(server, mounts)| (server.to_owned(), mounts)));
    }

    #[test]
    fn a_named_server_takes_its_mounts_by_name_or_address() {
        for named in ["fileserver/home", "10.0.0.9:/home", "10.0.0.9/", "FileServer/home", "fileserver./home"] {
            let seen = seen(&[named, "elsewhere/x"]);
            assert_eq!(seen.len(), 4, "{seen:?}");
            assert!(seen.iter().any(|(_, mounts)| *mounts == 2), "{seen:?}");
            assert!(seen.contains(&("elsewhere/x".to_owned(), 0)), "{seen:?}");
        }
        assert!(seen(&["10.0.0.9/ho"]).contains(&("10.0.0.9/ho".to_owned(), 0)));
    }

    #[test]
    fn mounts_of_version_3_are_probed_as_such() {
        let targets = targets(&target_settings(&[]), &Mounts::parse(NODE.as_bytes())).targets;
        let data = &targets[&"10.0.0.8/data".parse().unwrap()];
        assert_eq!((data.version, data.mount_port), (Some(Version::V3), Some(20048)));
        let home = &targets[&"10.0.0.9/home".parse().unwrap()];
        assert_eq!((home.version, home.alias.as_deref()), (None, Some("fileserver")));
        assert_eq!(home.behind, Some("10.1.0.7/home".parse().unwrap()));
    }
    /// The only target of one line.
    fn of_line(line: &str) -> (String, Target) {
        let found = targets(&target_settings(&[]), &Mounts::parse(format!("9 1 0:77 / /m rw - {line}\n").as_bytes()));
        assert_eq!(found.left_out, BTreeMap::new(), "{line}");
        let (server, target) = found.targets.into_iter().next().unwrap_or_else(|| panic!("{line}: nothing"));
        assert_eq!(target.mounts.len(), 1);
        (server.to_string(), target)
    }

    #[test]
    fn options_are_read_with_their_protocol() {
        let table = [
            ("nfs4 10.0.0.9:/h rw,vers=4.2,proto=rdma,port=20049,addr=10.0.0.9", "10.0.0.9/h", Some(OnlyMounts::Rdma)),
            ("nfs4 10.0.0.9:/h rw,vers=4.2,proto=tcp,port=20049,addr=10.0.0.9", "10.0.0.9:20049/h", None),
            ("nfs 10.0.0.9:/h rw,vers=3,proto=udp,addr=10.0.0.9", "10.0.0.9/h", Some(OnlyMounts::Udp)),
            ("nfs4 10.0.0.9:/h rw,proto=tcp,xprtsec=mtls,addr=10.0.0.9", "10.0.0.9/h", Some(OnlyMounts::Tls)),
            ("nfs4 10.0.0.9:/h rw,proto=tcp,xprtsec=none,addr=10.0.0.9", "10.0.0.9/h", None),
            ("nfs4 127.0.0.1:/ rw,port=20127,addr=127.0.0.1", "127.0.0.1:20127/", Some(OnlyMounts::Loopback)),
            ("nfs4 [::1]:/ rw,port=20127,addr=::1", "[::1]:20127/", Some(OnlyMounts::Loopback)),
            ("nfs4 10.0.0.9:/h rw,port=0,addr=10.0.0.9", "10.0.0.9/h", None),
        ];
        for (line, server, only_mounts) in table {
            let (seen, target) = of_line(line);
            assert_eq!((seen.as_str(), target.only_mounts), (server, only_mounts), "{line}");
        }
        let port = |options: &str| {
            let (_, target) = of_line(&format!("nfs 10.0.0.9:/h rw,vers=3,addr=10.0.0.9,{options}"));
            (target.mount_port, target.mount_address.map(|address| address.to_string()))
        };
        assert_eq!(port("mountvers=3,mountport=2050,mountproto=tcp,mountaddr=10.0.0.9"), (Some(2050), None));
        assert_eq!(port("mountvers=3,mountport=2050,mountproto=udp"), (None, None));
        assert_eq!(port("mountvers=1,mountport=2050,mountproto=tcp"), (None, None));
        assert_eq!(port("mountport=0,mountaddr=10.0.0.7"), (None, Some("10.0.0.7".to_owned())));
        assert_eq!(port("mountaddr=unspecified"), (None, None));
    }

    #[test]
    fn every_form_of_source_is_checked() {
        let table = [
            ("nfs 10.0.0.9:homes rw,vers=3,addr=10.0.0.9", "10.0.0.9:homes"),
            ("nfs nas:homes rw,vers=3,addr=10.0.0.9", "10.0.0.9:homes"),
            ("nfs4 [fe80::1%fpn41]:/home rw,addr=fe80::1%5", "[fe80::1%fpn41]/home"),
            ("nfs4 [fe80::1%fpn41]:/home rw,addr=fe80::1", "[fe80::1%fpn41]/home"),
            ("nfs4 nas.local:/home rw,addr=fe80::1%5", "[fe80::1%5]/home"),
            ("nfs4 odd rw,addr=10.0.0.9", "10.0.0.9:odd"),
            ("nfs4 odd rw", "(no server):odd"),
        ];
        for (line, server) in table {
            assert_eq!(of_line(line).0, server, "{line}");
        }
    }

    #[test]
    fn each_path_of_a_device_is_kept_and_each_device_once() {
        let lines = "40 1 0:77 / /srv/host rw - nfs4 h:/home rw,addr=10.0.0.9\n\
                     41 1 0:77 / /pods/a rw - nfs4 h:/home rw,addr=10.0.0.9\n";
        let found = targets(&target_settings(&[]), &Mounts::parse(lines.as_bytes()));
        let paths: Vec<_> = found.targets.values().flat_map(|target| target.mounts.values()).collect();
        assert_eq!(paths, [&[PathBuf::from("/srv/host"), PathBuf::from("/pods/a")]]);
    }

    #[test]
    fn automounts_that_expire_and_excluded_mounts_are_not_touched() {
        let mount = "308 1 0:126 / /net rw - autofs map rw,fd=5,TIMEOUT,minproto=5\n\
                     309 308 0:77 / /net/ann rw - nfs4 h:/home rw,addr=10.0.0.9\n\
                     310 309 0:78 /x /net/ann/x rw - nfs4 h:/home/x rw,addr=10.0.0.9\n";
        let seen = |timeout: &str, excluded: &[&str]| {
            let mut target_settings = target_settings(&[]);
            target_settings.excluded = excluded.iter().map(|pattern| (*pattern).to_owned()).collect();
            let found = targets(&target_settings, &Mounts::parse(mount.replace("TIMEOUT", timeout).as_bytes()));
            let touched = found.targets.values().map(|target| target.mounts.len()).sum::<usize>();
            (found.targets.len(), touched, found.left_out)
        };
        let left_out = |why, count| BTreeMap::from([(why, count)]);
        assert_eq!(seen("timeout=300", &[]), (2, 0, left_out(LeftOut::Automount, 2)));
        // systemd's automounts without TimeoutIdleSec stay forever.
        assert_eq!(seen("timeout=0", &[]), (2, 2, BTreeMap::new()));
        for all in ["/", "//", "/*", "*"] {
            assert_eq!(seen("timeout=0", &[all]), (0, 0, left_out(LeftOut::Excluded, 2)), "{all}");
        }
        assert_eq!(seen("timeout=0", &["/net/ann"]), (0, 0, left_out(LeftOut::Excluded, 2)));
        assert_eq!(seen("timeout=0", &["/net/*/x/"]), (1, 1, left_out(LeftOut::Excluded, 1)));
        assert_eq!(seen("timeout=0", &["/ne", "*nn/y"]), (2, 2, BTreeMap::new()));
    }
}
