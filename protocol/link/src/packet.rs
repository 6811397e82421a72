//! Which UDP datagrams can be QUIC packets for us at all, told from their first bytes (RFC 8999, RFC 9000
//! section 17) before any connection is looked up.
//!
//! Everybody in a cluster speaks QUIC version 1, so a packet of another version is dropped like noise: a
//! version negotiation packet would tell nobody of ours anything. Nobody of ours sends early data (0-RTT)
//! or is asked to retry, so a packet for a connection that is not ours is either the first one of a caller
//! or nothing. Only the first packet of a datagram is looked at: what is coalesced behind it goes the
//! same way.
//!
//! Knows nothing of sockets and keys; whether a caller's first packet opens is asked of [`Reader::opens`].

/// The one version that is spoken (RFC 9000).
pub(crate) const VERSION: u32 = 1;
/// Bytes of every connection id that we give out.
pub(crate) const ID_BYTES: usize = 8;
/// Largest datagram that we tell our peers to send: what fits an Ethernet frame.
pub(crate) const MAX_DATAGRAM: u16 = 1472;

/// A caller pads its first datagram to at least this (RFC 9000, 14.1).
const MIN_FIRST: usize = 1200;
/// Longest connection id of version 1.
const MAX_ID: usize = 20;
/// Shortest id that a caller may make up for the server (RFC 9000, 7.2).
const MIN_FIRST_ID: usize = 8;
/// What header protection needs behind the length field: four bytes of packet number, sixteen of sample.
const SAMPLE: usize = 20;
/// Shortest stateless reset (RFC 9000, 10.3).
const MIN_RESET: usize = 21;

const LONG: u8 = 0x80;
const FIXED: u8 = 0x40;

/// Why a datagram is dropped. Each has its counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Junk {
    /// Not a single byte.
    Empty,
    /// Larger than anything that our peers were told to send.
    Oversized,
    /// The bit that every QUIC packet has set is not.
    NotQuic,
    /// Ends inside its header, or before the end that its header promises.
    Cut,
    /// Another version of QUIC than 1, or a version negotiation.
    Version,
    /// A connection id longer than 20 bytes, or one made up that is shorter than 8.
    ConnectionId,
    /// A first packet in a datagram below 1,200 bytes.
    ShortInitial,
    /// A whole first packet whose seal is wrong.
    Sealed,
    /// For a connection that is not ours.
    Unknown,
}

impl Junk {
    /// All of them, in the order of their discriminants.
    pub(crate) const ALL: [Junk; 9] = [
        Junk::Empty,
        Junk::Oversized,
        Junk::NotQuic,
        Junk::Cut,
        Junk::Version,
        Junk::ConnectionId,
        Junk::ShortInitial,
        Junk::Sealed,
        Junk::Unknown,
    ];

    /// Name of the counter.
    pub(crate) const fn counter(self) -> &'static str {
        match self {
            Junk::Empty => "quic_dropped_empty",
            Junk::Oversized => "quic_dropped_oversized",
            Junk::NotQuic => "quic_dropped_not_quic",
            Junk::Cut => "quic_dropped_cut",
            Junk::Version => "quic_dropped_version",
            Junk::ConnectionId => "quic_dropped_connection_id",
            Junk::ShortInitial => "quic_dropped_short_initial",
            Junk::Sealed => "quic_dropped_does_not_decrypt",
            Junk::Unknown => "quic_dropped_unknown_connection",
        }
    }
}

/// Who is to read a datagram.
pub(crate) struct Reader<'a> {
    /// Whether a connection id was given out by us.
    pub ours: &'a dyn Fn(&[u8]) -> bool,
    /// Whether the sender is at the other end of a connection: only then can its packet be a stateless
    /// reset, which nobody but the two ends can tell from noise.
    pub peer: &'a dyn Fn() -> bool,
    /// Whether callers are accepted.
    pub accepts: bool,
    /// Whether a caller's first packet is sealed with the keys that follow from its id (RFC 9001, 5.2).
    pub opens: &'a dyn Fn(&First<'_>) -> bool,
}

/// A whole first packet of a caller.
pub(crate) struct First<'a> {
    /// The id that the caller made up for the server.
    pub id: &'a [u8],
    /// From its first byte to the end that its header tells.
    pub packet: &'a [u8],
    /// Where in it the packet number begins, behind which there are at least 19 bytes more.
    pub number_at: usize,
}

