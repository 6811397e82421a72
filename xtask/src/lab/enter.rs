//! The way into the lab's namespaces: making them, following the start, running commands inside.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::place::Place;
use crate::process;
use crate::stage::{Budget, Stages};

/// How often the events' file is looked at.
const BEAT: Duration = Duration::from_millis(50);
/// A supervisor that says nothing for so long is dead.
const SILENCE: Duration = Duration::from_secs(1800);

/// What the supervisor tells; one JSON line each in `events`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// A stage begins: name, budget in seconds.
    Begin(String, u64),
    /// Something inside a stage.
    Say(String),
    /// A line for the user that stays.
    Print(String),
    /// The stage is over: what to say about it.
    Done(String),
    /// The stage failed; the lab ends.
    Fault(String),
    /// All stages are over.
    Ready,
}

fn unshare() -> Command {
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    command
}

/// Says in words when this system does not allow the lab to this user.
pub fn possible(virtual_machines: bool) -> Result<()> {
    if !process::works(unshare().arg("true")) {
        bail!(
            "this system does not let this user make namespaces (unshare --user --net); run the lab as root"
        );
    }
    let tun = std::fs::File::options().read(true).write(true).open("/dev/net/tun");
    if let (true, Err(fault)) = (virtual_machines, tun) {
        bail!(
            "virtual machines cannot be connected: /dev/net/tun: {fault} (modprobe tun, be root, or --vms 0)"
        );
    }
    Ok(())
}

/// Makes the namespaces and starts the lab's first process in them.
pub fn start(place: &Place) -> Result<Follow> {
    let log = place.open_log("supervisor")?;
    let mut command = Command::new("setsid");
    let unshare = unshare();
    command
        .arg("--wait")
        .arg(unshare.get_program())
        .args(unshare.get_args())
        .arg(place.program("xtask"))
        .args(["lab", "first"])
        .arg(&place.dir)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(log.try_clone().context("sharing the log")?)
        .stderr(log);
    let mut child = command.spawn().context("starting the lab")?;
    let hold = child.stdin.take().context("the lab's standard input")?;
    let mut follow = Follow { child, hold: Some(hold), place: place.clone(), read: 0, rest: String::new() };
    let first = follow.first()?;
    std::fs::write(place.path("first.pid"), first.to_string()).context("writing the process id")?;
    Ok(follow)
}

/// The starting lab, seen from outside. Dropping it without [`keep`](Self::keep) ends the lab: its first
/// process reads the other end of `hold`.
pub struct Follow {
    child: Child,
    hold: Option<ChildStdin>,
    place: Place,
    read: usize,
    rest: String,
}

