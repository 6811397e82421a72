//! The first process of the discovery image: file systems, modules, network, then the agent as a child
//! that is started again when it fails, until it says how the machine goes on.
//!
//! The child runs every command and holds every connection; this process only waits and reaps, so nothing
//! that happens there can end it.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, mount};
use rustix::process::{Pid, WaitOptions};
use rustix::system::RebootCommand;

use crate::Outcome;
use crate::netlink::{Address, Link, Netlink, Route};

/// Where the kernel shows its messages and a person can type.
const CONSOLE: &str = "/dev/console";
/// Names of the kernel modules to load, separated by white space.
const MODULES: &str = "/etc/margay/modules";
/// After this the agent starts also without an address; it tries again by itself.
const LEASE_PATIENCE: Duration = Duration::from_secs(60);
/// From the loading of a driver to its interface.
const LINK_PATIENCE: Duration = Duration::from_secs(10);
/// Between two starts of an agent that fails.
const RESTART: Duration = Duration::from_secs(2);

/// The life of process 1; it ends with the machine.
pub fn first_process() -> ! {
    prepare();
    modules();
    network();
    let outcome = supervise();
    say(&format!("the machine goes on: {outcome:?}"));
    rustix::fs::sync();
    let command = match outcome {
        Outcome::PowerOff => RebootCommand::PowerOff,
        _ => RebootCommand::Restart,
    };
    let failed = rustix::system::reboot(command);
    say(&format!("the machine cannot be restarted: {failed:?}"));
    loop {
        std::thread::park();
    }
}

/// Whether we were started as a DHCP client's script, and what it wants; then that is done.
#[must_use]
pub fn is_lease_script(word: &str) -> bool {
    matches!(word, "deconfig" | "bound" | "renew" | "nak" | "leasefail") && std::env::var("interface").is_ok()
}

/// Does what busybox's udhcpc wants of its script: sets address, route and name servers.
///
/// # Errors
/// When the kernel refuses.
pub fn lease_script(word: &str) -> io::Result<()> {
    if !matches!(word, "bound" | "renew") {
        return Ok(());
    }
    let value = |name: &str| std::env::var(name).unwrap_or_default();
    let wrong = |what: &str| io::Error::other(format!("the lease has no usable {what}"));
    let mut netlink = Netlink::open()?;
    let name = value("interface");
    let links = netlink.links()?;
    let link = links.iter().find(|link| link.name == name).ok_or_else(|| wrong("interface"))?;
    let address = value("ip").parse().map_err(|_| wrong("address"))?;
    let prefix = value("mask").parse().map_err(|_| wrong("mask"))?;
    let wanted = Address { index: link.index, address, prefix };
    for old in netlink.addresses()?.into_iter().filter(|old| old.index == link.index && *old != wanted) {
        netlink.remove_address(old)?;
    }
    netlink.set_up(link.index, value("mtu").parse().ok())?;
    netlink.add_address(wanted)?;
    if let Some(gateway) = value("router").split_whitespace().next().and_then(|text| text.parse().ok()) {
        let destination = std::net::Ipv4Addr::UNSPECIFIED;
        netlink.add_route(Route {
            destination,
            prefix: 0,
            gateway: Some(gateway),
            index: Some(link.index),
        })?;
    }
    let servers = value("dns");
    if !servers.is_empty() {
        let lines: String =
            servers.split_whitespace().map(|server| format!("nameserver {server}\n")).collect();
        let search = value("domain");
        let search = if search.is_empty() { String::new() } else { format!("search {search}\n") };
        fs::write("/etc/resolv.conf", search + &lines)?;
    }
    Ok(())
}

fn say(text: &str) {
    eprintln!("margay: {text}");
}

fn prepare() {
    let mounts = [
        ("proc", "/proc", "proc"),
        ("sysfs", "/sys", "sysfs"),
        ("devtmpfs", "/dev", "devtmpfs"),
        ("devpts", "/dev/pts", "devpts"),
        ("tmpfs", "/run", "tmpfs"),
        ("tmpfs", "/tmp", "tmpfs"),
    ];
    for (source, target, kind) in mounts {
        let _ = fs::create_dir_all(target);
        match mount(source, target, kind, MountFlags::empty(), None) {
            Ok(()) | Err(rustix::io::Errno::BUSY) => {}
            Err(error) => say(&format!("{target} cannot be mounted: {error}")),
        }
    }
    for folder in ["/etc/margay", "/root", "/var/lib/margay", "/var/log"] {
        let _ = fs::create_dir_all(folder);
    }
}

