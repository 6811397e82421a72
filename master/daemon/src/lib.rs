//! The master: the front door for people and service nodes, and the place where plans become deeds.
//!
//! [`Config`] says what it is, [`Master::spawn`] starts it, [`Master::finish`] ends it. Everything that
//! decides is in the pure crates below; here is what listens, waits and sends.

pub mod actions;
pub mod adapters;
pub mod audit;
pub mod config;
pub mod core;
pub mod effects;
pub mod enrol;
pub mod executor;
pub mod forward;
pub mod front;
pub mod guardian;
pub mod init;
pub mod interfaces;
pub mod join;
pub mod locks;
pub mod machine;
pub mod monitor;
pub mod notify;
pub mod past;
pub mod pki;
pub mod planning;
pub mod racks;
pub mod request;
pub mod retention;
pub mod spool;
pub mod stages;
pub mod status;
pub mod talk;
pub mod watch;

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use anyhow::Context;
use link::{Credentials, Endpoint, Settings};
use service::{Clock, Drain, Health};
use storage::{Group, Member, OnFault, Options, Timing, Transport};

pub use crate::config::Config;
pub use crate::core::{Caller, Core};

/// Tasks have this long to stop by themselves.
const STOP: Duration = Duration::from_secs(10);

/// How a master differs from a daemon's when it runs inside a test.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// Time.
    pub clock: Clock,
    /// Election and heartbeat times.
    pub timing: Timing,
    /// Disk faults and panics of the consensus thread.
    pub on_fault: OnFault,
}

impl Default for Surroundings {
    fn default() -> Self {
        Self { clock: Clock::Real, timing: Timing::default(), on_fault: OnFault::Exit }
    }
}

/// A running master.
#[derive(Debug)]
pub struct Master {
    core: Core,
    address: SocketAddr,
}

impl Master {
    /// Starts a master; it accepts connections when this returns.
    ///
    /// # Errors
    /// When its files, its socket or its database cannot be used.
    pub fn spawn(config: Config, drain: Drain, surroundings: Surroundings) -> anyhow::Result<Self> {
        let credentials = Credentials::from_files(&config.ca, &config.cert, &config.key)?;
        let key =
            std::fs::read_to_string(&config.ca_key).with_context(|| config.ca_key.display().to_string())?;
        let clock = surroundings.clock;
        let pki = pki::Pki::load(&config.cluster, &credentials.ca_pem, &key, clock.clone())?;
        let health = Health::new();
        let endpoint = Endpoint::server_with(
            config.listen,
            &credentials,
            &[wire::ALPN_MAIN, wire::ALPN_ENROL, wire::ALPN_PEER],
            Settings { health: health.clone(), ..Settings::default() },
        )?;
        let address = endpoint.local_addr()?;
        let watchers = machine::Watchers::default();
        let group = Group::open(
            Options {
                directory: config.data.clone(),
                cluster: config.cluster.clone(),
                id: config.id,
                members: members(&config)?,
                timing: surroundings.timing,
                on_fault: surroundings.on_fault,
                ..Options::single(&config.data, &config.cluster, &config.name)
            },
            machine::Machine::new(watchers.clone()),
            Some(Transport::new(endpoint.clone(), credentials.clone())),
            &drain,
        )?;
        let core = Core::new(core::Parts {
            actions: actions::Actions::new(&config.limits),
            clock,
            drain: drain.clone(),
            health,
            group,
            watchers,
            pki,
            credentials,
            endpoint,
            racks: racks::Racks::default(),
            stages: stages::Stages::default(),
            locks: locks::Locks::default(),
            claims: adapters::Claims::default(),
            questions: audit::Questions::default(),
            to_leader: forward::ToLeader::default(),
            monitors: monitor::Monitors::default(),
            config,
        });
        core.racks.start(&core);
        drain.spawn("guardian", guardian::run(core.clone()));
        drain.spawn("stages", stages::sweep(core.clone()));
        drain.spawn("notification", notify::run(core.clone()));
        drain.spawn("monitoring", monitor::run(core.clone()));
        drain.spawn("retention", retention::run(core.clone()));
        drain.spawn("front", front::serve(core.clone()));
        Ok(Self { core, address })
    }

    /// What all parts share.
    #[must_use]
    pub fn core(&self) -> &Core {
        &self.core
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops in order: tasks, database, connections. The answer names tasks that did not stop in time.
    pub async fn finish(self) -> Vec<String> {
        let late = self.core.drain.finish(STOP).await;
        self.core.group.close().await;
        self.core.endpoint.close("this master stops").await;
        late
    }
}

impl Drop for Master {
    /// One that was not finished is closed hard: its database must not be open when the process ends.
    fn drop(&mut self) {
        let group = self.core.group.clone();
        let closing = std::thread::spawn(move || {
            if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_time().build() {
                runtime.block_on(async { tokio::time::timeout(STOP, group.close()).await.is_ok() });
            }
        });
        let _ = closing.join();
    }
}

/// The members with addresses looked up.
fn members(config: &Config) -> anyhow::Result<Vec<Member>> {
    let member = |peer: config::Peer| {
        let mut found = peer.address.to_socket_addrs().with_context(|| format!("master {}", peer.name))?;
        let address = found.next().with_context(|| format!("master {} has no address", peer.name))?;
        Ok(Member { id: peer.id, name: peer.name, address })
    };
    config.members().into_iter().map(member).collect()
}
