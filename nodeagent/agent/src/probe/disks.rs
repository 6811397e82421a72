//! Disks: the block devices that are real hardware.

use std::path::Path;

use wire::hardware::Disk;

use super::{names, text};

/// Most disks in one report.
const MAX_DISKS: usize = 512;
/// `/sys/block/*/size` counts in these, whatever the disk's sectors are.
const SECTOR: u64 = 512;
/// Kernel names of things that are no disks.
const NOT_DISKS: [&str; 8] = ["loop", "ram", "zram", "dm-", "md", "sr", "fd", "nbd"];

/// All disks, ordered by kernel name.
#[must_use]
pub fn list(root: &Path) -> Vec<Disk> {
    let block = root.join("sys/block");
    names(&block)
        .into_iter()
        .filter(|name| !NOT_DISKS.iter().any(|prefix| name.starts_with(prefix)))
        .filter_map(|name| {
            let folder = block.join(&name);
            let sectors: u64 = text(&folder.join("size")).parse().ok()?;
            let model = text(&folder.join("device/model"));
            let serial = text(&folder.join("device/serial"));
            // virtio shows it one folder higher.
            let serial = if serial.is_empty() { text(&folder.join("serial")) } else { serial };
            (sectors > 0).then(|| Disk { name, bytes: sectors.saturating_mul(SECTOR), model, serial })
        })
        .take(MAX_DISKS)
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::fixture::write;
    use super::*;

    #[test]
    fn disks_are_listed_and_loop_devices_and_empty_readers_are_not() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "sys/block/sda/size", "1875385008\n");
        write(root.path(), "sys/block/sda/device/model", "SAMSUNG MZ7LH960 ");
        write(root.path(), "sys/block/loop0/size", "8");
        write(root.path(), "sys/block/sdb/size", "0");
        let found = list(root.path());
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].name.as_str(), found[0].bytes), ("sda", 960_197_124_096));
        assert_eq!(found[0].model, "SAMSUNG MZ7LH960");
    }
}
