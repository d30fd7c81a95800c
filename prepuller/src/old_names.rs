//! Variables of the prepullers in LSST's Jupyter Lab Demo (2017 and its successor), translated if they have a meaning
//! today.

use lab_images::policy::DEFAULT_KEEP;
use sidecar::settings::{Environment, Now, OldName};

const OLD_NAMES: &[OldName] = &[
    OldName { name: "JLD_INFRASTRUCTURE_IMAGES", now: Now::Setting("LAB_INFRASTRUCTURE_IMAGES") },
    OldName { name: "PREPULLER_OWNER", now: Now::Setting("LAB_OWNER") },
    OldName { name: "PREPULLER_IMAGE_NAME", now: Now::Setting("LAB_REPO_NAME") },
    OldName { name: "PREPULLER_SORT_FIELD", now: Now::Gone("tags are ordered by class and version (LAB_TAG_SCHEME)") },
    OldName { name: "PREPULLER_COMMAND", now: Now::Gone("commands are no longer run inside the images") },
    OldName { name: "PREPULLER_NAMESPACE", now: Now::Gone("the manifests set the namespace") },
    OldName { name: "RESTRICT_LAB_NODES", now: Now::Gone("use LAB_NODE_SELECTOR") },
];

/// The successor's suffixes, such as `_DAILIES`, and today's class.
const NUMBERS: [(&str, &str); 4] = [
    ("PREPULLER_RELEASES", "release"),
    ("PREPULLER_WEEKLIES", "weekly"),
    ("PREPULLER_DAILIES", "daily"),
    ("PREPULLER_EXPERIMENTALS", "experimental"),
];

/// Translates old names. Returns one sentence for each that was found.
pub fn take_over(environment: &mut Environment) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut take = |environment: &mut Environment, name: &'static str, now: Now| {
        let value = environment.get(name).filter(|value| !value.starts_with("tcp://")).map(str::to_owned);
        warnings.extend(environment.take_over(&[OldName { name, now }]));
        value
    };

    let host = take(environment, "PREPULLER_REPO", Now::Gone("use LAB_REPO_HOST (its value was used there)"));
    let port =
        take(environment, "PREPULLER_PORT", Now::Gone("put the port into LAB_REPO_HOST (its value was used there)"));
    let insecure =
        take(environment, "PREPULLER_INSECURE", Now::Gone("use LAB_INSECURE_REGISTRIES (its value was used there)"));
    let host = match (host, port) {
        (Some(host), Some(port)) => Some(format!("{host}:{port}")),
        (host, _) => host,
    };
    if let Some(host) = host {
        if insecure.as_deref().is_some_and(is_on) {
            environment.default_to("LAB_INSECURE_REGISTRIES", &host);
        }
        environment.default_to("LAB_REPO_HOST", &host);
    }

    let list = take(
        environment,
        "PREPULLER_IMAGE_LIST",
        Now::Gone("use LAB_INFRASTRUCTURE_IMAGES (its value was used there)"),
    );
    let no_scan = take(environment, "PREPULLER_NO_SCAN", Now::Gone("use LAB_CONTAINER_NAMES instead of a scan"));
    if let Some(list) = list {
        let only = no_scan.as_deref().is_some_and(is_on);
        environment.default_to(if only { "LAB_CONTAINER_NAMES" } else { "LAB_INFRASTRUCTURE_IMAGES" }, &list);
    }
    if take(environment, "DEBUG", Now::Gone("use LOG=debug (its value was used there)")).as_deref().is_some_and(is_on) {
        environment.default_to("LOG", "debug");
    }

    let numbers = NUMBERS
        .map(|(name, class)| (class, take(environment, name, Now::Gone("use LAB_KEEP (its value was used there)"))));
    if numbers.iter().any(|(_, number)| number.is_some()) {
        environment.default_to("LAB_KEEP", &keep(&numbers));
    }
    warnings.extend(environment.take_over(OLD_NAMES));
    warnings
}

/// The given numbers, with the defaults of the other classes.
fn keep(numbers: &[(&str, Option<String>)]) -> String {
    let mut classes: Vec<(&str, &str)> = DEFAULT_KEEP.split(',').filter_map(|item| item.split_once('=')).collect();
    for (class, number) in numbers {
        let Some(number) = number else { continue };
        match classes.iter_mut().find(|(known, _)| known == class) {
            Some((_, default)) => *default = number,
            None => classes.push((class, number)),
        }
    }
    classes.iter().map(|(class, number)| format!("{class}={number}")).collect::<Vec<_>>().join(",")
}

fn is_on(value: &str) -> bool {
    sidecar::settings::values::switch(value).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(variables: &[(&str, &str)]) -> (Environment, Vec<String>) {
        let mut environment: Environment = variables.iter().copied().collect();
        let warnings = take_over(&mut environment);
        (environment, warnings)
    }

    #[test]
    fn the_successors_settings_become_todays() {
        let (environment, warnings) = taken(&[
            ("PREPULLER_REPO", "registry.example.org"),
            ("PREPULLER_PORT", "5000"),
            ("PREPULLER_INSECURE", "true"),
            ("PREPULLER_OWNER", "lsstsqre"),
            ("PREPULLER_IMAGE_NAME", "jld-lab"),
            ("PREPULLER_DAILIES", "5"),
            ("PREPULLER_EXPERIMENTALS", "1"),
            ("DEBUG", "1"),
        ]);
        assert_eq!(environment.get("LAB_REPO_HOST"), Some("registry.example.org:5000"));
        assert_eq!(environment.get("LAB_INSECURE_REGISTRIES"), Some("registry.example.org:5000"));
        assert_eq!(environment.get("LAB_OWNER"), Some("lsstsqre"));
        assert_eq!(environment.get("LAB_REPO_NAME"), Some("jld-lab"));
        assert_eq!(environment.get("LAB_KEEP"), Some("release=1,weekly=2,daily=5,experimental=1"));
        assert_eq!(environment.get("LOG"), Some("debug"));
        assert_eq!(warnings.len(), 8, "{warnings:?}");
    }

    #[test]
    fn a_list_replaces_the_scan_only_if_the_scan_was_off() {
        let (environment, _) = taken(&[("PREPULLER_IMAGE_LIST", "a:1,b:2")]);
        assert_eq!(environment.get("LAB_INFRASTRUCTURE_IMAGES"), Some("a:1,b:2"));
        let (environment, _) = taken(&[("PREPULLER_IMAGE_LIST", "a:1,b:2"), ("PREPULLER_NO_SCAN", "true")]);
        assert_eq!(environment.get("LAB_CONTAINER_NAMES"), Some("a:1,b:2"));
    }

    #[test]
    fn todays_names_win() {
        let (environment, _) = taken(&[("PREPULLER_DAILIES", "5"), ("LAB_KEEP", "weekly=1")]);
        assert_eq!(environment.get("LAB_KEEP"), Some("weekly=1"));
    }

    #[test]
    fn a_service_named_prepuller_does_no_harm() {
        let (environment, warnings) =
            taken(&[("PREPULLER_PORT", "tcp://10.43.0.7:80"), ("PREPULLER_REPO", "a.example.org")]);
        assert_eq!(environment.get("LAB_REPO_HOST"), Some("a.example.org"));
        assert!(warnings.iter().any(|warning| warning.contains("enableServiceLinks")), "{warnings:?}");
    }
}
