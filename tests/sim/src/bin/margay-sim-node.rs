//! One soft node from power-on to power-off: the process lives as long as the machine has power.
//!
//! It leaves with status 0 when the machine switches itself off and with status 3 when it restarts; its BMC
//! ends it by force when the power is cut. Everything that runs in the machine is a child of it.

use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use sim::soft::{self, Found, From, Journal, Settings, Started, dhcp, hardware, overlay};

/// Status of the agent: start from disk, start again, switch off.
const AGENT_DISK: i32 = 77;
const AGENT_RESTART: i32 = 78;
const AGENT_OFF: i32 = 79;
/// Status of this process when the machine restarts.
const RESTART: u8 = 3;
/// Between two attempts to boot, as firmware does; and before a crashed agent is started again.
const PAUSE: Duration = Duration::from_secs(2);

/// A machine made of software.
#[derive(Parser)]
struct Options {
    /// File with the machine's settings (JSON).
    settings: PathBuf,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let text = std::fs::read_to_string(&options.settings)
        .with_context(|| format!("reading {}", options.settings.display()))?;
    let settings: Settings =
        serde_json::from_str(&text).with_context(|| format!("reading {}", options.settings.display()))?;
    let from = From::of(&std::env::var("MARGAY_BOOT").unwrap_or_default());
    let journal = Journal::begin(&settings.log);
    soft::link_up(&settings).await.context("raising the link")?;
    // Only where the machine has a name of its own (`unshare --uts`): the host's must not change.
    if std::process::id() == 1 {
        let named = tokio::process::Command::new("hostname").arg("genesis").status().await;
        named.context("naming the machine")?;
    }
    let machine = Machine { settings, journal };
    let code = machine.run(from).await?;
    machine.journal.say(if code == RESTART { "restarts" } else { "switches itself off" });
    Ok(ExitCode::from(code))
}

/// A machine with power.
struct Machine {
    settings: Settings,
    journal: Journal,
}

impl Machine {
    /// Firmware: tries the devices in order until one starts.
    async fn run(&self, from: From) -> Result<u8> {
        loop {
            if from != From::Disk {
                match soft::boot(&self.settings, &self.journal).await {
                    Ok(Found::System(started)) => return self.genesis(*started).await,
                    Ok(Found::Disk) => {
                        self.journal.say("the network sends the machine to its disk");
                        // Once through the discovery image is all the installation that a soft node needs.
                        if from == From::Order && self.disk().join("cmdline").exists() {
                            return self.system().await;
                        }
                    }
                    Err(fault) => self.journal.say(&said(&fault)),
                }
            }
            if from != From::Network && self.disk().join("installed").exists() {
                return self.system().await;
            }
            self.journal.say("nothing to start from; trying again");
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// What lasts from boot to boot.
    fn disk(&self) -> PathBuf {
        self.settings.folder.join("disk")
    }

    fn state(&self) -> PathBuf {
        self.settings.folder.join("state")
    }

    /// The discovery image: its files in memory (a folder made anew), then the agent.
    async fn genesis(&self, started: Started) -> Result<u8> {
        let root = self.settings.folder.join("memory");
        if root.exists() {
            std::fs::remove_dir_all(&root).with_context(|| format!("clearing {}", root.display()))?;
        }
        std::fs::create_dir_all(&root).with_context(|| format!("making {}", root.display()))?;
        for initial in &started.loaded.initial {
            overlay::unpack(initial, &root).context("unpacking an initial file system")?;
        }
        self.journal.say(&format!(
            "kernel of {} bytes starts with: {}",
            started.loaded.kernel.len(),
            started.loaded.arguments
        ));
        // An installed system knows its cluster from its own boot files.
        std::fs::create_dir_all(self.disk()).context("making the disk")?;
        std::fs::write(self.disk().join("cmdline"), &started.loaded.arguments)
            .context("keeping the command line")?;
        hardware::write(&self.settings, &root, &started.loaded.arguments)?;
        self.journal.stage("agent");
        self.agent(&root, "genesis").await
    }

    /// The system on the disk: asks for its address as systems do, then the agent as a service.
    async fn system(&self) -> Result<u8> {
        let root = self.disk().join("root");
        let arguments = std::fs::read_to_string(self.disk().join("cmdline")).unwrap_or_default();
        std::fs::create_dir_all(root.join("etc/margay")).context("making the system")?;
        let ca = self.settings.folder.join("memory/etc/margay/ca.pem");
        if ca.exists() {
            std::fs::copy(&ca, root.join("etc/margay/ca.pem")).context("keeping the cluster's CA")?;
        }
        hardware::write(&self.settings, &root, &arguments)?;
        loop {
            match dhcp::ask(&self.settings, dhcp::Stage::System).await {
                Ok(lease) => {
                    soft::address(&self.settings, &lease).await?;
                    break;
                }
                Err(fault) => self.journal.say(&said(&fault)),
            }
        }
        self.journal.stage("system");
        self.agent(&root, "system").await
    }

    /// Runs the agent until the machine restarts, goes off or starts from disk.
    async fn agent(&self, root: &Path, phase: &str) -> Result<u8> {
        loop {
            let log = std::fs::File::options().create(true).append(true).open(&self.settings.log)?;
            let status = tokio::process::Command::new(&self.settings.agent)
                .arg("--root")
                .arg(root)
                .arg("--state")
                .arg(self.state())
                .args(["--phase", phase])
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log)
                .kill_on_drop(true)
                .status()
                .await
                .with_context(|| format!("starting {}", self.settings.agent.display()))?;
            match status.code() {
                Some(AGENT_DISK) => {
                    self.journal.say("the agent starts the disk");
                    std::fs::create_dir_all(self.disk()).context("making the disk")?;
                    std::fs::write(self.disk().join("installed"), "").context("marking the disk")?;
                    return Ok(RESTART);
                }
                Some(AGENT_RESTART) => return Ok(RESTART),
                Some(AGENT_OFF) => return Ok(0),
                _ => {
                    self.journal.say(&format!("the agent ended: {status}"));
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

/// A fault with its sources.
fn said(fault: &dyn std::error::Error) -> String {
    let mut text = fault.to_string();
    let mut source = fault.source();
    while let Some(inner) = source {
        text.push_str(&format!(": {inner}"));
        source = inner.source();
    }
    text
}
