//! The machine behind a BMC: what is really started and stopped when the power changes.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::warn;

use super::Bmc;

/// Status with which a machine's process asks to be started again.
pub const REBOOT_STATUS: i32 = 3;

/// Power changes that may wait for a slow machine; more are refused with "node busy".
pub const PENDING_CHANGES: usize = 16;

const HOOK_LIMIT: Duration = Duration::from_secs(30);

/// Where a machine looks for its system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BootDevice {
    /// What its firmware is set to.
    #[default]
    Default,
    /// Network.
    Network,
    /// Hard disk.
    Disk,
    /// CD or DVD.
    Cd,
    /// Firmware set-up.
    Setup,
    /// Removable media.
    Floppy,
}

impl BootDevice {
    /// The device in bits 5 to 2 of boot option 5, second byte (IPMI 2.0 table 28-14).
    pub fn from_code(code: u8) -> Self {
        match code {
            1 => Self::Network,
            2 | 3 => Self::Disk,
            5 => Self::Cd,
            6 => Self::Setup,
            15 => Self::Floppy,
            _ => Self::Default,
        }
    }

    /// The word hooks get, as ipmitool writes it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Default => "none",
            Self::Network => "pxe",
            Self::Disk => "disk",
            Self::Cd => "cdrom",
            Self::Setup => "bios",
            Self::Floppy => "floppy",
        }
    }
}

/// A power change that has happened at the BMC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Power was off and is on; the machine boots from the device.
    On(BootDevice),
    /// Power was cut.
    Off,
    /// The button was pressed shortly: the system should shut itself down.
    SoftOff,
    /// Power stays on, the machine starts anew from the device.
    Reset(BootDevice),
    /// Off and on again.
    Cycle(BootDevice),
}

/// The machine behind a BMC. Its methods return at once; what takes time happens elsewhere.
pub trait Machine: Send + Sync + 'static {
    /// The power has changed. `bmc` lets the machine report later what it does by itself.
    fn changed(&self, change: Change, bmc: &Bmc);
}

/// A machine that is only a lamp.
#[derive(Debug, Default)]
pub struct Lamp;

impl Machine for Lamp {
    fn changed(&self, change: Change, bmc: &Bmc) {
        if change == Change::SoftOff {
            bmc.went_off();
        }
    }
}

/// A machine made of outside programs: a hook for each change, or a process that lives while the
/// power is on.
pub struct Programs {
    changes: mpsc::Sender<(Change, Bmc)>,
}

impl Programs {
    /// Starts the task that runs the programs one after the other. It ends with the BMC.
    pub fn new(node: &str, hook: Vec<String>, process: Vec<String>) -> (Self, JoinHandle<()>) {
        let (changes, inbox) = mpsc::channel(PENDING_CHANGES);
        let runner = Runner { node: node.to_owned(), hook, process, child: None };
        let task = tokio::spawn(runner.run(inbox));
        (Self { changes }, task)
    }
}

impl Machine for Programs {
    fn changed(&self, change: Change, bmc: &Bmc) {
        if self.changes.try_send((change, bmc.clone())).is_err() {
            warn!(?change, "power change lost: the machine's programs are too slow");
        }
    }
}

struct Runner {
    node: String,
    hook: Vec<String>,
    process: Vec<String>,
    child: Option<(Life, Bmc)>,
}

/// A running process of the machine with all it started.
struct Life {
    child: Child,
    group: Option<Pid>,
}

impl Life {
    fn signal(&self, signal: Signal) -> rustix::io::Result<()> {
        match self.group {
            Some(group) => kill_process_group(group, signal),
            None => Ok(()),
        }
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        // what the process started goes with it, also when the simulator ends in disorder
        if let Err(error) = self.signal(Signal::KILL)
            && error != rustix::io::Errno::SRCH
        {
            warn!(%error, "the machine's processes cannot be killed");
        }
    }
}

impl Runner {
    async fn run(mut self, mut inbox: mpsc::Receiver<(Change, Bmc)>) {
        loop {
            tokio::select! {
                biased;
                event = inbox.recv() => match event {
                    Some((change, bmc)) => self.change(change, bmc).await,
                    None => break,
                },
                status = ended(&mut self.child) => self.ended_by_itself(status),
            }
        }
        self.stop().await;
    }

    async fn change(&mut self, change: Change, bmc: Bmc) {
        match change {
            Change::On(device) => {
                self.hook("on", device).await;
                self.start(device, bmc);
            }
            Change::Off => {
                self.stop().await;
                self.hook("off", BootDevice::Default).await;
            }
            Change::SoftOff => match &self.child {
                // like the power button: the machine powers off when its system has ended
                Some((life, _)) => {
                    if let Err(error) = life.signal(Signal::TERM) {
                        warn!(node = self.node, %error, "the machine's process does not hear the button");
                    }
                }
                None => {
                    self.hook("off", BootDevice::Default).await;
                    bmc.went_off();
                }
            },
            Change::Reset(device) => {
                self.stop().await;
                self.hook("reset", device).await;
                self.start(device, bmc);
            }
            Change::Cycle(device) => {
                self.stop().await;
                self.hook("off", BootDevice::Default).await;
                self.hook("on", device).await;
                self.start(device, bmc);
            }
        }
    }

    fn ended_by_itself(&mut self, status: Option<i32>) {
        let Some((_, bmc)) = self.child.take() else {
            return;
        };
        if status == Some(REBOOT_STATUS) {
            let device = bmc.rebooted();
            self.start(device, bmc);
        } else {
            if status.is_some_and(|status| status != 0) {
                warn!(node = self.node, status, "the machine's process failed; power is off");
            }
            bmc.went_off();
        }
    }

    fn start(&mut self, device: BootDevice, bmc: Bmc) {
        let Some((program, arguments)) = self.process.split_first() else {
            return;
        };
        let started = Command::new(program)
            .args(arguments)
            .env("MARGAY_NODE", &self.node)
            .env("MARGAY_BOOT", device.word())
            .stdin(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn();
        match started {
            Ok(child) => {
                let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
                self.child = Some((Life { child, group }, bmc));
            }
            Err(error) => {
                warn!(node = self.node, %error, program, "the machine's process does not start");
                bmc.went_off();
            }
        }
    }

    async fn stop(&mut self) {
        if let Some((mut life, _)) = self.child.take()
            && let Err(error) = life.child.kill().await
        {
            warn!(node = self.node, %error, "the machine's process cannot be killed");
        }
    }

    async fn hook(&self, action: &str, device: BootDevice) {
        let Some((program, arguments)) = self.hook.split_first() else {
            return;
        };
        let mut command = Command::new(program);
        command.args(arguments).args([action, &self.node]);
        if device != BootDevice::Default {
            command.arg(device.word());
        }
        command.stdin(Stdio::null()).kill_on_drop(true);
        match tokio::time::timeout(HOOK_LIMIT, command.status()).await {
            Ok(Ok(status)) if status.success() => {}
            Ok(Ok(status)) => warn!(node = self.node, action, %status, "hook failed"),
            Ok(Err(error)) => warn!(node = self.node, action, %error, "hook does not start"),
            Err(_) => warn!(node = self.node, action, "hook killed after 30 s"),
        }
    }
}

/// Status of the machine's process when it ends; waits for ever when there is none.
async fn ended(child: &mut Option<(Life, Bmc)>) -> Option<i32> {
    match child {
        Some((life, _)) => life.child.wait().await.ok().and_then(|status| status.code()),
        None => std::future::pending().await,
    }
}
