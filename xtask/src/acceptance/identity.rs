//! Agents that lie about who they are: refused on the wire, written down, and nothing changed.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};

use super::bench::{Bench, CORE, until};
use super::{Check, daily};

/// In the order in which they build on one another.
pub const CHECKS: &[Check] = &[
    daily("a certificate of another cluster, rack or role is turned away and written down", certificates),
    daily("a boot token is good once, for its own machine, and in its time", tokens),
];

/// The service node that is lied to, and where from.
const RACK: &str = "r1sn";
const DOOR: &str = "10.1.0.10:3002";
const FROM: &str = "r1sw";
/// How long a token lives that a check writes: its first use must fit.
const LIFE: Duration = Duration::from_secs(12);

fn folder(bench: &Bench<'_>, name: &str) -> Result<PathBuf> {
    let dir = bench.lab.path("impostors").join(name);
    if dir.exists() {
        std::fs::remove_dir_all(&dir).with_context(|| format!("clearing {}", dir.display()))?;
    }
    std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
    Ok(dir)
}

/// Runs an agent beside the machines of rack 1 until it has said `mark`; gives all that it said.
fn impostor(bench: &Bench<'_>, root: &Path, state: &Path, phase: &str, mark: &str) -> Result<String> {
    // The mark is awaited, not slept for; the agent would try again and again.
    let script = r#"mark=$1; shift
        "$@" > "$0" 2>&1 & pid=$!
        for i in $(seq 300); do
            grep -q "$mark" "$0" && break
            kill -0 $pid 2> /dev/null || break
            sleep 0.05
        done
        kill -9 $pid 2> /dev/null; wait $pid 2> /dev/null; cat "$0""#;
    let log = bench.lab.file("impostor.log");
    let (root, state) = (root.display().to_string(), state.display().to_string());
    let agent = bench.lab.program("margay-agent");
    let words = ["sh", "-c", script, &log, mark, &agent, "--root", &root, "--state", &state];
    let words = [&words[..], &["--phase", phase, "--no-network", "--service-node", DOOR]].concat();
    let said = bench.lab.run(FROM, &words)?;
    ensure!(said.contains(mark), "no word of '{mark}':\n{said}");
    Ok(said)
}

/// What must not change: who holds which node, and how it is.
fn rows(bench: &Bench<'_>) -> Result<String> {
    let identity = bench.ok(&["tabdump", "identity"])?;
    let status = bench.ok(&["nodels", "machines", "nodelist.status", "mac.mac", "vpd.serial"])?;
    Ok(format!("{identity}{status}"))
}

/// Waits until the audit log has a refusal with these words that it had not before.
fn written_down(bench: &Bench<'_>, before: &str, words: &str) -> Result<()> {
    let count = |text: &str| text.lines().filter(|line| line.contains(words)).count();
    until(&format!("'{words}' in the audit log"), 20, || {
        Ok((count(&bench.ok(&["tabdump", "auditlog"])?) > count(before)).then_some(()))
    })
}

fn certificates(bench: &Bench<'_>) -> Result<()> {
    let (before, rows_before) = (bench.ok(&["tabdump", "auditlog"])?, rows(bench)?);
    let refused = bench.counters(RACK)?.get("agent_refused").copied().unwrap_or(0);
    let copy = |from: &Path, to: &Path| {
        std::fs::copy(from, to).map(drop).with_context(|| format!("copying {}", from.display()))
    };
    let root = folder(bench, "nobody")?;

    // Of another rack: genuine, but its node is none of this service node's.
    let stranger = bench.lab.path("machines").join(bench.lab.at_port_of("r2n02")?.name).join("state");
    let state = folder(bench, "elsewhere")?;
    for file in ["ca.pem", "cert.pem", "key.pem"] {
        copy(&stranger.join(file), &state.join(file))?;
    }
    let ca = stranger.join("ca.pem");
    std::fs::create_dir_all(root.join("etc/margay")).context("making a root")?;
    copy(&ca, &root.join("etc/margay/ca.pem"))?;
    impostor(bench, &root, &state, "system", "r2n02 is not a node of this service node")?;
    written_down(bench, &before, "r2n02 is not a node of this service node")?;

    // Of another cluster: it trusts us, but nobody here has signed it.
    let other = folder(bench, "other")?.join("cluster");
    let (daemon, dir) = (bench.lab.program("margayd"), other.display().to_string());
    let hosts = format!("{dir}/hosts");
    let init = [&daemon, "init", "--dir", &dir, "--cluster", "lab", "--listen", "127.0.0.1:3998"];
    bench.lab.run(CORE, &[&init[..], &["--no-networks", "--hosts", &hosts]].concat())?;
    let state = folder(bench, "unsigned")?;
    copy(&ca, &state.join("ca.pem"))?;
    for file in ["cert.pem", "key.pem"] {
        copy(&other.join("admin").join(file), &state.join(file))?;
    }
    impostor(bench, &root, &state, "system", "no service node")?;
    written_down(bench, &before, "without a valid certificate")?;
    until(&format!("agent_refused to grow by 2 from {refused}"), 10, || {
        let now = bench.counters(RACK)?.get("agent_refused").copied().unwrap_or(0);
        Ok((now >= refused + 2).then_some(()))
    })?;

    // Of another role: a node's certificate in an admin's place.
    let config = bench.lab.path("impostors/node.toml");
    let text = format!(
        "cluster = \"lab\"\nmasters = [\"10.0.0.11:3001\"]\nca = \"{0}/ca.pem\"\ncert = \"{0}/cert.pem\"\n\
         key = \"{0}/key.pem\"\npatience = 1\n",
        stranger.display()
    );
    std::fs::write(&config, text).context("settings of a node")?;
    let setting = format!("MARGAY_CONFIG={}", config.display());
    let said = bench.say(&["env", &setting, "nodeadd", "intruder", "groups=all"])?;
    said.expect(said.status == 1, "a node's certificate was taken for an admin's")?;
    ensure!(!bench.ok(&["nodels"])?.contains("intruder"), "the intruder made a node");

    let rows_now = rows(bench)?;
    ensure!(rows_now == rows_before, "before:\n{rows_before}\nnow:\n{rows_now}");
    bench.until_agents("machines", 30)
}

