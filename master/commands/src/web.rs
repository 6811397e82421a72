//! Addresses that changes are posted to: `http://host[:port]/path` and `https://...`.

use crate::notice::{Kind, kind};

/// Longest address, in bytes.
const LONGEST: usize = 2048;

/// An address in its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// With TLS.
    pub tls: bool,
    /// Name or number, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path with the query, from its slash on.
    pub path: String,
}

impl Address {
    /// Reads an address.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub fn parse(text: &str) -> Result<Address, String> {
        if kind(text) != Kind::Web {
            return Err(format!("{text} is not the address of a web server: it does not begin with http"));
        }
        if text.len() > LONGEST || text.bytes().any(|byte| !(0x21..0x7f).contains(&byte)) {
            return Err(format!(
                "an address has at most {LONGEST} plain characters; others are written as %XX"
            ));
        }
        let (scheme, rest) = text.split_once("://").unwrap_or_default();
        let tls = scheme.eq_ignore_ascii_case("https");
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.contains('@') {
            return Err(format!("{text}: a name and password in an address would be seen by everybody"));
        }
        let (host, port) = match authority.strip_prefix('[').and_then(|v6| v6.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':').filter(|_| !port.is_empty())),
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        let port = match port {
            None => Some(if tls { 443 } else { 80 }),
            Some(port) => port.parse().ok().filter(|port| *port != 0),
        };
        let port = port.ok_or_else(|| format!("{text}: the port is no number from 1 to 65535"))?;
        if host.is_empty() {
            return Err(format!("{text}: there is no host in this address"));
        }
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Address { tls, host: host.to_owned(), port, path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart_and_strange_ones_are_refused() {
        let check = |text: &str, expected: Option<(bool, &str, u16, &str)>| {
            let found = Address::parse(text).ok();
            let found = found.as_ref().map(|a| (a.tls, a.host.as_str(), a.port, a.path.as_str()));
            assert_eq!(found, expected, "{text}");
        };
        check("http://h/x?y=1#z", Some((false, "h", 80, "/x?y=1")));
        check("HTTPS://h.example:8443", Some((true, "h.example", 8443, "/")));
        check("http://[::1]:81?a", Some((false, "::1", 81, "/?a")));
        check("http://[::1]", Some((false, "::1", 80, "/")));
        for wrong in [
            "ftp://h",
            "http://",
            "http://:80/",
            "http://h:0",
            "http://h:70000",
            "http://u:p@h/",
            "http://h/ä",
            "http://h/a b",
        ] {
            check(wrong, None);
        }
    }
}
