//! RMCP and RMCP+ packets as a console sends and reads them (IPMI 2.0 §13.6).

use super::suite::Keys;

/// Payload type of an IPMI message.
pub const IPMI: u8 = 0x00;
/// RMCP+ Open Session Request.
pub const OPEN_REQUEST: u8 = 0x10;
/// RMCP+ Open Session Response.
pub const OPEN_RESPONSE: u8 = 0x11;
/// RAKP message 1.
pub const RAKP1: u8 = 0x12;
/// RAKP message 2.
pub const RAKP2: u8 = 0x13;
/// RAKP message 3.
pub const RAKP3: u8 = 0x14;
/// RAKP message 4.
pub const RAKP4: u8 = 0x15;

const RMCP: [u8; 4] = [0x06, 0x00, 0xff, 0x07];
const RMCP_PLUS: u8 = 0x06;
const ENCRYPTED: u8 = 0x80;
const AUTHENTICATED: u8 = 0x40;
/// Authentication type to payload length.
const HEADER: usize = 12;

/// What a BMC sent, before any check of its authenticity.
#[derive(Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// An IPMI message in the IPMI 1.5 wrapper, outside a session.
    Plain(&'a [u8]),
    /// An RMCP+ packet.
    Plus(Plus<'a>),
}

/// An RMCP+ packet.
#[derive(Debug, PartialEq, Eq)]
pub struct Plus<'a> {
    /// Payload type without flags.
    pub kind: u8,
    /// Encrypted and authenticated, as every packet in a session must be.
    pub secured: bool,
    /// Session id; zero outside a session.
    pub session: u32,
    /// Session sequence number.
    pub sequence: u32,
    /// The payload as it travels.
    pub payload: &'a [u8],
    body: &'a [u8],
}

/// Recognizes a datagram; anything wrong with its lengths is `None`.
#[must_use]
pub fn parse(datagram: &[u8]) -> Option<Packet<'_>> {
    let body = datagram.strip_prefix(&RMCP)?;
    match *body.first()? {
        0 => {
            let length = usize::from(*body.get(9)?);
            Some(Packet::Plain(body.get(10..10 + length)?))
        }
        RMCP_PLUS => {
            let header = body.get(..HEADER)?;
            let length = usize::from(u16::from_le_bytes([header[10], header[11]]));
            Some(Packet::Plus(Plus {
                kind: header[1] & 0x3f,
                secured: header[1] & (ENCRYPTED | AUTHENTICATED) == ENCRYPTED | AUTHENTICATED,
                session: u32::from_le_bytes([header[2], header[3], header[4], header[5]]),
                sequence: u32::from_le_bytes([header[6], header[7], header[8], header[9]]),
                payload: body.get(HEADER..HEADER + length)?,
                body,
            }))
        }
        _ => None,
    }
}

impl Plus<'_> {
    /// The decrypted payload of a secured packet whose code is right.
    #[must_use]
    pub fn open(&self, keys: &Keys) -> Option<Vec<u8>> {
        if !self.secured {
            return None;
        }
        let covered = self.body.len().checked_sub(keys.code_length())?;
        // padding, its length and the next header lie between payload and code
        if covered < HEADER + self.payload.len() + 2 {
            return None;
        }
        keys.authentic(&self.body[..covered], &self.body[covered..]).then(|| keys.decrypt(self.payload))?
    }
}

/// A message outside a session in the wrapper that every BMC reads.
#[must_use]
pub fn plain(message: &[u8]) -> Vec<u8> {
    let mut out = RMCP.to_vec();
    out.extend([0; 9]);
    out.push(u8::try_from(message.len()).expect("requests outside a session are short"));
    out.extend(message);
    out
}

/// An RMCP+ packet outside a session.
#[must_use]
pub fn unsecured(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = RMCP.to_vec();
    out.extend(header(kind, 0, 0, payload));
    out
}

/// An encrypted and authenticated packet.
#[must_use]
pub fn secured(kind: u8, session: u32, sequence: u32, payload: &[u8], keys: &Keys, iv: [u8; 16]) -> Vec<u8> {
    let sealed = keys.encrypt(iv, payload);
    let mut body = header(kind | ENCRYPTED | AUTHENTICATED, session, sequence, &sealed);
    let padding = (4 - (body.len() + 2) % 4) % 4;
    body.extend(std::iter::repeat_n(0xff, padding));
    body.push(u8::try_from(padding).expect("below four"));
    body.push(0x07);
    let code = keys.code(&body);
    let mut out = RMCP.to_vec();
    out.extend(body);
    out.extend(code);
    out
}

fn header(kind: u8, session: u32, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![RMCP_PLUS, kind];
    out.extend(session.to_le_bytes());
    out.extend(sequence.to_le_bytes());
    out.extend(u16::try_from(payload.len()).expect("payloads are short").to_le_bytes());
    out.extend(payload);
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::suite::Suite;
    use super::*;

    #[test]
    fn a_secured_packet_opens_with_its_keys_only() {
        let keys = Keys::new(Suite::Seventeen, &[1; 32]);
        let bytes = secured(IPMI, 0x0403_0201, 7, b"payload", &keys, [9; 16]);
        let Some(Packet::Plus(packet)) = parse(&bytes) else { panic!("an RMCP+ packet") };
        assert_eq!((packet.kind, packet.session, packet.sequence), (IPMI, 0x0403_0201, 7));
        assert_eq!(packet.open(&keys).unwrap(), b"payload");
        assert_eq!(packet.open(&Keys::new(Suite::Seventeen, &[2; 32])), None);
    }

    #[test]
    fn no_changed_bit_is_accepted() {
        let keys = Keys::new(Suite::Three, &[1; 20]);
        let bytes = secured(IPMI, 1, 7, b"payload", &keys, [9; 16]);
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let opened = match parse(&changed) {
                Some(Packet::Plus(packet)) => packet.open(&keys),
                _ => None,
            };
            assert_eq!(opened, None, "bit {bit}");
        }
    }

    #[test]
    fn cut_packets_are_nothing() {
        let bytes = unsecured(RAKP2, &[1; 40]);
        for length in 0..bytes.len() {
            assert_eq!(parse(&bytes[..length]), None, "length {length}");
        }
    }
}
