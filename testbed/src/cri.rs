//! CRI v1 as kubelet speaks it, with pods that a test creates directly, and a CRI with fake images, for behavior that no runtime
//! here has. Names and field numbers are those of k8s.io/cri-api, pkg/apis/runtime/v1/api.proto.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tonic::Status;

use crate::folder::Folder;
use crate::grpc::{Answer, Call, GrpcServer};
use crate::{Error, Result, grpc, wait};

/// A pod on a CRI runtime, in the machine's own network. It is not removed when this is dropped: it ends with its
/// runtime.
#[derive(Debug)]
pub struct Pod {
    socket: PathBuf,
    config: wire::SandboxConfig,
    sandbox: String,
}

impl Pod {
    /// Starts an empty pod.
    pub fn start(socket: &Path, name: &str) -> Result<Pod> {
        let metadata = wire::Metadata { name: name.into(), uid: name.into(), namespace: "default".into() };
        let linux = wire::Linux {
            security_context: Some(wire::SecurityContext { namespaces: Some(wire::Namespaces { network: NODE }) }),
        };
        let config = wire::SandboxConfig { metadata: Some(metadata), linux: Some(linux) };
        let mut pod = Pod { socket: socket.to_owned(), config: config.clone(), sandbox: String::new() };
        pod.sandbox = pod.call("RunPodSandbox", wire::RunPodSandboxRequest { config: Some(config) })?;
        Ok(pod)
    }

    /// Creates a container and returns its id.
    pub fn create(&self, name: &str, image: &str, command: &[&str]) -> Result<String> {
        let config = wire::ContainerConfig {
            metadata: Some(wire::Metadata { name: name.into(), ..Default::default() }),
            image: Some(wire::ImageSpec { image: image.into() }),
            command: command.iter().map(ToString::to_string).collect(),
        };
        let (sandbox, sandbox_config) = (self.sandbox.clone(), Some(self.config.clone()));
        self.call("CreateContainer", wire::CreateContainerRequest { sandbox, config: Some(config), sandbox_config })
    }

    /// Starts a container.
    pub fn start_container(&self, id: &str) -> Result<()> {
        self.call("StartContainer", wire::Id { id: id.into() }).map(drop)
    }

    /// Stops a container; it stays, exited.
    pub fn stop_container(&self, id: &str) -> Result<()> {
        self.call("StopContainer", wire::Id { id: id.into() }).map(drop)
    }

    /// Stops and removes a container.
    pub fn remove_container(&self, id: &str) -> Result<()> {
        self.call("RemoveContainer", wire::Id { id: id.into() }).map(drop)
    }

    /// Stops and removes the pod with all its containers.
    pub fn remove(self) -> Result<()> {
        let id = wire::Id { id: self.sandbox.clone() };
        self.call("StopPodSandbox", id.clone())?;
        self.call("RemovePodSandbox", id).map(drop)
    }

    fn call<Q: Message + 'static>(&self, method: &'static str, request: Q) -> Result<String> {
        ask::<Q, wire::Id>(&self.socket, method, request, wait::LIMIT).map(|answer| answer.id)
    }
}

/// Whether a runtime's CRI accepts calls. A containerd answers its own clients before that.
pub(crate) fn answers(socket: &Path) -> bool {
    ask::<_, wire::Empty>(socket, "Status", wire::Empty {}, Duration::from_secs(5)).is_ok()
}

/// In a separate thread with its own tokio runtime, so that it can be called from anywhere.
fn ask<Q, A>(socket: &Path, method: &'static str, request: Q, limit: Duration) -> Result<A>
where
    Q: Message + 'static,
    A: Message + Default + 'static,
{
    let (socket, path) = (socket.to_owned(), format!("/runtime.v1.RuntimeService/{method}"));
    let asked = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Status::internal(error.to_string()))?;
        let call = grpc::call::<Q, A>(&socket, &path, request);
        let answer = runtime.block_on(async { tokio::time::timeout(limit, call).await });
        answer.unwrap_or_else(|_| Err(Status::deadline_exceeded(format!("no answer within {limit:?}"))))
    });
    let answer = asked.join().unwrap_or_else(|_| Err(Status::internal("the call panicked")));
    answer.map_err(|status| Error::Missing(format!("{method}: {}", status.message())))
}

/// The network namespace of the machine (`NamespaceMode.NODE`).
const NODE: i32 = 2;

/// An image of a [`FakeCri`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FakeImage {
    /// `sha256:…`
    pub id: String,
    /// Names with a tag.
    pub tags: Vec<String>,
    /// Names with a digest.
    pub digests: Vec<String>,
    /// The runtime reports that it must never be removed.
    pub pinned: bool,
}

/// The behavior of a [`FakeCri`] when it is asked to remove an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// It removes it even if it is in use, as containerd does.
    Done,
    /// It answers that a container uses it, as CRI-O does.
    InUse,
    /// It answers that it removed it, but did not.
    Pretended,
}

/// A CRI with fake images and no containers.
#[derive(Debug)]
pub struct FakeCri {
    state: Arc<Mutex<State>>,
    server: GrpcServer,
    _folder: Folder,
}

#[derive(Debug, Default)]
struct State {
    images: Vec<FakeImage>,
    removals: HashMap<String, Removal>,
    asked: Vec<String>,
}

impl FakeCri {
    /// Starts one with these images.
    pub fn start(images: Vec<FakeImage>) -> Result<FakeCri> {
        let folder = Folder::new("fake-cri")?;
        let state = Arc::new(Mutex::new(State { images, ..State::default() }));
        let (shared, mountpoint) = (Arc::clone(&state), folder.path().display().to_string());
        let server = GrpcServer::start(&folder.join("cri.sock"), move |call| -> Answer {
            let answer = answer(&call, &mut lock(&shared), &mountpoint);
            Box::pin(async { answer })
        })?;
        Ok(FakeCri { state, server, _folder: folder })
    }

