//! The built-in plug-in: the service nodes say which nodes answer, and what is new is written into nodelist.
//!
//! Each round asks each service node once; it looks at so many nodes at a time as it is set to. A node that keeps its
//! state costs no write.

use std::time::Duration;

use commands::fanout::FanOut;
use commands::hardware;
use commands::monitor::{BUILT_IN, alive, settings};
use state::{Precondition, RowChange};
use tokio::sync::mpsc;
use tracing::warn;
use wire::ids::ActionId;
use wire::op::{Event, LifeQuestion, NodeOp, NodeReply};
use wire::rack::{FanOut as Order, FanOutEvent};

use crate::core::{Core, done};

/// Nodes whose status is written together.
const BATCH: usize = 1000;
/// Number of the rounds in the logs of service nodes.
const ROUND: u64 = 1 << 63;

/// What a start says.
pub(super) fn started(core: &Core, nodestatmon: bool) -> String {
    let seconds = interval(core).as_secs();
    match (nodestatmon, seconds % 60) {
        (false, _) => "started. It does nothing unless monitoring.nodestatmon is Y".to_owned(),
        (true, 0) => format!("started. Refresh interval is {} minute(s).", seconds / 60),
        (true, _) => format!("started. Refresh interval is {seconds} second(s)."),
    }
}

fn interval(core: &Core) -> Duration {
    let setting = core.read(|state| settings(state, BUILT_IN).remove("ping-interval"));
    Duration::from_secs(alive::interval(setting.as_deref()))
}

/// Looks at all nodes, again and again.
pub(super) async fn run(core: Core) {
    loop {
        let pause = interval(&core);
        let wanted = core.read(|state| {
            !state.site("nodestatus").is_some_and(|text| matches!(text, "n" | "N" | "no" | "0"))
        });
        if wanted {
            round(&core).await;
        }
        tokio::select! {
            biased;
            () = core.drain.stopping() => return,
            () = core.clock.sleep(pause) => {}
        }
    }
}

async fn round(core: &Core) {
    let nodes: Vec<String> =
        core.read(|state| state.node_names().filter(|node| state.is_node(node)).map(str::to_owned).collect());
    if nodes.is_empty() {
        return;
    }
    let mut warn = |text: String| warn!(plugin = BUILT_IN, "{text}");
    let apps = core.read(|state| hardware::apps(state, &mut warn));
    let op = NodeOp::NodeLife(LifeQuestion { power: false, apps });
    let plan = FanOut::hardware(op, nodes);
    let order = Order {
        action: ActionId(ROUND),
        op: plan.op,
        nodes: plan.nodes,
        window: plan.window,
        deadline: plan.deadline.map_or(0, |limit| u64::try_from(limit.as_millis()).unwrap_or(0)),
    };
    // Nobody has input for it; the channel stays open until the end.
    let (_input, inputs) = mpsc::channel(1);
    let mut events = core.racks.fan_out(order, inputs);
    let mut batch = Vec::new();
    while let Some(FanOutEvent::Node(event)) = events.recv().await {
        // Of a node whose service node is away nothing is known.
        if let Event::Reply(NodeReply::Text(answer)) = event.event {
            batch.push((event.node, answer));
        }
        if batch.len() >= BATCH {
            write(core, &mut batch).await;
        }
    }
    write(core, &mut batch).await;
}

async fn write(core: &Core, batch: &mut Vec<(String, String)>) {
    let now = core.clock.unix();
    let found: Vec<(Precondition, RowChange)> = core.read(|state| {
        batch.drain(..).filter_map(|(node, answer)| alive::change(state, &node, &answer, now)).collect()
    });
    if found.is_empty() {
        return;
    }
    let (preconditions, changes) = found.into_iter().unzip();
    let answer = core.transact(BUILT_IN, BUILT_IN, None, preconditions, changes).await;
    if let Err(error) = answer.and_then(|answer| done(&answer).cloned()) {
        warn!(%error, "the status of nodes is written in the next round");
    }
}
