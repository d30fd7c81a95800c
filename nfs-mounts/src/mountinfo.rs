//! `/proc/PID/mountinfo` (proc_pid_mountinfo(5)).

use std::collections::HashSet;
use std::ffi::OsString;
use std::io::{self, Read};
use std::net::Ipv6Addr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The most bytes that are read of mountinfo or mountstats (some ten thousand mounts).
const MOST_BYTES: u64 = 16 * 1024 * 1024;

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The mount's id, unique at one time.
    pub id: u32,
    /// The id of the parent mount.
    pub parent: u32,
    /// The device number of its files, as the kernel shows it.
    pub device: Device,
    /// The folder of the file system that is mounted.
    pub root: PathBuf,
    /// The mount point, relative to the process's root.
    pub mount_point: PathBuf,
    /// Whether the mount, or the file system as a whole, is read-only.
    pub read_only: bool,
    /// The type of file system, such as `nfs4`.
    pub file_system: String,
    /// The source, such as `server:/export`.
    pub source: String,
    /// The options of the file system, comma-separated.
    pub options: String,
}

/// A device number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Device {
    /// Its major part; 0 for file systems without a block device.
    pub major: u32,
    /// Its minor part.
    pub minor: u32,
}

/// All mounts of a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mounts {
    /// In the kernel's order.
    pub mounts: Vec<Mount>,
    /// Numbers of the lines, from 1, that could not be parsed.
    pub not_understood: Vec<usize>,
}

impl Mounts {
    /// Reads and parses a mountinfo file. It never blocks on a hung mount.
    ///
    /// # Errors
    ///
    /// The system's error.
    pub fn read(path: &Path) -> io::Result<Self> {
        Ok(Self::parse(&read(path)?))
    }

    /// Parses the file's content. A line that cannot be parsed does not affect the others.
    pub fn parse(text: &[u8]) -> Self {
        let mut mounts = Self::default();
        for (index, line) in text.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
            match mount(line) {
                Some(mount) => mounts.mounts.push(mount),
                None => mounts.not_understood.push(index + 1),
            }
        }
        mounts
    }

    /// The NFS mounts.
    pub fn nfs(&self) -> impl Iterator<Item = &Mount> {
        self.mounts.iter().filter(|mount| mount.is_nfs())
    }

    /// The mount that contains `path` (absolute, without links and `..`). It is searched from the root as the kernel
    /// does, so that mounts hidden by a later one are not found.
    pub fn holding(&self, path: &Path) -> Option<&Mount> {
        let ids: HashSet<u32> = self.mounts.iter().map(|mount| mount.id).collect();
        let is_top = |mount: &Mount| mount.parent == mount.id || !ids.contains(&mount.parent);
        let depth = |mount: &Mount| mount.mount_point.components().count();
        // The one nearest to the root comes first. If several are at one place, the last one covers the others.
        let pick = |wanted: &dyn Fn(&Mount) -> bool| -> Option<&Mount> {
            let met = || self.mounts.iter().filter(|mount| wanted(mount) && path.starts_with(&mount.mount_point));
            let nearest = met().map(depth).min()?;
            met().rfind(|mount| depth(mount) == nearest)
        };
        let mut holder = pick(&is_top)?;
        // Each step goes to a child mount. The limit ends the loop for invalid input with a loop of parents.
        for _ in 0..self.mounts.len() {
            let (id, point) = (holder.id, &holder.mount_point);
            match pick(&|mount| mount.parent == id && mount.id != id && mount.mount_point.starts_with(point)) {
                Some(child) => holder = child,
                None => break,
            }
        }
        Some(holder)
    }
}

impl Mount {
    /// Whether it is an NFS mount of any version.
    pub fn is_nfs(&self) -> bool {
        matches!(self.file_system.as_str(), "nfs" | "nfs4")
    }

