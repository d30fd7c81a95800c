//! What to look at: the servers that are named, and those whose mounts are found here.

use std::collections::BTreeMap;
use std::path::PathBuf;

use nfs_mounts::mountinfo::{Device, Mount, Mounts};

use crate::probe::Version;
use crate::server::{Host, NFS_PORT, Server};
use crate::settings::Look;

/// No more exports are looked at than this, whatever is mounted.
pub const MOST_TARGETS: usize = 512;

/// One export with its mounts here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// One mount of each device: several mounts of a device share their fate.
    pub mounts: BTreeMap<Device, PathBuf>,
    /// The version to probe, where the mounts' is not the highest that the server may have.
    pub version: Option<Version>,
    /// The port of mountd that the mounts use.
    pub mount_port: Option<u16>,
    /// The name by which it is mounted, where that is another than the server's.
    pub alias: Option<String>,
    /// The server itself, where the address that clients use is another's (a Service's).
    pub behind: Option<Server>,
}

/// All targets: each named server, whether mounted here or not, and each server that is mounted here.
pub fn targets(look: &Look, mounts: &Mounts) -> BTreeMap<Server, Target> {
    let mut targets: BTreeMap<Server, Target> =
        look.servers.iter().map(|server| (server.clone(), Target::default())).collect();
    for mount in mounts.nfs() {
        let Some((found, alias)) = server_of(mount) else { continue };
        let known = look.servers.iter().find(|server| server.holds(&found, alias.as_deref()));
        let server = known.cloned().unwrap_or(found);
        if targets.len() >= MOST_TARGETS && !targets.contains_key(&server) {
            continue;
        }
        let target = targets.entry(server).or_default();
        target.mounts.entry(mount.device).or_insert_with(|| mount.mount_point.clone());
        target.alias = alias.or(target.alias.take());
        if mount.option("vers") == Some("3") {
            target.version = Some(Version::V3);
            target.mount_port = mount.option("mountport").and_then(|port| port.parse().ok()).filter(|port| *port > 0);
        }
    }
    for (server, target) in &mut targets {
        target.behind = look.behind(server);
    }
    targets
}

/// The server that a mount uses, by the address that the kernel talks to; and its name, where it was mounted by one.
fn server_of(mount: &Mount) -> Option<(Server, Option<String>)> {
    let (name, export) = mount.nfs_source()?;
    let address = mount.option("addr").and_then(|address| address.parse().ok());
    let host = match address {
        Some(address) => Host::Address(address),
        None => name.parse().map_or_else(|_| Host::Name(name.to_owned()), Host::Address),
    };
    let port = mount.option("port").and_then(|port| port.parse().ok()).unwrap_or(NFS_PORT);
    let alias = matches!(host, Host::Address(address) if name.parse() != Ok(address)).then(|| name.to_owned());
    Some((Server { host, port, export: Some(export.to_owned()) }, alias))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::Probing;
    use std::time::Duration;

    const NODE: &str = "\
1 0 8:1 / / rw - ext4 /dev/vda rw
2 1 0:40 / /var/lib/kubelet/pods/a/home rw - nfs4 fileserver:/home rw,vers=4.1,addr=10.0.0.9
3 1 0:40 / /var/lib/kubelet/pods/b/home rw - nfs4 fileserver:/home rw,vers=4.1,addr=10.0.0.9
4 1 0:41 /ann /srv/ann rw - nfs4 fileserver:/home/ann rw,vers=4.1,addr=10.0.0.9
5 1 0:42 / /data rw - nfs old:/data rw,vers=3,addr=10.0.0.8,mountport=20048
6 1 0:43 / /six rw - nfs4 [fd00::1]:/ rw,vers=4.2,addr=fd00::1,port=12049
";

    fn look(named: &[&str]) -> Look {
        let probing = Probing { version: None, limit: Duration::from_secs(1), mount_port: None, owner: String::new() };
        let servers = named.iter().map(|text| text.parse().unwrap()).collect();
        let backends = vec![("10.0.0.9".parse().unwrap(), "10.1.0.7".parse().unwrap())];
        Look { servers, backends, mountinfo: None, probing }
    }

    fn seen(named: &[&str]) -> Vec<(String, usize)> {
        let targets = targets(&look(named), &Mounts::parse(NODE.as_bytes()));
        targets.into_iter().map(|(server, target)| (server.to_string(), target.mounts.len())).collect()
    }

    #[test]
    fn mounts_lead_to_their_servers_each_device_once() {
        let expected = [("10.0.0.8/data", 1), ("10.0.0.9/home", 1), ("10.0.0.9/home/ann", 1), ("[fd00::1]:12049/", 1)];
        assert_eq!(seen(&[]), expected.map(|(server, mounts)| (server.to_owned(), mounts)));
    }

    #[test]
    fn a_named_server_takes_its_mounts_by_name_or_address() {
        for named in ["fileserver/home", "10.0.0.9:/home", "10.0.0.9/"] {
            let seen = seen(&[named, "elsewhere/x"]);
            assert_eq!(seen.len(), 4, "{seen:?}");
            assert!(seen.iter().any(|(_, mounts)| *mounts == 2), "{seen:?}");
            assert!(seen.contains(&("elsewhere/x".to_owned(), 0)), "{seen:?}");
        }
        assert!(seen(&["10.0.0.9/ho"]).contains(&("10.0.0.9/ho".to_owned(), 0)));
    }

    #[test]
    fn mounts_of_version_3_are_probed_as_such() {
        let targets = targets(&look(&[]), &Mounts::parse(NODE.as_bytes()));
        let data = &targets[&"10.0.0.8/data".parse().unwrap()];
        assert_eq!((data.version, data.mount_port), (Some(Version::V3), Some(20048)));
        let home = &targets[&"10.0.0.9/home".parse().unwrap()];
        assert_eq!((home.version, home.alias.as_deref()), (None, Some("fileserver")));
        assert_eq!(home.behind, Some("10.1.0.7/home".parse().unwrap()));
    }
}
