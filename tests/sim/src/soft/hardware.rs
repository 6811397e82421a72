//! What the agent reads of a machine, written as files below a root: DMI, processor, memory, disk, adapters.

use std::path::Path;

use super::{Fault, Settings};

/// Where the adapters sit on the bus.
const PCI: [(&str, &str); 2] = [("0000:00:03.0", "igb"), ("0000:00:04.0", "igb")];
/// Intel I350.
const VENDOR: &str = "0x8086\n";
const DEVICE: &str = "0x1521\n";
const DISK_SECTORS: u64 = 4 * 1024 * 1024;

/// Writes the machine's hardware below `root`, with a new boot id and the kernel's command line.
///
/// # Errors
/// [`Fault::System`] with the file that could not be written.
pub fn write(settings: &Settings, root: &Path, arguments: &str) -> Result<(), Fault> {
    let put = |path: &str, text: &str| -> Result<(), Fault> {
        let path = root.join(path);
        let write = || {
            std::fs::create_dir_all(path.parent().unwrap_or(root))?;
            std::fs::write(&path, text)
        };
        write().map_err(Fault::system(format!("writing {}", path.display())))
    };
    let dmi = [
        ("sys_vendor", settings.vendor.as_str()),
        ("product_name", &settings.model),
        ("product_serial", &settings.serial),
        ("product_uuid", &settings.uuid),
        ("bios_version", "SOFT-1.0"),
        ("chassis_vendor", &settings.vendor),
        ("board_vendor", &settings.vendor),
    ];
    for (name, value) in dmi {
        put(&format!("sys/class/dmi/id/{name}"), &format!("{value}\n"))?;
    }
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/uuid")
        .map_err(Fault::system("drawing a boot id"))?;
    put("proc/sys/kernel/random/boot_id", &boot)?;
    put("proc/cmdline", &format!("{arguments}\n"))?;
    let processors: String = (0..4)
        .map(|number| format!("processor\t: {number}\nmodel name\t: Margay Soft Processor\n\n"))
        .collect();
    put("proc/cpuinfo", &processors)?;
    put("proc/meminfo", "MemTotal:        8388608 kB\nMemFree:         8000000 kB\n")?;
    put("sys/block/sda/size", &format!("{DISK_SECTORS}\n"))?;
    put("sys/block/sda/device/model", "SOFT DISK\n")?;
    put("sys/block/sda/device/serial", &format!("{}-0\n", settings.serial))?;
    let second = second_mac(&settings.mac);
    let adapters =
        [(settings.interface.as_str(), settings.mac.as_str(), "up", "1"), ("eth1", &second, "down", "0")];
    for ((name, mac, state, carrier), (slot, driver)) in adapters.into_iter().zip(PCI) {
        let device = format!("sys/devices/pci0000:00/{slot}");
        put(&format!("{device}/vendor"), VENDOR)?;
        put(&format!("{device}/device"), DEVICE)?;
        put(&format!("{device}/class"), "0x020000\n")?;
        put(&format!("{device}/uevent"), &format!("DRIVER={driver}\nPCI_SLOT_NAME={slot}\n"))?;
        put(&format!("{device}/net/{name}/address"), &format!("{mac}\n"))?;
        put(&format!("{device}/net/{name}/operstate"), &format!("{state}\n"))?;
        put(&format!("{device}/net/{name}/carrier"), &format!("{carrier}\n"))?;
        put(&format!("{device}/net/{name}/type"), "1\n")?;
        put(&format!("{device}/net/{name}/addr_assign_type"), "0\n")?;
        put(&format!("sys/bus/pci/drivers/{driver}/module"), "")?;
        link(root, &format!("{device}/driver"), &format!("../../../bus/pci/drivers/{driver}"))?;
        link(root, &format!("{device}/net/{name}/device"), &format!("../../../{slot}"))?;
        link(root, &format!("sys/class/net/{name}"), &format!("../../devices/pci0000:00/{slot}/net/{name}"))?;
        link(root, &format!("sys/bus/pci/devices/{slot}"), &format!("../../../devices/pci0000:00/{slot}"))?;
    }
    Ok(())
}

fn link(root: &Path, path: &str, target: &str) -> Result<(), Fault> {
    let path = root.join(path);
    let make = || {
        std::fs::create_dir_all(path.parent().unwrap_or(root))?;
        match std::fs::remove_file(&path) {
            Err(fault) if fault.kind() != std::io::ErrorKind::NotFound => return Err(fault),
            _ => {}
        }
        std::os::unix::fs::symlink(target, &path)
    };
    make().map_err(Fault::system(format!("making {}", path.display())))
}

/// The second adapter has the first one's address with one bit turned.
fn second_mac(mac: &str) -> String {
    let mut bytes: Vec<u8> = mac.split(':').filter_map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
    if let Some(byte) = bytes.get_mut(1) {
        *byte ^= 0x80;
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::path::PathBuf;

    use super::*;

    #[test]
    fn written_twice_it_is_the_same_machine_with_another_boot_id() {
        let root = tempfile::tempdir().unwrap();
        let settings = Settings {
            name: "m".into(),
            interface: "eth0".into(),
            mac: "52:00:00:00:00:01".into(),
            serial: "S1".into(),
            vendor: "V".into(),
            model: "M".into(),
            uuid: "u".into(),
            arch: 0,
            folder: PathBuf::new(),
            agent: PathBuf::new(),
            log: PathBuf::new(),
        };
        let read = |path: &str| std::fs::read_to_string(root.path().join(path)).unwrap();
        write(&settings, root.path(), "a=b").unwrap();
        let first = read("proc/sys/kernel/random/boot_id");
        write(&settings, root.path(), "a=b").unwrap();
        assert_ne!(read("proc/sys/kernel/random/boot_id"), first);
        assert_eq!(read("sys/class/net/eth0/address"), "52:00:00:00:00:01\n");
        assert_eq!(read("sys/class/net/eth1/address"), "52:80:00:00:00:01\n");
        assert_eq!(read("sys/class/net/eth0/device/vendor"), VENDOR);
        assert_eq!(read("sys/class/dmi/id/product_serial"), "S1\n");
    }
}
