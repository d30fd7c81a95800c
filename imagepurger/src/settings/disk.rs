//! Parses where early removal starts and ends. Both must be below kubelet's own thresholds.

use std::path::PathBuf;

use clap::Args;
use lab_images::settings::DiskArguments;
use sidecar::settings::Problems;
use sidecar::settings::values::percent;

use crate::files::Files;
use crate::kubelet::{self, InvalidField, Thresholds};
use crate::round::Watermarks;

/// Limits that an error message proposes if the defaults are not below kubelet's thresholds.
const EXAMPLES: [&str; 9] = ["75%", "65%", "55%", "45%", "35%", "25%", "15%", "5%", "1%"];

#[derive(Args, Debug)]
#[command(next_help_heading = "Disk")]
pub(super) struct WatermarkArguments {
    #[command(flatten)]
    high: DiskArguments,
    /// Early removal stops when the used share of the disk falls to this
    #[arg(long, env = "DISK_LOW", value_name = "PERCENT", default_value = "65%")]
    disk_low: String,
    /// Kubelet's configuration; both limits must be below its thresholds. Unset: /var/lib/kubelet/config.yaml if it
    /// exists, else 85 % and 80 %
    #[arg(long, env = "KUBELET_CONFIG_FILE", value_name = "FILE")]
    kubelet_config_file: Option<PathBuf>,
    /// Kubelet's --config-dir, whose *.conf files override its configuration
    #[arg(long, env = "KUBELET_CONFIG_DIR", value_name = "FOLDER")]
    kubelet_config_dir: Option<PathBuf>,
}

impl WatermarkArguments {
    pub(super) async fn kubelet(&self) -> Result<Thresholds, Vec<InvalidField>> {
        let (file, folder) = (self.kubelet_config_file.as_deref(), self.kubelet_config_dir.as_deref());
        kubelet::thresholds(&mut Files::new(), file, folder).await
    }

    pub(super) fn settings(
        &self,
        kubelet: &Result<Thresholds, Vec<InvalidField>>,
        problems: &mut Problems,
    ) -> Option<(Watermarks, Thresholds)> {
        let high = self.high.settings(problems);
        let low = problems.parse("DISK_LOW", &self.disk_low, "65%", percent);
        match kubelet {
            Ok(kubelet) => Some((watermarks(high?, low?, kubelet, problems)?, kubelet.clone())),
            Err(wrong) => {
                for (setting, why) in wrong {
                    let example = match *setting {
                        "KUBELET_CONFIG_DIR" => "/etc/kubernetes/kubelet/config.json.d",
                        _ => "/var/lib/kubelet/config.yaml",
                    };
                    problems.add(setting, why, example);
                }
                None
            }
        }
    }
}

/// Checks that both limits are below both of kubelet's thresholds, so that kubelet's garbage collection never starts.
fn watermarks(high: u8, low: u8, kubelet: &Thresholds, problems: &mut Problems) -> Option<Watermarks> {
    let mut fine = true;
    // With 100 % its garbage collection is off.
    let limit = if kubelet.high < 100 { kubelet.high.min(kubelet.low) } else { 100 };
    let below = |limit: u8| {
        let fits = |example: &&&str| example.trim_end_matches('%').parse().is_ok_and(|percent: u8| percent < limit);
        EXAMPLES.iter().find(fits).copied().unwrap_or("1%")
    };
    let high_example = below(limit);
    let low_example = below(high_example.trim_end_matches('%').parse().unwrap_or(limit));
    for (setting, percent, example) in [("DISK_HIGH", high, high_example), ("DISK_LOW", low, low_example)] {
        if percent >= limit {
            let Thresholds { high, low, source } = kubelet;
            let reason = format!(
                "{percent} % is not below kubelet's own thresholds ({high} % and {low} %), {source}; kubelet would remove the oldest images first"
            );
            problems.add(setting, reason, example);
            fine = false;
        }
    }
    if low >= high {
        problems.add("DISK_LOW", format!("{low} % is not below DISK_HIGH ({high} %)"), below(high.min(limit)));
        fine = false;
    }
    fine.then_some(Watermarks { high, low })
}
