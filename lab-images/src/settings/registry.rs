//! Where images come from: repositories to scan or a fixed list, and how their registries are reached.

use std::path::PathBuf;

use clap::Args;
use sidecar::settings::Problems;
use sidecar::settings::values::list;

use crate::reference::{Reference, Repository};

/// Flags and variables that say where images come from.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Where images come from")]
pub struct SourceArguments {
    /// Repositories to scan
    #[arg(long, env = "LAB_REPOSITORIES", value_name = "REGISTRY/OWNER/NAME,…")]
    pub lab_repositories: Option<String>,
    /// One repository in three parts: its registry (used where LAB_REPOSITORIES is unset)
    #[arg(long, env = "LAB_REPO_HOST", value_name = "REGISTRY", default_value = "docker.io")]
    pub lab_repo_host: String,
    /// One repository in three parts: its owner
    #[arg(long, env = "LAB_OWNER", value_name = "OWNER")]
    pub lab_owner: Option<String>,
    /// One repository in three parts: its name
    #[arg(long, env = "LAB_REPO_NAME", value_name = "NAME")]
    pub lab_repo_name: Option<String>,
    /// A fixed list of images instead of a scan
    #[arg(long, env = "LAB_CONTAINER_NAMES", value_name = "IMAGE,…")]
    pub lab_container_names: Option<String>,
    /// Images that are wanted besides, whatever the scan finds
    #[arg(long, env = "LAB_INFRASTRUCTURE_IMAGES", value_name = "IMAGE,…")]
    pub lab_infrastructure_images: Option<String>,
}

/// Where images come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Repositories to scan; empty where `fixed` is given.
    pub repositories: Vec<Repository>,
    /// A fixed list of images instead of a scan.
    pub fixed: Vec<Reference>,
    /// Images wanted besides.
    pub infrastructure: Vec<Reference>,
}

impl Source {
    /// Whether it names any image or repository.
    pub fn is_empty(&self) -> bool {
        self.repositories.is_empty() && self.fixed.is_empty() && self.infrastructure.is_empty()
    }
}

const REPOSITORIES: &str = "LAB_REPOSITORIES";
const REPOSITORIES_EXAMPLE: &str = "registry.example.org/owner/lab";
const IMAGES_EXAMPLE: &str = "registry.example.org/owner/lab:w_2026_47";

impl SourceArguments {
    /// The source, which may be empty, or `None` with the problems noted.
    pub fn settings(&self, problems: &mut Problems) -> Option<Source> {
        let fixed = images(problems, "LAB_CONTAINER_NAMES", self.lab_container_names.as_deref());
        let infrastructure = images(problems, "LAB_INFRASTRUCTURE_IMAGES", self.lab_infrastructure_images.as_deref());
        let repositories = match (&self.lab_container_names, &self.lab_repositories) {
            (Some(_), _) => Some(Vec::new()),
            (None, Some(text)) => {
                problems.parse(REPOSITORIES, text, REPOSITORIES_EXAMPLE, |text| list(text).map(str::parse).collect())
            }
            (None, None) => self.repository_in_parts(problems),
        };
        Some(Source { repositories: repositories?, fixed: fixed?, infrastructure: infrastructure? })
    }

    fn repository_in_parts(&self, problems: &mut Problems) -> Option<Vec<Repository>> {
        let (setting, path) = match (&self.lab_owner, &self.lab_repo_name) {
            (None, None) => return Some(Vec::new()),
            (Some(owner), Some(name)) => ("LAB_REPO_NAME", format!("{owner}/{name}")),
            (None, Some(name)) => ("LAB_REPO_NAME", name.clone()),
            (Some(_), None) => {
                problems.add("LAB_REPO_NAME", "must be set when LAB_OWNER is", "sciplat-lab");
                return None;
            }
        };
        let text = format!("{}/{path}", self.lab_repo_host.trim_end_matches('/'));
        problems.parse(setting, &text, "sciplat-lab", str::parse).map(|repository| vec![repository])
    }
}

fn images(problems: &mut Problems, setting: &'static str, text: Option<&str>) -> Option<Vec<Reference>> {
    problems.parse(setting, text.unwrap_or_default(), IMAGES_EXAMPLE, |text| list(text).map(str::parse).collect())
}

/// Flags and variables that say how registries are reached.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Registries")]
pub struct RegistryArguments {
    /// Registries that are spoken to over plain HTTP
    #[arg(long, env = "LAB_INSECURE_REGISTRIES", value_name = "HOST:PORT,…")]
    pub lab_insecure_registries: Option<String>,
    /// The registries' credentials.
    #[command(flatten)]
    pub credentials: CredentialsArguments,
}

/// Flags and variables of the registries' credentials.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Registries")]
pub struct CredentialsArguments {
    /// A dockerconfigjson with the registries' credentials, read again when it changes
    #[arg(long, env = "REGISTRY_AUTH_FILE", value_name = "FILE")]
    pub registry_auth_file: Option<PathBuf>,
}

impl RegistryArguments {
    /// Hosts, with their ports, that are spoken to over plain HTTP.
    pub fn insecure_registries(&self) -> Vec<String> {
        list(self.lab_insecure_registries.as_deref().unwrap_or_default()).map(str::to_owned).collect()
    }
}
