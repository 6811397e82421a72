//! The connection to the leading master: the view comes down on it, agents' comings and goings go up,
//! and the master opens a stream for each fan-out.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use link::{Connection, LinkError, Receiver, Role, Sender, Settings, within};
use service::Backoff;
use tokio::net::lookup_host;
use tracing::{debug, info, warn};
use wire::ids::Revision;
use wire::rack::{Down, FromRack, RackHello, Up};

use crate::{Core, fanout, mirror};

/// A new leader is there within seconds; we shall not be the ones who wait longest.
const MAX_WAIT: Duration = Duration::from_secs(3);
/// A master that refuses us is not asked again before.
const REFUSED_WAIT: Duration = Duration::from_secs(60);
/// A master that does not read or greet for so long is given up.
const PATIENCE: Duration = Duration::from_secs(10);
/// The mirror's copy is written at most this often.
const SAVE_EVERY: Duration = Duration::from_millis(500);
/// File with the masters' addresses, one a line.
const MASTERS: &str = "masters";

/// How a conversation with a master ended.
enum End {
    /// Ask there next.
    Elsewhere(Option<SocketAddr>),
    /// It does not want us.
    Refused(String),
    /// Broken.
    Lost(LinkError),
}

/// Keeps the uplink until the drain stops.
pub async fn keep(core: Arc<Core>) {
    let mut backoff = Backoff::new(Duration::from_millis(100), MAX_WAIT);
    let mut next = None;
    let mut turn: usize = 0;
    loop {
        let masters = masters(&core);
        let address = next.take().or_else(|| masters.get(turn % masters.len().max(1)).copied());
        turn = turn.wrapping_add(1);
        let wait = match address {
            None => {
                warn!("no master is known: margay-sn join, or masters = [...] in the configuration");
                REFUSED_WAIT
            }
            Some(address) => {
                let end = tokio::select! {
                    biased;
                    () = core.drain.stopping() => return,
                    end = converse(&core, address, &mut backoff) => end,
                };
                core.reports.set_master(None);
                core.mirror.drop_pieces();
                match end {
                    End::Elsewhere(other) => {
                        next = other.filter(|other| *other != address);
                        if next.is_some() { Duration::ZERO } else { backoff.wait(service::random::number()) }
                    }
                    End::Refused(reason) => {
                        warn!(%address, %reason, "the master refuses this service node");
                        REFUSED_WAIT
                    }
                    End::Lost(error) => {
                        info!(%address, %error, "no master");
                        backoff.wait(service::random::number())
                    }
                }
            }
        };
        tokio::select! {
            biased;
            () = core.drain.stopping() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// A dead master must be noticed about as fast as the others elect a new one: until then nothing of the rack
/// can be commanded.
fn watchful(settings: &Settings) -> Settings {
    Settings {
        keep_alive: Duration::from_secs(2),
        idle_timeout: Duration::from_secs(6),
        dial_timeout: Duration::from_secs(4),
        ..settings.clone()
    }
}

async fn converse(core: &Arc<Core>, address: SocketAddr, backoff: &mut Backoff) -> End {
    let endpoint = core.endpoint.with_settings(watchful(core.endpoint.settings()));
    let dial = endpoint.dial(address, &core.credentials, wire::ALPN_MAIN, Role::Master);
    let connection = match dial.await {
        Ok(connection) => connection,
        Err(error) => return End::Lost(error),
    };
    let result = async {
        let (mut sender, mut receiver) = connection.open().await?.split();
        let hello = FromRack::Uplink(hello(core, &connection));
        within(PATIENCE, sender.send(&hello)).await?;
        let first = receiver.expect(PATIENCE).await?;
        if let Some(end) = take(core, first)? {
            return Ok(end);
        }
        info!(master = %address, "connected to the leader");
        backoff.reset();
        core.reports.set_master(Some(connection.clone()));
        follow(core, &connection, &mut sender, &mut receiver).await
    };
    let end = result.await;
    connection.close(link::close::DONE, "done");
    end.unwrap_or_else(End::Lost)
}

fn hello(core: &Core, connection: &Connection) -> RackHello {
    // A mirror from the disk has no passwords: it serves the rack, but the masters send all of it anew.
    let complete = core.live.borrow().to_owned();
    let own = core.endpoint.local_addr().map(|mut address| {
        // Bound to every address: the one that reaches the master is the one to show.
        if let (true, Some(ip)) = (address.ip().is_unspecified(), connection.local_ip()) {
            address.set_ip(ip.to_canonical());
        }
        address.to_string()
    });
    RackHello {
        version: wire::version::CURRENT,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        mirror: if complete { core.mirror.rack().revision() } else { Revision(0) },
        addresses: own.into_iter().collect(),
        agents: core.agents.all(),
    }
}

async fn follow(
    core: &Arc<Core>,
    connection: &Connection,
    sender: &mut Sender,
    receiver: &mut Receiver,
) -> Result<End, LinkError> {
    let mut agents = core.agents.changes();
    agents.mark_changed();
    let mut durable = core.durable.subscribe();
    loop {
        tokio::select! {
            biased;
            message = receiver.recv() => {
                if let Some(end) = take(core, message?.ok_or(LinkError::Ended)?)? {
                    return Ok(end);
                }
            }
            exchange = connection.accept() => {
                let core_of_task = core.clone();
                let exchange = exchange?;
                core.drain.spawn("fan-out", fanout::serve(core_of_task, exchange));
            }
            changed = durable.changed() => {
                changed.map_err(|_| LinkError::Ended)?;
                let revision = *durable.borrow_and_update();
                within(PATIENCE, sender.send(&Up::Mirrored(revision))).await?;
            }
            changed = agents.changed() => {
                changed.map_err(|_| LinkError::Ended)?;
                let (up, down) = core.agents.take_changes();
                if !up.is_empty() || !down.is_empty() {
                    within(PATIENCE, sender.send(&Up::Agents { up, down })).await?;
                }
            }
        }
    }
}

fn take(core: &Core, message: Down) -> Result<Option<End>, LinkError> {
    match message {
        Down::NotLeader(address) => return Ok(Some(End::Elsewhere(address.parse().ok()))),
        Down::Refused(reason) => return Ok(Some(End::Refused(reason))),
        Down::Masters(addresses) => {
            let path = core.config.state_dir.join(MASTERS);
            if let Err(error) = keep_masters(&path, &addresses) {
                warn!(%error, path = %path.display(), "the masters' addresses are not kept");
            }
        }
        Down::View(update) => {
            let revision = update.revision;
            let applied = core.mirror.apply(update).map_err(|error| LinkError::Closed(error.to_string()))?;
            if applied {
                core.live.send_replace(true);
                debug!(revision = revision.0, nodes = core.mirror.rack().len(), "the mirror is fresh");
            }
        }
    }
    Ok(None)
}

fn masters(core: &Core) -> Vec<SocketAddr> {
    let text = std::fs::read_to_string(core.config.state_dir.join(MASTERS)).unwrap_or_default();
    let mut all: Vec<SocketAddr> = text.lines().filter_map(|line| line.trim().parse().ok()).collect();
    for address in &core.config.masters {
        if !all.contains(address) {
            all.push(*address);
        }
    }
    all
}

/// Writes the masters' addresses; names are resolved once, here.
pub(crate) fn keep_masters(path: &Path, addresses: &[String]) -> std::io::Result<()> {
    let text: String = addresses
        .iter()
        .filter(|address| address.parse::<SocketAddr>().is_ok())
        .map(|address| format!("{address}\n"))
        .collect();
    if text.is_empty() || std::fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, text)?;
    std::fs::rename(&fresh, path)
}

/// The addresses behind `host:port`.
pub(crate) async fn resolve(address: &str) -> std::io::Result<Vec<SocketAddr>> {
    match tokio::time::timeout(PATIENCE, lookup_host(address)).await {
        Ok(found) => found.map(Iterator::collect),
        Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
    }
}

/// Writes the mirror's copy after each change, until the drain stops.
pub async fn save_mirror(core: Arc<Core>) {
    let path = core.config.state_dir.join("mirror");
    let mut changes = core.mirror.changes();
    loop {
        tokio::select! {
            biased;
            () = core.drain.stopping() => return,
            changed = changes.changed() => if changed.is_err() { return },
        }
        let (rack, path) = (core.mirror.rack(), path.clone());
        let revision = rack.revision();
        let saved = tokio::task::spawn_blocking(move || mirror::save(&rack, &path)).await;
        match saved {
            Ok(Ok(())) => {
                core.durable.send_replace(revision);
            }
            Ok(Err(error)) => warn!(%error, source = ?std::error::Error::source(&error), "mirror not kept"),
            Err(error) => warn!(%error, "mirror not kept"),
        }
        tokio::select! {
            biased;
            () = core.drain.stopping() => return,
            () = tokio::time::sleep(SAVE_EVERY) => {}
        }
    }
}
