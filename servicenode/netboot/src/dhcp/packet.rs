//! From bytes to a checked question.
//!
//! The options are walked and checked here first, and only those that are used are handed to the
//! decoder, which stops silently at a broken option and panics on some.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::panic::catch_unwind;

use dhcproto::v4::{DhcpOption, Message, MessageType, Opcode, OptionCode};
use dhcproto::{Decodable, Decoder};
use wire::names::Mac;

/// Larger datagrams are dropped unread.
pub const MAX_PACKET: usize = 1500;
const HEADER: usize = 240;
const MAGIC: [u8; 4] = [99, 130, 83, 99];
/// Options that are looked at; everything else is only checked for its length.
const USED: [u8; 8] = [50, 53, 54, 55, 57, 60, 93, 118];

/// Why a datagram is no question to this server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bad {
    /// Longer than [`MAX_PACKET`].
    Oversized,
    /// Shorter than its own structure says.
    Cut,
    /// No magic cookie, not Ethernet, no or impossible message type.
    Malformed,
    /// A reply of another server.
    NotARequest,
}

/// The kind of question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Who gives me an address?
    Discover,
    /// Give or keep me this one.
    Request,
    /// The address is in use by somebody else.
    Decline,
    /// I need it no longer.
    Release,
    /// I have an address, tell me the rest.
    Inform,
}

/// A checked question.
#[derive(Debug, Clone)]
pub struct Query {
    /// What it is.
    pub kind: Kind,
    /// The client's adapter.
    pub mac: Mac,
    /// The whole header, for the answer.
    pub header: Message,
    /// Option 50.
    pub requested: Option<Ipv4Addr>,
    /// Option 54.
    pub server: Option<Ipv4Addr>,
    /// Option 93, the first of the list.
    pub arch: Option<u16>,
    /// Option 60.
    pub vendor: Vec<u8>,
    /// Option 77.
    pub user_class: Vec<u8>,
    /// Option 175 is there: the client is iPXE.
    pub ipxe: bool,
    /// Option 55.
    pub wanted: Vec<u8>,
    /// Option 57.
    pub max_size: Option<u16>,
    /// Option 97, to be sent back.
    pub uuid: Option<Vec<u8>>,
    /// Option 61, to be sent back (RFC 6842).
    pub client_id: Option<Vec<u8>>,
    /// Option 82, to be sent back last.
    pub relay: Option<Vec<u8>>,
}

impl Query {
    /// The relay's address.
    pub fn giaddr(&self) -> Option<Ipv4Addr> {
        Some(self.header.giaddr()).filter(|a| !a.is_unspecified())
    }

    /// The address that the client uses.
    pub fn ciaddr(&self) -> Option<Ipv4Addr> {
        Some(self.header.ciaddr()).filter(|a| !a.is_unspecified())
    }

    /// A suboption of option 82.
    pub fn relay_suboption(&self, code: u8) -> Option<&[u8]> {
        let mut rest = self.relay.as_deref()?;
        while let [c, len, tail @ ..] = rest {
            let value = tail.get(..usize::from(*len))?;
            if *c == code {
                return Some(value);
            }
            rest = &tail[usize::from(*len)..];
        }
        None
    }
}

