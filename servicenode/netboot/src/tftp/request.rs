//! The first datagram of a transfer: a read request with its options, or the reason to refuse it.

use super::Code;

/// Longer requests are refused unread (RFC 2347 asks for at most 512 octets).
pub const MAX_REQUEST: usize = 512;
const MAX_NAME: usize = 200;

/// How the content is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Bytes as they are.
    Octet,
    /// Text with network line ends.
    Netascii,
}

/// Options that the client asked for; values are already inside their legal ranges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Asked {
    /// RFC 2348, 8 to 65464 octets.
    pub blksize: Option<u16>,
    /// RFC 2349, the client wants to know the size.
    pub tsize: bool,
    /// RFC 2349, seconds between retransmissions, 1 to 255.
    pub timeout: Option<u8>,
    /// RFC 7440, blocks per acknowledgment.
    pub windowsize: Option<u16>,
}

/// A read request that may be looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Name as asked for: printable, relative, without `.` and `..` parts.
    pub name: String,
    /// Transfer mode.
    pub mode: Mode,
    /// Options understood; others are ignored as RFC 2347 demands.
    pub asked: Asked,
}

/// Why a datagram to the TFTP port starts no transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reject {
    /// Not a request: dropped without an answer, so that nobody can make two servers talk.
    NotARequest,
    /// A request that is cut or ill-formed: dropped without an answer.
    Malformed,
    /// A write request.
    Write,
    /// An absolute name, `..`, a backslash or an unprintable character.
    Name,
    /// A mode other than octet and netascii.
    Mode,
}

impl Reject {
    /// The ERROR to send back, if any.
    pub fn answer(self) -> Option<Vec<u8>> {
        match self {
            Reject::NotARequest | Reject::Malformed => None,
            Reject::Write => Some(super::error(Code::Access, "read only")),
            Reject::Name => Some(super::error(Code::Access, "name refused")),
            Reject::Mode => Some(super::error(Code::Illegal, "mode not supported")),
        }
    }

    /// Name of the counter.
    pub fn reason(self) -> &'static str {
        match self {
            Reject::NotARequest => "not_a_request",
            Reject::Malformed => "malformed",
            Reject::Write => "write",
            Reject::Name => "name",
            Reject::Mode => "mode",
        }
    }
}

/// Reads the datagram that came to the TFTP port.
pub fn parse(datagram: &[u8]) -> Result<Request, Reject> {
    let [0, op, rest @ ..] = datagram else { return Err(Reject::NotARequest) };
    match op {
        1 => {}
        2 => return Err(Reject::Write),
        _ => return Err(Reject::NotARequest),
    }
    if datagram.len() > MAX_REQUEST || rest.last() != Some(&0) {
        return Err(Reject::Malformed);
    }
    let mut words = rest[..rest.len() - 1].split(|b| *b == 0);
    let name = words.next().filter(|n| !n.is_empty()).ok_or(Reject::Malformed)?;
    let mode = words.next().ok_or(Reject::Malformed)?;
    let mode = if mode.eq_ignore_ascii_case(b"octet") {
        Mode::Octet
    } else if mode.eq_ignore_ascii_case(b"netascii") {
        Mode::Netascii
    } else {
        return Err(Reject::Mode);
    };
    let name = checked_name(name)?;
    let mut asked = Asked::default();
    while let Some(key) = words.next() {
        let Some(value) = words.next() else {
            // Some ROMs pad the request with zeros: trailing empty words are no option.
            if key.is_empty() { break } else { return Err(Reject::Malformed) }
        };
        if key.is_empty() {
            continue;
        }
        let number = number(value);
        if key.eq_ignore_ascii_case(b"blksize") {
            asked.blksize = number.filter(|n| (8..=65464).contains(n)).and_then(|n| u16::try_from(n).ok());
        } else if key.eq_ignore_ascii_case(b"tsize") {
            asked.tsize = number.is_some();
        } else if key.eq_ignore_ascii_case(b"timeout") {
            asked.timeout = number.filter(|n| *n > 0).and_then(|n| u8::try_from(n).ok());
        } else if key.eq_ignore_ascii_case(b"windowsize") {
            asked.windowsize = number.filter(|n| *n > 0).and_then(|n| u16::try_from(n).ok());
        }
    }
    Ok(Request { name, mode, asked })
}

