//! `./demo kubernetes`: a real cluster of two nodes, the prepuller installed as a site does, a Rubin-like repository; then a new
//! weekly comes. The cluster stays for people to look around until `./demo down`.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Signal, set_parent_process_death_signal};
use testbed::cluster::{Cluster, Install, Kubectl};
use testbed::http::Client;
use testbed::images::{Image, Layer, RubinSet, publish_rubin};
use testbed::{Error, Result, wait};

use crate::{print, say};

/// How this program calls itself to keep the cluster.
pub(crate) const KEEP: &str = "keep-kubernetes";

/// The keeper's last line.
const SHOWN: &str = "shown";

const REPOSITORY: &str = "lsstsqre/sciplat-lab";
const NEW_WEEKLY: &str = "w_2026_48";
const AGENTS: &str = "labhands-node";

/// Small images, and a slow way to the registry, so that there is something to see.
const SET: ([u64; 2], u64) = ([8 << 20, 4 << 20], 2 << 20);
const NEW_SIZE: u64 = 24_000_000;
const RATE: u64 = 1_000_000;

const BUILD_LIMIT: Duration = Duration::from_secs(600);
const WAVE_LIMIT: Duration = Duration::from_secs(300);

/// Starts the keeper, shows what it says, and leaves it behind once all is shown. Whether all went well.
pub(crate) fn in_the_background() -> Result<bool> {
    let failed = || Error::io("start the keeper of the cluster");
    let this = std::env::current_exe().map_err(failed())?;
    let mut keeper = Command::new(this);
    // A group of its own: Ctrl-C here, after the show, does not end it.
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

/// Shows it, and gives back the cluster to be kept.
pub(crate) fn show() -> Result<Cluster> {
    let tie =
        |signal| set_parent_process_death_signal(signal).map_err(|error| Error::io("be told of its end")(error.into()));
    // Until all is shown, the end of who shows it is the end of it: Ctrl-C there leaves nothing.
    tie(Some(Signal::TERM))?;
    let cluster = Cluster::start(2)?;
    show_on(&cluster)?;
    tie(None)?;
    Ok(cluster)
}

/// Tells who shows it that all is shown, and the cluster kept.
pub(crate) fn say_shown() -> Result<()> {
    print(&format!("{SHOWN}\n"))
}

fn show_on(cluster: &Cluster) -> Result<()> {
    let kubectl = cluster.kubectl();
    say("a cluster of two nodes")?;
    print(&kubectl.run(&["get", "nodes", "-o", "wide"])?)?;

    say("a registry with a Rubin-like repository")?;
    let set = RubinSet { shared: SET.0.to_vec(), own: SET.1 };
    publish_rubin(cluster.registry(), REPOSITORY, &set)?;
    let repository = format!("{}/{REPOSITORY}", cluster.registry_host());
    print(&format!("{repository}\n"))?;

    say("the image by prepuller/bld (the first release build takes minutes), the manifests by kubectl apply -k")?;
    cluster.install(&Install {
        overlay: "prepuller",
        images: &["prepuller"],
        settings: &[("LAB_REPOSITORIES", &repository), ("SCAN_INTERVAL", "15s"), ("DISK_HIGH", "95%")],
        ..Install::default()
    })?;
    for part in ["-n=labhands deployment/prepuller-plan", "-n=labhands-node daemonset/prepuller-node"] {
        let (namespace, name) = part.split_once(' ').unwrap_or_default();
        print(&kubectl.run(&[namespace, "rollout", "status", name, "--timeout=300s"])?)?;
    }

    say("every node gets every wanted image")?;
    let planner = planner(&kubectl)?;
    until_complete(&kubectl, &planner, None)?;
    print(&kubectl.run(&["-n", AGENTS, "get", "nodeimages"])?)?;

    say(&format!("a new weekly, {NEW_WEEKLY}, is pushed: one node gets it first, then the other"))?;
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
    print("\n")?;
    print(&kubectl.run(&["-n", AGENTS, "get", "nodeimages"])?)?;

    say("look around")?;
    let kubectl = format!("{} --kubeconfig {}", kubectl.program().display(), cluster.kubeconfig().display());
    let testbed = crate::beside_this("testbed");
    print(&format!(
        "the page            http://{planner}/\n\
         the catalogue       curl http://{planner}/catalogue.json\n\
         Events              {kubectl} get events --all-namespaces\n\
         nodes and images    {kubectl} -n {AGENTS} get nodeimages --watch\n\
         another new image   {} push {}/{REPOSITORY}:w_2026_49 64\n\
         the end of it all   ./demo down\n",
        testbed.display(),
        cluster.registry().host()
    ))
}

/// The planner's address, as this machine reaches it.
fn planner(kubectl: &Kubectl) -> Result<String> {
    let service =
        ["-n", "labhands", "get", "service", "prepuller", "-o", "jsonpath={.spec.clusterIP}:{.spec.ports[0].port}"];
    kubectl.run(&service)
}

/// Waits until the catalogue has the tag and every eligible node holds every wanted image.
fn until_complete(kubectl: &Kubectl, planner: &str, tag: Option<&str>) -> Result<()> {
    let client = Client::new(None, None)?;
    let limit = if tag.is_some() { WAVE_LIMIT } else { BUILD_LIMIT };
    let complete = || {
        let answer = client.send("GET", &format!("http://{planner}/catalogue.json"), &[], b"").ok()?;
        let catalogue: serde_json::Value = serde_json::from_slice(&answer.body).ok()?;
        let images = catalogue["images"].as_array()?;
        let wanted = || images.iter().filter(|image| image["wanted"] == true);
        let everywhere = wanted().all(|image| image["nodes"]["present"] == 2);
        (everywhere && tag.is_none_or(|tag| wanted().any(|image| image["tag"] == tag))).then_some(())
    };
    wait::patiently(limit, complete).ok_or_else(|| {
        let said = kubectl.run(&["-n", AGENTS, "get", "nodeimages", "-o", "wide"]).unwrap_or_default();
        Error::Missing(format!("not every node holds every image within {limit:?}:\n{said}"))
    })
}
