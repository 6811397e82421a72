//! A service node that does what a test tells it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use link::{Connection, Credentials, Endpoint, Exchange, Role, Sender};
use tokio::sync::mpsc;
use wire::agent::Report;
use wire::hardware::{Adapter, LinkState};
use wire::ids::Revision;
use wire::op::{Event, Fault, NodeEvent, NodeOp, NodeReply};
use wire::rack::{Down, FanOutEvent, FanOutInput, FromRack, RackAnswer, RackHello, RackReport, ToRack, Up};
use wire::view::ViewUpdate;

use crate::cluster::{Cluster, LIMIT, until};

/// How nodes behave.
#[derive(Default)]
pub struct Nodes {
    /// Nodes that run; all others are off.
    pub on: Vec<String>,
    /// Nodes whose BMC does not answer.
    pub dead: Vec<String>,
    /// Nodes whose orders wait as long as they are listed here.
    pub held: Vec<String>,
    /// Nodes that the order to boot never reaches, nor an answer to it its sender.
    pub deaf: Vec<String>,
    /// Adapters that connected agents tell, by node.
    pub adapters: BTreeMap<String, Vec<Adapter>>,
    /// What was asked, `op node`.
    pub asked: Vec<String>,
}

pub struct Rack {
    pub nodes: Arc<Mutex<Nodes>>,
    connection: Connection,
    up: Sender,
    pub down: mpsc::UnboundedReceiver<Down>,
}

impl Rack {
    /// A new service node that joins and connects.
    pub async fn new(cluster: &Cluster, name: &str) -> Self {
        let credentials = cluster.joined(name).await;
        Self::connect(cluster, &credentials, 0, &[]).await
    }

    pub async fn connect(cluster: &Cluster, credentials: &Credentials, mirror: u64, agents: &[&str]) -> Self {
        Self::connect_with(cluster, credentials, mirror, agents, Arc::default()).await
    }

    /// The same service node comes again; its machines are as they were.
    pub async fn again(&self, cluster: &Cluster, credentials: &Credentials) -> Self {
        Self::connect_with(cluster, credentials, 0, &[], self.nodes.clone()).await
    }

