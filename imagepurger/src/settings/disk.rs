//! Where early removal begins and ends, below where kubelet's own does.

use std::path::PathBuf;

use clap::Args;
use lab_images::settings::DiskArguments;
use sidecar::settings::Problems;
use sidecar::settings::values::percent;

use crate::kubelet::Thresholds;
use crate::round::Watermarks;

#[derive(Args, Debug)]
#[command(next_help_heading = "Disk")]
pub(super) struct WatermarkArguments {
    #[command(flatten)]
    high: DiskArguments,
    /// Where early removal ends
    #[arg(long, env = "DISK_LOW", value_name = "PERCENT", default_value = "65%")]
    disk_low: String,
    /// kubelet's configuration, whose thresholds both limits stay below (85 % and 80 % where there is none)
    #[arg(long, env = "KUBELET_CONFIG_FILE", value_name = "FILE", default_value = "/var/lib/kubelet/config.yaml")]
    kubelet_config_file: PathBuf,
}

impl WatermarkArguments {
    pub(super) fn settings(&self, problems: &mut Problems) -> Option<Watermarks> {
        let high = self.high.settings(problems);
        let low = problems.parse("DISK_LOW", &self.disk_low, "65%", percent);
        watermarks(high?, low?, Thresholds::of_file(&self.kubelet_config_file), problems)
    }
}

/// Both limits below both of kubelet's thresholds, so that its garbage collection never begins.
fn watermarks(high: u8, low: u8, kubelet: Thresholds, problems: &mut Problems) -> Option<Watermarks> {
    let mut fine = true;
    let limit = kubelet.high.min(kubelet.low);
    for (setting, percent, example) in [("DISK_HIGH", high, "75%"), ("DISK_LOW", low, "65%")] {
        if percent >= limit {
            let Thresholds { high, low } = kubelet;
            let reason = format!(
                "{percent} % is not below kubelet's own thresholds ({high} % and {low} %), which would remove whatever is oldest"
            );
            problems.add(setting, reason, example);
            fine = false;
        }
    }
    if low >= high {
        problems.add("DISK_LOW", format!("{low} % is not below DISK_HIGH ({high} %)"), "65%");
        fine = false;
    }
    fine.then_some(Watermarks { high, low })
}
