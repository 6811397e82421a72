//! The agent of a node: says what the machine is made of, gets an identity, follows its destiny in the
//! discovery image, sets up a booted system, and runs commands for the masters.
//!
//! [`run`] is one node's whole life and holds nothing global, so thousands can live in one process.
//! Knows nothing of tables, racks or other nodes: its world is its root folder and its service node.

mod accounts;
pub mod boot;
mod calls;
mod destiny;
mod download;
mod enrol;
mod identity;
pub mod init;
pub mod netlink;
mod outbox;
pub mod probe;
pub mod run;
mod session;
pub mod setup;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use link::{Credentials, Endpoint, pki};
use service::{Backoff, Drain};
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};
use wire::agent::{Phase, Report};
use wire::hardware::Hardware;
use wire::view::NodeConfig;

use crate::destiny::Steps;
use crate::identity::Store;
use crate::outbox::Outbox;
use crate::session::End;
use crate::setup::Setup;

/// Longest wait between two attempts to reach a service node.
pub const MAX_WAIT: Duration = Duration::from_secs(60);
/// A connection that lasted this long was a good one: the next wait is short again.
const GOOD: Duration = Duration::from_secs(10);

/// What an agent needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the machine's files are; `/` on a real one.
    pub root: PathBuf,
    /// Where the identity is kept; none keeps it in memory.
    pub state: Option<PathBuf>,
    /// Where service nodes are.
    pub service_nodes: Vec<SocketAddr>,
    /// SHA-256 of the cluster's CA certificate.
    pub pin: [u8; 32],
    /// The one-time boot token.
    pub token: Option<String>,
    /// Where in its life the node is.
    pub phase: Phase,
    /// The kernel's command line, for `BOOTIF`.
    pub command_line: String,
    /// Differs for each boot.
    pub boot_id: String,
    /// What the machine is made of; none looks below the root.
    pub hardware: Option<Box<Hardware>>,
    /// Whether interfaces and routes of this network namespace are the agent's to set.
    pub network: bool,
    /// Where a shell is started when the destiny says so.
    pub console: Option<PathBuf>,
    /// How long to listen for LLDP neighbors; zero does not.
    pub lldp: Duration,
    /// Whether the system's clock is set from the service node's when they differ.
    pub set_clock: bool,
    /// A socket shared by many agents of one process; none opens its own.
    pub endpoint: Option<Endpoint>,
}

impl Config {
    /// An agent below `root` in memory only; everything else is quiet.
    #[must_use]
    pub fn new(root: &Path, service_nodes: Vec<SocketAddr>, pin: [u8; 32], phase: Phase) -> Self {
        Self {
            root: root.to_owned(),
            state: None,
            service_nodes,
            pin,
            token: None,
            phase,
            command_line: String::new(),
            boot_id: format!("{:016x}{:016x}", service::random::number(), service::random::number()),
            hardware: None,
            network: false,
            console: None,
            lldp: Duration::ZERO,
            set_clock: false,
            endpoint: None,
        }
    }
}

/// How an agent's life ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was told to stop.
    Stopped,
    /// The machine shall boot from its disk.
    BootDisk,
    /// The machine shall boot again.
    Reboot,
    /// The machine shall be off.
    PowerOff,
}

impl Outcome {
    /// The exit code of `margay-agent`.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Stopped => 0,
            Self::BootDisk => 77,
            Self::Reboot => 78,
            Self::PowerOff => 79,
        }
    }
}

/// What the parts of one agent share.
struct Life {
    config: Config,
    endpoint: Endpoint,
    outbox: Outbox,
    steps: Steps,
    wanted: watch::Sender<Option<NodeConfig>>,
    generation: AtomicU64,
    drain: Drain,
}

/// Lives until the drain stops or the machine shall boot.
///
/// # Errors
/// Only when no socket can be opened.
pub async fn run(config: Config, drain: &Drain) -> Result<Outcome, link::LinkError> {
    let endpoint = match &config.endpoint {
        Some(shared) => shared.clone(),
        None => Endpoint::client_anywhere()?,
    };
    let (leave, left) = mpsc::channel(1);
    // The agent's own tasks end with it, not with the process that may hold many agents.
    let own = Drain::new();
    let life = Arc::new(Life {
        outbox: Outbox::new(),
        steps: Steps::new(),
        wanted: watch::Sender::new(None),
        generation: AtomicU64::new(0),
        drain: own.clone(),
        endpoint,
        config,
    });
    own.spawn("destiny", destiny::follow(life.clone(), leave));
    own.spawn("set-up", keep_set_up(life.clone()));
    let outcome = tokio::select! {
        biased;
        () = drain.stopping() => Outcome::Stopped,
        outcome = live(&life, left) => outcome,
    };
    own.finish(Duration::from_secs(2)).await;
    if life.config.endpoint.is_none() {
        life.endpoint.close("the agent ends").await;
    }
    Ok(outcome)
}

