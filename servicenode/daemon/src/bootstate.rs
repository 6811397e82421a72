//! What the boot services share: the mirror as they ask it, the leases with their journal, the tokens,
//! the CA, and the folders that files come from.
//!
//! Invariant: a lease is in the journal's file before its ACK leaves. The file is synced to the disk
//! every second, so a killed daemon forgets nothing and a power failure at most the last second.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use netboot::World;
use netboot::boot::{Argument, Choice, Format, Place, overlay, render, select};
use netboot::dhcp::{Arrival, Leases, Outcome, Settings, decide};
use netboot::world::{Boot, BootSite, Cable, Fixed, fixed_address};
use service::{Clock, Drain, Health};
use tracing::{info, warn};
use wire::names::Mac;
use wire::view::NodeView;

use crate::boots::Boots;
use crate::mirror::{Mirror, Rack};
use crate::tokens::Tokens;

/// The journal is written anew when it has grown beyond this.
const MAX_JOURNAL: u64 = 8 * 1024 * 1024;
/// A journal larger than this is not ours.
const MAX_JOURNAL_READ: u64 = 64 * 1024 * 1024;
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// What does not change while the daemon runs.
#[derive(Debug, Clone)]
pub struct BootConfig {
    /// Folder for the lease journal; none keeps leases in memory only.
    pub state_dir: Option<PathBuf>,
    /// Folder with `vmlinuz` and `initrd` of the discovery image.
    pub genesis_dir: PathBuf,
    /// The cluster's CA, PEM.
    pub ca_pem: Vec<u8>,
    /// SHA-256 of the CA certificate (DER).
    pub ca_sha256: [u8; 32],
    /// Port of the HTTP service as clients reach it.
    pub http_port: u16,
    /// Port of the agents' QUIC service.
    pub agent_port: u16,
    /// Words for every kernel that is booted from here.
    pub kernel_arguments: Vec<Argument>,
}

/// The shared state of the boot services.
pub struct BootState {
    /// What does not change.
    pub config: BootConfig,
    /// Counters of everything that was dropped or served.
    pub health: Health,
    /// The clock.
    pub clock: Clock,
    mirror: Mirror,
    boots: Boots,
    tokens: Tokens,
    leases: Mutex<LeaseBook>,
    world: Mutex<Option<(Arc<Rack>, Arc<World>)>>,
}

struct LeaseBook {
    leases: Leases,
    file: Option<File>,
    path: Option<PathBuf>,
    written: u64,
    dirty: bool,
}

/// The mirror at one moment, as netboot asks it.
pub struct View {
    world: Arc<World>,
    boots: Boots,
    now: Instant,
}

impl Boot for View {
    fn site(&self) -> Arc<BootSite> {
        self.world.site()
    }

    fn node_by_mac(&self, mac: Mac) -> Option<Arc<NodeView>> {
        self.world.node_by_mac(mac)
    }

    fn node_by_ip(&self, ip: Ipv4Addr) -> Option<Arc<NodeView>> {
        self.world.node_by_ip(ip)
    }

    fn cables(&self, switch: &str) -> Vec<Cable> {
        self.world.cables(switch)
    }

    fn nodes_by_serial(&self, serial: &str, mtm: &str) -> Vec<Arc<NodeView>> {
        self.world.nodes_by_serial(serial, mtm)
    }

    fn genesis_next(&self, node: &str) -> bool {
        self.boots.is_genesis_next(node, self.now)
    }
}

impl BootState {
    /// Reads the lease journal and makes the state.
    ///
    /// # Errors
    /// When the journal cannot be read or written.
    pub fn open(
        config: BootConfig,
        mirror: Mirror,
        boots: Boots,
        tokens: Tokens,
        clock: Clock,
        health: Health,
    ) -> io::Result<Arc<BootState>> {
        raise_file_limit();
        let book = LeaseBook::open(config.state_dir.as_deref(), clock.unix())?;
        Ok(Arc::new(BootState {
            config,
            health,
            clock,
            mirror,
            boots,
            tokens,
            leases: Mutex::new(book),
            world: Mutex::new(None),
        }))
    }