impl Follow {
    /// The first process' number as the host sees it.
    fn first(&mut self) -> Result<u32> {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            // setsid may or may not have made a child of its own; the first process names the folder.
            let mut open = vec![self.child.id()];
            while let Some(parent) = open.pop() {
                for child in children(parent) {
                    let line = std::fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
                    let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
                    if words.first().is_some_and(|word| word.ends_with(b"/xtask"))
                        && words.contains(&&b"first"[..])
                    {
                        return Ok(child);
                    }
                    open.push(child);
                }
            }
            if let Some(status) = self.child.try_wait().context("looking at the lab")? {
                bail!(
                    "the lab did not start ({status}):\n{}",
                    process::tail(&self.place.log("supervisor"), 20)
                );
            }
            if Instant::now() > deadline {
                bail!("the lab's first process does not show");
            }
            std::thread::sleep(BEAT);
        }
    }

    /// Shows the supervisor's stages until it is ready.
    pub fn stages(&mut self, stages: &mut Stages) -> Result<()> {
        loop {
            match self.next()? {
                Event::Ready => return Ok(()),
                Event::Begin(name, budget) => stages.run(&name, Budget::seconds(budget), |note| {
                    loop {
                        match self.next()? {
                            Event::Say(text) => note.say(&text),
                            Event::Print(text) => note.print(&text),
                            Event::Done(said) => return Ok(said),
                            Event::Fault(fault) => bail!("{fault}"),
                            other => bail!("unexpected {other:?} inside a stage"),
                        }
                    }
                })?,
                Event::Print(text) | Event::Say(text) => println!("{text}"),
                Event::Fault(fault) => bail!("{fault}"),
                Event::Done(_) => bail!("a stage ended that never began"),
            }
        }
    }

    fn next(&mut self) -> Result<Event> {
        let begun = Instant::now();
        loop {
            if let Some((line, rest)) = self.rest.split_once('\n') {
                let event =
                    serde_json::from_str(line).with_context(|| format!("reading the event {line}"))?;
                self.rest = rest.to_owned();
                return Ok(event);
            }
            let bytes = std::fs::read(self.place.path("events")).unwrap_or_default();
            if bytes.len() > self.read {
                self.rest.push_str(&String::from_utf8_lossy(&bytes[self.read..]));
                self.read = bytes.len();
                continue;
            }
            if self.child.try_wait().context("looking at the lab")?.is_some() {
                bail!("the lab ended:\n{}", process::tail(&self.place.log("supervisor"), 30));
            }
            if begun.elapsed() > SILENCE {
                bail!("the lab has said nothing for {} minutes", SILENCE.as_secs() / 60);
            }
            std::thread::sleep(BEAT);
        }
    }

    /// Lets the lab live on without this process.
    pub fn keep(mut self) -> Result<()> {
        if let Some(mut hold) = self.hold.take() {
            hold.write_all(b"keep\n").context("leaving the lab to itself")?;
        }
        Ok(())
    }

    /// Ends the lab but leaves its logs.
    pub fn end(&mut self) {
        self.hold = None;
        // The whole tree goes with the first process; nothing to do about a failure here.
        let _ = self.child.wait();
        eprintln!("The lab was ended; its logs: {}", self.place.path("log").display());
    }
}

fn children(of: u32) -> Vec<u32> {
    let list = std::fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// Becomes a command at a place of the running lab.
pub fn exec(place: &Place, at: &str, words: &[String]) -> Result<ExitCode> {
    let mut command = nsenter(place)?;
    command.args(["ip", "netns", "exec", at]).args(words);
    Err(command.exec()).context("entering the lab")
}

/// Becomes one of the lab's own commands inside it.
pub fn ipmitool(place: &Place, machine: &str, words: &[&str]) -> Result<ExitCode> {
    let plan = place.plan()?;
    let (_, machine) = plan.machine(machine)?;
    let mut command = nsenter(place)?;
    command
        .args(["ip", "netns", "exec", super::network::CORE, "ipmitool", "-I", "lanplus", "-C", "3"])
        .args(["-H", &machine.bmc, "-U", "admin", "-P", &machine.password])
        .args(words);
    Err(command.exec()).context("entering the lab")
}

/// A command's output inside the running lab.
pub fn output(place: &Place, at: &str, words: &[&str]) -> Result<std::process::Output> {
    let mut command = nsenter(place)?;
    command.args(["ip", "netns", "exec", at]).args(words);
    command.stdin(Stdio::null()).output().with_context(|| format!("running {} in the lab", words.join(" ")))
}

/// The beginning of a command that enters the running lab.
pub fn nsenter(place: &Place) -> Result<Command> {
    let Some(first) = place.running() else { bail!("no lab runs (cargo xtask lab up)") };
    let mut command = Command::new("nsenter");
    command.arg("--target").arg(first.as_raw_nonzero().to_string());
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--preserve-credentials"]);
    }
    command.args(["--net", "--mount", "--pid"]);
    if let Ok(folder) = std::env::current_dir() {
        let mut option = OsString::from("--wd=");
        option.push(folder);
        command.arg(option);
    }
    command.arg("--").envs(place.environment());
    Ok(command)
}
