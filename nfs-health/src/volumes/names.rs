//! The names of volumes and of second Services.

use std::collections::BTreeSet;

use super::wanted::{LONGEST, LONGEST_SERVICE, Named, Wanted};

/// The possible names of the claim's volume, best first: the first is short and may be taken by the same export's
/// volume for another claim; the last is unique for all claims.
pub fn of_volume(wanted: &Wanted) -> Vec<String> {
    let export: String =
        wanted.export.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let parts = [&wanted.service.namespace, &wanted.service.name, export.trim_matches('-')];
    let first = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-");
    let Named { namespace, name } = &wanted.claim;
    [first.clone(), format!("{first}-{namespace}"), format!("{first}-{namespace}-{name}")]
        .map(|name| name.chars().take(LONGEST).collect::<String>().trim_end_matches(['-', '.']).to_owned())
        .into()
}

/// The first free name for a second Service: `<name>-kept`, `<name>-kept2` and so on.
pub fn of_kept(service: &str, taken: &BTreeSet<String>) -> String {
    let named = |number: usize| {
        let end = if number == 1 { "-kept".to_owned() } else { format!("-kept{number}") };
        let begin: String = service.chars().take(LONGEST_SERVICE - end.len()).collect();
        begin + &end
    };
    // There is one more number than there are names, so one of them is free.
    let free = (1..=taken.len()).map(named).find(|name| !taken.contains(name));
    free.unwrap_or_else(|| named(taken.len() + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volumes::wanted::{Driver, is_name};

    fn wanted(export: &str, claim: &str) -> Wanted {
        Wanted {
            service: "storage/files".parse().unwrap(),
            export: export.into(),
            claim: claim.parse().unwrap(),
            driver: Driver::Nfs,
            mount_options: vec![],
            size: "1Gi".into(),
        }
    }

    #[test]
    fn volumes_are_named_by_service_export_and_claim() {
        for (export, first) in
            [("/home", "storage-files-home"), ("/", "storage-files"), ("/A b/c_d/", "storage-files-a-b-c-d")]
        {
            let names = of_volume(&wanted(export, "labs/homes"));
            assert_eq!(names, [first.to_owned(), format!("{first}-labs"), format!("{first}-labs-homes")]);
        }
        let names = of_volume(&wanted(&format!("/{}", "x-".repeat(200)), "labs/homes"));
        assert!(names.iter().all(|name| is_name(name, LONGEST)), "{names:?}");
    }

    #[test]
    fn a_second_service_takes_the_first_free_name() {
        let taken = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        assert_eq!(of_kept("nfs", &taken(&["nfs"])), "nfs-kept");
        assert_eq!(of_kept("nfs", &taken(&["nfs", "nfs-kept", "nfs-kept3"])), "nfs-kept2");
        assert_eq!(of_kept("nfs", &taken(&["nfs-kept", "nfs-kept2"])), "nfs-kept3");
        assert_eq!(of_kept(&"n".repeat(63), &BTreeSet::new()).len(), 63);
    }
}
