//! A virtual machine with Debian's kernel, for a real NFS client, which this machine's kernel may lack.
//!
//! It boots under software emulation (about ten seconds) from a file system in memory with busybox, the kernel's
//! modules for network and NFS, and the tested programs with their shared libraries. It can reach this machine's
//! network, and one of its ports can be reached from here.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::folder::Folder;
use crate::packages::{self, Part};
use crate::process::Process;
use crate::{Error, Result, command, ports};

/// The package that depends on the newest kernel for virtual machines.
const KERNEL: &str = "linux-image-cloud-amd64";
/// The modules that the machine needs, apart from their dependencies.
const MODULES: [&str; 4] = ["virtio_pci", "virtio_net", "nfsv3", "nfsv4"];
/// The port inside that can be reached from outside.
const INNER_PORT: u16 = 8080;

/// Optional features of a machine.
#[derive(Clone, Debug, Default)]
pub struct Extra<'a> {
    /// Modules of the kernel.
    pub modules: &'a [&'a str],
    /// The content of its disk, `/dev/vda`.
    pub disk: Option<&'a Path>,
    /// A separate network instead of this machine's.
    pub network: Option<Network>,
}

/// A network with an interface for the machine.
#[derive(Clone, Debug)]
pub struct Network {
    /// nsenter(1) arguments to run a command there.
    pub enter: Vec<String>,
    /// The interface.
    pub interface: String,
    /// The machine's address, in a network of 30 bits.
    pub address: Ipv4Addr,
    /// The machine's default gateway.
    pub gateway: Ipv4Addr,
}

/// A running virtual machine.
#[derive(Debug)]
pub struct Qemu {
    process: Process,
    port: u16,
    folder: Folder,
}

impl Qemu {
    /// Boots a machine that runs `script` (of busybox's shell, as root) with `programs` in `/bin`, and then powers off.
    /// Its console is the log; see [`Qemu::console`].
    pub fn start(programs: &[&Path], script: &str) -> Result<Qemu> {
        Self::boot(programs, script, &Extra::default())
    }

    /// As [`Qemu::start`], with optional features.
    pub fn boot(programs: &[&Path], script: &str, extra: &Extra<'_>) -> Result<Qemu> {
        packages::require(Part::Qemu)?;
        let kernel = kernel()?;
        let folder = Folder::new("qemu")?;
        let (address, gateway) =
            extra.network.as_ref().map_or((Ipv4Addr::new(10, 0, 2, 15), Ipv4Addr::new(10, 0, 2, 2)), |network| {
                (network.address, network.gateway)
            });
        let bits = if extra.network.is_some() { 30 } else { 24 };
        let network = format!(
            "ip link set eth0 up; ip address add {address}/{bits} dev eth0; ip route add default via {gateway}\n"
        );
        let modules: Vec<&str> = MODULES.iter().chain(extra.modules).copied().collect();
        let image = initial_file_system(&folder, &kernel, &modules, programs, &(network + script))?;
        let [port] = ports::free()?;
        let mut qemu = match &extra.network {
            Some(Network { enter, .. }) => {
                let mut nsenter = Command::new("nsenter");
                nsenter.args(enter).arg("qemu-system-x86_64");
                nsenter
            }
            None => Command::new("qemu-system-x86_64"),
        };
        qemu.args(["-accel", "tcg", "-cpu", "max", "-m", "512", "-display", "none", "-monitor", "none", "-no-reboot"]);
        qemu.arg("-serial").arg(format!("file:{}", folder.join("console").display()));
        qemu.arg("-kernel").arg(kernel.join("vmlinuz")).arg("-initrd").arg(image);
        // On a busy machine the emulated timer may fail the kernel's check, which would cause a panic.
        qemu.args(["-append", "console=ttyS0 quiet panic=-1 no_timer_check"]);
        qemu.arg("-netdev").arg(match &extra.network {
            Some(Network { interface, .. }) => format!("tap,id=n0,ifname={interface},script=no,downscript=no"),
            None => format!("user,id=n0,hostfwd=tcp:127.0.0.1:{port}-:{INNER_PORT}"),
        });
        if let Some(disk) = extra.disk {
            qemu.arg("-drive").arg(format!("file={},if=virtio,format=raw", disk.display()));
        }
        qemu.args(["-device", "virtio-net-pci,netdev=n0,romfile="]);
        let process = Process::start("qemu", &qemu, &folder.join("qemu.log"))?;
        Ok(Qemu { process, port, folder })
    }

