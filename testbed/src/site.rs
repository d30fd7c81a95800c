//! A separate network for one server, with the usual ports and its own firewall.
//!
//! The network namespace is connected to this machine's by a veth pair, with one IPv4 and one IPv6 address, and ends
//! with the process that holds it.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::Command;

use crate::folder::Folder;
use crate::process::Process;
use crate::{Result, command};

/// What the firewall does with packets to a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firewall {
    /// Accepts them.
    Open,
    /// Drops them silently.
    Drop,
    /// Answers with a reset.
    Reject,
}

/// How many networks of four addresses 198.18.0.0/16 has.
const SUBNETS: u16 = 16_384;

/// The network.
#[derive(Debug)]
pub struct Site {
    process: Process,
    subnet: u16,
}

impl Site {
    /// Creates a network; `folder` has the log of the process that holds it.
    pub fn start(folder: &Folder) -> Result<Site> {
        let mut holder = Command::new("unshare");
        let script = "mount -t tmpfs tmpfs /run && ip link set lo up && exec sleep infinity";
        holder.args(["--net", "--mount", "sh", "-c", script]);
        let mut process = Process::start("network", &holder, &folder.join("network.log"))?;
        let own_run = format!("/proc/{}/mounts", process.id());
        process.ready("have its own /run", || {
            let mounts = std::fs::read_to_string(&own_run).ok()?;
            mounts.lines().any(|line| line.starts_with("tmpfs /run tmpfs")).then_some(())
        })?;
        let subnet = u16::try_from(process.id().unsigned_abs() % u32::from(SUBNETS)).unwrap_or(0);
        let mut site = Self { process, subnet };
        // The number of another site's process may differ by a multiple.
        while Path::new("/sys/class/net").join(site.interface()).exists() {
            site.subnet = (site.subnet + 1) % SUBNETS;
        }
        site.join_networks()?;
        Ok(site)
    }

    /// The site's IPv4 address.
    pub fn address(&self) -> Ipv4Addr {
        self.ipv4(18, 2)
    }

    /// The site's IPv6 address.
    pub fn address_v6(&self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd4c, 0x6162, self.subnet, 0, 0, 0, 0, 2)
    }

    /// The interface of this machine that leads to the site.
    pub fn interface(&self) -> String {
        format!("nfs{}", self.subnet)
    }

    /// Gives the site more IPv6 addresses, which look like more servers.
    pub fn more_addresses(&self, count: u16) -> Result<Vec<Ipv6Addr>> {
        let mut segments = self.address_v6().segments();
        (0..count)
            .map(|number| {
                segments[7] = 0x100 + number;
                let address = Ipv6Addr::from(segments);
                self.inside(&["ip", "address", "add", &format!("{address}/64"), "dev", "eth0", "nodad"])?;
                Ok(address)
            })
            .collect()
    }

    /// Creates an interface for a virtual machine, which gets an address behind the site's. Returns the machine's
    /// address, and the site's address toward it.
    pub fn add_machine(&self, interface: &str) -> Result<(Ipv4Addr, Ipv4Addr)> {
        let (machine, here) = (self.ipv4(19, 2), self.ipv4(19, 1));
        self.inside(&["ip", "tuntap", "add", "dev", interface, "mode", "tap"])?;
        self.inside(&["ip", "address", "add", &format!("{here}/30"), "dev", interface])?;
        self.inside(&["ip", "link", "set", interface, "up"])?;
        self.inside(&["ip", "route", "add", "default", "via", &self.ipv4(18, 1).to_string()])?;
        self.inside(&["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"])?;
        command::run_args("ip", &["route", "add", &format!("{machine}/32"), "via", &self.address().to_string()])?;
        Ok((machine, here))
    }

    /// Changes the firewall for a TCP port; `chain` is `INPUT` for the site itself, and `FORWARD` for a machine behind
    /// it.
    pub fn firewall(&self, chain: &str, port: u16, firewall: Firewall) -> Result<()> {
        self.inside(&["iptables", "-w", "-F", chain])?;
        let target: &[&str] = match firewall {
            Firewall::Open => return Ok(()),
            Firewall::Drop => &["DROP"],
            Firewall::Reject => &["REJECT", "--reject-with", "tcp-reset"],
        };
        let port = port.to_string();
        let rule = [&["iptables", "-w", "-A", chain, "-p", "tcp", "--dport", &port, "-j"][..], target].concat();
        self.inside(&rule).map(drop)
    }

    /// Runs a command inside.
    pub fn inside(&self, arguments: &[&str]) -> Result<String> {
        command::run(Command::new("nsenter").args(self.enter()).args(arguments))
    }

    /// nsenter(1) arguments before a command that is to run inside.
    pub fn enter(&self) -> [String; 5] {
        ["-t".into(), self.process.id().to_string(), "--net".into(), "--mount".into(), "--".into()]
    }

    fn ipv4(&self, second: u8, host: u16) -> Ipv4Addr {
        let [high, low] = (self.subnet * 4 + host).to_be_bytes();
        // 198.18.0.0/15 is reserved for tests (RFC 2544).
        Ipv4Addr::new(198, second, high, low)
    }

    fn join_networks(&self) -> Result<()> {
        let (name, id) = (self.interface(), self.process.id().to_string());
        let [here, there] = [1, 2].map(|host| format!("{}/30", self.ipv4(18, host)));
        let there_v6 = format!("{}/64", self.address_v6());
        let mut here_v6 = self.address_v6().segments();
        here_v6[7] = 1;
        let here_v6 = format!("{}/64", Ipv6Addr::from(here_v6));
        let ip = |arguments: &[&str]| command::run_args("ip", arguments);
        ip(&["link", "add", &name, "type", "veth", "peer", "name", "eth0", "netns", &id])?;
        ip(&["address", "add", &here, "dev", &name])?;
        ip(&["address", "add", &here_v6, "dev", &name, "nodad"])?;
        ip(&["link", "set", &name, "up"])?;
        self.inside(&["ip", "address", "add", &there, "dev", "eth0"])?;
        self.inside(&["ip", "address", "add", &there_v6, "dev", "eth0", "nodad"])?;
        self.inside(&["ip", "link", "set", "eth0", "up"]).map(drop)
    }
}