impl Reader<'_> {
    /// Whether the datagram may be passed on.
    ///
    /// # Errors
    /// Why it is junk.
    pub(crate) fn judge(&self, datagram: &[u8]) -> Result<(), Junk> {
        let Some(first) = datagram.first() else { return Err(Junk::Empty) };
        if datagram.len() > usize::from(MAX_DATAGRAM) {
            return Err(Junk::Oversized);
        }
        if first & FIXED == 0 {
            return Err(Junk::NotQuic);
        }
        if first & LONG == 0 { self.short(datagram) } else { self.long(*first, datagram) }
    }

    /// Packets of an established connection, and stateless resets.
    fn short(&self, datagram: &[u8]) -> Result<(), Junk> {
        let id = datagram.get(1..=ID_BYTES).ok_or(Junk::Cut)?;
        if (self.ours)(id) {
            let whole = datagram.len() > ID_BYTES + SAMPLE;
            return if whole { Ok(()) } else { Err(Junk::Cut) };
        }
        if datagram.len() < MIN_RESET {
            return Err(Junk::Cut);
        }
        if (self.peer)() { Ok(()) } else { Err(Junk::Unknown) }
    }

    /// Packets of a handshake.
    fn long(&self, first: u8, datagram: &[u8]) -> Result<(), Junk> {
        let mut rest = Rest(&datagram[1..]);
        let version = rest.take(4)?;
        let to_length = rest.byte()?;
        if version != VERSION.to_be_bytes() {
            return Err(Junk::Version);
        }
        let to = rest.id(to_length)?;
        let from_length = rest.byte()?;
        rest.id(from_length)?;
        if (self.ours)(to) {
            return Ok(());
        }
        if (first >> 4) & 3 != 0 || !self.accepts {
            return Err(Junk::Unknown);
        }
        if datagram.len() < MIN_FIRST {
            return Err(Junk::ShortInitial);
        }
        if to.len() < MIN_FIRST_ID {
            return Err(Junk::ConnectionId);
        }
        let token = rest.number()?;
        rest.take(token)?;
        let length = rest.number()?;
        if length < SAMPLE {
            return Err(Junk::Cut);
        }
        let number_at = datagram.len() - rest.0.len();
        rest.take(length)?;
        let packet = &datagram[..number_at + length];
        if (self.opens)(&First { id: to, packet, number_at }) { Ok(()) } else { Err(Junk::Sealed) }
    }
}

