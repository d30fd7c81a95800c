//! Reads the thresholds of kubelet's own garbage collection of images.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::files::Files;

/// The largest configuration that is read.
const MOST_BYTES: u64 = 1024 * 1024;

/// Where kubeadm writes kubelet's configuration.
const USUAL_FILE: &str = "/var/lib/kubelet/config.yaml";

/// The suffix of the drop-ins in kubelet's `--config-dir` (KEP-3983).
const DROP_IN: &str = ".conf";

/// kubelet's thresholds, in percent of the file system that holds images (KubeletConfiguration v1beta1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// `imageGCHighThresholdPercent`: above it, kubelet removes the oldest images.
    pub high: u8,
    /// `imageGCLowThresholdPercent`: kubelet stops at this.
    pub low: u8,
    /// The source of the thresholds.
    pub source: Source,
}

/// The source of thresholds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Read from these files.
    Read(Vec<PathBuf>),
    /// kubelet's defaults, for this reason.
    Assumed(String),
}

/// An invalid setting, and the reason.
pub type InvalidField = (&'static str, String);

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(files) => {
                let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
                write!(f, "read from {}", files.join(", "))
            }
            Self::Assumed(why) => write!(f, "assumed, because {why}"),
        }
    }
}

impl fmt::Display for Thresholds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} % and {} %, {}", self.high, self.low, self.source)
    }
}

/// Reads the thresholds from the configured file and drop-ins. Without a file, reads kubeadm's usual file, and without
/// that, uses kubelet's defaults.
///
/// # Errors
///
/// The settings that are set and cannot be used.
pub async fn thresholds(
    files: &mut Files,
    file: Option<&Path>,
    folder: Option<&Path>,
) -> Result<Thresholds, Vec<InvalidField>> {
    let mut found = Found::default();
    let mut wrong = Vec::new();
    let mut assumed = String::new();
    match file {
        Some(path) => {
            let text = match files.read(path, MOST_BYTES).await {
                Ok(Some(text)) => found.take_main(path, &text.text),
                Ok(None) => Err(format!("{}: there is no such file", path.display())),
                Err(error) => Err(format!("{}: {error}", path.display())),
            };
            wrong.extend(text.err().map(|why| ("KUBELET_CONFIG_FILE", why)));
        }
        // No setting names this file, so it may be missing or unreadable.
        None => match files.read(Path::new(USUAL_FILE), MOST_BYTES).await {
            Ok(Some(text)) => assumed = found.take_main(Path::new(USUAL_FILE), &text.text).err().unwrap_or_default(),
            Ok(None) => assumed = format!("KUBELET_CONFIG_FILE is unset and there is no {USUAL_FILE}"),
            Err(error) => assumed = format!("{USUAL_FILE} cannot be read: {error}"),
        },
    }
    if let Some(folder) = folder {
        let taken = match files.read_folder(folder, DROP_IN, MOST_BYTES).await {
            Ok(Some(texts)) => texts.iter().try_for_each(|(path, text)| found.take(path, text)),
            Ok(None) => Err(format!("{}: there is no such folder", folder.display())),
            Err(error) => Err(format!("{}: {error}", folder.display())),
        };
        wrong.extend(taken.err().map(|why| ("KUBELET_CONFIG_DIR", why)));
    }
    if wrong.is_empty() { Ok(found.thresholds(assumed)) } else { Err(wrong) }
}

/// What the files have set so far; later files override earlier ones.
#[derive(Debug, Default)]
struct Found {
    high: Option<u8>,
    low: Option<u8>,
    files: Vec<PathBuf>,
}

impl Found {
    /// Takes kubelet's main file. Another file, such as the `config.yaml` of k3s, would silently leave the defaults.
    fn take_main(&mut self, path: &Path, text: &str) -> Result<(), String> {
        let words = ["KubeletConfiguration", "imageGCHighThresholdPercent", "imageGCLowThresholdPercent"];
        if words.iter().any(|word| text.contains(word)) {
            return self.take(path, text);
        }
        Err(format!(
            "{}: it is not a KubeletConfiguration; if kubelet has its thresholds as flags, set DISK_HIGH and DISK_LOW below them",
            path.display()
        ))
    }

    fn take(&mut self, path: &Path, text: &str) -> Result<(), String> {
        let named = |why| format!("{}: {why}", path.display());
        let (high, low) = (percent(text, "imageGCHighThresholdPercent"), percent(text, "imageGCLowThresholdPercent"));
        let (high, low) = (high.map_err(named)?, low.map_err(named)?);
        self.files.push(path.to_owned());
        (self.high, self.low) = (high.or(self.high), low.or(self.low));
        Ok(())
    }

