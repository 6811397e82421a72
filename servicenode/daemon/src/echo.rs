//! ICMP echo: which addresses answer, whatever ports they show.
//!
//! One socket for each family serves all nodes of one round. A datagram socket needs no right where the kernel allows
//! it to our group (`net.ipv4.ping_group_range`); else a raw one is tried. Without both nobody answers here.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tracing::{debug, warn};

/// Addresses asked at the same time.
const MAX_ASKED: usize = 2_048;
/// Times an address is asked before it counts as silent.
const ATTEMPTS: u32 = 3;
/// Room for answers that come all at once; the kernel gives what it may.
const ROOM: usize = 1024 * 1024;
/// Errors in a row after which a socket is not read any more.
const MAX_ERRORS: u32 = 100;
/// Type, code, checksum, id, sequence.
const HEADER: usize = 8;

type Token = [u8; 16];

/// The sockets of one round, opened when they are first needed.
#[derive(Debug, Default)]
pub struct Echo {
    four: OnceLock<Option<Family>>,
    six: OnceLock<Option<Family>>,
}

#[derive(Debug)]
struct Family {
    shared: Arc<Shared>,
    /// The reader, which ends with us.
    _reader: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    /// An ICMP socket; what is sent and received are whole messages.
    socket: UdpSocket,
    six: bool,
    /// A raw socket gets everybody's answers, and with IPv4 their IP headers.
    raw: bool,
    /// The kernel puts another one in the place of ours when the socket is not raw.
    id: u16,
    asked: Mutex<Asked>,
}

#[derive(Debug, Default)]
struct Asked {
    last: u16,
    waiting: HashMap<u16, Waiting>,
}

#[derive(Debug)]
struct Waiting {
    address: IpAddr,
    token: Token,
    answered: oneshot::Sender<()>,
}

impl Echo {
    /// Whether the address answers within this time.
    pub async fn answers(&self, address: IpAddr, limit: Duration) -> bool {
        let place = if address.is_ipv4() { &self.four } else { &self.six };
        let family = place.get_or_init(|| {
            let opened = Family::open(address.is_ipv6());
            opened.inspect_err(|error| warn!(%error, "no ICMP socket; nodes are knocked at by TCP only")).ok()
        });
        let Some(family) = family else { return false };
        tokio::time::timeout(limit, family.shared.ask(address, limit / ATTEMPTS)).await.unwrap_or(false)
    }
}

impl Family {
    fn open(six: bool) -> io::Result<Self> {
        let (domain, protocol) =
            if six { (Domain::IPV6, Protocol::ICMPV6) } else { (Domain::IPV4, Protocol::ICMPV4) };
        let (socket, raw) = match Socket::new(domain, Type::DGRAM, Some(protocol)) {
            Ok(socket) => (socket, false),
            Err(_) => (Socket::new(domain, Type::RAW, Some(protocol))?, true),
        };
        socket.set_nonblocking(true)?;
        if rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, ROOM).is_err() {
            let _ = socket.set_recv_buffer_size(ROOM);
        }
        let socket = UdpSocket::from_std(socket.into())?;
        let mut id = [0; 2];
        random(&mut id)?;
        let id = u16::from_be_bytes(id);
        let shared = Arc::new(Shared { socket, six, raw, id, asked: Mutex::default() });
        let mut reader = JoinSet::new();
        reader.spawn(read(shared.clone()));
        Ok(Self { shared, _reader: reader })
    }
}

fn random(bytes: &mut [u8]) -> io::Result<()> {
    SystemRandom::new().fill(bytes).map_err(|_| io::Error::other("no random numbers"))
}

impl Shared {
    async fn ask(&self, address: IpAddr, pause: Duration) -> bool {
        let mut token = Token::default();
        let (answered, mut answer) = oneshot::channel();
        if random(&mut token).is_err() {
            return false;
        }
        let Some(seat) = self.sit(Waiting { address, token, answered }) else { return false };
        let request = message(self.six, self.id, seat.sequence, &token);
        for _ in 0..ATTEMPTS {
            // The reader has its turn between requests, so that answers do not pile up.
            tokio::task::yield_now().await;
            if let Err(error) = self.socket.send_to(&request, SocketAddr::new(address, 0)).await
                // It may be there again for the next attempt.
                && error.raw_os_error() != Some(libc::ENOBUFS)
            {
                debug!(%address, %error, "no echo request could be sent");
                return false;
            }
            if let Ok(answer) = tokio::time::timeout(pause, &mut answer).await {
                return answer.is_ok();
            }
        }
        false
    }

