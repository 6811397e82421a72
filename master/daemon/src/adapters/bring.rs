//! What makes nodes tell their adapters, stage by stage.
//!
//! A connected agent is asked. Any other node boots the discovery image, but one that runs is rebooted only
//! where that was allowed; a machine that is on its way is waited for. That a boot is ordered is in the row
//! before the order goes out: no master that finds such a row judges the machine anew, it only sees that the
//! machine is not left without power. All of it goes on when the client is gone, and when the master is gone
//! the next one takes it up.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use state::discovery::waits::{self, Stage};
use state::discovery::{RackEvent, calendar};
use state::view::{Tables, column};
use tokio::sync::mpsc;
use wire::ids::ActionId;

use super::order::{self, NO_MGT, Power, close};
use crate::core::Core;
use crate::locks::Holder;

/// A machine whose power or boot state changed so lately is on its way to an agent.
const COMING: Duration = Duration::from_secs(600);
/// How long a service node that went away in the middle of an order is waited for.
const BACK: Duration = Duration::from_secs(30);

/// Sees to waits that were claimed.
pub(super) struct Bring {
    core: Core,
    holder: Holder,
    /// Lines for the client, who may be gone.
    said: mpsc::Sender<String>,
    /// The claims end with it.
    term: u64,
}

/// Takes up all open waits when this master begins to lead.
pub(crate) async fn resume(core: Core) {
    if core.barrier().await.is_err() {
        return;
    }
    let waiting: Vec<(String, ActionId)> = core.read(|state| {
        let rows = Tables::rows(state, "taskstate");
        let waiting = rows.iter().filter(|row| waits::is_waiting(row));
        let action = |row| ActionId(column(row, "action").parse().unwrap_or(0));
        waiting.map(|row| (column(row, "node").to_owned(), action(row))).collect()
    });
    let mut actions: BTreeMap<u64, Vec<(String, Stage)>> = BTreeMap::new();
    let of: BTreeMap<&str, u64> = waiting.iter().map(|(node, action)| (node.as_str(), action.0)).collect();
    for (node, stage) in core.claims.take(&core, waiting.iter().map(|(node, _)| node.as_str())) {
        let action = of.get(node.as_str()).copied().unwrap_or_default();
        actions.entry(action).or_default().push((node, stage));
    }
    for (action, nodes) in actions {
        let record = core.read(|state| state::actions::find(state, ActionId(action)));
        let (command, user) = record.map_or_else(
            || (waits::COMMAND.to_owned(), "master".to_owned()),
            |record| (record.command, record.author),
        );
        tracing::info!(action, nodes = nodes.len(), "waits for adapters are taken up");
        let (said, _) = mpsc::channel(1);
        let bring = Bring::new(&core, Holder { action, command, user }, said);
        core.drain.spawn("getadapter", bring.run(nodes));
    }
}

impl Bring {
    pub(super) fn new(core: &Core, holder: Holder, said: mpsc::Sender<String>) -> Self {
        Self { core: core.clone(), holder, said, term: core.group.status().borrow().term }
    }

    /// Does what is to be done for these waits; returns when there is nothing left but to wait. A master that
    /// stops takes its orders back: the next one finds in the rows what it began.
    pub(super) async fn run(self, nodes: Vec<(String, Stage)>) {
        tokio::select! {
            biased;
            () = self.core.drain.stopping() => {}
            () = self.bring(nodes) => {}
        }
    }

    async fn bring(&self, nodes: Vec<(String, Stage)>) {
        let names: Vec<String> = nodes.iter().map(|(node, _)| node.clone()).collect();
        // After a change of masters nobody is connected for a moment; that is no reason to boot anything.
        self.core.racks.settled(&names).await;
        let connected = self.core.racks.connected();
        let (asked, away): (Vec<_>, Vec<_>) =
            nodes.into_iter().partition(|(node, _)| connected.contains(node));
        let (ordered, fresh): (Vec<_>, Vec<_>) =
            away.into_iter().partition(|(_, stage)| *stage == Stage::Ordered);
        let names = |list: Vec<(String, Stage)>| list.into_iter().map(|(node, _)| node).collect::<Vec<_>>();
        tokio::join!(
            self.ask(names(asked)),
            self.see_to_power(names(ordered)),
            self.see_to(names(fresh), BTreeMap::new()),
        );
    }