fn modules() {
    let text = fs::read_to_string(MODULES).unwrap_or_default();
    for module in text.split_whitespace() {
        // A driver for hardware that this machine does not have may refuse; the others are tried.
        let _ = quiet(Command::new("/bin/busybox").args(["modprobe", "-q", module])).status();
    }
}

fn quiet(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())
}

/// Switches every adapter on and asks for an address on the one the machine booted from.
fn network() {
    let links = match adapters() {
        Ok(links) => links,
        Err(error) => return say(&format!("the network cannot be set up: {error}")),
    };
    if links.is_empty() {
        return say("there is no network adapter (or no driver for it)");
    }
    let line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let boot = line.split_whitespace().find_map(|word| word.strip_prefix("BOOTIF=01-"));
    let boot = boot.map(|mac| mac.replace('-', ":").to_lowercase());
    let chosen: Vec<_> =
        links.iter().filter(|link| boot.as_ref().is_some_and(|mac| *mac == link.mac)).collect();
    let asked = if chosen.is_empty() { links.iter().collect() } else { chosen };
    let own = std::env::current_exe().unwrap_or_else(|_| "/init".into());
    for link in &asked {
        say(&format!("asking for an address on {} ({})", link.name, link.mac));
        let mut client = Command::new("/bin/busybox");
        client.args(["udhcpc", "-f", "-i", &link.name, "-t", "8", "-T", "2", "-A", "2", "-s"]).arg(&own);
        if let Err(error) = quiet(&mut client).spawn() {
            say(&format!("no DHCP client: {error}"));
        }
    }
    let indexes: Vec<_> = asked.iter().map(|link| link.index).collect();
    let leased = wait_for(LEASE_PATIENCE, || {
        let addresses = Netlink::open().and_then(|mut netlink| netlink.addresses()).unwrap_or_default();
        addresses.iter().any(|address| indexes.contains(&address.index))
    });
    if !leased {
        say("no address yet; going on without");
    }
}

fn adapters() -> io::Result<Vec<Link>> {
    let mut netlink = Netlink::open()?;
    let mut found = Vec::new();
    wait_for(LINK_PATIENCE, || {
        let links = netlink.links().unwrap_or_default();
        for link in &links {
            if link.loopback || !link.mac.is_empty() {
                let _ = netlink.set_up(link.index, None);
            }
        }
        found = links.into_iter().filter(|link| !link.loopback && !link.mac.is_empty()).collect();
        !found.is_empty()
    });
    Ok(found)
}

/// Asks every tenth of a second; the kernel has no event here that is worth a second mechanism.
fn wait_for(patience: Duration, mut ready: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        if ready() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        reap(None);
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Runs the agent until it says how the machine goes on.
fn supervise() -> Outcome {
    let own = std::env::current_exe().unwrap_or_else(|_| "/init".into());
    loop {
        let mut agent = Command::new(&own);
        agent
            .arg0("margay-agent")
            .args(["--phase", "genesis"])
            .env("MARGAY_CONSOLE", CONSOLE)
            .env("NO_COLOR", "1");
        let child = match agent.spawn() {
            Ok(child) => Pid::from_child(&child),
            Err(error) => {
                say(&format!("the agent cannot be started: {error}"));
                std::thread::sleep(RESTART);
                continue;
            }
        };
        let code = reap(Some(child));
        let ends = [Outcome::BootDisk, Outcome::Reboot, Outcome::PowerOff];
        if let Some(outcome) = ends.into_iter().find(|outcome| Some(i32::from(outcome.exit_code())) == code) {
            return outcome;
        }
        say(&format!("the agent ended ({code:?}) and is started again"));
        std::thread::sleep(RESTART);
    }
}

/// Collects dead children. With `until` it waits for that one and gives its exit code; else it only
/// collects those that are dead already.
fn reap(until: Option<Pid>) -> Option<i32> {
    let options = if until.is_some() { WaitOptions::empty() } else { WaitOptions::NOHANG };
    loop {
        match rustix::process::wait(options) {
            Ok(Some((pid, status))) if Some(pid) == until => return status.exit_status(),
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
            Ok(None) | Err(_) => return None,
        }
    }
}

/// Whether this is process 1 of a machine.
#[must_use]
pub fn is_first() -> bool {
    let told_otherwise = std::env::args().any(|argument| argument.starts_with("--"));
    std::process::id() == 1 && !told_otherwise && Path::new(MODULES).parent().is_some_and(Path::exists)
}
