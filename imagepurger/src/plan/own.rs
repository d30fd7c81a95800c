//! Images that are recognized by name: Labhands' own, and the sandbox image.

use lab_images::reference::Reference;

/// The last path component of the repositories of Labhands' own images, alone or after `labhands-`.
const OWN_NAMES: [&str; 5] = ["prepuller", "imagepurger", "fs-keepalive", "log-shipper", "nfs-health"];

/// Other projects also use this name, so ours must be in `labhands/` or begin with `labhands-`.
const FILE_SERVER: &str = "fileserver";

/// The last path component of a name's repository, and the components before it.
fn repository_parts(name: &str) -> Option<(String, Vec<String>)> {
    let reference: Reference = name.parse().ok()?;
    let mut parts: Vec<String> = reference.repository.path().split('/').map(str::to_owned).collect();
    Some((parts.pop()?, parts))
}

/// Whether this is one of `prepuller`, `labhands-prepuller` and `labhands/prepuller`, in any registry. Other images in
/// a folder of that name do not match.
pub(super) fn is_own(name: &str) -> bool {
    repository_parts(name).is_some_and(|(last, before)| match last.strip_prefix("labhands-") {
        Some(rest) => OWN_NAMES.contains(&rest) || rest == FILE_SERVER,
        None => {
            OWN_NAMES.contains(&last.as_str())
                || (last == FILE_SERVER && before.last().is_some_and(|part| part == "labhands"))
        }
    })
}

/// Not every runtime reports its sandbox image. All of them name it `pause`.
pub(super) fn is_sandbox(name: &str) -> bool {
    repository_parts(name)
        .is_some_and(|(last, _)| last == "pause" || last.starts_with("pause-") || last.ends_with("-pause"))
}
