//! Daemons killed at a busy moment, racks that cannot be reached, BMCs that hang.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::bench::{Bench, until};
use super::{Check, daily, full};

/// In any order.
pub const CHECKS: &[Check] = &[
    daily("a killed agent is back by itself and keeps its identity", agent_killed),
    daily(
        "a killed service node costs its nodes one line each and nobody else anything",
        service_node_killed,
    ),
    daily("a frozen service node is told apart from its nodes, and others are answered", service_node_frozen),
    daily("the only master, killed while nodes are added, keeps everything it acknowledged", master_killed),
    full("hanging BMCs have their own line at their own deadline and delay nobody", hanging_bmcs),
];

fn identities(bench: &Bench<'_>) -> Result<String> {
    let rows = bench.ok(&["gettab", "node=r2n03", "identity.fingerprint", "identity.generation"])?;
    ensure!(!rows.trim().is_empty(), "r2n03 has no identity");
    Ok(rows)
}

fn agent_killed(bench: &Bench<'_>) -> Result<()> {
    let before = identities(bench)?;
    let machine = bench.lab.at_port_of("r2n03")?.name;
    let pid = bench.agent_pid(&machine)?.context("no agent in r2n03")?;
    let command = bench.begin(&["xdsh", "r2n02,r2n03", "echo begun; sleep 4; echo ended"])?;
    until("the command to begin", 20, || {
        Ok((command.so_far().out.matches("begun").count() == 2).then_some(()))
    })?;
    bench.lab.signal("KILL", &pid)?;
    let said = command.wait(Duration::from_secs(30))?;
    let lines: Vec<&str> = said.err.lines().filter(|line| line.contains("r2n03: ")).collect();
    said.expect(lines.len() == 1 && said.status == 1, "no own line for the node without its agent")?;
    said.expect(said.out.contains("r2n02: ended"), "the other node was disturbed")?;
    bench.until_agents("r2n03", 60)?;
    ensure!(identities(bench)? == before, "the agent came back with another identity");
    Ok(())
}

/// The nodes of rack 1 that take part in commands.
fn rack_one(bench: &Bench<'_>) -> Result<Vec<String>> {
    Ok(bench.column("r1", "nodelist.node")?.into_iter().map(|(node, _)| node).collect())
}

fn one_line_each(bench: &Bench<'_>, said: &super::bench::Said) -> Result<()> {
    for node in rack_one(bench)? {
        let lines = said.err.lines().filter(|line| line.contains(&format!("{node}: "))).count();
        said.expect(lines == 1, &format!("{lines} lines for {node}"))?;
    }
    Ok(())
}

fn service_node_killed(bench: &Bench<'_>) -> Result<()> {
    let mine = rack_one(bench)?.len();
    let command = bench.begin(&["xdsh", "machines", "echo begun; sleep 4; echo ended"])?;
    let all = bench.column("machines", "nodelist.node")?.len();
    until("the command to begin", 20, || {
        Ok((command.so_far().out.matches("begun").count() == all).then_some(()))
    })?;
    bench.kill("r1sn")?;
    let said = command.wait(Duration::from_secs(40))?;
    one_line_each(bench, &said)?;
    said.expect(said.out.matches("r2n").count() == 2 * (all - mine), "rack 2 was disturbed")?;
    let begun = Instant::now();
    let said = bench.say(&["rpower", "machines", "stat"])?;
    one_line_each(bench, &said)?;
    said.expect(said.out.lines().count() == all - mine && said.status == 1, "rack 2 did not answer")?;
    ensure!(begun.elapsed() < Duration::from_secs(10), "it took {:.1?}", begun.elapsed());
    bench.lab.start_service_node("r1sn")?;
    bench.until_agents("machines", 60)?;
    ensure!(bench.ok(&["rpower", "machines", "stat"])?.lines().count() == all, "not all answer again");
    Ok(())
}

fn service_node_frozen(bench: &Bench<'_>) -> Result<()> {
    let pid = bench.lab.pid("r1sn")?;
    let (mine, all) = (rack_one(bench)?.len(), bench.column("machines", "nodelist.node")?.len());
    bench.lab.signal("STOP", &pid)?;
    let result = (|| {
        let command = bench.begin(&["rpower", "machines", "stat"])?;
        until("rack 2", 5, || Ok((command.so_far().out.lines().count() == all - mine).then_some(())))?;
        command.wait(Duration::from_secs(60))
    })();
    bench.lab.signal("CONT", &pid)?;
    let said = result?;
    one_line_each(bench, &said)?;
    said.expect(said.status == 1, "rack 1 did not answer, so the status is 1")?;
    bench.until_agents("machines", 90)
}

/// Requests while the master dies.
const REQUESTS: usize = 30;

fn master_killed(bench: &Bench<'_>) -> Result<()> {
    let script = r#"for i in $(seq "$0"); do
            if nodeadd "k${i}x[1-5]" groups=killed >> "$1.said" 2>&1
            then echo "$i" >> "$1"; else echo "$i failed" >> "$1"; fi
        done"#;
    let file = bench.lab.file("killed");
    let _ = std::fs::remove_file(&file);
    let requests = REQUESTS.to_string();
    let work = bench.begin(&["sh", "-c", script, &requests, &file])?;
    let done = || std::fs::read_to_string(&file).unwrap_or_default();
    for share in [REQUESTS / 4, REQUESTS / 2] {
        until("some requests", 60, || Ok((done().lines().count() >= share).then_some(())))?;
        bench.kill("m1")?;
        bench.lab.start_master("m1")?;
    }
    let said = work.wait(Duration::from_secs(120))?;
    said.expect(done().lines().count() == REQUESTS, "not all requests ended")?;
    let nodes = bench.ok(&["nodels", "killed"])?;
    let known: std::collections::BTreeSet<&str> = nodes.lines().collect();
    let mut acknowledged = 0;
    for number in done().lines().filter(|line| !line.contains("failed")) {
        acknowledged += 1;
        for node in (1..=5).map(|last| format!("k{number}x{last}")) {
            ensure!(known.contains(node.as_str()), "{node} was acknowledged and is lost");
        }
    }
    bench.note.print(&format!("              {acknowledged} of {REQUESTS} acknowledged, none lost"));
    ensure!(
        acknowledged == REQUESTS,
        "requests failed:\n{}",
        std::fs::read_to_string(format!("{file}.said"))?
    );
    bench.ok(&["noderm", "killed"])?;
    bench.until_agents("machines", 60)
}

fn hanging_bmcs(bench: &Bench<'_>) -> Result<()> {
    let pid = bench.lab.pid("r1.bmcs")?;
    let (mine, all) = (rack_one(bench)?.len(), bench.column("machines", "nodelist.node")?.len());
    bench.lab.signal("STOP", &pid)?;
    let begun = Instant::now();
    let result = (|| {
        let command = bench.begin(&["rpower", "machines", "stat"])?;
        until("rack 2", 3, || Ok((command.so_far().out.lines().count() == all - mine).then_some(())))?;
        command.wait(Duration::from_secs(60))
    })();
    bench.lab.signal("CONT", &pid)?;
    let said = result?;
    one_line_each(bench, &said)?;
    said.expect(said.err.lines().all(|line| line.contains("10.101.")), "a line lacks the BMC's address")?;
    bench.note.print(&format!("              their lines came after {:.1} s", begun.elapsed().as_secs_f64()));
    ensure!(begun.elapsed() < Duration::from_secs(40), "it took {:.1?}", begun.elapsed());
    Ok(())
}
