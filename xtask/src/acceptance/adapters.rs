//! getadapter in the racks: agents are asked, machines are booted, and nobody's wait is lost.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::bench::{Bench, until};
use super::{Check, daily};

/// In the order in which they build on one another.
pub const CHECKS: &[Check] = &[
    daily("a connected agent lists its adapters without a reboot", asked),
    daily("a running node without an agent is not rebooted for getadapter", not_rebooted),
    daily("three clients who wait get their answers although the only master is killed", master_killed),
];

fn asked(bench: &Bench<'_>) -> Result<()> {
    let machine = bench.lab.at_port_of("r2n02")?;
    let before = bench.boot_id(&machine.name)?.context("r2n02 does not run")?;
    let said = bench.ok(&["getadapter", "r2n02", "-f"])?;
    ensure!(said.contains("[r2n02] scan successfully below is result:\n"), "{said}");
    let line = said.lines().find(|line| line.starts_with("r2n02:[0]->eth0!"));
    let line = line.with_context(|| format!("no first adapter:\n{said}"))?;
    ensure!(line.contains(&format!("mac={}", machine.mac)) && line.contains("linkstate=UP"), "{line}");
    ensure!(bench.boot_id(&machine.name)?.as_deref() == Some(before.as_str()), "it was rebooted");
    let known = bench.ok(&["getadapter", "r2n02"])?;
    ensure!(known.starts_with("r2n02: Adapter information exists, no need to inspect.\n"), "{known}");
    let shown = bench.ok(&["lsdef", "r2n02"])?;
    ensure!(shown.contains(&format!("nicsadapter.eth0=mac={}", machine.mac)), "{shown}");
    Ok(())
}

fn not_rebooted(bench: &Bench<'_>) -> Result<()> {
    let machine = bench.lab.at_port_of("r2n02")?;
    let before = bench.machine_pid(&machine.name)?.context("r2n02 does not run")?;
    let agent = bench.agent_pid(&machine.name)?.context("r2n02 has no agent")?;
    // Frozen until the service node gives the agent up.
    bench.lab.signal("STOP", &agent)?;
    let gone = until("the agent to be given up", 60, || {
        let said = bench.say(&["xdsh", "r2n02", "-t", "1", "true"])?;
        Ok(said.err.contains("no agent is connected").then_some(()))
    });
    let said = bench.say(&["getadapter", "r2n02", "-f"]);
    bench.lab.signal("CONT", &agent)?;
    gone?;
    let said = said?;
    said.expect(said.status == 1 && said.err.contains("--force"), "it does not say how to allow a reboot")?;
    ensure!(bench.machine_pid(&machine.name)?.as_deref() == Some(before.as_str()), "it was rebooted");
    bench.until_agents("r2n02", 60)
}

fn master_killed(bench: &Bench<'_>) -> Result<()> {
    let nodes = ["r1n03", "r2n02", "r2n03"];
    // One loses its power behind our back: its agent counts as connected for a while.
    bench.ok(&["rpower", "r1n03,r2n03", "off"])?;
    bench.lab.ipmitool(&bench.lab.at_port_of("r2n02")?, &["chassis", "power", "off"])?;
    let boots = |bench: &Bench<'_>| {
        nodes.map(|node| {
            bench.lab.at_port_of(node).map_or(0, |machine| bench.journal(&machine.name, "stage agent"))
        })
    };
    let before = boots(bench);
    let mut clients = Vec::new();
    for range in ["r1n03,r2n02", "r2n02,r2n03", "r1n03,r2n02,r2n03"] {
        clients.push((range, bench.begin(&["getadapter", range, "-f"])?));
    }
    until("the three waits to be open", 20, || {
        // The ids of the requests that wait, separated by blanks.
        let waiting = bench.say(&["gettab", "node=r2n02", "taskstate.request"])?;
        Ok((waiting.out.split_whitespace().count() == 3).then_some(()))
    })
    .with_context(|| bench.say(&["tabdump", "taskstate"]).map_or_else(|e| e.to_string(), |s| s.all()))?;
    bench.kill("m1")?;
    bench.lab.start_master("m1")?;
    for (range, client) in clients {
        let said = client.wait(Duration::from_secs(90)).with_context(|| format!("getadapter {range}"))?;
        said.expect(said.status == 0, &format!("getadapter {range}"))?;
        for node in range.split(',') {
            let head = format!("[{node}] scan successfully below is result:");
            let count = said.out.lines().filter(|line| *line == head).count();
            said.expect(count == 1, &format!("{count} results for {node} in getadapter {range}"))?;
            said.expect(said.out.contains(&format!("{node}:[0]->eth0!")), &format!("adapters of {node}"))?;
        }
    }
    for ((node, before), after) in nodes.iter().zip(before).zip(boots(bench)) {
        ensure!(after == before + 1, "{node} booted the discovery image {} times", after - before);
    }
    let rows = bench.ok(&["tabdump", "taskstate"])?;
    ensure!(!rows.contains("\"waiting\""), "a wait is still open:\n{rows}");
    bench.until_all("r1n03,r2n02,r2n03", "nodelist.status", "booted", 90)?;
    bench.until_agents("machines", 60)
}
