//! The planner's peer: a client that makes the same writes and reads the same events, and does nothing else. It keeps
//! only the nodes' UIDs, decides nothing and shows nothing. It is a separate program, so that its CPU time can be
//! measured.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams};
use kube::core::{ApiResource, DynamicResourceScope};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Config, Resource, ResourceExt};
use prepuller::node_images::{NodeImages, PLANNER};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::fleet::NAMESPACE;

/// The subcommand that starts it: `bench COMMAND`, with `KUBECONFIG`.
pub(crate) const COMMAND: &str = "bare-planner";

/// The number of concurrent writes, as in the planner.
const PARALLEL: usize = 16;

/// The page size of lists, as in the planner.
const PAGE: u32 = 200;

/// An object with only its name and UID.
#[derive(Clone, Debug, Deserialize)]
struct Named {
    #[serde(deserialize_with = "slim")]
    metadata: ObjectMeta,
    #[serde(rename = "spec")]
    _spec: IgnoredAny,
    #[serde(default, rename = "status")]
    _status: IgnoredAny,
}

fn slim<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Slim {
        name: Option<String>,
        uid: Option<String>,
        resource_version: Option<String>,
    }
    let Slim { name, uid, resource_version } = Slim::deserialize(deserializer)?;
    Ok(ObjectMeta { name, uid, resource_version, ..ObjectMeta::default() })
}

impl Resource for Named {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn group(kind: &ApiResource) -> Cow<'_, str> {
        kind.group.as_str().into()
    }

    fn version(kind: &ApiResource) -> Cow<'_, str> {
        kind.version.as_str().into()
    }

    fn kind(kind: &ApiResource) -> Cow<'_, str> {
        kind.kind.as_str().into()
    }

    fn plural(kind: &ApiResource) -> Cow<'_, str> {
        kind.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// Runs until its input ends. Each line is a spec, which it writes for every node; it prints `listed` once it has read the cluster, and
/// `written` after each spec.
pub(crate) fn run() -> Result<()> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(work())
}

async fn work() -> Result<()> {
    let client = Client::try_from(Config::infer().await?)?;
    let node = ApiResource::erase::<k8s_openapi::api::core::v1::Node>(&());
    let orders = ApiResource::erase::<NodeImages>(&());
    let nodes: Api<Named> = Api::all_with(client.clone(), &node);
    let objects: Api<Named> = Api::namespaced_with(client.clone(), NAMESPACE, &orders);
    let (mut nodes, mut objects) = (watch(nodes), watch(objects));
    let mut uids = HashMap::new();
    listed(&mut nodes, |node| drop(uids.insert(node.name_any(), node.uid().unwrap_or_default()))).await?;
    listed(&mut objects, |_| {}).await?;
    print("listed")?;
    let (sender, mut specs) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(std::result::Result::ok) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    let reading = async {
        let mut events = stream::select(nodes, objects);
        while let Some(event) = events.next().await {
            event?;
        }
        bail!("the watches have ended")
    };
    let writing = async {
        let api: Api<NodeImages> = Api::namespaced(client, NAMESPACE);
        while let Some(spec) = specs.recv().await {
            let spec: Value = serde_json::from_str(&spec)?;
            let written =
                stream::iter(&uids).map(|(name, uid)| write(&api, name, uid, &spec)).buffer_unordered(PARALLEL);
            written.try_collect::<Vec<()>>().await?;
            print("written")?;
        }
        Ok(())
    };
    tokio::select! { read = reading => read, written = writing => written }
}

type Events = BoxStream<'static, watcher::Result<Event<Named>>>;

fn watch(api: Api<Named>) -> Events {
    watcher(api, watcher::Config::default().page_size(PAGE)).boxed()
}

async fn listed(events: &mut Events, mut seen: impl FnMut(&Named)) -> Result<()> {
    loop {
        match events.next().await.context("the watch ended")?? {
            Event::InitApply(object) => seen(&object),
            Event::InitDone => return Ok(()),
            _ => {}
        }
    }
}

async fn write(api: &Api<NodeImages>, name: &str, uid: &str, spec: &Value) -> Result<()> {
    let owner = json!([{"apiVersion": "v1", "kind": "Node", "name": name, "uid": uid}]);
    let metadata = json!({"name": name, "ownerReferences": owner});
    let object =
        json!({"apiVersion": "labhands.dev/v1alpha1", "kind": "NodeImages", "metadata": metadata, "spec": spec});
    let parameters = PatchParams::apply(PLANNER).force();
    api.patch_metadata(name, &parameters, &Patch::Apply(&object)).await?;
    Ok(())
}

fn print(word: &str) -> Result<()> {
    let mut output = std::io::stdout().lock();
    Ok(writeln!(output, "{word}").and_then(|()| output.flush())?)
}

/// The client as a process. Dropping it ends the process.
pub(super) struct Bare {
    child: Child,
}

impl Bare {
    /// Starts it, and waits until it has read the cluster.
    pub(super) fn start(kubeconfig: &Path) -> Result<Bare> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(COMMAND).env("KUBECONFIG", kubeconfig).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut bare = Bare { child: command.spawn()? };
        bare.until("listed")?;
        Ok(bare)
    }

    pub(super) fn id(&self) -> Result<i32> {
        Ok(i32::try_from(self.child.id())?)
    }

    /// Writes a spec for every node.
    pub(super) fn write(&mut self, spec: &Value) -> Result<()> {
        let input = self.child.stdin.as_mut().context("it has no input")?;
        writeln!(input, "{spec}")?;
        self.until("written")
    }

    fn until(&mut self, word: &str) -> Result<()> {
        let output = self.child.stdout.as_mut().context("it has no output")?;
        let mut line = String::new();
        // Reads byte by byte, because a buffer would consume the next line, too.
        let mut byte = [0];
        while std::io::Read::read(output, &mut byte)? == 1 && byte != *b"\n" {
            line.push(char::from(byte[0]));
        }
        if line == word { Ok(()) } else { bail!("the bare client said {line:?} instead of {word:?}") }
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
