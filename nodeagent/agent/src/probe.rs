//! What this machine is made of. Every probe reads below a given root, so that a folder of text files
//! can stand for a machine; what cannot be read is left empty and never ends the report.

pub mod adapters;
pub mod bmc;
pub mod cpu;
pub mod disks;
pub mod dmi;
pub mod lldp;

use std::fs;
use std::io::Read;
use std::path::Path;

use wire::hardware::{Hardware, MAX_ADAPTERS};

/// Longest text of a probe's file; the rest is not read.
const MAX_TEXT: u64 = 4 * 1024 * 1024;

/// The whole machine, without the LLDP neighbors (they take seconds; see [`lldp`]).
///
/// `command_line` is the kernel's, for `BOOTIF`.
#[must_use]
pub fn hardware(root: &Path, command_line: &str) -> Hardware {
    let mut hardware = Hardware { arch: std::env::consts::ARCH.to_owned(), ..Hardware::default() };
    dmi::fill(root, &mut hardware);
    cpu::fill(root, &mut hardware);
    hardware.disks = disks::list(root);
    hardware.adapters = adapters::list(root);
    hardware.adapters.truncate(MAX_ADAPTERS);
    hardware.bmc = bmc::in_band(root);
    hardware.ssh_host_keys = host_keys(root);
    hardware.boot_mac = boot_mac(command_line);
    hardware
}

/// Public ssh host keys, `type base64` each.
#[must_use]
pub fn host_keys(root: &Path) -> Vec<String> {
    let mut keys: Vec<_> = names(&root.join("etc/ssh"))
        .into_iter()
        .filter(|name| name.starts_with("ssh_host_") && name.ends_with("_key.pub"))
        .filter_map(|name| {
            let line = text(&root.join("etc/ssh").join(name));
            let mut words = line.split_whitespace();
            Some(format!("{} {}", words.next()?, words.next()?))
        })
        .collect();
    keys.sort();
    keys
}

/// Identifies this boot of the machine.
#[must_use]
pub fn boot_id(root: &Path) -> String {
    let id = text(&root.join("proc/sys/kernel/random/boot_id"));
    if id.is_empty() { text(Path::new("/proc/sys/kernel/random/boot_id")) } else { id }
}

/// `BOOTIF=01-02-00-00-00-00-01` of the kernel command line, in colon form.
fn boot_mac(command_line: &str) -> String {
    let value = command_line.split_whitespace().find_map(|word| word.strip_prefix("BOOTIF="));
    let mac = value.map(|value| value.strip_prefix("01-").unwrap_or(value));
    mac.and_then(|mac| wire::names::Mac::parse(mac).ok()).map(|mac| mac.to_string()).unwrap_or_default()
}

/// A small file as trimmed text; empty when it cannot be read.
pub(crate) fn text(path: &Path) -> String {
    let mut bytes = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(MAX_TEXT).read_to_end(&mut bytes));
    match read {
        Ok(_) => {
            String::from_utf8_lossy(&bytes).trim_matches(|c: char| c.is_whitespace() || c == '\0').to_owned()
        }
        Err(_) => String::new(),
    }
}

/// Names in a folder, ordered; none when it cannot be read.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<_> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    names
}

#[cfg(test)]
pub(crate) mod fixture {
    //! A machine made of text files.
    #![allow(clippy::unwrap_used)]
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    /// Writes a file and the folders above it.
    pub fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Makes a relative link and the folders above it.
    pub fn link(root: &Path, path: &str, target: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn bootif_is_read_in_the_form_of_boot_loaders() {
        assert_eq!(boot_mac("quiet BOOTIF=01-02-ab-00-00-00-01 ro"), "02:ab:00:00:00:01");
        assert_eq!(boot_mac("BOOTIF=nonsense"), "");
        assert_eq!(boot_mac(""), "");
    }

    #[test]
    fn host_keys_lose_their_comments() {
        let root = tempfile::tempdir().unwrap();
        fixture::write(root.path(), "etc/ssh/ssh_host_ed25519_key.pub", "ssh-ed25519 AAAAC3 root@n1\n");
        fixture::write(root.path(), "etc/ssh/ssh_host_ed25519_key", "secret");
        assert_eq!(host_keys(root.path()), ["ssh-ed25519 AAAAC3"]);
    }

    #[test]
    fn an_empty_root_is_an_empty_machine() {
        let root = tempfile::tempdir().unwrap();
        let found = hardware(root.path(), "");
        assert_eq!((found.uuid.as_str(), found.serial.as_str(), found.disks.len()), ("", "", 0));
    }
}
