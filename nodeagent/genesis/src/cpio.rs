//! An initramfs archive (cpio, newc form) that is byte for byte the same for the same contents.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::{Context, Result};
use cpio::newc::{Builder, ModeFileType, trailer};

/// What one path in the archive is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    Folder,
    File { bytes: Vec<u8>, executable: bool },
    Link { target: String },
    Device { major: u32, minor: u32 },
}

/// A tree of files that is written as one archive; paths are relative (`bin/sh`).
#[derive(Debug, Default)]
pub struct Archive {
    // Ordered, so that a folder comes before what it holds and two builds give equal bytes.
    entries: BTreeMap<String, Entry>,
}

impl Archive {
    /// An archive that holds nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a folder and the folders above it.
    pub fn folder(&mut self, path: &str) {
        self.parents(path);
        self.entries.insert(path.to_owned(), Entry::Folder);
    }

    /// Adds an ordinary file, replacing what stood at the path.
    pub fn file(&mut self, path: &str, bytes: Vec<u8>) {
        self.put(path, Entry::File { bytes, executable: false });
    }

    /// Adds a program.
    pub fn program(&mut self, path: &str, bytes: Vec<u8>) {
        self.put(path, Entry::File { bytes, executable: true });
    }

    /// Adds a symbolic link unless the path is already taken.
    pub fn link(&mut self, path: &str, target: &str) {
        if !self.entries.contains_key(path) {
            self.put(path, Entry::Link { target: target.to_owned() });
        }
    }

    /// Adds a character device.
    pub fn device(&mut self, path: &str, major: u32, minor: u32) {
        self.put(path, Entry::Device { major, minor });
    }

    /// Writes the archive; owner root, time zero, numbered in order.
    pub fn write(&self, mut out: impl Write) -> Result<()> {
        for (number, (path, entry)) in (1u32..).zip(&self.entries) {
            let named = Builder::new(path).ino(number).uid(0).gid(0).mtime(0);
            let (builder, bytes): (Builder, &[u8]) = match entry {
                Entry::Folder => {
                    (named.nlink(2).mode(0o755).set_mode_file_type(ModeFileType::Directory), b"")
                }
                Entry::File { bytes, executable } => {
                    let mode = if *executable { 0o755 } else { 0o644 };
                    (named.nlink(1).mode(mode).set_mode_file_type(ModeFileType::Regular), bytes)
                }
                Entry::Link { target } => {
                    (named.nlink(1).mode(0o777).set_mode_file_type(ModeFileType::Symlink), target.as_bytes())
                }
                Entry::Device { major, minor } => {
                    let device = named.nlink(1).mode(0o600).set_mode_file_type(ModeFileType::Char);
                    (device.rdev_major(*major).rdev_minor(*minor), b"")
                }
            };
            let size = u32::try_from(bytes.len()).with_context(|| format!("{path} is too large for cpio"))?;
            let mut member = builder.write(&mut out, size);
            member.write_all(bytes).with_context(|| format!("writing {path}"))?;
            member.finish().with_context(|| format!("ending {path}"))?;
        }
        trailer(out).context("writing the end of the archive")?;
        Ok(())
    }

    fn put(&mut self, path: &str, entry: Entry) {
        self.parents(path);
        self.entries.insert(path.to_owned(), entry);
    }

    fn parents(&mut self, path: &str) {
        for (end, _) in path.match_indices('/') {
            self.entries.entry(path[..end].to_owned()).or_insert(Entry::Folder);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn sample() -> Archive {
        let mut archive = Archive::new();
        archive.program("bin/tool", b"#!".to_vec());
        archive.link("bin/sh", "tool");
        archive.file("etc/deep/er/name", b"x".to_vec());
        archive.device("dev/console", 5, 1);
        archive
    }

    #[test]
    fn equal_contents_give_equal_bytes() {
        let (mut one, mut two) = (Vec::new(), Vec::new());
        sample().write(&mut one).unwrap();
        sample().write(&mut two).unwrap();
        assert_eq!(one, two);
        assert_eq!(one.len() % 4, 0);
    }

    #[test]
    fn folders_come_before_what_they_hold_and_other_tools_read_the_archive() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.cpio");
        sample().write(std::fs::File::create(&path).unwrap()).unwrap();
        let listing = std::process::Command::new("busybox")
            .args(["cpio", "-t"])
            .stdin(std::fs::File::open(&path).unwrap())
            .output()
            .unwrap();
        let names = String::from_utf8_lossy(&listing.stdout).into_owned();
        let names: Vec<_> = names.lines().collect();
        assert_eq!(
            names,
            [
                "bin",
                "bin/sh",
                "bin/tool",
                "dev",
                "dev/console",
                "etc",
                "etc/deep",
                "etc/deep/er",
                "etc/deep/er/name"
            ]
        );
    }

    #[test]
    fn a_link_never_replaces_a_program() {
        let mut archive = sample();
        archive.link("bin/tool", "busybox");
        assert!(matches!(archive.entries["bin/tool"], Entry::File { .. }));
    }
}