/// What is left of a header; taking more than that means that it was cut.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Junk> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Junk::Cut)?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Junk> {
        Ok(self.take(1)?[0])
    }

    fn id(&mut self, length: u8) -> Result<&'a [u8], Junk> {
        let length = usize::from(length);
        if length > MAX_ID { Err(Junk::ConnectionId) } else { self.take(length) }
    }

    /// A number of one, two, four or eight bytes (RFC 9000, 16).
    fn number(&mut self) -> Result<usize, Junk> {
        let first = self.byte()?;
        let more = self.take((1 << (first >> 6)) - 1)?;
        let start = u64::from(first & 0x3f);
        let number = more.iter().fold(start, |number, byte| (number << 8) | u64::from(*byte));
        // Larger than the address space is larger than the packet.
        usize::try_from(number).map_err(|_| Junk::Cut)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const OURS: [u8; ID_BYTES] = *b"our own!";

    /// A packet as text: hexadecimal digits, `O` for an id of ours with its length before it, `o` for the
    /// bare id, `s` for a made-up id of eight bytes with its length, and `*N` for N bytes of anything.
    fn packet(text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        for word in text.split_whitespace() {
            match (word, word.strip_prefix('*')) {
                (_, Some(count)) => out.extend((0..count.parse::<usize>().unwrap()).map(|_| 0xa5)),
                ("O", _) => out.extend([&[8][..], &OURS].concat()),
                ("o", _) => out.extend(OURS),
                ("s", _) => out.extend(b"\x08made up!"),
                _ => {
                    for at in (0..word.len()).step_by(2) {
                        out.push(u8::from_str_radix(&word[at..at + 2], 16).unwrap());
                    }
                }
            }
        }
        out
    }

    fn judge(text: &str, accepts: bool, peer: bool) -> Result<(), Junk> {
        Reader { ours: &|id| id == OURS, peer: &|| peer, accepts, opens: &|_| true }.judge(&packet(text))
    }

    /// What a server says to strangers. The header of a first packet with ids of 8 and 0 bytes and
    /// without a token has 18 bytes, two of them its length: 4496 stands for 1174.
    const TABLE: &[(&str, Result<(), Junk>)] = &[
        ("", Err(Junk::Empty)),
        ("*1473", Err(Junk::Oversized)),
        ("40 o *1464", Err(Junk::Oversized)),
        ("00", Err(Junk::NotQuic)),
        ("3f o *40", Err(Junk::NotQuic)),
        ("80 00000001 O 00 *100", Err(Junk::NotQuic)),
        // A connection's packets.
        ("40", Err(Junk::Cut)),
        ("40 *7", Err(Junk::Cut)),
        ("40 o", Err(Junk::Cut)),
        ("40 o *19", Err(Junk::Cut)),
        ("40 o *20", Ok(())),
        ("7f o *1463", Ok(())),
        ("40 *19", Err(Junk::Cut)),
        ("40 *20", Err(Junk::Unknown)),
        ("40 *1400", Err(Junk::Unknown)),
        // Long headers that end too early.
        ("c0", Err(Junk::Cut)),
        ("c0 000000", Err(Junk::Cut)),
        ("c0 00000001", Err(Junk::Cut)),
        ("c0 00000001 08 *7", Err(Junk::Cut)),
        ("c0 00000001 s", Err(Junk::Cut)),
        ("c0 00000001 s 05 *4", Err(Junk::Cut)),
        // Versions: none of ours, of the future, and a negotiation, however long.
        ("c0 ffffffff 00", Err(Junk::Version)),
        ("c0 ffffffff *1300", Err(Junk::Version)),
        ("c0 6b3343cf s 00 *1190", Err(Junk::Version)),
        ("c0 00000000 O 00 00000001", Err(Junk::Version)),
        // Ids.
        ("c0 00000001 15 *1300", Err(Junk::ConnectionId)),
        ("c0 00000001 ff *1300", Err(Junk::ConnectionId)),
        ("c0 00000001 s 15 *1300", Err(Junk::ConnectionId)),
        ("c0 00000001 07 *7 00 00 4496 *1174", Err(Junk::ShortInitial)),
        ("c0 00000001 07 *7 00 00 4496 *1184", Err(Junk::ConnectionId)),
        ("c0 00000001 00 00 00 4496 *1200", Err(Junk::ConnectionId)),
        // First packets: the smallest whole one, and what it may not lack.
        ("c0 00000001 s 00 00 4496 *1182", Ok(())),
        ("c0 00000001 s 00 00 4496 *1181", Err(Junk::ShortInitial)),
        ("c0 00000001 s 00 00 44a0 *1182", Err(Junk::Cut)),
        ("c0 00000001 s 00 00 7fff *1182", Err(Junk::Cut)),
        ("c0 00000001 s 00 00 ffffffffffffffff *1182", Err(Junk::Cut)),
        ("c0 00000001 s 00 00 13 *1183", Err(Junk::Cut)),
        ("c0 00000001 s 00 00 14 *1183", Ok(())),
        ("c0 00000001 s 00 7fff *1183", Err(Junk::Cut)),
        ("c0 00000001 s 00 04 *4 4490 *1200", Ok(())),
        ("c0 00000001 14 *20 14 *20 00 4450 *1200", Ok(())),
        // Early data, handshake and retry of nobody we know.
        ("d0 00000001 s 00 4496 *1183", Err(Junk::Unknown)),
        ("e0 00000001 s 00 4496 *1183", Err(Junk::Unknown)),
        ("f0 00000001 s 00 *1183", Err(Junk::Unknown)),
        // The same, and a short first packet, within a handshake of ours.
        ("c0 00000001 O 00 00 20 *32", Ok(())),
        ("e0 00000001 O s 20 *32", Ok(())),
        ("f0 00000001 O s *40", Ok(())),
    ];

    #[test]
    fn every_packet_of_the_table_is_judged_as_written() {
        for (text, wanted) in TABLE {
            assert_eq!(judge(text, true, false), *wanted, "{text}");
        }
    }

    #[test]
    fn whoever_only_dials_takes_no_first_packet_of_a_caller() {
        for (text, wanted) in TABLE {
            let reply = text.contains(" O ") || text.contains(" o ");
            let wanted = if wanted.is_ok() && !reply { Err(Junk::Unknown) } else { *wanted };
            let got = judge(text, false, false);
            assert_eq!(got.is_ok(), wanted.is_ok(), "{text}: {got:?}");
        }
    }

    #[test]
    fn only_the_other_end_of_a_connection_can_send_a_reset() {
        assert_eq!(judge("40 *20", true, true), Ok(()));
        assert_eq!(judge("40 *20", true, false), Err(Junk::Unknown));
        assert_eq!(judge("40 *19", true, true), Err(Junk::Cut), "too short for one");
    }

    #[test]
    fn no_bytes_at_all_make_it_panic() {
        let opens = |first: &First<'_>| first.packet.len() >= first.number_at + SAMPLE;
        let reader = Reader { ours: &|_| false, peer: &|| false, accepts: true, opens: &opens };
        let whole = packet("c0 00000001 14 *20 14 *20 04 *4 4450 *1200");
        for length in 0..whole.len() {
            assert!(length >= 1_200 || reader.judge(&whole[..length]).is_err());
        }
        assert_eq!(reader.judge(&whole), Ok(()));
        for _ in 0..20_000 {
            let mut noise = service::random::bytes::<64>().to_vec();
            noise.resize(64 + usize::from(noise[9]) * 6, 0xff);
            let _ = reader.judge(&noise);
        }
    }

    #[test]
    fn every_reason_has_its_own_counter() {
        let names: std::collections::BTreeSet<_> = Junk::ALL.iter().map(|junk| junk.counter()).collect();
        assert_eq!(names.len(), Junk::ALL.len());
        assert!(Junk::ALL.iter().enumerate().all(|(index, junk)| *junk as usize == index));
    }
}
