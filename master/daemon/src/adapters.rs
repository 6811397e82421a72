//! getadapter: who waits for a node's adapters, and what makes the node tell them (spec/seeds.md 3.3).
//!
//! The wait is rows of `taskstate`, opened in one entry before anything is sent; the answer is a report
//! like any other. This module only listens to what is committed and wakes its own waiters, on whichever
//! master they are. Nothing is polled, no node costs a thread, and a client that is gone cancels nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use commands::getadapter::Adapters;
use state::discovery::adapters::stored_lines;
use state::discovery::waits::{self, End, Open, Opened};
use state::discovery::{Notice, Outcome, RackEvent};
use state::view::{Row, Tables, column};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use wire::agent::Report;
use wire::client::Text;
use wire::ids::{ActionId, RequestId};
use wire::op::{Event, Fault, NodeOp, NodeReply, Stream};
use wire::rack::{FanOut, FanOutEvent};

use crate::actions::Live;
use crate::core::Core;
use crate::locks::Holder;
use crate::machine::Committed;
use crate::racks::{refused, seconds};

/// How long a connected agent may take to list its adapters.
const ASK: Duration = Duration::from_secs(60);
/// How long a BMC may take for one order.
const BMC: Duration = Duration::from_secs(60);
/// Nodes in one entry of the log when a wait is opened.
const AT_ONCE: usize = 1000;

/// Carries out the plan of getadapter; the answer is the exit status.
pub async fn run(core: &Core, plan: &Adapters, live: &Live) -> u8 {
    let mut waiter = Waiter { core, live, pending: BTreeSet::new(), status: 0 };
    // From here on nothing that is committed can be missed.
    let mut committed = core.committed();
    let nodes = waiter.known(plan);
    let first = match waiter.open(&nodes).await {
        Ok(first) => first,
        Err(reason) => {
            waiter.complain(&format!("Error: [{}]: {reason}", core.server()));
            return 1;
        }
    };
    let (said, mut says) = mpsc::channel(64);
    if !first.is_empty() {
        let holder = Holder {
            action: live.about.id.map_or(0, |id| id.0),
            command: live.about.command.clone(),
            user: live.about.user.clone(),
        };
        core.drain.spawn("getadapter", bring(core.clone(), first, plan.reboot, holder, said));
    }
    while !waiter.pending.is_empty() {
        tokio::select! {
            biased;
            () = core.drain.stopping() => return 1,
            () = live.cancelled() => return waiter.cancel().await,
            next = committed.recv() => match next {
                Ok(change) => waiter.committed(&change),
                Err(RecvError::Lagged(_)) => waiter.look(),
                Err(RecvError::Closed) => return 1,
            },
            Some(line) = says.recv() => waiter.say(&line),
        }
        live.spool.progress(
            u64::try_from(nodes.len() - waiter.pending.len()).unwrap_or(0),
            u64::try_from(nodes.len()).unwrap_or(0),
        );
    }
    waiter.status
}

/// One request that waits.
struct Waiter<'a> {
    core: &'a Core,
    live: &'a Live,
    pending: BTreeSet<String>,
    status: u8,
}

