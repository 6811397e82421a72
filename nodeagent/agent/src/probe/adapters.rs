//! Network adapters: kernel name, the names an installed system may use, MAC, place on the bus, driver,
//! link, addresses.
//!
//! Facts of the hardware are read below the given root. Addresses are those of our own network namespace,
//! and where the root shows no interfaces (no sysfs of ours) the namespace's own are taken.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use wire::hardware::{Adapter, LinkState, MAX_ADAPTERS};

use super::{names, text};
use crate::netlink::{self, Netlink};

/// All adapters in the order of their names; devices that only the bus knows come last, without a name.
#[must_use]
pub fn list(root: &Path) -> Vec<Adapter> {
    let (links, addresses) = namespace();
    let class = root.join("sys/class/net");
    let shown = interfaces(&class);
    let mut adapters: Vec<Adapter> = if shown.is_empty() {
        let real = links.iter().filter(|link| !link.loopback && !link.mac.is_empty());
        real.map(|link| Adapter { name: link.name.clone(), ..Adapter::default() }).collect()
    } else {
        shown.iter().map(|name| from_sysfs(root, &class.join(name), name)).collect()
    };
    for adapter in &mut adapters {
        if let Some(link) = links.iter().find(|link| link.name == adapter.name) {
            complete(adapter, link, &addresses);
        }
        adapter.candidate_names = candidates(root, adapter);
    }
    let used: BTreeSet<_> = adapters.iter().map(|adapter| adapter.pci.clone()).collect();
    adapters.extend(nameless(root, &used));
    adapters.truncate(MAX_ADAPTERS);
    adapters
}

fn namespace() -> (Vec<netlink::Link>, Vec<netlink::Address>) {
    let ask = || -> std::io::Result<_> {
        let mut netlink = Netlink::open()?;
        Ok((netlink.links()?, netlink.addresses()?))
    };
    ask().unwrap_or_default()
}

/// Ethernet interfaces of the sysfs; those without a device behind them (bridges, bonds) only where no
/// interface has one.
fn interfaces(class: &Path) -> Vec<String> {
    let ethernet = |name: &String| {
        let kind = text(&class.join(name).join("type"));
        name != "lo" && class.join(name).is_dir() && (kind.is_empty() || kind == "1")
    };
    let all: Vec<_> = names(class).into_iter().filter(ethernet).collect();
    let real: Vec<_> = all.iter().filter(|name| class.join(name).join("device").exists()).cloned().collect();
    if real.is_empty() { all } else { real }
}

fn from_sysfs(root: &Path, folder: &Path, name: &str) -> Adapter {
    let device = fs::canonicalize(folder.join("device")).unwrap_or_default();
    let carrier = text(&folder.join("carrier"));
    let link = match (text(&folder.join("operstate")).as_str(), carrier.as_str()) {
        ("up", _) | (_, "1") => LinkState::Up,
        ("down" | "lowerlayerdown", _) | (_, "0") => LinkState::Down,
        _ => LinkState::Unknown,
    };
    Adapter {
        name: name.to_owned(),
        mac: text(&folder.join("address")).to_lowercase(),
        pci: below_devices(root, &device),
        vendor: id_name(&device, "vendor", "vendor_name"),
        model: id_name(&device, "device", "model_name"),
        driver: link_name(&device.join("driver")),
        link,
        ..Adapter::default()
    }
}

fn complete(adapter: &mut Adapter, link: &netlink::Link, addresses: &[netlink::Address]) {
    if adapter.mac.is_empty() {
        adapter.mac.clone_from(&link.mac);
    }
    if adapter.link == LinkState::Unknown {
        adapter.link = match link.operstate {
            6 => LinkState::Up,
            2 | 3 => LinkState::Down,
            _ => LinkState::Unknown,
        };
    }
    let own = addresses.iter().filter(|address| address.index == link.index);
    adapter.addresses = own.map(|own| format!("{}/{}", own.address, own.prefix)).collect();
}

/// The names that systemd's rules may give to the interface, most specific first.
fn candidates(root: &Path, adapter: &Adapter) -> Vec<String> {
    let mut found = Vec::new();
    let device = root.join("sys/devices").join(adapter.pci.trim_start_matches('/'));
    for file in ["acpi_index", "index"] {
        let index = text(&device.join(file));
        if !adapter.pci.is_empty() && index.parse::<u32>().is_ok_and(|index| index > 0) {
            found.push(format!("eno{index}"));
        }
    }
    // A virtio device is a child of its PCI function.
    let function = adapter.pci.rsplit('/').find_map(PciAddress::parse);
    if let Some(pci) = function {
        let many = pci.function > 0 || has_sibling(&device, &adapter.pci, pci);
        let part = if many { format!("f{}", pci.function) } else { String::new() };
        let domain = if pci.domain > 0 { format!("P{}", pci.domain) } else { String::new() };
        found.push(format!("en{domain}p{}s{}{part}", pci.bus, pci.slot));
        let port = text(&root.join("sys/class/net").join(&adapter.name).join("dev_port"));
        if port.parse::<u32>().is_ok_and(|port| port > 0) {
            found.push(format!("en{domain}p{}s{}{part}d{port}", pci.bus, pci.slot));
        }
    }
    if !adapter.mac.is_empty() {
        found.push(format!("enx{}", adapter.mac.replace(':', "")));
    }
    found.dedup();
    found
}

