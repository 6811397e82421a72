//! Three masters: one may die at any moment.

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};

use super::bench::{Bench, until};
use super::{Check, daily};

/// In the order in which they build on one another.
pub const CHECKS: &[Check] = &[
    daily("three masters have one leader, and any of them carries a request out", one_leader),
    daily("every acknowledged group of writes is synced to the disk", synced),
    daily("the leader killed during 100 requests of 10 nodes: nothing acknowledged is lost", leader_killed),
    daily("the racks are led on by the new leader", racks_led),
];

/// Requests while the leader dies, and nodes in each.
const REQUESTS: usize = 100;
/// Longest time without a leader.
const LEADERLESS: Duration = Duration::from_secs(5);

/// Leader and followers as `margay status` shows them.
fn roles(bench: &Bench<'_>) -> Result<(Option<String>, Vec<String>)> {
    let said = bench.say(&["margay", "status"])?;
    let (mut leader, mut others) = (None, Vec::new());
    for line in said.out.lines().filter_map(|line| line.strip_prefix("master ")) {
        let Some((name, rest)) = line.split_once(": ") else { continue };
        if rest.starts_with("leader") {
            leader = Some(name.to_owned());
        } else {
            others.push(name.to_owned());
        }
    }
    Ok((leader, others))
}

fn leader(bench: &Bench<'_>) -> Result<String> {
    until("a leader", 20, || Ok(roles(bench)?.0))
}

fn one_leader(bench: &Bench<'_>) -> Result<()> {
    let (leader, followers) = until("a leader and two followers", 20, || {
        let (leader, followers) = roles(bench)?;
        Ok((followers.len() == 2).then_some(()).and(leader).map(|leader| (leader, followers)))
    })?;
    bench.note.print(&format!("              {leader} leads"));
    let settings =
        std::fs::read_to_string(bench.lab.path("cluster/admin/client.toml")).context("settings")?;
    for (number, name) in bench.lab.masters().iter().enumerate() {
        // A client that knows this master only.
        let path = bench.lab.path("cluster/admin").join(format!("only-{name}.toml"));
        let text: String = settings
            .lines()
            .map(|line| {
                if line.starts_with("masters") {
                    format!("masters = [\"10.0.0.{}:3001\"]\n", 11 + number)
                } else {
                    format!("{line}\n")
                }
            })
            .collect();
        std::fs::write(&path, text).context("writing settings")?;
        let setting = format!("MARGAY_CONFIG={}", path.display());
        bench.ok(&["env", &setting, "nodeadd", &format!("by{name}"), "groups=by"])?;
        let seen = bench.ok(&["env", &setting, "nodels", &format!("by{name}")])?;
        ensure!(seen == format!("by{name}\n"), "{name} does not see its own write: {seen}");
    }
    ensure!(followers.len() == 2);
    bench.ok(&["noderm", "by"]).map(drop)
}

