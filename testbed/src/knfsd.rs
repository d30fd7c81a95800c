//! The Linux kernel's own NFS server, in a virtual machine in a separate network, and commands inside of it.
//!
//! One boot takes about ten seconds and serves many cases: exports of each kind exist from the start (see [`EXPORTS`]),
//! and [`Knfsd::run`] changes what a case needs. The same machine has the kernel's NFS client.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::folder::Folder;
use crate::packages::{self, Part};
use crate::qemu::{Extra, Network, Qemu};
use crate::site::{Firewall, Site};
use crate::{Error, Result, command, rpc, wait};

/// The port for commands inside.
const COMMAND_PORT: u16 = 8079;

/// The server's port, as NFS has it.
const PORT: u16 = 2049;

/// The programs of nfs-utils and others on the machine, as Debian installs them.
const PROGRAMS: [&str; 5] =
    ["/usr/sbin/exportfs", "/usr/sbin/rpc.nfsd", "/usr/sbin/rpc.mountd", "/sbin/rpcbind", "/usr/sbin/xfs_quota"];

/// What is exported: each to everyone, by its options.
///
/// - `/srv/home` as nfs-health's documents require it, with the folders `sub`, `closed/hub` below a folder of mode 0700
///   and the link `link` to `sub`
/// - `/srv/default` with only `rw`, and so only for ports below 1024
/// - `/srv/squashed` (`all_squash`), `/srv/rootsquash` (the default, from any port), with writable folders
/// - `/srv/kerberos` for Kerberos only; `/srv/referral` refers to another server; `/srv/readonly`
/// - `/srv/full` has 1 MiB, `/srv/quota` is XFS with 2 MB for user 5001, to whom all users are mapped,
///   `/srv/quota/project` has 2 MB in total
pub const EXPORTS: &str = "\
/srv/home *(rw,no_root_squash,insecure,no_subtree_check,fsid=11)
/srv/default *(rw,no_subtree_check,fsid=12)
/srv/squashed *(rw,insecure,all_squash,no_subtree_check,fsid=13)
/srv/rootsquash *(rw,insecure,no_subtree_check,fsid=14)
/srv/kerberos *(rw,insecure,no_subtree_check,fsid=15,sec=krb5)
/srv/referral *(ro,insecure,no_subtree_check,fsid=16,refer=/home@198.18.0.2)
/srv/readonly *(ro,insecure,no_subtree_check,fsid=17)
/srv/full *(rw,insecure,no_subtree_check,fsid=18)
/srv/quota *(rw,insecure,all_squash,anonuid=5001,anongid=5001,no_subtree_check,fsid=19)
/srv/quota/project *(rw,insecure,all_squash,no_subtree_check,fsid=20)
";

/// Run before the server starts: what its programs need, and the exports.
const PREPARE: &str = r#"
export PATH=/bin:/sbin
mkdir -p /srv /var/lib/nfs/v4recovery /var/lib/nfs/rpc_pipefs /run/rpcbind /etc /proc/fs/nfsd
touch /var/lib/nfs/etab /var/lib/nfs/rmtab /var/lib/nfs/xtab; ln -s /proc/self/mounts /etc/mtab
printf 'tcp tpi_cots_ord v inet tcp - -\nudp tpi_clts v inet udp - -\ntcp6 tpi_cots_ord v inet6 tcp - -\nudp6 tpi_clts v inet6 udp - -\nlocal tpi_cots_ord - loopback - - -\n' > /etc/netconfig
printf 'nfs 2049/tcp\nnfs 2049/udp\nsunrpc 111/tcp portmapper\nsunrpc 111/udp portmapper\nmountd 20048/tcp\n' > /etc/services
printf 'rpcbind 100000 portmap sunrpc\nnfs 100003 nfsprog\nmountd 100005 mount showmount\n' > /etc/rpc
printf '127.0.0.1 localhost\n' > /etc/hosts; printf 'tcp 6 TCP\nudp 17 UDP\n' > /etc/protocols; printf 'hosts: files\npasswd: files\n' > /etc/nsswitch.conf
printf 'root:x:0:0::/:/bin/sh\n_rpc:x:101:65534::/run/rpcbind:/bin/sh\nwriter:x:5001:5001::/:/bin/sh\nnonroot:x:65532:65532::/:/bin/sh\n' > /etc/passwd
printf 'root:x:0:\nnogroup:x:65534:\nwriter:x:5001:\nnonroot:x:65532:\n' > /etc/group
chmod 1777 /tmp; mount -t tmpfs tmpfs /srv; cd /srv
mkdir -p home/sub home/closed/hub default squashed rootsquash kerberos referral readonly full quota
chmod 0700 home/closed; ln -s sub home/link; chmod 1777 squashed rootsquash
mount -t tmpfs -o size=1m tmpfs full
mount -t xfs -o uquota,pquota /dev/vda quota; chmod 1777 quota; mkdir -m 1777 quota/project; cd /
xfs_quota -x -c 'limit -u bhard=2m 5001' /srv/quota
xfs_quota -x -c 'project -s -p /srv/quota/project 7' -c 'limit -p bhard=2m 7' /srv/quota > /dev/null
mount -t nfsd nfsd /proc/fs/nfsd || mount -t nfsd nfsd /proc/fs/nfsd
mount -t rpc_pipefs rpc_pipefs /var/lib/nfs/rpc_pipefs
rpcbind -w
exportfs -ra
rpc.nfsd -G 10 -L 10 4
rpc.mountd -p 20048
echo Y > /proc/fs/nfsd/v4_end_grace
printf '#!/bin/sh\nexport PATH=/bin:/sbin\nread -r line\neval "$line" 2>&1\necho "status $?"\n' > /bin/act; chmod 755 /bin/act
nc -ll -p 8079 -e /bin/act
"#;

