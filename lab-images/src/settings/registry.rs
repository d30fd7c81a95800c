//! Where images come from: repositories to scan or a fixed list, and how to access their registries.

use std::path::PathBuf;

use clap::Args;
use sidecar::settings::Problems;
use sidecar::settings::values::list;

use crate::reference::{Reference, Repository, is_host};
use crate::registry::{CredentialSources, RegistryConfig};

/// Flags and variables about the sources of images.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Where images come from")]
pub struct SourceArguments {
    /// Repositories to scan
    #[arg(long, env = "LAB_REPOSITORIES", value_name = "REGISTRY/OWNER/NAME,…")]
    pub lab_repositories: Option<String>,
    /// One repository in three parts: its registry (if LAB_REPOSITORIES is unset)
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
    /// Additional images that are always wanted
    #[arg(long, env = "LAB_INFRASTRUCTURE_IMAGES", value_name = "IMAGE,…")]
    pub lab_infrastructure_images: Option<String>,
}

/// Where images come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Repositories to scan; empty if `fixed` is set.
    pub repositories: Vec<Repository>,
    /// A fixed list of images instead of a scan.
    pub fixed: Vec<Reference>,
    /// Additional images that are wanted.
    pub infrastructure: Vec<Reference>,
}

impl Source {
    /// Whether it contains no image and no repository.
    pub fn is_empty(&self) -> bool {
        self.repositories.is_empty() && self.fixed.is_empty() && self.infrastructure.is_empty()
    }
}

const REPOSITORIES: &str = "LAB_REPOSITORIES";
const REPOSITORIES_EXAMPLE: &str = "registry.example.org/owner/lab";
const IMAGES_EXAMPLE: &str = "registry.example.org/owner/lab:w_2026_47";

