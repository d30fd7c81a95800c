//! `./demo kubernetes`: the whole platform on a real cluster of two nodes. A user starts a lab, and a new weekly is
//! published. The cluster keeps running, to look around in, until `./demo down`.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Signal, set_parent_process_death_signal};
use testbed::chromium::{Browser, Look};
use testbed::cluster::Kubectl;
use testbed::http::Client;
use testbed::images::{Image, Layer};
use testbed::{Error, Result, wait};

use crate::platform::Platform;
use crate::{print, print_heading};

/// The hidden argument with which this program starts itself to keep the cluster.
pub(crate) const KEEP: &str = "keep-kubernetes";

/// The keeper's last line.
const SHOWN: &str = "shown";

const REPOSITORY: &str = "lab";
const NEW_WEEKLY: &str = "w_2026_48";
const AGENTS: &str = "labhands-node";

/// A small image and a slow connection to the registry, so that there is progress to see.
const NEW_SIZE: u64 = 24_000_000;
const RATE: u64 = 1_000_000;

const LIMIT: Duration = Duration::from_secs(300);

/// Starts the keeper, shows its output, and leaves it running once everything is shown. Returns whether everything
/// worked.
pub(crate) fn in_the_background() -> Result<bool> {
    let failed = || Error::io("start the keeper of the cluster");
    let this = std::env::current_exe().map_err(failed())?;
    let mut keeper = Command::new(this);
    // In a separate process group, so that Ctrl-C in this terminal does not end it later.
    keeper.arg(KEEP).stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
    let mut keeper = keeper.spawn().map_err(failed())?;
    let lines = keeper.stdout.take().into_iter().flat_map(|stdout| BufReader::new(stdout).lines());
    for line in lines.map_while(std::result::Result::ok) {
        if line == SHOWN {
            return Ok(true);
        }
        print(&format!("{line}\n"))?;
    }
    keeper.wait().map_err(failed())?;
    Ok(false)
}

/// Shows the platform, and returns it to be kept.
pub(crate) fn show() -> Result<Platform> {
    let tie = |signal| {
        set_parent_process_death_signal(signal).map_err(|error| Error::io("watch the parent process")(error.into()))
    };
    // Until everything is shown, the keeper ends with the process that shows its output, so Ctrl-C leaves nothing
    // behind.
    tie(Some(Signal::TERM))?;
    let platform = Platform::start()?;
    platform.install()?;
    show_on(&platform)?;
    tie(None)?;
    Ok(platform)
}

/// Reports that everything is shown, and the cluster is kept.
pub(crate) fn print_shown() -> Result<()> {
    print(&format!("{SHOWN}\n"))
}

fn show_on(platform: &Platform) -> Result<()> {
    let cluster = &platform.cluster;
    let kubectl = cluster.kubectl();
    print_heading("both nodes get both labs")?;
    let planner = planner(&kubectl)?;
    until_complete(&kubectl, &planner, None)?;
    print(&kubectl.run(&["-n", AGENTS, "get", "nodeimages"])?)?;

    print_heading("ada logs in with a browser, through nginx with TLS and a test GitHub, and starts the newest lab")?;
    start_a_lab(platform)?;
    print(&kubectl.run(&["-n", "jupyter", "get", "pods", "-o", "wide"])?)?;

    print_heading(&format!("a new weekly, {NEW_WEEKLY}, is pushed: one node gets it first, then the other"))?;
    cluster.registry_proxy().limit_rate(Some(RATE));
    let image = Image::new([Layer::random(48, NEW_SIZE), Layer::random(49, NEW_SIZE / 4)]);
    image.push(cluster.registry(), REPOSITORY, NEW_WEEKLY)?;
    print(&format!("$ kubectl -n {AGENTS} get nodeimages --watch\n"))?;
    let mut watch = kubectl.command();
    watch.args(["-n", AGENTS, "get", "nodeimages", "--watch"]);
    let mut watch = watch.spawn().map_err(Error::io("run kubectl"))?;
    let complete = until_complete(&kubectl, &planner, Some(NEW_WEEKLY));
    let _ = watch.kill(); // it may have ended
    let _ = watch.wait();
    cluster.registry_proxy().limit_rate(None);
    complete?;
    print_heading("the log lines of all pods are in the broker's queue")?;
    print(&platform.broker.control(&["list_queues", "name", "messages"])?)?;
    print_heading("everything is running, and stays until ./demo down")?;
    look_around(platform, &planner)
}

