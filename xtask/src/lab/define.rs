//! The lab's nodes in the tables, made with the public commands, which are shown.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, bail};

use super::enter::Event;
use super::network::CORE;
use super::place::Place;
use super::plan::{Kind, Machine, Plan, Rack};
use super::supervise::Events;
use super::vm;

/// How often the tables are asked whether all machines are found.
const LOOK: Duration = Duration::from_millis(500);

/// Defines networks, switches and nodes.
pub fn run(place: &Place, plan: &Plan, events: &Events) -> Result<String> {
    let commands = commands(plan);
    for words in &commands {
        events.tell(&Event::Print(format!("     # {}", shown(words))))?;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        place.run_at(CORE, &words)?;
    }
    Ok(format!("{} commands", commands.len()))
}

/// Powers the defined machines on.
pub fn power_on(place: &Place) -> Result<()> {
    std::fs::write(place.path("power-on"), seconds_of_day(SystemTime::now()).to_string())?;
    place.run_at(CORE, &["rpower", "machines", "on"]).map(drop)
}

/// Seconds since midnight, universal time.
fn seconds_of_day(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64() % 86_400.0)
}

/// All commands, in order.
fn commands(plan: &Plan) -> Vec<Vec<String>> {
    let mut list = vec![words("chdef -t site dhcpinterfaces=eth0 domain=lab.margay")];
    for rack in &plan.racks {
        list.extend(rack_commands(rack));
    }
    list
}

fn rack_commands(rack: &Rack) -> Vec<Vec<String>> {
    let (name, switch) = (rack.name(), rack.switch());
    let number = rack.number;
    let mut list = vec![
        words(&format!(
            "mkdef -t network {name}net net={} mask=255.255.0.0 mgtifname=eth0 gateway={} dynamicrange={}-{}",
            rack.address(0, 0),
            rack.address(0, 1),
            rack.address(200, 1),
            rack.address(220, 250)
        )),
        words(&format!("nodeadd {switch} groups=switches hosts.ip={} nodehm.mgt=switch", rack.address(0, 2))),
        words(&format!("tabch switch={switch} switches.snmpversion=2 switches.password=public")),
    ];
    let defined: Vec<&Machine> = rack.machines.iter().filter(|machine| machine.defined).collect();
    let names = match defined.as_slice() {
        [] => return list,
        [only] => only.name.clone(),
        [first, .., last] => format!("{}-{}", first.name, last.name),
    };
    list.push(words(&format!("nodeadd {names} groups={name},machines,all")));
    // Everything that follows from the name stands once, in the rows of the group.
    let mut group = words(&format!(
        "chdef -t group {name} mgt=ipmi bmcusername=admin servicenode={} netboot=xnba arch=x86_64 switch={switch}",
        rack.service_node()
    ));
    group.push(format!("ip=|r{number}n(\\d+)|10.{number}.(1+($1-1)/250).(1+($1-1)%250)|"));
    let management = 100 + u16::from(number);
    group.push(format!("bmc=|r{number}n(\\d+)|10.{management}.(1+($1-1)/250).(1+($1-1)%250)|"));
    list.push(group);
    // What does not follow from the name: which port, and the password on the BMC's label.
    for machine in defined {
        list.push(words(&format!(
            "nodech {} switch.switch={switch} switch.port={} ipmi.password={}",
            machine.name, machine.port, machine.password
        )));
    }
    list
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

/// A command as one would type it.
fn shown(words: &[String]) -> String {
    let quoted = words.iter().map(|word| {
        if word.contains(['|', '(', '$', '\\', '*']) { format!("'{word}'") } else { word.clone() }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// Waits until every defined node carries the serial number of the machine on its port; says how many.
pub fn wait_discovered(place: &Place, plan: &Plan, events: &Events) -> Result<usize> {
    let wanted: Vec<(&Machine, &Machine)> = plan
        .machines()
        .filter(|node| node.defined)
        .map(|node| Ok((node, plan.at_port_of(&node.name)?)))
        .collect::<Result<_>>()?;
    let begun = Instant::now();
    let mut found = vec![None; wanted.len()];
    let mut boots_again = BTreeMap::new();
    while begun.elapsed().as_secs() < plan.wish.patience {
        let serials = place.run_at(CORE, &["nodels", "machines", "vpd.serial"])?;
        for (at, (node, machine)) in wanted.iter().enumerate() {
            let serial = serials
                .lines()
                .filter_map(|line| line.split_once(':'))
                .find(|(name, _)| *name == node.name)
                .map(|(_, serial)| serial.trim().to_owned())
                .unwrap_or_default();
            if found[at].is_some() || serial.is_empty() {
                continue;
            }
            if serial != machine.serial {
                bail!(
                    "{} was given to machine {serial}, but {} hangs on its port",
                    node.name,
                    machine.serial
                );
            }
            found[at] = Some(begun.elapsed());
            let count = found.iter().flatten().count();
            events.tell(&Event::Say(format!("{count} of {} ({})", wanted.len(), node.name)))?;
        }
        if found.iter().all(Option::is_some) {
            keep_times(place, &wanted, &found)?;
            return Ok(wanted.len());
        }
        let open = wanted.iter().zip(&found).filter(|(_, at)| at.is_none()).map(|((_, machine), _)| *machine);
        for machine in open.filter(|machine| machine.kind != Kind::Soft) {
            let panics = vm::panics(place, machine);
            if panics > boots_again.insert(&machine.name, panics).unwrap_or(0) {
                events
                    .tell(&Event::Say(format!("{} panicked under the load; it boots again", machine.name)))?;
                place.run_at(CORE, &["rpower", &machine.name, "reset"])?;
            }
        }
        std::thread::sleep(LOOK);
    }
    let missing: Vec<&str> = wanted
        .iter()
        .zip(&found)
        .filter(|(_, at)| at.is_none())
        .map(|((node, _), _)| node.name.as_str())
        .collect();
    let pending = place.run_at(CORE, &["nodediscoverls", "-t", "all"]).unwrap_or_default();
    bail!("not discovered within {} s: {}\n{pending}", plan.wish.patience, missing.join(" "))
}

fn keep_times(place: &Place, wanted: &[(&Machine, &Machine)], found: &[Option<Duration>]) -> Result<()> {
    let times: BTreeMap<&str, f64> = wanted
        .iter()
        .zip(found)
        .filter_map(|((node, _), at)| Some((node.name.as_str(), at.as_ref()?.as_secs_f64())))
        .collect();
    std::fs::write(place.path("discovered.json"), serde_json::to_string(&times)?)?;
    Ok(())
}
