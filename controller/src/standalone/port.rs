//! Chooses ports for processes.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// Below the range that systems take the ports of outgoing connections from (Linux: from 32768): one of those could otherwise
/// occupy a port between its choice and the start of the process.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// Returns a port of the loopback address that nobody listens on and that is not `taken`.
///
/// # Errors
/// When the system has none left.
pub(crate) fn free(taken: impl Fn(u16) -> bool) -> std::io::Result<u16> {
    let candidates = (0..64).map(|_| rand::random_range(RANGE));
    for port in candidates.filter(|port| !taken(*port)) {
        if is_free(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).is_ok() {
            return Ok(port);
        }
    }
    // A crowded machine: let the system look.
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| Ok(listener.local_addr()?.port()))
}

/// Returns whether somebody could listen on an address now.
///
/// # Errors
/// Says why not.
pub(crate) fn is_free(address: SocketAddr) -> std::io::Result<()> {
    TcpListener::bind(address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_port_is_neither_taken_nor_listened_on() {
        let first = free(|_| false).unwrap();
        let second = free(|port| port == first).unwrap();
        assert_ne!(first, second);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, first)).unwrap();
        assert!(is_free(listener.local_addr().unwrap()).is_err());
    }
}
