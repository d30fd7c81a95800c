//! Catalogues, rules and purgers that the tests share.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use imagepurger::catalogue::CatalogueSource;
use imagepurger::files::Files;
use imagepurger::history::History;
use imagepurger::memory::Memory;
use imagepurger::plan::{Rules, Scope};
use imagepurger::round::{Limits, Purger, Round, Watermarks};
use jiff::{SignedDuration, Timestamp};
use lab_images::catalogue::{Catalogue, CatalogueImage, Kind};
use lab_images::reference::Reference;
use lab_images::runtime::{Image, PullRequest, Runtime, connect};
use lab_images::tag::{Class, TagScheme};
use testbed::containerd::{self, Containerd};
use testbed::images::{Image as Built, Pushed};
use testbed::registry::Registry;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A catalogue, generated now, that wants the first references and lists the others.
pub(crate) fn catalogue(wanted: &[&str], listed: &[&str]) -> Catalogue {
    let wanted = wanted.iter().map(|reference| (reference, true));
    let listed = wanted.chain(listed.iter().map(|reference| (reference, false)));
    let images = listed.map(|(reference, wanted)| {
        let reference: Reference = reference.parse().unwrap();
        CatalogueImage {
            repository: reference.repository.clone(),
            tag: reference.tag.as_ref().unwrap().to_string(),
            name: reference.to_string(),
            reference,
            class: Class::Weekly,
            kind: Kind::Lab,
            digest: None,
            platforms: Vec::new(),
            size: None,
            aliases: Vec::new(),
            wanted,
            why: "test".into(),
        }
    });
    Catalogue::new(Timestamp::now(), true, images.collect())
}

/// The default rules, without a grace.
pub(crate) fn no_grace() -> Rules {
    Rules {
        scope: Scope::Catalogue,
        grace: SignedDuration::ZERO,
        catalogue_max_age: SignedDuration::from_hours(6),
        force_shrink: false,
        pinned_tags: BTreeSet::new(),
        pinned_images: Vec::new(),
        allow: Vec::new(),
        deny: Vec::new(),
        tag_scheme: TagScheme::Rubin,
        retry: SignedDuration::ZERO,
    }
}

/// The default watermarks.
pub(crate) const WATERMARKS: Watermarks = Watermarks { high: 75, low: 65 };

/// A single machine: a runtime, and a folder with the catalogue and the history.
pub(crate) struct Machine {
    pub(crate) runtime: Arc<dyn Runtime>,
    folder: tempfile::TempDir,
}

impl Machine {
    pub(crate) async fn new(endpoint: &str) -> Self {
        Self { runtime: connect(&endpoint.parse().unwrap()).await.unwrap(), folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn catalogue_file(&self) -> PathBuf {
        self.folder.path().join("catalogue.json")
    }

    pub(crate) fn history_file(&self) -> PathBuf {
        self.folder.path().join("history.json")
    }

    pub(crate) fn write(&self, catalogue: &Catalogue) {
        catalogue.write(&self.catalogue_file()).unwrap();
    }

    /// Makes every image that is here now count as first seen long ago.
    pub(crate) async fn age_images(&self, age: SignedDuration) {
        let mut history = History::default();
        history.note(&self.runtime.images().await.unwrap(), |_| false, Timestamp::now() - age);
        std::fs::write(self.history_file(), history.to_json().unwrap()).unwrap();
    }

    pub(crate) fn purger(&self, rules: Rules) -> Purger {
        self.purger_on(Arc::clone(&self.runtime), rules)
    }

    /// A purger that calls the given runtime.
    pub(crate) fn purger_on(&self, runtime: Arc<dyn Runtime>, rules: Rules) -> Purger {
        let catalogue = CatalogueSource::File { path: self.catalogue_file(), files: files() };
        let limits = (WATERMARKS, Limits { most: 100, dry_run: false });
        Purger::new(runtime, catalogue, None, rules, limits, Memory::new(self.history_file(), files()))
    }

    pub(crate) async fn pull(&self, reference: &str) -> Image {
        pull(&self.runtime, reference).await
    }

    /// Every image name that the runtime has, except the sandbox image.
    pub(crate) async fn names(&self) -> BTreeSet<String> {
        let images = self.runtime.images().await.unwrap();
        let names = images.into_iter().flat_map(|image| image.tags.into_iter().chain(image.digests));
        names.filter(|name| !name.contains("/pause")).collect()
    }
}

/// The child processes run the released program, because a test's own main does not serve them.
fn files() -> Files {
    Files::by(Path::new(env!("CARGO_BIN_EXE_imagepurger")))
}

/// Pulls as kubelet does.
pub(crate) async fn pull(runtime: &Arc<dyn Runtime>, reference: &str) -> Image {
    let request =
        PullRequest { reference: reference.parse().unwrap(), expected: None, layers: Vec::new(), credentials: None };
    runtime.pull(&request, &watch::Sender::default()).await.unwrap();
    runtime.image(reference).await.unwrap().unwrap()
}

pub(crate) async fn round(purger: &mut Purger) -> Round {
    purger.round(&CancellationToken::new()).await.unwrap()
}

/// Reads the history. One that cannot be read fails the test.
pub(crate) fn history(path: &Path) -> History {
    History::parse(&std::fs::read(path).unwrap()).unwrap()
}

/// An image with a program, made unique by its content.
pub(crate) fn lab(registry: &Registry, name: &str, content: &str) -> Pushed {
    Built::busybox().unwrap().label("content", content).push(registry, "lab", name).unwrap()
}

/// The image's name by digest.
pub(crate) fn by_digest(image: &Pushed) -> String {
    format!("{}@{}", image.reference.rsplit_once(':').unwrap().0, image.digest)
}

/// The image's name with another tag.
pub(crate) fn with_tag(lab: &Pushed, tag: &str) -> String {
    format!("{}:{tag}", lab.reference.rsplit_once(':').unwrap().0)
}

/// A containerd that starts pods.
pub(crate) fn containerd_with_pods(registry: &Registry, more: containerd::Options) -> Containerd {
    let pause = testbed::images::Image::pause().unwrap().push(registry, "pause", "1").unwrap().reference;
    let options = containerd::Options { plain_registries: vec![registry.host()], sandbox_image: Some(pause), ..more };
    Containerd::with(&options).unwrap()
}

/// Forwards the bytes of every connection, and shows the hook what a client sends before the target receives it.
pub(crate) fn unix_proxy(socket: &Path, target: &Path, hook: impl Fn(&[u8]) + Send + Sync + 'static) {
    let (listener, target, hook) = (UnixListener::bind(socket).unwrap(), target.to_owned(), Arc::new(hook));
    // The thread ends with the test's process.
    thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, mut server) = (client.unwrap(), UnixStream::connect(&target).unwrap());
            let (mut answers, mut to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            let hook = Arc::clone(&hook);
            thread::spawn(move || {
                let mut buffer = [0; 64 * 1024];
                while let Ok(read @ 1..) = client.read(&mut buffer) {
                    hook(&buffer[..read]);
                    if server.write_all(&buffer[..read]).is_err() {
                        break;
                    }
                }
                let _ = server.shutdown(Shutdown::Both);
            });
            thread::spawn(move || {
                let _ = std::io::copy(&mut answers, &mut to_client);
                let _ = to_client.shutdown(Shutdown::Both);
            });
        }
    });
}
