//! A booted node sets itself up from the tables, and a changed row reaches it without being asked for.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::bench::{Bench, until};
use super::{Check, daily};

/// The sentence of the check that later parts need: systems that run from their disks.
pub const PREPARES: &str = "every node boots from its disk and is reported booted";

/// In the order in which they build on one another.
pub const CHECKS: &[Check] = &[
    daily(PREPARES, all_booted),
    daily("a booted node sets up every item of its configuration and tells what failed", every_item),
    daily("a changed row reaches every agent within 2 s", change_arrives),
    daily("what is taken out of the tables is taken off the node", taken_away),
];

/// For full racks.
pub const MANY: &[Check] = &[
    daily(PREPARES, all_booted),
    daily("a changed row reaches 16 of 16 agents within 2 s", change_arrives_16),
];

/// A changed row is applied within this time everywhere.
const ARRIVES: Duration = Duration::from_secs(2);
/// The node that is set up.
const NODE: &str = "r2n01";

/// Below it lie the files that a node set up.
fn root(bench: &Bench<'_>, node: &str) -> Result<std::path::PathBuf> {
    let machine = bench.lab.at_port_of(node)?;
    Ok(bench.lab.path("machines").join(machine.name).join("disk/root"))
}

fn all_booted(bench: &Bench<'_>) -> Result<()> {
    bench.ok(&["nodeset", "machines", "boot"])?;
    bench.ok(&["rpower", "machines", "boot"])?;
    bench.until_all("machines", "nodelist.status", "booted", 120)?;
    bench.until_agents("machines", 60)
}

fn every_item(bench: &Bench<'_>) -> Result<()> {
    for words in [
        &[
            "chtab",
            "node=r2n01",
            "selfconf.hostname=probe1",
            "selfconf.hosts=192.0.2.9 fileserver fs",
            "selfconf.interfaces=eth0=10.2.1.1/16;10.2.0.1;1400,lo=192.0.2.77/32",
            "selfconf.startcommand=echo \"$(id -un) $(cat etc/hostname)\"; exit 5",
        ][..],
        &[
            "chtab",
            "node=r2n01,target=/scratch",
            "nodemounts.source=fs:/export",
            "nodemounts.kind=nfs",
            "nodemounts.options=ro",
        ],
        &["chtab", "node=r2n01,target=relative", "nodemounts.source=fs:/export", "nodemounts.kind=nfs"],
        &["chtab", "node=r2n01,destination=198.51.100.0/24", "noderoutes.gateway=10.2.0.1"],
        &["chtab", "node=r2n01,name=@lab", "useraccounts.gid=4002"],
        &[
            "chtab",
            "node=r2n01,name=ada",
            "useraccounts.uid=4001",
            "useraccounts.groups=lab",
            "useraccounts.gecos=Ada L",
            "useraccounts.password=$6$salt$hash",
            "useraccounts.keys=ssh-ed25519 AAAAC3Nz ada@desk",
        ],
    ] {
        bench.ok(words)?;
    }
    // From the beginning of a boot on, as a node would come up with this configuration.
    bench.ok(&["rpower", NODE, "boot"])?;
    let root = root(bench, NODE)?;
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_default();
    // Of the generation that the node has applied, not of one before.
    let report = until("the report of the start command", 60, || {
        let row = bench.ok(&["tabdump", "selfconf"])?;
        let row = row.lines().find(|line| line.starts_with("\"r2n01\"")).unwrap_or_default().to_owned();
        let generation = format!("\"{}\"", read("etc/margay/generation").trim());
        let complete = row.contains("mount relative") && row.contains("\"5\"") && row.contains(&generation);
        Ok(complete.then_some(row))
    })
    .with_context(|| bench.say(&["tabdump", "selfconf"]).map_or_else(|e| e.to_string(), |said| said.all()))?;
    bench.until_all(NODE, "nodelist.status", "booted", 30)?;
    for (path, text) in [
        ("etc/hostname", "probe1\n"),
        ("etc/hosts", "192.0.2.9 fileserver fs\n"),
        ("etc/hosts", "10.2.1.1 r2n01 r2n01.lab.margay"),
        ("etc/fstab", "/scratch nfs ro"),
        ("etc/passwd", "ada:x:4001:4001:Ada L:/home/ada:"),
        ("etc/group", "lab:x:4002:ada\n"),
        ("etc/shadow", "ada:$6$salt$hash:"),
        ("home/ada/.ssh/authorized_keys", "ssh-ed25519 AAAAC3Nz ada@desk\n"),
        ("var/log/margay-start.log", "root probe1\n"),
    ] {
        ensure!(read(path).contains(text), "{path} lacks '{text}':\n{}", read(path));
    }
    ensure!(root.join("scratch").is_dir(), "the folder of the mount was not made");
    ensure!(!report.contains("interface"), "interfaces failed: {report}");
    let machine = bench.lab.at_port_of(NODE)?.name;
    for (words, text) in [
        (&["ip", "addr", "show", "dev", "lo"][..], "192.0.2.77/32"),
        (&["ip", "link", "show", "dev", "eth0"], "mtu 1400"),
        (&["ip", "route"], "198.51.100.0/24 via 10.2.0.1"),
    ] {
        let said = bench.lab.run(&machine, words)?;
        ensure!(said.contains(text), "'{}' lacks '{text}':\n{said}", words.join(" "));
    }
    Ok(())
}