    /// The mirror now.
    #[must_use]
    pub fn view(&self) -> View {
        let rack = self.mirror.rack();
        let mut known = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        let world = match &*known {
            Some((at, world)) if Arc::ptr_eq(at, &rack) => world.clone(),
            _ => {
                let world = Arc::new(World::new(rack.site(), rack.nodes().cloned()));
                let site = world.site();
                let before = known.as_ref().map(|(_, world)| world.site());
                if before.is_none_or(|before| before.faults != site.faults) {
                    for fault in &site.faults {
                        warn!(%fault, "a row of the networks table is not served");
                    }
                }
                *known = Some((rack, world.clone()));
                world
            }
        };
        View { world, boots: self.boots.clone(), now: self.clock.now() }
    }

    /// Tells of every change of the mirror.
    #[must_use]
    pub fn changes(&self) -> tokio::sync::watch::Receiver<wire::ids::Revision> {
        self.mirror.changes()
    }

    /// The address that the rack's own tables give to a name.
    #[must_use]
    pub fn address_of(&self, name: &str) -> Option<Ipv4Addr> {
        self.mirror.rack().address_of(name)
    }

    /// Decides about a DHCP packet and writes the journal.
    pub(crate) fn dhcp(&self, datagram: &[u8], arrival: &Arrival, settings: &Settings) -> Outcome {
        let view = self.view();
        let now = self.clock.unix();
        let mut book = self.book();
        let outcome = decide(datagram, arrival, settings, &view, &mut book.leases, now);
        book.write(now);
        outcome
    }

    /// The MAC behind an address: a known node's, else the lease holder's.
    #[must_use]
    pub fn mac_of(&self, ip: Ipv4Addr) -> Option<Mac> {
        let view = self.view();
        if let Some(node) = view.node_by_ip(ip) {
            let macs = node.macs.iter().filter_map(|m| Mac::parse(&m.mac).ok());
            return macs.into_iter().find(|mac| fixed_address(&node, *mac) == Fixed::Address(ip));
        }
        self.book().leases.holder(ip, self.clock.unix())
    }

    /// The boot text for a machine that reaches us at `server`.
    #[must_use]
    pub fn boot_text(&self, mac: Mac, server: Ipv4Addr, format: Format) -> String {
        let view = self.view();
        let node = view.node_by_mac(mac);
        let genesis_next = node.as_ref().is_some_and(|n| view.genesis_next(&n.name));
        let choice = select(node.as_deref(), genesis_next);
        let place = Place {
            server,
            http_port: self.config.http_port,
            agent_port: self.config.agent_port,
            ca: self.config.ca_sha256,
            mac,
            arguments: &self.config.kernel_arguments,
        };
        if let Some(node) = &node {
            let (_, bad) = netboot::boot::arguments(&node.kernel_arguments);
            if !bad.is_empty() {
                warn!(node = %node.name, words = ?bad, "kernel arguments refused");
            }
        }
        info!(%mac, node = node.as_ref().map(|n| n.name.as_str()), state = choice.state(), "boot text");
        render(&choice, format, &place)
    }

    /// The overlay for a machine. A known node gets a fresh token, but only when the question comes
    /// from the address that belongs to the MAC.
    ///
    /// # Errors
    /// When the token could not be kept.
    pub fn overlay(&self, mac: Mac, peer: Ipv4Addr) -> io::Result<Vec<u8>> {
        let view = self.view();
        let Some(node) = view.node_by_mac(mac) else {
            return Ok(overlay(&self.config.ca_pem, None));
        };
        let choice = select(Some(&node), view.genesis_next(&node.name));
        if fixed_address(&node, mac) != Fixed::Address(peer) {
            self.health.counter("http_overlay_from_elsewhere").one();
            warn!(node = %node.name, %mac, %peer, "overlay asked from an address that is not the node's: no token");
            return Ok(overlay(&self.config.ca_pem, None));
        }
        if matches!(choice, Choice::LocalDisk { .. }) {
            return Ok(overlay(&self.config.ca_pem, None));
        }
        let token = self.tokens.mint(&node.name, node.boot_generation, self.clock.unix())?;
        Ok(overlay(&self.config.ca_pem, Some(&token)))
    }

