//! Reads the files with Docker's configuration of a container.

use std::fs;
use std::path::Path;

use serde::Deserialize;

/// The largest configuration file that is read.
const MOST_CONFIG_BYTES: u64 = 4 * 1024 * 1024;

/// Reads one configuration file.
pub(super) fn read(path: &Path) -> Option<Vec<u8>> {
    let size = fs::metadata(path).ok()?.len();
    if size > MOST_CONFIG_BYTES { None } else { fs::read(path).ok() }
}

/// The log driver of this folder's container.
pub(super) fn log_driver(folder: &Path) -> Option<String> {
    let config = read(&folder.join("hostconfig.json"))?;
    Some(serde_json::from_slice::<HostConfig>(&config).ok()?.log_config.kind)
}

/// The fields of Docker's `hostconfig.json` that are used.
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
