//! Free ports on the loopback address, for parts that cannot choose one themselves.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};

use crate::{Error, Result};

/// The ports are below those that the kernel assigns by itself, so that nothing else takes one while a part starts or
/// restarts. They are divided into blocks, and each process takes one.
const FIRST: u16 = 20_000;
const BLOCK: u16 = 100;
const BLOCKS: u16 = 80;

/// Different ports that are free now. No other test takes them.
///
/// # Errors
/// If too few are free.
pub fn free<const N: usize>() -> Result<[u16; N]> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = first_of_block()?;
    let mut ports = [0; N];
    let mut candidates = (1..BLOCK).map(|_| first + NEXT.fetch_add(1, Ordering::Relaxed) % (BLOCK - 1));
    for port in &mut ports {
        *port = candidates.find(|port| bind(*port).is_some()).ok_or_else(|| Error::Missing("free ports".into()))?;
    }
    Ok(ports)
}

/// The first port of this process's block. The last one is kept bound, so that no other process takes the block.
fn first_of_block() -> Result<u16> {
    static LAST: OnceLock<Option<TcpListener>> = OnceLock::new();
    let take = || {
        let start = (std::process::id() % u32::from(BLOCKS)) as u16;
        (0..BLOCKS).find_map(|block| bind(FIRST + (start + block) % BLOCKS * BLOCK + BLOCK - 1))
    };
    let last = LAST.get_or_init(take).as_ref().ok_or_else(|| Error::Missing("a block of free ports".into()))?;
    let last = last.local_addr().map_err(Error::io("read a free port"))?.port();
    Ok(last - (BLOCK - 1))
}

fn bind(port: u16) -> Option<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn free_ports_differ_and_can_be_bound() {
        let ports: [[u16; 8]; 5] = std::array::from_fn(|_| super::free().unwrap());
        assert_eq!(ports.iter().flatten().collect::<BTreeSet<_>>().len(), 40);
        assert!(ports.iter().flatten().all(|port| super::bind(*port).is_some()));
    }
}
