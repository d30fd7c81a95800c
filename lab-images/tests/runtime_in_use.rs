//! What real containers of containerd's CRI use. containerd removes an image under a running container, so this list is all
//! that protects it.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::path::Path;

use lab_images::runtime::{ContainerImages, connect};
use testbed::containerd::{self, Containerd};
use testbed::images::Image;
use testbed::registry::Registry;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};

/// The calls of CRI v1 that start and stop containers; only a test makes them. Field numbers as in `proto/cri.proto`.
mod cri {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Metadata {
        #[prost(string, tag = "1")]
        pub(crate) name: String,
        #[prost(string, tag = "2")]
        pub(crate) uid: String,
        #[prost(string, tag = "3")]
        pub(crate) namespace: String,
    }

    /// 2 is the machine's own.
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Namespaces {
        #[prost(int32, tag = "1")]
        pub(crate) network: i32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct SecurityContext {
        #[prost(message, optional, tag = "1")]
        pub(crate) namespaces: Option<Namespaces>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Linux {
        #[prost(message, optional, tag = "2")]
        pub(crate) security_context: Option<SecurityContext>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct SandboxConfig {
        #[prost(message, optional, tag = "1")]
        pub(crate) metadata: Option<Metadata>,
        #[prost(message, optional, tag = "8")]
        pub(crate) linux: Option<Linux>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct RunPodSandboxRequest {
        #[prost(message, optional, tag = "1")]
        pub(crate) config: Option<SandboxConfig>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct ImageSpec {
        #[prost(string, tag = "1")]
        pub(crate) image: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct ContainerConfig {
        #[prost(message, optional, tag = "1")]
        pub(crate) metadata: Option<Metadata>,
        #[prost(message, optional, tag = "2")]
        pub(crate) image: Option<ImageSpec>,
        #[prost(string, repeated, tag = "3")]
        pub(crate) command: Vec<String>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct CreateContainerRequest {
        #[prost(string, tag = "1")]
        pub(crate) sandbox: String,
        #[prost(message, optional, tag = "2")]
        pub(crate) config: Option<ContainerConfig>,
        #[prost(message, optional, tag = "3")]
        pub(crate) sandbox_config: Option<SandboxConfig>,
    }

    /// A request or an answer that is an id: of a sandbox or of a container.
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Id {
        #[prost(string, tag = "1")]
        pub(crate) id: String,
    }
}

/// A pod on containerd's CRI.
struct Pod {
    client: tonic::client::Grpc<Channel>,
    config: cri::SandboxConfig,
    sandbox: String,
}

impl Pod {
    async fn start(socket: &Path) -> Self {
        let channel = Endpoint::from_shared(format!("unix://{}", socket.display())).unwrap().connect_lazy();
        let metadata = Some(cri::Metadata { name: "pod".into(), uid: "uid".into(), namespace: "default".into() });
        let namespaces = Some(cri::Namespaces { network: 2 });
        let linux = Some(cri::Linux { security_context: Some(cri::SecurityContext { namespaces }) });
        let config = cri::SandboxConfig { metadata, linux };
        let mut pod =
            Self { client: tonic::client::Grpc::new(channel), config: config.clone(), sandbox: String::new() };
        pod.sandbox = pod.call("RunPodSandbox", cri::RunPodSandboxRequest { config: Some(config) }).await;
        pod
    }

    async fn call(&mut self, call: &str, request: impl prost::Message + 'static) -> String {
        self.client.ready().await.unwrap();
        let path: PathAndQuery = format!("/runtime.v1.RuntimeService/{call}").parse().unwrap();
        let codec = tonic_prost::ProstCodec::<_, cri::Id>::default();
        let answer = self.client.unary(tonic::Request::new(request), path, codec).await;
        answer.unwrap_or_else(|status| panic!("{call}: {status}")).into_inner().id
    }

    async fn create(&mut self, name: &str, image: &str, command: &[&str]) -> String {
        let config = cri::ContainerConfig {
            metadata: Some(cri::Metadata { name: name.into(), ..Default::default() }),
            image: Some(cri::ImageSpec { image: image.into() }),
            command: command.iter().map(ToString::to_string).collect(),
        };
        let (sandbox, sandbox_config) = (self.sandbox.clone(), Some(self.config.clone()));
        self.call("CreateContainer", cri::CreateContainerRequest { sandbox, config: Some(config), sandbox_config })
            .await
    }

    async fn act(&mut self, call: &str, id: &str) {
        self.call(call, cri::Id { id: id.into() }).await;
    }
}

fn uses<'a>(containers: &'a [ContainerImages], id: &str) -> &'a ContainerImages {
    containers.iter().find(|container| container.container == id).unwrap_or_else(|| panic!("no {id} in {containers:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_in_every_state_and_the_sandbox_name_their_images() {
    let registry = Registry::start().unwrap();
    let pause = Image::pause().unwrap().push(&registry, "pause", "1").unwrap().reference;
    let lab = Image::busybox().unwrap().push(&registry, "lab", "w_1").unwrap();
    let containerd = Containerd::with(&containerd::Options {
        plain_registries: vec![registry.host()],
        sandbox_image: Some(pause.clone()),
        ..Default::default()
    })
    .unwrap();
    containerd.pull(&lab.reference).unwrap();
    let runtime = connect(&containerd.endpoint().parse().unwrap()).await.unwrap();
    let image = runtime.image(&lab.reference).await.unwrap().unwrap();

    let mut pod = Pod::start(containerd.socket()).await;
    let created = pod.create("created", &lab.reference, &["sleep", "1000"]).await;
    let running = pod.create("running", &image.id, &["sleep", "1000"]).await;
    pod.act("StartContainer", &running).await;
    let stopped = pod.create("stopped", &lab.reference, &["sleep", "1000"]).await;
    pod.act("StartContainer", &stopped).await;
    pod.act("StopContainer", &stopped).await;

    let containers = runtime.containers().await.unwrap();
    for id in [&created, &running, &stopped] {
        assert!(uses(&containers, id).images.contains(&image.id), "{containers:?}");
    }
    assert!(uses(&containers, "sandbox").images.contains(&pause), "{containers:?}");

    // Why the list has to be looked at first: nothing else holds containerd back.
    runtime.remove(&image).await.unwrap();
    assert!(runtime.image(&lab.reference).await.unwrap().is_none());
    let containers = runtime.containers().await.unwrap();
    assert!(uses(&containers, &running).images.contains(&image.id), "{containers:?}");

    pod.act("StopPodSandbox", &pod.sandbox.clone()).await;
    pod.act("RemovePodSandbox", &pod.sandbox.clone()).await;
    let containers = runtime.containers().await.unwrap();
    assert_eq!(containers.iter().map(|uses| uses.container.as_str()).collect::<Vec<_>>(), ["sandbox"]);
}
