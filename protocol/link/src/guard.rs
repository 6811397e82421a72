//! The socket as QUIC sees it: junk is dropped and counted before QUIC looks at it, so that the numbers are
//! exact and cost a connection's packets nothing but a look at their first bytes.
//!
//! Counted here is everything that cannot belong to a connection, a handshake or a caller. A caller's first
//! packet that opens is a caller, and counted as a refused one when its handshake fails. Not counted is what
//! only somebody on the path can make, because it needs the ids of a living connection or its other end's
//! address and port: QUIC drops that by its seals.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, ConnectionId, ConnectionIdGenerator, UdpPoller};
use service::{Counter, Health};
use tracing::trace;

use crate::packet::{ID_BYTES, Junk, Reader};
use crate::seal;

/// Random bytes of a connection id; the others prove that it is ours.
const NONCE: usize = 3;

/// Makes and recognizes the connection ids of one endpoint.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ids(RandomState);

impl Ids {
    /// Whether this id was made here. One in 2^40 others is taken for ours.
    fn ours(&self, id: &[u8]) -> bool {
        id.len() == ID_BYTES && id[NONCE..] == self.proof(&id[..NONCE])
    }

    fn proof(&self, nonce: &[u8]) -> [u8; ID_BYTES - NONCE] {
        let hash = self.0.hash_one(nonce).to_le_bytes();
        std::array::from_fn(|at| hash[at])
    }
}

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        let nonce = service::random::bytes::<NONCE>();
        ConnectionId::new(&[&nonce[..], &self.proof(&nonce)].concat())
    }

    fn cid_len(&self) -> usize {
        ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<std::time::Duration> {
        None
    }
}

/// The addresses at the other ends of an endpoint's connections.
#[derive(Debug, Clone, Default)]
pub(crate) struct Peers(Arc<Mutex<HashMap<(IpAddr, u16), usize>>>);

impl Peers {
    /// Holds an address for as long as the answer lives.
    pub(crate) fn hold(&self, address: SocketAddr) -> Arc<Peer> {
        let key = key(address);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default() += 1;
        Arc::new(Peer { peers: self.clone(), key })
    }

    fn contains(&self, address: SocketAddr) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&key(address))
    }
}

/// An IPv4 address is the same one on a socket for both families.
fn key(address: SocketAddr) -> (IpAddr, u16) {
    (address.ip().to_canonical(), address.port())
}

/// The other end of a connection, known as such while a connection or a stream holds this.
#[derive(Debug)]
pub(crate) struct Peer {
    peers: Peers,
    key: (IpAddr, u16),
}

impl Drop for Peer {
    fn drop(&mut self) {
        let mut peers = self.peers.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = peers.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                peers.remove(&self.key);
            }
        }
    }
}

/// A socket that lets only possible packets through.
#[derive(Debug)]
pub(crate) struct Guard {
    inner: Arc<dyn AsyncUdpSocket>,
    ids: Ids,
    peers: Peers,
    accepts: bool,
    dropped: [Counter; Junk::ALL.len()],
}

impl Guard {
    /// `accepts` says whether callers are let in. The counters of `health` are there from now on.
    pub(crate) fn new(
        inner: Arc<dyn AsyncUdpSocket>,
        ids: Ids,
        peers: Peers,
        accepts: bool,
        health: &Health,
    ) -> Self {
        Self { inner, ids, peers, accepts, dropped: Junk::ALL.map(|junk| health.counter(junk.counter())) }
    }

    /// Takes the junk out of one buffer, which holds several datagrams of one sender where the system
    /// has joined them.
    fn sift(&self, buffer: &mut [u8], meta: &mut RecvMeta) {
        let from = meta.addr;
        let ours = |id: &[u8]| self.ids.ours(id);
        let peer = || self.peers.contains(from);
        let reader = Reader { ours: &ours, peer: &peer, accepts: self.accepts, opens: &seal::opens };
        if meta.len == 0 {
            return self.drop_one(Junk::Empty, from);
        }
        let mut kept = 0;
        for start in (0..meta.len).step_by(meta.stride.max(1)) {
            let end = meta.len.min(start + meta.stride.max(1));
            match reader.judge(&buffer[start..end]) {
                Ok(()) => {
                    // Only behind junk: the good path copies nothing.
                    if kept != start {
                        buffer.copy_within(start..end, kept);
                    }
                    kept += end - start;
                }
                Err(junk) => self.drop_one(junk, from),
            }
        }
        meta.len = kept;
    }

