//! The rows that a machine's hardware makes: what a node is made of, and the list of machines seen.

use wire::hardware::Hardware;
use wire::names::Mac;

use super::machine::{cpu_count, disks, machine_macs, memory, per_adapter, text};
use super::{Write, calendar};
use crate::view::{Tables, parse_macs};

/// `vpd`, `hwinv`, `nodetype.arch` of a node. Only what is known and differs is written.
pub(super) fn hardware(tables: &dyn Tables, node: &str, hardware: &Hardware) -> Vec<Write> {
    let mut writes = vec![
        changed(
            tables,
            "vpd",
            node,
            vec![
                ("serial", text(&hardware.serial)),
                ("mtm", text(&hardware.mtm)),
                ("uuid", text(&hardware.uuid).to_lowercase()),
            ],
        ),
        changed(
            tables,
            "hwinv",
            node,
            vec![
                ("cputype", text(&hardware.cpu_model)),
                ("cpucount", cpu_count(hardware)),
                ("memory", memory(hardware)),
                ("disksize", disks(hardware)),
            ],
        ),
    ];
    // An administrator's x86 on a 64-bit machine is a choice (it runs a 32-bit system).
    if !(hardware.arch == "x86_64" && tables.attribute(node, "nodetype", "arch") == "x86") {
        writes.push(changed(tables, "nodetype", node, vec![("arch", text(&hardware.arch))]));
    }
    writes.into_iter().flatten().collect()
}

/// What discovery adds once: the boot adapter, the boot method, the BMC's address where none is set.
pub(super) fn discovered(tables: &dyn Tables, node: &str, hardware: &Hardware) -> Vec<Write> {
    let mut writes = Vec::new();
    let macs = machine_macs(hardware);
    let known = parse_macs(node, &tables.attribute(node, "mac", "mac"));
    let boot =
        Mac::parse(&hardware.boot_mac).map(|mac| mac.to_string()).ok().or_else(|| macs.first().cloned());
    if let Some(boot) = boot
        && !known.iter().any(|entry| entry.mac.to_string() == boot)
    {
        writes.push(Write::node("mac", node, vec![("mac", boot)]));
    }
    if tables.attribute(node, "noderes", "netboot").is_empty() {
        let method = match hardware.arch.as_str() {
            "x86_64" | "i386" | "i686" => "xnba",
            "aarch64" => "grub2",
            "ppc64" | "ppc64le" => "petitboot",
            _ => "",
        };
        writes.extend(changed(tables, "noderes", node, vec![("netboot", method.to_owned())]));
    }
    if let Some(bmc) = &hardware.bmc
        && bmc.source == "static"
        && bmc.address.parse::<std::net::IpAddr>().is_ok()
        && tables.attribute(node, "ipmi", "bmc").is_empty()
    {
        writes.push(Write::node("ipmi", node, vec![("bmc", bmc.address.clone())]));
    }
    writes
}

/// The cable of the boot adapter as its switch told it, for a node that was not found by its cable.
pub(super) fn cable(tables: &dyn Tables, node: &str, hardware: &Hardware) -> Option<Write> {
    if !tables.node_rows(node, "switch").is_empty() {
        return None;
    }
    let boot =
        hardware.adapters.iter().find(|adapter| adapter.mac.eq_ignore_ascii_case(&hardware.boot_mac))?;
    let heard = boot.lldp.as_ref()?;
    let (switch, port) = (text(&heard.switch), text(&heard.port));
    if switch.is_empty() || port.is_empty() {
        return None;
    }
    let key = vec![("node", node.to_owned()), ("switch", switch), ("port", port)];
    Some(Write::Set { table: "switch", key, values: Vec::new() })
}

/// The machine's row in `discoverydata` under `key`. `node` is empty for a machine that nobody knows.
pub(super) fn listed(key: &str, hardware: &Hardware, node: &str, method: &str, wall: u64) -> Write {
    let lldp = |part: fn(&wire::hardware::LldpNeighbor) -> String| {
        per_adapter(hardware, |adapter| adapter.lldp.as_ref().map(part).unwrap_or_default())
    };
    let bmc =
        hardware.bmc.as_ref().map(|bmc| format!("bmc={} bmcmac={}", text(&bmc.address), text(&bmc.mac)));
    Write::Set {
        table: "discoverydata",
        key: vec![("uuid", key.to_owned())],
        values: vec![
            ("node", node.to_owned()),
            ("method", method.to_owned()),
            ("discoverytime", calendar::stamp(wall)),
            ("arch", text(&hardware.arch)),
            ("cpucount", cpu_count(hardware)),
            ("cputype", text(&hardware.cpu_model)),
            ("memory", memory(hardware)),
            ("mtm", text(&hardware.mtm)),
            ("serial", text(&hardware.serial)),
            ("nicdriver", per_adapter(hardware, |adapter| adapter.driver.clone())),
            (
                "nicipv4",
                per_adapter(hardware, |adapter| adapter.addresses.first().cloned().unwrap_or_default()),
            ),
            ("nichwaddr", per_adapter(hardware, |adapter| adapter.mac.clone())),
            ("nicpci", per_adapter(hardware, |adapter| adapter.pci.clone())),
            ("switchname", lldp(|heard| heard.switch.clone())),
            ("switchaddr", lldp(|heard| heard.addresses.first().cloned().unwrap_or_default())),
            ("switchdesc", lldp(|heard| heard.description.clone())),
            ("switchport", lldp(|heard| heard.port.clone())),
            ("otherdata", bmc.unwrap_or_default()),
        ],
    }
}

/// A write of those values that are known and differ from the resolved ones; none when nothing differs.
pub(super) fn changed(
    tables: &dyn Tables,
    table: &'static str,
    node: &str,
    values: Vec<(&'static str, String)>,
) -> Option<Write> {
    let values: Vec<_> = values
        .into_iter()
        .filter(|(column, value)| !value.is_empty() && tables.attribute(node, table, column) != *value)
        .collect();
    (!values.is_empty()).then(|| Write::node(table, node, values))
}