fn checked_name(name: &[u8]) -> Result<String, Reject> {
    let printable = name.iter().all(|b| b.is_ascii_graphic() && *b != b'\\');
    if !printable || name.len() > MAX_NAME || name[0] == b'/' {
        return Err(Reject::Name);
    }
    if name.split(|b| *b == b'/').any(|part| part.is_empty() || part == b"." || part == b"..") {
        return Err(Reject::Name);
    }
    String::from_utf8(name.to_vec()).map_err(|_| Reject::Name)
}

fn number(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 12 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn rrq(words: &[&str]) -> Vec<u8> {
        let mut d = vec![0, 1];
        for w in words {
            d.extend_from_slice(w.as_bytes());
            d.push(0);
        }
        d
    }

    #[test]
    fn request_with_all_options_is_read() {
        let d = rrq(&[
            "undionly.kpxe",
            "OCTET",
            "blksize",
            "1468",
            "TSIZE",
            "0",
            "timeout",
            "3",
            "windowsize",
            "16",
        ]);
        let r = parse(&d).unwrap();
        assert_eq!(r.name, "undionly.kpxe");
        assert_eq!(
            r.asked,
            Asked { blksize: Some(1468), tsize: true, timeout: Some(3), windowsize: Some(16) }
        );
    }

    #[test]
    fn unknown_and_senseless_options_are_ignored() {
        let r =
            parse(&rrq(&["f", "octet", "multicast", "", "blksize", "4", "timeout", "0", "windowsize", "x"]))
                .unwrap();
        assert_eq!(r.asked, Asked::default());
    }

    #[test]
    fn names_that_are_paths_upwards_or_absolute_are_refused() {
        for name in ["../etc/passwd", "/etc/passwd", "a/../b", "a//b", "./a", "a\\b", "a b", "\u{e4}", ".."] {
            assert_eq!(parse(&rrq(&[name, "octet"])), Err(Reject::Name), "{name}");
        }
    }

    #[test]
    fn writes_are_refused_and_other_datagrams_get_no_answer() {
        let mut w = rrq(&["f", "octet"]);
        w[1] = 2;
        assert_eq!(parse(&w), Err(Reject::Write));
        assert!(Reject::Write.answer().is_some());
        for d in [&b""[..], b"\0", b"\0\x03\0\x01data", b"\0\x05\0\x01no\0", b"\x01\x01f\0octet\0"] {
            assert_eq!(parse(d), Err(Reject::NotARequest));
        }
        assert!(Reject::NotARequest.answer().is_none());
    }

    #[test]
    fn cut_and_oversized_requests_are_malformed() {
        for d in [
            &b"\0\x01"[..],
            b"\0\x01f",
            b"\0\x01f\0",
            b"\0\x01\0octet\0",
            b"\0\x01f\0octet",
            b"\0\x01f\0octet\0blksize\0",
        ] {
            assert_eq!(parse(d), Err(Reject::Malformed), "{d:?}");
        }
        let long = "a".repeat(600);
        assert_eq!(parse(&rrq(&[&long, "octet"])), Err(Reject::Malformed));
    }

    #[test]
    fn no_prefix_or_byte_change_of_a_request_panics() {
        let good = rrq(&["undionly.kpxe", "octet", "blksize", "1468", "tsize", "0"]);
        for cut in 0..good.len() {
            let _ = parse(&good[..cut]);
            for value in [0, 1, 0x2f, 0x7f, 0xff] {
                let mut changed = good.clone();
                changed[cut] = value;
                let _ = parse(&changed);
            }
        }
    }
}