    fn thresholds(self, assumed: String) -> Thresholds {
        let source = if self.files.is_empty() { Source::Assumed(assumed) } else { Source::Read(self.files) };
        Thresholds { high: self.high.unwrap_or(85), low: self.low.unwrap_or(80), source }
    }
}

/// Finds one top-level key of YAML or JSON without a parser: `key: 85`, `"key": 85,`.
fn percent(text: &str, key: &str) -> Result<Option<u8>, String> {
    let text = text.trim_start_matches('\u{feff}');
    let mut lines = text.split(['\n', ',', '{', '}']).filter_map(|line| line.split_once(':'));
    let Some((_, value)) = lines.find(|(name, _)| name.trim().trim_matches(['"', '\'']) == key) else {
        return Ok(None);
    };
    let value = value.split('#').next().unwrap_or_default().trim();
    // kubelet takes no value for its default.
    if matches!(value, "" | "~" | "null") {
        return Ok(None);
    }
    let value = value.trim_matches(['"', '\'']);
    match value.parse() {
        Ok(percent @ 0..=100) => Ok(Some(percent)),
        _ => Err(format!("{key} is {value:?}, not a number from 0 to 100")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(texts: &[&str]) -> Result<(u8, u8), String> {
        let mut found = Found::default();
        texts.iter().try_for_each(|text| found.take(Path::new("/file"), text))?;
        let Thresholds { high, low, .. } = found.thresholds(String::new());
        Ok((high, low))
    }

    #[test]
    fn yaml_and_json_are_read_and_defaults_fill_in() {
        let table = [
            (
                "kind: KubeletConfiguration\nimageGCHighThresholdPercent: 70 # early\nimageGCLowThresholdPercent: 60\n",
                (70, 60),
            ),
            (
                r#"{"kind":"KubeletConfiguration","imageGCLowThresholdPercent":50,"imageGCHighThresholdPercent":55}"#,
                (55, 50),
            ),
            ("imageGCHighThresholdPercent: 90", (90, 80)),
            ("'imageGCHighThresholdPercent': \"90\"", (90, 80)),
            ("imageGCHighThresholdPercent: 100", (100, 80)),
            ("imageGCHighThresholdPercent: 70\r\nimageGCLowThresholdPercent: 60\r\n", (70, 60)),
            ("imageGCHighThresholdPercent: null\nimageGCLowThresholdPercent:\nkind: KubeletConfiguration", (85, 80)),
            (r#"{"imageGCHighThresholdPercent": null, "imageGCLowThresholdPercent": 60}"#, (85, 60)),
            ("# imageGCHighThresholdPercent: 70\nimageGCLowThresholdPercent: ~ # as usual", (85, 80)),
            ("\u{feff}imageGCHighThresholdPercent: 70", (70, 80)),
            ("", (85, 80)),
        ];
        for (text, thresholds) in table {
            assert_eq!(of(&[text]), Ok(thresholds), "{text}");
        }
        for wrong in ["many", "101", "-1", "85%"] {
            let error = of(&[&format!("imageGCHighThresholdPercent: {wrong}")]).unwrap_err();
            assert!(error.contains("/file: imageGCHighThresholdPercent is") && error.contains(wrong), "{error}");
        }
    }

    #[test]
    fn the_main_file_is_a_kubelet_configuration() {
        let main = |text: &str| Found::default().take_main(Path::new("/file"), text);
        for text in
            ["kind: KubeletConfiguration\n", r#"{"kind":"KubeletConfiguration"}"#, "imageGCLowThresholdPercent: 60"]
        {
            assert_eq!(main(text), Ok(()), "{text}");
        }
        let k3s = "kubelet-arg:\n- image-gc-high-threshold=70\n";
        for text in ["", "garbage", k3s, "kind: KubeProxyConfiguration\n", "apiVersion: v1\nkind: Config\n"] {
            assert!(main(text).unwrap_err().contains("/file: it is not a KubeletConfiguration"), "{text}");
        }
    }

    #[test]
    fn drop_ins_override_the_file_and_the_last_one_overrides_all() {
        let texts = [
            "imageGCHighThresholdPercent: 70\nimageGCLowThresholdPercent: 60",
            "imageGCHighThresholdPercent: 75",
            "evictionHard: {}",
        ];
        assert_eq!(of(&texts), Ok((75, 60)));
    }
}
