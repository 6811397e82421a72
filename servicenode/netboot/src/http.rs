//! The parts of HTTP that are decisions: byte ranges and the MAC in a query.

use wire::names::Mac;

/// What a Range header asks of a content of a known length (RFC 9110, 14).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// The whole content: no header, or one that is to be ignored.
    Whole,
    /// These bytes, both ends included.
    Part(u64, u64),
    /// Nothing of the content.
    Unsatisfiable,
}

/// Reads a Range header. Several ranges at once are ignored, as the RFC allows.
pub fn range(header: Option<&str>, length: u64) -> Range {
    let Some(spec) = header.and_then(|h| h.trim().strip_prefix("bytes=")) else { return Range::Whole };
    let Some((from, to)) = spec.split_once('-') else { return Range::Whole };
    let number = |text: &str| {
        let digits = !text.is_empty() && text.len() <= 18 && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse::<u64>().ok()).flatten()
    };
    match (from.trim(), to.trim()) {
        ("", to) => match number(to) {
            Some(0) => Range::Unsatisfiable,
            Some(_) if length == 0 => Range::Unsatisfiable,
            Some(last) => Range::Part(length.saturating_sub(last), length - 1),
            None => Range::Whole,
        },
        (from, to) => {
            let Some(from) = number(from) else { return Range::Whole };
            let to = match (to, number(to)) {
                ("", _) => length.saturating_sub(1),
                (_, Some(to)) if to >= from => to.min(length.saturating_sub(1)),
                _ => return Range::Whole,
            };
            if from >= length { Range::Unsatisfiable } else { Range::Part(from, to) }
        }
    }
}

/// The `mac=` of a query string.
pub fn mac_of(query: Option<&str>) -> Option<Mac> {
    let value = query?.split('&').find_map(|pair| pair.strip_prefix("mac="))?;
    if value.len() > 40 {
        return None;
    }
    Mac::parse(&value.replace("%3A", ":").replace("%3a", ":")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_rfc_says() {
        for (header, length, want) in [
            (None, 10, Range::Whole),
            (Some("bytes=0-3"), 10, Range::Part(0, 3)),
            (Some("bytes=4-"), 10, Range::Part(4, 9)),
            (Some("bytes=-3"), 10, Range::Part(7, 9)),
            (Some("bytes=-30"), 10, Range::Part(0, 9)),
            (Some("bytes=5-999"), 10, Range::Part(5, 9)),
            (Some("bytes=10-"), 10, Range::Unsatisfiable),
            (Some("bytes=-0"), 10, Range::Unsatisfiable),
            (Some("bytes=0-"), 0, Range::Unsatisfiable),
            (Some("bytes=-5"), 0, Range::Unsatisfiable),
            (Some("bytes=5-2"), 10, Range::Whole),
            (Some("bytes=a-b"), 10, Range::Whole),
            (Some("bytes=0-1,3-4"), 10, Range::Whole),
            (Some("lines=0-1"), 10, Range::Whole),
            (Some("bytes=99999999999999999999-"), 10, Range::Whole),
        ] {
            assert_eq!(range(header, length), want, "{header:?}");
        }
    }

    #[test]
    fn mac_is_found_in_the_query() {
        let want = Some(Mac([0x52, 0x54, 0, 1, 2, 3]));
        assert_eq!(mac_of(Some("mac=52:54:00:01:02:03")), want);
        assert_eq!(mac_of(Some("x=1&mac=52%3A54%3a00:01:02:03&y")), want);
        assert_eq!(mac_of(Some("mac=52-54-00-01-02-03")), want);
        for bad in ["", "mac=", "mac=zz", "max=52:54:00:01:02:03", "mac=52:54:00:01:02:03:04"] {
            assert_eq!(mac_of(Some(bad)), None, "{bad}");
        }
    }
}