/// All but the node that has a row of its own, which hides the group's.
fn change_arrives(bench: &Bench<'_>) -> Result<()> {
    let nodes = bench.column("machines", "nodelist.node")?.into_iter().map(|(node, _)| node);
    arrives(bench, &nodes.filter(|node| node != NODE).collect::<Vec<_>>())
}

fn change_arrives_16(bench: &Bench<'_>) -> Result<()> {
    let nodes: Vec<_> =
        bench.column("machines", "nodelist.node")?.into_iter().map(|(node, _)| node).collect();
    ensure!(nodes.len() == 16, "{} machines instead of 16: {nodes:?}", nodes.len());
    arrives(bench, &nodes)
}

fn arrives(bench: &Bench<'_>, nodes: &[String]) -> Result<()> {
    let files = nodes
        .iter()
        .map(|node| Ok((node.clone(), root(bench, node)?.join("etc/hosts"))))
        .collect::<Result<Vec<_>>>()?;
    for number in [1, 2] {
        let mark = format!("192.0.2.{number} changed{number}");
        let begun = Instant::now();
        bench.ok(&["chtab", "node=machines", &format!("selfconf.hosts={mark}")])?;
        let said = begun.elapsed();
        let mut missing = files.clone();
        until("the change at every node", 20, || {
            missing.retain(|(_, file)| !std::fs::read_to_string(file).unwrap_or_default().contains(&mark));
            Ok(missing.is_empty().then_some(()))
        })
        .with_context(|| format!("missing at {missing:?}"))?;
        let took = begun.elapsed();
        bench.note.print(&format!(
            "              change {number}: acknowledged after {:.2} s, at {} agents after {:.2} s",
            said.as_secs_f64(),
            files.len(),
            took.as_secs_f64()
        ));
        ensure!(took < ARRIVES, "it took {took:.2?}");
    }
    Ok(())
}

fn taken_away(bench: &Bench<'_>) -> Result<()> {
    for words in [
        &["chtab", "-d", "node=r2n01,name=ada", "useraccounts"][..],
        &["chtab", "-d", "node=r2n01,target=/scratch", "nodemounts"],
        &["chtab", "-d", "node=r2n01,target=relative", "nodemounts"],
        &["chtab", "-d", "node=r2n01,destination=198.51.100.0/24", "noderoutes"],
    ] {
        bench.ok(words)?;
    }
    let root = root(bench, NODE)?;
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_default();
    until("account and mount to be gone", 20, || {
        let gone = !read("etc/passwd").contains("ada:") && !read("etc/fstab").contains("/scratch");
        Ok(gone.then_some(()))
    })?;
    let machine = bench.lab.at_port_of(NODE)?.name;
    until("the route to be gone", 10, || {
        Ok((!bench.lab.run(&machine, &["ip", "route"])?.contains("198.51.100.0/24")).then_some(()))
    })?;
    until("the report without failed steps", 20, || {
        let row = bench.ok(&["tabdump", "selfconf"])?;
        Ok((!row.contains("mount relative")).then_some(()))
    })
}
