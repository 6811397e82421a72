//! Who made the machine: the DMI fields that the kernel shows below `/sys/class/dmi/id`.

use std::path::Path;

use wire::hardware::Hardware;

use super::text;

/// Words that firmware writes where nobody filled in a value.
const EMPTY_WORDS: [&str; 11] = [
    "none",
    "unknown",
    "default string",
    "not specified",
    "to be filled by o.e.m.",
    "system serial number",
    "system product name",
    "not available",
    "n/a",
    "0123456789",
    "not applicable",
];
/// Product or vendor names of virtual machines.
const VIRTUAL: [&str; 9] =
    ["qemu", "kvm", "bochs", "vmware", "virtualbox", "xen", "hvm domu", "standard pc", "virtual machine"];

/// Fills in the DMI part.
pub fn fill(root: &Path, hardware: &mut Hardware) {
    let field = |name: &str| known(&text(&root.join("sys/class/dmi/id").join(name)));
    let or = |first: String, second: &str| if first.is_empty() { field(second) } else { first };
    hardware.uuid = field("product_uuid").to_lowercase();
    hardware.vendor = or(field("sys_vendor"), "board_vendor");
    hardware.product = or(field("product_name"), "board_name");
    hardware.firmware = field("bios_version");
    hardware.serial = or(or(field("product_serial"), "chassis_serial"), "board_serial").replace('.', "");
    hardware.mtm = machine_type(&hardware.vendor, &hardware.product);
    let both = format!("{} {}", hardware.vendor, hardware.product).to_lowercase();
    hardware.virtual_machine = VIRTUAL.iter().any(|word| both.contains(word));
}

/// Machine type and model as xCAT's genesis reports it: what stands in brackets in the product name
/// (`System x3550 M5: -[8869AC1]-`), else `vendor:product`. Dots are removed.
fn machine_type(vendor: &str, product: &str) -> String {
    let bracket =
        product.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map(|(inside, _)| inside);
    let joined = match bracket {
        Some(inside) if !inside.is_empty() => inside.to_owned(),
        _ if vendor.is_empty() && product.is_empty() => String::new(),
        _ => format!("{vendor}:{product}"),
    };
    joined.replace('.', "")
}

/// Empty for values that say nothing, all zeros included.
fn known(value: &str) -> String {
    let lower = value.to_lowercase();
    let empty = EMPTY_WORDS.contains(&lower.as_str())
        || value.bytes().all(|byte| matches!(byte, b'0' | b'-' | b'.' | b' ' | b'f' | b'F'));
    if empty { String::new() } else { value.split_whitespace().collect::<Vec<_>>().join(" ") }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::fixture::write;
    use super::*;

    fn machine(fields: &[(&str, &str)]) -> Hardware {
        let root = tempfile::tempdir().unwrap();
        for (name, value) in fields {
            write(root.path(), &format!("sys/class/dmi/id/{name}"), value);
        }
        let mut hardware = Hardware::default();
        fill(root.path(), &mut hardware);
        hardware
    }

    #[test]
    fn a_lenovo_has_its_model_in_brackets() {
        let found = machine(&[
            ("product_name", "System x3550 M5: -[8869AC1]-\n"),
            ("sys_vendor", "LENOVO\n"),
            ("product_serial", "06.ABCDE\n"),
            ("product_uuid", "4C4C4544-0042-3510-8052-B4C04F564433\n"),
        ]);
        assert_eq!(found.mtm, "8869AC1");
        assert_eq!(found.serial, "06ABCDE");
        assert_eq!(found.uuid, "4c4c4544-0042-3510-8052-b4c04f564433");
        assert!(!found.virtual_machine);
    }

    #[test]
    fn others_are_named_by_vendor_and_product() {
        let found =
            machine(&[("product_name", "PowerEdge 860"), ("sys_vendor", "Dell Computer Corporation")]);
        assert_eq!(found.mtm, "Dell Computer Corporation:PowerEdge 860");
    }

    #[test]
    fn values_that_say_nothing_are_empty_and_another_serial_number_is_taken() {
        let found = machine(&[
            ("product_serial", "To Be Filled By O.E.M."),
            ("chassis_serial", "C-77"),
            ("product_uuid", "00000000-0000-0000-0000-000000000000"),
            ("sys_vendor", "QEMU"),
            ("product_name", "Standard PC (i440FX + PIIX, 1996)"),
        ]);
        assert_eq!((found.serial.as_str(), found.uuid.as_str()), ("C-77", ""));
        assert!(found.virtual_machine);
    }
}
