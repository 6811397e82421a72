//! Agents: who may connect, what they report, what they are told.
//!
//! Who a node is comes from its certificate, and the certificate's key must be the one that the masters
//! registered for the node; this is looked at again with every change of the mirror, so a revoked identity
//! loses its connection at once.

use std::sync::Arc;
use std::time::Duration;

use link::{Connection, Endpoint, LinkError, Role, Sender, pki, within};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use tracing::{debug, info, warn};
use wire::agent::{AgentHello, Call, CallEvent, FromAgent, IDENTITY_REFUSED, Phase, Report, ToAgent};
use wire::hardware::{MAX_ADAPTERS, MAX_REPORT};
use wire::ids::Revision;
use wire::op::NodeReply;
use wire::rack::RackReport;

use crate::agents::Agent;
use crate::reports::Settled;
use crate::{Core, enrol};

/// Handshakes at a time; more callers wait at the door.
const HANDSHAKES: usize = 256;
/// An agent that does not say its first word, or does not read, for so long is dropped.
const PATIENCE: Duration = Duration::from_secs(10);
/// A just admitted node may be faster than the mirror; it gets this long.
const MIRROR_PATIENCE: Duration = Duration::from_secs(5);
/// A stored report may have changed nothing in the mirror; then the destiny is repeated after this.
const DESTINY_PATIENCE: Duration = Duration::from_secs(2);
/// A node that was booted to be asked for its adapters keeps its destiny for so long.
const ADAPTER_PATIENCE: Duration = Duration::from_secs(60);
/// Reports of one agent whose answers are awaited; more are not read from its stream.
const IN_FLIGHT: usize = 16;

/// Accepts agents until the drain stops.
pub async fn serve(core: Arc<Core>, endpoint: Endpoint) {
    let door = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let Ok(seat) = door.clone().acquire_owned().await else { return };
        let arrival = tokio::select! {
            biased;
            () = core.drain.stopping() => return,
            arrival = endpoint.accept() => match arrival {
                Some(arrival) => arrival,
                None => return,
            },
        };
        let core_of_task = core.clone();
        core.drain.spawn("agent", async move {
            let core = core_of_task;
            let address = arrival.remote_address();
            let accepted = arrival.complete(&core.cluster).await;
            drop(seat);
            match accepted {
                Ok(connection) if connection.alpn() == wire::ALPN_ENROL => {
                    enrol::serve(core, connection).await
                }
                Ok(connection) => admit(core, connection).await,
                Err(error) => {
                    core.health.counter("agent_refused").one();
                    warn!(%error, "a caller was turned away");
                    audit(&core, address.ip(), "a caller without a valid certificate was turned away");
                }
            }
        });
    }
}

/// Says something for the audit log; nobody waits for it, and a storm of refusals says it once a minute.
fn audit(core: &Arc<Core>, who: impl ToString, what: &str) {
    if !core.may_audit() {
        return;
    }
    let report = RackReport::Audit { who: who.to_string(), what: what.to_owned() };
    let core_of_task = core.clone();
    core.drain.spawn("audit", async move {
        tokio::select! {
            biased;
            () = core_of_task.drain.stopping() => {}
            _ = core_of_task.reports.deliver(report) => {}
        }
    });
}

async fn admit(core: Arc<Core>, connection: Connection) {
    let identity = match link::identity(&connection) {
        Ok(identity) => identity,
        Err(error) => return debug!(%error, "no identity"),
    };
    let refuse = |reason: String| {
        core.health.counter("agent_refused").one();
        warn!(%identity, %reason, "a caller was turned away");
        audit(&core, &identity, &reason);
        connection.close(link::close::REFUSED, &reason);
    };
    if identity.role != Role::Node {
        return refuse(format!("a {} has no business here", identity.role));
    }
    let node = identity.name.clone();
    let fingerprint = match connection.certificates().first().map(|own| pki::key_fingerprint(own)) {
        Some(Ok(fingerprint)) => fingerprint,
        _ => return refuse(format!("{IDENTITY_REFUSED}: no certificate")),
    };
    if let Err(reason) = registered(&core, &node, &fingerprint).await {
        return refuse(reason);
    }
    let session = Session { core: core.clone(), connection: connection.clone(), node, fingerprint };
    let ended = session.hold().await;
    core.agents.leave(&session.node, &connection);
    match ended {
        Ok(()) => {}
        Err(LinkError::Frame(error)) => {
            core.health.counter("agent_malformed").one();
            warn!(node = %session.node, %error, "malformed message");
            connection.close(link::close::REFUSED, "malformed message");
        }
        Err(error) => info!(node = %session.node, %error, "agent gone"),
    }
    connection.close(link::close::DONE, "done");
}