    fn action(&self) -> ActionId {
        ActionId(self.holder.action)
    }

    /// Asks connected agents. A machine that lost its power with its agent's connection open does not come
    /// back by itself; any other agent does, and is asked again then.
    async fn ask(&self, nodes: Vec<String>) {
        let lost = order::ask(&self.core, nodes, self.action()).await;
        let (mut off, mut on) = (Vec::new(), BTreeMap::new());
        for (node, power) in order::power(&self.core, lost, self.action()).await {
            match power {
                Power::Off => off.push(node),
                Power::On | Power::Unknown(_) => {
                    on.insert(node, u64::MAX);
                }
            }
        }
        self.boot(off).await;
        self.see_to(Vec::new(), on).await;
    }

    /// Machines whose boot was ordered before, by a master that may have died in the middle of it.
    async fn see_to_power(&self, nodes: Vec<String>) {
        let powers = order::power(&self.core, nodes, self.action()).await;
        let off = powers.into_iter().filter(|(_, power)| *power == Power::Off);
        self.boot(off.map(|(node, _)| node).collect()).await;
    }

    /// Judges nodes without an agent until each is booted, refused or answered. `later` are to be judged at
    /// the second that is with them, or when a reboot is allowed meanwhile.
    async fn see_to(&self, mut nodes: Vec<String>, mut later: BTreeMap<String, u64>) {
        loop {
            let boot = self.judge(nodes, &mut later).await;
            self.boot(boot).await;
            match self.ripe(&mut later).await {
                Some(ripe) => nodes = ripe,
                None => return,
            }
        }
    }

    /// Which of these nodes are to be booted now. A machine that is on its way goes into `later`.
    async fn judge(&self, nodes: Vec<String>, later: &mut BTreeMap<String, u64>) -> Vec<String> {
        let core = &self.core;
        let lacks = |node: &String| core.read(|state| state.text(node, "nodehm.mgt").is_empty());
        let (none, some): (Vec<String>, Vec<String>) = nodes.into_iter().partition(lacks);
        close(core, none, NO_MGT).await;
        let (mut boot, some): (Vec<String>, Vec<String>) =
            some.into_iter().partition(|node| self.stage(node) == Some(Stage::Opened { force: true }));
        for (node, power) in order::power(core, some, self.action()).await {
            match power {
                Power::Off => boot.push(node),
                Power::On if in_genesis(core, &node) => boot.push(node),
                Power::On => match coming(core, &node) {
                    Some(until) => {
                        later.insert(node, until);
                    }
                    // Its agent came while the BMC was asked: it is asked.
                    None if core.racks.is_connected(&node) => {
                        later.insert(node, u64::MAX);
                    }
                    None => {
                        let text = "it runs and no agent is connected; getadapter would reboot it. Use --force to allow that";
                        close(core, vec![node], text).await;
                    }
                },
                Power::Unknown(text) => close(core, vec![node], &text).await,
            }
        }
        boot
    }

    /// Waits until some of `later` must be judged again, and takes them out. None: nobody waits for any more.
    async fn ripe(&self, later: &mut BTreeMap<String, u64>) -> Option<Vec<String>> {
        let mut committed = self.core.committed();
        loop {
            let now = self.core.clock.unix();
            let mut ripe = Vec::new();
            later.retain(|node, until| match self.stage(node) {
                None | Some(Stage::Ordered) => false,
                Some(Stage::Opened { force }) => {
                    let due = force || (*until <= now && !self.core.racks.is_connected(node));
                    if due {
                        ripe.push(node.clone());
                    }
                    !due
                }
            });
            if !ripe.is_empty() {
                return Some(ripe);
            }
            let next = later.values().filter(|until| **until > now).min().copied()?;
            tokio::select! {
                biased;
                () = self.core.drain.stopping() => return None,
                _ = committed.recv() => {}
                () = self.core.clock.sleep(Duration::from_secs((next - now).min(COMING.as_secs()))) => {}
            }
        }
    }

