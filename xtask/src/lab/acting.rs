//! The running lab under other hands: commands, processes that are killed and started again, power cuts.
//! What the acceptance checks need beyond asking.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Output, Stdio};

use anyhow::{Context, Result, bail};

use super::place::Place;
use super::plan::Machine;
use super::{Inside, Up, bring_up, enter, network, switch};
use crate::stage::Stages;
use crate::workspace::Workspace;

/// A lab to be brought up.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Masters: 1 or 3.
    pub masters: u8,
    /// Racks.
    pub racks: u8,
    /// Soft nodes in each rack.
    pub nodes: u16,
    /// Virtual machines in each rack.
    pub vms: u16,
    /// Machines without a defined node in each rack.
    pub strangers: u16,
    /// What everything is drawn from; none lets chance choose.
    pub seed: Option<u64>,
    /// Cables that are exchanged before power-on.
    pub swap: Vec<String>,
    /// Whether the machines are powered on and awaited.
    pub power: bool,
}

/// A drawn machine, as far as checks compare it.
#[derive(Debug, Clone)]
pub struct Drawn {
    /// Name that belongs to its place.
    pub name: String,
    /// Whether a node is defined for its place.
    pub defined: bool,
    /// Rack.
    pub rack: u8,
    /// Serial number.
    pub serial: String,
    /// Machine type and model.
    pub model: String,
    /// DMI UUID.
    pub uuid: String,
    /// Address of the adapter it boots from.
    pub mac: String,
    /// Switch port of its place in the tables.
    pub port: String,
    /// Address of its BMC.
    pub bmc: String,
    /// Password of its BMC.
    pub password: String,
}

impl Drawn {
    /// Vendor and model as DMI tells them.
    pub fn mtm(&self) -> String {
        format!("Margay:{}", self.model)
    }

    fn of(rack: u8, machine: &Machine) -> Self {
        Self {
            name: machine.name.clone(),
            defined: machine.defined,
            rack,
            serial: machine.serial.clone(),
            model: machine.model.clone(),
            uuid: machine.uuid.clone(),
            mac: machine.mac.clone(),
            port: machine.port.clone(),
            bmc: machine.bmc.clone(),
            password: machine.password.clone(),
        }
    }
}

/// Brings a lab up from programs that are built already; one that runs is ended.
pub fn raise(workspace: &Workspace, wanted: &Wanted) -> Result<Inside> {
    super::down(workspace)?;
    let wishes = Up {
        masters: wanted.masters,
        racks: wanted.racks,
        nodes: wanted.nodes,
        vms: wanted.vms,
        strangers: wanted.strangers,
        seed: wanted.seed,
        swap: wanted.swap.clone(),
        no_power: !wanted.power,
        patience: 600,
        no_build: true,
        yes: true,
    };
    bring_up(workspace, &Place::of(workspace)?, &wishes, &mut Stages::new())?;
    super::inside(workspace)
}

impl Inside {
    /// All machines, defined or not.
    pub fn drawn(&self) -> Vec<Drawn> {
        let racks = self.plan.racks.iter();
        racks.flat_map(|rack| rack.machines.iter().map(|machine| Drawn::of(rack.number, machine))).collect()
    }

    /// The machine in a place.
    pub fn place_of(&self, name: &str) -> Result<Drawn> {
        self.plan.machine(name).map(|(rack, machine)| Drawn::of(rack.number, machine))
    }

    /// The machine on the port that belongs to a node.
    pub fn at_port_of(&self, node: &str) -> Result<Drawn> {
        let (rack, _) = self.plan.machine(node)?;
        Ok(Drawn::of(rack.number, self.plan.at_port_of(node)?))
    }

