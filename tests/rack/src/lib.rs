//! A rack in one process: a master that only keeps what it is told, the real service node, real agents.
//!
//! Compiled without the real master (and so without its database); the suite tests them together.

pub mod master;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent::Outcome;
use anyhow::{Context, Result, bail};
use link::pki::{self, Authority};
use link::{Credentials, Endpoint, LinkError, Role};
use service::Drain;
use servicenode::{Config, ServiceNode};
use tokio::task::JoinHandle;
use wire::agent::{Phase, Report};
use wire::hardware::Hardware;
use wire::op::{Event, NodeEvent, NodeOp};
use wire::rack::{FanOut, FanOutEvent, ToRack};

pub use master::Master;

/// Nothing in a test takes longer, also on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(60);
const LIFETIME: Duration = Duration::from_secs(3600);

/// The rack.
pub struct Rack {
    /// The master.
    pub master: Master,
    running: Option<ServiceNode>,
    /// Ends the service node.
    pub drain: Drain,
    /// The cluster's CA.
    pub ca: std::sync::Arc<Authority>,
    folder: tempfile::TempDir,
}

impl Rack {
    /// A master and a service node that is connected to it.
    ///
    /// # Errors
    /// When one of them does not start.
    pub async fn start() -> Result<Self> {
        let now = service::Clock::Real.unix();
        let ca = std::sync::Arc::new(Authority::create("test", now)?);
        let folder = tempfile::tempdir()?;
        let master = Master::start(ca.clone())?;
        keep_identity(&ca, folder.path(), &master.address()?.to_string())?;
        let drain = Drain::new();
        let node = ServiceNode::start(quiet_config(folder.path(), localhost()), &drain).await?;
        let rack = Self { master, running: Some(node), drain, ca, folder };
        eventually("the service node is connected", || rack.master.has_rack()).await?;
        Ok(rack)
    }

    /// Ends the service node and starts it again from its folder, at the same address.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn restart(&mut self) -> Result<()> {
        let address = self.node().agent_address()?;
        self.drain.finish(Duration::from_secs(5)).await;
        if let Some(old) = self.running.take() {
            old.close().await;
        }
        self.drain = Drain::new();
        self.running = Some(start_at(self.folder.path(), address, &self.drain).await?);
        Ok(())
    }

    /// The service node.
    ///
    /// # Panics
    /// After a restart that failed.
    #[must_use]
    pub fn node(&self) -> &ServiceNode {
        self.running.as_ref().expect("the service node was started")
    }

    /// The service node's folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// An agent's configuration for a machine with this serial number.
    ///
    /// # Errors
    /// When the address is not known.
    pub fn agent(&self, root: &Path, serial: &str, phase: Phase) -> Result<agent::Config> {
        let pin = pki::pin(self.ca.ca_pem())?;
        let mut config = agent::Config::new(root, vec![self.node().agent_address()?], pin, phase);
        config.hardware = Some(Box::new(Hardware { serial: serial.to_owned(), ..Hardware::default() }));
        Ok(config)
    }

    /// Sends an operation to nodes as a master does and collects what happens up to the end.
    ///
    /// # Errors
    /// When the service node is away or does not end.
    pub async fn fan_out(&self, op: NodeOp, nodes: &[&str], deadline: Duration) -> Result<Vec<NodeEvent>> {
        let mut exchange = self.master.open().await?;
        let nodes = nodes.iter().map(|node| (*node).to_owned()).collect();
        exchange.send(&order(op, nodes, deadline)).await?;
        let mut events = Vec::new();
        loop {
            match exchange.expect(PATIENCE).await? {
                FanOutEvent::Node(event) => events.push(event),
                FanOutEvent::End => return Ok(events),
            }
        }
    }
}

/// Many enrolled agents of one process, named `n0`, `n1` and so on, connected and set up.
pub struct Crowd {
    running: Vec<Running>,
    _folder: tempfile::TempDir,
}

impl Crowd {
    /// Brings `count` agents up; they share a socket.
    ///
    /// # Errors
    /// When one of them does not come.
    pub async fn gather(rack: &Rack, count: usize) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let shared = Endpoint::client_with(localhost(), link::Settings::default())?;
        let mut running = Vec::new();
        for number in 0..count {
            let name = format!("n{number}");
            let credentials = node_credentials(&rack.ca, &name)?;
            let key = pki::Key::load(&credentials.key_pem)?;
            let fingerprint = pki::digest(&key.public_der).iter().map(|byte| format!("{byte:02x}")).collect();
            rack.master.node(&name, |node| node.key_fingerprint = fingerprint);
            let mut config = rack.agent(folder.path(), &name, Phase::System)?;
            let place = folder.path().join(&name);
            config.state = Some(agent_state(&place, &credentials)?);
            config.root = place;
            config.endpoint = Some(shared.clone());
            running.push(Running::start(config));
        }
        eventually("all agents are connected", || rack.node().agents().len() == count).await?;
        let booted = |report: &Report| matches!(report, Report::Booted(_));
        eventually("all agents are set up", || {
            (0..count).all(|number| rack.master.count(&format!("n{number}"), booted) > 0)
        })
        .await?;
        Ok(Self { running, _folder: folder })
    }

    /// Stops them all.
    ///
    /// # Errors
    /// When one of them does not end.
    pub async fn part(self) -> Result<()> {
        self.running.iter().for_each(|agent| agent.drain.stop());
        for agent in self.running {
            agent.outcome().await?;
        }
        Ok(())
    }
}

