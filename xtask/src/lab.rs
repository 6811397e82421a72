//! Virtual racks of unknown machines on this computer, from nothing to managed nodes.
//!
//! The whole lab lives in its own process, mount and network namespace (and user namespace when not run by
//! root), so nothing of it is seen by the host, several clones do not meet, and ending its first process ends
//! everything. Inside, each master, service node, switch and machine has a network namespace of its own.

mod acting;
mod chassis;
mod define;
mod enter;
mod garble;
mod machine;
mod network;
mod place;
mod plan;
mod report;
mod services;
mod supervise;
mod switch;
mod vm;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};

use crate::stage::{Budget, Note, Stages};
use crate::workspace::Workspace;
use crate::{image, packages, process};

pub use acting::{Drawn, Wanted, raise};
use place::Place;
use plan::{Plan, Wish};

/// Options of the lab command.
#[derive(Args)]
pub struct Options {
    #[command(subcommand)]
    command: Deed,
}

#[derive(Subcommand)]
enum Deed {
    /// Builds and starts the racks, powers the machines on and waits until all are discovered.
    Up(Up),
    /// Ends the lab and removes everything of it.
    Down,
    /// Lets other programs check the running lab: ipmitool, curl, tftp, snmpwalk, perfdhcp.
    Check,
    /// Says what runs, and how the machines were recognized.
    Status,
    /// Runs a command inside, with every command of Margay in PATH.
    Exec {
        /// Run it at this place: core, m1, r1sn, r1sw, r1n01, ...
        #[arg(long, default_value = network::CORE)]
        at: String,
        /// The command and its arguments.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// A shell inside, with every command of Margay in PATH.
    Shell {
        /// The place: core, m1, r1sn, r1sw, r1n01, ...
        #[arg(long, default_value = network::CORE)]
        at: String,
    },
    /// A machine's power through its own BMC, without Margay (on, off, cycle, reset, status).
    Power {
        /// The machine, by the name of the node that belongs to its place.
        machine: String,
        /// What ipmitool is to do.
        what: String,
    },
    /// Exchanges the network cables of two machines of one rack.
    Swap {
        /// One machine.
        one: String,
        /// The other.
        other: String,
    },
    /// Stops or starts the management of a rack's switch (its forwarding goes on).
    Switch {
        /// The rack: r1, r2, ...
        rack: String,
        /// stop or start.
        what: String,
    },
    #[command(hide = true)]
    First { place: std::path::PathBuf },
    #[command(hide = true)]
    Supervise { place: std::path::PathBuf },
    #[command(hide = true, disable_help_flag = true)]
    Chassis {
        place: std::path::PathBuf,
        machine: String,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    #[command(hide = true)]
    Forwarding { bridge: String },
    #[command(hide = true)]
    Garble { address: String, questions: usize },
    #[command(hide = true)]
    Noise { address: String, head: String, bytes: usize, count: usize },
}

/// Options of `lab up`.
#[derive(Args, Clone)]
pub struct Up {
    /// How many masters: 1 or 3.
    #[arg(long, default_value_t = 1, value_parser = masters)]
    masters: u8,
    /// How many racks.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=9))]
    racks: u8,
    /// Soft nodes in each rack.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(0..=900))]
    nodes: u16,
    /// Virtual machines in each rack, BIOS and UEFI in turn.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(0..=32))]
    vms: u16,
    /// Machines of each rack that hang on ports which no node is defined for.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=32))]
    strangers: u16,
    /// Serials, addresses and cabling are drawn from this number.
    #[arg(long)]
    seed: Option<u64>,
    /// Exchange the cables of these two machines before power-on (`r1n01:r1n02`).
    #[arg(long)]
    swap: Vec<String>,
    /// Define everything, but leave the machines off.
    #[arg(long)]
    no_power: bool,
    /// Seconds to wait for the machines.
    #[arg(long, default_value_t = 900)]
    patience: u64,
    /// Run what was built before.
    #[arg(long)]
    no_build: bool,
    /// Do not ask before installing packages.
    #[arg(long)]
    yes: bool,
}

/// Reads the number of masters.
pub fn masters(text: &str) -> Result<u8, String> {
    match text {
        "1" => Ok(1),
        "3" => Ok(3),
        _ => Err("a cluster here has 1 or 3 masters".into()),
    }
}

/// Packages whose programs run in the lab.
const PROGRAMS: &[&str] = &["master", "cli", "servicenode", "sim", "xtask"];

/// Runs one of the lab's commands.
pub fn run(workspace: &Workspace, options: Options) -> Result<ExitCode> {
    let place = || Place::of(workspace);
    match options.command {
        Deed::Up(wishes) => return up(workspace, &wishes),
        Deed::Down => {
            let was = down(workspace)?;
            println!("{}", if was { "The lab is down." } else { "No lab runs." });
        }
        Deed::Check => {
            crate::crosscheck::run(workspace, &Note::plain())?;
            println!("All agree.");
        }
        Deed::Status => return status(&place()?),
        Deed::Exec { at, command } => return enter::exec(&place()?, &at, &command),
        Deed::Shell { at } => {
            let shell = std::env::var("SHELL").unwrap_or_else(|_| "/bin/sh".into());
            return enter::exec(&place()?, &at, &[shell]);
        }
        Deed::Power { machine, what } => {
            return enter::ipmitool(&place()?, &machine, &["chassis", "power", &what]);
        }
        Deed::Swap { one, other } => {
            let place = place()?;
            let mut plan = place.plan()?;
            plan.swap(&one, &other)?;
            network::recable(&place, &plan, &[&one, &other])?;
            place.keep_plan(&plan)?;
        }
        Deed::Switch { rack, what } => switch::manage(&place()?, &rack, &what)?,
        Deed::First { place } => return supervise::first(&Place::at(place)),
        Deed::Supervise { place } => supervise::supervise(&Place::at(place))?,
        Deed::Chassis { place, machine, words } => chassis::answer(&Place::at(place), &machine, &words)?,
        Deed::Forwarding { bridge } => switch::serve_forwarding(&bridge)?,
        Deed::Noise { address, head, bytes, count } => garble::noise(&address, &head, bytes, count)?,
        Deed::Garble { address, questions } => garble::answer(&address, questions)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn up(workspace: &Workspace, wishes: &Up) -> Result<ExitCode> {
    let place = Place::of(workspace)?;
    if place.running().is_some() {
        println!("The lab of this clone is up already (cargo xtask lab down ends it).\n");
        return status(&place);
    }
    let mut stages = Stages::new();
    if !wishes.no_build {
        build(workspace, wishes, &mut stages)?;
    }
    enter::possible(wishes.vms > 0)?;
    let end = bring_up(workspace, &place, wishes, &mut stages);
    stages.close();
    end?;
    println!();
    report::print(&place)?;
    println!("Disk used: {}", report::disk(workspace));
    Ok(ExitCode::SUCCESS)
}

/// Packages, library, programs, agent, image.
fn build(workspace: &Workspace, wishes: &Up, stages: &mut Stages) -> Result<()> {
    stages.run("packages", Budget::seconds(240), |_| {
        packages::install(workspace, wishes.yes)?;
        Ok(String::new())
    })?;
    stages.run("RocksDB library", Budget::seconds(900), |note| {
        if !crate::rocksdb::ready(workspace)? {
            note.say("compiled once for this version, about ten minutes on two cores");
            crate::rocksdb::ensure(workspace)?;
            return Ok("built".into());
        }
        Ok("there".into())
    })?;
    stages.run("daemons and simulators", Budget::seconds(400), |_| {
        build_programs(workspace)?;
        Ok(String::new())
    })?;
    stages.run("agent", Budget::seconds(180), |_| {
        let size = std::fs::metadata(image::agent(workspace)?)?.len();
        Ok(format!("{} KiB", size / 1024))
    })?;
    stages.run("discovery image", Budget::seconds(60), |_| {
        let folder = image::compose(workspace, &image::agent(workspace)?)?;
        image::sizes(&folder)
    })
}

/// Builds what runs in the lab.
pub fn build_programs(workspace: &Workspace) -> Result<()> {
    let mut cargo = workspace.cargo(&["build", "--locked", "--profile", &workspace.profile, "--bins"])?;
    for package in PROGRAMS {
        cargo.args(["-p", package]);
    }
    process::logged(&mut cargo, &workspace.target.join("xtask/lab-build.log"))
        .context("building the lab's programs")
}

/// Draws the plan and follows the supervisor's stages until the machines are discovered.
fn bring_up(workspace: &Workspace, place: &Place, wishes: &Up, stages: &mut Stages) -> Result<()> {
    let seed = match wishes.seed {
        Some(seed) => seed,
        None => plan::fresh_seed()?,
    };
    println!("     seed {seed} (lab up --seed {seed} draws the same serials, addresses and cabling)");
    let wish = Wish {
        masters: wishes.masters,
        racks: wishes.racks,
        nodes: wishes.nodes,
        vms: wishes.vms,
        strangers: wishes.strangers,
        seed,
        power: !wishes.no_power,
        patience: wishes.patience,
    };
    let mut plan = Plan::draw(&wish);
    for pair in &wishes.swap {
        let Some((one, other)) = pair.split_once(':') else { bail!("--swap wants ONE:OTHER, not {pair}") };
        plan.swap(one, other)?;
    }
    place.prepare(workspace, &plan)?;
    let mut follow = enter::start(place)?;
    let result = follow.stages(stages);
    if result.is_err() {
        follow.end();
    }
    result?;
    follow.keep()
}

/// Ends the lab of this clone; says whether there was one.
pub fn down(workspace: &Workspace) -> Result<bool> {
    Place::of(workspace)?.end()
}

fn status(place: &Place) -> Result<ExitCode> {
    if place.running().is_none() {
        println!("No lab runs.");
        return Ok(ExitCode::FAILURE);
    }
    report::print(place)?;
    Ok(ExitCode::SUCCESS)
}

/// A running lab as the cross-checks see it.
pub struct Inside {
    place: Place,
    plan: Plan,
}

/// A machine as the cross-checks see it.
pub struct Seen {
    /// Name of the node that it is.
    pub name: String,
    /// Whether it is a soft node.
    pub soft: bool,
    /// Address of its adapter.
    pub mac: String,
    /// Its BMC.
    pub bmc: String,
    /// The BMC's password.
    pub password: String,
    /// Address of its service node.
    pub server: String,
    /// Address of its switch.
    pub switch: String,
    /// Namespace of its switch.
    pub rack: String,
}

/// What discovery must find out about a node.
pub struct Cabled {
    /// Serial number.
    pub serial: String,
    /// Model.
    pub model: String,
    /// Address of the adapter.
    pub mac: String,
    /// Switch port.
    pub port: String,
}

/// The lab that runs.
pub fn inside(workspace: &Workspace) -> Result<Inside> {
    let place = Place::of(workspace)?;
    let plan = place.plan()?;
    Ok(Inside { place, plan })
}

impl Inside {
    /// The defined machines.
    pub fn machines(&self) -> impl Iterator<Item = Seen> {
        self.plan.racks.iter().flat_map(|rack| {
            rack.machines.iter().filter(|machine| machine.defined).map(|machine| Seen {
                name: machine.name.clone(),
                soft: machine.kind == plan::Kind::Soft,
                mac: machine.mac.clone(),
                bmc: machine.bmc.clone(),
                password: machine.password.clone(),
                server: rack.address(0, 10),
                switch: rack.address(0, 2),
                rack: rack.switch(),
            })
        })
    }

    /// The machine that hangs on a node's port: serial, model, address, and that port.
    pub fn cabled_to(&self, node: &str) -> Result<Cabled> {
        let machine = self.plan.at_port_of(node)?;
        Ok(Cabled {
            serial: machine.serial.clone(),
            model: machine.model.clone(),
            mac: machine.mac.clone(),
            port: machine.cabled.clone(),
        })
    }

    /// Runs a command at a place; what it printed.
    pub fn run(&self, at: &str, words: &[&str]) -> Result<String> {
        let output = self.output(at, words)?;
        if !output.status.success() {
            bail!(
                "{}: {}: {}",
                words.join(" "),
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs a command at a place.
    pub fn output(&self, at: &str, words: &[&str]) -> Result<std::process::Output> {
        enter::output(&self.place, at, words)
    }

    /// A scratch file of the lab.
    pub fn file(&self, name: &str) -> String {
        self.place.path(&format!("check-{name}")).display().to_string()
    }

    /// The boot id of a soft node's present or last boot.
    pub fn boot_id(&self, machine: &str) -> Result<String> {
        let path = self.place.path("machines").join(machine).join("memory/proc/sys/kernel/random/boot_id");
        std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    }

    /// What a soft node wrote about its boots.
    pub fn journal(&self, machine: &str) -> String {
        std::fs::read_to_string(self.place.log(&format!("{machine}.node"))).unwrap_or_default()
    }

    /// The process that is a soft node, while it has power.
    pub fn process_of(&self, machine: &str) -> Result<Option<String>> {
        let settings = self.place.path("machines").join(machine).join("machine.json").display().to_string();
        let output = self.output(network::CORE, &["pgrep", "-f", &format!("^unshare .*{settings}")])?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Ok((!text.is_empty()).then_some(text))
    }

    /// A file of the discovery image as it is served.
    pub fn genesis(&self, name: &str) -> String {
        self.place.path("genesis").join(name).display().to_string()
    }
}

/// A lab of two racks with many soft nodes, for measuring.
pub fn many(workspace: &Workspace, nodes: u16) -> Result<()> {
    let wishes = Up { nodes, vms: 0, ..Up::small() };
    bring_up(workspace, &Place::of(workspace)?, &wishes, &mut Stages::new())
}

impl Up {
    /// One master and two racks, each with three soft nodes and a virtual machine, already built.
    fn small() -> Self {
        Self {
            masters: 1,
            racks: 2,
            nodes: 3,
            vms: 1,
            strangers: 0,
            seed: None,
            swap: Vec::new(),
            no_power: false,
            patience: 600,
            no_build: true,
            yes: true,
        }
    }
}

/// A small lab for the test command: every kind of machine once, everything recognized as drawn.
pub fn smoke(workspace: &Workspace, note: &Note) -> Result<String> {
    down(workspace)?;
    note.say("1 master, 2 racks of 3 soft nodes and 1 virtual machine");
    let place = Place::of(workspace)?;
    bring_up(workspace, &place, &Up::small(), &mut Stages::new())?;
    let machines = place.plan()?.machines().count();
    Ok(format!("{machines} machines discovered as drawn"))
}
