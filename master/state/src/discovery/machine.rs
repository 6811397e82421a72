//! A machine's own marks: what it is listed under and what the tables say of it.

use std::collections::BTreeSet;

use wire::hardware::{Adapter, Hardware};
use wire::names::Mac;

/// Longest text of a machine that is kept in a column.
const MAX_TEXT: usize = 256;
/// Longest list of a machine that is kept in a column.
const MAX_LIST: usize = 8192;

/// What an unknown machine is listed under: its UUID, else model and serial, else its boot adapter.
#[must_use]
pub fn machine_key(hardware: &Hardware) -> String {
    let uuid = text(&hardware.uuid).to_lowercase();
    if !uuid.is_empty() {
        return uuid;
    }
    if !hardware.mtm.is_empty() && !hardware.serial.is_empty() {
        return format!("{}*{}", text(&hardware.mtm), text(&hardware.serial));
    }
    machine_macs(hardware).into_iter().next().unwrap_or_else(|| "unknown".to_owned())
}

/// The MACs of a machine, the boot adapter first, lower case.
#[must_use]
pub fn machine_macs(hardware: &Hardware) -> Vec<String> {
    let all = std::iter::once(&hardware.boot_mac).chain(hardware.adapters.iter().map(|adapter| &adapter.mac));
    let mut seen = BTreeSet::new();
    all.filter_map(|mac| Mac::parse(mac).ok())
        .map(|mac| mac.to_string())
        .filter(|mac| seen.insert(mac.clone()))
        .collect()
}

/// A machine's text as it may stand in a column: printable and bounded.
pub(super) fn text(value: &str) -> String {
    value.trim().chars().take(MAX_TEXT).map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

/// `257620MB`.
pub(super) fn memory(hardware: &Hardware) -> String {
    if hardware.memory_mib == 0 { String::new() } else { format!("{}MB", hardware.memory_mib) }
}

/// `64`; empty when not known.
pub(super) fn cpu_count(hardware: &Hardware) -> String {
    if hardware.cpu_count == 0 { String::new() } else { hardware.cpu_count.to_string() }
}

/// `sda:960GB,nvme0n1:3840GB`.
pub(super) fn disks(hardware: &Hardware) -> String {
    let parts: Vec<String> = hardware
        .disks
        .iter()
        .map(|disk| format!("{}:{}GB", text(&disk.name), disk.bytes / 1_000_000_000))
        .collect();
    bounded(parts)
}

/// `eno1!value,eno2!value` for a column of `discoverydata`.
pub(super) fn per_adapter(hardware: &Hardware, value: impl Fn(&Adapter) -> String) -> String {
    let parts: Vec<String> = hardware
        .adapters
        .iter()
        .filter(|adapter| !adapter.name.is_empty())
        .map(|adapter| (text(&adapter.name), text(&value(adapter)).replace([',', '!'], "_")))
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{}!{value}", name.replace([',', '!'], "_")))
        .collect();
    bounded(parts)
}

fn bounded(parts: Vec<String>) -> String {
    let mut list = String::new();
    for part in parts {
        if list.len() + part.len() > MAX_LIST {
            break;
        }
        if !list.is_empty() {
            list.push(',');
        }
        list.push_str(&part);
    }
    list
}
