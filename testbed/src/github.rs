//! A test GitHub in a cluster for logins and pushes: the fake one of `manifests/hub/tests`, with TLS.

use std::fs;

use serde_json::{Value, json};

use crate::certificates::Authority;
use crate::cluster::Cluster;
use crate::folder::Folder;
use crate::http::Client;
use crate::{Error, Result, wait};

const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests/hub/tests/fake_github.py");

/// It has one repository, `ada/work`.
const OBJECTS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: github, namespace: github, labels: {app: github}}
spec:
  enableServiceLinks: false
  terminationGracePeriodSeconds: 0
  volumes: [{name: files, configMap: {name: files}}]
  containers:
  - name: github
    image: IMAGE
    workingDir: /files
    command: [sh, -c, 'git init --quiet --bare /srv/ada/work.git && exec python3 fake_github.py 443 --address 0.0.0.0
      --certificate tls.crt --key tls.key --repositories /srv']
    readinessProbe: {tcpSocket: {port: 443}, periodSeconds: 1}
    volumeMounts: [{name: files, mountPath: /files}]
---
apiVersion: v1
kind: Service
metadata: {name: github, namespace: github}
spec: {clusterIP: ADDRESS, selector: {app: github}, ports: [{port: 443}]}
";

/// The running GitHub. It ends with its cluster.
#[derive(Clone, Debug)]
pub struct GitHub {
    url: String,
    client: Client,
}

impl GitHub {
    /// Starts it at an [address of a Service](Cluster::service_address), with a certificate of this CA. `image` is the Hub's. The
    /// accounts ada, bob and cleo are members of the organization stars; eve is of none.
    pub fn start(cluster: &Cluster, address: &str, authority: &Authority, image: &str) -> Result<GitHub> {
        let certificate = authority.issue(address, None, &[address])?;
        let files = Folder::new("github")?;
        files.write("tls.crt", &certificate.certificate)?;
        files.write("tls.key", &certificate.key)?;
        fs::copy(PROGRAM, files.join("fake_github.py")).map_err(Error::io(format!("copy {PROGRAM}")))?;
        let kubectl = cluster.kubectl();
        kubectl.create_namespace("github")?;
        let from = format!("--from-file={}", files.path().display());
        kubectl.run(&["-n", "github", "create", "configmap", "files", &from])?;
        kubectl.apply(&OBJECTS.replace("IMAGE", image).replace("ADDRESS", address))?;
        let limit = format!("--timeout={}s", wait::LIMIT.as_secs());
        kubectl.run(&["-n", "github", "wait", "pod/github", "--for=condition=Ready", &limit])?;
        let client = Client::new(Some(&authority.certificate()), None)?;
        let github = GitHub { url: format!("https://{address}"), client };
        let asked = github.control_url();
        let answers = || github.client.send("GET", &asked, &[], b"").ok();
        wait::patiently(wait::LIMIT, answers).ok_or_else(|| Error::Missing(format!("{asked} does not answer")))?;
        let stars = json!({"stars": 58_100});
        let members =
            [("ada", 58_001), ("bob", 58_002), ("cleo", 58_004)].map(|(login, id)| account(login, id, &stars));
        let accounts = members.into_iter().chain([account("eve", 58_003, &json!({}))]).collect::<Vec<_>>();
        github.control(&json!({"accounts": accounts}))?;
        Ok(github)
    }

    /// Its address for browsers and the Hub: `https://…`, without a slash at the end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Changes accounts, the account of the browser, or begins and ends an outage, in the format of the program's `/control`.
    pub fn control(&self, change: &Value) -> Result<()> {
        let url = self.control_url();
        self.client.send("POST", &url, &[], change.to_string().as_bytes())?.expect(200, &url).map(drop)
    }

    fn control_url(&self) -> String {
        format!("{}/control", self.url)
    }
}

/// An account for [`GitHub::control`], with the numbers of its organizations.
fn account(login: &str, id: u32, organizations: &Value) -> Value {
    json!({"login": login, "id": id, "name": format!("{login} the astronomer"), "organizations": organizations,
        "private_email": format!("{login}@example.org")})
}