impl Waiter<'_> {
    fn request(&self) -> RequestId {
        self.live.about.request
    }

    /// Answers for nodes whose adapters are known; gives back those that must be waited for. A request that
    /// comes back waits for what it waited for, whatever is known meanwhile.
    fn known(&mut self, plan: &Adapters) -> Vec<String> {
        let request = self.request();
        let look = |node: &String| {
            self.core.read(|state| {
                let row = state.row("taskstate", &[node, waits::COMMAND]).unwrap_or_default();
                let own = waits::requests(&row).contains(&request);
                (own, state.text(node, "nics.nicsadapter"))
            })
        };
        let mut unknown = Vec::new();
        for node in &plan.nodes {
            match look(node) {
                (false, value) if !plan.again && !value.is_empty() => {
                    self.say(&format!("{node}: Adapter information exists, no need to inspect."));
                    for line in stored_lines(node, &value) {
                        self.say(&line);
                    }
                }
                _ => unknown.push(node.clone()),
            }
        }
        if unknown.is_empty() {
            self.say("No adapter information need to inspect.");
        }
        unknown
    }

    /// Opens the wait; gives back the nodes that this request must see to.
    async fn open(&mut self, nodes: &[String]) -> Result<Vec<String>, String> {
        let timeout = self.core.read(|state| seconds(state.site("getadaptertimeout"), waits::TIMEOUT));
        let mut first = Vec::new();
        for nodes in nodes.chunks(AT_ONCE) {
            let open = Open {
                request: self.request(),
                action: self.live.about.id.unwrap_or(ActionId(0)),
                nodes: nodes.to_vec(),
                timeout: timeout.saturating_mul(1000),
            };
            let answered =
                self.core.racks.report(RackEvent::Open(open)).await.map_err(|error| error.to_string())?;
            let Outcome::Opened(answers) = answered.outcome else {
                return Err("the wait was not opened".to_owned());
            };
            for (node, opened) in answers {
                match opened {
                    Opened::First => {
                        self.pending.insert(node.clone());
                        first.push(node);
                    }
                    Opened::Joined => {
                        self.pending.insert(node);
                    }
                    Opened::Done => self.done(&node),
                    Opened::Ended(end) => {
                        let text = self.core.read(|state| state.row("taskstate", &[&node, waits::COMMAND]));
                        self.ended(&node, end, text.as_ref().map_or("", |row| column(row, "text")));
                    }
                    Opened::Full => self.error(&node, "too many requests wait for this node already"),
                    Opened::Gone => self.error(&node, "node removed"),
                }
            }
        }
        Ok(first)
    }

    /// Takes in what was committed.
    fn committed(&mut self, change: &Committed) {
        // The whole state was replaced.
        if change.events.is_empty() {
            return self.look();
        }
        for notice in &change.notices {
            match notice {
                Notice::Adapters { node, lines, stored } if self.pending.remove(node) => {
                    self.result(node, lines.iter().map(String::as_str), *stored);
                }
                Notice::Closed { node, end, request, text }
                    if request.is_none_or(|request| request == self.request())
                        && self.pending.remove(node) =>
                {
                    self.ended(node, *end, text);
                }
                _ => {}
            }
        }
        let gone =
            change.events.iter().filter(|event| event.new.is_none() && event.table_name() == "taskstate");
        let gone: Vec<&str> = gone.filter_map(|event| event.node()).collect();
        for node in gone {
            if self.pending.remove(node) {
                self.error(node, "node removed");
            }
        }
    }

    /// Something was missed: the rows tell what became of each node.
    fn look(&mut self) {
        for node in std::mem::take(&mut self.pending) {
            let row: Option<Row> = self.core.read(|state| state.row("taskstate", &[&node, waits::COMMAND]));
            match row {
                None => self.error(&node, "node removed"),
                Some(row) if waits::is_waiting(&row) => {
                    self.pending.insert(node);
                }
                Some(row) => match waits::ended(&row) {
                    Some(end) => self.ended(&node, end, column(&row, "text")),
                    None => self.done(&node),
                },
            }
        }
    }

    /// The answer came while nobody listened here.
    fn done(&mut self, node: &str) {
        let value = self.core.read(|state| state.text(node, "nics.nicsadapter"));
        let lines = stored_lines(node, &value);
        self.result(node, lines.iter().map(String::as_str), !value.is_empty());
    }

    fn result<'l>(&mut self, node: &str, lines: impl Iterator<Item = &'l str>, stored: bool) {
        self.say(&format!("[{node}] scan successfully below is result:"));
        for line in lines {
            self.say(line);
        }
        if !stored {
            self.say(&format!(
                "{node}: nics table will not be updated as not any useful information could be found"
            ));
        }
    }

    fn ended(&mut self, node: &str, end: End, text: &str) {
        match end {
            End::Timeout => {
                self.complain(&format!("{node}: Timeout to get the adapter information"));
                self.status = 1;
            }
            End::Cancelled => self.error(node, "cancelled"),
            End::Failed if text == NO_MGT => {
                self.complain(&format!("{node}: {NO_MGT}"));
                self.status = 1;
            }
            End::Failed => self.error(node, if text.is_empty() { "it could not be asked" } else { text }),
        }
    }

    /// An explicit cancel: this request waits no more; the wait ends when nobody else does.
    async fn cancel(&mut self) -> u8 {
        let close = RackEvent::Close {
            nodes: self.pending.iter().cloned().collect(),
            end: End::Cancelled,
            request: Some(self.request()),
            text: String::new(),
        };
        if let Err(error) = self.core.racks.report(close).await {
            tracing::warn!(%error, "a cancelled wait is not closed; it ends at its deadline");
        }
        1
    }

    fn error(&mut self, node: &str, text: &str) {
        self.complain(&format!("{node}: [{}]: Error: {text}", self.core.server()));
        self.status = 1;
    }

    fn say(&self, line: &str) {
        self.push(Stream::Out, line);
    }

    fn complain(&self, line: &str) {
        self.push(Stream::Err, line);
    }

    fn push(&self, stream: Stream, line: &str) {
        self.live.spool.push(Text { stream, node: None, text: format!("{line}\n").into_bytes() });
    }
}