/// The running server.
#[derive(Debug)]
pub struct Knfsd {
    machine: Qemu,
    address: Ipv4Addr,
    site: Site,
    _folder: Folder,
}

impl Knfsd {
    /// Boots the machine, with `programs` in `/bin`, and waits until the server works and its grace period is over.
    pub fn start(programs: &[&Path]) -> Result<Knfsd> {
        packages::require(Part::Qemu)?;
        packages::require(Part::Knfsd)?;
        let folder = Folder::new("knfsd")?;
        let disk = folder.join("disk");
        let make = "truncate -s 320m \"$0\" && mkfs.xfs -q -K \"$0\"";
        command::run(Command::new("sh").args(["-ec", make]).arg(&disk))?;
        let site = Site::start(&folder)?;
        let interface = "machine";
        let (address, gateway) = site.add_machine(interface)?;
        let enter = site.enter().to_vec();
        let network = Some(Network { enter, interface: interface.to_owned(), address, gateway });
        let modules = ["nfsd", "virtio_blk", "xfs", "rpcsec_gss_krb5"];
        let extra = Extra { modules: &modules, disk: Some(&disk), network };
        let programs: Vec<&Path> = PROGRAMS.iter().map(Path::new).chain(programs.iter().copied()).collect();
        let script = format!("mkdir -p /etc; cat > /etc/exports <<'END'\n{EXPORTS}END\n{PREPARE}");
        let machine = Qemu::boot(&programs, &script, &extra)?;
        let mut this = Self { machine, address, site, _folder: folder };
        let (commands, limit) = (SocketAddr::from((address, COMMAND_PORT)), Duration::from_secs(1));
        let listens = || TcpStream::connect_timeout(&commands, limit).ok();
        this.machine
            .process()
            .ready("take commands", listens)
            .map_err(|error| Error::Missing(format!("{error}\n{}", this.machine.console())))?;
        this.wait_until_it_works()?;
        Ok(this)
    }

    /// Waits until a client can mount in versions 3 and 4.
    fn wait_until_it_works(&self) -> Result<()> {
        let host = IpAddr::from(self.address);
        let serves = || rpc::version_4_answers(host, PORT).and_then(|()| rpc::version_3_answers(host, PORT));
        wait::until(wait::LIMIT, serves)
            .ok_or_else(|| Error::Missing(format!("knfsd does not serve versions 3 and 4\n{}", self.machine.console())))
    }