/// A copy of what a machine has in memory in the discovery image, with another token.
fn memory(bench: &Bench<'_>, node: &str, token: Option<&str>) -> Result<PathBuf> {
    let memory = bench.lab.path("machines").join(bench.lab.at_port_of(node)?.name).join("memory");
    let copy = folder(bench, &format!("memory-{node}"))?;
    let (from, to) = (format!("{}/.", memory.display()), copy.display().to_string());
    bench.lab.run(CORE, &["cp", "-a", &from, &to])?;
    if let Some(token) = token {
        std::fs::create_dir_all(copy.join("etc/margay")).context("planting a token")?;
        std::fs::write(copy.join("etc/margay/token"), token).context("planting a token")?;
    }
    ensure!(copy.join("etc/margay/token").exists(), "{node} booted without a token");
    Ok(copy)
}

fn seconds() -> Result<u64> {
    Ok(SystemTime::UNIX_EPOCH.elapsed().context("the clock")?.as_secs())
}

fn tokens(bench: &Bench<'_>) -> Result<()> {
    let (before, rows_before) = (bench.ok(&["tabdump", "auditlog"])?, rows(bench)?);
    let unchanged = |rows_before: &str| -> Result<()> {
        let rows_now = rows(bench)?;
        ensure!(rows_now == rows_before, "before:\n{rows_before}\nnow:\n{rows_now}");
        Ok(())
    };
    let generation = |node: &str| bench.ok(&["gettab", &format!("node={node}"), "identity.generation"]);

    // A token for r1n02 that the service node knows, in the hands of another machine.
    let token = "5eed".repeat(16);
    let of_now = generation("r1n02")?;
    bench.kill(RACK)?;
    let expires = seconds()? + LIFE.as_secs();
    let path = bench.lab.path("racks").join(RACK).join("tokens");
    let mut known = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    known.push_str(&format!("{expires} {} {token} r1n02\n", of_now.trim()));
    std::fs::write(&path, known).with_context(|| format!("writing {}", path.display()))?;
    bench.lab.start_service_node(RACK)?;
    let thief = memory(bench, "r1n03", Some(&token))?;
    impostor(bench, &thief, &folder(bench, "thief")?, "genesis", "without any of its adapters")?;
    written_down(bench, &before, "token of node r1n02 was used by a machine without any of its adapters")?;
    unchanged(&rows_before)?;

    // r1n03 boots with a token of its own, and uses it; then somebody else who has read it.
    let old = generation("r1n03")?;
    bench.until_agents("machines", 60)?;
    bench.ok(&["nodeset", "r1n03", "standby"])?;
    bench.ok(&["rpower", "r1n03", "boot"])?;
    until("r1n03 to come back by its token", 60, || Ok((generation("r1n03")? != old).then_some(())))?;
    bench.until_agents("machines", 60)?;
    bench.until_all("r1n03", "nodelist.status", "standingby", 30)?;
    let rows_before = rows(bench)?;
    let used = memory(bench, "r1n03", None)?;
    impostor(bench, &used, &folder(bench, "twice")?, "genesis", "was used before")?;
    written_down(bench, &before, "token of node r1n03 was used before")?;

    // The first token once more, now by the machine that it is for, but too late.
    until("the token to expire", LIFE.as_secs() + 5, || Ok((seconds()? > expires).then_some(())))?;
    let late = memory(bench, "r1n02", Some(&token))?;
    impostor(bench, &late, &folder(bench, "late")?, "genesis", "unknown or expired")?;
    written_down(bench, &before, "token is unknown or expired")?;
    bench.until_agents("machines", 60)?;
    unchanged(&rows_before)
}