/// xCAT's words for a node without a way to power it.
const NO_MGT: &str = "mgt configuration can not be found.";

/// Makes nodes tell their adapters: a connected agent is asked; any other node boots the discovery image,
/// but one that runs only where a reboot was allowed. Runs on when the client is gone.
async fn bring(core: Core, nodes: Vec<String>, reboot: bool, holder: Holder, said: mpsc::Sender<String>) {
    let action = ActionId(holder.action);
    // After a change of masters nobody is connected for a moment; that is no reason to boot anything.
    core.racks.settled(&nodes).await;
    let connected = core.racks.connected();
    let (asked, away): (Vec<String>, Vec<String>) =
        nodes.into_iter().partition(|node| connected.contains(node));
    let boot = async {
        let away = without_power(&core, away).await;
        let away = if reboot { away } else { not_running(&core, away, action).await };
        boot(&core, away, &holder, &said).await;
    };
    let ask = async {
        let lost = ask(&core, asked, action).await;
        // A machine that lost its power with its agent's connection open does not come back by itself.
        let off = switched_off(&core, lost, action).await;
        self::boot(&core, off, &holder, &said).await;
    };
    tokio::join!(ask, boot);
}

/// Those of these nodes whose machines are off; the others' agents come back.
async fn switched_off(core: &Core, nodes: Vec<String>, action: ActionId) -> Vec<String> {
    if nodes.is_empty() {
        return nodes;
    }
    let mut off = Vec::new();
    let mut events = order(core, NodeOp::PowerStat, nodes, BMC, action);
    while let Some((node, event)) = next(&mut events).await {
        if matches!(&event, Event::Reply(NodeReply::Text(state)) if state.trim() == "off") {
            off.push(node);
        }
    }
    off
}

/// Ends the waits of nodes that nothing can power.
async fn without_power(core: &Core, nodes: Vec<String>) -> Vec<String> {
    let lacks = |node: &String| core.read(|state| state.text(node, "nodehm.mgt").is_empty());
    let (none, some): (Vec<String>, Vec<String>) = nodes.into_iter().partition(lacks);
    close(core, none, NO_MGT).await;
    some
}

/// Ends the waits of nodes that run without an agent: a reboot would end what they do. A machine that is in
/// the discovery image loses nothing.
async fn not_running(core: &Core, nodes: Vec<String>, action: ActionId) -> Vec<String> {
    let in_genesis = |node: &str| {
        let status = core.read(|state| state.text(node, "nodelist.status"));
        matches!(status.as_str(), "discovering" | "standingby" | "configuring" | "shell")
    };
    let mut off = Vec::new();
    let mut events = order(core, NodeOp::PowerStat, nodes, BMC, action);
    while let Some((node, event)) = next(&mut events).await {
        match event {
            Event::Reply(NodeReply::Text(state)) if state.trim() == "off" || in_genesis(&node) => {
                off.push(node)
            }
            Event::Reply(_) => {
                let text = "it runs and no agent is connected; getadapter would reboot it. Use --force to allow that";
                close(core, vec![node], text).await;
            }
            Event::Failed { text, .. } => close(core, vec![node], &text).await,
            Event::Output { .. } | Event::Exit(_) => {}
        }
    }
    off
}

