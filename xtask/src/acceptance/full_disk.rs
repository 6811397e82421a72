//! A master without space: it says so, loses nothing, and goes on when there is space again.

use anyhow::{Context, Result, ensure};

use super::bench::{Bench, until};
use super::{Check, daily};

/// The last one of its lab: the master's data move.
pub const CHECKS: &[Check] = &[daily(
    "a full disk is a named error, loses nothing acknowledged, and ends with the fullness",
    full_disk,
)];

/// A step in the lab that must succeed.
fn ground(bench: &Bench<'_>, script: &str, words: &[&str]) -> Result<()> {
    let mut all = vec!["sh", "-ec", script, "sh"];
    all.extend(words);
    let output = bench.lab.ground(&all)?;
    ensure!(
        output.status.success(),
        "{script}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

fn full_disk(bench: &Bench<'_>) -> Result<()> {
    let data = bench.lab.path("cluster/m1/data").display().to_string();
    bench.kill("m1")?;
    // The same data on a disk of 192 MiB.
    let script = r#"mv "$1" "$1.large"; mkdir "$1"; mount -t tmpfs -o size=192m,mode=0700 tmpfs "$1"; cp -a "$1.large/." "$1""#;
    ground(bench, script, &[&data])?;
    bench.lab.start_master("m1")?;
    until("the master to answer", 30, || Ok((bench.say(&["nodels", "r1n01"])?.status == 0).then_some(())))?;
    // Two MiB above what the master keeps free: some changes are taken, then one is refused.
    let script = r#"free=$(df --output=avail -k "$1" | tail -n 1); head -c $(((free - 67584) * 1024)) /dev/zero > "$1/filler""#;
    ground(bench, script, &[&data])?;
    let mut acknowledged = Vec::new();
    let refusal = until("a refusal", 60, || {
        let name = format!("full{:04}", acknowledged.len());
        let comment = format!("nodelist.comments={}", "x".repeat(20_000));
        let said = bench.say(&["nodeadd", &name, "groups=full", &comment])?;
        if said.status == 0 {
            acknowledged.push(name);
            return Ok(None);
        }
        Ok(Some(said))
    })?;
    ensure!(!acknowledged.is_empty(), "the disk was full before anything was acknowledged");
    let named = refusal.err.contains("space");
    refusal.expect(named && refusal.err.lines().count() == 1, "the error does not name the full disk")?;
    let status = bench.ok(&["margay", "status"])?;
    ensure!(status.contains("ALARM"), "no alarm in the status:\n{status}");
    ensure!(bench.ok(&["nodels", "r1n01"])? == "r1n01\n", "it does not answer questions any more");
    ground(bench, r#"rm "$1/filler""#, &[&data])?;
    until("changes to be taken again", 60, || {
        Ok((bench.say(&["nodeadd", "roomy", "groups=full"])?.status == 0).then_some(()))
    })?;
    bench.kill("m1")?;
    bench.lab.start_master("m1")?;
    let nodes = until("the master to answer again", 30, || {
        let said = bench.say(&["nodels", "full"])?;
        Ok((said.status == 0).then_some(said.out))
    })?;
    for name in acknowledged.iter().map(String::as_str).chain(["roomy"]) {
        ensure!(nodes.lines().any(|node| node == name), "{name} was acknowledged and is lost");
    }
    bench.note.print(&format!("              {} acknowledged before the disk was full", acknowledged.len()));
    bench.ok(&["noderm", "full"])?;
    bench.until_agents("machines", 60).context("after the disk was full")
}
