//! A TCP proxy between a part and its clients: slow, hung, cut off, or refusing. Plain threads.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::{Error, Result};

/// How much is read at once.
const CHUNK: usize = 16 * 1024;

/// A running proxy; dropping it cuts every connection.
#[derive(Debug)]
pub struct TcpProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    stalled: bool,
    refusing: bool,
    over: bool,
    /// Bytes per second from the target to all clients together.
    rate: Option<u64>,
    /// The time up to which the forwarded bytes have used this rate.
    paid: Instant,
    accepted: u64,
    /// Bytes from the target to the clients.
    delivered: u64,
    /// All connections are closed once this many bytes were delivered.
    cut_at: Option<u64>,
    open: Vec<(TcpStream, TcpStream)>,
}

impl TcpProxy {
    /// A proxy on a free loopback port to this address.
    pub fn start(target: SocketAddr) -> Result<TcpProxy> {
        TcpProxy::listen((Ipv4Addr::LOCALHOST, 0).into(), target)
    }

    /// A proxy on this address (port 0: a free one) to `target`.
    pub fn listen(address: SocketAddr, target: SocketAddr) -> Result<TcpProxy> {
        let failed = || Error::io(format!("listen on {address}"));
        let listener = TcpListener::bind(address).map_err(failed())?;
        let address = listener.local_addr().map_err(failed())?;
        let state = State {
            stalled: false,
            refusing: false,
            over: false,
            rate: None,
            paid: Instant::now(),
            accepted: 0,
            delivered: 0,
            cut_at: None,
            open: Vec::new(),
        };
        let shared = Arc::new(Shared { target, state: Mutex::new(state), changed: Condvar::new() });
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming() {
                if serving.lock().over {
                    return;
                }
                // A client that disconnects at once does not fail the test.
                let _ = client.and_then(|client| serving.accept(client));
            }
        });
        Ok(TcpProxy { address, shared })
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `127.0.0.1:PORT`, as in image references.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Limits the bytes per second to all clients together; `None` means no limit.
    pub fn limit_rate(&self, bytes_per_second: Option<u64>) {
        self.change(|state| {
            state.rate = bytes_per_second;
            state.paid = Instant::now();
        });
    }

    /// Stops forwarding in both directions; connections stay open, and new ones are accepted.
    pub fn stall(&self) {
        self.change(|state| state.stalled = true);
    }

    /// Forwards again and accepts connections again, after [`TcpProxy::stall`] or [`TcpProxy::refuse`].
    pub fn resume(&self) {
        self.change(|state| (state.stalled, state.refusing) = (false, false));
    }

    /// Cuts all current connections.
    pub fn cut(&self) {
        self.change(State::cut);
    }

    /// Cuts all connections once, after this many more bytes have gone to clients.
    pub fn cut_after(&self, bytes: u64) {
        self.change(|state| state.cut_at = Some(state.delivered + bytes));
    }

    /// Cuts all connections and closes new ones at once, like a target that is down.
    pub fn refuse(&self) {
        self.change(|state| {
            state.refusing = true;
            state.cut();
        });
    }

    /// How many connections were opened so far, including refused ones.
    pub fn connections(&self) -> u64 {
        self.shared.lock().accepted
    }

    /// How many bytes went from the target to clients so far.
    pub fn delivered(&self) -> u64 {
        self.shared.lock().delivered
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.shared.lock());
        self.shared.changed.notify_all();
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        self.change(|state| {
            state.over = true;
            state.cut();
        });
        let _ = TcpStream::connect(self.address); // wakes the listening thread
    }
}