    fn drop_one(&self, junk: Junk, from: SocketAddr) {
        trace!(%from, ?junk, "datagram dropped");
        self.dropped[junk as usize].one();
    }
}

impl AsyncUdpSocket for Guard {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.inner.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.inner.try_send(transmit)
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let received = self.inner.poll_recv(context, buffers, metas);
        if let Poll::Ready(Ok(count)) = &received {
            for (buffer, meta) in buffers.iter_mut().zip(metas).take(*count) {
                self.sift(buffer, meta);
            }
        }
        received
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    /// At least two, so that the buffers are larger than any packet of ours and an oversized datagram
    /// cannot pass for one that is just as large as allowed.
    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments().max(2)
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A socket that nobody reads from.
    fn guard(health: &Health) -> Guard {
        let socket = crate::socket::bind("127.0.0.1:0".parse().unwrap(), 65_536, false).unwrap();
        let inner = quinn::Runtime::wrap_udp_socket(&quinn::TokioRuntime, socket).unwrap();
        Guard::new(inner, Ids::default(), Peers::default(), true, health)
    }

    #[tokio::test]
    async fn junk_between_joined_datagrams_is_taken_out_and_the_others_keep_their_bytes() {
        let health = Health::new();
        let guard = guard(&health);
        let good = |fill: u8, length: usize| {
            let mut packet = vec![fill; length];
            packet[0] = 0x40;
            packet[1..9].copy_from_slice(&guard.ids.clone().generate_cid());
            packet
        };
        let (one, two, last) = (good(1, 100), good(2, 100), good(3, 60));
        let junk = vec![0; 100];
        type Datagrams<'a> = &'a [&'a [u8]];
        let cases: [(Datagrams<'_>, Datagrams<'_>); 5] = [
            (&[&one, &two, &last], &[&one, &two, &last]),
            (&[&junk, &one, &junk, &two, &last], &[&one, &two, &last]),
            (&[&one, &junk], &[&one]),
            (&[&junk, &junk, &junk], &[]),
            (&[&junk, &junk, &last], &[&last]),
        ];
        for (number, (received, kept)) in cases.iter().enumerate() {
            let (mut buffer, kept) = (received.concat(), kept.concat());
            let mut meta = RecvMeta { len: buffer.len(), stride: 100, ..RecvMeta::default() };
            buffer.resize(1_000, 9);
            guard.sift(&mut buffer, &mut meta);
            assert_eq!((meta.stride, &buffer[..meta.len]), (100, &kept[..]), "case {number}");
        }
        let mut nothing = RecvMeta { len: 0, stride: 0, ..RecvMeta::default() };
        guard.sift(&mut [], &mut nothing);
        let counted: Vec<_> = health.all().into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [("quic_dropped_empty".to_owned(), 1), ("quic_dropped_not_quic".to_owned(), 8)]);
    }

    #[test]
    fn an_endpoint_knows_its_own_connection_ids_and_no_others() {
        let (mut one, other) = (Ids::default(), Ids::default());
        for _ in 0..1_000 {
            let id = one.generate_cid();
            assert!(one.ours(&id) && !other.ours(&id));
            assert!(!one.ours(&id[1..]) && !one.ours(&service::random::bytes::<ID_BYTES>()));
        }
        assert!(!one.ours(&[]));
    }

    #[test]
    fn an_address_is_a_peer_while_one_of_its_connections_lives() {
        let peers = Peers::default();
        let address: SocketAddr = "10.1.0.10:3002".parse().unwrap();
        let mapped: SocketAddr = "[::ffff:10.1.0.10]:3002".parse().unwrap();
        let (first, second) = (peers.hold(address), peers.hold(mapped));
        drop(first);
        assert!(peers.contains(address) && peers.contains(mapped));
        assert!(!peers.contains("10.1.0.10:3003".parse().unwrap()));
        drop(second);
        assert!(!peers.contains(address));
    }
}