    /// A path in the lab's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.place.path(name)
    }

    /// One of the lab's programs.
    pub fn program(&self, name: &str) -> String {
        self.place.program(name).display().to_string()
    }

    /// The log of a process.
    pub fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.place.log(name)).unwrap_or_default()
    }

    /// Starts a command at a place, its output in files; the first file gets its process id, as the lab
    /// counts.
    pub fn begin(&self, at: &str, words: &[&str], stdin: Stdio, files: [&str; 3]) -> Result<Child> {
        let [pid, out, err] = files.map(|name| self.place.path(name));
        let open = |path: &PathBuf| File::create(path).with_context(|| format!("writing {}", path.display()));
        let mut command = enter::nsenter(&self.place)?;
        // The number stands complete in the file as soon as the file has its name.
        command
            .args(["ip", "netns", "exec", at, "sh", "-c"])
            .arg(r#"file=$0; echo $$ > "$file.new"; mv "$file.new" "$file"; exec "$@""#)
            .arg(&pid)
            .args(words)
            .stdin(stdin)
            .stdout(open(&out)?)
            .stderr(open(&err)?);
        command.spawn().with_context(|| format!("starting {}", words.join(" ")))
    }

    /// Runs a command in the lab outside every place: mounts that it makes are seen by what starts later.
    pub fn ground(&self, words: &[&str]) -> Result<Output> {
        let mut command = enter::nsenter(&self.place)?;
        command.args(words).stdin(Stdio::null());
        command.output().with_context(|| format!("running {} in the lab", words.join(" ")))
    }

    /// Process id, as the lab counts, of a daemon by its name (m1, r1sn, r1sw, r1.bmcs).
    pub fn pid(&self, name: &str) -> Result<String> {
        let path = self.place.log(&format!("{name}.pid"));
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        Ok(text.trim().to_owned())
    }

    /// Sends a signal (`KILL`, `STOP`, ...) to a process of the lab.
    pub fn signal(&self, signal: &str, pid: &str) -> Result<()> {
        let output = self.ground(&["kill", "-s", signal, pid])?;
        if !output.status.success() {
            bail!("kill -s {signal} {pid}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }

    /// Starts a master again.
    pub fn start_master(&self, name: &str) -> Result<()> {
        let config = self.place.path("cluster").join(name).join("margayd.toml").display().to_string();
        self.restart(name, &[&self.program("margayd"), "--config", &config])
    }

    /// Starts a rack's service node again.
    pub fn start_service_node(&self, name: &str) -> Result<()> {
        let config = self.place.path("racks").join(name).join("margay-sn.toml").display().to_string();
        self.restart(name, &[&self.program("margay-sn"), "--config", &config])
    }

    /// Starts a daemon in the background of the lab, with its log and process id where they were.
    fn restart(&self, name: &str, words: &[&str]) -> Result<()> {
        let (log, pid) = (self.place.log(name), self.place.log(&format!("{name}.pid")));
        let script = r#"at=$1 log=$2 pid=$3; shift 3
            setsid ip netns exec "$at" "$@" >> "$log" 2>&1 < /dev/null &
            echo $! > "$pid""#;
        let (log, pid) = (log.display().to_string(), pid.display().to_string());
        let mut all = vec!["sh", "-c", script, "restart", name, &log, &pid];
        all.extend(words);
        let output = self.ground(&all)?;
        if !output.status.success() {
            bail!("starting {name}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }

    /// Stops or starts the management of a rack's switch.
    pub fn switch(&self, rack: &str, what: &str) -> Result<()> {
        switch::manage(&self.place, rack, what)
    }

    /// Racks by name.
    pub fn racks(&self) -> Vec<String> {
        self.plan.racks.iter().map(super::plan::Rack::name).collect()
    }

    /// Names of the masters.
    pub fn masters(&self) -> Vec<String> {
        (1..=self.plan.wish.masters).map(network::master).collect()
    }

    /// What the lab was drawn from.
    pub fn seed(&self) -> u64 {
        self.plan.wish.seed
    }

    /// ipmitool at a machine's BMC.
    pub fn ipmitool(&self, machine: &Drawn, words: &[&str]) -> Result<String> {
        let mut all = vec!["ipmitool", "-I", "lanplus", "-C", "17"];
        all.extend(["-H", &machine.bmc, "-U", "admin", "-P", &machine.password]);
        all.extend(words);
        self.run(network::CORE, &all)
    }
}
