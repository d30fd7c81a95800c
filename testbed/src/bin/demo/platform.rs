//! The whole platform as a site has it: the page of `manifests/site`, applied, and what a site provides itself: a
//! registry, a broker, disks, an OAuth provider and a certificate.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use testbed::certificates::Authority;
use testbed::cluster::Cluster;
use testbed::folder::Folder;
use testbed::github::GitHub;
use testbed::images::Image;
use testbed::jupyter::Jupyter;
use testbed::rabbitmq::RabbitMq;
use testbed::{Result, command, wait};

use crate::page::{self, Site};
use crate::{DEFINITIONS, beside_this, print, print_heading};

pub(crate) const DAEMONS: [&str; 5] = ["prepuller", "imagepurger", "log-shipper", "fs-keepalive", "nfs-health"];
const LIMIT: Duration = Duration::from_secs(300);

pub(crate) struct Platform {
    pub(crate) cluster: Cluster,
    pub(crate) broker: RabbitMq,
    disk: Folder,
    site: Folder,
    /// The CA of the certificates of Hub and GitHub.
    pub(crate) authority: String,
    /// The Hub's address: `https://…`, no slash at the end.
    pub(crate) hub: String,
    pub(crate) github: GitHub,
}

impl Platform {
    /// Starts the cluster and what a site provides. Nothing of Labhands is running yet.
    pub(crate) fn start() -> Result<Platform> {
        print_heading("building images of JupyterHub and JupyterLab (some minutes the first time)")?;
        let jupyter = Jupyter::find_or_build()?;
        print_heading(
            "starting RabbitMQ and a Kubernetes of two nodes (about ten minutes the first time, to build it)",
        )?;
        let broker = RabbitMq::start()?;
        broker.control(&["import_definitions", DEFINITIONS])?;
        let mut cluster = Cluster::start(2)?;
        print(&cluster.kubectl().run(&["get", "nodes", "-o", "wide"])?)?;
        let broker_host = cluster.expose(broker.address())?;
        let (hub, github) = (cluster.service_address(80), cluster.service_address(81));
        let authority = Authority::new("labhands demo")?;
        let registry = cluster.registry_host();
        push_images(&cluster, &jupyter.trusting(&authority.certificate()))?;
        print_heading("starting a test GitHub with the organization stars")?;
        let fake = GitHub::start(&cluster, &github, &authority, &format!("{registry}/hub:1"))?;
        fake.control(&json!({"browser_user": "ada"}))?;
        let issued = authority.issue(&hub, None, &[&hub])?;
        let (disk, site) = (Folder::new("disk")?, Folder::new("page")?);
        let authority = authority.certificate();
        site.write("ca.crt", &authority)?;
        let (certificate, key) = (issued.certificate.as_str(), issued.key.as_str());
        let filled_in =
            Site { registry: &registry, broker: &broker_host, hub: &hub, github: &github, certificate, key };
        page::fill_in(&site, &filled_in)?;
        Ok(Platform { cluster, broker, disk, site, authority, hub: format!("https://{hub}"), github: fake })
    }

    /// The CA of the Hub's and the GitHub's certificates, as a file.
    pub(crate) fn authority_file(&self) -> PathBuf {
        self.site.join("ca.crt")
    }

    /// The site's page.
    pub(crate) fn page(&self) -> PathBuf {
        page::folder(&self.site)
    }

    /// Applies the page, and waits until every part is ready.
    pub(crate) fn install(&self) -> Result<()> {
        let kubectl = self.cluster.kubectl();
        for (namespace, name) in [("labhands-fileserver", "fileserver"), ("jupyter", "hub-database")] {
            self.cluster.add_disk(name, namespace, name, &self.disk.folder(name)?)?;
        }
        self.cluster.mount_nfs("/home", &self.disk.join("fileserver/home"))?;
        print_heading("checking and applying the page: kubectl apply -k manifests/site")?;
        self.check("")?;
        kubectl.run(&["apply", "-k", &self.page().to_string_lossy()])?;
        print_heading(
            "waiting until every part is ready; the file server, the homes and the Hub start one after the other",
        )?;
        let mut last = String::new();
        let ready = wait::patiently(LIMIT, || {
            let printed = self.check("--after");
            let shown = printed.as_ref().map_or_else(ToString::to_string, Clone::clone);
            let waiting = shown.lines().find(|line| line.contains("pods are ready")).unwrap_or_default().to_owned();
            if waiting != last && !waiting.is_empty() {
                let _ = print(&format!("{waiting}\n")); // the next line finds out whether the terminal is gone
                last = waiting;
            }
            printed.ok()
        });
        match ready {
            Some(printed) => print(&printed),
            None => self.check("--after").map(drop),
        }
    }

    /// The output of `manifests/site/check`.
    fn check(&self, argument: &str) -> Result<String> {
        let kubectl = self.cluster.kubectl();
        let programs = kubectl.program().parent().unwrap_or(Path::new("/")).display().to_string();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut check = Command::new(self.page().join("check"));
        check.args(Some(argument).filter(|argument| !argument.is_empty()));
        command::run(
            check.env("PATH", format!("{programs}:{}", path.display())).env("KUBECONFIG", self.cluster.kubeconfig()),
        )
    }
}

fn push_images(cluster: &Cluster, jupyter: &Jupyter) -> Result<()> {
    print_heading("pushing images of the daemons, the Hub, and two labs to the cluster's registry")?;
    let registry = cluster.registry();
    jupyter.push_hub(registry)?;
    for (tag, version) in [("w_2026_46", "46"), ("w_2026_47", "47")] {
        jupyter.push_lab(registry, tag, version)?;
    }
    for name in DAEMONS {
        let repository = format!("labhands/{name}");
        Image::program(&beside_this(name))?.push(registry, &repository, env!("CARGO_PKG_VERSION"))?;
    }
    print_heading("building the file server's image with images/bld")?;
    cluster.build(&["fileserver"], beside_this("demo").parent())
}
