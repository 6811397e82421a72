//! Discovery: the tables end as the racks were drawn, and what cannot be recognized says why.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::bench::{Bench, CORE, until};
use super::{Check, daily};

/// In the order in which they build on one another.
pub const CHECKS: &[Check] = &[
    daily("nobody knows any machine before the power comes on", nothing_known),
    daily("with its switches silent nobody is discovered, and every method says why", switches_silent),
    daily("garbage in place of a switch's answers is counted and said, and discovers nobody", switch_garbled),
    daily("discovery completes when the switches answer again", switches_back),
    daily("the tables equal the drawn plan, and two swapped cables give swapped names", as_drawn),
    daily("a machine on a port without a node stays pending, and nodediscoverdef names it", stranger),
];

/// What the checks of other parts need: discovered machines.
pub const PREPARES: &[&str] = &[
    "with its switches silent nobody is discovered, and every method says why",
    "discovery completes when the switches answer again",
];

/// For racks that are discovered when the lab is up.
pub const DRAWN: &[Check] = &[daily("the tables equal the drawn plan of this seed", as_drawn)];

fn nothing_known(bench: &Bench<'_>) -> Result<()> {
    for column in ["mac.mac", "vpd.serial"] {
        let known: Vec<_> =
            bench.column("machines", column)?.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        ensure!(known.is_empty(), "{column} is known: {known:?}");
    }
    let rows = bench.ok(&["tabdump", "mac"])?;
    ensure!(rows.lines().all(|line| line.starts_with('#')), "table mac has rows:\n{rows}");
    ensure!(bench.ok(&["nodediscoverls"])?.is_empty(), "machines are listed before they have power");
    Ok(())
}

fn switches_silent(bench: &Bench<'_>) -> Result<()> {
    for rack in bench.lab.racks() {
        bench.lab.switch(&rack, "stop")?;
    }
    bench.ok(&["rpower", "machines", "on"])?;
    let drawn = bench.lab.drawn();
    for machine in drawn.iter().filter(|machine| !machine.defined) {
        bench.lab.ipmitool(machine, &["chassis", "power", "on"])?;
    }
    let listed = until("all machines to be listed with a reason", 90, || {
        let text = bench.ok(&["nodediscoverls", "-l", "-t", "undef"])?;
        let entries: Vec<&str> = text.split("Object uuid: ").skip(1).collect();
        let reasoned = entries.iter().filter(|entry| entry.contains("reason=switch: ")).count();
        Ok((reasoned == drawn.len()).then_some(text.clone()))
    })
    .with_context(|| {
        bench.say(&["nodediscoverls", "-l"]).map_or_else(|e| e.to_string(), |said| said.all())
    })?;
    for machine in &drawn {
        let entry = listed
            .split("Object uuid: ")
            .find(|entry| entry.contains(&format!("serial={}\n", machine.serial)))
            .with_context(|| format!("{} is not listed:\n{listed}", machine.serial))?;
        let (switch, mtms) = (format!("r{}sw", machine.rack), "reason=mtms: ");
        let reason = entry.lines().find(|line| line.contains("reason=switch: ")).unwrap_or_default();
        ensure!(reason.contains(&switch), "the reason does not name {switch}: {reason}");
        ensure!(entry.contains(mtms), "no word of the method mtms:\n{entry}");
    }
    for column in ["mac.mac", "vpd.serial"] {
        let known = bench.column("machines", column)?;
        ensure!(known.iter().all(|(_, value)| value.is_empty()), "discovered nevertheless: {known:?}");
    }
    Ok(())
}

/// Questions that are answered with garbage: one and its two repetitions.
const GARBLED: &str = "3";

/// Somebody else answers for the switch of rack 1, whose own management is still silent.
fn switch_garbled(bench: &Bench<'_>) -> Result<()> {
    const LIAR: &str = "10.1.0.1";
    let (pid, before) = (bench.lab.pid("r1sn")?, bench.counters("r1sn")?);
    let (xtask, at) = (bench.lab.program("xtask"), format!("{LIAR}:161"));
    ensure!(bench.lab.run(CORE, &["ip", "-br", "addr"])?.contains(LIAR), "{LIAR} is not the admin's seat");
    let truth = bench.column("r1sw", "hosts.ip")?;
    let [(_, address)] = truth.as_slice() else { bail!("the address of r1sw: {truth:?}") };
    let liar = bench.begin(&[&xtask, "lab", "garble", &at, GARBLED])?;
    bench.ok(&["nodech", "r1sw", &format!("hosts.ip={LIAR}")])?;
    let result = (|| {
        let said = liar.wait(Duration::from_secs(60))?;
        let sent: Vec<u64> = said.out.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [malformed, unasked] = sent[..] else {
            bail!("the garbler said {}", said.all());
        };
        let mut grown = (0, 0);
        until("all garbage to be counted", 20, || {
            let now = bench.counters("r1sn")?;
            let growth = |name| now.get(name).unwrap_or(&0) - before.get(name).unwrap_or(&0);
            grown = (growth("snmp_dropped_malformed"), growth("snmp_dropped_unasked"));
            Ok((grown.0 >= malformed && grown.1 >= unasked).then_some(()))
        })
        .with_context(|| format!("{grown:?} of {malformed} and {unasked}"))?;
        ensure!(grown == (malformed, unasked), "{grown:?} counted of {malformed} and {unasked}");
        bench.note.print(&format!("              {malformed} malformed, {unasked} unasked for"));
        until("the reason to be shown", 30, || {
            let text = bench.ok(&["nodediscoverls", "-l", "-t", "undef"])?;
            let shown = text.lines().any(|line| {
                line.contains(&format!("r1sw ({LIAR}) did not answer")) && line.contains("malformed")
            });
            Ok(shown.then_some(()))
        })
    })();
    bench.ok(&["nodech", "r1sw", &format!("hosts.ip={address}")])?;
    result.with_context(|| {
        bench.say(&["nodediscoverls", "-l"]).map_or_else(|e| e.to_string(), |said| said.all())
    })?;
    for column in ["mac.mac", "vpd.serial"] {
        let known = bench.column("machines", column)?;
        ensure!(known.iter().all(|(_, value)| value.is_empty()), "discovered nevertheless: {known:?}");
    }
    ensure!(bench.lab.pid("r1sn")? == pid, "r1sn was started anew");
    bench.lab.signal("0", &pid).context("r1sn is dead")
}