fn has_sibling(device: &Path, pci_path: &str, pci: PciAddress) -> bool {
    let own = pci_path.rsplit('/').next().is_some_and(|last| PciAddress::parse(last).is_some());
    let function = if own { Some(device) } else { device.parent() };
    let Some(bus) = function.and_then(Path::parent) else { return false };
    names(bus).iter().filter_map(|name| PciAddress::parse(name)).any(|other| {
        (other.domain, other.bus, other.slot) == (pci.domain, pci.bus, pci.slot)
            && other.function != pci.function
    })
}

/// Network controllers on the PCI bus to which no interface belongs (no driver for them).
fn nameless(root: &Path, used: &BTreeSet<String>) -> Vec<Adapter> {
    let bus = root.join("sys/bus/pci/devices");
    names(&bus)
        .into_iter()
        .filter(|name| text(&bus.join(name).join("class")).starts_with("0x02"))
        .filter_map(|name| {
            let device = fs::canonicalize(bus.join(&name)).ok()?;
            let pci = below_devices(root, &device);
            let taken = used.iter().any(|path| *path == pci || path.starts_with(&format!("{pci}/")));
            (!taken).then(|| Adapter {
                pci,
                vendor: id_name(&device, "vendor", "vendor_name"),
                model: id_name(&device, "device", "model_name"),
                driver: link_name(&device.join("driver")),
                ..Adapter::default()
            })
        })
        .collect()
}

/// A device's path below `/sys/devices`, with its leading slash; empty when it lies elsewhere.
fn below_devices(root: &Path, device: &Path) -> String {
    let base = fs::canonicalize(root.join("sys/devices")).unwrap_or_else(|_| PathBuf::from("/sys/devices"));
    match device.strip_prefix(base) {
        Ok(path) if !path.as_os_str().is_empty() => format!("/{}", path.display()),
        _ => String::new(),
    }
}

/// A vendor or model in words where we know them, else its number. The words lie in a file of their own
/// where a fixture or a firmware gives them.
fn id_name(device: &Path, file: &str, words: &str) -> String {
    let named = text(&device.join(words));
    if !named.is_empty() {
        return named;
    }
    // A virtio device counts its own numbers; what it is called stands at the PCI function above it.
    let is_function = |path: &&Path| path.file_name().is_some_and(|name| name.to_str().is_some_and(is_pci));
    let owner = device.ancestors().take(2).find(is_function).unwrap_or(device);
    let id = text(&owner.join(file));
    let Ok(number) = u16::from_str_radix(id.trim_start_matches("0x"), 16) else { return id };
    let known: &[(u16, &str)] = if file == "vendor" { &VENDORS } else { &MODELS };
    known.iter().find(|(known, _)| *known == number).map_or(id, |(_, name)| (*name).to_owned())
}

/// PCI vendors of network adapters (pci.ids).
const VENDORS: [(u16, &str); 12] = [
    (0x8086, "Intel Corporation"),
    (0x14e4, "Broadcom Inc. and subsidiaries"),
    (0x15b3, "Mellanox Technologies"),
    (0x10ec, "Realtek Semiconductor Co., Ltd."),
    (0x1af4, "Red Hat, Inc."),
    (0x1077, "QLogic Corp."),
    (0x19a2, "Emulex Corporation"),
    (0x10df, "Emulex Corporation"),
    (0x1425, "Chelsio Communications Inc"),
    (0x15ad, "VMware"),
    (0x177d, "Cavium, Inc."),
    (0x1d6a, "Aquantia Corp."),
];

/// PCI models of the adapters whose drivers are in the discovery image (pci.ids).
const MODELS: [(u16, &str); 12] = [
    (0x1000, "Virtio network device"),
    (0x1041, "Virtio 1.0 network device"),
    (0x100e, "82540EM Gigabit Ethernet Controller"),
    (0x10d3, "82574L Gigabit Network Connection"),
    (0x10c9, "82576 Gigabit Network Connection"),
    (0x1521, "I350 Gigabit Network Connection"),
    (0x1533, "I210 Gigabit Network Connection"),
    (0x10fb, "82599ES 10-Gigabit SFI/SFP+ Network Connection"),
    (0x1528, "Ethernet Controller 10-Gigabit X540-AT2"),
    (0x1563, "Ethernet Controller X550"),
    (0x10a7, "82575EB Gigabit Network Connection"),
    (0x1659, "NetXtreme BCM5721 Gigabit Ethernet PCI Express"),
];

