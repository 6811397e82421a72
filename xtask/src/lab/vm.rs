//! Virtual machines: QEMU with real firmware, and OpenIPMI's simulator as their BMC.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal};

use super::place::Place;
use super::plan::{Kind, Machine, Rack};

/// Console and in-band ports of a machine; each machine has a loopback of its own.
const CONSOLE_PORT: u16 = 9001;
const KCS_PORT: u16 = 9002;
/// Guest memory in MiB.
const BIOS_MEMORY: u32 = 384;
const UEFI_MEMORY: u32 = 512;
/// The disk that an image may later be written to; sparse.
const DISK_BYTES: u64 = 2 * 1024 * 1024 * 1024;

/// Starts the BMC of each virtual machine of a rack.
pub fn start_bmcs(place: &Place, rack: &Rack) -> Result<()> {
    for machine in rack.machines.iter().filter(|machine| machine.kind != Kind::Soft) {
        let folder = place.path("machines").join(&machine.name);
        std::fs::create_dir_all(folder.join("state"))
            .with_context(|| format!("making {}", folder.display()))?;
        std::fs::write(folder.join("lan.conf"), lan_conf(place, machine))
            .context("writing the BMC's settings")?;
        std::fs::write(folder.join("sim.emu"), EMULATION).context("writing the BMC's content")?;
        let disk = File::create(folder.join("disk")).context("making the disk")?;
        disk.set_len(DISK_BYTES).context("sizing the disk")?;
        if machine.kind == Kind::Uefi {
            std::fs::copy("/usr/share/OVMF/OVMF_VARS_4M.fd", folder.join("nvram"))
                .context("copying the nvram")?;
        }
        let path = |name: &str| folder.join(name).display().to_string();
        let (config, emulation, state) = (path("lan.conf"), path("sim.emu"), path("state"));
        let words = ["-c", &config, "-f", &emulation, "-s", &state, "-n"];
        place.spawn_at(&machine.name, &format!("{}.bmc", machine.name), Path::new("ipmi_sim"), &words)?;
    }
    Ok(())
}

fn lan_conf(place: &Place, machine: &Machine) -> String {
    let auths: String = ["callback", "user", "operator", "admin"]
        .iter()
        .map(|level| format!("    allowed_auths_{level} none md2 md5 straight\n"))
        .collect();
    format!(
        "name \"{name}\"\nset_working_mc 0x20\n  startlan 1\n    addr {bmc} 623\n    priv_limit admin\n{auths}    \
         guid {guid}\n  endlan\n  chassis_control \"{xtask} lab chassis {dir} {name}\"\n  \
         serial kcs 127.0.0.1 {KCS_PORT} codec VM\n  \
         sol \"telnet:127.0.0.1:{CONSOLE_PORT}\" 115200 history=4000\n  \
         user 1 true \"\" \"\" user 10 none md2 md5 straight\n  \
         user 2 true \"admin\" \"{password}\" admin 10 none md2 md5 straight\n",
        name = machine.name,
        bmc = machine.bmc,
        guid = machine.uuid.replace('-', ""),
        xtask = place.program("xtask").display(),
        dir = place.dir.display(),
        password = machine.password,
    )
}

const EMULATION: &str = "mc_setbmc 0x20\n\
                         mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr\n\
                         sel_enable 0x20 1000 0x0a\n\
                         mc_enable 0x20\n";

/// Whether the machine's QEMU runs.
pub fn on(place: &Place, machine: &Machine) -> bool {
    process_of(place, machine).is_some()
}

/// How often the machine's kernel has died so far. An overloaded host can lose the emulated timer's race; such a
/// boot is tried again, not counted as a fault.
pub fn panics(place: &Place, machine: &Machine) -> usize {
    let console = std::fs::read(place.log(&format!("{}.console", machine.name))).unwrap_or_default();
    String::from_utf8_lossy(&console).matches("Kernel panic").count()
}

fn process_of(place: &Place, machine: &Machine) -> Option<Pid> {
    let path = place.path("machines").join(&machine.name).join("qemu.pid");
    let number: i32 = std::fs::read_to_string(path).ok()?.trim().parse().ok()?;
    let line = std::fs::read(format!("/proc/{number}/cmdline")).ok()?;
    if String::from_utf8_lossy(&line).starts_with("qemu-system") { Pid::from_raw(number) } else { None }
}

