//! The lab's folder: plan, programs, logs, process ids. One per clone.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal};

use super::plan::Plan;
use crate::workspace::Workspace;
use crate::{links, process};

/// How long the lab's processes may take to be gone.
const END: Duration = Duration::from_secs(20);

/// The folder of a lab.
#[derive(Debug, Clone)]
pub struct Place {
    /// Absolute path.
    pub dir: PathBuf,
}

impl Place {
    /// The lab of a clone.
    pub fn of(workspace: &Workspace) -> Result<Self> {
        Ok(Self { dir: workspace.cache.join("lab").join(workspace.fingerprint()) })
    }

    /// The lab in a known folder.
    pub fn at(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// A path inside.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A program of the lab.
    pub fn program(&self, name: &str) -> PathBuf {
        self.dir.join("programs").join(name)
    }

    /// The log of a process.
    pub fn log(&self, name: &str) -> PathBuf {
        self.dir.join("log").join(name)
    }

    /// A log opened for appending.
    pub fn open_log(&self, name: &str) -> Result<File> {
        let path = self.log(name);
        File::options()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("writing {}", path.display()))
    }

    /// The plan of the lab that is there.
    pub fn plan(&self) -> Result<Plan> {
        let path = self.path("plan.json");
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("reading {} (lab up?)", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("reading {}", path.display()))
    }

    /// Writes the plan.
    pub fn keep_plan(&self, plan: &Plan) -> Result<()> {
        let (path, partial) = (self.path("plan.json"), self.path("plan.json.new"));
        std::fs::write(&partial, serde_json::to_string_pretty(plan)?).context("writing the plan")?;
        std::fs::rename(&partial, &path).context("naming the plan")
    }

    /// Makes the folder anew with the plan and copies of all programs, so that a later build of the clone
    /// does not change a running lab.
    pub fn prepare(&self, workspace: &Workspace, plan: &Plan) -> Result<()> {
        self.clear()?;
        for folder in ["programs", "log", "machines", "boot", "genesis"] {
            let path = self.path(folder);
            std::fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        }
        for name in ["margayd", "margay", "margay-sn", "margay-sim-bmc", "margay-sim-node", "xtask"] {
            copy(&workspace.program(name, &workspace.profile), &self.program(name))?;
        }
        let agent = workspace.target.join("x86_64-unknown-linux-musl/agent/margay-agent");
        copy(&agent, &self.program("margay-agent"))?;
        for entry in
            std::fs::read_dir(workspace.target.join("genesis")).context("reading the discovery image")?
        {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                copy(&entry.path(), &self.path("genesis").join(entry.file_name()))?;
            }
        }
        for loader in ["undionly.kpxe", "snponly.efi", "ipxe.efi"] {
            copy(&Path::new("/usr/lib/ipxe").join(loader), &self.path("boot").join(loader))?;
        }
        links::make(&self.program("margay"), &self.path("bin"))?;
        self.keep_plan(plan)
    }

    /// Process id, seen from the host, of the lab's first process, when it runs.
    pub fn running(&self) -> Option<Pid> {
        let text = std::fs::read_to_string(self.path("first.pid")).ok()?;
        let number: i32 = text.trim().parse().ok()?;
        // The number may have been given to another program since.
        let line = std::fs::read(format!("/proc/{number}/cmdline")).ok()?;
        let ours = String::from_utf8_lossy(&line).contains(&self.dir.display().to_string());
        if ours { Pid::from_raw(number) } else { None }
    }

    /// Ends the lab and removes its folder; says whether one ran.
    pub fn end(&self) -> Result<bool> {
        let Some(first) = self.running() else {
            self.clear()?;
            return Ok(false);
        };
        // The first process of a process namespace takes all others with it, and the last of them the
        // network and the mounts.
        rustix::process::kill_process(first, Signal::KILL)
            .context("ending the lab (was it started by root?)")?;
        let deadline = Instant::now() + END;
        while self.running().is_some() {
            if Instant::now() > deadline {
                bail!("process {} does not end", first.as_raw_nonzero());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.clear()?;
        Ok(true)
    }

    fn clear(&self) -> Result<()> {
        match std::fs::remove_dir_all(&self.dir) {
            Err(fault) if fault.kind() != std::io::ErrorKind::NotFound => {
                Err(fault).with_context(|| format!("removing {}", self.dir.display()))
            }
            _ => Ok(()),
        }
    }

    /// Settings for commands that run inside.
    pub fn environment(&self) -> Vec<(String, String)> {
        let path = std::env::var("PATH").unwrap_or_default();
        vec![
            ("PATH".into(), format!("{}:{path}:/usr/sbin:/sbin", self.path("bin").display())),
            // net-snmp's clients would otherwise write below the host's /var/lib.
            ("SNMP_PERSISTENT_DIR".into(), "/run/snmp".into()),
            ("MIBS".into(), String::new()),
            ("MARGAY_CONFIG".into(), self.path("cluster/admin/client.toml").display().to_string()),
        ]
    }

    /// A command in a namespace of the lab; only for processes that are inside the lab already.
    pub fn command_at(&self, namespace: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace, program]).envs(self.environment());
        command
    }

    /// Starts a program that lives as long as the lab; its output goes to its log.
    pub fn spawn_at(&self, namespace: &str, name: &str, program: &Path, arguments: &[&str]) -> Result<u32> {
        let log = self.open_log(name)?;
        let mut command = self.command_at(namespace, &program.display().to_string());
        command
            .args(arguments)
            .stdin(std::process::Stdio::null())
            .stdout(log.try_clone().context("sharing a log")?)
            .stderr(log);
        // Its own group: an interrupt on a terminal is not meant for it.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = command.spawn().with_context(|| format!("starting {name}"))?;
        // `ip netns exec` becomes the program, so the number stays true.
        std::fs::write(self.log(&format!("{name}.pid")), child.id().to_string())
            .context("writing a process id")?;
        Ok(child.id())
    }

    /// Runs a program in a namespace to its end and returns what it printed.
    pub fn run_at(&self, namespace: &str, words: &[&str]) -> Result<String> {
        let [program, arguments @ ..] = words else { bail!("no program") };
        process::text(self.command_at(namespace, program).args(arguments))
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::copy(from, to).map(drop).with_context(|| format!("copying {}", from.display()))
}