async fn boot(core: &Core, nodes: Vec<String>, holder: &Holder, said: &mpsc::Sender<String>) {
    // Nobody else changes the power of these machines meanwhile.
    let (mut held, refused) = core.locks.take(&nodes, holder);
    for (node, other) in refused {
        let text = format!("action {} ({}, by {}) holds this node", other.action, other.command, other.user);
        close(core, vec![node], &text).await;
    }
    let nodes = held.nodes().to_vec();
    if nodes.is_empty() {
        return;
    }
    if let Err(error) = core.racks.report(RackEvent::Arm { nodes: nodes.clone() }).await {
        close(core, nodes, &error.to_string()).await;
        return;
    }
    let mut events = order(core, NodeOp::BootGenesis, nodes, BMC, ActionId(holder.action));
    while let Some((node, event)) = next(&mut events).await {
        if !matches!(event, Event::Output { .. }) {
            held.release(&node);
        }
        match event {
            Event::Reply(_) | Event::Exit(0) => {
                // Who asked may be gone.
                let line = format!("{node}: Booting into genesis, this could take several minutes...");
                let _ = said.send(line).await;
            }
            Event::Failed { text, .. } => close(core, vec![node], &text).await,
            Event::Output { .. } | Event::Exit(_) => {}
        }
    }
}

/// Asks connected agents, and stores what they answer as their reports. Gives back the nodes whose agents
/// went away meanwhile.
async fn ask(core: &Core, nodes: Vec<String>, action: ActionId) -> Vec<String> {
    let mut lost = Vec::new();
    let mut events = order(core, NodeOp::Adapters, nodes, ASK, action);
    let mut answers = BTreeMap::new();
    while let Some((node, event)) = next(&mut events).await {
        match event {
            Event::Reply(NodeReply::Adapters(adapters)) => {
                let rack = core.read(|state| state::view::servicenodes_of(state, &node)).into_iter().next();
                let report = RackEvent::Report {
                    rack: rack.unwrap_or_default(),
                    node: node.clone(),
                    report: Report::Adapters(adapters),
                    at: core.clock.unix(),
                };
                if let Ok(answer) = core.racks.queue(report).await {
                    answers.insert(node, answer);
                }
            }
            // The agent went away while it was asked; it is asked again when it comes back.
            Event::Failed { fault: Fault::Unreachable | Fault::Timeout | Fault::Unknown, text } => {
                tracing::info!(%node, %text, "agent did not list its adapters; it is asked again when it connects");
                lost.push(node);
            }
            Event::Failed { text, .. } => close(core, vec![node], &text).await,
            Event::Reply(_) | Event::Output { .. } | Event::Exit(_) => {}
        }
    }
    for (node, answer) in answers {
        if let Ok(Ok(answered)) = answer.await
            && let Some(reason) = refused(&answered.outcome)
        {
            tracing::warn!(%node, %reason, "adapters not taken");
        }
    }
    lost
}

/// Agents connected: those that somebody waits for are asked.
pub(crate) fn connected(core: &Core, nodes: Vec<String>) {
    let waited: Vec<String> = core.read(|state| {
        let waited = |node: &String| {
            state.row("taskstate", &[node, waits::COMMAND]).is_some_and(|row| waits::is_waiting(&row))
        };
        nodes.into_iter().filter(waited).collect()
    });
    if !waited.is_empty() {
        let inner = core.clone();
        core.drain.spawn("ask for adapters", async move {
            ask(&inner, waited, ActionId(0)).await;
        });
    }
}

async fn close(core: &Core, nodes: Vec<String>, text: &str) {
    if nodes.is_empty() {
        return;
    }
    let close = RackEvent::Close { nodes, end: End::Failed, request: None, text: text.to_owned() };
    if let Err(error) = core.racks.report(close).await {
        tracing::warn!(%error, "a failed wait is not closed; it ends at its deadline");
    }
}

fn order(
    core: &Core,
    op: NodeOp,
    nodes: Vec<String>,
    deadline: Duration,
    action: ActionId,
) -> mpsc::Receiver<FanOutEvent> {
    let deadline = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
    // No input follows: its sender is dropped at once.
    let (_, input) = mpsc::channel(1);
    core.racks.fan_out(FanOut { action, op, nodes, window: 0, deadline }, input)
}

async fn next(events: &mut mpsc::Receiver<FanOutEvent>) -> Option<(String, Event)> {
    match events.recv().await? {
        FanOutEvent::Node(event) => Some((event.node, event.event)),
        FanOutEvent::End => None,
    }
}