/// Reads a datagram that came to the server port.
pub fn parse(datagram: &[u8]) -> Result<Query, Bad> {
    if datagram.len() > MAX_PACKET {
        return Err(Bad::Oversized);
    }
    if datagram.len() < HEADER {
        return Err(Bad::Cut);
    }
    if datagram[0] == 2 {
        return Err(Bad::NotARequest);
    }
    if datagram[0] != 1 || datagram[1] != 1 || datagram[2] != 6 || datagram[236..240] != MAGIC {
        return Err(Bad::Malformed);
    }
    let options = options(datagram)?;
    check_lengths(&options)?;
    let header = decode(datagram, &options)?;
    if header.opcode() != Opcode::BootRequest {
        return Err(Bad::NotARequest);
    }
    let kind = match header.opts().msg_type() {
        Some(MessageType::Discover) => Kind::Discover,
        Some(MessageType::Request) => Kind::Request,
        Some(MessageType::Decline) => Kind::Decline,
        Some(MessageType::Release) => Kind::Release,
        Some(MessageType::Inform) => Kind::Inform,
        Some(MessageType::Offer | MessageType::Ack | MessageType::Nak) => return Err(Bad::NotARequest),
        _ => return Err(Bad::Malformed),
    };
    let mut mac = [0; 6];
    mac.copy_from_slice(&datagram[28..34]);
    // A client has a unicast address that is not zero.
    if mac[0] & 1 == 1 || mac == [0; 6] {
        return Err(Bad::Malformed);
    }
    let copy = |code: u8| options.get(&code).cloned();
    let address = |code: u8| {
        let bytes: [u8; 4] = options.get(&code)?.as_slice().try_into().ok()?;
        Some(Ipv4Addr::from(bytes))
    };
    let number = |code: u8| Some(u16::from_be_bytes(options.get(&code)?.get(..2)?.try_into().ok()?));
    Ok(Query {
        kind,
        mac: Mac(mac),
        requested: address(50),
        server: address(54),
        arch: number(93),
        vendor: copy(60).unwrap_or_default(),
        user_class: copy(77).unwrap_or_default(),
        ipxe: options.contains_key(&175),
        wanted: copy(55).unwrap_or_default(),
        max_size: match header.opts().get(OptionCode::MaxMessageSize) {
            Some(DhcpOption::MaxMessageSize(n)) => Some(*n),
            _ => None,
        },
        uuid: copy(97),
        client_id: copy(61),
        relay: copy(82),
        header,
    })
}

/// All options, long ones joined (RFC 3396), those in `file` and `sname` included (option 52).
fn options(datagram: &[u8]) -> Result<BTreeMap<u8, Vec<u8>>, Bad> {
    let mut found = BTreeMap::new();
    walk(&datagram[HEADER..], &mut found, true)?;
    let overload = match found.get(&52).map(Vec::as_slice) {
        None => 0,
        Some([n @ 1..=3]) => *n,
        Some(_) => return Err(Bad::Malformed),
    };
    if overload & 1 == 1 {
        walk(&datagram[108..236], &mut found, false)?;
    }
    if overload & 2 == 2 {
        walk(&datagram[44..108], &mut found, false)?;
    }
    Ok(found)
}

fn walk(mut rest: &[u8], found: &mut BTreeMap<u8, Vec<u8>>, joined: bool) -> Result<(), Bad> {
    loop {
        match rest {
            // A missing end mark is forgiven: some boot ROMs forget it.
            [] | [255, ..] => return Ok(()),
            [0, tail @ ..] => rest = tail,
            [code, len, tail @ ..] => {
                let value = tail.get(..usize::from(*len)).ok_or(Bad::Cut)?;
                if !joined && *code == 52 {
                    return Err(Bad::Malformed);
                }
                found.entry(*code).or_default().extend_from_slice(value);
                rest = &tail[usize::from(*len)..];
            }
            [_] => return Err(Bad::Cut),
        }
    }
}

fn check_lengths(options: &BTreeMap<u8, Vec<u8>>) -> Result<(), Bad> {
    let right = options.iter().all(|(code, value)| match code {
        50 | 54 | 118 => value.len() == 4,
        53 => value.len() == 1,
        57 => value.len() == 2,
        93 => value.len() >= 2 && value.len().is_multiple_of(2),
        55 | 61 => !value.is_empty(),
        97 => value.len() == 17 || value.is_empty(),
        82 => value.len() <= 255,
        _ => true,
    });
    if right { Ok(()) } else { Err(Bad::Malformed) }
}

