//! Which switch port a MAC hangs on, asked of the switches by SNMP.
//!
//! A walk of a switch is kept for five minutes. After twenty seconds, and for a MAC that is not in it,
//! the switch is asked for that MAC by itself, which is one question and not a thousand; only when it
//! does not know it either, and the last walk is a while ago, it is walked again. Invariant: one walk per switch at a time, and
//! whoever asks meanwhile waits for it.

use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_snmp::transport::{UdpHandle, UdpTransport};
use async_snmp::{
    Auth, AuthProtocol, Client, ClientBuilder, DesSaltState, EngineCache, Error, ErrorStatus, Oid,
    PersistedDesSaltState, PrivProtocol, Retry, UsmConfig, Value, WalkMethod, WalkOptions,
};
use netboot::find::switch::{
    BASE_PORT, BRIDGE_FDB, IF_DESCR, IF_NAME, Q_BRIDGE_FDB, Rows, SwitchMap, Told, match_ports,
};
use netboot::world::{Boot, Cable};
use service::{Clock, Health};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::{debug, info, warn};
use wire::names::Mac;
use wire::rack::Evidence;
use wire::view::SwitchView;

/// How switches are asked.
#[derive(Debug, Clone)]
pub struct Timing {
    /// A walk is used for so long.
    pub keep: Duration,
    /// A switch is not walked again within this time.
    pub rest: Duration,
    /// A switch that did not answer is asked again after this time.
    pub retry: Duration,
    /// One question.
    pub request: Duration,
    /// All that a switch is given for a whole walk.
    pub walk: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Timing {
            keep: Duration::from_secs(300),
            rest: Duration::from_secs(20),
            retry: Duration::from_secs(5),
            request: Duration::from_millis(1500),
            walk: Duration::from_secs(15),
        }
    }
}

const RETRIES: u32 = 2;
/// Switches that are walked at a time.
const WALKS: usize = 8;
/// net-snmp answers genErr to 50 over SNMPv3; 25 goes well everywhere and is halved if not.
const REPETITIONS: u32 = 25;
const MAX_ROWS: usize = 200_000;
/// VLANs that are tried when one MAC is asked for.
const MAX_VLANS: usize = 64;
const DEFAULT_COMMUNITY: &str = "public";

/// The switches of a rack.
pub struct Switches {
    timing: Timing,
    clock: Clock,
    health: Health,
    state_dir: Option<PathBuf>,
    known: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Known>>>>,
    walks: Semaphore,
    engines: Arc<EngineCache>,
    transport: tokio::sync::OnceCell<UdpTransport>,
    des: Mutex<Option<DesSaltState>>,
}

/// What is known of one switch.
#[derive(Default)]
struct Known {
    /// The row that it was asked by; another row starts anew.
    row: Option<SwitchView>,
    tables: Tables,
    map: Option<Arc<SwitchMap>>,
    /// Last walk that succeeded.
    walked: Option<Instant>,
    /// Last failure and its reason.
    failed: Option<(Instant, String)>,
    repetitions: u32,
}

#[derive(Default, Clone)]
struct Tables {
    if_name: Rows<String>,
    if_descr: Rows<String>,
    base_port: Rows<u32>,
    q_bridge: Rows<u32>,
    bridge: Rows<u32>,
}

impl Tables {
    fn map(&self) -> Arc<SwitchMap> {
        Arc::new(SwitchMap::new(&self.if_name, &self.if_descr, &self.base_port, &self.q_bridge, &self.bridge))
    }

    /// Whether the bridge port has an interface with a name.
    fn names(&self, port: u32) -> bool {
        let row = self.base_port.iter().find(|(index, _)| index[..] == [port]);
        let interface = row.map_or(port, |(_, interface)| *interface);
        self.if_name.iter().chain(&self.if_descr).any(|(index, _)| index[..] == [interface])
    }

    fn vlans(&self) -> BTreeSet<Vec<u32>> {
        let prefixes = self.q_bridge.iter().filter_map(|(index, _)| {
            let head = index.len().checked_sub(6)?;
            Some(index[..head].to_vec())
        });
        prefixes.collect()
    }
}

impl Switches {
    /// No switch is asked yet. `state_dir` keeps what SNMPv3 with DES must remember over restarts.
    #[must_use]
    pub fn new(timing: Timing, clock: Clock, health: Health, state_dir: Option<PathBuf>) -> Switches {
        Switches {
            timing,
            clock,
            health,
            state_dir,
            known: Mutex::default(),
            walks: Semaphore::new(WALKS),
            engines: Arc::new(EngineCache::new()),
            transport: tokio::sync::OnceCell::new(),
            des: Mutex::default(),
        }
    }

