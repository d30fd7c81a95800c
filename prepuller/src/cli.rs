//! The commands of `prepuller`.

use std::path::PathBuf;

use clap::Parser;

use crate::plan::settings::PlanArguments;
use crate::settings::{NodeArguments, PullArguments, ScanArguments, StatusArguments, TagsArguments, WaitArguments};

/// The commands of `prepuller`.
#[derive(Debug, Parser)]
#[command(
    name = "prepuller",
    version,
    about = "Decides which lab images are wanted and pulls them to every node before users ask for them",
    after_help = "Every setting is an environment variable and a flag of the same name; the flag wins."
)]
pub enum Command {
    /// Read tags from standard input, and print one JSON object for each in menu order
    Tags(TagsArguments),
    /// Scan the registry once and print which images are wanted, and why
    Scan(ScanArguments),
    /// Pull the wanted images to this machine, once
    Pull(PullArguments),
    /// Run the node agent: pull what the planner orders (the DaemonSet)
    Node(NodeArguments),
    /// Run the planner: decide which images are wanted in a cluster and which node pulls them now (the Deployment)
    Plan(Box<PlanArguments>),
    /// Show the progress of the nodes, as on the planner's page
    Status(StatusArguments),
    /// Wait until every eligible node has all wanted images, for a deploy hook
    Wait(WaitArguments),
    /// Copy this program into a volume, so that another image's container can run it (for pull pods)
    #[command(hide = true)]
    Bring {
        /// Path of the copy
        to: PathBuf,
    },
}
