//! Free ports on the loopback address, for parts that cannot choose one themselves.

use std::net::{Ipv4Addr, TcpListener};

use crate::{Error, Result};

/// Different ports that were free a moment ago. Another process may still take one first: a part that finds its port
/// taken is started again with others.
pub fn free<const N: usize>() -> Result<[u16; N]> {
    // All stay bound until all are known, so that they differ.
    let mut listeners = Vec::with_capacity(N);
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(Error::io("bind a free port"))?;
        *port = listener.local_addr().map_err(Error::io("read a free port"))?.port();
        listeners.push(listener);
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn free_ports_differ_and_can_be_bound() {
        // Other tests of this process take ports, too, but rarely one of these, and not each time.
        let can_be_bound = (0..20).any(|_| {
            let ports: [u16; 8] = super::free().unwrap();
            assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), 8);
            ports.iter().all(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok())
        });
        assert!(can_be_bound);
    }
}
