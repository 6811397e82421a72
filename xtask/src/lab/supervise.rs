//! Inside the lab: its first process, and the one that puts everything up in order.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, WaitOptions};

use super::enter::Event;
use super::place::Place;
use super::plan::Plan;
use super::{define, machine, network, services, switch, vm};
use crate::process;

/// The first process of the lab's process namespace: collects the dead, and ends everything when the command
/// that starts the lab is gone before the lab is ready.
pub fn first(place: &Place) -> Result<ExitCode> {
    std::thread::spawn(|| {
        let mut said = String::new();
        let read = std::io::stdin().read_to_string(&mut said);
        if read.is_err() || said != "keep\n" {
            std::process::exit(1);
        }
    });
    prepare_mounts()?;
    let supervisor = Command::new(place.program("xtask"))
        .args(["lab", "supervise"])
        .arg(&place.dir)
        .stdin(Stdio::null())
        .spawn()
        .context("starting the supervisor")?;
    let supervisor = i32::try_from(supervisor.id()).ok().and_then(Pid::from_raw).context("its process id")?;
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((ended, status))) if ended == supervisor && status.exit_status() != Some(0) => {
                return Ok(ExitCode::FAILURE);
            }
            Ok(_) => {}
            // Nothing runs at all: everything was ended from inside.
            Err(rustix::io::Errno::CHILD) => return Ok(ExitCode::SUCCESS),
            Err(rustix::io::Errno::INTR) => {}
            Err(fault) => bail!("waiting for processes: {fault}"),
        }
    }
}

/// Own folders where named namespaces and sockets are kept, so that the host's stay untouched.
fn prepare_mounts() -> Result<()> {
    process::text(Command::new("mount").args(["-t", "tmpfs", "-o", "mode=0755", "tmpfs", "/run"]))?;
    std::fs::create_dir_all("/run/netns").context("making /run/netns")?;
    process::text(Command::new("ip").args(["link", "set", "lo", "up"]))?;
    Ok(())
}

/// Puts the lab up; every stage is told in the events' file.
pub fn supervise(place: &Place) -> Result<()> {
    let mut events = Events { path: place.path("events") };
    let result = all(place, &mut events);
    if let Err(fault) = &result {
        events.tell(&Event::Fault(format!("{fault:#}")))?;
    }
    result
}

fn all(place: &Place, events: &mut Events) -> Result<()> {
    let plan = place.plan()?;
    events.stage("networks", 15, |_| {
        network::build(place, &plan)?;
        Ok(format!("{} racks, {} machines", plan.racks.len(), plan.machines().count()))
    })?;
    events.stage("masters", 30, |_| services::start_masters(place, &plan))?;
    events.stage("racks are defined", 60, |events| define::run(place, &plan, events))?;
    events.stage("service nodes", 30, |_| services::start_service_nodes(place, &plan))?;
    events.stage("switches and BMCs", 20, |_| {
        for rack in &plan.racks {
            switch::start(place, rack)?;
            machine::start_bmcs(place, rack)?;
            vm::start_bmcs(place, rack)?;
        }
        Ok(String::new())
    })?;
    if plan.wish.power {
        power_on(place, &plan, events)?;
    }
    events.tell(&Event::Ready)
}

fn power_on(place: &Place, plan: &Plan, events: &mut Events) -> Result<()> {
    events.stage("power on", 20, |events| {
        events.tell(&Event::Print("     # rpower all on".into()))?;
        define::power_on(place)?;
        Ok(String::new())
    })?;
    events.stage("machines to nodes", 180, |events| {
        let found = define::wait_discovered(place, plan, events)?;
        Ok(format!("{found} discovered, {:.1} cpu s in the lab so far", cpu_of_all()))
    })
}

/// The events' file.
pub struct Events {
    path: PathBuf,
}

impl Events {
    /// Appends one event.
    pub fn tell(&self, event: &Event) -> Result<()> {
        let mut line = serde_json::to_string(event)?;
        line.push('\n');
        let mut file = std::fs::File::options().create(true).append(true).open(&self.path)?;
        file.write_all(line.as_bytes()).context("telling an event")
    }

    fn stage(&mut self, name: &str, budget: u64, work: impl FnOnce(&Self) -> Result<String>) -> Result<()> {
        self.tell(&Event::Begin(name.into(), budget))?;
        let said = work(self)?;
        self.tell(&Event::Done(said))
    }
}

/// Processor seconds that all processes of the lab have used, the ended ones included.
fn cpu_of_all() -> f64 {
    const TICKS_PER_SECOND: f64 = 100.0;
    let Ok(entries) = std::fs::read_dir("/proc") else { return 0.0 };
    let ticks: f64 = entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()))
        .filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok())
        .map(|stat| {
            let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
            // utime, stime, and those of collected children.
            (11..=14).filter_map(|at| fields.get(at)?.parse::<f64>().ok()).sum::<f64>()
        })
        .sum();
    ticks / TICKS_PER_SECOND
}
