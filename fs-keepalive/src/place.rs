//! Checks that a path is on a mount, and not only in a folder of the root file system over which nothing is mounted
//! yet.

use std::path::Path;

use nfs_mounts::mountinfo::Mounts;

use crate::trouble::Trouble;

/// Checks that the path lies on a mount other than the root.
///
/// # Errors
///
/// [`Trouble::MissingMount`] if it does not: nothing may be written there.
pub fn on_a_mount(mounts: &Mounts, path: &Path) -> Result<(), Trouble> {
    match mounts.holding(path) {
        Some(mount) if mount.mount_point != Path::new("/") => Ok(()),
        _ => Err(Trouble::MissingMount),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_the_root_file_system_is_not_a_mount() {
        let mounts = Mounts::parse(b"1 0 8:1 / / rw - overlay o rw\n2 1 0:9 / /home rw - nfs4 s:/home rw\n");
        assert_eq!(on_a_mount(&mounts, Path::new("/home")), Ok(()));
        assert_eq!(on_a_mount(&mounts, Path::new("/home/groups")), Ok(()));
        assert_eq!(on_a_mount(&mounts, Path::new("/scratch")), Err(Trouble::MissingMount));
        assert_eq!(on_a_mount(&Mounts::default(), Path::new("/home")), Err(Trouble::MissingMount));
    }
}
