//! The page of `manifests/site`, filled in as a site does it: a copy of the manifests with the site's settings, patches
//! and secrets.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use testbed::folder::Folder;
use testbed::jupyter::AUTHORITY;
use testbed::rabbitmq::{PASSWORD, USER};
use testbed::{Error, Result, command};

/// This cluster has no provisioner of disks, the Hub has a fixed address, and a demo machine may be fuller than a node
/// should be.
const PATCHES: &str = "patches:
  - target: { kind: PersistentVolumeClaim }
    patch: '[{\"op\": \"add\", \"path\": \"/spec/storageClassName\", \"value\": \"\"}]'
  - target: { kind: Service, name: nginx }
    patch: '[{\"op\": \"add\", \"path\": \"/spec/clusterIP\", \"value\": \"ADDRESS\"}]'
  - target: { kind: DaemonSet, name: prepuller-node }
    patch: |
      - { op: add, path: /spec/template/spec/containers/0/env/-, value: { name: DISK_HIGH, value: 95% } }
";

/// The site's own component: one more file for the Hub.
const OWN: &str = "apiVersion: kustomize.config.k8s.io/v1alpha1
kind: Component
configMapGenerator:
  - { name: hub-config, namespace: jupyter, behavior: merge, files: [60-site.py] }
";

/// Trusts a private CA, as oauthenticator requires, and allows for a busy machine.
const OWN_FILE: &str = "c.Spawner.http_timeout = 120
c.OAuthenticator.http_request_kwargs = {**c.OAuthenticator.http_request_kwargs, 'ca_certs': 'AUTHORITY'}
";

/// The values of a site.
pub(crate) struct Site<'a> {
    /// `host:port` of the registry.
    pub(crate) registry: &'a str,
    /// `host:port` of the broker.
    pub(crate) broker: &'a str,
    /// The addresses of Hub and GitHub, without `https://`.
    pub(crate) hub: &'a str,
    pub(crate) github: &'a str,
    /// The Hub's certificate and its key.
    pub(crate) certificate: &'a str,
    pub(crate) key: &'a str,
}

/// The page's folder in the copy.
pub(crate) fn folder(copy: &Folder) -> PathBuf {
    copy.join("manifests/site")
}

/// Copies the manifests and fills in the page and the secrets.
pub(crate) fn fill_in(copy: &Folder, site: &Site) -> Result<()> {
    let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests");
    command::run(Command::new("cp").arg("-r").arg(manifests).arg(copy.path()))?;
    let path = folder(copy).join("kustomization.yaml");
    let failed = || Error::io(format!("fill in {}", path.display()));
    let page = fs::read_to_string(&path).map_err(failed())?;
    fs::write(&path, filled_in(&page, site)?).map_err(failed())?;
    let own_file = OWN_FILE.replace("AUTHORITY", AUTHORITY);
    let hub = format!("proxy-token={}\ncrypt-key={}\ncookie-secret={}\n", random()?, random()?, random()?);
    let amqp = format!("password={PASSWORD}\n");
    for (name, text) in [
        ("own/kustomization.yaml", OWN),
        ("own/60-site.py", &own_file),
        ("secrets/hub/hub.env", &hub),
        ("secrets/hub/login.env", "GITHUB_CLIENT_ID=hub\nGITHUB_CLIENT_SECRET=secret\n"),
        ("secrets/log-shipper/amqp.env", &amqp),
        ("secrets/nginx/tls.crt", site.certificate),
        ("secrets/nginx/tls.key", site.key),
        ("secrets/nginx/root_chain.pem", ""),
    ] {
        copy.write(&format!("manifests/site/{name}"), text)?;
    }
    Ok(())
}

/// The page's text, with this site's values instead of the examples.
fn filled_in(page: &str, site: &Site) -> Result<String> {
    let Site { registry, broker, hub, github, .. } = site;
    let settings = [
        format!("LAB_INSECURE_REGISTRIES={registry}"),
        format!("GITHUB_HOST={github}"),
        "LAB_CATALOGUE_REFRESH=5s".into(),
        "SCAN_INTERVAL=30s".into(),
        "PREPULLER_NEW_NODE_AGE=1ms".into(), // all nodes here are seconds old
        "VOLUME_SIZE=10Gi".into(),
        r#"LAB_SIZES={"small": {"cpu": [0.05, 1], "memory": ["64M", "1G"]}}"#.into(),
    ];
    let settings = settings.map(|line| format!("      - '{line}'\n")).concat();
    let images = [("quay.io/jupyterhub/k8s-hub", "hub"), ("quay.io/jupyterhub/configurable-http-proxy", "hub")];
    let images = [&images[..], &[("nginxinc/nginx-unprivileged", "nginx")]]
        .concat()
        .into_iter()
        .map(|(name, here)| format!("  - {{ name: {name}, newName: {registry}/{here}, newTag: '1' }}\n"));
    let images: String = images.collect();
    let changes = [
        ("registry.example.org", (*registry).to_owned()),
        ("labs.example.org", (*hub).to_owned()),
        ("ghcr.io/example/lab", format!("{registry}/lab")),
        ("LAB_TAG_SCHEME=semver", "LAB_TAG_SCHEME=rubin".into()),
        ("LAB_KEEP=release=3", "LAB_KEEP=weekly=2".into()),
        ("GITHUB_ORGANIZATIONS=example", "GITHUB_ORGANIZATIONS=stars".into()),
        ("amqps://rabbitmq.example.org", format!("amqp://{broker}/%2f")),
        ("AMQP_USERNAME=log-shipper", format!("AMQP_USERNAME={USER}")),
        ("  - wiring #", "  - own\n  - wiring #".into()),
        ("    literals:\n", format!("    literals:\n{settings}")),
        ("\nimages:\n", format!("\nimages:\n{images}")),
        ("patches: []\n", PATCHES.replace("ADDRESS", hub)),
    ];
    changes.iter().try_fold(page.to_owned(), |page, (example, own)| {
        let found = page.contains(example);
        found.then(|| page.replace(example, own)).ok_or_else(|| Error::Missing(format!("the page has no {example:?}")))
    })
}

/// The same as `openssl rand -hex 32`.
fn random() -> Result<String> {
    let mut bytes = [0; 32];
    let mut source = File::open("/dev/urandom").map_err(Error::io("open /dev/urandom"))?;
    source.read_exact(&mut bytes).map_err(Error::io("read /dev/urandom"))?;
    Ok(bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_of_the_page_is_replaced() {
        let page = include_str!("../../../../manifests/site/kustomization.yaml");
        let (certificate, key) = ("", "");
        let site = Site { registry: "here:1", broker: "here:2", hub: "here", github: "there", certificate, key };
        let page = filled_in(page, &site).unwrap();
        let set: Vec<&str> = page.lines().filter(|line| line.contains("example") && !line.contains('#')).collect();
        assert!(set.is_empty(), "{set:?}");
        assert!(page.contains("LAB_REPOSITORIES=here:1/lab"), "{page}");
        assert!(filled_in("", &site).is_err());
    }
}
