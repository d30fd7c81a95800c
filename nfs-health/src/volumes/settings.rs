//! Settings of `nfs-health volumes`.

use std::net::SocketAddr;

use clap::Args;
use sidecar::admin::AdminArguments;
use sidecar::log::{LogArguments, LogSettings};
use sidecar::settings::{Problems, values};

use super::wanted::Named;
use super::wanted::{Driver, LONGEST, Wanted, is_name, plain_path};

/// Names and help of the settings.
#[derive(Args, Clone, Debug)]
pub struct VolumesArguments {
    #[command(flatten)]
    volumes: VolumeArguments,
    #[command(flatten)]
    admin: AdminArguments,
    #[command(flatten)]
    log: LogArguments,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Volumes")]
struct VolumeArguments {
    /// Service of the NFS server
    #[arg(long, env = "NFS_SERVICE", value_name = "NAMESPACE/NAME")]
    nfs_service: Option<String>,
    /// Export, as clients mount it
    #[arg(long, env = "NFS_EXPORT", value_name = "PATH", default_value = "/home")]
    nfs_export: String,
    /// Claims to create, each with its own volume
    #[arg(long, env = "VOLUME_CLAIM", value_name = "NAMESPACE/NAME,…")]
    volume_claim: Option<String>,
    /// Size of the volume and the claim; informational, because NFS does not enforce it
    #[arg(long, env = "VOLUME_SIZE", value_name = "QUANTITY", default_value = "100Gi")]
    volume_size: String,
    /// Mount options of the volume, see mount(8)
    #[arg(
        long,
        env = "VOLUME_MOUNT_OPTIONS",
        value_name = "OPTION,…",
        default_value = "nfsvers=4.2,proto=tcp,hard,timeo=600,retrans=2,noresvport"
    )]
    volume_mount_options: String,
    /// Driver that mounts: nfs is kubelet itself, which uses the Service's address; csi is csi-driver-nfs, which uses its name
    #[arg(long, env = "VOLUME_DRIVER", value_name = "nfs|csi", default_value = "nfs")]
    volume_driver: String,
    /// DNS domain of the cluster, for csi
    #[arg(long, env = "CLUSTER_DOMAIN", value_name = "DOMAIN", default_value = "cluster.local")]
    cluster_domain: String,
    /// Keep running and react to changes of the Service, the volumes and the claims; if false, end when all claims are bound
    #[arg(long, env = "VOLUME_WATCH", value_name = "BOOL", default_value = "false")]
    volume_watch: String,
}

/// The settings.
#[derive(Debug)]
pub struct VolumesSettings {
    /// The wanted claims, all of one Service.
    pub wanted: Vec<Wanted>,
    /// Whether to continue after everything exists.
    pub watch: bool,
    /// The address of the admin server.
    pub admin: SocketAddr,
    /// How to log.
    pub log: LogSettings,
}

impl VolumesArguments {
    /// The settings, or `None` with the problems recorded.
    pub fn settings(&self, problems: &mut Problems) -> Option<VolumesSettings> {
        let VolumeArguments { volume_driver, cluster_domain, .. } = &self.volumes;
        let given = |text: &Option<String>| text.clone().unwrap_or_default();
        let service = problems.parse("NFS_SERVICE", &given(&self.volumes.nfs_service), "storage/fileserver", |text| {
            text.parse::<Named>()
        });
        let export = problems.parse("NFS_EXPORT", &self.volumes.nfs_export, "/home", export);
        let claims = problems.parse("VOLUME_CLAIM", &given(&self.volumes.volume_claim), "jupyter/homes", claims);
        let size = problems.parse("VOLUME_SIZE", &self.volumes.volume_size, "100Gi", size);
        let options = &self.volumes.volume_mount_options;
        let mount_options = problems.parse("VOLUME_MOUNT_OPTIONS", options, "nfsvers=4.2,hard", mount_options);
        let domain = problems.parse("CLUSTER_DOMAIN", cluster_domain, "cluster.local", domain);
        let driver = problems.parse("VOLUME_DRIVER", volume_driver, "nfs", |text| match text {
            "nfs" => Ok(Driver::Nfs),
            "csi" => Ok(Driver::Csi(domain.clone().unwrap_or_default())),
            _ => Err(format!("{text:?} is neither nfs nor csi")),
        });
        let watch = problems.parse("VOLUME_WATCH", &self.volumes.volume_watch, "true", values::switch);
        let (admin, log) = (self.admin.settings(problems), self.log.settings(problems));
        let wanted = Wanted {
            service: service?,
            export: export?,
            // Replaced by each of the claims.
            claim: claims.as_ref()?.first()?.clone(),
            driver: driver?,
            mount_options: mount_options?,
            size: size?,
        };
        let wanted = claims?.into_iter().map(|claim| Wanted { claim, ..wanted.clone() }).collect();
        Some(VolumesSettings { wanted, watch: watch?, admin: admin?, log: log? })
    }
}

fn export(text: &str) -> Result<String, String> {
    let plain = nfs_mounts::mountinfo::is_plain_absolute(std::path::Path::new(text));
    if plain && !text.chars().any(char::is_control) {
        Ok(plain_path(text))
    } else {
        Err(format!("{text:?} is not an absolute path without . and .."))
    }
}