/// Whether the key is the node's; waits for the mirror where the admission has just happened.
async fn registered(core: &Core, node: &str, fingerprint: &str) -> Result<(), String> {
    let mut changes = core.mirror.changes();
    let deadline = Instant::now() + MIRROR_PATIENCE;
    loop {
        changes.mark_unchanged();
        let reason = match key_of(core, node, fingerprint) {
            Ok(()) => return Ok(()),
            Err(reason) => reason,
        };
        if !matches!(tokio::time::timeout_at(deadline, changes.changed()).await, Ok(Ok(()))) {
            return Err(reason);
        }
    }
}

fn key_of(core: &Core, node: &str, fingerprint: &str) -> Result<(), String> {
    let rack = core.mirror.rack();
    match rack.node(node) {
        Some(view) if view.key_fingerprint.eq_ignore_ascii_case(fingerprint) => {
            core.agents.forget_admission(node);
            Ok(())
        }
        _ if core.agents.was_admitted(node, fingerprint) => Ok(()),
        Some(_) => Err(format!("{IDENTITY_REFUSED}: another key is registered for {node}")),
        None => Err(format!("{IDENTITY_REFUSED}: {node} is not a node of this service node")),
    }
}

struct Session {
    core: Arc<Core>,
    connection: Connection,
    node: String,
    fingerprint: String,
}

/// What the agent has been told, and what holds the next word back.
struct Told {
    destiny: Option<String>,
    generation: Option<u64>,
    /// The master has to decide first: until this revision, or at the latest this moment.
    not_before: Option<(Revision, Instant)>,
    /// A step's end or a wanted report is on its way to the master.
    held: usize,
}

impl Session {
    async fn hold(&self) -> Result<(), LinkError> {
        let mut exchange = within(PATIENCE, self.connection.accept()).await?;
        exchange.receiver.set_limit(MAX_REPORT + 64 * 1024);
        let hello: AgentHello = exchange.expect(PATIENCE).await?;
        if let Err(reason) = wire::version::check(hello.version) {
            self.connection.close(link::close::REFUSED, &reason);
            return Ok(());
        }
        let agent =
            Agent { connection: self.connection.clone(), phase: hello.phase, boot_id: hello.boot_id.clone() };
        info!(node = %self.node, phase = ?hello.phase, address = %self.connection.remote_address(), "agent connected");
        self.core.agents.enter(&self.node, agent);
        let (mut sender, mut receiver) = exchange.split();
        let (settle, mut settled) = mpsc::channel(IN_FLIGHT);
        let mut told = Told {
            destiny: None,
            generation: (hello.generation > 0).then_some(hello.generation),
            not_before: Some((self.core.agents.awaited(&self.node), Instant::now() + DESTINY_PATIENCE)),
            held: 0,
        };
        if hello.phase == Phase::Genesis && self.core.boots.arrived(&self.node) {
            told.held += 1;
            self.ask_adapters(settle.clone());
        }
        let mut changes = self.core.mirror.changes();
        let mut in_flight = 0;
        loop {
            self.tell(&hello, &mut told, &mut sender).await?;
            let repeat =
                told.not_before.map_or_else(|| Instant::now() + Duration::from_secs(3600), |(_, at)| at);
            tokio::select! {
                biased;
                () = self.core.drain.stopping() => {
                    self.connection.close(link::close::STOPPING, "the service node is stopping");
                    return Ok(());
                }
                changed = changes.changed() => {
                    changed.map_err(|_| LinkError::Ended)?;
                    if let Err(reason) = key_of(&self.core, &self.node, &self.fingerprint) {
                        warn!(node = %self.node, %reason, "the agent is put out");
                        self.connection.close(link::close::REFUSED, &reason);
                        return Ok(());
                    }
                }
                Some(done) = settled.recv() => self.settled(done, &mut told, &mut sender, &mut in_flight).await?,
                message = receiver.recv::<FromAgent>(), if in_flight < IN_FLIGHT => {
                    let message = message?.ok_or(LinkError::Ended)?;
                    in_flight += 1;
                    if matches!(message.report, Report::NextDestiny { .. }) {
                        told.held += 1;
                    }
                    self.report(message, settle.clone());
                }
                () = tokio::time::sleep_until(repeat), if told.not_before.is_some() && told.held == 0 => {
                    told.not_before = None;
                }
            }
        }
    }