fn decode(datagram: &[u8], options: &BTreeMap<u8, Vec<u8>>) -> Result<Message, Bad> {
    let mut clean = datagram[..HEADER].to_vec();
    for code in USED {
        let Some(value) = options.get(&code) else { continue };
        for part in value.chunks(255) {
            clean.push(code);
            clean.push(u8::try_from(part.len()).unwrap_or(u8::MAX));
            clean.extend_from_slice(part);
        }
    }
    clean.push(255);
    let decoded = catch_unwind(|| Message::decode(&mut Decoder::new(&clean)));
    decoded.ok().and_then(Result::ok).ok_or(Bad::Malformed)
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A request as a boot ROM sends it.
    pub fn raw(kind: u8, mac: [u8; 6], options: &[(u8, &[u8])]) -> Vec<u8> {
        let mut d = vec![0; HEADER];
        d[..3].copy_from_slice(&[1, 1, 6]);
        d[4..8].copy_from_slice(&[1, 2, 3, 4]);
        d[28..34].copy_from_slice(&mac);
        d[236..240].copy_from_slice(&MAGIC);
        d.extend_from_slice(&[53, 1, kind]);
        for (code, value) in options {
            d.push(*code);
            d.push(value.len() as u8);
            d.extend_from_slice(value);
        }
        d.push(255);
        d
    }

    const MAC: [u8; 6] = [0x52, 0x54, 0, 1, 2, 3];

    #[test]
    fn question_of_a_boot_rom_is_read() {
        let uuid = [0; 17];
        let d = raw(
            1,
            MAC,
            &[
                (93, &[0, 7]),
                (97, &uuid),
                (60, b"PXEClient:Arch:00007:UNDI:003016"),
                (77, b"iPXE"),
                (175, &[1, 1, 1]),
                (82, &[1, 2, 7, 8, 2, 1, 9]),
            ],
        );
        let q = parse(&d).unwrap();
        assert_eq!((q.kind, q.mac, q.arch, q.ipxe), (Kind::Discover, Mac(MAC), Some(7), true));
        assert_eq!(q.relay_suboption(1), Some(&[7, 8][..]));
        assert_eq!(q.relay_suboption(2), Some(&[9][..]));
        assert_eq!(q.relay_suboption(3), None);
    }

    #[test]
    fn options_in_file_and_sname_are_found() {
        let mut d = raw(3, MAC, &[(52, &[3])]);
        d[108..115].copy_from_slice(&[50, 4, 10, 0, 0, 9, 255]);
        d[44..51].copy_from_slice(&[54, 4, 10, 0, 0, 1, 255]);
        let q = parse(&d).unwrap();
        assert_eq!(q.requested, Some(Ipv4Addr::new(10, 0, 0, 9)));
        assert_eq!(q.server, Some(Ipv4Addr::new(10, 0, 0, 1)));
    }

    #[test]
    fn what_is_not_a_question_is_named() {
        let bad = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut d = raw(1, MAC, &[]);
            change(&mut d);
            parse(&d).unwrap_err()
        };
        assert_eq!(bad(&|d| d.resize(2000, 0)), Bad::Oversized);
        assert_eq!(bad(&|d| d.truncate(100)), Bad::Cut);
        assert_eq!(bad(&|d| d[0] = 2), Bad::NotARequest);
        assert_eq!(bad(&|d| d[236] = 0), Bad::Malformed);
        assert_eq!(bad(&|d| d[2] = 16), Bad::Malformed);
        assert_eq!(bad(&|d| d[28] = 1), Bad::Malformed);
        assert_eq!(bad(&|d| d[242] = 0), Bad::Malformed);
        assert_eq!(bad(&|d| d[242] = 5), Bad::NotARequest);
        assert_eq!(
            bad(&|d| {
                d.pop();
                d.extend([50, 4, 1])
            }),
            Bad::Cut
        );
        assert_eq!(
            bad(&|d| {
                d.pop();
                d.extend([50, 3, 1, 2, 3])
            }),
            Bad::Malformed
        );
        assert_eq!(
            bad(&|d| {
                d.pop();
                d.extend([12])
            }),
            Bad::Cut
        );
        assert_eq!(
            bad(&|d| {
                d.pop();
                d.extend([52, 1, 9])
            }),
            Bad::Malformed
        );
    }

    #[test]
    fn options_that_upset_the_decoder_are_harmless() {
        for code in 0..=255u8 {
            for len in [0, 1, 2, 3, 5] {
                let value = vec![0xff; len];
                let _ = parse(&raw(1, MAC, &[(code, &value)]));
            }
        }
    }

    #[test]
    fn no_byte_change_or_cut_panics() {
        let good = raw(3, MAC, &[(93, &[0, 0]), (50, &[10, 0, 0, 1]), (55, &[1, 3, 6]), (82, &[1, 1, 1])]);
        for at in 0..good.len() {
            let _ = parse(&good[..at]);
            for value in 0..=255 {
                let mut d = good.clone();
                d[at] = value;
                let _ = parse(&d);
            }
        }
    }
}
