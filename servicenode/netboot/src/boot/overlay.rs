//! The small archive beside the discovery image: the cluster's CA, and for a known node its
//! one-time token.

/// The kernel wants the next archive at a multiple of four; a block is what cpio tools write.
const BLOCK: usize = 512;

/// An uncompressed cpio archive (newc) with `/etc/margay/ca.pem` and, where there is a token,
/// `/etc/margay/token` (readable by root only).
pub fn overlay(ca_pem: &[u8], token: Option<&str>) -> Vec<u8> {
    let mut out = Vec::with_capacity(ca_pem.len() + 1024);
    entry(&mut out, "etc", 0o040_755, b"");
    entry(&mut out, "etc/margay", 0o040_755, b"");
    entry(&mut out, "etc/margay/ca.pem", 0o100_644, ca_pem);
    if let Some(token) = token {
        entry(&mut out, "etc/margay/token", 0o100_600, token.as_bytes());
    }
    entry(&mut out, "TRAILER!!!", 0, b"");
    out.resize(out.len().next_multiple_of(BLOCK), 0);
    out
}

fn entry(out: &mut Vec<u8>, name: &str, mode: u32, content: &[u8]) {
    use std::fmt::Write;
    let inode = out.len() + 1;
    let links = if mode & 0o040_000 == 0 { 1 } else { 2 };
    let mut head = String::from("070701");
    let fields = [inode, mode as usize, 0, 0, links, 0, content.len(), 0, 0, 0, 0, name.len() + 1, 0];
    for field in fields {
        let _ = write!(head, "{field:08x}");
    }
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(name.as_bytes());
    out.push(0);
    out.resize(out.len().next_multiple_of(4), 0);
    out.extend_from_slice(content);
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Reads the archive back: names, modes and contents.
    fn read(mut bytes: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut found = Vec::new();
        loop {
            assert_eq!(&bytes[..6], b"070701");
            let field = |n: usize| {
                let text = std::str::from_utf8(&bytes[6 + n * 8..14 + n * 8]).unwrap();
                u32::from_str_radix(text, 16).unwrap()
            };
            let (mode, size, name_len) = (field(1), field(6) as usize, field(11) as usize);
            let name = std::str::from_utf8(&bytes[110..110 + name_len - 1]).unwrap().to_owned();
            if name == "TRAILER!!!" {
                return found;
            }
            let start = (110 + name_len).next_multiple_of(4);
            found.push((name, mode, bytes[start..start + size].to_vec()));
            bytes = &bytes[(start + size).next_multiple_of(4)..];
        }
    }

    #[test]
    fn unknown_machine_gets_the_ca_only() {
        let archive = overlay(b"PEM\n", None);
        assert_eq!(archive.len() % 512, 0);
        let entries = read(&archive);
        let names: Vec<_> = entries.iter().map(|e| e.0.as_str()).collect();
        assert_eq!(names, ["etc", "etc/margay", "etc/margay/ca.pem"]);
        assert_eq!(entries[2].2, b"PEM\n");
    }

    #[test]
    fn token_is_for_root_only() {
        let entries = read(&overlay(b"PEM", Some("0f0f")));
        assert_eq!(entries[3].0, "etc/margay/token");
        assert_eq!(entries[3].1 & 0o777, 0o600);
        assert_eq!(entries[3].2, b"0f0f");
    }
}