    /// A service node whose machines are already in some state.
    pub async fn connect_with(
        cluster: &Cluster,
        credentials: &Credentials,
        mirror: u64,
        agents: &[&str],
        nodes: Arc<Mutex<Nodes>>,
    ) -> Self {
        let endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        let connection =
            endpoint.dial(cluster.address(), credentials, wire::ALPN_MAIN, Role::Master).await.unwrap();
        let mut exchange = connection.open().await.unwrap();
        let hello = RackHello {
            version: wire::version::CURRENT,
            program: "test".into(),
            mirror: Revision(mirror),
            addresses: Vec::new(),
            agents: agents.iter().map(|agent| (*agent).to_owned()).collect(),
        };
        exchange.send(&FromRack::Uplink(hello)).await.unwrap();
        let (up, mut receiver) = exchange.split();
        let (sender, down) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok(Some(message)) = receiver.recv::<Down>().await {
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let (orders, behave) = (connection.clone(), nodes.clone());
        tokio::spawn(async move {
            while let Ok(exchange) = orders.accept().await {
                tokio::spawn(order(exchange, behave.clone()));
            }
        });
        Self { nodes, connection, up, down }
    }

    /// The next message of the uplink.
    pub async fn next(&mut self) -> Option<Down> {
        tokio::time::timeout(LIMIT, self.down.recv()).await.expect("nothing came down")
    }

    /// The next whole update of the view.
    pub async fn view(&mut self) -> ViewUpdate {
        let mut whole: Option<ViewUpdate> = None;
        loop {
            let Some(message) = self.next().await else { panic!("the uplink ended") };
            let Down::View(piece) = message else { continue };
            let more = piece.more;
            let all = whole.get_or_insert_with(|| ViewUpdate { full: piece.full, ..ViewUpdate::default() });
            all.revision = piece.revision;
            all.site = all.site.take().or(piece.site);
            all.nodes.extend(piece.nodes);
            all.removed.extend(piece.removed);
            if !more {
                return whole.unwrap();
            }
        }
    }

    pub async fn report(&self, report: RackReport) -> RackAnswer {
        let mut exchange = self.connection.open().await.unwrap();
        exchange.ask(&FromRack::Report(report), LIMIT).await.unwrap()
    }

    pub async fn node(&self, node: &str, report: Report) -> RackAnswer {
        self.report(RackReport::Node { node: node.into(), report, at: service::Clock::Real.unix() }).await
    }

    /// An answer with one adapter.
    pub async fn answer(&self, node: &str) -> RackAnswer {
        self.node(node, Report::Adapters(vec![adapter("eno1")])).await
    }

    /// An answer whose bytes come one at a time.
    pub async fn dribble(&self, node: &str, adapters: Vec<Adapter>) -> RackAnswer {
        let report = RackReport::Node {
            node: node.into(),
            report: Report::Adapters(adapters),
            at: service::Clock::Real.unix(),
        };
        let mut exchange = self.connection.open().await.unwrap();
        for byte in wire::frame::frame(&FromRack::Report(report)).unwrap() {
            exchange.sender.send_part(&[byte]).await.unwrap();
            // Gives the connection the time to send it off.
            tokio::task::yield_now().await;
        }
        exchange.expect(LIMIT).await.unwrap()
    }

    pub async fn agents(&mut self, up: &[&str], down: &[&str]) {
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect();
        self.up.send(&Up::Agents { up: names(up), down: names(down) }).await.unwrap();
    }

    pub fn asked(&self) -> Vec<String> {
        self.nodes.lock().unwrap().asked.clone()
    }

    /// How often a node was sent into the discovery image.
    pub fn boots(&self, node: &str) -> usize {
        self.asked().iter().filter(|asked| **asked == format!("boot {node}")).count()
    }

    pub fn close(&self) {
        self.connection.close(0, "gone");
    }

    pub async fn closed(&self) {
        tokio::time::timeout(LIMIT, self.connection.closed()).await.expect("the connection stays");
    }
}

pub fn adapter(name: &str) -> Adapter {
    Adapter {
        name: name.into(),
        mac: "02:00:00:00:00:01".into(),
        pci: "/pci0000:00/0000:00:03.0".into(),
        vendor: "Red Hat".into(),
        model: "Virtio".into(),
        link: LinkState::Up,
        ..Adapter::default()
    }
}

/// Carries out one order.
async fn order(mut exchange: Exchange, nodes: Arc<Mutex<Nodes>>) {
    let ToRack::FanOut(order) = exchange.expect(LIMIT).await.unwrap();
    let (mut sender, mut receiver) = exchange.split();
    for node in order.nodes {
        let event = match &order.op {
            NodeOp::Exec(exec) => {
                nodes.lock().unwrap().asked.push(format!("exec {node}"));
                let mut text = exec.command.clone().into_bytes();
                if exec.stdin {
                    while let Ok(Some(FanOutInput::Stdin(bytes))) = receiver.recv().await {
                        text.extend(bytes);
                    }
                }
                let output =
                    Event::Output { stream: wire::op::Stream::Out, bytes: [text, b"\n".to_vec()].concat() };
                let event = FanOutEvent::Node(NodeEvent { node: node.clone(), event: output });
                sender.send(&event).await.unwrap();
                Some(Event::Exit(0))
            }
            op => {
                let event = simple(op, &node, &nodes);
                until(|| !nodes.lock().unwrap().held.contains(&node)).await;
                if matches!(op, NodeOp::BootGenesis) && nodes.lock().unwrap().deaf.contains(&node) {
                    return std::future::pending().await;
                }
                event
            }
        };
        if let Some(event) = event
            && sender.send(&FanOutEvent::Node(NodeEvent { node, event })).await.is_err()
        {
            return;
        }
    }
    let _ = sender.send(&FanOutEvent::End).await;
    sender.finish();
}

fn simple(op: &NodeOp, node: &str, nodes: &Mutex<Nodes>) -> Option<Event> {
    let mut nodes = nodes.lock().unwrap();
    let word = match op {
        NodeOp::PowerStat => "stat",
        NodeOp::BootGenesis => "boot",
        NodeOp::Adapters => "ask",
        _ => "other",
    };
    nodes.asked.push(format!("{word} {node}"));
    let dead = nodes.dead.iter().any(|name| name == node);
    if dead && matches!(op, NodeOp::PowerStat | NodeOp::BootGenesis) {
        return Some(Event::Failed { fault: Fault::Timeout, text: "10.8.0.1: no answer within 2 s".into() });
    }
    let on = nodes.on.iter().any(|name| name == node);
    Some(match op {
        NodeOp::PowerStat => Event::Reply(NodeReply::Text(if on { "on" } else { "off" }.into())),
        NodeOp::BootGenesis if nodes.deaf.iter().any(|name| name == node) => Event::Exit(0),
        NodeOp::BootGenesis => {
            if !on {
                nodes.on.push(node.to_owned());
            }
            Event::Reply(NodeReply::Done)
        }
        NodeOp::Adapters => match nodes.adapters.get(node) {
            Some(adapters) => Event::Reply(NodeReply::Adapters(adapters.clone())),
            None => Event::Failed { fault: Fault::Unreachable, text: "no agent is connected".into() },
        },
        _ => Event::Failed { fault: Fault::Refused, text: "not in this test".into() },
    })
}