    /// A sequence number of one's own; none when too many are asked.
    fn sit(&self, waiting: Waiting) -> Option<Seat<'_>> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.waiting.len() >= MAX_ASKED {
            return None;
        }
        let mut sequence = asked.last.wrapping_add(1);
        while asked.waiting.contains_key(&sequence) {
            sequence = sequence.wrapping_add(1);
        }
        asked.last = sequence;
        asked.waiting.insert(sequence, waiting);
        Some(Seat { shared: self, sequence })
    }

    /// Wakes who waits for this answer, if it is one.
    fn came(&self, from: IpAddr, bytes: &[u8]) {
        let Some((sequence, token)) = self.parse(bytes) else { return };
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let ours = |waiting: &Waiting| waiting.address == from && waiting.token == token;
        if asked.waiting.get(&sequence).is_some_and(ours)
            && let Some(waiting) = asked.waiting.remove(&sequence)
        {
            let _ = waiting.answered.send(());
        }
    }

    /// Sequence number and token of an echo reply.
    fn parse(&self, bytes: &[u8]) -> Option<(u16, Token)> {
        let bytes = match self.raw && !self.six {
            true => bytes.get(usize::from(bytes.first()? & 0x0f) * 4..)?,
            false => bytes,
        };
        let (header, token) = bytes.split_first_chunk::<HEADER>()?;
        let reply = if self.six { 129 } else { 0 };
        let [kind, code, _, _, id @ .., high, low] = header;
        let ours = !self.raw || *id == self.id.to_be_bytes();
        (*kind == reply && *code == 0 && ours).then_some(())?;
        Some((u16::from_be_bytes([*high, *low]), token.try_into().ok()?))
    }
}

/// The place of one request; it is free again when nobody waits.
struct Seat<'a> {
    shared: &'a Shared,
    sequence: u16,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner).waiting.remove(&self.sequence);
    }
}

async fn read(shared: Arc<Shared>) {
    let mut buffer = [0; 256];
    let mut errors = 0;
    while errors < MAX_ERRORS {
        match shared.socket.recv_from(&mut buffer).await {
            Ok((length, from)) => {
                errors = 0;
                shared.came(from.ip(), buffer.get(..length).unwrap_or_default());
            }
            Err(_) => errors += 1,
        }
    }
}

/// An echo request.
fn message(six: bool, id: u16, sequence: u16, token: &Token) -> Vec<u8> {
    let mut bytes = vec![if six { 128 } else { 8 }, 0, 0, 0];
    bytes.extend(id.to_be_bytes());
    bytes.extend(sequence.to_be_bytes());
    bytes.extend(token);
    if !six {
        // With IPv6 the kernel does it: it knows the addresses that belong to it.
        let words = bytes.chunks_exact(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
        let sum: u32 = words.sum();
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = !((sum & 0xffff) + (sum >> 16)) & 0xffff;
        bytes[2..4].copy_from_slice(&sum.to_be_bytes()[2..]);
    }
    bytes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(9);

    #[tokio::test]
    async fn all_who_are_asked_at_once_answer_through_one_socket_and_leave_nothing_behind() {
        let echo = Arc::new(Echo::default());
        let mut asked = JoinSet::new();
        for last in 1..=200 {
            let echo = echo.clone();
            asked.spawn(async move { echo.answers(Ipv4Addr::new(127, 0, 7, last).into(), LIMIT).await });
        }
        assert!(asked.join_all().await.into_iter().all(|answered| answered));
        assert!(!echo.answers(Ipv4Addr::BROADCAST.into(), LIMIT).await);
        let four = echo.four.get().unwrap().as_ref().unwrap();
        assert!(four.shared.asked.lock().unwrap().waiting.is_empty());
        if std::net::UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
            assert!(echo.answers(Ipv6Addr::LOCALHOST.into(), LIMIT).await);
        }
    }

    #[tokio::test]
    async fn only_the_answer_of_the_one_who_was_asked_counts() {
        let shared = Family::open(false).unwrap().shared;
        let (answered, mut answer) = oneshot::channel();
        let (address, other) = (Ipv4Addr::new(192, 0, 2, 1).into(), Ipv4Addr::new(192, 0, 2, 2).into());
        let seat = shared.sit(Waiting { address, token: [7; 16], answered }).unwrap();
        let reply = |kind: u8, sequence: u16, token: Token| {
            let mut bytes = if shared.raw { [&[0x45][..], &[0; 19]].concat() } else { Vec::new() };
            let mut message = message(false, shared.id, sequence, &token);
            message[0] = kind;
            bytes.append(&mut message);
            bytes
        };
        shared.came(other, &reply(0, seat.sequence, [7; 16]));
        shared.came(address, &reply(8, seat.sequence, [7; 16]));
        shared.came(address, &reply(0, seat.sequence + 1, [7; 16]));
        shared.came(address, &reply(0, seat.sequence, [8; 16]));
        let good = reply(0, seat.sequence, [7; 16]);
        for short in 0..good.len() {
            shared.came(address, &good[..short]);
        }
        assert!(answer.try_recv().is_err());
        shared.came(address, &good);
        assert!(answer.try_recv().is_ok());
    }
}