    /// Whose cable ends where these MACs were learned. Always answers: with a node, or with the reason
    /// why none was found, naming each switch that did not answer.
    pub async fn port_of(&self, boot: &(dyn Boot + Sync), macs: &[Mac]) -> Evidence {
        let site = boot.site();
        let community = site.setting("snmpc").unwrap_or(DEFAULT_COMMUNITY).to_owned();
        let mut asked: Vec<(SwitchView, Vec<Cable>)> = Vec::new();
        for row in &site.switches {
            let cables = boot.cables(&row.name);
            if !cables.is_empty() {
                asked.push((row.clone(), cables));
            }
        }
        let answers =
            all(asked.iter().map(|(row, _)| self.ask(row.clone(), &community, macs)).collect()).await;
        self.count_junk();
        let told: Vec<Told<'_>> = asked
            .iter()
            .zip(&answers)
            .map(|((row, cables), answer)| {
                (row.name.as_str(), answer.as_deref().map_err(String::as_str), cables.as_slice())
            })
            .collect();
        match_ports(macs, &told)
    }

    /// The table of one switch, fresh enough to hold the MACs if the switch knows them.
    async fn ask(&self, row: SwitchView, community: &str, macs: &[Mac]) -> Result<Arc<SwitchMap>, String> {
        let entry = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.entry(row.name.clone()).or_default().clone()
        };
        // Whoever waits here for a walk gets its result; the walk itself has its end.
        let mut known = entry.lock().await;
        if known.row.as_ref() != Some(&row) {
            *known = Known { row: Some(row.clone()), repetitions: REPETITIONS, ..Known::default() };
        }
        let (now, junk) = (Instant::now(), self.junk());
        let young = |at: Option<Instant>, age: Duration| at.is_some_and(|at| now.duration_since(at) < age);
        let holds = |map: &SwitchMap| macs.iter().any(|mac| map.ports_of(*mac).next().is_some());
        if let Some((at, reason)) = &known.failed
            && young(Some(*at), self.timing.retry)
        {
            return Err(reason.clone());
        }
        if young(known.walked, self.timing.keep)
            && let Some(map) = known.map.clone()
        {
            let fresh = young(known.walked, self.timing.rest);
            if fresh && holds(&map) {
                return Ok(map);
            }
            // Also where the walk has the MAC: cables are moved, and this is one question only.
            match self.ask_for(&row, community, macs, &mut known).await {
                Ok(Some(map)) => return Ok(map),
                Ok(None) if fresh => return Ok(map),
                Ok(None) => {}
                Err(failed) => return Err(self.note(failed, &row, &mut known, junk)),
            }
        }
        let _turn = self.walks.acquire().await.map_err(|_| "the service node is stopping".to_owned())?;
        let walk =
            tokio::time::timeout(self.timing.walk, self.walk(&row, community, known.repetitions)).await;
        let failed = match walk {
            Ok(Ok((tables, repetitions))) => {
                let map = tables.map();
                info!(switch = %row.name, macs = map.len(), "switch walked");
                self.health.counter("snmp_walks").one();
                *known = Known {
                    tables,
                    map: Some(map.clone()),
                    walked: Some(Instant::now()),
                    failed: None,
                    repetitions,
                    row: Some(row),
                };
                return Ok(map);
            }
            Ok(Err(failed)) => failed,
            Err(_) => {
                let limit = self.timing.walk.as_secs_f64();
                Failed::Says(format!("did not tell its whole table by SNMP within {limit:.0} s"))
            }
        };
        Err(self.note(failed, &row, &mut known, junk))
    }

    /// Datagrams at our socket that are no SNMP, and those that answer no question that is open.
    fn junk(&self) -> (u64, u64) {
        let stats = self.transport.get().map(UdpTransport::stats);
        stats.map_or((0, 0), |stats| (stats.malformed_datagrams, stats.discarded_datagrams))
    }

    fn count_junk(&self) {
        let (malformed, unasked) = self.junk();
        self.health.counter("snmp_dropped_malformed").set(malformed);
        self.health.counter("snmp_dropped_unasked").set(unasked);
    }

    /// Keeps the reason of a failure; it stays the same text while the failure stays the same. `junk` is
    /// what had come before the questions.
    fn note(&self, failed: Failed, row: &SwitchView, known: &mut Known, junk: (u64, u64)) -> String {
        let mut reason = failed.reason(row, self.timing.request * (RETRIES + 1));
        if self.junk() != junk {
            // No semicolon: that stands between the reasons of the methods.
            reason.push_str(", and what came meanwhile was malformed or answered no question");
        }
        if known.failed.as_ref().is_none_or(|(_, before)| *before != reason) {
            warn!(switch = %row.name, %reason, "switch");
        }
        self.health.counter("snmp_failures").one();
        known.failed = Some((Instant::now(), reason.clone()));
        reason
    }

    /// Asks for single MACs. The table with them, when the switch knows one of them.
    ///
    /// # Errors
    /// When the switch does not answer.
    async fn ask_for(
        &self,
        row: &SwitchView,
        community: &str,
        macs: &[Mac],
        known: &mut Known,
    ) -> Result<Option<Arc<SwitchMap>>, Failed> {
        let client = self.client(row, community).await?;
        let vlans = known.tables.vlans();
        let ask = async {
            let (mut bridge, mut q_bridge) = (Rows::new(), Rows::new());
            for mac in macs.iter().take(16) {
                let arcs = mac.0.map(u32::from);
                let mut oids = vec![(Vec::new(), oid(&[BRIDGE_FDB, &arcs]))];
                for vlan in vlans.iter().take(MAX_VLANS) {
                    oids.push((vlan.clone(), oid(&[Q_BRIDGE_FDB, vlan, &arcs])));
                }
                for (vlan, oid) in oids {
                    let answer = match client.get(&oid).await {
                        Ok(answer) => answer,
                        Err(error) if status(&error).is_some() => continue,
                        Err(error) => return Err(Failed::from(*error)),
                    };
                    let port = answer.varbinds.first().and_then(|v| v.value.as_u32()).filter(|p| *p != 0);
                    if let Some(port) = port {
                        let rows = if vlan.is_empty() { &mut bridge } else { &mut q_bridge };
                        rows.push(([vlan.as_slice(), &arcs].concat(), port));
                    }
                }
            }
            Ok((bridge, q_bridge))
        };
        let answered = tokio::time::timeout(self.timing.walk, ask).await.map_err(|_| Failed::Silent)?;
        let (bridge, q_bridge) = answered?;
        known.failed = None;
        if bridge.is_empty() && q_bridge.is_empty() {
            return Ok(None);
        }
        // A port that was not there at the walk has no name yet: only a walk helps.
        if !bridge.iter().chain(&q_bridge).all(|(_, port)| known.tables.names(*port)) {
            return Ok(None);
        }
        // A MAC that has moved is at its new port only.
        let new =
            |index: &Vec<u32>| bridge.iter().chain(&q_bridge).any(|(other, _)| tail(other) == tail(index));
        known.tables.bridge.retain(|(index, _)| !new(index));
        known.tables.q_bridge.retain(|(index, _)| !new(index));
        known.tables.bridge.extend(bridge.iter().cloned());
        known.tables.q_bridge.extend(q_bridge.iter().cloned());
        self.health.counter("snmp_single_questions").one();
        let map = known.tables.map();
        known.map = Some(map.clone());
        Ok(Some(map))
    }

    async fn walk(
        &self,
        row: &SwitchView,
        community: &str,
        repetitions: u32,
    ) -> Result<(Tables, u32), Failed> {
        let client = self.client(row, community).await?;
        let mut walker = Walker { client, repetitions, health: &self.health };
        let if_name = walker.texts(IF_NAME).await?;
        let if_descr = walker.texts(IF_DESCR).await?;
        let base_port = walker.numbers(BASE_PORT).await?;
        let q_bridge = walker.numbers(Q_BRIDGE_FDB).await?;
        // The plain bridge table holds what Q-BRIDGE holds where a switch has both.
        let bridge = walker.numbers(BRIDGE_FDB).await?;
        if if_name.is_empty() && if_descr.is_empty() {
            return Err(Failed::Says(
                "tells no interface names (is the community's view too narrow?)".into(),
            ));
        }
        if q_bridge.is_empty() && bridge.is_empty() {
            debug!(switch = %row.name, "the switch has no forwarding table");
        }
        Ok((Tables { if_name, if_descr, base_port, q_bridge, bridge }, walker.repetitions))
    }

    async fn client(&self, row: &SwitchView, community: &str) -> Result<Client<UdpHandle>, Failed> {
        let target = self.target(row).await?;
        let auth = self.auth(row, community)?;
        let transport = self
            .transport
            .get_or_try_init(|| UdpTransport::bind("0.0.0.0:0"))
            .await
            .map_err(|error| Failed::Says(format!("cannot be asked: no SNMP socket: {error}")))?;
        let retry = Retry::fixed(RETRIES, Duration::ZERO).map_err(|e| Failed::Says(e.to_string()))?;
        let mut builder = ClientBuilder::new(auth)
            .request_timeout(self.timing.request)
            .retry(retry)
            .engine_cache(self.engines.clone());
        if row.snmp_version == "3" && row.privacy.eq_ignore_ascii_case("des") {
            builder = builder.des_salt_state(self.des_salt().map_err(|e| Failed::Says(e.to_string()))?);
        }
        builder.target(target).build_with(transport).await.map_err(|e| Failed::from(*e))
    }

    /// `address` or `address:port`; a name is looked up.
    async fn target(&self, row: &SwitchView) -> Result<SocketAddr, Failed> {
        let text = if row.address.is_empty() { &row.name } else { &row.address };
        if let Ok(address) = text.parse() {
            return Ok(address);
        }
        if let Ok(ip) = text.parse() {
            return Ok(SocketAddr::new(ip, 161));
        }
        let lookup = tokio::net::lookup_host((text.as_str(), 161));
        let found = tokio::time::timeout(self.timing.request * 2, lookup).await;
        let first = found.ok().and_then(Result::ok).and_then(|mut all| all.next());
        first
            .ok_or_else(|| Failed::Says("has no address (no hosts row, and its name is not resolved)".into()))
    }

    fn auth(&self, row: &SwitchView, community: &str) -> Result<Auth, Failed> {
        let own = row.password.reveal();
        let community = if own.is_empty() { community } else { own };
        match row.snmp_version.trim() {
            "1" => return Ok(Auth::v1(community)),
            "" | "2" | "2c" | "SNMPv2" => return Ok(Auth::v2c(community)),
            "3" | "SNMPv3" => {}
            other => return Err(Failed::Says(format!("has the unknown SNMP version '{other}'"))),
        }
        let user = UsmConfig::new(row.user.clone().into_bytes());
        let says =
            |error: async_snmp::CryptoError| Failed::Says(format!("has unusable SNMPv3 settings: {error}"));
        let auth = match row.auth.to_ascii_lowercase().as_str() {
            "" if own.is_empty() => return Ok(user.into()),
            "" | "sha" | "sha1" => AuthProtocol::Sha1,
            "md5" => AuthProtocol::Md5,
            "sha256" => AuthProtocol::Sha256,
            "sha384" => AuthProtocol::Sha384,
            "sha512" => AuthProtocol::Sha512,
            other => return Err(Failed::Says(format!("has the unknown SNMPv3 authentication '{other}'"))),
        };
        let privacy = match row.privacy.to_ascii_lowercase().as_str() {
            "" => return Ok(user.auth(auth, own).map_err(says)?.into()),
            "aes" | "aes128" => PrivProtocol::Aes128,
            "des" => PrivProtocol::Des,
            other => return Err(Failed::Says(format!("has the unknown SNMPv3 privacy '{other}'"))),
        };
        Ok(user.auth_priv(auth, own, privacy, own).map_err(says)?.into())
    }

    /// DES needs a number that rises with each start of the daemon, so that no salt comes twice.
    fn des_salt(&self) -> io::Result<DesSaltState> {
        let mut des = self.des.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(state) = &*des {
            return Ok(state.clone());
        }
        let path = self.state_dir.as_ref().map(|folder| folder.join("snmp-des"));
        let old = path.as_ref().and_then(|p| std::fs::read_to_string(p).ok()?.trim().parse().ok());
        let keep = |boots: &PersistedDesSaltState| match &path {
            Some(path) => std::fs::write(path, boots.engine_boots().to_string()),
            None => Ok(()),
        };
        // Without a file the clock's minutes take the place of the number.
        let old =
            old.or_else(|| path.is_none().then(|| u32::try_from(self.clock.unix() / 60).ok()).flatten());
        let state = match old.and_then(|boots| PersistedDesSaltState::new(boots).ok()) {
            Some(old) => DesSaltState::restart(old, keep),
            None => DesSaltState::install(keep),
        };
        let state = state.map_err(io::Error::other)?;
        *des = Some(state.clone());
        Ok(state)
    }
}