/// Writes that wait for one another are groups of one: each must see a sync of the leader's disk between
/// the question and the acknowledgment.
fn synced(bench: &Bench<'_>) -> Result<()> {
    const WRITES: usize = 20;
    let leader = leader(bench)?;
    let pid = bench.lab.pid(&leader)?;
    let trace = bench.lab.file("fsyncs");
    let words = ["strace", "-f", "-ttt", "-q", "-e", "trace=fsync,fdatasync", "-o", &trace, "-p", &pid];
    let strace = bench.begin(&words)?;
    until("strace to attach", 20, || {
        let status = bench.lab.ground(&["cat", &format!("/proc/{pid}/status")])?.stdout;
        let text = String::from_utf8_lossy(&status).into_owned();
        Ok(text.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0")).then_some(()))
    })?;
    let now = || SystemTime::UNIX_EPOCH.elapsed().map(|since| since.as_secs_f64()).context("the clock");
    let mut writes = Vec::new();
    for number in 0..WRITES {
        let asked = now()?;
        bench.ok(&["nodeadd", &format!("sync{number:03}"), "groups=sync"])?;
        writes.push((asked, now()?));
    }
    strace.signal("INT")?;
    strace.wait(Duration::from_secs(20))?;
    let text = std::fs::read_to_string(&trace).context("reading strace's output")?;
    let syncs = syncs(&text);
    let without =
        writes.iter().filter(|(asked, told)| !syncs.iter().any(|at| (asked..=told).contains(&at))).count();
    bench.note.print(&format!(
        "              {} of {WRITES} writes synced before their answer; {:.2} syncs for a write, \
         those of the leader's other entries counted in",
        WRITES - without,
        syncs.len() as f64 / WRITES as f64
    ));
    ensure!(without == 0, "{without} of {WRITES} writes were acknowledged without a sync:\n{text}");
    bench.ok(&["noderm", "sync"]).map(drop)
}

/// When syncs began, in seconds. A call that another thread interrupts stands in two lines; only its
/// beginning is taken.
fn syncs(trace: &str) -> Vec<f64> {
    let begun = trace.lines().filter(|line| line.contains("sync(") && !line.contains("resumed"));
    begun.filter_map(|line| line.split_whitespace().nth(1)?.parse().ok()).collect()
}

fn leader_killed(bench: &Bench<'_>) -> Result<()> {
    // Four at a time; each says how it ended.
    // One write for each line, because four write at once.
    let script = r#"seq "$0" | xargs -P 4 -I @ sh -c \
        'said=$(nodeadd "q@x[01-10]" groups=killed 2>&1); printf "%s\n" "@ $? $(echo $said)" >> "$0"' "$1""#;
    let file = bench.lab.file("requests");
    let _ = std::fs::remove_file(&file);
    let requests = REQUESTS.to_string();
    let first = leader(bench)?;
    let work = bench.begin(&["sh", "-c", script, &requests, &file])?;
    let lines = || std::fs::read_to_string(&file).unwrap_or_default().lines().count();
    until("a third of the requests", 60, || Ok((lines() >= REQUESTS / 3).then_some(())))?;
    bench.kill(&first)?;
    let died = Instant::now();
    let next = until("a new leader", 20, || Ok(roles(bench)?.0.filter(|name| *name != first)))?;
    // It leads when it takes a write.
    until("the new leader's first write", 20, || {
        Ok((bench.say(&["nodeadd", "afterwards", "groups=killed"])?.status == 0).then_some(()))
    })?;
    let took = died.elapsed();
    work.wait(Duration::from_secs(120))?;
    let text = std::fs::read_to_string(&file).context("reading the requests' ends")?;
    let nodes = bench.ok(&["nodels", "killed"])?;
    let known: std::collections::BTreeSet<&str> = nodes.lines().collect();
    let (mut good, mut unknown) = (0, 0);
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let mut words = line.split_whitespace();
        let (Some(number), Some(status)) = (words.next(), words.next()) else { continue };
        let rest = words.collect::<Vec<_>>().join(" ");
        let made: Vec<String> = (1..=10).map(|last| format!("q{number}x{last:02}")).collect();
        let there = made.iter().filter(|node| known.contains(node.as_str())).count();
        if status == "0" {
            good += 1;
            ensure!(there == 10, "request {number} was acknowledged, but {there} of its 10 nodes are there");
        } else {
            unknown += 1;
            ensure!(
                rest.contains("unknown"),
                "request {number} failed and does not say it is unknown: {rest}"
            );
            ensure!(there == 0 || there == 10, "request {number} is half done: {there} nodes");
        }
    }
    bench.note.print(&format!(
        "              {first} killed, {next} leads and wrote after {:.2} s; {good} requests acknowledged, \
         {unknown} of unknown outcome",
        took.as_secs_f64()
    ));
    ensure!(good + unknown == REQUESTS, "{} requests have no end", REQUESTS - good - unknown);
    ensure!(took <= LEADERLESS, "{took:.1?} without a leader");
    bench.lab.start_master(&first)?;
    until("the killed master to follow", 30, || Ok(roles(bench)?.1.contains(&first).then_some(())))?;
    bench.ok(&["noderm", "killed"]).map(drop)
}

fn racks_led(bench: &Bench<'_>) -> Result<()> {
    bench.until_agents("machines", 60)?;
    let said = bench.ok(&["rpower", "machines", "stat"])?;
    ensure!(said.lines().all(|line| line.ends_with(": on")), "{said}");
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_beginnings_of_syncs_are_read_from_a_trace() {
        let trace = "812   1763640000.250000 fdatasync(14) = 0\n\
                     9 1763640001.5 fdatasync(14 <unfinished ...>\n\
                     9     1763640002.5 <... fdatasync resumed>) = 0\n\
                     9 1763640003.5 fsync(3)                = 0\n";
        assert_eq!(super::syncs(trace), [1_763_640_000.25, 1_763_640_001.5, 1_763_640_003.5]);
    }
}
