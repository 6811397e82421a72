//! A master that decides nothing: it keeps the view that a test gives it, stores every report in a list,
//! and admits the machines that the test has written down.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use link::pki::{self, Authority};
use link::{Connection, Endpoint, Exchange, LinkError, Role};
use service::Drain;
use tokio::sync::watch;
use wire::agent::Report;
use wire::ids::Revision;
use wire::rack::{Down, Enrol, FromRack, RackAnswer, RackHello, RackReport, Up};
use wire::view::{NodeView, ViewUpdate};

/// The master. Ends with its value.
pub struct Master {
    endpoint: Endpoint,
    inner: Arc<Inner>,
    drain: Drain,
}

struct Inner {
    ca: Arc<Authority>,
    tables: Mutex<Tables>,
    revision: watch::Sender<u64>,
}

/// Everything that a test may look at or set.
#[derive(Default)]
pub struct Tables {
    /// The nodes.
    pub nodes: BTreeMap<String, NodeView>,
    /// Which serial number is admitted as which node.
    pub admit: BTreeMap<String, String>,
    /// Reports, in the order of their arrival.
    pub reports: Vec<(String, Report)>,
    /// Enrolments, in the order of their arrival.
    pub enrolments: Vec<Enrol>,
    /// Lines for the audit log.
    pub audits: Vec<(String, String)>,
    /// Digests of tokens that were used.
    pub used: BTreeSet<String>,
    /// Agents that the service node says are connected.
    pub agents: BTreeSet<String>,
    /// The service node's greetings.
    pub hellos: Vec<RackHello>,
    /// What the service node says is durable.
    pub mirrored: Revision,
    /// Answer `Again` so many times before anything is stored.
    pub again: u32,
    rack: Option<Connection>,
}

impl Master {
    /// A master on a free port.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn start(ca: Arc<Authority>) -> Result<Self> {
        let own =
            ca.credentials(Role::Master, "m1", service::Clock::Real.unix(), Duration::from_secs(3600))?;
        let endpoint = Endpoint::server(crate::localhost(), &own, &[wire::ALPN_MAIN, wire::ALPN_ENROL])?;
        let inner = Arc::new(Inner { ca, tables: Mutex::default(), revision: watch::Sender::new(1) });
        let drain = Drain::new();
        let (door, shared, tasks) = (endpoint.clone(), inner.clone(), drain.clone());
        drain.spawn("master", async move {
            while let Some(arrival) = door.accept().await {
                let (shared, tasks) = (shared.clone(), tasks.clone());
                tasks.clone().spawn("rack", async move {
                    if let Ok(connection) = arrival.complete("test").await {
                        while let Ok(exchange) = connection.accept().await {
                            tasks.spawn("exchange", serve(shared.clone(), connection.clone(), exchange));
                        }
                    }
                });
            }
        });
        Ok(Self { endpoint, inner, drain })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn address(&self) -> Result<SocketAddr> {
        Ok(self.endpoint.local_addr()?)
    }

    /// Looks at the tables, or changes what is not part of the view.
    pub fn tables<T>(&self, with: impl FnOnce(&mut Tables) -> T) -> T {
        with(&mut self.inner.lock())
    }

    /// Changes a node; the service node is told.
    pub fn node(&self, name: &str, change: impl FnOnce(&mut NodeView)) {
        self.inner.change(|tables| {
            let node = tables.nodes.entry(name.to_owned()).or_default();
            name.clone_into(&mut node.name);
            change(node);
        });
    }

    /// Whether a service node is connected and has a mirror.
    #[must_use]
    pub fn has_rack(&self) -> bool {
        self.tables(|tables| tables.rack.as_ref().is_some_and(|rack| !rack.is_closed()))
    }

    /// A stream to the service node.
    ///
    /// # Errors
    /// When none is connected.
    pub async fn open(&self) -> Result<Exchange> {
        let rack = self.tables(|tables| tables.rack.clone()).context("no service node is connected")?;
        Ok(rack.open().await?)
    }

    /// Breaks the connection to the service node.
    pub fn cut(&self) {
        if let Some(rack) = self.tables(|tables| tables.rack.take()) {
            rack.close(link::close::STOPPING, "cut by the test");
        }
    }

    /// How many reports of a node are of a kind.
    pub fn count(&self, node: &str, kind: impl Fn(&Report) -> bool) -> usize {
        self.tables(|tables| {
            tables.reports.iter().filter(|(name, report)| name == node && kind(report)).count()
        })
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        self.drain.stop();
    }
}

impl Inner {
    fn lock(&self) -> std::sync::MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, with: impl FnOnce(&mut Tables)) -> Revision {
        let mut tables = self.lock();
        with(&mut tables);
        self.revision.send_modify(|revision| *revision += 1);
        let revision = *self.revision.borrow();
        Revision(revision)
    }
}