    /// The value of an option such as `addr` or `vers`.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.split(',').find_map(|option| option.split_once('=').filter(|(n, _)| *n == name)).map(|(_, v)| v)
    }

    /// The server and the export of an NFS source: `server:/export`, or whatever else follows the server's colon (RFC
    /// 1813: mountd accepts any path), without brackets around an IPv6 address.
    pub fn nfs_source(&self) -> Option<(&str, &str)> {
        match self.source.strip_prefix('[').and_then(|source| source.split_once(']')) {
            Some((server, rest)) => Some((server, rest.strip_prefix(':')?)),
            // An IPv6 address without brackets, as old kernels write it, ends where the path begins, or where the last colon is.
            None => match self.source.split_once(":/") {
                Some((server, _)) => Some((server, &self.source[server.len() + 1..])),
                None => {
                    let last = self.source.rsplit_once(':');
                    last.filter(|(server, _)| server.parse::<Ipv6Addr>().is_ok())
                        .or_else(|| self.source.split_once(':'))
                }
            },
        }
    }
}

/// Reads a mountinfo or mountstats file as it is.
///
/// # Errors
///
/// The system's error.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    std::fs::File::open(path)?.take(MOST_BYTES).read_to_end(&mut text)?;
    Ok(text)
}

fn mount(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let mut next = || fields.next().filter(|field| !field.is_empty());
    let number = |field: &[u8]| std::str::from_utf8(field).ok()?.parse::<u32>().ok();
    let (id, parent) = (number(next()?)?, number(next()?)?);
    let (major, minor) = std::str::from_utf8(next()?).ok()?.split_once(':')?;
    let device = Device { major: major.parse().ok()?, minor: minor.parse().ok()? };
    let (root, mount_point, mount_options) = (path(next()?), path(next()?), next()?);
    // Optional fields end with a lone hyphen.
    while next()? != b"-" {}
    let file_system = text(next()?);
    // The source may be empty.
    let source = text(fields.next()?);
    let options = text(fields.next()?);
    let read_only = mount_options.split(|b| *b == b',').any(|o| o == b"ro") || options.split(',').any(|o| o == "ro");
    Some(Mount { id, parent, device, root, mount_point, read_only, file_system, source, options })
}

pub(crate) fn path(field: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(unescape(field)))
}

pub(crate) fn text(field: &[u8]) -> String {
    String::from_utf8_lossy(&unescape(field)).into_owned()
}

/// Decodes the kernel's octal escapes of spaces, newlines, `\` and `#`.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        match after {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..] if byte == b'\\' => {
                out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = tail;
            }
            _ => {
                out.push(byte);
                rest = after;
            }
        }
    }
    out
}

