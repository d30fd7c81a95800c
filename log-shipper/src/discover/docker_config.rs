//! The files in which Docker keeps the configuration of a container.

use std::fs;
use std::path::Path;

use serde::Deserialize;

/// Docker's configuration of a container is smaller.
const MOST_CONFIG_BYTES: u64 = 4 * 1024 * 1024;

/// A file of Docker's configuration of a container.
pub(super) fn read(path: &Path) -> Option<Vec<u8>> {
    let size = fs::metadata(path).ok()?.len();
    if size > MOST_CONFIG_BYTES { None } else { fs::read(path).ok() }
}

/// Which log driver Docker uses for the container of this folder.
pub(super) fn log_driver(folder: &Path) -> Option<String> {
    let config = read(&folder.join("hostconfig.json"))?;
    Some(serde_json::from_slice::<HostConfig>(&config).ok()?.log_config.kind)
}

/// The part of Docker's `hostconfig.json` that is used.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct HostConfig {
    log_config: LogConfig,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LogConfig {
    #[serde(rename = "Type")]
    kind: String,
}
