//! Where kubelet's own garbage collection of images begins and ends.

use std::io::Read;
use std::path::Path;

/// No configuration of kubelet comes near this.
const MOST_BYTES: u64 = 1024 * 1024;

/// kubelet's thresholds, in percent of the file system of images (KubeletConfiguration v1beta1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// `imageGCHighThresholdPercent`: it removes the oldest images from here …
    pub high: u8,
    /// `imageGCLowThresholdPercent`: … down to here.
    pub low: u8,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { high: 85, low: 80 }
    }
}

impl Thresholds {
    /// Those of a configuration file; kubelet's defaults where it is not there or does not name them.
    pub fn of_file(path: &Path) -> Self {
        let mut text = String::new();
        let read = std::fs::File::open(path).and_then(|file| file.take(MOST_BYTES).read_to_string(&mut text));
        if read.is_ok() { Self::of(&text) } else { Self::default() }
    }

    /// Two keys at the top of YAML or JSON need no parser: `key: 85`, `"key": 85,`.
    fn of(text: &str) -> Self {
        let value = |key: &str| {
            let mut lines = text.split(['\n', ',', '{', '}']).filter_map(|line| line.split_once(':'));
            let (_, value) = lines.find(|(name, _)| name.trim().trim_matches('"') == key)?;
            value.split('#').next()?.trim().parse().ok()
        };
        let default = Self::default();
        Self {
            high: value("imageGCHighThresholdPercent").unwrap_or(default.high),
            low: value("imageGCLowThresholdPercent").unwrap_or(default.low),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            ("imageGCHighThresholdPercent: many", (85, 80)),
            ("", (85, 80)),
        ];
        for (text, (high, low)) in table {
            assert_eq!(Thresholds::of(text), Thresholds { high, low }, "{text}");
        }
        assert_eq!(Thresholds::of_file(Path::new("/not/there")), Thresholds::default());
    }
}
