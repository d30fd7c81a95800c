//! Connects to a name: each of its addresses has its own time limit, and a dead one does not delay the others (RFC
//! 8305).

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::TcpStream;

use super::error::ConnectionError;

/// How long resolving a name may take.
const LOOK_UP_LIMIT: Duration = Duration::from_secs(5);

/// How long connecting to one address may take.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(5);

/// The next address is tried in parallel with one that has not answered for this long (RFC 8305, section 5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// The addresses of a name, alternating between IPv6 and IPv4 (RFC 8305, section 4).
pub(super) async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, ConnectionError> {
    let looking = tokio::net::lookup_host((host, port));
    let found: Vec<_> = match tokio::time::timeout(LOOK_UP_LIMIT, looking).await {
        Ok(found) => found.map_err(|error| ConnectionError::Name { host: host.to_owned(), error })?.collect(),
        Err(_) => {
            return Err(ConnectionError::Timeout(format!(
                "the name {host} was not resolved within {} s",
                LOOK_UP_LIMIT.as_secs()
            )));
        }
    };
    let found = in_turn(found);
    if found.is_empty() {
        return Err(ConnectionError::Name { host: host.to_owned(), error: io::Error::other("it has no address") });
    }
    Ok(found)
}

/// Alternates between the families, starting with that of the first address, and keeps the order within each.
fn in_turn(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut all = Vec::new();
    loop {
        match (first.next(), second.next()) {
            (None, None) => return all,
            (one, other) => all.extend([one, other].into_iter().flatten()),
        }
    }
}

/// Connects to whichever address answers first.
pub(super) async fn first(addresses: &[SocketAddr]) -> Result<(TcpStream, SocketAddr), ConnectionError> {
    let mut waiting = addresses.iter().copied();
    let mut attempts = FuturesUnordered::new();
    let mut failures = Vec::new();
    loop {
        attempts.extend(waiting.next().map(attempt));
        if attempts.is_empty() {
            return Err(failed(failures));
        }
        tokio::select! {
            Some(ended) = attempts.next() => match ended {
                Ok(connected) => return Ok(connected),
                Err(failure) => failures.push(failure),
            },
            () = tokio::time::sleep(ATTEMPT_DELAY) => (),
        }
    }
}

async fn attempt(address: SocketAddr) -> Result<(TcpStream, SocketAddr), (SocketAddr, io::Error)> {
    match tokio::time::timeout(ATTEMPT_LIMIT, TcpStream::connect(address)).await {
        Ok(connected) => connected.map(|stream| (stream, address)).map_err(|error| (address, error)),
        Err(_) => {
            let message = format!("no answer within {} s", ATTEMPT_LIMIT.as_secs());
            Err((address, io::Error::new(io::ErrorKind::TimedOut, message)))
        }
    }
}

fn failed(mut failures: Vec<(SocketAddr, io::Error)>) -> ConnectionError {
    if failures.len() == 1 {
        let (_, error) = failures.remove(0);
        return ConnectionError::Io(error);
    }
    let messages: Vec<_> = failures.iter().map(|(address, error)| format!("{address}: {error}")).collect();
    ConnectionError::Io(io::Error::other(messages.join("; ")))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpSocket;

    use super::*;

    #[test]
    fn families_take_turns() {
        let parse = |text: &str| text.parse::<SocketAddr>().unwrap();
        let [a, b, c, d] = ["[::1]:1", "[::2]:1", "1.1.1.1:1", "2.2.2.2:1"].map(parse);
        assert_eq!(in_turn(vec![a, b, c, d]), [a, c, b, d]);
        assert_eq!(in_turn(vec![c, a]), [c, a]);
        assert_eq!(in_turn(vec![c, d]), [c, d]);
    }

    #[tokio::test]
    async fn a_refused_and_a_silent_address_do_not_delay_the_one_that_answers() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let works = listener.local_addr().unwrap();
        // Its backlog is full, so the kernel accepts no more connections.
        let silent = TcpSocket::new_v4().unwrap();
        silent.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let silent = silent.listen(0).unwrap();
        let silent = silent.local_addr().map(|address| (silent, address)).unwrap();
        let mut waiting = Vec::new();
        while let Ok(connected) = tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(silent.1)).await {
            waiting.push(connected.unwrap());
            assert!(waiting.len() < 100, "it takes all");
        }
        let dead: [SocketAddr; 2] = ["127.0.0.1:1".parse().unwrap(), silent.1];
        let (_, address) = first(&[dead[0], dead[1], works]).await.unwrap();
        assert_eq!(address, works);
        let message = first(&dead[..1]).await.unwrap_err().to_string();
        assert!(message.contains("refused"), "{message}");
    }
}
