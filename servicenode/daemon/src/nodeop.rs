//! One operation at one node: through its agent or its BMC.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant as StdInstant};

use bmc::BmcTarget;
use link::{LinkError, Receiver, Sender, within};
use tokio::net::TcpStream;
use tokio::time::Instant;
use wire::agent::{Call, CallEvent, CallInput, Phase};
use wire::op::{
    App, BootDevice, BootTarget, Event, Exec, Fault, LifeQuestion, NodeOp, NodeReply, PowerAction,
};
use wire::view::NodeView;

use crate::Core;
use crate::echo::Echo;
use crate::fanout::Turn;

/// A BMC is not given longer than this, whatever the caller's patience.
const BMC_LIMIT: Duration = Duration::from_secs(120);
/// A cancelled command gets this long to tell its last words.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// A node without an agent is knocked at, and asked for an echo, for so long.
const KNOCK: Duration = Duration::from_secs(2);
/// Where a running system answers without an agent.
const SSH: u16 = 22;
/// What else says that a machine is alive, when nobody listens there.
const ELSE: [(&str, u16); 2] = [("pbs", 15002), ("xend", 8002)];
/// Applications that are asked for at one node.
const MAX_APPS: usize = 32;
/// Of these, so many are knocked at together: all of them within half a minute.
const APPS_AT_ONCE: usize = 4;
/// Standard input goes to the agent in pieces of at most this.
const PIECE: usize = 64 * 1024;

/// Does the operation and gives the node's final event.
pub async fn run(core: &Core, op: &NodeOp, turn: &Turn) -> Event {
    let rack = core.mirror.rack();
    let Some(view) = rack.node(&turn.node) else {
        return failed(Fault::Undefined, "not a node of this service node");
    };
    let done = match op {
        NodeOp::Exec(exec) => return exec_on(core, exec, turn).await,
        NodeOp::Adapters => adapters(core, turn).await,
        NodeOp::NodeStat => Ok(NodeReply::Text(node_stat(core, view, turn).await)),
        NodeOp::NodeLife(question) => Ok(NodeReply::Text(life(core, view, question, turn).await)),
        NodeOp::BootGenesis => boot_genesis(core, view, turn).await,
        NodeOp::PowerStat
        | NodeOp::Power(_)
        | NodeOp::BootDeviceStat
        | NodeOp::BootDevice(_)
        | NodeOp::Beacon(_)
        | NodeOp::BmcReset
        | NodeOp::Inventory(_) => at_bmc(core, view, op, turn).await,
    };
    done.map_or_else(|event| event, Event::Reply)
}

fn failed(fault: Fault, text: impl Into<String>) -> Event {
    Event::Failed { fault, text: text.into() }
}

async fn at_bmc(core: &Core, view: &NodeView, op: &NodeOp, turn: &Turn) -> Result<NodeReply, Event> {
    let Some(bmc) = view.bmc.as_ref().filter(|bmc| !bmc.address.is_empty()) else {
        let text = "nothing says how to reach its BMC; set ipmi.bmc";
        return Err(failed(Fault::Undefined, text));
    };
    let mut target = BmcTarget::of(&view.name, bmc);
    if target.address.parse::<IpAddr>().is_err()
        && let Some(address) = core.mirror.rack().address_of(&target.address)
    {
        target.address = address.to_string();
    }
    let deadline = turn.deadline.min(Instant::now() + BMC_LIMIT);
    // The one of before: after a reset another one may connect sooner than the BMC answers.
    let agent = core.agents.find(&view.name).filter(|_| cuts_power(op));
    let done = tokio::select! {
        biased;
        () = turn.cancelled() => return Err(failed(Fault::Cancelled, "cancelled")),
        done = core.bmcs.run(&target, op, deadline) => done,
    };
    if let (Ok(_), Some(agent)) = (&done, agent) {
        // It cannot say farewell, and nobody should wait for its silence to last long enough.
        agent.connection.close(link::close::DONE, "the machine's power was cut");
    }
    done.map_err(|error| failed(error.fault(), error.to_string()))
}

/// Whether what runs on the machine ends with this.
fn cuts_power(op: &NodeOp) -> bool {
    use PowerAction::{Boot, Cycle, Off, Reset};
    matches!(op, NodeOp::Power(Off | Cycle | Reset | Boot))
}

