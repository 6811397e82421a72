//! Which kernel modules the image carries: the wanted ones and everything they depend on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Modules by name: network cards, virtual devices, the way to the machine's own BMC, disks to be listed.
///
/// A name that ends in `*` stands for every module that begins so.
pub const WANTED: &[&str] = &[
    "virtio_pci",
    "virtio_net",
    "virtio_blk",
    "virtio_scsi",
    "virtio-rng",
    "virtio_console",
    "virtio_balloon",
    "e1000",
    "e1000e",
    "igb",
    "igbvf",
    "ixgbe",
    "ixgbevf",
    "ipmi_*",
    "ahci",
    "ata_piix",
    "sd_mod",
    "nvme",
    "af_packet_diag",
];

/// What is loaded at the start whether the machine has such a device or not: nothing else asks for these in
/// an image without udev. The IPMI watchdog is not among them: it could restart a machine that works.
pub const LOADED: &[&str] = &[
    "virtio_pci",
    "virtio_net",
    "virtio_blk",
    "virtio_scsi",
    "virtio-rng",
    "e1000",
    "e1000e",
    "igb",
    "ixgbe",
    "ahci",
    "ata_piix",
    "sd_mod",
    "nvme",
    "ipmi_si",
    "ipmi_devintf",
];

/// Modules of [`WANTED`] that a kernel may lack without the build failing (built in, or not for this one).
const OPTIONAL: &[&str] = &["af_packet_diag", "virtio_balloon", "virtio_console", "igbvf", "ixgbevf"];

/// The files of all wanted modules and their dependencies, relative to the modules folder of the kernel.
///
/// `dep` is the text of `modules.dep`, `builtin` that of `modules.builtin`.
pub fn closure(dep: &str, builtin: &str, wanted: &[&str]) -> Result<BTreeSet<String>> {
    let graph: BTreeMap<&str, Vec<&str>> = dep
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(file, needs)| (file.trim(), needs.split_whitespace().collect()))
        .collect();
    let built_in: BTreeSet<String> = builtin.lines().map(name_of).collect();
    let mut taken = BTreeSet::new();
    for want in wanted {
        let found: Vec<&str> = graph.keys().copied().filter(|file| matches(want, &name_of(file))).collect();
        if found.is_empty() && !built_in.iter().any(|name| matches(want, name)) && !OPTIONAL.contains(want) {
            bail!("the kernel has no module {want}");
        }
        for file in found {
            taken.insert(file.to_owned());
            taken.extend(graph[file].iter().map(|&needed| needed.to_owned()));
        }
    }
    Ok(taken)
}

/// Writes `modules.dep` and its companions for the kernel `version` whose modules lie below `root`.
pub fn index(root: &Path, version: &str) -> Result<()> {
    let depmod = ["/sbin/depmod", "/usr/sbin/depmod"]
        .into_iter()
        .find(|path| Path::new(path).exists())
        .context("depmod is missing (package kmod)")?;
    crate::kernel::run(std::process::Command::new(depmod).arg("-b").arg(root).arg(version))?;
    Ok(())
}

fn matches(want: &str, name: &str) -> bool {
    let want = want.replace('-', "_");
    match want.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == want,
    }
}

/// `kernel/drivers/net/virtio_net.ko.xz` -> `virtio_net`, with `-` and `_` made equal as the kernel does.
fn name_of(file: &str) -> String {
    let base = file.rsplit('/').next().unwrap_or(file);
    base.split(".ko").next().unwrap_or(base).replace('-', "_")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const DEP: &str = "kernel/net/virtio_net.ko: kernel/net/failover.ko kernel/virtio/virtio.ko\n\
                       kernel/net/failover.ko:\nkernel/virtio/virtio.ko:\nkernel/ipmi/ipmi_si.ko: kernel/ipmi/ipmi_msghandler.ko\n\
                       kernel/ipmi/ipmi_msghandler.ko:\nkernel/rng/virtio-rng.ko: kernel/virtio/virtio.ko\n";

    #[test]
    fn a_module_brings_everything_it_depends_on() {
        let taken = closure(DEP, "", &["virtio_net"]).unwrap();
        let taken: Vec<_> = taken.iter().map(String::as_str).collect();
        assert_eq!(taken, ["kernel/net/failover.ko", "kernel/net/virtio_net.ko", "kernel/virtio/virtio.ko"]);
    }

    #[test]
    fn a_star_takes_all_and_dashes_equal_underscores() {
        assert_eq!(closure(DEP, "", &["ipmi_*"]).unwrap().len(), 2);
        assert_eq!(closure(DEP, "", &["virtio_rng"]).unwrap().len(), 2);
    }

    #[test]
    fn a_missing_module_is_named_unless_it_is_built_in() {
        assert!(closure(DEP, "", &["igb"]).unwrap_err().to_string().contains("igb"));
        assert!(closure(DEP, "kernel/net/igb.ko\n", &["igb"]).unwrap().is_empty());
    }
}
