//! How many transfers may run: in all and for one source.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// Transfers of one service node at a time.
pub const MAX_TRANSFERS: usize = 2048;
/// Transfers of one source address at a time.
pub const MAX_PER_SOURCE: usize = 4;

/// Why a transfer may not start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// The same client port already has a transfer: its request was sent twice.
    Running,
    /// The source has its share.
    Source,
    /// All seats are taken.
    All,
}

/// The running transfers, by client address and port.
#[derive(Debug, Default)]
pub struct Seats {
    taken: BTreeMap<IpAddr, Vec<u16>>,
    total: usize,
}

impl Seats {
    /// Takes a seat for the client, or says which limit is reached.
    pub fn take(&mut self, client: SocketAddr) -> Result<(), Full> {
        let ports = self.taken.get(&client.ip()).map_or(&[][..], Vec::as_slice);
        if ports.contains(&client.port()) {
            return Err(Full::Running);
        }
        if ports.len() >= MAX_PER_SOURCE {
            return Err(Full::Source);
        }
        if self.total >= MAX_TRANSFERS {
            return Err(Full::All);
        }
        self.taken.entry(client.ip()).or_default().push(client.port());
        self.total += 1;
        Ok(())
    }

    /// Gives the seat back; a seat that is not taken changes nothing.
    pub fn free(&mut self, client: SocketAddr) {
        let Some(ports) = self.taken.get_mut(&client.ip()) else { return };
        let before = ports.len();
        ports.retain(|p| *p != client.port());
        self.total -= before - ports.len();
        if ports.is_empty() {
            self.taken.remove(&client.ip());
        }
    }

    /// Seats taken now.
    pub fn len(&self) -> usize {
        self.total
    }

    /// Whether nobody is served.
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(host: u16, port: u16) -> SocketAddr {
        let [a, b] = host.to_be_bytes();
        SocketAddr::from(([10, 0, a, b], port))
    }

    #[test]
    fn fifth_transfer_of_a_source_and_a_doubled_request_are_refused() {
        let mut seats = Seats::default();
        for port in 1..=4 {
            assert_eq!(seats.take(client(1, port)), Ok(()));
        }
        assert_eq!(seats.take(client(1, 5)), Err(Full::Source));
        assert_eq!(seats.take(client(1, 4)), Err(Full::Running));
        seats.free(client(1, 4));
        seats.free(client(1, 4));
        assert_eq!(seats.take(client(1, 5)), Ok(()));
    }

    #[test]
    fn all_seats_are_2048() {
        let mut seats = Seats::default();
        for host in 0..2048 {
            assert_eq!(seats.take(client(host, 9)), Ok(()));
        }
        assert_eq!(seats.take(client(5000, 9)), Err(Full::All));
        for host in 0..2048 {
            seats.free(client(host, 9));
        }
        assert!(seats.is_empty());
    }
}