fn claims(text: &str) -> Result<Vec<Named>, String> {
    let mut claims: Vec<Named> = Vec::new();
    for item in values::list(text) {
        let claim = item.parse()?;
        if !claims.contains(&claim) {
            claims.push(claim);
        }
    }
    if claims.is_empty() { Err("at least one claim is required: namespace/name".to_owned()) } else { Ok(claims) }
}

fn domain(text: &str) -> Result<String, String> {
    match text.trim_matches('.') {
        domain if is_name(domain, LONGEST) => Ok(domain.to_owned()),
        _ => Err(format!("{text:?} is not a domain of lower-case letters, digits, hyphens and dots")),
    }
}

/// Parses a size as a Kubernetes quantity.
fn size(text: &str) -> Result<String, String> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let units = ["", "k", "M", "G", "T", "P", "Ki", "Mi", "Gi", "Ti", "Pi"];
    if number.parse::<u64>().is_ok_and(|number| number > 0) && units.contains(&unit) {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is not a size; write a whole number and one of k, M, G, T, P, Ki, Mi, Gi, Ti, Pi"))
    }
}

fn mount_options(text: &str) -> Result<Vec<String>, String> {
    let options: Vec<String> = values::list(text).map(str::to_owned).collect();
    match options.iter().find(|option| option.chars().any(|c| c.is_whitespace() || c.is_control())) {
        Some(option) => Err(format!("{option:?} contains a space; separate options by commas")),
        None => Ok(options),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use sidecar::settings::{Environment, parse};
    use std::ffi::OsString;

    #[derive(Parser)]
    struct Arguments {
        #[command(flatten)]
        volumes: VolumesArguments,
    }

    fn settings(environment: &[(&str, &str)]) -> Result<VolumesSettings, String> {
        let environment: Environment = environment.iter().copied().collect();
        let arguments: Arguments = parse(&environment, ["volumes"].map(OsString::from)).unwrap();
        let mut problems = Problems::default();
        let settings = arguments.volumes.settings(&mut problems);
        problems.finish(settings).map_err(|problems| problems.to_string())
    }

    #[test]
    fn a_claim_each_with_the_same_server() {
        let settings =
            settings(&[("NFS_SERVICE", "storage/files"), ("VOLUME_CLAIM", "labs/homes, labhands/homes,labs/homes")])
                .unwrap();
        let claims: Vec<String> = settings.wanted.iter().map(|wanted| wanted.claim.to_string()).collect();
        assert_eq!(claims, ["labs/homes", "labhands/homes"]);
        let Wanted { service, export, driver, mount_options, size, .. } = &settings.wanted[1];
        assert_eq!((service.to_string().as_str(), export.as_str(), size.as_str()), ("storage/files", "/home", "100Gi"));
        assert_eq!((driver, mount_options[0].as_str(), settings.watch), (&Driver::Nfs, "nfsvers=4.2", false));
    }

    #[test]
    fn every_problem_is_named() {
        let problems = settings(&[
            ("NFS_EXPORT", "home"),
            ("VOLUME_CLAIM", "homes"),
            ("VOLUME_SIZE", "much"),
            ("VOLUME_MOUNT_OPTIONS", "hard soft"),
            ("VOLUME_DRIVER", "smb"),
            ("VOLUME_WATCH", "perhaps"),
        ])
        .unwrap_err();
        for name in [
            "NFS_SERVICE",
            "NFS_EXPORT",
            "VOLUME_CLAIM",
            "VOLUME_SIZE",
            "VOLUME_MOUNT_OPTIONS",
            "VOLUME_DRIVER",
            "VOLUME_WATCH",
        ] {
            assert!(problems.contains(&format!("{name}: ")), "{problems}");
        }
        assert!(settings(&[("NFS_SERVICE", "a/b")]).unwrap_err().contains("VOLUME_CLAIM: at least one"));
    }

    #[test]
    fn more_slashes_are_the_same_export() {
        for text in ["/home", "/home/", "//home", "/home//"] {
            assert_eq!(export(text), Ok("/home".to_owned()), "{text}");
        }
        assert_eq!(export("/"), Ok("/".to_owned()));
        assert!(export("/home/./x").is_err() && export("/home/..").is_err());
    }

    #[test]
    fn sizes_are_quantities() {
        for text in ["1", "10Gi", "2T"] {
            assert_eq!(size(text), Ok(text.to_owned()));
        }
        for text in ["", "0", "Gi", "1.5Gi", "-1Gi", "10 Gi", "10GB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_domain_that_no_name_can_be_in_is_refused() {
        for text in ["a b", "x..y", ".", "Cluster.local", "cluster.local/x"] {
            let given =
                [("NFS_SERVICE", "a/b"), ("VOLUME_CLAIM", "l/h"), ("VOLUME_DRIVER", "csi"), ("CLUSTER_DOMAIN", text)];
            assert!(settings(&given).unwrap_err().contains("CLUSTER_DOMAIN: "), "{text}");
        }
    }

    #[test]
    fn csi_mounts_by_a_name_in_the_domain() {
        let given = [
            ("NFS_SERVICE", "storage/files"),
            ("VOLUME_CLAIM", "labs/homes"),
            ("VOLUME_DRIVER", "csi"),
            ("CLUSTER_DOMAIN", "k8s.example.org."),
        ];
        assert_eq!(settings(&given).unwrap().wanted[0].driver, Driver::Csi("k8s.example.org".into()));
    }
}
