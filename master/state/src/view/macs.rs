//! The little language of `mac.mac`: `MAC!host|MAC!*NOIP*`.

use wire::names::Mac;

/// Host tag of an adapter without an address.
pub const NO_IP: &str = "*NOIP*";

/// One adapter in `mac.mac`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MacEntry {
    /// The address.
    pub mac: Mac,
    /// Host name of the adapter; the node itself when no tag is given; `*NOIP*` for none.
    pub host: String,
}

/// The adapters in the value of `mac.mac` of `node`. What is not a MAC is left out.
#[must_use]
pub fn parse_macs(node: &str, value: &str) -> Vec<MacEntry> {
    value
        .split('|')
        .filter_map(|part| {
            let (mac, host) = part.trim().split_once('!').unwrap_or((part.trim(), node));
            let mac = Mac::parse(mac).ok()?;
            Some(MacEntry { mac, host: if host.is_empty() { node.to_owned() } else { host.to_owned() } })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &str, expected: &[(&str, &str)]) {
        let found: Vec<_> =
            parse_macs("n1", value).into_iter().map(|entry| (entry.mac.to_string(), entry.host)).collect();
        let expected: Vec<_> = expected.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        assert_eq!(found, expected, "{value}");
    }

    #[test]
    fn the_mac_language_is_read() {
        check("", &[]);
        check("02:00:00:00:00:0A", &[("02:00:00:00:00:0a", "n1")]);
        check(
            "02:00:00:00:00:01|02:00:00:00:00:02!n1-eth1|02:00:00:00:00:03!*NOIP*",
            &[("02:00:00:00:00:01", "n1"), ("02:00:00:00:00:02", "n1-eth1"), ("02:00:00:00:00:03", NO_IP)],
        );
        check("rubbish|02-00-00-00-00-01!", &[("02:00:00:00:00:01", "n1")]);
    }
}
