//! What the user sees of a running lab: machines, how they were recognized, how long it took, what to try.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;

use super::enter;
use super::network::{self, CORE};
use super::place::Place;
use super::plan::{Kind, Plan};
use crate::workspace::Workspace;

/// Prints everything about the running lab.
pub fn print(place: &Place) -> Result<()> {
    let plan = place.plan()?;
    machines(place, &plan)?;
    memory(place, &plan);
    let names: Vec<&str> =
        plan.machines().filter(|machine| machine.defined).map(|machine| machine.name.as_str()).collect();
    let (first, last) = (names.first().copied().unwrap_or("all"), names.last().copied().unwrap_or("all"));
    println!("\nTry:");
    for line in [
        "exec nodels all nodelist.status".to_owned(),
        "exec rpower r1 stat".to_owned(),
        format!("exec xdsh {first},{last} uname -a"),
        format!("exec getadapter {first}"),
        "exec nodediscoverls".to_owned(),
        format!("exec lsdef {first}"),
        "exec margay status".to_owned(),
        "shell                    (every command, in the lab's network)".to_owned(),
        "down".to_owned(),
    ] {
        println!("    cargo xtask lab {line}");
    }
    Ok(())
}

fn machines(place: &Place, plan: &Plan) -> Result<()> {
    let methods = table(place, &["nodediscoverls", "-t", "all"]);
    let statuses = columns(place, &["nodels", "machines", "nodelist.status"]);
    let found: BTreeMap<String, f64> = std::fs::read_to_string(place.path("discovered.json"))
        .ok()
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default();
    println!(
        "{:<8} {:<5} {:<6} {:<17} {:<9} {:<10} {:<12} {:>6}  stages (s)",
        "node", "kind", "port", "mac", "serial", "recognized", "status", "s"
    );
    for node in plan.machines().filter(|machine| machine.defined) {
        let machine = plan.at_port_of(&node.name)?;
        let kind = match machine.kind {
            Kind::Soft => "soft",
            Kind::Bios => "BIOS",
            Kind::Uefi => "UEFI",
        };
        let method = methods
            .iter()
            .find(|row| row.get(1).is_some_and(|name| *name == node.name))
            .and_then(|row| row.get(2))
            .map_or("-", String::as_str);
        let status = statuses.get(&node.name).map_or("-", String::as_str);
        let took = found.get(&node.name).map_or_else(|| "-".into(), |seconds| format!("{seconds:.1}"));
        println!(
            "{:<8} {kind:<5} {:<6} {:<17} {:<9} {method:<10} {status:<12} {took:>6}  {}",
            node.name,
            node.port,
            machine.mac,
            machine.serial,
            if machine.kind == Kind::Soft {
                stages(place, &machine.name)
            } else {
                seen_by_service_node(
                    place,
                    &plan.machine(&node.name)?.0.service_node(),
                    &machine.mac,
                    &node.name,
                )
            }
        );
    }
    let strangers = plan.machines().filter(|machine| !machine.defined).count();
    if strangers > 0 {
        println!("{strangers} machines hang on ports that no node is defined for.");
    }
    Ok(())
}

/// What a soft node says of its own start: `dhcp 0.1, tftp 0.2, ...`.
fn stages(place: &Place, machine: &str) -> String {
    let text = std::fs::read_to_string(place.log(&format!("{machine}.node"))).unwrap_or_default();
    let last = text.rsplit("stage power-on").next().unwrap_or_default();
    let times: Vec<&str> = last.lines().filter_map(|line| line.strip_prefix("stage ")).collect();
    times.join(", ")
}

/// When the service node first met a machine after power-on, from its log: `script 9.1, agent 31.0`.
fn seen_by_service_node(place: &Place, service_node: &str, mac: &str, node: &str) -> String {
    let log = std::fs::read_to_string(place.log(service_node)).unwrap_or_default();
    let begun = std::fs::read_to_string(place.path("power-on")).unwrap_or_default();
    let Ok(begun) = begun.trim().parse::<f64>() else { return String::new() };
    let stage = |name: &str, event: &str, who: &str| {
        let line = log.lines().find(|line| line.contains(event) && line.contains(who))?;
        let seconds = (time_of_day(line)? - begun).rem_euclid(86_400.0);
        Some(format!("{name} {seconds:.1}"))
    };
    let stages = [
        stage("script", "boot text", &format!("mac={mac}")),
        stage("agent", "admitted", &format!("node={node} ")),
    ];
    stages.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Seconds since midnight of a log line that begins with `2026-11-20T11:10:43.102877Z`.
fn time_of_day(line: &str) -> Option<f64> {
    let time = line.split_once('T')?.1.split_once('Z')?.0;
    let mut parts = time.split(':').map(str::parse::<f64>);
    let (hours, minutes, seconds) = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
    Some(hours * 3600.0 + minutes * 60.0 + seconds)
}

fn memory(place: &Place, plan: &Plan) {
    let mut said = Vec::new();
    let names = (1..=plan.wish.masters)
        .map(network::master)
        .chain(plan.racks.iter().map(super::plan::Rack::service_node));
    for name in names {
        // Process ids are those of the lab; only inside can they be looked up.
        let pid = std::fs::read_to_string(place.log(&format!("{name}.pid"))).unwrap_or_default();
        let file = format!("/proc/{}/status", pid.trim());
        let text =
            enter::output(place, CORE, &["cat", &file]).map(|output| output.stdout).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let kilobytes = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).map(str::trim);
        if let Some(number) = kilobytes.and_then(|words| words.split(' ').next()?.parse::<u64>().ok()) {
            said.push(format!("{name} {} MiB", number / 1024));
        }
    }
    println!("\nResident memory: {}", said.join(", "));
}

/// Lines of `name: value`.
fn columns(place: &Place, words: &[&str]) -> BTreeMap<String, String> {
    text(place, words)
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

/// Lines of words.
fn table(place: &Place, words: &[&str]) -> Vec<Vec<String>> {
    text(place, words).lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

fn text(place: &Place, words: &[&str]) -> String {
    enter::output(place, CORE, words)
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default()
}

/// Disk used by what was built and kept.
pub fn disk(workspace: &Workspace) -> String {
    let megabytes = |path: &Path| {
        let output = std::process::Command::new("du").args(["-sm"]).arg(path).output();
        let text =
            output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        text.split_whitespace().next().unwrap_or("?").to_owned()
    };
    let build =
        format!("{} MiB for the build ({})", megabytes(&workspace.target), workspace.target.display());
    let cache = format!("{} MiB in the cache ({})", megabytes(&workspace.cache), workspace.cache.display());
    if workspace.target.starts_with(&workspace.cache) {
        format!("{cache}, of which {build}")
    } else {
        format!("{cache}, {build}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_log_line_is_read() {
        assert_eq!(time_of_day("2026-11-20T01:00:02.5Z  INFO x"), Some(3602.5));
        assert_eq!(time_of_day("no time here"), None);
    }
}