/// The next boot goes into the discovery image; the power is touched only after everything is prepared.
async fn boot_genesis(core: &Core, view: &NodeView, turn: &Turn) -> Result<NodeReply, Event> {
    core.boots.genesis_next(&view.name, StdInstant::now());
    let network = BootDevice { target: BootTarget::Net, persistent: false, uefi: false };
    let boot = async {
        at_bmc(core, view, &NodeOp::BootDevice(network), turn).await?;
        at_bmc(core, view, &NodeOp::Power(PowerAction::Boot), turn).await
    };
    let done = boot.await;
    if let Err(Event::Failed { fault, .. }) = &done {
        // Where the power may have been touched after all, the machine may still come.
        if !matches!(fault, Fault::Unknown | Fault::Cancelled) {
            core.boots.arrived(&view.name);
        }
    }
    done
}

async fn adapters(core: &Core, turn: &Turn) -> Result<NodeReply, Event> {
    let Some(agent) = core.agents.find(&turn.node) else { return Err(no_agent()) };
    let ask = async {
        let mut exchange = agent.connection.open().await?;
        exchange.send(&Call::Adapters).await?;
        exchange.recv::<CallEvent>().await
    };
    let answered = tokio::select! {
        biased;
        () = turn.cancelled() => return Err(failed(Fault::Cancelled, "cancelled")),
        answered = tokio::time::timeout_at(turn.deadline, ask) => answered,
    };
    match answered {
        Ok(Ok(Some(CallEvent::Reply(reply)))) => Ok(reply),
        Ok(Ok(Some(CallEvent::Failed(reason)))) => Err(failed(Fault::Refused, reason)),
        Ok(Ok(_)) => Err(failed(Fault::Refused, "the agent gave no answer")),
        Ok(Err(error)) => Err(failed(Fault::Unreachable, format!("agent: {error}"))),
        Err(_) => Err(failed(Fault::Timeout, "timeout: the agent did not answer")),
    }
}

fn no_agent() -> Event {
    failed(Fault::Unreachable, "no agent is connected")
}

/// Runs a command at the node. However it ends here, it ends at the node.
async fn exec_on(core: &Core, exec: &Exec, turn: &Turn) -> Event {
    let Some(agent) = core.agents.find(&turn.node) else { return no_agent() };
    let start = async {
        let mut exchange = agent.connection.open().await?;
        exchange.send(&Call::Exec(exec.clone())).await?;
        Ok::<_, LinkError>(exchange.split())
    };
    let (mut sender, mut receiver) = match tokio::time::timeout_at(turn.deadline, start).await {
        Ok(Ok(halves)) => halves,
        Ok(Err(error)) => return failed(Fault::Unreachable, format!("agent: {error}")),
        Err(_) => return failed(Fault::Timeout, "timeout: the agent takes no command"),
    };
    let own = Duration::from_secs(exec.timeout);
    let deadline = if exec.timeout == 0 { turn.deadline } else { turn.deadline.min(Instant::now() + own) };
    let ended = tokio::select! {
        biased;
        () = turn.cancelled() => Err((Fault::Cancelled, "cancelled".to_owned())),
        event = hear(&mut receiver, turn) => Ok(event),
        () = tokio::time::sleep_until(deadline) => {
            Err((Fault::Timeout, "timeout: the command did not end in time and was killed".to_owned()))
        }
        () = feed(&mut sender, exec, turn) => Err((Fault::Unreachable, "the agent takes no input".to_owned())),
    };
    match ended {
        Ok(event) => {
            sender.finish();
            event
        }
        Err((fault, text)) => {
            // Asked first, so that it can clean up; the dropped stream kills what is left.
            if within(LAST_WORDS, sender.send(&CallInput::Cancel)).await.is_ok() {
                let _ = tokio::time::timeout(LAST_WORDS, hear(&mut receiver, turn)).await;
            }
            failed(fault, text)
        }
    }
}

/// Passes output on and gives the end.
async fn hear(receiver: &mut Receiver, turn: &Turn) -> Event {
    loop {
        match receiver.recv::<CallEvent>().await {
            Ok(Some(CallEvent::Output { stream, bytes })) => {
                turn.output(Event::Output { stream, bytes }).await
            }
            Ok(Some(CallEvent::Exit(status))) => return Event::Exit(status),
            Ok(Some(CallEvent::Reply(reply))) => return Event::Reply(reply),
            Ok(Some(CallEvent::Failed(reason))) => return failed(Fault::Refused, reason),
            Ok(None) => return failed(Fault::Unknown, "the agent ended the conversation"),
            Err(error) => {
                let text = format!("connection to the agent lost, the command's end is not known: {error}");
                return failed(Fault::Unknown, text);
            }
        }
    }
}