fn look_around(platform: &Platform, planner: &str) -> Result<()> {
    let cluster = &platform.cluster;
    let kubectl = cluster.kubectl();
    let programs = kubectl.program().parent().unwrap_or(Path::new("/")).display();
    let kubeconfig = cluster.kubeconfig();
    let (hub, github) = (&platform.hub, platform.github.url());
    let authority = platform.authority_file().display().to_string();
    let testbed = crate::beside_this("testbed");
    print(&format!(
        "the Hub             {hub}/  (CA for your browser: {authority})\n\
         who logs in         ada and bob are members of stars, eve is not. The test GitHub logs your browser in as ada until you say:\n                    \
         curl --cacert {authority} {github}/control -d '{{\"browser_user\": \"bob\"}}'\n\
         nginx               curl --cacert {authority} {hub}/hub/api/\n\
         the planner's page  http://{planner}/\n\
         the catalogue       curl http://{planner}/catalogue.json\n\
         before kubectl      export KUBECONFIG={kubeconfig} PATH={programs}:$PATH\n\
         nodes and images    kubectl -n {AGENTS} get nodeimages\n\
         images to remove    kubectl -n {AGENTS} exec daemonset/imagepurger -- /imagepurger plan\n\
         homes               kubectl -n labhands-fileserver exec fileserver-0 -- busybox ls -l /data/home\n\
         the file server     kubectl -n labhands logs deployment/nfs-health-judge\n\
         log shipper         kubectl -n {AGENTS} exec daemonset/log-shipper -- /log-shipper status\n\
         Events              kubectl get events --all-namespaces\n\
         the site's page     {page}, then kubectl apply -k {page}\n\
         another new image   {testbed} push {registry}/{REPOSITORY}:w_2026_49 64\n\
         stop everything     ./demo down\n",
        kubeconfig = kubeconfig.display(),
        page = platform.page().display(),
        testbed = testbed.display(),
        registry = cluster.registry().host(),
    ))
}

/// Acts as a user: logs in, starts the first lab of the menu, and opens JupyterLab.
fn start_a_lab(platform: &Platform) -> Result<()> {
    let look = Look { width: 1100, height: 800, dark: false };
    let mut page = Browser::find()?.page(look, Some(&platform.authority))?;
    page.open(&format!("{}/hub/oauth_login?next=%2Fhub%2Fspawn", platform.hub))?;
    page.wait(LIMIT, "!!document.querySelector('[name=profile]')")?;
    page.click(LIMIT, "form input[type=submit], form button[type=submit]")?;
    let ready = "location.pathname.includes('/lab') && !!document.querySelector('.jp-Launcher, .jp-NotebookPanel')";
    page.wait(LIMIT, ready).map(drop)
}

/// The planner's address on this machine.
fn planner(kubectl: &Kubectl) -> Result<String> {
    let service =
        ["-n", "labhands", "get", "service", "prepuller", "-o", "jsonpath={.spec.clusterIP}:{.spec.ports[0].port}"];
    kubectl.run(&service)
}

/// Waits until the catalogue has the tag and every eligible node has all wanted images.
fn until_complete(kubectl: &Kubectl, planner: &str, tag: Option<&str>) -> Result<()> {
    let client = Client::new(None, None)?;
    let complete = || {
        let answer = client.send("GET", &format!("http://{planner}/catalogue.json"), &[], b"").ok()?;
        let catalogue: serde_json::Value = serde_json::from_slice(&answer.body).ok()?;
        let images = catalogue["images"].as_array()?;
        let wanted = || images.iter().filter(|image| image["wanted"] == true);
        let everywhere = wanted().all(|image| image["nodes"]["present"] == 2);
        (everywhere && tag.is_none_or(|tag| wanted().any(|image| image["tag"] == tag))).then_some(())
    };
    wait::patiently(LIMIT, complete).ok_or_else(|| {
        let images = kubectl.run(&["-n", AGENTS, "get", "nodeimages", "-o", "wide"]).unwrap_or_default();
        Error::Missing(format!("some nodes did not get all images within {LIMIT:?}:\n{images}"))
    })
}
