//! One service node's connection.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use link::{Connection, Exchange, Role, close};
use state::view::{Tables, column};
use tokio::sync::{Semaphore, broadcast::error::RecvError};
use wire::ids::Revision;
use wire::rack::{Down, FromRack, RackHello, Up};

use super::{RackStatus, deposed, feed};
use crate::core::Core;
use crate::{adapters, enrol};

/// How long the first message of a stream may take.
const FIRST: Duration = Duration::from_secs(10);
/// Streams of one service node that are worked on at a time.
const STREAMS: usize = 256;

/// A connected service node.
#[derive(Debug)]
pub struct Session {
    name: String,
    connection: Connection,
    program: String,
    addresses: Vec<String>,
    mirror: AtomicU64,
    agents: Mutex<BTreeSet<String>>,
}

impl Session {
    /// The service node's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its connection.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Whether this node's agent is connected to it.
    #[must_use]
    pub fn has_agent(&self, node: &str) -> bool {
        self.agents_now().contains(node)
    }

    /// Nodes whose agents are connected to it.
    #[must_use]
    pub fn agents(&self) -> Vec<String> {
        self.agents_now().iter().cloned().collect()
    }

    pub(super) fn status(&self) -> RackStatus {
        RackStatus {
            name: self.name.clone(),
            program: self.program.clone(),
            address: self.connection.remote_address().to_string(),
            addresses: self.addresses.clone(),
            mirror: Revision(self.mirror.load(Ordering::Relaxed)),
            agents: self.agents_now().len(),
        }
    }

    pub(super) fn replace(&self) {
        self.connection.close(close::REPLACED, "another connection of this service node");
    }

    fn agents_now(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves a connection whose certificate says service node, until it ends.
pub async fn serve(core: Core, connection: Connection) {
    let Some(identity) = connection.identity().filter(|identity| identity.role == Role::ServiceNode).cloned()
    else {
        connection.close(close::REFUSED, "not a service node");
        return;
    };
    let seats = Arc::new(Semaphore::new(STREAMS));
    loop {
        let exchange = tokio::select! {
            biased;
            () = core.drain.stopping() => {
                connection.close(close::STOPPING, "the master is stopping");
                return;
            }
            next = connection.accept() => match next {
                Ok(exchange) => exchange,
                Err(error) => {
                    tracing::debug!(rack = %identity.name, %error, "connection of a service node ended");
                    return;
                }
            },
        };
        // The service node waits for a seat, not this master's memory.
        let Ok(seat) = seats.clone().acquire_owned().await else { return };
        let (core, connection, name) = (core.clone(), connection.clone(), identity.name.clone());
        let drain = core.drain.clone();
        drain.spawn("service node's stream", async move {
            if let Err(error) = stream(&core, &connection, &name, exchange, seat).await {
                tracing::debug!(rack = %name, %error, "stream of a service node ended");
            }
        });
    }
}

async fn stream(
    core: &Core,
    connection: &Connection,
    name: &str,
    mut exchange: Exchange,
    seat: tokio::sync::OwnedSemaphorePermit,
) -> Result<(), link::LinkError> {
    match exchange.expect::<FromRack>(FIRST).await? {
        FromRack::Uplink(hello) => {
            drop(seat);
            uplink(core, connection, name, hello, exchange).await
        }
        FromRack::Report(report) => {
            let answer = match admitted(core, connection, name) {
                Ok(()) => enrol::answer(core, name, report).await,
                Err(reason) => wire::rack::RackAnswer::Denied { reason },
            };
            exchange.send(&answer).await?;
            exchange.finish();
            Ok(())
        }
        FromRack::Join(_) => Err(link::LinkError::Closed("a join on an authenticated connection".to_owned())),
    }
}

/// Whether the key that the service node showed is the registered one.
fn admitted(core: &Core, connection: &Connection, name: &str) -> Result<(), String> {
    let shown = connection.certificates();
    let shown = shown.first().and_then(|der| link::pki::key_fingerprint(der).ok()).unwrap_or_default();
    let row = core.read(|state| state.row("servicenodes", &[name]));
    match row {
        None => Err(format!("service node {name} is not registered; run margay sn add {name}")),
        Some(row) if column(&row, "fingerprint") != shown || shown.is_empty() => {
            Err(format!("the key of service node {name} is not the registered one"))
        }
        Some(_) => Ok(()),
    }
}

async fn uplink(
    core: &Core,
    connection: &Connection,
    name: &str,
    hello: RackHello,
    exchange: Exchange,
) -> Result<(), link::LinkError> {
    let (mut sender, mut receiver) = exchange.split();
    let refusal = if !core.leads() {
        Some(Down::NotLeader(core.leader()))
    } else if let Err(reason) = wire::version::check(hello.version) {
        Some(Down::Refused(reason))
    } else {
        admitted(core, connection, name).err().map(Down::Refused)
    };
    if let Some(refusal) = refusal {
        if let Down::Refused(reason) = &refusal {
            tracing::warn!(rack = %name, %reason, "service node refused");
        }
        sender.send(&refusal).await?;
        return sender.flush(FIRST).await;
    }
    let session = Arc::new(Session {
        name: name.to_owned(),
        connection: connection.clone(),
        program: hello.program,
        addresses: hello.addresses,
        mirror: AtomicU64::new(hello.mirror.0),
        agents: Mutex::new(hello.agents.iter().cloned().collect()),
    });
    core.racks.enter(&session);
    tracing::info!(rack = %name, agents = hello.agents.len(), mirror = hello.mirror.0, "service node connected");
    adapters::connected(core, hello.agents);
    let ended = tokio::select! {
        biased;
        () = core.drain.stopping() => Ok(()),
        () = deposed(core) => Ok(()),
        () = revoked(core, connection, name) => {
            connection.close(close::REFUSED, "no longer registered");
            Ok(())
        }
        ended = hear(core, &session, &mut receiver) => ended,
        ended = feed::feed(core, &session, &mut sender, hello.mirror) => ended,
    };
    core.racks.leave(&session);
    tracing::info!(rack = %name, "service node disconnected");
    ended
}

/// Takes in what the service node tells of itself.
async fn hear(core: &Core, session: &Session, receiver: &mut link::Receiver) -> Result<(), link::LinkError> {
    while let Some(up) = receiver.recv::<Up>().await? {
        match up {
            Up::Mirrored(revision) => session.mirror.store(revision.0, Ordering::Relaxed),
            Up::Agents { up, down } => {
                let mut agents = session.agents_now();
                for node in &down {
                    agents.remove(node);
                }
                agents.extend(up.iter().cloned());
                drop(agents);
                adapters::connected(core, up);
            }
        }
    }
    Ok(())
}

/// Waits until the service node's registration is gone or is another key's.
async fn revoked(core: &Core, connection: &Connection, name: &str) {
    let mut committed = core.committed();
    loop {
        match committed.recv().await {
            Ok(change) if !change.events.iter().any(|event| event.table_name() == "servicenodes") => continue,
            Err(RecvError::Closed) => return std::future::pending().await,
            Ok(_) | Err(RecvError::Lagged(_)) => {}
        }
        if admitted(core, connection, name).is_err() {
            return;
        }
    }
}