    /// The port of this machine that is forwarded to port 8080 inside, for a machine without its own network.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The machine's process, to wait for its end.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Everything that the machine has written to its console.
    pub fn console(&self) -> String {
        let bytes = fs::read(self.folder.join("console")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// The folder of the unpacked kernel: `vmlinuz` and `modules`. Downloaded once.
fn kernel() -> Result<PathBuf> {
    let depends = command::run_args("apt-cache", &["depends", KERNEL])?;
    let package = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: ")).ok_or_else(|| {
        Error::Missing(format!("no kernel for virtual machines: run `apt-get update` as root ({KERNEL})"))
    })?;
    let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into()));
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(|| home.join(".cache"), PathBuf::from).join("labhands");
    let kernel = cache.join(package);
    if kernel.join("vmlinuz").exists() {
        return Ok(kernel);
    }
    let unpacking = Folder::new("kernel")?;
    command::run(Command::new("apt-get").args(["download", "-qq", package]).current_dir(unpacking.path()))?;
    let version = package.trim_start_matches("linux-image-");
    let script = "dpkg -x ./*.deb root && depmod -b root \"$1\" && mkdir -p \"$2\" && \
                  cp -r \"root/lib/modules/$1\" \"$2/modules\" && cp \"root/boot/vmlinuz-$1\" \"$2/vmlinuz.part\" && \
                  mv \"$2/vmlinuz.part\" \"$2/vmlinuz\"";
    let mut shell = Command::new("sh");
    // Two tests may unpack at the same time: each file is the same, and the mark of completeness comes last.
    shell.args(["-ec", script, "unpack", version]).arg(&kernel).current_dir(unpacking.path());
    command::run(&mut shell)?;
    Ok(kernel)
}

fn initial_file_system(
    folder: &Folder,
    kernel: &Path,
    modules: &[&str],
    programs: &[&Path],
    script: &str,
) -> Result<PathBuf> {
    let root = folder.folder("root")?;
    for name in ["bin", "dev", "etc", "mnt", "modules", "proc", "run", "sys", "tmp"] {
        folder.folder(&format!("root/{name}"))?;
    }
    copy(Path::new("/bin/busybox"), &root.join("bin/busybox"))?;
    for program in programs {
        let name = program.file_name().ok_or_else(|| Error::Missing(format!("{} is no program", program.display())))?;
        copy(program, &root.join("bin").join(name))?;
        for library in libraries(program)? {
            let inside = root.join(library.strip_prefix("/").unwrap_or(&library));
            fs::create_dir_all(inside.parent().unwrap_or(&root)).map_err(Error::io("make a folder for libraries"))?;
            copy(&library, &inside)?;
        }
    }
    let mut init = String::from(
        "#!/bin/busybox sh\n/bin/busybox --install -s /bin\nexport PATH=/bin\n\
         mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev 2>/dev/null; ip link set lo up\n",
    );
    for (number, module) in in_order(kernel, modules)?.iter().enumerate() {
        copy(&kernel.join("modules").join(module), &root.join(format!("modules/{number}.ko")))?;
        let _ = writeln!(init, "insmod /modules/{number}.ko"); // writing to a String does not fail
    }
    init += script;
    init += "\npoweroff -f\n";
    folder.write("root/init", init)?;
    let image = folder.join("initrd");
    let pack = "chmod 755 init && find . | cpio --quiet -o -H newc > \"$0\"";
    command::run(Command::new("sh").args(["-ec", pack]).arg(&image).current_dir(&root))?;
    Ok(image)
}

/// The modules' files, each after those that it needs.
fn in_order(kernel: &Path, modules: &[&str]) -> Result<Vec<String>> {
    let path = kernel.join("modules/modules.dep");
    let text = fs::read_to_string(&path).map_err(Error::io(format!("read {}", path.display())))?;
    let mut order = Vec::new();
    for module in modules {
        let line = text.lines().find_map(|line| line.split_once(':').filter(|(file, _)| is_module(file, module)));
        let (file, needs) = line.ok_or_else(|| Error::Missing(format!("the kernel has no module {module}")))?;
        // depmod lists dependencies in reverse order.
        for file in needs.split_whitespace().rev().chain([file]) {
            if !order.iter().any(|known| known == file) {
                order.push(file.to_owned());
            }
        }
    }
    Ok(order)
}

fn is_module(file: &str, module: &str) -> bool {
    Path::new(file).file_name().is_some_and(|name| name.to_string_lossy() == format!("{module}.ko"))
}

/// The shared libraries of a program, and the loader.
fn libraries(program: &Path) -> Result<BTreeSet<PathBuf>> {
    let listed = command::run(Command::new("ldd").arg(program))?;
    Ok(listed.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).map(drop).map_err(Error::io(format!("copy {} to {}", from.display(), to.display())))
}