    /// Syncs the lease journal once a second until the drain stops.
    pub async fn keep_leases(self: Arc<Self>, drain: Drain) {
        loop {
            let stopping = tokio::select! {
                biased;
                () = drain.stopping() => true,
                () = self.clock.sleep(SYNC_EVERY) => false,
            };
            let state = self.clone();
            let synced = tokio::task::spawn_blocking(move || state.sync()).await;
            if let Ok(Err(error)) = synced {
                self.health.counter("dhcp_journal_failed").one();
                warn!(%error, "the lease journal cannot be synced");
            }
            if stopping {
                return;
            }
        }
    }

    /// Leases and offers known, ended ones included.
    #[must_use]
    pub fn lease_count(&self) -> usize {
        self.book().leases.len()
    }

    fn sync(&self) -> io::Result<()> {
        let (file, path, fresh) = {
            let mut book = self.book();
            if !std::mem::take(&mut book.dirty) {
                return Ok(());
            }
            let fresh = (book.written > MAX_JOURNAL).then(|| book.leases.dump(self.clock.unix()));
            if let (Some(fresh), Some(path)) = (&fresh, book.path.clone()) {
                // Under the lock, so that no line is lost between the old file and the new one.
                book.file = Some(replace(&path, fresh)?);
                book.written = fresh.len() as u64;
            }
            (book.file.as_ref().map(File::try_clone).transpose()?, book.path.clone(), fresh.is_some())
        };
        if let Some(file) = file {
            file.sync_data()?;
        }
        if let (true, Some(folder)) = (fresh, path.as_deref().and_then(Path::parent)) {
            File::open(folder)?.sync_all()?;
        }
        Ok(())
    }

    fn book(&self) -> MutexGuard<'_, LeaseBook> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Every transfer and every connection needs a file descriptor; the usual soft limit is 1,024.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    let all = Rlimit { current: now.maximum, maximum: now.maximum };
    if now.current != now.maximum && setrlimit(Resource::Nofile, all).is_err() {
        warn!(limit = now.current, "the limit of open files cannot be raised");
    }
}

impl LeaseBook {
    fn open(folder: Option<&Path>, now: u64) -> io::Result<LeaseBook> {
        let Some(folder) = folder else {
            return Ok(LeaseBook {
                leases: Leases::default(),
                file: None,
                path: None,
                written: 0,
                dirty: false,
            });
        };
        fs::create_dir_all(folder)?;
        let path = folder.join("leases");
        let mut text = String::new();
        match File::open(&path) {
            Ok(file) => {
                let mut bytes = Vec::new();
                file.take(MAX_JOURNAL_READ).read_to_end(&mut bytes)?;
                text = String::from_utf8_lossy(&bytes).into_owned();
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let (leases, bad) = Leases::load(&text);
        if bad > 0 {
            warn!(lines = bad, "lines of the lease journal could not be read and are left out");
        }
        let fresh = leases.dump(now);
        let file = replace(&path, &fresh)?;
        Ok(LeaseBook { leases, file: Some(file), path: Some(path), written: fresh.len() as u64, dirty: true })
    }

    fn write(&mut self, now: u64) {
        let lines = self.leases.drain_journal();
        if lines.is_empty() {
            return;
        }
        if let Some(file) = &mut self.file {
            match file.write_all(lines.as_bytes()) {
                Ok(()) => self.written += lines.len() as u64,
                Err(error) => warn!(%error, now, "a lease could not be written to the journal"),
            }
            self.dirty = true;
        }
    }
}

/// Writes a fresh journal beside the old one and puts it in its place.
fn replace(path: &Path, text: &str) -> io::Result<File> {
    let fresh = path.with_extension("new");
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_data()?;
    fs::rename(&fresh, path)?;
    Ok(file)
}
