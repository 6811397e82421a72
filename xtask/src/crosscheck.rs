//! Other people's programs against ours, in the running lab: each must agree.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::lab::inside;
use crate::stage::Note;
use crate::workspace::Workspace;

/// Clients of the DHCP check.
const DHCP_CLIENTS: u32 = 100;

/// Runs all checks; returns how many agreed.
pub fn run(workspace: &Workspace, note: &Note) -> Result<u64> {
    let lab = inside(workspace)?;
    let mut done = 0;
    for (what, check) in CHECKS {
        note.say(what);
        check(&lab).with_context(|| format!("{what} does not agree"))?;
        done += 1;
    }
    Ok(done)
}

type Check = fn(&crate::lab::Inside) -> Result<()>;

const CHECKS: &[(&str, Check)] = &[
    ("the tables say what was drawn", as_drawn),
    ("ipmitool, cipher suite 3, power of every machine", |lab| power_agrees(lab, "3", true)),
    ("ipmitool, cipher suite 17, power of every soft node", |lab| power_agrees(lab, "17", false)),
    ("curl: boot script and files", curl),
    ("tftp: a loader is the same byte for byte", tftp),
    ("snmpwalk: every cabled machine stands at its port", snmpwalk),
    ("perfdhcp: 100 clients, none dropped", perfdhcp),
    ("power: off, on and boot really end and start a machine", power_is_real),
    ("boot device: honored once", boot_device_once),
];

/// Serial number, model, address and port of every node are those of the machine on its cable.
fn as_drawn(lab: &crate::lab::Inside) -> Result<()> {
    let said = lab.run("core", &["nodels", "machines", "vpd.serial", "vpd.mtm", "mac.mac", "switch.port"])?;
    let said: std::collections::BTreeSet<&str> = said.lines().collect();
    let mut drawn = Vec::new();
    for machine in lab.machines() {
        let found = lab.cabled_to(&machine.name)?;
        for (column, value) in [
            ("vpd.serial", found.serial.clone()),
            ("vpd.mtm", format!("Margay:{}", found.model)),
            ("mac.mac", found.mac.clone()),
            ("switch.port", found.port.clone()),
        ] {
            drawn.push(format!("{}: {column}: {value}", machine.name));
        }
    }
    let missing: Vec<&String> = drawn.iter().filter(|line| !said.contains(line.as_str())).collect();
    if !missing.is_empty() {
        bail!("drawn, but not said: {missing:?}");
    }
    if said.len() != drawn.len() {
        bail!("{} lines were drawn, {} are said", drawn.len(), said.len());
    }
    Ok(())
}

/// `rpower stat` and ipmitool say the same of every machine.
fn power_agrees(lab: &crate::lab::Inside, suite: &str, virtual_too: bool) -> Result<()> {
    let ours = lab.run("core", &["rpower", "machines", "stat"])?;
    for machine in lab.machines().filter(|machine| virtual_too || machine.soft) {
        let theirs = lab.run(
            "core",
            &[
                "ipmitool",
                "-I",
                "lanplus",
                "-C",
                suite,
                "-H",
                &machine.bmc,
                "-U",
                "admin",
                "-P",
                &machine.password,
                "chassis",
                "power",
                "status",
            ],
        )?;
        let word = theirs.trim().rsplit(' ').next().unwrap_or_default().to_owned();
        let line = format!("{}: {word}", machine.name);
        if !ours.lines().any(|ours| ours == line) {
            bail!("ipmitool says '{line}', rpower says:\n{ours}");
        }
    }
    Ok(())
}

fn curl(lab: &crate::lab::Inside) -> Result<()> {
    let machine = lab.machines().next().context("no machine")?;
    let url = format!("http://{}/boot/ipxe?mac={}", machine.server, machine.mac);
    let script = lab.run("core", &["curl", "-sS", "--fail", "--max-time", "10", &url])?;
    if !script.starts_with("#!ipxe") {
        bail!("{url} gave:\n{script}");
    }
    let url = format!("http://{}/genesis/vmlinuz", machine.server);
    let file = lab.file("vmlinuz");
    lab.run("core", &["curl", "-sS", "--fail", "--max-time", "30", "-o", &file, &url])?;
    same(&file, &lab.genesis("vmlinuz"))
}

fn tftp(lab: &crate::lab::Inside) -> Result<()> {
    let machine = lab.machines().next().context("no machine")?;
    let file = lab.file("undionly.kpxe");
    lab.run("core", &["tftp", "-m", "binary", &machine.server, "-c", "get", "undionly.kpxe", &file])?;
    same(&file, "/usr/lib/ipxe/undionly.kpxe")
}

