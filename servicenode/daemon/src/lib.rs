//! The service node: serves its rack's machines (addresses, boot files, identities, commands) from a
//! mirror of its part of the tables, and carries wishes down and reports up.
//!
//! A rack goes on booting known nodes with no master up: everything that is answered is answered from
//! the [`mirror`]. Knows nothing of tables, commands or policies.

pub mod agents;
pub mod boots;
pub mod bootstate;
pub mod config;
mod counters;
pub mod dhcp_sock;
mod downlink;
mod echo;
mod enrol;
mod fanout;
pub mod http;
pub mod join;
pub mod mirror;
mod nodeop;
pub mod reports;
pub mod switches;
pub mod tftp_sock;
pub mod tokens;
mod uplink;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use bmc::Bmcs;
use link::{Credentials, Endpoint, Settings, pki};
use service::{Clock, Drain, Health};
use tokio::sync::{Semaphore, watch};
use tracing::{info, warn};
use wire::ids::Revision;

pub use config::Config;

use crate::agents::Agents;
use crate::boots::Boots;
use crate::bootstate::{BootConfig, BootState};
use crate::http::{Http, Limits};
use crate::mirror::Mirror;
use crate::reports::Reports;
use crate::switches::{Switches, Timing};
use crate::tftp_sock::{Loaders, Tftp};
use crate::tokens::Tokens;

/// Refusals that reach the audit log in one minute; a storm is counted, not copied.
const AUDITS_A_MINUTE: u64 = 60;

/// What the parts of one service node share.
struct Core {
    config: Config,
    cluster: String,
    credentials: Credentials,
    endpoint: Endpoint,
    mirror: Mirror,
    /// Whether the mirror has come from a master in this life of the process.
    live: watch::Sender<bool>,
    /// The revision of the mirror's copy on disk.
    durable: watch::Sender<Revision>,
    boots: Boots,
    tokens: Tokens,
    boot: Arc<BootState>,
    switches: Switches,
    bmcs: Bmcs,
    agents: Agents,
    reports: Reports,
    pending: Semaphore,
    audits: AtomicU64,
    health: Health,
    clock: Clock,
    drain: Drain,
}

impl Core {
    /// Whether another refusal may go to the audit log in this minute.
    fn may_audit(&self) -> bool {
        let minute = (self.clock.unix() / 60) << 16;
        let before = self.audits.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |seen| {
            if seen & !0xffff == minute { Some((seen + 1).min(minute | 0xffff)) } else { Some(minute | 1) }
        });
        let seen = before.unwrap_or_else(|seen| seen);
        let may = seen & !0xffff != minute || seen & 0xffff < AUDITS_A_MINUTE;
        if !may {
            self.health.counter("audit_dropped").one();
        }
        may
    }
}

/// A running service node.
pub struct ServiceNode {
    core: Arc<Core>,
    http: Option<SocketAddr>,
    tftp: Option<SocketAddr>,
}

impl ServiceNode {
    /// Starts every part; they run until the drain stops.
    ///
    /// # Errors
    /// When the identity is missing, a port is taken, or the state folder cannot be used.
    pub async fn start(config: Config, drain: &Drain) -> Result<Self> {
        let state = config.state_dir.clone();
        std::fs::create_dir_all(&state).with_context(|| state.display().to_string())?;
        let file = |name: &str| state.join(name);
        let credentials = Credentials::from_files(&file("ca.pem"), &file("cert.pem"), &file("key.pem"))
            .context("no identity; use margay-sn join")?;
        let identity = credentials.identity()?;
        let alpns = [wire::ALPN_MAIN, wire::ALPN_ENROL];
        let (clock, health) = (Clock::Real, Health::new());
        let settings = Settings { health: health.clone(), ..Settings::default() };
        let endpoint = Endpoint::server_with(config.listen, &credentials, &alpns, settings)?;
        let mirror = Mirror::new();
        match mirror::load(&mirror, &file("mirror")) {
            Ok(true) => info!(revision = mirror.rack().revision().0, "serving from the kept mirror"),
            Ok(false) => {}
            Err(error) => warn!(%error, "no kept mirror"),
        }
        let tokens = Tokens::open(&file("tokens"), clock.unix()).context("boot tokens")?;
        let boots = Boots::open(&file("boots"));
        let boot =
            Self::boot_state(&config, &credentials, &endpoint, (&mirror, &boots, &tokens), &clock, &health)?;
        let core = Arc::new(Core {
            cluster: identity.cluster.clone(),
            switches: Switches::new(Timing::default(), clock.clone(), health.clone(), Some(state)),
            bmcs: Bmcs::new().context("no socket for BMCs")?,
            agents: Agents::new(),
            reports: Reports::new(&health),
            pending: Semaphore::new(enrol::MAX_PENDING),
            audits: AtomicU64::new(0),
            live: watch::Sender::new(false),
            durable: watch::Sender::new(Revision(0)),
            config,
            credentials,
            endpoint,
            mirror,
            boots,
            tokens,
            boot,
            health,
            clock,
            drain: drain.clone(),
        });
        let (http, tftp) = Self::boot_services(&core).await?;
        let counters = core.config.state_dir.join("counters");
        drain.spawn("counters", counters::keep(counters, core.health.clone(), drain.clone()));
        drain.spawn("mirror", uplink::save_mirror(core.clone()));
        drain.spawn("reports", core.reports.clone().carry(drain.clone()));
        drain.spawn("agents", downlink::serve(core.clone(), core.endpoint.clone()));
        drain.spawn("uplink", uplink::keep(core.clone()));
        info!(%identity, agents = %core.endpoint.local_addr()?, "service node runs");
        Ok(Self { core, http, tftp })
    }

