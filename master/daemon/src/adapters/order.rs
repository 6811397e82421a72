//! The orders by which getadapter asks agents and BMCs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use state::discovery::RackEvent;
use state::discovery::waits::{self, End};
use state::view::Tables;
use tokio::sync::mpsc;
use wire::agent::Report;
use wire::ids::ActionId;
use wire::op::{Event, Fault, NodeOp, NodeReply};
use wire::rack::{FanOut, FanOutEvent};

use crate::core::Core;
use crate::racks::refused;

/// How long a connected agent may take to list its adapters.
const ASK: Duration = Duration::from_secs(60);
/// How long a BMC may take for one order.
const BMC: Duration = Duration::from_secs(60);
/// xCAT's words for a node without a way to power it.
pub(super) const NO_MGT: &str = "mgt configuration can not be found.";

/// What a BMC says of its machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Power {
    Off,
    On,
    /// It could not be asked.
    Unknown(String),
}

/// Asks the BMCs of these nodes.
pub(super) async fn power(core: &Core, nodes: Vec<String>, action: ActionId) -> Vec<(String, Power)> {
    let mut powers = Vec::new();
    if nodes.is_empty() {
        return powers;
    }
    let mut events = order(core, NodeOp::PowerStat, nodes, BMC, action);
    while let Some((node, event)) = next(&mut events).await {
        match event {
            Event::Reply(NodeReply::Text(state)) if state.trim() == "off" => powers.push((node, Power::Off)),
            Event::Reply(_) | Event::Exit(_) => powers.push((node, Power::On)),
            Event::Failed { text, .. } => powers.push((node, Power::Unknown(text))),
            Event::Output { .. } => {}
        }
    }
    powers
}

/// What became of the order to boot the discovery image.
pub(super) enum Booted {
    Yes,
    No(String),
    /// The service node went away before it said.
    Perhaps(String),
}

/// Orders to boot the discovery image on their way.
pub(super) struct Boots(Option<mpsc::Receiver<FanOutEvent>>);

impl Boots {
    pub(super) fn send(core: &Core, nodes: BTreeSet<String>, action: ActionId) -> Self {
        let nodes: Vec<String> = nodes.into_iter().collect();
        Self((!nodes.is_empty()).then(|| order(core, NodeOp::BootGenesis, nodes, BMC, action)))
    }

    /// The next node's end.
    pub(super) async fn next(&mut self) -> Option<(String, Booted)> {
        let events = self.0.as_mut()?;
        loop {
            let (node, event) = next(events).await?;
            let done = match event {
                Event::Reply(_) | Event::Exit(0) => Booted::Yes,
                Event::Exit(status) => Booted::No(format!("the order to boot ended with status {status}")),
                Event::Failed { fault: Fault::Unknown, text } => Booted::Perhaps(text),
                Event::Failed { text, .. } => Booted::No(text),
                Event::Output { .. } => continue,
            };
            return Some((node, done));
        }
    }
}

/// Asks connected agents, and stores what they answer as their reports. Gives back the nodes whose agents
/// went away meanwhile.
pub(super) async fn ask(core: &Core, nodes: Vec<String>, action: ActionId) -> Vec<String> {
    let mut lost = Vec::new();
    if nodes.is_empty() {
        return lost;
    }
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
            tokio::select! {
                biased;
                () = inner.drain.stopping() => {}
                _ = ask(&inner, waited, ActionId(0)) => {}
            }
        });
    }
}

/// Ends waits that cannot be answered. A master that stops, or leads no more, ends none: the next one
/// takes them up.
pub(super) async fn close(core: &Core, nodes: Vec<String>, text: &str) {
    if nodes.is_empty() || core.drain.is_stopping() || !core.leads() {
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