fn tail(index: &[u32]) -> &[u32] {
    index.get(index.len().saturating_sub(6)..).unwrap_or_default()
}

fn oid(parts: &[&[u32]]) -> Oid {
    Oid::from_slice(&parts.concat())
}

/// Runs a few futures side by side; the answers keep the order.
async fn all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut waiting: Vec<_> = futures.into_iter().map(|f| (Box::pin(f), None)).collect();
    std::future::poll_fn(|cx| {
        let mut pending = false;
        for (future, done) in &mut waiting {
            if done.is_none() {
                match future.as_mut().poll(cx) {
                    std::task::Poll::Ready(output) => *done = Some(output),
                    std::task::Poll::Pending => pending = true,
                }
            }
        }
        if pending { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
    })
    .await;
    waiting.into_iter().filter_map(|(_, done)| done).collect()
}

/// Why a switch told nothing.
enum Failed {
    Silent,
    Says(String),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Failed {
        match error.exchange_source() {
            Error::Timeout { .. } => Failed::Silent,
            Error::Auth { .. } => Failed::Says("refuses user, password or protocol".into()),
            Error::Report { status, .. } => Failed::Says(format!("refuses: {status}")),
            Error::Network { source, .. } => Failed::Says(format!("cannot be reached: {source}")),
            other => Failed::Says(format!("answers wrongly: {other}")),
        }
    }
}