    fn boot_state(
        config: &Config,
        credentials: &Credentials,
        endpoint: &Endpoint,
        (mirror, boots, tokens): (&Mirror, &Boots, &Tokens),
        clock: &Clock,
        health: &Health,
    ) -> Result<Arc<BootState>> {
        let (kernel_arguments, bad) = netboot::boot::arguments(&config.kernel_arguments);
        if !bad.is_empty() {
            anyhow::bail!("kernel_arguments: {} cannot stand on a kernel command line", bad.join(" "));
        }
        let http_port = config.http.parse::<SocketAddr>().map_or(80, |address| address.port());
        let settings = BootConfig {
            state_dir: Some(config.state_dir.clone()),
            genesis_dir: config.genesis_dir.clone(),
            ca_pem: credentials.ca_pem.clone().into_bytes(),
            ca_sha256: pki::pin(&credentials.ca_pem)?,
            http_port,
            agent_port: endpoint.local_addr()?.port(),
            kernel_arguments,
        };
        let shared = (mirror.clone(), boots.clone(), tokens.clone());
        BootState::open(settings, shared.0, shared.1, shared.2, clock.clone(), health.clone())
            .context("lease journal")
    }

    async fn boot_services(core: &Arc<Core>) -> Result<(Option<SocketAddr>, Option<SocketAddr>)> {
        let (config, drain) = (&core.config, &core.drain);
        let loaders = match Loaders::read(&config.loader_dir) {
            Ok(loaders) => loaders,
            Err(error) => {
                warn!(folder = %config.loader_dir.display(), %error, "no boot loaders");
                Loaders::default()
            }
        };
        let mut bound = (None, None);
        if !config.http.is_empty() {
            let address = config.http.parse().context("http")?;
            let http = Http::bind(address, core.boot.clone(), loaders.clone(), Limits::default()).await;
            let http = http.with_context(|| format!("HTTP on {address}"))?;
            bound.0 = Some(http.address()?);
            drain.spawn("http", http.serve(drain.clone()));
        }
        if !config.tftp.is_empty() {
            let address = config.tftp.parse().context("tftp")?;
            let tftp = Tftp::bind(address, core.boot.clone(), loaders).await;
            let tftp = tftp.with_context(|| format!("TFTP on {address}"))?;
            bound.1 = Some(tftp.address());
            drain.spawn("tftp", tftp.serve(drain.clone()));
        }
        if config.dhcp {
            drain.spawn("dhcp", dhcp_sock::serve(core.boot.clone(), config.dhcp_port, drain.clone()));
        }
        drain.spawn("leases", core.boot.clone().keep_leases(drain.clone()));
        Ok(bound)
    }

    /// Where agents connect.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn agent_address(&self) -> Result<SocketAddr> {
        Ok(self.core.endpoint.local_addr()?)
    }

    /// Where boot files are served by HTTP.
    #[must_use]
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http
    }

    /// Where boot loaders are served by TFTP.
    #[must_use]
    pub fn tftp_address(&self) -> Option<SocketAddr> {
        self.tftp
    }

    /// The mirror.
    #[must_use]
    pub fn mirror(&self) -> &Mirror {
        &self.core.mirror
    }

    /// The connected agents.
    #[must_use]
    pub fn agents(&self) -> &Agents {
        &self.core.agents
    }

    /// The one-time boot tokens.
    #[must_use]
    pub fn tokens(&self) -> &Tokens {
        &self.core.tokens
    }

    /// Nodes whose next boot goes into the discovery image.
    #[must_use]
    pub fn boots(&self) -> &Boots {
        &self.core.boots
    }

    /// Counters of what was served and dropped.
    #[must_use]
    pub fn health(&self) -> &Health {
        &self.core.health
    }

    /// Says farewell to everybody; after the drain was finished.
    pub async fn close(&self) {
        self.core.endpoint.close("the service node is stopping").await;
    }
}