/// Passes standard input on; returns only when the agent takes no more.
async fn feed(sender: &mut Sender, exec: &Exec, turn: &Turn) {
    if exec.stdin {
        let mut number = 0;
        while let Some(piece) = turn.input.piece(number).await {
            number += 1;
            for part in piece.chunks(PIECE) {
                if sender.send(&CallInput::Stdin(part.to_vec())).await.is_err() {
                    // The end of the command is on its way.
                    return std::future::pending().await;
                }
            }
        }
        let _ = sender.send(&CallInput::StdinEnd).await;
    }
    std::future::pending().await
}

/// What nodestat says: the agent's word, else what a knock at the door tells.
async fn node_stat(core: &Core, view: &NodeView, turn: &Turn) -> String {
    if let Some(agent) = core.agents.find(&view.name) {
        let usual = if agent.phase == Phase::System { "booted" } else { "discovered" };
        // A look at nodes by their addresses may have written what it saw; the agent is here.
        let said = !matches!(view.status.as_str(), "" | "alive" | "unreachable");
        return if said { view.status.clone() } else { usual.to_owned() };
    }
    let Ok(address) = view.ip.parse::<IpAddr>() else { return "noping".to_owned() };
    seen(address, SSH, &turn.echo).await.to_owned()
}

/// What can be seen of a machine from outside. One that drops what comes to its ports may answer echo.
async fn seen(address: IpAddr, ssh: u16, echo: &Echo) -> &'static str {
    let (knock_at, asked) = (knock(address, ssh), echo.answers(address, KNOCK));
    tokio::pin!(knock_at, asked);
    let mut answered = None;
    let door = loop {
        tokio::select! {
            biased;
            door = &mut knock_at => break door,
            yes = &mut asked, if answered.is_none() => answered = Some(yes),
        }
    };
    let there = match (door, answered) {
        (Door::Open, _) => return "sshd",
        (Door::Closed, _) => true,
        (Door::Away, Some(answered)) => answered,
        (Door::Away, None) => asked.await,
    };
    if !there {
        return "noping";
    }
    let [(first, one), (second, two)] = ELSE;
    match tokio::join!(knock(address, one), knock(address, two)) {
        (Door::Open, _) => first,
        (_, Door::Open) => second,
        _ => "ping",
    }
}

/// What nodestat says with the power of a silent node, or the applications of one that answers.
async fn life(core: &Core, view: &NodeView, question: &LifeQuestion, turn: &Turn) -> String {
    let mut text = node_stat(core, view, turn).await;
    if text == "noping" {
        if question.power {
            let power = match at_bmc(core, view, &NodeOp::PowerStat, turn).await {
                Ok(NodeReply::Text(power)) => power,
                Ok(_) => "power unknown".to_owned(),
                Err(Event::Failed { text, .. }) => text,
                Err(_) => "power unknown".to_owned(),
            };
            text = format!("noping({power})");
        }
        return text;
    }
    let Ok(address) = view.ip.parse::<IpAddr>() else { return text };
    let wanted = |app: &&App| app.nodes.is_empty() || app.nodes.contains(&view.name);
    let apps: Vec<&App> = question.apps.iter().filter(wanted).take(MAX_APPS).collect();
    // A machine that drops what comes to its ports lets each knock last its full time.
    for some in apps.chunks(APPS_AT_ONCE) {
        let knocks: Vec<_> = some.iter().map(|app| tokio::spawn(knock(address, app.port))).collect();
        for (app, knock) in some.iter().zip(knocks) {
            if matches!(knock.await, Ok(Door::Open)) && app.name != text {
                text.push(',');
                text.push_str(&app.name);
            }
        }
    }
    text
}

/// What a knock at a port tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    Open,
    /// The machine is there, nobody listens.
    Closed,
    Away,
}

async fn knock(address: IpAddr, port: u16) -> Door {
    match tokio::time::timeout(KNOCK, TcpStream::connect(SocketAddr::new(address, port))).await {
        Ok(Ok(_)) => Door::Open,
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => Door::Closed,
        _ => Door::Away,
    }
}
