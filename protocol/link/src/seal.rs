//! Whether a caller's first packet is what it says: it is sealed with keys that anybody can compute from the
//! id in it (RFC 9001, 5.2), which tells a caller from noise that has the right shape.

use std::sync::OnceLock;

use rustls::CipherSuite;
use rustls::quic::{Suite, Version};

use crate::packet::First;
use crate::tls;

/// Longest packet number, and where behind its beginning the sample for header protection lies.
const NUMBER: usize = 4;
/// Bytes of that sample.
const SAMPLE: usize = 16;
/// Bits of the first byte that must be zero below the protection.
const RESERVED: u8 = 0x0c;

/// Whether the seal of a server's first packet from a caller is right.
pub(crate) fn opens(first: &First<'_>) -> bool {
    suite().is_some_and(|suite| open(suite, first).is_some())
}

fn open(suite: Suite, first: &First<'_>) -> Option<()> {
    let keys = suite.keys(first.id, rustls::Side::Server, Version::V1).remote;
    let mut packet = first.packet.to_vec();
    let (head, rest) = packet.split_at_mut_checked(first.number_at)?;
    let (number, rest) = rest.split_at_mut_checked(NUMBER)?;
    let byte = head.first_mut()?;
    keys.header.decrypt_in_place(rest.get(..SAMPLE)?, byte, number).ok()?;
    if *byte & RESERVED != 0 {
        return None;
    }
    let length = usize::from(*byte & 3) + 1;
    // Nothing was acknowledged yet, so that the number is written whole.
    let number = number[..length].iter().fold(0, |number, byte| (number << 8) | u64::from(*byte));
    let (head, payload) = packet.split_at_mut_checked(first.number_at + length)?;
    keys.packet.decrypt_in_place(number, head, payload).ok().map(drop)
}

/// The one suite of first packets.
fn suite() -> Option<Suite> {
    static SUITE: OnceLock<Option<Suite>> = OnceLock::new();
    *SUITE.get_or_init(|| {
        tls::provider().cipher_suites.iter().find_map(|suite| match (suite.suite(), suite.tls13()) {
            (CipherSuite::TLS13_AES_128_GCM_SHA256, Some(suite)) => suite.quic_suite(),
            _ => None,
        })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::UdpSocket;

    use super::*;
    use crate::packet::{Junk, Reader};
    use crate::{Endpoint, pki};

    /// The first datagram of a real caller.
    async fn caller() -> Vec<u8> {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let client = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        let ca = pki::Authority::create("c1", service::Clock::Real.unix()).unwrap();
        let pin = pki::pin(ca.ca_pem()).unwrap();
        let heard = tokio::task::spawn_blocking(move || {
            let mut datagram = vec![0; 2_000];
            let length = socket.recv(&mut datagram).unwrap();
            datagram.truncate(length);
            datagram
        });
        tokio::select! {
            _ = client.dial_pinned(address, pin, wire::ALPN_ENROL) => panic!("nobody answers"),
            heard = heard => heard.unwrap(),
        }
    }

    #[tokio::test]
    async fn a_callers_first_packet_opens_and_with_any_byte_changed_it_does_not() {
        let whole = caller().await;
        let judge = |datagram: &[u8]| {
            Reader { ours: &|_| false, peer: &|| false, accepts: true, opens: &opens }.judge(datagram)
        };
        assert_eq!(judge(&whole), Ok(()));
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1 << (at % 8);
            assert!(judge(&changed).is_err(), "byte {at}");
        }
        let mut last = whole;
        *last.last_mut().unwrap() ^= 1;
        assert_eq!(judge(&last), Err(Junk::Sealed));
    }
}
