//! One order for many nodes, split by service node.
//!
//! Each node has exactly one final event, also when its service node is away: that is one line for each
//! of its nodes, and the nodes of others are not concerned.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use link::{LinkError, Sender};
use state::view;
use tokio::sync::mpsc;
use wire::op::{Event, Fault, NodeEvent, NodeOp};
use wire::rack::{FanOut, FanOutEvent, FanOutInput, ToRack};

use super::{Session, arrivals};
use crate::core::Core;

/// Events that wait for their reader; then the service nodes wait.
pub(super) const EVENTS: usize = 256;
/// Pieces of standard input that wait for one service node.
const INPUT: usize = 8;
/// How long a service node may take to accept an order.
const OPEN: Duration = Duration::from_secs(10);

/// Where a node's order goes, or why it cannot go anywhere.
enum Way {
    Through(Arc<Session>),
    /// One of these comes back soon: this master leads since a moment ago.
    Awaited(Vec<String>),
    Nowhere(String),
}

pub(super) async fn run(
    core: Core,
    order: FanOut,
    input: mpsc::Receiver<FanOutInput>,
    events: mpsc::Sender<FanOutEvent>,
) {
    dispatch(core, order, input, events.clone()).await;
    let _ = events.send(FanOutEvent::End).await;
}

/// Gives each service node its nodes; ends when every node has had its final event.
fn dispatch(
    core: Core,
    order: FanOut,
    input: mpsc::Receiver<FanOutInput>,
    events: mpsc::Sender<FanOutEvent>,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    // Boxed, because nodes of a service node that was awaited are given out anew.
    Box::pin(split(core, order, input, events))
}

async fn split(
    core: Core,
    order: FanOut,
    input: mpsc::Receiver<FanOutInput>,
    events: mpsc::Sender<FanOutEvent>,
) {
    let ways = ways(&core, &order);
    let mut parts: BTreeMap<String, (Arc<Session>, Vec<String>)> = BTreeMap::new();
    let mut awaited: BTreeMap<Vec<String>, Vec<String>> = BTreeMap::new();
    for (node, way) in order.nodes.iter().zip(ways) {
        match way {
            Way::Through(session) => {
                let part = parts.entry(session.name().to_owned()).or_insert_with(|| (session, Vec::new()));
                part.1.push(node.clone());
            }
            Way::Awaited(names) => awaited.entry(names).or_default().push(node.clone()),
            Way::Nowhere(text) => {
                if failed(&events, node, Fault::Unreachable, text).await.is_err() {
                    return;
                }
            }
        }
    }
    let mut inputs = Vec::new();
    let mut tasks = Vec::new();
    let mut channel = || {
        let (sender, receiver) = mpsc::channel(INPUT);
        inputs.push(sender);
        receiver
    };
    for (session, nodes) in parts.into_values() {
        let part = FanOut { nodes, ..order.clone() };
        tasks.push(core.drain.spawn("fan-out of a rack", rack(session, part, channel(), events.clone())));
    }
    for (names, nodes) in awaited {
        let part = FanOut { nodes, ..order.clone() };
        let later = later(core.clone(), names, part, channel(), events.clone());
        tasks.push(core.drain.spawn("fan-out of a rack to come", later));
    }
    let forward = forward(input, inputs);
    let all = async {
        for task in tasks {
            // A rack's task that panicked has left its nodes without an end; that is logged by the drain.
            let _ = task.await;
        }
    };
    tokio::select! {
        biased;
        () = all => {}
        () = async { forward.await; std::future::pending().await } => {}
    }
}

/// Waits until one of the service nodes has come, or none is awaited any more, and goes on from there.
async fn later(
    core: Core,
    names: Vec<String>,
    order: FanOut,
    input: mpsc::Receiver<FanOutInput>,
    events: mpsc::Sender<FanOutEvent>,
) {
    tokio::select! {
        biased;
        () = core.drain.stopping() => {}
        () = events.closed() => return,
        () = arrivals::settled(&core, &names) => {}
    }
    dispatch(core.clone(), order, input, events).await;
}

