//! What a machine is made of, as its agent reports it.

use crate::{Decode, Encode};

/// Most adapters in one report (seeds: GA-7).
pub const MAX_ADAPTERS: usize = 1024;
/// Largest adapter report, in bytes (seeds: GA-7).
pub const MAX_REPORT: usize = 1024 * 1024;

/// A machine. Empty texts mean "not known".
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct Hardware {
    /// `uname -m`.
    pub arch: String,
    /// DMI product UUID, lower case.
    pub uuid: String,
    /// DMI system vendor.
    pub vendor: String,
    /// DMI product name.
    pub product: String,
    /// Machine type and model as xCAT's `vpd.mtm` holds it.
    pub mtm: String,
    /// Serial number as xCAT's `vpd.serial` holds it.
    pub serial: String,
    /// Firmware (BIOS) version.
    pub firmware: String,
    /// Logical processors.
    pub cpu_count: u32,
    /// Processor model name.
    pub cpu_model: String,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Disks.
    pub disks: Vec<Disk>,
    /// Network adapters, in the order found.
    pub adapters: Vec<Adapter>,
    /// The BMC as seen from inside, where /dev/ipmi0 exists.
    pub bmc: Option<BmcInBand>,
    /// Public ssh host keys, `type base64` each.
    pub ssh_host_keys: Vec<String>,
    /// Whether DMI says that this is a virtual machine.
    pub virtual_machine: bool,
    /// MAC of the adapter that the machine booted from (BOOTIF), colon form.
    pub boot_mac: String,
}

/// A disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct Disk {
    /// Kernel name, `sda`.
    pub name: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Model.
    pub model: String,
    /// Serial number.
    pub serial: String,
}

/// State of an adapter's link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub enum LinkState {
    /// The kernel does not say.
    #[default]
    Unknown,
    /// Carrier present.
    Up,
    /// No carrier.
    Down,
}

/// A network adapter. A device that only the PCI bus knows has an empty `name`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct Adapter {
    /// Kernel name, `eno1`.
    pub name: String,
    /// Predictable names the installed system may use, most specific first.
    pub candidate_names: Vec<String>,
    /// MAC, colon form, lower case.
    pub mac: String,
    /// Device path below /sys/devices, `/pci0000:00/0000:00:03.0`.
    pub pci: String,
    /// Vendor in words.
    pub vendor: String,
    /// Model in words.
    pub model: String,
    /// Kernel driver.
    pub driver: String,
    /// Link.
    pub link: LinkState,
    /// Addresses with prefix length, `10.0.0.1/24`.
    pub addresses: Vec<String>,
    /// Neighbor heard by LLDP.
    pub lldp: Option<LldpNeighbor>,
}

/// What the switch said about itself (IEEE 802.1AB).
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct LldpNeighbor {
    /// System name.
    pub switch: String,
    /// System description.
    pub description: String,
    /// Management addresses.
    pub addresses: Vec<String>,
    /// Port id.
    pub port: String,
    /// Port description.
    pub port_description: String,
}

/// A BMC as its own host sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct BmcInBand {
    /// IPv4 address of the LAN channel.
    pub address: String,
    /// Where the address comes from: `static`, `dhcp`, `bios`, `none`.
    pub source: String,
    /// MAC of the LAN channel.
    pub mac: String,
    /// IANA manufacturer number.
    pub manufacturer: u32,
    /// Product number.
    pub product: u32,
    /// Firmware revision, `2.14`.
    pub firmware: String,
    /// System GUID.
    pub guid: String,
}