impl Failed {
    fn reason(&self, row: &SwitchView, patience: Duration) -> String {
        let address = if row.address.is_empty() { &row.name } else { &row.address };
        match self {
            Failed::Silent => {
                // A switch is silent also to a wrong community or SNMPv3 password.
                let or = if row.snmp_version.contains('3') { "user or password" } else { "community" };
                let after = patience.as_secs_f64();
                format!(
                    "{} ({address}) did not answer SNMP within {after:.1} s (or refuses the {or})",
                    row.name
                )
            }
            Failed::Says(what) => format!("{} ({address}) {what}", row.name),
        }
    }
}

struct Walker<'a> {
    client: Client<UdpHandle>,
    repetitions: u32,
    health: &'a Health,
}

impl Walker<'_> {
    async fn texts(&mut self, column: &[u32]) -> Result<Rows<String>, Failed> {
        let text = |value: &Value| Some(String::from_utf8_lossy(value.as_bytes()?).into_owned());
        self.column(column, text).await
    }

    async fn numbers(&mut self, column: &[u32]) -> Result<Rows<u32>, Failed> {
        self.column(column, |value| value.as_u32()).await
    }

    /// Walks a column; with half the repetitions when the switch chokes on them.
    async fn column<T>(
        &mut self,
        column: &[u32],
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Rows<T>, Failed> {
        loop {
            match self.try_column(column, &read).await {
                Err(error) if chokes(&error) && self.repetitions > 1 => {
                    self.repetitions /= 2;
                    self.health.counter("snmp_repetitions_halved").one();
                }
                // SNMPv1 has no other word for the end of a table.
                Err(error) if ends(&error) => return Ok(Rows::new()),
                Err(error) => return Err((*error).into()),
                Ok(rows) => return Ok(rows),
            }
        }
    }

    async fn try_column<T>(
        &mut self,
        column: &[u32],
        read: impl Fn(&Value) -> Option<T>,
    ) -> async_snmp::Result<Rows<T>> {
        let options = WalkOptions {
            method: if self.repetitions > 1 { WalkMethod::Auto } else { WalkMethod::GetNext },
            max_repetitions: self.repetitions,
            result_limit: Some(MAX_ROWS),
            ..WalkOptions::default()
        };
        let mut walk = self.client.walk_with(oid(&[column]), options)?;
        let mut rows = Rows::new();
        while let Some(found) = walk.next().await {
            let found = found?;
            let Some(index) = found.oid.arcs().strip_prefix(column) else { break };
            if let Some(value) = read(&found.value) {
                rows.push((index.to_vec(), value));
            }
        }
        Ok(rows)
    }
}

fn status(error: &Error) -> Option<ErrorStatus> {
    match error.exchange_source() {
        Error::Snmp { status, .. } => Some(*status),
        _ => None,
    }
}

fn chokes(error: &Error) -> bool {
    matches!(status(error), Some(ErrorStatus::GenErr | ErrorStatus::TooBig))
}

fn ends(error: &Error) -> bool {
    matches!(status(error), Some(ErrorStatus::NoSuchName))
}
