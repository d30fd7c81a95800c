//! Keeps the unpack factor of this machine between runs. Losing it costs only accuracy, so nothing here fails.

use std::path::Path;

use lab_images::runtime::disk::UnpackFactor;

/// The saved factor, or the default.
pub(super) fn read(file: Option<&Path>) -> UnpackFactor {
    let Some(file) = file else { return UnpackFactor::default() };
    let Ok(text) = std::fs::read_to_string(file) else { return UnpackFactor::default() };
    serde_json::from_str(&text).unwrap_or_else(|error| {
        tracing::warn!(file = %file.display(), %error, "the file with the unpack factor is damaged; using the default");
        UnpackFactor::default()
    })
}

/// Writes the factor.
pub(super) fn write(file: Option<&Path>, factor: UnpackFactor) {
    let Some(file) = file else { return };
    let folder = file.parent().unwrap_or(Path::new("."));
    let written = std::fs::create_dir_all(folder)
        .and_then(|()| sidecar::files::replace(file, f64::from(factor).to_string().as_bytes()));
    if let Err(error) = written {
        tracing::warn!(file = %file.display(), %error, "cannot save the unpack factor; set STATE_DIR to a writable folder");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_written_factor_is_read_and_damage_means_the_default() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("deep/unpack-factor.json");
        write(Some(&file), UnpackFactor::from(1.5));
        assert_eq!(read(Some(&file)), UnpackFactor::from(1.5));
        std::fs::write(&file, "x").unwrap();
        assert_eq!(read(Some(&file)), UnpackFactor::default());
    }
}