/// Enrols and holds the session, again and again.
async fn live(life: &Arc<Life>, mut left: mpsc::Receiver<Outcome>) -> Outcome {
    let store = Store::new(life.config.state.as_deref());
    let hardware = machine(life).await;
    life.outbox.push(Report::Hardware(hardware.clone()));
    if !hardware.ssh_host_keys.is_empty() {
        life.outbox.push(Report::HostKeys(hardware.ssh_host_keys.clone()));
    }
    if !life.config.lldp.is_zero() {
        life.drain.spawn("neighbors", neighbors(life.clone(), hardware.clone()));
    }
    let mut backoff = Backoff::new(Duration::from_millis(500), MAX_WAIT);
    let mut identity = store.load(&life.config, service::Clock::Real.unix());
    loop {
        // A certificate that has ended would be turned away for ever.
        let ended = |own: &Credentials| {
            pki::expires(&own.cert_pem).is_ok_and(|end| end <= service::Clock::Real.unix())
        };
        if identity.as_ref().is_some_and(ended) && !life.config.set_clock {
            identity = None;
        }
        let credentials = match &identity {
            Some(credentials) => credentials.clone(),
            None => {
                let enrolled = enrol::until_admitted(life, &hardware).await;
                if let Err(error) = store.save(&enrolled, &life.config.boot_id) {
                    warn!(%error, "the identity is not kept");
                }
                identity.insert(enrolled).clone()
            }
        };
        let began = tokio::time::Instant::now();
        match session::hold(life, &credentials, &mut left).await {
            End::Leave(outcome) => return outcome,
            End::Refused(reason) => {
                warn!(%reason, "the identity is not taken any more; enrolling again");
                store.forget();
                identity = None;
            }
            End::Lost(reason) => info!(%reason, "no service node"),
        }
        if began.elapsed() > GOOD {
            backoff.reset();
        }
        tokio::time::sleep(backoff.wait(service::random::number())).await;
    }
}

async fn machine(life: &Life) -> Box<Hardware> {
    if let Some(fixed) = &life.config.hardware {
        return fixed.clone();
    }
    let (root, line) = (life.config.root.clone(), life.config.command_line.clone());
    let probe = tokio::task::spawn_blocking(move || probe::hardware(&root, &line)).await;
    Box::new(probe.unwrap_or_default())
}

/// Listens for neighbors and reports again when there are any.
async fn neighbors(life: Arc<Life>, mut hardware: Box<Hardware>) {
    let patience = life.config.lldp;
    let heard = tokio::task::spawn_blocking(move || {
        probe::lldp::listen(&mut hardware.adapters, patience);
        hardware
    });
    if let Ok(hardware) = heard.await
        && hardware.adapters.iter().any(|adapter| adapter.lldp.is_some())
    {
        life.outbox.push(Report::Hardware(hardware));
    }
}

/// Applies each configuration that comes, the newest first, and reports.
async fn keep_set_up(life: Arc<Life>) {
    let state = life.config.state.as_deref();
    let mut setup = Setup::new(&life.config.root, state, life.config.network);
    let mut wanted = life.wanted.subscribe();
    loop {
        let config = tokio::select! {
            biased;
            () = life.drain.stopping() => return,
            config = wanted.wait_for(Option::is_some) => match config {
                Ok(config) => config.clone(),
                Err(_) => return,
            },
        };
        wanted.mark_unchanged();
        if let Some(config) = config {
            let booted = tokio::select! {
                biased;
                () = life.drain.stopping() => return,
                booted = setup.apply(&config) => booted,
            };
            info!(generation = booted.generation, failed = booted.failed_steps.len(), "set up");
            life.generation.store(booted.generation, Ordering::Relaxed);
            life.outbox.push(Report::Booted(booted));
        }
        tokio::select! {
            biased;
            () = life.drain.stopping() => return,
            changed = wanted.changed() => if changed.is_err() { return },
        }
    }
}