fn switches_back(bench: &Bench<'_>) -> Result<()> {
    for rack in bench.lab.racks() {
        bench.lab.switch(&rack, "start")?;
    }
    let nodes = bench.defined();
    until("all defined nodes to be discovered", 120, || {
        let known = bench.column("machines", "mac.mac")?;
        Ok((known.len() == nodes.len() && known.iter().all(|(_, mac)| !mac.is_empty())).then_some(()))
    })
    .with_context(|| {
        bench.say(&["nodediscoverls", "-l"]).map_or_else(|e| e.to_string(), |said| said.all())
    })?;
    bench.until_agents("machines", 60)
}

fn as_drawn(bench: &Bench<'_>) -> Result<()> {
    let words = ["nodels", "machines", "vpd.serial", "vpd.mtm", "mac.mac", "switch.port"];
    let text = bench.ok(&words)?;
    let mut wanted = Vec::new();
    for node in bench.defined() {
        let machine = bench.lab.at_port_of(&node.name)?;
        let serial_of_place = node.serial != machine.serial;
        if serial_of_place {
            bench.note.print(&format!(
                "              {} is the machine {} ({} stands in its place)",
                node.name, machine.serial, node.serial
            ));
        }
        for (column, value) in [
            ("vpd.serial", &machine.serial),
            // Vendor and model, as the discovery image reads them.
            ("vpd.mtm", &machine.mtm()),
            ("mac.mac", &machine.mac),
            ("switch.port", &node.port),
        ] {
            wanted.push(format!("{}: {column}: {value}", node.name));
        }
    }
    let mut found: Vec<&str> = text.lines().collect();
    found.sort_unstable();
    wanted.sort_unstable();
    if found != wanted {
        bail!("found\n{}\nbut was drawn\n{}", found.join("\n"), wanted.join("\n"));
    }
    Ok(())
}

fn stranger(bench: &Bench<'_>) -> Result<()> {
    let drawn = bench.lab.drawn();
    let stranger = drawn.iter().find(|machine| !machine.defined).context("no stranger in this lab")?;
    let entry = bench.ok(&["nodediscoverls", "-l", "-u", &stranger.uuid])?;
    ensure!(entry.contains("state=pending"), "it is not pending:\n{entry}");
    ensure!(entry.contains(&stranger.port), "the reason does not name its port {}:\n{entry}", stranger.port);
    let held = bench.say(&["nodediscoverdef", "-u", &stranger.uuid, "-n", "r1n01"])?;
    held.expect(held.status == 1 && held.err.contains("held by another machine"), "a held node was given")?;
    bench.ok(&["nodeadd", &stranger.name, &format!("groups=r{},machines,all", stranger.rack)])?;
    bench.ok(&["chdef", &stranger.name, &format!("bmcpassword={}", stranger.password)])?;
    let said = bench.ok(&["nodediscoverdef", "-u", &stranger.uuid, "-n", &stranger.name])?;
    ensure!(said == format!("Defined [{}] to node {}.\n", stranger.uuid, stranger.name), "{said}");
    until("its adapter's address to be stored", 60, || {
        let mac = bench.column(&stranger.name, "mac.mac")?;
        Ok(mac.iter().any(|(_, mac)| *mac == stranger.mac).then_some(()))
    })?;
    let row = bench.ok(&["nodediscoverls", "-t", "manual"])?;
    ensure!(row.contains(&stranger.name), "it is not listed as manual:\n{row}");
    bench.until_agents(&stranger.name, 60)?;
    let stat = bench.ok(&["rpower", &stranger.name, "stat"])?;
    ensure!(stat == format!("{}: on\n", stranger.name), "{stat}");
    Ok(())
}