fn link_name(link: &Path) -> String {
    let target = fs::read_link(link).ok();
    target.and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned())).unwrap_or_default()
}

fn is_pci(name: &str) -> bool {
    PciAddress::parse(name).is_some()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct PciAddress {
    domain: u32,
    bus: u32,
    slot: u32,
    function: u32,
}

impl PciAddress {
    /// Reads `0000:0c:00.1`.
    fn parse(text: &str) -> Option<Self> {
        let (place, function) = text.split_once('.')?;
        let mut parts = place.split(':');
        let mut number = || u32::from_str_radix(parts.next()?, 16).ok();
        let (domain, bus, slot) = (number()?, number()?, number()?);
        Some(Self { domain, bus, slot, function: function.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::fixture::{link, write};
    use super::*;

    fn adapter(root: &Path, name: &str, device: &str, mac: &str) {
        write(root, &format!("sys/class/net/{name}/address"), mac);
        write(root, &format!("sys/class/net/{name}/operstate"), "up\n");
        fs::create_dir_all(root.join("sys/devices").join(device)).unwrap();
        link(root, &format!("sys/class/net/{name}/device"), &format!("../../../devices/{device}"));
    }

    #[test]
    fn two_functions_of_one_card_get_the_names_of_the_installed_system() {
        let root = tempfile::tempdir().unwrap();
        let place = "pci0000:00/0000:00:01.0/0000:0c:00";
        adapter(root.path(), "eth9x0", &format!("{place}.0"), "34:40:B5:BE:6A:84");
        adapter(root.path(), "eth9x1", &format!("{place}.1"), "34:40:b5:be:6a:85");
        write(root.path(), &format!("sys/devices/{place}.0/acpi_index"), "1\n");
        write(root.path(), &format!("sys/devices/{place}.0/vendor"), "0x8086\n");
        write(root.path(), &format!("sys/devices/{place}.0/device"), "0x1521\n");
        link(root.path(), &format!("sys/devices/{place}.0/driver"), "../../../../bus/pci/drivers/igb");
        let found = list(root.path());
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].mac, "34:40:b5:be:6a:84");
        assert_eq!(found[0].pci, "/pci0000:00/0000:00:01.0/0000:0c:00.0");
        assert_eq!(found[0].candidate_names, ["eno1", "enp12s0f0", "enx3440b5be6a84"]);
        assert_eq!(found[1].candidate_names, ["enp12s0f1", "enx3440b5be6a85"]);
        assert_eq!((found[0].vendor.as_str(), found[0].driver.as_str()), ("Intel Corporation", "igb"));
        assert_eq!(found[0].model, "I350 Gigabit Network Connection");
        assert_eq!(found[0].link, LinkState::Up);
    }

    #[test]
    fn a_virtio_adapter_is_named_by_the_function_above_it() {
        let root = tempfile::tempdir().unwrap();
        adapter(root.path(), "eth9x0", "pci0000:00/0000:00:03.0/virtio0", "52:54:00:12:34:56");
        write(root.path(), "sys/devices/pci0000:00/0000:00:03.0/vendor", "0x1af4");
        write(root.path(), "sys/devices/pci0000:00/0000:00:03.0/device", "0x1000");
        write(root.path(), "sys/devices/pci0000:00/0000:00:03.0/virtio0/device", "0x0001");
        let found = list(root.path());
        assert_eq!(found[0].candidate_names, ["enp0s3", "enx525400123456"]);
        assert_eq!(found[0].pci, "/pci0000:00/0000:00:03.0/virtio0");
        assert_eq!(found[0].model, "Virtio network device");
    }

    #[test]
    fn a_card_without_a_driver_is_shown_without_a_name() {
        let root = tempfile::tempdir().unwrap();
        adapter(root.path(), "eth9x0", "pci0000:00/0000:00:03.0", "02:00:00:00:00:01");
        write(root.path(), "sys/devices/pci0000:00/0000:00:04.0/class", "0x020000");
        write(root.path(), "sys/devices/pci0000:00/0000:00:04.0/vendor", "0x14e4");
        write(root.path(), "sys/devices/pci0000:00/0000:00:03.0/class", "0x020000");
        for slot in ["3", "4"] {
            let device = format!("0000:00:0{slot}.0");
            let target = format!("../../../devices/pci0000:00/{device}");
            link(root.path(), &format!("sys/bus/pci/devices/{device}"), &target);
        }
        let found = list(root.path());
        assert_eq!(found.len(), 2);
        assert_eq!((found[1].name.as_str(), found[1].pci.as_str()), ("", "/pci0000:00/0000:00:04.0"));
        assert_eq!(found[1].vendor, "Broadcom Inc. and subsidiaries");
    }
}
