//! Names that are parsed once at the edge and trusted inside.

use std::fmt;

/// Why a text is not such a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not a valid {what}: {reason}")]
pub struct NameError {
    text: String,
    what: &'static str,
    reason: &'static str,
}

/// Longest name of a node, group or service node, in bytes.
pub const MAX_NAME: usize = 255;

/// Checks a node, group or service node name: letters, digits, `-`, `_`, `.`, not beginning with `-` or `.`.
///
/// # Errors
/// [`NameError`] with the reason.
pub fn check_name<'a>(what: &'static str, text: &'a str) -> Result<&'a str, NameError> {
    let refuse = |reason| Err(NameError { text: text.chars().take(64).collect(), what, reason });
    if text.is_empty() {
        return refuse("it is empty");
    }
    if text.len() > MAX_NAME {
        return refuse("it is longer than 255 characters");
    }
    if text.starts_with(['-', '.']) {
        return refuse("it begins with a dash or a dot");
    }
    if !text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
        return refuse("only letters, digits, dash, underscore and dot are allowed");
    }
    Ok(text)
}

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Reads `02:00:00:00:00:01`, also with dashes or without separators, in either case.
    ///
    /// # Errors
    /// [`NameError`] when it is not six bytes in hexadecimal.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let wrong =
            |reason| NameError { text: text.chars().take(64).collect(), what: "Ethernet address", reason };
        let digits: Vec<u8> = text.bytes().filter(|b| !matches!(b, b':' | b'-' | b'.')).collect();
        if digits.len() != 12 || text.len() > 17 {
            return Err(wrong("it does not have twelve hexadecimal digits"));
        }
        let mut bytes = [0; 6];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            let hex = std::str::from_utf8(pair).map_err(|_| wrong("it is not text"))?;
            *byte =
                u8::from_str_radix(hex, 16).map_err(|_| wrong("it has a digit that is not hexadecimal"))?;
        }
        Ok(Self(bytes))
    }

    /// `02-00-00-00-00-01`, as boot loaders write it.
    #[must_use]
    pub fn hyphened(&self) -> String {
        self.to_string().replace(':', "-")
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_mac_is_read_in_every_usual_writing_and_printed_in_one() {
        for text in ["02:AB:00:00:00:01", "02-ab-00-00-00-01", "02ab00000001"] {
            assert_eq!(Mac::parse(text).unwrap().to_string(), "02:ab:00:00:00:01");
        }
    }

    #[test]
    fn what_is_not_a_mac_is_refused() {
        for text in ["", "02:ab", "02:ab:00:00:00:0g", "02:ab:00:00:00:01:02", "0:2:ab:0:0:0:1"] {
            assert!(Mac::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_with_shell_characters_are_refused() {
        for text in ["", "-n1", ".n1", "n1;reboot", "n 1", "n1\n", "n/1"] {
            assert!(check_name("node name", text).is_err(), "{text}");
        }
        assert!(check_name("node name", "n1-bmc.cluster_x").is_ok());
    }
}
