//! Bytes of RMCP, ASF, IPMI 1.5 and RMCP+ packets, seen from the BMC's side.

use super::suite::Keys;

/// Payload type of an IPMI message.
pub const PAYLOAD_IPMI: u8 = 0x00;
/// Payload type of serial over LAN.
pub const PAYLOAD_SOL: u8 = 0x01;
/// Payload type of Open Session Request; the answers and RAKP messages follow it.
pub const PAYLOAD_OPEN: u8 = 0x10;
/// RAKP message 1.
pub const PAYLOAD_RAKP1: u8 = 0x12;
/// RAKP message 3.
pub const PAYLOAD_RAKP3: u8 = 0x14;

const RMCP: [u8; 4] = [0x06, 0x00, 0xff, 0x07];

/// What a datagram turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// ASF presence ping with its tag.
    Ping(u8),
    /// A message in the IPMI 1.5 wrapper without authentication.
    Plain(&'a [u8]),
    /// An RMCP+ packet.
    Plus(Plus<'a>),
}

/// An RMCP+ packet whose authentication is not checked yet.
#[derive(Debug, PartialEq, Eq)]
pub struct Plus<'a> {
    /// Payload type without the two flag bits.
    pub payload_type: u8,
    /// The payload is encrypted.
    pub encrypted: bool,
    /// An authentication code follows.
    pub authenticated: bool,
    /// Session the packet names; zero outside a session.
    pub session: u32,
    /// Session sequence number.
    pub sequence: u32,
    /// The payload as it travels.
    pub payload: &'a [u8],
    /// From the authentication type on: what the code covers, and the code.
    pub body: &'a [u8],
}

/// One IPMI message, request or response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Responder address.
    pub to: u8,
    /// Network function.
    pub function: u8,
    /// Logical unit.
    pub lun: u8,
    /// Requester address.
    pub from: u8,
    /// Requester's sequence number and unit, as one byte.
    pub sequence: u8,
    /// Command.
    pub command: u8,
    /// Data behind the command.
    pub data: Vec<u8>,
}

/// Recognizes a datagram.
pub fn parse(bytes: &[u8]) -> Option<Packet<'_>> {
    let class = *bytes.get(3)?;
    if bytes[0] != 0x06 {
        return None;
    }
    let rest = &bytes[4..];
    match class {
        0x06 => (rest.len() >= 8 && rest[..4] == [0, 0, 0x11, 0xbe] && rest[4] == 0x80)
            .then(|| Packet::Ping(rest[5])),
        0x07 if *rest.first()? == 0 => {
            let length = usize::from(*rest.get(9)?);
            Some(Packet::Plain(rest.get(10..10 + length)?))
        }
        0x07 if rest[0] == 6 => parse_plus(rest).map(Packet::Plus),
        _ => None,
    }
}

fn parse_plus(body: &[u8]) -> Option<Plus<'_>> {
    let kind = *body.get(1)?;
    let session = u32::from_le_bytes(body.get(2..6)?.try_into().ok()?);
    let sequence = u32::from_le_bytes(body.get(6..10)?.try_into().ok()?);
    let length = usize::from(u16::from_le_bytes(body.get(10..12)?.try_into().ok()?));
    Some(Plus {
        payload_type: kind & 0x3f,
        encrypted: kind & 0x80 != 0,
        authenticated: kind & 0x40 != 0,
        session,
        sequence,
        payload: body.get(12..12 + length)?,
        body,
    })
}

impl Plus<'_> {
    /// Whether the authentication code at the end is right under `keys`.
    pub fn authentic(&self, keys: &Keys) -> bool {
        let length = keys.suite().code_length();
        let Some(covered) = self.body.len().checked_sub(length) else {
            return false;
        };
        covered > 12 + self.payload.len() && keys.code(&self.body[..covered]) == self.body[covered..]
    }
}

/// The answer to a presence ping.
pub fn pong(tag: u8) -> Vec<u8> {
    let mut out = vec![0x06, 0x00, 0xff, 0x06, 0, 0, 0x11, 0xbe, 0x40, tag, 0, 16];
    out.extend([0, 0, 0x11, 0xbe, 0, 0, 0, 0, 0x81, 0, 0, 0, 0, 0, 0, 0]);
    out
}

/// Wraps a message for a client that asked in the IPMI 1.5 form.
pub fn plain(message: &[u8]) -> Vec<u8> {
    let mut out = RMCP.to_vec();
    out.extend([0; 9]);
    out.push(u8::try_from(message.len()).unwrap_or(u8::MAX));
    out.extend(message);
    out
}

/// An RMCP+ packet outside a session.
pub fn unsecured(payload_type: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = RMCP.to_vec();
    out.extend([6, payload_type]);
    out.extend([0; 8]);
    out.extend(length(payload));
    out.extend(payload);
    out
}

/// An encrypted and authenticated packet of a session.
pub fn secured(
    payload_type: u8,
    session: u32,
    sequence: u32,
    payload: &[u8],
    keys: &Keys,
    iv: [u8; 16],
) -> Vec<u8> {
    let sealed = keys.encrypt(payload, iv);
    let mut body = vec![6, 0xc0 | payload_type];
    body.extend(session.to_le_bytes());
    body.extend(sequence.to_le_bytes());
    body.extend(length(&sealed));
    body.extend(sealed);
    let padding = (4 - (body.len() + 2) % 4) % 4;
    body.extend(std::iter::repeat_n(0xff, padding));
    body.push(u8::try_from(padding).expect("below 4"));
    body.push(0x07);
    let code = keys.code(&body);
    body.extend(code);
    let mut out = RMCP.to_vec();
    out.extend(body);
    out
}

fn length(payload: &[u8]) -> [u8; 2] {
    u16::try_from(payload.len()).unwrap_or(u16::MAX).to_le_bytes()
}

impl Message {
    /// Reads a message and checks both checksums.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < 7 || checksum(&bytes[..3]) != 0 || checksum(&bytes[3..]) != 0 {
            return None;
        }
        Some(Self {
            to: bytes[0],
            function: bytes[1] >> 2,
            lun: bytes[1] & 3,
            from: bytes[3],
            sequence: bytes[4],
            command: bytes[5],
            data: bytes[6..bytes.len() - 1].to_vec(),
        })
    }

    /// Bytes of the response with this completion code and data.
    pub fn response(&self, code: u8, data: &[u8]) -> Vec<u8> {
        let mut out = vec![self.from, ((self.function | 1) << 2) | (self.sequence & 3)];
        out.push(checksum(&out).wrapping_neg());
        let second = out.len();
        out.extend([self.to, (self.sequence & 0xfc) | self.lun, self.command, code]);
        out.extend(data);
        out.push(checksum(&out[second..]).wrapping_neg());
        out
    }
}

/// The sum whose negation is an IPMI checksum; zero over a correct message.
fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}
