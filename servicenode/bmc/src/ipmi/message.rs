//! IPMI messages as they travel inside a packet (IPMI 2.0 §13.8).

/// Address of the BMC on its bus.
const BMC: u8 = 0x20;
/// Software id of a remote console.
const CONSOLE: u8 = 0x81;

/// A request to the BMC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Network function, even.
    pub function: u8,
    /// Command.
    pub command: u8,
    /// Data.
    pub data: Vec<u8>,
}

/// An answer whose checksums are right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Network function, odd.
    pub function: u8,
    /// Command.
    pub command: u8,
    /// The number of the request it answers.
    pub sequence: u8,
    /// Completion code; zero is success.
    pub code: u8,
    /// Data behind the code.
    pub data: Vec<u8>,
}

impl Request {
    /// A request for the BMC itself.
    #[must_use]
    pub fn new(function: u8, command: u8, data: impl Into<Vec<u8>>) -> Self {
        Self { function, command, data: data.into() }
    }

    /// Its bytes under the number `sequence` (six bits count).
    #[must_use]
    pub fn encode(&self, sequence: u8) -> Vec<u8> {
        let mut out = vec![BMC, self.function << 2];
        out.push(checksum(&out));
        out.extend([CONSOLE, sequence << 2, self.command]);
        out.extend(&self.data);
        out.push(checksum(&out[3..]));
        out
    }
}

impl Response {
    /// Reads an answer.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < 8 || checksum(&bytes[..3]) != 0 || checksum(&bytes[3..]) != 0 {
            return None;
        }
        Some(Self {
            function: bytes[1] >> 2,
            command: bytes[5],
            sequence: bytes[4] >> 2,
            code: bytes[6],
            data: bytes[7..bytes.len() - 1].to_vec(),
        })
    }

    /// Whether it answers `request` sent under `sequence`.
    #[must_use]
    pub fn answers(&self, request: &Request, sequence: u8) -> bool {
        self.function == request.function | 1
            && self.command == request.command
            && self.sequence == sequence & 0x3f
    }
}

/// Two's complement of the sum; zero over bytes that end with their own checksum.
fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)).wrapping_neg()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn get_device_id_has_the_bytes_every_trace_shows() {
        assert_eq!(Request::new(0x06, 0x01, []).encode(1), [0x20, 0x18, 0xc8, 0x81, 0x04, 0x01, 0x7a]);
    }

    #[test]
    fn an_answer_matches_only_its_own_request() {
        let request = Request::new(0x00, 0x01, []);
        let mut bytes = vec![0x81, 0x04, 0x7b, 0x20, 0x14, 0x01, 0x00, 0x21];
        bytes.push(checksum(&bytes[3..]));
        let response = Response::decode(&bytes).unwrap();
        assert!(response.answers(&request, 5));
        assert!(!response.answers(&request, 6));
        assert!(!response.answers(&Request::new(0x00, 0x02, []), 5));
        bytes[7] ^= 1;
        assert_eq!(Response::decode(&bytes), None);
    }
}
