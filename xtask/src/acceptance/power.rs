//! Power: what rpower says happens to the machine, and ipmitool sees the same.

use anyhow::{Context, Result, bail, ensure};

use super::bench::{Bench, until};
use super::{Check, daily};

/// The node whose power is switched.
const NODE: &str = "r1n03";

/// In the order in which they build on one another.
pub const CHECKS: &[Check] = &[
    daily("rpower stat and ipmitool say the same of every machine", stat),
    daily("rpower off ends the machine and rpower on starts it anew", off_and_on),
    daily("rpower cycle, boot and reset start the machine anew", anew),
    daily("rsetboot net and hd hold for one boot", one_boot),
    daily("rbeacon is remembered and rinv tells the drawn serial number and model", told),
];

fn stat(bench: &Bench<'_>) -> Result<()> {
    let said = bench.ok(&["rpower", "machines", "stat"])?;
    for machine in bench.defined() {
        let word = power(bench, &machine.name)?;
        let line = format!("{}: {word}", machine.name);
        ensure!(said.lines().any(|ours| ours == line), "ipmitool: {line}; rpower:\n{said}");
    }
    Ok(())
}

/// What ipmitool says of a machine's power.
fn power(bench: &Bench<'_>, name: &str) -> Result<String> {
    let text = bench.lab.ipmitool(&bench.lab.place_of(name)?, &["chassis", "power", "status"])?;
    Ok(text.trim().rsplit(' ').next().unwrap_or_default().to_owned())
}

/// What identifies a run of the machine: its process and its boot id.
fn life(bench: &Bench<'_>) -> Result<(String, String)> {
    until("the machine to run", 60, || {
        let (Some(pid), Some(boot)) = (bench.machine_pid(NODE)?, bench.boot_id(NODE)?) else {
            return Ok(None);
        };
        Ok(Some((pid, boot)))
    })
}

/// Waits for a life other than `before`.
fn another(bench: &Bench<'_>, before: &(String, String)) -> Result<(String, String)> {
    until("another process and another boot id", 60, || {
        let (Some(pid), Some(boot)) = (bench.machine_pid(NODE)?, bench.boot_id(NODE)?) else {
            return Ok(None);
        };
        Ok((pid != before.0 && boot != before.1).then_some((pid, boot)))
    })
}

fn off_and_on(bench: &Bench<'_>) -> Result<()> {
    let before = life(bench)?;
    let said = bench.ok(&["rpower", NODE, "off"])?;
    ensure!(said == format!("{NODE}: off\n"), "{said}");
    bench.until_gone(&before.0)?;
    ensure!(bench.machine_pid(NODE)?.is_none(), "the machine still runs");
    ensure!(power(bench, NODE)? == "off", "ipmitool does not see it off");
    ensure!(bench.ok(&["rpower", NODE, "stat"])? == format!("{NODE}: off\n"), "rpower does not see it off");
    let said = bench.say(&["xdsh", NODE, "true"])?;
    said.expect(said.err.contains("no agent is connected"), "its agent counts as connected without power")?;
    let said = bench.ok(&["rpower", NODE, "on"])?;
    ensure!(said == format!("{NODE}: on\n"), "{said}");
    another(bench, &before)?;
    ensure!(power(bench, NODE)? == "on", "ipmitool does not see it on");
    bench.until_agents(NODE, 60)
}

fn anew(bench: &Bench<'_>) -> Result<()> {
    for word in ["cycle", "boot", "reset"] {
        let before = life(bench)?;
        bench.ok(&["rpower", NODE, word])?;
        another(bench, &before).with_context(|| format!("rpower {word}"))?;
        ensure!(power(bench, NODE)? == "on", "after rpower {word} ipmitool does not see it on");
    }
    bench.until_agents(NODE, 60)
}

/// The device that the machine was told to boot from, as its firmware got it.
fn booted_from(bench: &Bench<'_>, not: &str) -> Result<(String, String)> {
    let pid =
        until("the machine's next process", 30, || Ok(bench.machine_pid(NODE)?.filter(|pid| pid != not)))?;
    let output = bench.lab.ground(&["cat", &format!("/proc/{pid}/environ")])?.stdout;
    let text = String::from_utf8_lossy(&output).into_owned();
    let word = text.split('\0').find_map(|word| word.strip_prefix("MARGAY_BOOT=")).map(str::to_owned);
    Ok((pid, word.context("the machine was told no boot device")?))
}

fn one_boot(bench: &Bench<'_>) -> Result<()> {
    let mut pid = bench.machine_pid(NODE)?.context("the machine does not run")?;
    for (word, device) in [("net", "pxe"), ("hd", "disk")] {
        bench.ok(&["rsetboot", NODE, word])?;
        let theirs = bench.lab.ipmitool(&bench.lab.place_of(NODE)?, &["chassis", "bootparam", "get", "5"])?;
        let named = if word == "net" { "PXE" } else { "Hard-Drive" };
        ensure!(theirs.contains(named), "ipmitool does not see {word}:\n{theirs}");
        for expected in [device, "none"] {
            bench.ok(&["rpower", NODE, "reset"])?;
            let (next, seen) = booted_from(bench, &pid)?;
            if seen != expected {
                bail!("after rsetboot {word} the machine booted from '{seen}', not from '{expected}'");
            }
            pid = next;
        }
    }
    bench.until_agents(NODE, 90)
}

fn told(bench: &Bench<'_>) -> Result<()> {
    bench.ok(&["rbeacon", NODE, "on"])?;
    let said = bench.ok(&["rbeacon", NODE, "stat"])?;
    ensure!(said.contains(&format!("{NODE}: on")), "{said}");
    bench.ok(&["rbeacon", NODE, "off"])?;
    let machine = bench.lab.place_of(NODE)?;
    let said = bench.ok(&["rinv", NODE, "serial", "model"])?;
    ensure!(said.contains(&machine.serial) && said.contains(&machine.model), "{said}");
    let said = bench.ok(&["rinv", NODE, "uuid"])?;
    ensure!(said.to_lowercase().contains(&machine.uuid), "not {}: {said}", machine.uuid);
    Ok(())
}