/// The first message of a fan-out.
#[must_use]
pub fn order(op: NodeOp, nodes: Vec<String>, deadline: Duration) -> ToRack {
    let deadline = u64::try_from(deadline.as_millis()).unwrap_or(0);
    ToRack::FanOut(FanOut { action: wire::ids::ActionId(1), op, nodes, window: 256, deadline })
}

/// The events that end a node's turn.
#[must_use]
pub fn finals(events: &[NodeEvent]) -> Vec<(String, Event)> {
    let last = |event: &&NodeEvent| !matches!(event.event, Event::Output { .. });
    events.iter().filter(last).map(|event| (event.node.clone(), event.event.clone())).collect()
}

/// A free port of this machine.
#[must_use]
pub fn localhost() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// A service node's configuration without boot services.
#[must_use]
pub fn quiet_config(folder: &Path, listen: SocketAddr) -> Config {
    Config {
        state_dir: folder.to_owned(),
        listen,
        http: String::new(),
        tftp: String::new(),
        dhcp: false,
        ..Config::default()
    }
}

/// The port may still belong to the connections of the one before.
async fn start_at(folder: &Path, address: SocketAddr, drain: &Drain) -> Result<ServiceNode> {
    let begin = tokio::time::Instant::now();
    loop {
        match ServiceNode::start(quiet_config(folder, address), drain).await {
            Ok(node) => return Ok(node),
            Err(error) if begin.elapsed() > PATIENCE => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Puts a service node's identity into its folder.
///
/// # Errors
/// When it cannot be made or written.
pub fn keep_identity(ca: &Authority, folder: &Path, master: &str) -> Result<()> {
    let own = ca.credentials(Role::ServiceNode, "sn1", service::Clock::Real.unix(), LIFETIME)?;
    std::fs::write(folder.join("ca.pem"), &own.ca_pem)?;
    std::fs::write(folder.join("cert.pem"), &own.cert_pem)?;
    std::fs::write(folder.join("key.pem"), &own.key_pem)?;
    std::fs::write(folder.join("masters"), format!("{master}\n"))?;
    Ok(())
}

/// An agent that runs in a task.
pub struct Running {
    /// Ends it.
    pub drain: Drain,
    handle: JoinHandle<Result<Outcome, LinkError>>,
}

impl Running {
    /// Starts an agent.
    #[must_use]
    pub fn start(config: agent::Config) -> Self {
        let drain = Drain::new();
        let inner = drain.clone();
        let handle = drain.spawn("agent under test", async move { agent::run(config, &inner).await });
        Self { drain, handle }
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn outcome(self) -> Result<Outcome> {
        Ok(tokio::time::timeout(PATIENCE, self.handle).await.context("the agent does not end")???)
    }

    /// Stops it and waits for its end.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn stop(self) -> Result<Outcome> {
        self.drain.stop();
        self.outcome().await
    }

    /// Ends it without any farewell, like a power failure.
    pub fn kill(self) {
        self.handle.abort();
    }
}

/// Waits until something is so.
///
/// # Errors
/// When it does not become so.
pub async fn eventually(what: &str, mut so: impl FnMut() -> bool) -> Result<()> {
    let begin = tokio::time::Instant::now();
    while !so() {
        if begin.elapsed() > PATIENCE {
            bail!("never: {what}");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// Credentials of a node, as its admission gives them.
///
/// # Errors
/// When the name cannot stand in a certificate.
pub fn node_credentials(ca: &Authority, node: &str) -> Result<Credentials> {
    Ok(ca.credentials(Role::Node, node, service::Clock::Real.unix(), LIFETIME)?)
}

/// A folder that holds identity files for an agent, so that it need not enrol.
///
/// # Errors
/// When it cannot be written.
pub fn agent_state(folder: &Path, credentials: &Credentials) -> Result<PathBuf> {
    let state = folder.join("state");
    std::fs::create_dir_all(&state)?;
    std::fs::write(state.join("ca.pem"), &credentials.ca_pem)?;
    std::fs::write(state.join("cert.pem"), &credentials.cert_pem)?;
    std::fs::write(state.join("key.pem"), &credentials.key_pem)?;
    Ok(state)
}
