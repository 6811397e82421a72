//! TFTP, reading only: which request is taken, what it is answered, how a transfer goes on.
//!
//! Knows nothing of sockets, files and clocks: datagrams and times come in, datagrams and a next
//! time come out. Invariant: a name is looked up in a map that the caller gives and never becomes
//! a path of a file system.

mod request;
mod seats;
mod transfer;

pub use request::{Asked, MAX_REQUEST, Mode, Reject, Request, parse};
pub use seats::{Full, MAX_PER_SOURCE, MAX_TRANSFERS, Seats};
pub use transfer::{MAX_BLKSIZE, MAX_WINDOW, Outcome, RETRANSMISSIONS, Step, Transfer};

/// Error codes of RFC 1350 that this server sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// Not defined, see the text.
    Undefined = 0,
    /// There is no such file.
    NotFound = 1,
    /// The request is refused.
    Access = 2,
    /// The datagram makes no sense here.
    Illegal = 4,
    /// Options cannot be agreed upon (RFC 2347).
    Options = 8,
}

/// The bytes of an ERROR datagram.
pub fn error(code: Code, text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 5);
    out.extend_from_slice(&5u16.to_be_bytes());
    out.extend_from_slice(&(code as u16).to_be_bytes());
    out.extend(text.bytes().filter(|b| *b != 0));
    out.push(0);
    out
}

/// Text form of RFC 764 for clients that ask in netascii mode: line feed becomes carriage return
/// and line feed, a lone carriage return is followed by a zero.
pub fn netascii(content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len() + content.len() / 32);
    for &b in content {
        match b {
            b'\n' => out.extend_from_slice(b"\r\n"),
            b'\r' => out.extend_from_slice(b"\r\0"),
            b => out.push(b),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_datagram_has_code_text_and_a_zero() {
        assert_eq!(error(Code::NotFound, "no"), b"\0\x05\0\x01no\0");
    }

    #[test]
    fn netascii_changes_line_ends_only() {
        assert_eq!(netascii(b"a\nb\rc"), b"a\r\nb\r\0c");
    }
}