fn same(one: &str, other: &str) -> Result<()> {
    let read = |path: &str| std::fs::read(path).with_context(|| format!("reading {path}"));
    if read(one)? != read(other)? {
        bail!("{one} and {other} differ");
    }
    Ok(())
}

fn snmpwalk(lab: &crate::lab::Inside) -> Result<()> {
    let switches: std::collections::BTreeSet<String> = lab.machines().map(|machine| machine.switch).collect();
    for switch in switches {
        let walked = lab
            .run("core", &["snmpwalk", "-v2c", "-c", "public", "-On", &switch, ".1.3.6.1.2.1.17.4.3.1.2"])?;
        for machine in lab.machines().filter(|machine| machine.switch == switch) {
            let bytes: Vec<String> = machine
                .mac
                .split(':')
                .map(|byte| u8::from_str_radix(byte, 16).map(|byte| byte.to_string()))
                .collect::<Result<_, _>>()?;
            let wanted = format!(".{} = INTEGER", bytes.join("."));
            if !walked.contains(&wanted) {
                bail!("{switch} has not learned {} ({}):\n{walked}", machine.mac, machine.name);
            }
        }
    }
    Ok(())
}

/// From the switch's own port in the rack's network; perfdhcp names itself the relay.
fn perfdhcp(lab: &crate::lab::Inside) -> Result<()> {
    let machine = lab.machines().next().context("no machine")?;
    let (clients, rate) = (DHCP_CLIENTS.to_string(), "50");
    let output = lab.output(
        &machine.rack,
        &["perfdhcp", "-4", "-l", "br0", "-R", &clients, "-n", &clients, "-r", rate, "-W", "5000000"],
    )?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let drops: Vec<&str> = text.lines().filter(|line| line.starts_with("drops:")).collect();
    if drops.len() != 2 || drops.iter().any(|line| line.trim() != "drops: 0") {
        bail!("perfdhcp: {}\n{text}{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// How long a soft node may take from power-on to its report.
const BOOT: Duration = Duration::from_secs(60);

fn first_soft(lab: &crate::lab::Inside) -> Result<crate::lab::Seen> {
    lab.machines().find(|machine| machine.soft).context("no soft node")
}

/// Waits for a condition; says what did not come true.
fn wait(what: &str, mut come_true: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + BOOT;
    while Instant::now() < deadline {
        if come_true()? {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    bail!("within {} s: {what}", BOOT.as_secs())
}

fn agent_runs(lab: &crate::lab::Inside, node: &str) -> Result<bool> {
    let output = lab.output("core", &["xdsh", node, "-t", "5", "true"])?;
    Ok(output.status.success())
}

fn power_is_real(lab: &crate::lab::Inside) -> Result<()> {
    let machine = first_soft(lab)?;
    let node = machine.name.as_str();
    wait("its agent answers", || agent_runs(lab, node))?;
    let first = lab.boot_id(node)?;
    lab.run("core", &["rpower", node, "off"])?;
    power_agrees(lab, "3", false)?;
    if lab.process_of(node)?.is_some() {
        bail!("{node} is off, but its process runs");
    }
    lab.run("core", &["rpower", node, "on"])?;
    power_agrees(lab, "17", false)?;
    wait("its agent answers after 'on'", || agent_runs(lab, node))?;
    let (second, process) = (lab.boot_id(node)?, lab.process_of(node)?);
    lab.run("core", &["rpower", node, "boot"])?;
    wait("another process and boot id after 'boot'", || {
        Ok(lab.boot_id(node).is_ok_and(|third| third != second) && lab.process_of(node)? != process)
    })?;
    wait("its agent answers after 'boot'", || agent_runs(lab, node))?;
    if first == second {
        bail!("{node} was off and on, but its boot id is the same");
    }
    Ok(())
}

fn boot_device_once(lab: &crate::lab::Inside) -> Result<()> {
    let machine = first_soft(lab)?;
    let node = machine.name.as_str();
    let before = lab.boot_id(node)?;
    let network_boots = |lab: &crate::lab::Inside| lab.journal(node).matches("stage dhcp").count();
    lab.run("core", &["rsetboot", node, "hd"])?;
    let count = network_boots(lab);
    lab.run("core", &["rpower", node, "boot"])?;
    wait("it looks for its disk", || Ok(lab.journal(node).contains("nothing to start from")))?;
    if network_boots(lab) != count {
        bail!("{node} was told to boot its disk, but asked the network");
    }
    lab.run("core", &["rpower", node, "boot"])?;
    wait("it boots from the network again", || Ok(lab.boot_id(node).is_ok_and(|id| id != before)))?;
    wait("its agent answers", || agent_runs(lab, node))
}