/// Takes the machine's power away.
pub fn power_off(place: &Place, machine: &Machine) -> Result<()> {
    if let Some(process) = process_of(place, machine) {
        rustix::process::kill_process(process, Signal::KILL).context("ending QEMU")?;
        let stat = format!("/proc/{}", process.as_raw_nonzero());
        // It is gone when its tap and its disk are free; a dead process waiting to be collected holds none.
        let gone = || match std::fs::read_to_string(format!("{stat}/stat")) {
            Ok(text) => text.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')),
            Err(_) => true,
        };
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !gone() && std::time::Instant::now() < deadline {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
    Ok(())
}

/// Gives the machine power; it boots from `device` (`pxe`, `disk`, or its firmware's order).
pub fn power_on(place: &Place, machine: &Machine, device: &str) -> Result<()> {
    if on(place, machine) {
        return Ok(());
    }
    let folder = place.path("machines").join(&machine.name);
    let log = place.open_log(&format!("{}.qemu", machine.name))?;
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(arguments(place, machine, device))
        .stdin(Stdio::null())
        .stdout(log.try_clone().context("sharing a log")?)
        .stderr(log)
        .process_group(0);
    let child = qemu.spawn().context("starting QEMU")?;
    std::fs::write(folder.join("qemu.pid"), child.id().to_string()).context("writing QEMU's process id")
}

fn arguments(place: &Place, machine: &Machine, device: &str) -> Vec<String> {
    let folder = place.path("machines").join(&machine.name);
    let console = place.log(&format!("{}.console", machine.name));
    let memory = if machine.kind == Kind::Uefi { UEFI_MEMORY } else { BIOS_MEMORY };
    let mut words: Vec<String> = Vec::new();
    let mut add = |option: &str, value: String| words.extend([option.to_owned(), value]);
    add("-name", machine.name.clone());
    // No hardware virtualization is assumed; see docs/decisions on the lab.
    add("-accel", "tcg,thread=multi".into());
    add("-cpu", "max".into());
    add("-m", memory.to_string());
    add("-smp", "1".into());
    add("-display", "none".into());
    add("-vga", "none".into());
    add("-uuid", machine.uuid.clone());
    add("-smbios", format!("type=1,manufacturer=Margay,product={},serial={}", machine.model, machine.serial));
    if machine.kind == Kind::Uefi {
        let nvram = folder.join("nvram").display().to_string();
        add("-drive", "if=pflash,format=raw,unit=0,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd".into());
        add("-drive", format!("if=pflash,format=raw,unit=1,file={nvram}"));
    }
    let (net, disk) = order(device);
    add("-netdev", "tap,id=n0,ifname=tap0,script=no,downscript=no".into());
    add("-device", format!("virtio-net-pci,netdev=n0,mac={}{net}", machine.mac));
    // A second adapter without a cable, as most machines have one.
    add("-device", format!("e1000,mac={},romfile=", second_mac(&machine.mac)));
    add("-drive", format!("file={},if=none,id=d0,format=raw", folder.join("disk").display()));
    add("-device", format!("virtio-blk-pci,drive=d0,serial={}-0{disk}", machine.serial));
    add("-device", "virtio-rng-pci".into());
    let log = console.display();
    add(
        "-chardev",
        format!(
            "socket,id=s0,host=127.0.0.1,port={CONSOLE_PORT},server=on,wait=off,telnet=on,logfile={log},logappend=on"
        ),
    );
    add("-serial", "chardev:s0".into());
    add("-chardev", format!("socket,id=ipmi0,host=127.0.0.1,port={KCS_PORT},reconnect=10"));
    add("-device", "ipmi-bmc-extern,id=bmc0,chardev=ipmi0".into());
    add("-device", "isa-ipmi-kcs,bmc=bmc0,irq=5".into());
    // Only what the order names is tried, and again when nothing of it starts.
    add("-boot", "strict=on,reboot-timeout=5000".into());
    words.push("-nodefaults".into());
    words
}

/// Places of the network and of the disk in the boot order, as QEMU's options say it. `default` is the word of
/// OpenIPMI's simulator for the hard disk.
fn order(device: &str) -> (&'static str, &'static str) {
    match device {
        "pxe" => (",bootindex=1", ""),
        "default" | "disk" => ("", ",bootindex=1"),
        _ => (",bootindex=1", ",bootindex=2"),
    }
}

/// The address of the second adapter: the first one's, with one bit of its second byte turned.
fn second_mac(mac: &str) -> String {
    let mut bytes: Vec<u8> = mac.split(':').filter_map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
    if let Some(byte) = bytes.get_mut(1) {
        *byte ^= 0x80;
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}