    /// `unix:///…`, as `RUNTIME_ENDPOINT` has it.
    pub fn endpoint(&self) -> String {
        self.server.endpoint()
    }

    /// The remaining images.
    pub fn images(&self) -> Vec<FakeImage> {
        lock(&self.state).images.clone()
    }

    /// Sets the behavior when the image with this id is to be removed.
    pub fn on_removal(&self, id: &str, removal: Removal) {
        lock(&self.state).removals.insert(id.to_owned(), removal);
    }

    /// The ids of the images that it was asked to remove, in order.
    pub fn asked_to_remove(&self) -> Vec<String> {
        lock(&self.state).asked.clone()
    }
}

fn lock<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answer(call: &Call, state: &mut State, mountpoint: &str) -> std::result::Result<Bytes, Status> {
    let empty = || Bytes::new();
    match call.path.strip_prefix("/runtime.v1.").unwrap_or_default() {
        "RuntimeService/Version" => {
            let version = wire::Version { name: "fake".into(), version: "1".into() };
            Ok(version.encode_to_vec().into())
        }
        "RuntimeService/Status" | "RuntimeService/ListContainers" => Ok(empty()),
        "ImageService/ListImages" => {
            let images = state.images.iter().map(wire::Image::from).collect();
            Ok(wire::Images { images }.encode_to_vec().into())
        }
        "ImageService/RemoveImage" => {
            let asked = wire::RemoveImageRequest::decode(call.message.clone());
            let asked = asked.map_err(|error| Status::invalid_argument(error.to_string()))?;
            let id = asked.image.map(|image| image.image).unwrap_or_default();
            state.asked.push(id.clone());
            match state.removals.get(&id) {
                Some(Removal::InUse) => return Err(Status::unknown("image used by a container: image is in use")),
                Some(Removal::Pretended) => {}
                Some(Removal::Done) | None => state.images.retain(|image| image.id != id && !image.tags.contains(&id)),
            }
            Ok(empty())
        }
        "ImageService/ImageFsInfo" => {
            let fs_id = Some(wire::FilesystemIdentifier { mountpoint: mountpoint.into() });
            let info = wire::ImageFsInfo { image_filesystems: vec![wire::FilesystemUsage { fs_id }] };
            Ok(info.encode_to_vec().into())
        }
        _ => Err(Status::unimplemented(call.path.clone())),
    }
}

impl From<&FakeImage> for wire::Image {
    fn from(image: &FakeImage) -> Self {
        let FakeImage { id, tags, digests, pinned } = image.clone();
        Self { id, repo_tags: tags, repo_digests: digests, size: 1, pinned }
    }
}

/// The messages, with the fields that are used here.
mod wire {
    /// A request without fields, or an answer whose fields are not needed.
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Empty {}

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Metadata {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(string, tag = "2")]
        pub(super) uid: String,
        #[prost(string, tag = "3")]
        pub(super) namespace: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Namespaces {
        #[prost(int32, tag = "1")]
        pub(super) network: i32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct SecurityContext {
        #[prost(message, optional, tag = "1")]
        pub(super) namespaces: Option<Namespaces>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Linux {
        #[prost(message, optional, tag = "2")]
        pub(super) security_context: Option<SecurityContext>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct SandboxConfig {
        #[prost(message, optional, tag = "1")]
        pub(super) metadata: Option<Metadata>,
        #[prost(message, optional, tag = "8")]
        pub(super) linux: Option<Linux>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct RunPodSandboxRequest {
        #[prost(message, optional, tag = "1")]
        pub(super) config: Option<SandboxConfig>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct ImageSpec {
        #[prost(string, tag = "1")]
        pub(super) image: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct ContainerConfig {
        #[prost(message, optional, tag = "1")]
        pub(super) metadata: Option<Metadata>,
        #[prost(message, optional, tag = "2")]
        pub(super) image: Option<ImageSpec>,
        #[prost(string, repeated, tag = "3")]
        pub(super) command: Vec<String>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct CreateContainerRequest {
        #[prost(string, tag = "1")]
        pub(super) sandbox: String,
        #[prost(message, optional, tag = "2")]
        pub(super) config: Option<ContainerConfig>,
        #[prost(message, optional, tag = "3")]
        pub(super) sandbox_config: Option<SandboxConfig>,
    }

    /// A request or an answer that is an id of a sandbox or a container. Answers without one are empty.
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Id {
        #[prost(string, tag = "1")]
        pub(super) id: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Version {
        #[prost(string, tag = "2")]
        pub(super) name: String,
        #[prost(string, tag = "3")]
        pub(super) version: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Image {
        #[prost(string, tag = "1")]
        pub(super) id: String,
        #[prost(string, repeated, tag = "2")]
        pub(super) repo_tags: Vec<String>,
        #[prost(string, repeated, tag = "3")]
        pub(super) repo_digests: Vec<String>,
        #[prost(uint64, tag = "4")]
        pub(super) size: u64,
        #[prost(bool, tag = "8")]
        pub(super) pinned: bool,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Images {
        #[prost(message, repeated, tag = "1")]
        pub(super) images: Vec<Image>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct RemoveImageRequest {
        #[prost(message, optional, tag = "1")]
        pub(super) image: Option<ImageSpec>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct ImageFsInfo {
        #[prost(message, repeated, tag = "1")]
        pub(super) image_filesystems: Vec<FilesystemUsage>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct FilesystemUsage {
        #[prost(message, optional, tag = "2")]
        pub(super) fs_id: Option<FilesystemIdentifier>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct FilesystemIdentifier {
        #[prost(string, tag = "1")]
        pub(super) mountpoint: String,
    }
}