    /// The stage of a node's wait; none when nobody waits there or another term has begun.
    fn stage(&self, node: &str) -> Option<Stage> {
        if self.core.group.status().borrow().term != self.term {
            return None;
        }
        let row = self.core.read(|state| state.row("taskstate", &[node, waits::COMMAND]))?;
        waits::is_waiting(&row).then(|| waits::stage(&row))
    }

    /// Sends nodes into the discovery image.
    async fn boot(&self, nodes: Vec<String>) {
        if nodes.is_empty() {
            return;
        }
        let core = &self.core;
        // Nobody else changes the power of these machines meanwhile.
        let (mut held, refused) = core.locks.take(&nodes, &self.holder);
        for (node, other) in refused {
            let text =
                format!("action {} ({}, by {}) holds this node", other.action, other.command, other.user);
            close(core, vec![node], &text).await;
        }
        let nodes = held.nodes().to_vec();
        if nodes.is_empty() {
            return;
        }
        if let Err(error) = core.racks.report(RackEvent::Arm { nodes: nodes.clone() }).await {
            return close(core, nodes, &error.to_string()).await;
        }
        // A wait may have ended meanwhile: then nobody wants the boot any more.
        let wanted: BTreeSet<String> = nodes.into_iter().filter(|node| self.stage(node).is_some()).collect();
        let mut unsure = Vec::new();
        let mut boots = order::Boots::send(core, wanted, self.action());
        while let Some((node, done)) = boots.next().await {
            match done {
                order::Booted::Yes => self.booting(&node).await,
                order::Booted::No(text) => close(core, vec![node.clone()], &text).await,
                order::Booted::Perhaps(_) => {
                    unsure.push(node);
                    continue;
                }
            }
            held.release(&node);
        }
        self.make_sure(unsure).await;
    }

    /// The service node went away in the middle of the order: the machine was powered on, or is off.
    async fn make_sure(&self, nodes: Vec<String>) {
        if nodes.is_empty() {
            return;
        }
        self.core.racks.back(&nodes, BACK).await;
        let mut off = BTreeSet::new();
        for (node, power) in order::power(&self.core, nodes, self.action()).await {
            match power {
                Power::Off => {
                    off.insert(node);
                }
                Power::On => self.booting(&node).await,
                Power::Unknown(text) => close(&self.core, vec![node], &text).await,
            }
        }
        let mut boots = order::Boots::send(&self.core, off, self.action());
        while let Some((node, done)) = boots.next().await {
            match done {
                order::Booted::Yes => self.booting(&node).await,
                order::Booted::No(text) | order::Booted::Perhaps(text) => {
                    close(&self.core, vec![node], &text).await;
                }
            }
        }
    }

    async fn booting(&self, node: &str) {
        // Who asked may be gone.
        let _ =
            self.said.send(format!("{node}: Booting into genesis, this could take several minutes...")).await;
    }
}

/// Whether a machine is in the discovery image: it loses nothing by a reboot.
fn in_genesis(core: &Core, node: &str) -> bool {
    let status = core.read(|state| state.text(node, "nodelist.status"));
    matches!(status.as_str(), "discovering" | "standingby" | "configuring" | "shell")
}

/// Until which second a machine is on its way to an agent; none when it is not.
fn coming(core: &Core, node: &str) -> Option<u64> {
    let (status, since) =
        core.read(|state| (state.text(node, "nodelist.status"), state.text(node, "nodelist.statustime")));
    let on_its_way = matches!(status.as_str(), "powering-on" | "booting" | "netbooting" | "installing");
    let until = calendar::unix(&since)? + COMING.as_secs();
    let now = core.clock.unix();
    (on_its_way && until > now && until <= now + COMING.as_secs()).then_some(until)
}
