//! Soft nodes: their settings, their pretended hardware, and the process that simulates a rack's BMCs.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;

use super::place::Place;
use super::plan::{Kind, Machine, Rack};
use super::services;

/// Starts one process with the BMCs of all soft nodes of a rack.
pub fn start_bmcs(place: &Place, rack: &Rack) -> Result<()> {
    let mut lines = String::new();
    for machine in rack.machines.iter().filter(|machine| machine.kind == Kind::Soft) {
        let folder = place.path("machines").join(&machine.name);
        std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let settings = folder.join("machine.json");
        let text = serde_json::to_string_pretty(&settings_of(place, rack, machine))?;
        std::fs::write(&settings, text).with_context(|| format!("writing {}", settings.display()))?;
        let bmc = json!({
            "node": machine.name,
            "address": format!("{}:623", machine.bmc),
            "user": "admin",
            "password": machine.password,
            "serial": machine.serial,
            "mtm": machine.model,
            "model": "Margay soft node",
            "uuid": machine.uuid,
            "process": start_words(place, machine, &settings),
        });
        lines.push_str(&bmc.to_string());
        lines.push('\n');
    }
    if lines.is_empty() {
        return Ok(());
    }
    let name = format!("{}.bmcs", rack.name());
    let list = place.path("machines").join(format!("{name}.jsonl"));
    std::fs::write(&list, lines).with_context(|| format!("writing {}", list.display()))?;
    let (program, list) = (place.program("margay-sim-bmc"), list.display().to_string());
    place.spawn_at(&rack.management(), &name, &program, &[&list])?;
    services::wait_for(place, &name, "ready ")
}

/// The process that is the machine: cutting it off ends everything that ran in the machine, because all of
/// it lives in a process namespace of its own.
fn start_words(place: &Place, machine: &Machine, settings: &Path) -> Vec<String> {
    let mut words: Vec<String> = ["ip", "netns", "exec", &machine.name].map(str::to_owned).into();
    words.extend(["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--uts"].map(str::to_owned));
    words.push(place.program("margay-sim-node").display().to_string());
    words.push(settings.display().to_string());
    words
}

fn settings_of(place: &Place, rack: &Rack, machine: &Machine) -> serde_json::Value {
    json!({
        "name": machine.name,
        "interface": "eth0",
        "mac": machine.mac,
        "serial": machine.serial,
        "vendor": "Margay",
        "model": machine.model,
        "uuid": machine.uuid,
        "arch": if rack.number.is_multiple_of(2) { 7 } else { 0 },
        "folder": place.path("machines").join(&machine.name),
        "agent": place.program("margay-agent"),
        "log": place.log(&format!("{}.node", machine.name)),
    })
}
