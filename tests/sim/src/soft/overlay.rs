//! Reads cpio archives (newc) as the kernel does when it unpacks an initramfs.

use std::path::Path;

use super::Fault;

const HEADER: usize = 110;

/// Writes the files and folders of all uncompressed archives at the beginning of `bytes` below `root`.
/// Stops at compressed data; says how many files were written.
///
/// # Errors
/// [`Fault::Script`] for a broken archive or a name that leads outside.
pub fn unpack(bytes: &[u8], root: &Path) -> Result<usize, Fault> {
    let (mut at, mut files) = (0, 0);
    while bytes.get(at..at + 6) == Some(b"070701") {
        let entry = read(bytes, at)?;
        at = entry.next;
        if entry.name == "TRAILER!!!" {
            // Archives may follow each other, with zeros between them.
            while bytes.get(at) == Some(&0) {
                at += 1;
            }
            continue;
        }
        let name = entry.name.trim_start_matches("./").trim_start_matches('/');
        if name.split('/').any(|part| part == "..") {
            return Err(Fault::Script(format!("the archive names {name}")));
        }
        let path = root.join(name);
        let write = || -> std::io::Result<()> {
            match entry.mode & 0o170_000 {
                0o040_000 => std::fs::create_dir_all(&path),
                0o100_000 => {
                    if let Some(folder) = path.parent() {
                        std::fs::create_dir_all(folder)?;
                    }
                    std::fs::write(&path, entry.content)
                }
                // Links and devices of an overlay mean nothing without a kernel.
                _ => Ok(()),
            }
        };
        write().map_err(Fault::system(format!("writing {}", path.display())))?;
        files += usize::from(entry.mode & 0o170_000 == 0o100_000);
    }
    Ok(files)
}

struct Entry<'a> {
    name: String,
    mode: u32,
    content: &'a [u8],
    next: usize,
}

fn read(bytes: &[u8], at: usize) -> Result<Entry<'_>, Fault> {
    let broken = || Fault::Script(format!("the archive is broken at byte {at}"));
    let field = |index: usize| -> Option<usize> {
        let start = at + 6 + 8 * index;
        let digits = std::str::from_utf8(bytes.get(start..start + 8)?).ok()?;
        usize::from_str_radix(digits, 16).ok()
    };
    let mode = field(1).and_then(|mode| u32::try_from(mode).ok()).ok_or_else(broken)?;
    let (size, length) = (field(6).ok_or_else(broken)?, field(11).ok_or_else(broken)?);
    let name = bytes.get(at + HEADER..at + HEADER + length).ok_or_else(broken)?;
    let name = String::from_utf8_lossy(name).trim_end_matches('\0').to_owned();
    let start = (at + HEADER + length).next_multiple_of(4);
    let content = bytes.get(start..start + size).ok_or_else(broken)?;
    Ok(Entry { name, mode, content, next: (start + size).next_multiple_of(4) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn entry(name: &str, mode: u32, content: &[u8]) -> Vec<u8> {
        let mut bytes = format!(
            "070701{:08x}{mode:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}",
            1,
            0,
            0,
            1,
            0,
            content.len(),
            0,
            0,
            0,
            0,
            name.len() + 1,
            0
        )
        .into_bytes();
        bytes.extend(name.bytes().chain([0]));
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend(content);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn archives_one_after_the_other_are_unpacked_until_compressed_data() {
        let root = tempfile::tempdir().unwrap();
        let mut bytes = entry("etc", 0o040_755, b"");
        bytes.extend(entry("etc/margay/token", 0o100_600, b"abc"));
        bytes.extend(entry("TRAILER!!!", 0, b""));
        bytes.extend([0; 12]);
        bytes.extend(entry("other", 0o100_644, b"x"));
        bytes.extend(entry("TRAILER!!!", 0, b""));
        bytes.extend([0x1f, 0x8b, 1, 2, 3]);
        assert_eq!(unpack(&bytes, root.path()).unwrap(), 2);
        assert_eq!(std::fs::read(root.path().join("etc/margay/token")).unwrap(), b"abc");
    }

    #[test]
    fn names_that_lead_outside_and_cut_archives_are_refused() {
        let root = tempfile::tempdir().unwrap();
        assert!(unpack(&entry("../x", 0o100_644, b"x"), root.path()).is_err());
        let whole = entry("a", 0o100_644, b"content");
        for length in 6..whole.len() - 4 {
            assert!(unpack(&whole[..length], root.path()).is_err(), "{length}");
        }
    }
}