    /// The server's address.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Runs a line of busybox's shell inside, as root, and returns its output. Background processes must write
    /// elsewhere.
    pub fn run(&self, line: &str) -> Result<String> {
        let failed = |output: String| Error::Command {
            command: line.to_owned(),
            status: "in the virtual machine".to_owned(),
            output: output.trim_end().to_owned(),
        };
        let place = SocketAddr::from((self.address, COMMAND_PORT));
        let talk = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect_timeout(&place, wait::LIMIT)?;
            stream.set_read_timeout(Some(wait::LIMIT))?;
            stream.write_all(format!("{}\n", line.replace('\n', "; ")).as_bytes())?;
            let mut output = Vec::new();
            stream.read_to_end(&mut output)?;
            Ok(String::from_utf8_lossy(&output).into_owned())
        };
        let output = talk().map_err(|error| failed(format!("{error}\n{}", self.machine.console())))?;
        match output.strip_suffix("status 0\n") {
            Some(written) => Ok(written.to_owned()),
            None => Err(failed(output)),
        }
    }

    /// Starts a command in the background inside; its output goes to `log` there.
    pub fn background(&self, line: &str, log: &str) -> Result<()> {
        self.run(&format!("({line}) > {log} 2>&1 < /dev/null &")).map(drop)
    }

    /// Stops the server: its port is closed.
    pub fn stop(&self) -> Result<()> {
        self.run("rpc.nfsd 0").map(drop)
    }

    /// Starts the server again, and waits until it answers. It is then in its grace period of two minutes.
    pub fn start_again(&self) -> Result<()> {
        self.run("rpc.nfsd -G 120 -L 10 4")?;
        self.wait_until_it_works()
    }

    /// Ends the grace period.
    pub fn end_grace(&self) -> Result<()> {
        self.run("echo Y > /proc/fs/nfsd/v4_end_grace").map(drop)
    }

    /// Pauses the process that knows the exports, and makes the kernel ask it again: the server accepts calls, but does
    /// not answer any that uses an export.
    pub fn pause_exports(&self) -> Result<()> {
        self.run("kill -STOP $(pidof rpc.mountd)")?;
        self.forget_exports()
    }

    /// Resumes that process.
    pub fn resume_exports(&self) -> Result<()> {
        self.run("kill -CONT $(pidof rpc.mountd)").map(drop)
    }

    /// Replaces one export's options, or removes the export if there are none.
    pub fn export(&self, path: &str, options: Option<&str>) -> Result<()> {
        let line = match options {
            Some(options) => format!("exportfs -i -o {options} '*:{path}'"),
            None => format!("exportfs -u '*:{path}'"),
        };
        self.run(&line)?;
        self.forget_exports()
    }

    /// Makes the kernel ask again about access to exports.
    fn forget_exports(&self) -> Result<()> {
        let tables = "nfsd.export nfsd.fh auth.unix.ip";
        self.run(&format!("for table in {tables}; do date +%s > /proc/net/rpc/$table/flush; done; sleep 1")).map(drop)
    }

    /// Changes the firewall for a TCP port of the machine.
    pub fn firewall(&self, port: u16, firewall: Firewall) -> Result<()> {
        self.site.firewall("FORWARD", port, firewall)
    }

    /// The machine, to freeze it or to read its console.
    pub fn machine(&mut self) -> &mut Qemu {
        &mut self.machine
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_exports_are_mounted_by_the_kernels_client_as_their_options_say() {
        let knfsd = Knfsd::start(&[]).unwrap();
        let here = "addr=127.0.0.1,clientaddr=127.0.0.1,soft,proto=tcp";
        let mount = |export: &str| {
            let point = format!("/mnt/{}", export.rsplit('/').next().unwrap_or_default());
            knfsd.run(&format!("mkdir {point}; mount -t nfs4 -o vers=4.2,{here} 127.0.0.1:{export} {point}"))
        };
        for export in ["/srv/home", "/srv/default", "/srv/squashed", "/srv/quota", "/srv/home/link"] {
            mount(export).unwrap();
        }
        assert!(mount("/srv/kerberos").is_err());
        let quota = "dd if=/dev/zero of=/mnt/quota/much bs=64k count=100 conv=fsync";
        let printed = knfsd.run(quota).unwrap_err().to_string();
        assert!(printed.contains("quota"), "{printed}");
        assert!(knfsd.run("cat /proc/fs/nfsd/versions").unwrap().contains("+3 +4 +4.1 +4.2"));
        knfsd.export("/srv/readonly", None).unwrap();
        assert!(mount("/srv/readonly").is_err());
    }
}