impl State {
    fn cut(&mut self) {
        for (client, target) in self.open.drain(..) {
            let _ = client.shutdown(Shutdown::Both);
            let _ = target.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accept(self: &Arc<Self>, client: TcpStream) -> io::Result<()> {
        let refusing = {
            let mut state = self.lock();
            state.accepted += 1;
            state.refusing
        };
        if refusing {
            return client.shutdown(Shutdown::Both);
        }
        let target = TcpStream::connect_timeout(&self.target, Duration::from_secs(5))?;
        client.set_nodelay(true)?;
        target.set_nodelay(true)?;
        let mut state = self.lock();
        state.open.push((client.try_clone()?, target.try_clone()?));
        if state.refusing {
            // That began after the client was accepted.
            state.cut();
        }
        drop(state);
        let up = (client.try_clone()?, target.try_clone()?);
        let (shared, other) = (Arc::clone(self), Arc::clone(self));
        thread::spawn(move || shared.copy(up.0, up.1, false));
        thread::spawn(move || other.copy(target, client, true));
        Ok(())
    }

    /// Forwards bytes from one to the other until either ends.
    fn copy(&self, mut from: TcpStream, mut to: TcpStream, to_client: bool) {
        let mut buffer = [0; CHUNK];
        loop {
            let length = from.read(&mut buffer).unwrap_or(0);
            if length == 0 {
                // The other direction may still be needed.
                let _ = to.shutdown(Shutdown::Write);
                break;
            }
            if !self.may_pass(length as u64, to_client) || to.write_all(&buffer[..length]).is_err() {
                let _ = from.shutdown(Shutdown::Both);
                break;
            }
        }
        let over = |stream: &TcpStream| stream.peer_addr().is_err();
        self.lock().open.retain(|(client, target)| !over(client) || !over(target));
    }

    /// Waits while stalled and until the rate allows it; false if the connection is to be cut.
    fn may_pass(&self, length: u64, to_client: bool) -> bool {
        let mut state = self.lock();
        loop {
            if state.over {
                return false;
            }
            if !state.stalled {
                break;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if !to_client {
            return true;
        }
        if let Some(rate) = state.rate {
            let now = Instant::now();
            let due = state.paid.max(now);
            state.paid = due + Duration::from_secs_f64(length as f64 / rate.max(1) as f64);
            drop(state);
            thread::sleep(due - now);
            state = self.lock();
        }
        state.delivered += length;
        if state.cut_at.is_some_and(|at| state.delivered >= at) {
            state.cut_at = None;
            state.cut();
            return false;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait::LIMIT;

    /// Answers every connection with this many bytes, then closes it.
    fn source(bytes: usize) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for mut client in listener.incoming().flatten() {
                let _ = client.write_all(&vec![7; bytes]); // it may be cut
            }
        });
        address
    }

    fn fetch(proxy: &TcpProxy) -> io::Result<usize> {
        fetch_within(proxy, LIMIT)
    }

    fn fetch_within(proxy: &TcpProxy, limit: Duration) -> io::Result<usize> {
        let mut client = TcpStream::connect(proxy.address())?;
        client.set_read_timeout(Some(limit))?;
        client.read_to_end(&mut Vec::new())
    }

    #[test]
    fn all_bytes_pass_and_are_counted() {
        let proxy = TcpProxy::start(source(1_000_000)).unwrap();
        assert_eq!(fetch(&proxy).unwrap(), 1_000_000);
        assert_eq!((proxy.connections(), proxy.delivered()), (1, 1_000_000));
    }

    #[test]
    fn a_rate_limits_all_connections_together() {
        let proxy = TcpProxy::start(source(200_000)).unwrap();
        proxy.limit_rate(Some(1_000_000));
        let start = Instant::now();
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| assert_eq!(fetch(&proxy).unwrap(), 200_000));
            }
        });
        // The last chunk of each connection is forwarded before its time slot ends.
        assert!(start.elapsed() > Duration::from_millis(330), "{:?}", start.elapsed());
    }

    #[test]
    fn a_stalled_proxy_passes_nothing_until_it_is_resumed() {
        let proxy = TcpProxy::start(source(10)).unwrap();
        proxy.stall();
        let error = fetch_within(&proxy, Duration::from_millis(500)).unwrap_err();
        assert!(matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut), "{error}");
        proxy.resume();
        assert_eq!(fetch(&proxy).unwrap(), 10);
    }

    #[test]
    fn a_cut_ends_a_transfer_in_the_middle_and_a_refusing_proxy_gives_nothing() {
        let proxy = TcpProxy::start(source(10_000_000)).unwrap();
        proxy.cut_after(1_000_000);
        let got = fetch(&proxy).unwrap_or(0);
        assert!(got < 10_000_000, "{got}");
        proxy.refuse();
        assert_eq!(fetch(&proxy).unwrap_or(0), 0);
        proxy.resume();
        assert_eq!(fetch(&proxy).unwrap(), 10_000_000);
    }
}