impl SourceArguments {
    /// The source, which may be empty, or `None` with the problems recorded.
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

/// Flags and variables about access to registries.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Registries")]
pub struct RegistryArguments {
    /// Registries that use plain HTTP
    #[arg(long, env = "LAB_INSECURE_REGISTRIES", value_name = "HOST:PORT,…")]
    pub lab_insecure_registries: Option<String>,
    /// Token servers in other domains than their registries that may receive credentials; * matches one label
    #[arg(long, env = "LAB_TOKEN_SERVERS", value_name = "HOST,…")]
    pub lab_token_servers: Option<String>,
    /// The registries' credentials.
    #[command(flatten)]
    pub credentials: CredentialsArguments,
}

/// Flags and variables of the registries' credentials.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Registries")]
pub struct CredentialsArguments {
    /// File of type dockerconfigjson with the registries' credentials; it is read again when it changes. Unset outside
    /// of a cluster: the files of podman, skopeo and Docker
    #[arg(long, env = "REGISTRY_AUTH_FILE", value_name = "FILE")]
    pub registry_auth_file: Option<PathBuf>,
    /// Where other programs keep credentials.
    #[command(flatten)]
    usual: UsualPlaces,
}

/// Variables about other programs' credentials. The system sets them and not the operator, so they are hidden.
#[derive(Args, Clone, Debug)]
struct UsualPlaces {
    #[arg(long, env = "KUBERNETES_SERVICE_HOST", hide = true)]
    kubernetes_service_host: Option<String>,
    #[arg(long, env = "XDG_RUNTIME_DIR", hide = true)]
    xdg_runtime_dir: Option<PathBuf>,
    #[arg(long, env = "XDG_CONFIG_HOME", hide = true)]
    xdg_config_home: Option<PathBuf>,
    #[arg(long, env = "DOCKER_CONFIG", hide = true)]
    docker_config: Option<PathBuf>,
    #[arg(long, env = "HOME", hide = true)]
    home: Option<PathBuf>,
}

impl UsualPlaces {
    /// The files in the order of podman, skopeo and Docker (containers-auth.json(5)).
    fn files(&self) -> Vec<PathBuf> {
        let home = |below: &str| self.home.as_ref().map(|home| home.join(below));
        let containers = |folder: PathBuf| folder.join("containers/auth.json");
        [
            self.xdg_runtime_dir.clone().map(containers),
            self.xdg_config_home.clone().or_else(|| home(".config")).map(containers),
            self.docker_config.clone().or_else(|| home(".docker")).map(|folder| folder.join("config.json")),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

impl CredentialsArguments {
    /// The sources of credentials: the configured file, else the usual ones on a single host. Helper programs run only
    /// there.
    pub fn sources(&self) -> CredentialSources {
        let single_host = self.usual.kubernetes_service_host.is_none();
        let files = match &self.registry_auth_file {
            Some(file) => vec![file.clone()],
            None if single_host => self.usual.files(),
            None => Vec::new(),
        };
        CredentialSources { files, required: self.registry_auth_file.is_some(), run_helpers: single_host }
    }
}

const INSECURE: &str = "LAB_INSECURE_REGISTRIES";
const TOKEN_SERVERS: &str = "LAB_TOKEN_SERVERS";

impl RegistryArguments {
    /// How to access registries, or `None` with the problems recorded.
    pub fn settings(&self, problems: &mut Problems) -> Option<RegistryConfig> {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let insecure =
            problems.parse(INSECURE, &text(&self.lab_insecure_registries), "registry.example.org:5000", |text| {
                list(text).map(|host| plain_host(host, "http://", false)).collect::<Result<Vec<_>, _>>()
            });
        let servers = problems.parse(TOKEN_SERVERS, &text(&self.lab_token_servers), "auth.example.org", |text| {
            list(text).map(|host| plain_host(host, "https://", true)).collect::<Result<Vec<_>, _>>()
        });
        let credentials = self.credentials.sources();
        Some(RegistryConfig { insecure: insecure?, token_servers: servers?, credentials, ..RegistryConfig::default() })
    }
}

/// A host with an optional port. A scheme that matches the setting is removed, and so are trailing slashes.
fn plain_host(text: &str, scheme: &str, wildcards: bool) -> Result<String, String> {
    let bare = text.strip_prefix(scheme).unwrap_or(text).trim_end_matches('/').to_ascii_lowercase();
    if bare.contains("://") {
        return Err(format!("{text:?} has a scheme other than {scheme}; name the host alone"));
    }
    if bare.contains('/') {
        return Err(format!("{text:?} has a path; name the host alone"));
    }
    let host = if wildcards { bare.replace('*', "x") } else { bare.clone() };
    if is_host(&host) { Ok(bare) } else { Err(format!("{text:?} is not a host name or address with an optional port")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Run {
        #[command(flatten)]
        source: SourceArguments,
        #[command(flatten)]
        registry: RegistryArguments,
    }

    /// Flags only, so that the test's environment does not count.
    fn run(flags: &[(&str, &str)]) -> Run {
        let cleared = ["HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "DOCKER_CONFIG", "KUBERNETES_SERVICE_HOST"];
        let mut command = <Run as clap::CommandFactory>::command();
        for name in cleared {
            let id = name.to_ascii_lowercase();
            command = command.mut_arg(id, |argument| argument.env(None::<&'static str>));
        }
        let words = flags.iter().map(|(flag, value)| format!("--{flag}={value}"));
        let matches = command.get_matches_from(std::iter::once("run".to_owned()).chain(words));
        <Run as clap::FromArgMatches>::from_arg_matches(&matches).unwrap()
    }

    fn config(flags: &[(&str, &str)]) -> Result<RegistryConfig, String> {
        let mut problems = Problems::default();
        let config = run(flags).registry.settings(&mut problems);
        problems.finish(config).map_err(|problems| problems.to_string())
    }

    #[test]
    fn hosts_with_a_scheme_or_a_slash_are_understood_or_refused() {
        let insecure = |text| config(&[("lab-insecure-registries", text)]).map(|config| config.insecure);
        for text in
            ["R.example.org:5000", "http://r.example.org:5000", "r.example.org:5000/", "http://r.example.org:5000//"]
        {
            assert_eq!(insecure(text).unwrap(), ["r.example.org:5000"], "{text}");
        }
        assert_eq!(insecure("a.example.org, [::1]:5000").unwrap(), ["a.example.org", "[::1]:5000"]);
        for text in [
            "https://r.example.org",
            "r.example.org/lab",
            "10.0.0.0/8",
            "*.example.org",
            "r example",
            "r:port",
            "ftp://r",
        ] {
            let error = insecure(text).unwrap_err();
            assert!(
                error.contains("LAB_INSECURE_REGISTRIES") && error.contains("registry.example.org:5000"),
                "{error}"
            );
        }
        let servers = |text| config(&[("lab-token-servers", text)]).map(|config| config.token_servers);
        assert_eq!(servers("https://api.scaleway.com/,*.example.org").unwrap(), ["api.scaleway.com", "*.example.org"]);
        for text in ["http://auth.example.org", "auth.example.org/token", "auth example"] {
            assert!(servers(text).unwrap_err().contains("LAB_TOKEN_SERVERS"), "{text}");
        }
    }

    #[test]
    fn credentials_are_found_as_other_programs_find_them() {
        let files = |flags: &[(&str, &str)]| {
            let sources = run(flags).registry.credentials.sources();
            let files: Vec<String> = sources.files.iter().map(|file| file.display().to_string()).collect();
            (files.join(" "), sources.required, sources.run_helpers)
        };
        let places = [("home", "/h"), ("xdg-runtime-dir", "/run/1")];
        let usual = "/run/1/containers/auth.json /h/.config/containers/auth.json /h/.docker/config.json";
        assert_eq!(files(&places), (usual.to_owned(), false, true));
        let moved = [("home", "/h"), ("xdg-config-home", "/c"), ("docker-config", "/d")];
        assert_eq!(files(&moved).0, "/c/containers/auth.json /d/config.json");
        assert_eq!(files(&[]), (String::new(), false, true));
        assert_eq!(files(&[("home", "/h"), ("registry-auth-file", "/a")]), ("/a".to_owned(), true, true));
        let cluster = ("kubernetes-service-host", "10.0.0.1");
        assert_eq!(files(&[("home", "/h"), cluster]), (String::new(), false, false));
        assert_eq!(files(&[("registry-auth-file", "/a"), cluster]), ("/a".to_owned(), true, false));
    }

    #[test]
    fn errors_show_how_to_write_a_repository() {
        for (text, expected) in [
            ("quay.io/a/b:latest", "LAB_CONTAINER_NAMES"),
            ("quay.io/a/b@sha256:aa", "LAB_CONTAINER_NAMES"),
            ("quay.io/a/b/", "slash at its end"),
            ("ghcr.io/MyOrg/Lab", "ghcr.io/myorg/lab"),
            ("MyOrg/Lab", "myorg/lab"),
            ("quay.io", "no repository"),
            ("localhost:5000", "no repository"),
            ("https://quay.io/a/b", "scheme"),
        ] {
            let mut problems = Problems::default();
            run(&[("lab-repositories", text)]).source.settings(&mut problems);
            let problems = problems.to_string();
            assert!(problems.contains("LAB_REPOSITORIES") && problems.contains(expected), "{text}: {problems}");
        }
    }
}
