//! `prepuller scan`: scans once and prints the result.

use std::fmt::Write as _;
use std::process::ExitCode;

use lab_images::catalogue::Catalogue;
use lab_images::reference::Platform;
use sidecar::human::{Table, bytes};
use sidecar::stdio;

use crate::catalogue::{ScanResult, find, registry};
use crate::settings::{Output, ScanSettings};

/// Scans and prints. The exit code is 1 if the scan was incomplete, or did not find everything that is configured.
///
/// # Errors
///
/// If no scan is possible at all, or printing fails.
pub async fn run(settings: ScanSettings, warnings: &[String]) -> anyhow::Result<ExitCode> {
    sidecar::log::init(settings.log.with_warnings(warnings));
    let registry = registry(&settings.catalogue)?;
    let platforms = [Platform::of_this_machine()];
    let ScanResult { catalogue, problems, remarks, .. } =
        find(&registry, &settings.catalogue, &platforms, None).await?;
    let text = match settings.output {
        Output::Table => table(&catalogue),
        Output::Json => serde_json::to_string_pretty(&catalogue)? + "\n",
        Output::Env => assignments(&catalogue),
    };
    stdio::print(&text)?;
    Ok(if problems.is_empty() && remarks.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The wanted images with their reasons, then how many others there are.
pub fn table(catalogue: &Catalogue) -> String {
    let mut table = Table::new(&["IMAGE", "NAME", "SIZE", "WHY"]).right_aligned(&[2]);
    for image in catalogue.wanted() {
        let size = image.size.map_or("-".to_owned(), bytes);
        table.row([image.reference.to_string(), image.name.clone(), size, image.why.clone()]);
    }
    let mut text = table.to_string();
    let others = catalogue.images.iter().filter(|image| !image.wanted).count();
    // Writing to a String does not fail.
    let _ = writeln!(text, "\n{} wanted, {others} others", catalogue.wanted().count());
    for repository in &catalogue.repositories {
        let name = &repository.name;
        let problem = repository.problem.as_deref().unwrap_or("the log says why");
        let _ = match (repository.complete, repository.scanned, &repository.problem) {
            (true, _, None) => continue,
            (true, _, Some(problem)) => writeln!(text, "{name}: {problem}"),
            (false, Some(scanned), _) => {
                writeln!(text, "{name}: the scan is incomplete, its images are those of {scanned:.0}: {problem}")
            }
            (false, None, _) => writeln!(text, "{name}: the scan is incomplete: {problem}"),
        };
    }
    text
}

/// Shell assignments, as `get_builds` of LSST's Jupyter Lab Demo printed them.
fn assignments(catalogue: &Catalogue) -> String {
    let names: Vec<String> = catalogue.wanted().map(|image| image.reference.to_string()).collect();
    // Commas separate names, so commas inside of names are removed.
    let described: Vec<String> = catalogue.wanted().map(|image| image.name.replace(',', "")).collect();
    format!("LAB_CONTAINER_NAMES={}\nLAB_CONTAINER_DESCS={}\n", quoted(&names.join(",")), quoted(&described.join(",")))
}

/// In single quotes for a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lab_images::catalogue::{CatalogueImage, Kind};
    use lab_images::tag::Class;

    fn catalogue() -> Catalogue {
        let image = |tag: &str, name: &str, wanted| CatalogueImage {
            reference: format!("registry.example.org/lab:{tag}").parse().unwrap(),
            repository: "registry.example.org/lab".parse().unwrap(),
            tag: tag.to_owned(),
            class: Class::Weekly,
            kind: Kind::Lab,
            name: name.to_owned(),
            digest: None,
            platforms: Vec::new(),
            size: Some(8_000_000_000),
            aliases: Vec::new(),
            wanted,
            why: "newest weekly".to_owned(),
        };
        let images = vec![
            image("w_2026_47_c0020.001", "Weekly 2026_47 (SAL Cycle 0020, Build 001)", true),
            image("w_2026_46", "Bob's", true),
            image("w_2026_45", "old", false),
        ];
        Catalogue::new(jiff::Timestamp::UNIX_EPOCH, true, images)
    }

    #[test]
    fn a_table_of_what_is_wanted() {
        let text = table(&catalogue());
        assert!(text.contains("registry.example.org/lab:w_2026_47_c0020.001  Weekly 2026_47 (SAL Cycle 0020, Build 001)  7.45 GiB  newest weekly"), "{text}");
        assert!(text.ends_with("2 wanted, 1 others\n"), "{text}");
    }

    #[test]
    fn assignments_for_a_shell() {
        assert_eq!(
            assignments(&catalogue()),
            "LAB_CONTAINER_NAMES='registry.example.org/lab:w_2026_47_c0020.001,registry.example.org/lab:w_2026_46'\n\
             LAB_CONTAINER_DESCS='Weekly 2026_47 (SAL Cycle 0020 Build 001),Bob'\\''s'\n"
        );
    }
}