    /// Tells the agent what it does not know yet and may know.
    async fn tell(&self, hello: &AgentHello, told: &mut Told, sender: &mut Sender) -> Result<(), LinkError> {
        let rack = self.core.mirror.rack();
        let Some(view) = rack.node(&self.node) else { return Ok(()) };
        if hello.phase == Phase::System {
            if told.generation != Some(view.config.generation) {
                told.generation = Some(view.config.generation);
                let config = ToAgent::Config(view.config.clone());
                within(PATIENCE, sender.send(&config)).await?;
            }
            return Ok(());
        }
        if let Some((revision, _)) = told.not_before {
            if rack.revision() < revision {
                return Ok(());
            }
            told.not_before = None;
        }
        if told.held == 0 && told.destiny.as_deref() != Some(&view.destiny) {
            told.destiny = Some(view.destiny.clone());
            within(PATIENCE, sender.send(&ToAgent::Destiny(view.destiny.clone()))).await?;
        }
        Ok(())
    }

    async fn settled(
        &self,
        done: Done,
        told: &mut Told,
        sender: &mut Sender,
        in_flight: &mut usize,
    ) -> Result<(), LinkError> {
        if done.holds {
            told.held = told.held.saturating_sub(1);
        }
        if let (true, Ok(revision)) = (done.holds, &done.settled) {
            // What the mirror shows from that revision on is the answer, also when it is the same word.
            told.destiny = None;
            told.not_before = Some((*revision, Instant::now() + DESTINY_PATIENCE));
            self.core.agents.await_revision(&self.node, *revision);
        }
        let Some(sequence) = done.sequence else { return Ok(()) };
        *in_flight = in_flight.saturating_sub(1);
        let answer = match done.settled {
            Ok(_) => ToAgent::Stored(sequence),
            Err(reason) => ToAgent::Rejected { sequence, reason },
        };
        within(PATIENCE, sender.send(&answer)).await
    }

    /// Sends a report up; its fate comes back through `settle`.
    fn report(&self, message: FromAgent, settle: mpsc::Sender<Done>) {
        let FromAgent { sequence, report } = message;
        let holds = matches!(report, Report::NextDestiny { .. });
        let done = move |settled| Done { sequence: Some(sequence), holds, settled };
        if let Err(reason) = check(&report) {
            let reason_of_audit = format!("report refused: {reason}");
            audit(&self.core, &self.node, &reason_of_audit);
            self.core.drain.spawn("report", async move {
                let _ = settle.send(done(Err(reason))).await;
            });
            return;
        }
        let fate = self.core.reports.node(&self.node, report, self.core.clock.unix());
        let closed = self.connection.clone();
        self.core.drain.spawn("report", async move {
            tokio::select! {
                biased;
                _ = closed.closed() => {}
                fate = fate => {
                    let settled = fate.unwrap_or_else(|_| Err("this service node is stopping".to_owned()));
                    let _ = settle.send(done(settled)).await;
                }
            }
        });
    }

    /// The node was booted to tell its adapters: asks it and reports for it.
    fn ask_adapters(&self, settle: mpsc::Sender<Done>) {
        let (core, connection, node) = (self.core.clone(), self.connection.clone(), self.node.clone());
        self.core.drain.spawn("adapters", async move {
            let ask = async {
                let mut exchange = connection.open().await?;
                exchange.send(&Call::Adapters).await?;
                exchange.recv::<CallEvent>().await
            };
            let settled = match within(ADAPTER_PATIENCE, ask).await {
                Ok(Some(CallEvent::Reply(NodeReply::Adapters(adapters)))) => {
                    let fate = core.reports.node(&node, Report::Adapters(adapters), core.clock.unix());
                    match tokio::time::timeout(ADAPTER_PATIENCE, fate).await {
                        Ok(Ok(settled)) => settled,
                        _ => Err("no master has stored the adapters in time".to_owned()),
                    }
                }
                Ok(_) => Err("the agent did not tell its adapters".to_owned()),
                Err(error) => Err(error.to_string()),
            };
            if let Err(reason) = &settled {
                warn!(%node, %reason, "no adapters");
            }
            let _ = settle.send(Done { sequence: None, holds: true, settled }).await;
        });
    }
}

/// What became of something that went up.
struct Done {
    /// Of the agent's report; none when the service node reported for it.
    sequence: Option<u64>,
    /// Whether the next destiny waits for it.
    holds: bool,
    settled: Settled,
}

/// Limits that the masters need not look at.
fn check(report: &Report) -> Result<(), String> {
    let adapters = match report {
        Report::Adapters(adapters) => adapters.len(),
        Report::Hardware(hardware) => hardware.adapters.len(),
        _ => 0,
    };
    if adapters > MAX_ADAPTERS {
        return Err(format!("{adapters} adapters, the limit is {MAX_ADAPTERS}"));
    }
    let size = wire::frame::encode(report).map_or(usize::MAX, |bytes| bytes.len());
    if size > MAX_REPORT { Err(format!("{size} bytes, the limit is {MAX_REPORT}")) } else { Ok(()) }
}
