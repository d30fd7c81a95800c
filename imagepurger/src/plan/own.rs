//! Images that are known by their name: Labhands' own, and the one that pods are started with.

use lab_images::reference::Reference;

/// The last part of the repositories of Labhands' own images, alone or after `labhands-`.
const OWN_NAMES: [&str; 5] = ["prepuller", "imagepurger", "fs-keepalive", "log-shipper", "nfs-health"];

/// Others have one too: ours is in `labhands/`, or after `labhands-`.
const FILE_SERVER: &str = "fileserver";

/// The last part of a name's repository, and those before it.
fn repository_parts(name: &str) -> Option<(String, Vec<String>)> {
    let reference: Reference = name.parse().ok()?;
    let mut parts: Vec<String> = reference.repository.path().split('/').map(str::to_owned).collect();
    Some((parts.pop()?, parts))
}

/// `prepuller`, `labhands-prepuller` and `labhands/prepuller`, wherever they are mirrored to; not whatever else lies in a folder
/// of that name.
pub(super) fn is_own(name: &str) -> bool {
    repository_parts(name).is_some_and(|(last, before)| match last.strip_prefix("labhands-") {
        Some(rest) => OWN_NAMES.contains(&rest) || rest == FILE_SERVER,
        None => {
            OWN_NAMES.contains(&last.as_str())
                || (last == FILE_SERVER && before.last().is_some_and(|part| part == "labhands"))
        }
    })
}

/// Not every runtime tells which image it starts pods with; they are all called that.
pub(super) fn is_sandbox(name: &str) -> bool {
    repository_parts(name)
        .is_some_and(|(last, _)| last == "pause" || last.starts_with("pause-") || last.ends_with("-pause"))
}
