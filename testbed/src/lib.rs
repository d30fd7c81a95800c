//! Starts the real parts that tests and the demo use: registries, containerd, Docker, and more. Never shipped.
//!
//! Each part is a guard: `start` returns once the part answers; dropping it ends the part and removes what it left (processes,
//! mounts, cgroups, its folder). All of it is blocking code that async tests may also call. It needs root on Debian 12. An [`Error`]
//! names the part, what did not work, and its output or the end of its log.
//!
//! - [`folder`] a part's temporary folder; a helper process removes it even when the test is killed
//! - [`process`] one child process, tied to the life of the test; [`enclosure`] namespaces that end with everything in them
//! - [`packages`] the Debian packages of each part, `go` programs that are built from their Go modules; [`ports`] free ports;
//!   [`http`] a small blocking HTTP client
//! - [`registry`] (with [`token_server`] and [`certificates`]) and [`images`], which builds test images without a base image;
//!   [`jupyter`] images of a Hub and a lab
//! - [`containerd`], [`docker`], [`cri`] (pods without a kubelet), [`grpc`] (a proxy with hooks); [`cluster`] a real Kubernetes,
//!   [`github`] a fake GitHub in it; [`proxy`] a TCP proxy that is slow, stalls, cuts or refuses; [`scripted_api`] an API server
//!   that may stop answering
//! - [`chromium`] a headless browser; [`daemon`] one of our own daemons; [`ganesha`] a real NFS server, [`knfsd`] the one of the
//!   Linux kernel, each at its own [`site`]; [`rabbitmq`] a real broker; [`prometheus`] a real Prometheus with our alert rules;
//!   [`qemu`] a real NFS client; [`silent_file_system`] a mount that never answers
//!
//! To add a part, add a file with a guard that holds its [`process::Process`] before its [`folder::Folder`], and a line below.

pub mod certificates;
pub mod chromium;
pub mod cluster;
pub mod command;
pub mod containerd;
pub mod cri;
pub mod daemon;
pub mod definition;
pub mod docker;
pub mod enclosure;
pub mod error;
pub mod folder;
pub mod ganesha;
pub mod github;
pub mod go;
pub mod grpc;
pub mod http;
pub mod images;
pub mod jupyter;
pub mod knfsd;
pub mod packages;
pub mod ports;
pub mod process;
pub mod prometheus;
pub mod proxy;
pub mod qemu;
pub mod rabbitmq;
pub mod registry;
mod rpc;
pub mod scripted_api;
pub mod silent_file_system;
pub mod site;
pub mod token_server;
pub mod up;
pub mod wait;

pub use error::{Error, Result};
