//! What is to be probed, by the cluster's volumes.

use std::collections::BTreeMap;

use crate::judge::nfs_volumes::NfsVolume;
use crate::server::Server;
use crate::targets::{MOST_TARGETS, Target, TargetSettings};

/// The most exports of one server that are probed. A fault of the server shows in some of them.
const MOST_EXPORTS: usize = 16;

/// What to probe: the named servers, and those of the volumes, unless only their mounts show their state. `pod_behind` returns the pod
/// behind a Service's address.
pub fn targets(
    target_settings: &TargetSettings,
    volumes: &[NfsVolume],
    pod_behind: impl Fn(&Server) -> Option<Server>,
) -> BTreeMap<Server, Target> {
    let mut targets: BTreeMap<Server, Target> =
        target_settings.servers.iter().map(|server| (server.clone(), Target::default())).collect();
    // The shortest come first, because an export contains the folders in it.
    let mut volumes: Vec<&NfsVolume> = volumes.iter().filter(|volume| !volume.only_mounts).collect();
    volumes.sort_by_key(|volume| (volume.server.export.as_ref().map_or(0, String::len), &volume.server));
    for NfsVolume { server, version, mount_port, mount_address, kerberos, .. } in volumes {
        let of_server = targets.keys().filter(|known| (&known.host, known.port) == (&server.host, server.port));
        let is_enough = of_server.count() >= MOST_EXPORTS || targets.len() >= MOST_TARGETS;
        if is_enough || targets.keys().any(|known| known.holds(server, None)) {
            continue;
        }
        let (version, mount_port, mount_address) = (*version, *mount_port, *mount_address);
        let target = Target { version, mount_port, mount_address, kerberos: *kerberos, ..Target::default() };
        targets.insert(server.clone(), target);
    }
    for (server, target) in &mut targets {
        target.behind = target_settings
            .behind(server)
            .or_else(|| Some(Server { export: server.export.clone(), ..pod_behind(server)? }));
    }
    targets
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::Probing;
    use k8s_openapi::api::core::v1::ObjectReference;
    use std::time::Duration;

    fn nfs(server: &str, path: &str) -> NfsVolume {
        let server = format!("{server}{path}").parse().unwrap();
        let (reference, claim, only_mounts, kerberos) = (ObjectReference::default(), None, false, false);
        let (version, mount_port, mount_address) = (None, None, None);
        NfsVolume { server, version, mount_port, mount_address, only_mounts, kerberos, reference, claim }
    }

    #[test]
    fn folders_of_an_export_and_too_many_exports_are_not_probed() {
        let probing = Probing::plain(Duration::from_secs(1));
        let target_settings = TargetSettings {
            servers: vec!["nfs/data".parse().unwrap()],
            backends: Vec::new(),
            mountinfo: None,
            excluded: Vec::new(),
            probing,
        };
        let volumes: Vec<_> = ["/home/ann", "/home", "/data/x"].map(|path| nfs("nfs", path)).into();
        let behind = |server: &Server| {
            let is_known = server.to_string().starts_with("nfs/");
            is_known.then(|| "10.1.0.7:2050".parse().unwrap())
        };
        let seen = targets(&target_settings, &volumes, behind);
        let names: Vec<_> = seen.keys().map(ToString::to_string).collect();
        assert_eq!(names, ["nfs/data", "nfs/home"]);
        let home = &seen[&"nfs/home".parse().unwrap()];
        assert_eq!(home.behind.as_ref().unwrap().to_string(), "10.1.0.7:2050/home");
        let many: Vec<_> = (0..99).map(|number| nfs("other", &format!("/{number}"))).collect();
        assert_eq!(targets(&target_settings, &many, behind).len(), MOST_EXPORTS + 1);
        let tunnel = NfsVolume { only_mounts: true, ..nfs("127.0.0.1", "/") };
        assert_eq!(targets(&target_settings, &[tunnel], behind).len(), 1);
    }
}