/// Whether [`Mounts::holding`] can look up this path, judged by its text.
pub fn is_plain_absolute(path: &Path) -> bool {
    path.is_absolute() && !path.as_os_str().as_bytes().split(|b| *b == b'/').any(|part| part == b".." || part == b".")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NODE: &str = "\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:5 / /proc rw - proc proc rw
41 22 0:44 / /home rw,relatime shared:7 master:3 - nfs4 10.0.2.2:/home rw,vers=4.1,addr=10.0.2.2,port=2049
42 22 0:45 / /data\\040sets ro,relatime - nfs fileserver:/data rw,vers=3,addr=10.0.0.9
43 41 0:46 / /home/fast rw - tmpfs tmpfs rw
44 22 0:47 / /six rw - nfs4 [fd00::1]:/ rw,addr=fd00::1
";

    fn holder<'m>(mounts: &'m Mounts, path: &str) -> &'m str {
        mounts.holding(Path::new(path)).unwrap().mount_point.to_str().unwrap()
    }

    #[test]
    fn nfs_mounts_are_found_with_their_server() {
        let mounts = Mounts::parse(NODE.as_bytes());
        assert_eq!(mounts.not_understood, Vec::<usize>::new());
        let sources: Vec<_> = mounts.nfs().map(|mount| mount.nfs_source().unwrap()).collect();
        assert_eq!(sources, [("10.0.2.2", "/home"), ("fileserver", "/data"), ("fd00::1", "/")]);
        let data = mounts.nfs().nth(1).unwrap();
        assert_eq!(data.mount_point, Path::new("/data sets"));
        assert!(data.read_only && !mounts.mounts[2].read_only);
        assert_eq!((data.option("vers"), data.option("addr"), data.option("x")), (Some("3"), Some("10.0.0.9"), None));
        assert_eq!(data.device, Device { major: 0, minor: 45 });
    }

    #[test]
    fn sources_are_server_and_whatever_the_server_calls_its_export() {
        let table = [
            ("10.0.0.9:homes", Some(("10.0.0.9", "homes"))),
            ("nas:a/b:c", Some(("nas", "a/b:c"))),
            ("[fe80::1%eth0]:/home", Some(("fe80::1%eth0", "/home"))),
            ("[fd00::1]:homes", Some(("fd00::1", "homes"))),
            ("fd00::1:/home", Some(("fd00::1", "/home"))),
            ("fd00::1:homes", Some(("fd00::1", "homes"))),
            ("[fd00::1]", None),
            ("none", None),
        ];
        for (source, expected) in table {
            let mounts = Mounts::parse(format!("1 0 0:9 / /m rw - nfs {source} rw\n").as_bytes());
            assert_eq!(mounts.mounts[0].nfs_source(), expected, "{source}");
        }
    }

    #[test]
    fn a_path_lies_on_its_nearest_mount() {
        let mounts = Mounts::parse(NODE.as_bytes());
        for (path, point) in [
            ("/home", "/home"),
            ("/home/ann/x", "/home"),
            ("/home/fast/x", "/home/fast"),
            ("/homestead", "/"),
            ("/data sets", "/data sets"),
            ("/", "/"),
        ] {
            assert_eq!(holder(&mounts, path), point, "{path}");
        }
    }

    #[test]
    fn a_mount_that_a_later_one_hides_is_not_found() {
        let hidden =
            "1 0 8:1 / / rw - ext4 a rw\n2 1 0:9 / /home/x rw - nfs s:/x rw\n3 1 0:10 / /home rw - tmpfs t rw\n";
        assert_eq!(holder(&Mounts::parse(hidden.as_bytes()), "/home/x"), "/home");
        let stacked =
            "1 0 8:1 / / rw - ext4 a rw\n2 1 0:9 / /home rw - nfs s:/x rw\n3 2 0:10 / /home rw - tmpfs t rw\n";
        let mounts = Mounts::parse(stacked.as_bytes());
        assert_eq!(mounts.holding(Path::new("/home/a")).unwrap().file_system, "tmpfs");
    }

    #[test]
    fn without_a_mount_at_the_root_the_nearest_is_taken() {
        let mounts = Mounts::parse(b"9 5 0:9 / /home rw - nfs s:/x rw\n");
        assert_eq!(holder(&mounts, "/home/a"), "/home");
        assert_eq!(mounts.holding(Path::new("/srv")), None);
    }

    #[test]
    fn a_broken_line_is_counted_and_hides_no_other() {
        let mounts = Mounts::parse(b"nonsense\n1 0 8:1 / / rw - ext4 a rw\n2 1 x:1 / /home rw - nfs s:/x rw\n");
        assert_eq!((mounts.mounts.len(), mounts.not_understood), (1, vec![1, 3]));
    }

    #[test]
    fn a_loop_of_parents_ends() {
        let circle = b"1 2 0:1 / / rw - a a rw\n2 1 0:1 / / rw - a a rw\n3 3 0:1 / / rw - a a rw\n4 3 0:1 / / rw - a a rw\n3 4 0:1 / / rw - a a rw\n";
        assert!(Mounts::parse(circle).holding(Path::new("/x")).is_some());
    }

    #[test]
    fn this_process_has_mounts() {
        let mounts = Mounts::read(Path::new("/proc/self/mountinfo")).unwrap();
        assert_eq!(mounts.not_understood, Vec::<usize>::new());
        assert_eq!(holder(&mounts, "/proc/1/stat"), "/proc");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = Mounts::parse(&text).holding(Path::new("/a/b"));
        }

        #[test]
        fn whatever_the_kernel_escapes_comes_back(name in "[ a-z\\\\#\t\n]{1,20}") {
            let escaped: String = name.bytes().map(|b| match b {
                b' ' | b'\t' | b'\n' | b'\\' | b'#' => format!("\\{b:03o}"),
                b => char::from(b).to_string(),
            }).collect();
            let mounts = Mounts::parse(format!("1 0 8:1 / /{escaped} rw - nfs s:/{escaped} rw").as_bytes());
            prop_assert_eq!(&mounts.mounts[0].mount_point, &PathBuf::from(format!("/{name}")));
            prop_assert_eq!(&mounts.mounts[0].source, &format!("s:/{name}"));
        }
    }
}
