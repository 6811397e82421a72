//! Our IPMI client, our simulated BMCs, `ipmitool` and OpenIPMI's `ipmi_sim`, each against another.
#![allow(clippy::unwrap_used)]

mod client;
mod crowd;
mod ipmi_sim;
mod ipmitool;
mod machine;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bmc::{BmcError, BmcTarget, Bmcs};
use sim::bmc::{Config, Lamp, Running};
use tokio::time::Instant;
use wire::op::{NodeOp, NodeReply};
use wire::secret::Secret;

const PASSWORD: &str = "correct-horse-20byte";

/// An address of the loopback network with a free port.
fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

fn config() -> Config {
    Config::new("n1", loopback(), PASSWORD)
}

async fn lamp(config: Config) -> Running {
    Running::start(config, Arc::new(Lamp)).await.unwrap()
}

fn target(address: SocketAddr) -> BmcTarget {
    BmcTarget {
        node: "n1".into(),
        address: address.ip().to_string(),
        port: address.port(),
        user: Secret::new("admin"),
        password: Secret::new(PASSWORD),
    }
}

/// Does `op` within ten seconds.
async fn ask(bmcs: &Bmcs, target: &BmcTarget, op: NodeOp) -> Result<NodeReply, BmcError> {
    ask_within(bmcs, target, op, Duration::from_secs(10)).await
}

async fn ask_within(
    bmcs: &Bmcs,
    target: &BmcTarget,
    op: NodeOp,
    limit: Duration,
) -> Result<NodeReply, BmcError> {
    bmcs.run(target, &op, Instant::now() + limit).await
}

async fn text(bmcs: &Bmcs, target: &BmcTarget, op: NodeOp) -> String {
    match ask(bmcs, target, op).await.unwrap() {
        NodeReply::Text(text) => text,
        NodeReply::Texts(texts) => texts.join("\n"),
        other => panic!("not a text: {other:?}"),
    }
}

/// Waits until `condition` holds, at most ten seconds.
async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < end, "it did not happen: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