/// Chooses each node's service node: where its agent is if it takes an agent, else the first connected one
/// of its list, else, for a node of everybody, any.
fn ways(core: &Core, order: &FanOut) -> Vec<Way> {
    let sessions = core.racks.sessions().clone();
    let agent =
        matches!(order.op, NodeOp::Exec(_) | NodeOp::Adapters | NodeOp::NodeStat | NodeOp::NodeLife(_));
    let lists: Vec<Vec<String>> =
        core.read(|state| order.nodes.iter().map(|node| view::servicenodes_of(state, node)).collect());
    let choose = |node: &String, list: &Vec<String>| {
        let mut able: Vec<&Arc<Session>> = match list.is_empty() {
            true => sessions.values().collect(),
            false => list.iter().filter_map(|name| sessions.get(name)).collect(),
        };
        if agent && let Some(at) = able.iter().position(|session| session.has_agent(node)) {
            able.swap(0, at);
        }
        let soon = || arrivals::awaited(core, list).is_some();
        if able.is_empty() && !core.drain.is_stopping() && soon() {
            return Way::Awaited(list.clone());
        }
        match (able.first(), list.as_slice()) {
            (Some(session), _) => Way::Through(Arc::clone(session)),
            (None, []) => Way::Nowhere("no service node is connected".to_owned()),
            (None, [one]) => Way::Nowhere(format!("service node {one} is not connected")),
            (None, several) => {
                Way::Nowhere(format!("none of its service nodes {} is connected", several.join(", ")))
            }
        }
    };
    order.nodes.iter().zip(&lists).map(|(node, list)| choose(node, list)).collect()
}

/// Gives every rack the same input. Ends when there is no more.
async fn forward(mut input: mpsc::Receiver<FanOutInput>, racks: Vec<mpsc::Sender<FanOutInput>>) {
    while let Some(piece) = input.recv().await {
        for rack in &racks {
            // A rack that is done takes no more.
            let _ = rack.send(piece.clone()).await;
        }
    }
}

async fn rack(
    session: Arc<Session>,
    order: FanOut,
    input: mpsc::Receiver<FanOutInput>,
    events: mpsc::Sender<FanOutEvent>,
) {
    let mut open: BTreeSet<String> = order.nodes.iter().cloned().collect();
    let acts = !matches!(
        order.op,
        NodeOp::PowerStat
            | NodeOp::BootDeviceStat
            | NodeOp::Inventory(_)
            | NodeOp::Adapters
            | NodeOp::NodeStat
            | NodeOp::NodeLife(_)
            | NodeOp::Beacon(wire::op::Beacon::Stat)
    );
    let mut sent = false;
    let reason = match converse(&session, order, input, &events, &mut open, &mut sent).await {
        Ok(()) => "it ended the conversation early".to_owned(),
        // Nobody listens: the order was cancelled.
        Err(LinkError::Cancelled) if events.is_closed() => return,
        Err(error) => error.to_string(),
    };
    let fault = if sent && acts { Fault::Unknown } else { Fault::Unreachable };
    for node in open {
        let text = format!("service node {} is away: {reason}", session.name());
        if failed(&events, &node, fault, text).await.is_err() {
            return;
        }
    }
}

async fn converse(
    session: &Session,
    order: FanOut,
    mut input: mpsc::Receiver<FanOutInput>,
    events: &mpsc::Sender<FanOutEvent>,
    open: &mut BTreeSet<String>,
    sent: &mut bool,
) -> Result<(), LinkError> {
    let mut exchange = link::within(OPEN, session.connection().open()).await?;
    *sent = true;
    link::within(OPEN, exchange.send(&ToRack::FanOut(order))).await?;
    let (mut sender, mut receiver) = exchange.split();
    let speak = speak(&mut input, &mut sender);
    let hear = async {
        while let Some(event) = receiver.recv::<FanOutEvent>().await? {
            match event {
                FanOutEvent::End => return Ok(()),
                FanOutEvent::Node(event) => {
                    let last = !matches!(event.event, Event::Output { .. });
                    // A node that has ended says no more, and one that was not asked nothing at all.
                    if !open.contains(&event.node) {
                        continue;
                    }
                    if last {
                        open.remove(&event.node);
                    }
                    events.send(FanOutEvent::Node(event)).await.map_err(|_| LinkError::Cancelled)?;
                }
            }
        }
        Ok(())
    };
    let result = tokio::select! {
        biased;
        result = hear => result,
        () = events.closed() => Err(LinkError::Cancelled),
        result = speak => result,
    };
    if result.is_ok() {
        sender.finish();
    }
    result
}

/// Passes input on; only a failure ends it before the answers do.
async fn speak(input: &mut mpsc::Receiver<FanOutInput>, sender: &mut Sender) -> Result<(), LinkError> {
    while let Some(piece) = input.recv().await {
        sender.send(&piece).await?;
    }
    std::future::pending().await
}

async fn failed(
    events: &mpsc::Sender<FanOutEvent>,
    node: &str,
    fault: Fault,
    text: String,
) -> Result<(), mpsc::error::SendError<FanOutEvent>> {
    let event = NodeEvent { node: node.to_owned(), event: Event::Failed { fault, text } };
    events.send(FanOutEvent::Node(event)).await
}