async fn serve(inner: Arc<Inner>, connection: Connection, mut exchange: Exchange) {
    let result = match exchange.recv::<FromRack>().await {
        Ok(Some(FromRack::Uplink(hello))) => uplink(&inner, &connection, hello, exchange).await,
        Ok(Some(FromRack::Report(report))) => {
            let answer = store(&inner, report);
            let sent = exchange.send(&answer).await;
            exchange.finish();
            sent
        }
        Ok(Some(FromRack::Join(_)) | None) => Ok(()),
        Err(error) => Err(error),
    };
    // A rack that goes away is what tests do.
    drop(result);
}

async fn uplink(
    inner: &Inner,
    connection: &Connection,
    hello: RackHello,
    exchange: Exchange,
) -> Result<(), LinkError> {
    let (mut sender, mut receiver) = exchange.split();
    let mut revisions = inner.revision.subscribe();
    let full = hello.mirror == Revision(0);
    inner.lock().agents = hello.agents.iter().cloned().collect();
    inner.lock().hellos.push(hello);
    let mut sent = BTreeMap::new();
    sender.send(&Down::View(view(inner, full, &mut sent))).await?;
    inner.lock().rack = Some(connection.clone());
    loop {
        tokio::select! {
            changed = revisions.changed() => {
                if changed.is_err() { return Ok(()) }
                sender.send(&Down::View(view(inner, false, &mut sent))).await?;
            }
            message = receiver.recv::<Up>() => match message?.ok_or(LinkError::Ended)? {
                Up::Mirrored(revision) => inner.lock().mirrored = revision,
                Up::Agents { up, down } => {
                    let mut tables = inner.lock();
                    tables.agents.extend(up);
                    tables.agents.retain(|agent| !down.contains(agent));
                }
            },
        }
    }
}

/// What changed since the last view of this connection.
fn view(inner: &Inner, full: bool, sent: &mut BTreeMap<String, NodeView>) -> ViewUpdate {
    let tables = inner.lock();
    let changed = tables.nodes.values().filter(|node| sent.get(&node.name) != Some(*node)).cloned();
    let update = ViewUpdate {
        revision: Revision(*inner.revision.borrow()),
        full,
        nodes: changed.collect(),
        ..ViewUpdate::default()
    };
    sent.clone_from(&tables.nodes);
    update
}

fn store(inner: &Inner, report: RackReport) -> RackAnswer {
    {
        let mut tables = inner.lock();
        if tables.again > 0 {
            tables.again -= 1;
            return RackAnswer::Again("not now".to_owned());
        }
    }
    match report {
        RackReport::Enrol(enrol) => admit(inner, enrol),
        RackReport::Node { node, report, .. } => keep(inner, vec![(node, report)]),
        RackReport::Nodes(all) => {
            keep(inner, all.into_iter().map(|(node, report, _)| (node, report)).collect())
        }
        RackReport::Audit { who, what } => {
            RackAnswer::Stored(inner.change(|tables| tables.audits.push((who, what))))
        }
    }
}

fn keep(inner: &Inner, all: Vec<(String, Report)>) -> RackAnswer {
    RackAnswer::Stored(inner.change(|tables| {
        for (node, report) in &all {
            // The chain of these tests: the steps stand in `kernel_arguments`, separated by commas.
            let asks = match (report, tables.nodes.get_mut(node)) {
                (Report::NextDestiny { done, .. }, Some(view)) if *done == view.destiny => view,
                _ => continue,
            };
            let rest = asks.kernel_arguments.clone();
            let (next, after) = rest.split_once(',').unwrap_or((&rest, ""));
            asks.destiny = if next.is_empty() { "standby".to_owned() } else { next.to_owned() };
            asks.kernel_arguments = after.to_owned();
        }
        tables.reports.extend(all);
    }))
}

fn admit(inner: &Inner, enrol: Enrol) -> RackAnswer {
    let mut tables = inner.lock();
    let by_token = enrol.token.as_ref().map(|token| (token.node.clone(), token.digest.clone()));
    let by_serial = tables.admit.get(&enrol.hello.hardware.serial).cloned();
    let key = enrol.hello.public_key.clone();
    tables.enrolments.push(enrol);
    let node = match by_token {
        Some((_, digest)) if !tables.used.insert(digest.clone()) => {
            return RackAnswer::Denied { reason: "the token was used before".to_owned() };
        }
        Some((node, _)) => node,
        None => match by_serial {
            Some(node) => node,
            None => return RackAnswer::Pending { reason: "nobody knows this machine".to_owned() },
        },
    };
    drop(tables);
    let fingerprint: String = pki::digest(&key).iter().map(|byte| format!("{byte:02x}")).collect();
    let now = service::Clock::Real.unix();
    let issued = inner.ca.issue(Role::Node, &node, &key, now, Duration::from_secs(3600));
    let Ok(certificate) = issued else {
        return RackAnswer::Denied { reason: "no certificate can be made for this key".to_owned() };
    };
    let revision = inner.change(|tables| {
        let view = tables.nodes.entry(node.clone()).or_default();
        view.name.clone_from(&node);
        view.claimed = true;
        view.key_fingerprint = fingerprint;
    });
    RackAnswer::Admitted { node, certificate, method: "test".to_owned(), revision }
}
