//! What goes out to nodes through their service nodes.

use std::collections::BTreeMap;

use tokio::sync::mpsc;
use wire::ids::ActionId;
use wire::op::{Event, Exec, Fault, NodeOp, NodeReply};
use wire::rack::{FanOut, FanOutEvent, FanOutInput};

use crate::cluster::{Cluster, until};
use crate::rack::Rack;

fn order(op: NodeOp, nodes: &[&str]) -> FanOut {
    let nodes = nodes.iter().map(|node| (*node).to_owned()).collect();
    FanOut { action: ActionId(1), op, nodes, window: 0, deadline: 5_000 }
}

/// The final event of each node.
async fn ends(mut events: mpsc::Receiver<FanOutEvent>) -> BTreeMap<String, Event> {
    let mut ends = BTreeMap::new();
    while let Some(FanOutEvent::Node(event)) = events.recv().await {
        if !matches!(event.event, Event::Output { .. }) {
            assert!(ends.insert(event.node.clone(), event.event).is_none(), "{} ended twice", event.node);
        }
    }
    ends
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_an_absent_service_node_fail_and_others_do_not() {
    let cluster = Cluster::new(&["n1@sn1", "m1@sn2", "m2@sn2,sn1"]).await;
    let rack = Rack::new(&cluster, "sn1").await;
    let racks = &cluster.core().racks;
    until(|| racks.status().len() == 1).await;
    let (_, input) = mpsc::channel(1);
    let ends = ends(racks.fan_out(order(NodeOp::PowerStat, &["n1", "m1", "m2"]), input)).await;
    assert_eq!(ends["n1"], Event::Reply(NodeReply::Text("off".into())));
    assert_eq!(ends["m2"], Event::Reply(NodeReply::Text("off".into())), "the second of its list serves it");
    let text = "service node sn2 is not connected".to_owned();
    assert_eq!(ends["m1"], Event::Failed { fault: Fault::Unreachable, text });
    assert_eq!(rack.asked(), ["stat n1", "stat m2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_node_that_dies_with_an_order_leaves_one_end_a_node() {
    let cluster = Cluster::new(&["n1@sn1", "n2@sn1"]).await;
    let rack = Rack::new(&cluster, "sn1").await;
    let racks = &cluster.core().racks;
    until(|| racks.status().len() == 1).await;
    // The command waits for its input, which never ends.
    let (feed, input) = mpsc::channel(1);
    let exec = Exec { command: "cat".into(), stdin: true, ..Exec::default() };
    let events = racks.fan_out(order(NodeOp::Exec(exec), &["n1", "n2"]), input);
    feed.send(FanOutInput::Stdin(b"x".to_vec())).await.unwrap();
    until(|| rack.asked() == ["exec n1"]).await;
    rack.close();
    let ends = ends(events).await;
    assert_eq!(ends.len(), 2);
    for end in ends.values() {
        assert!(
            matches!(end, Event::Failed { fault: Fault::Unknown, text } if text.contains("sn1 is away")),
            "{end:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn input_reaches_every_rack_and_output_comes_back() {
    let cluster = Cluster::new(&["n1@sn1", "m1@sn2"]).await;
    let _racks = (Rack::new(&cluster, "sn1").await, Rack::new(&cluster, "sn2").await);
    let racks = &cluster.core().racks;
    until(|| racks.status().len() == 2).await;
    let (feed, input) = mpsc::channel(1);
    let exec = Exec { command: "say ".into(), stdin: true, ..Exec::default() };
    let mut events = racks.fan_out(order(NodeOp::Exec(exec), &["n1", "m1"]), input);
    feed.send(FanOutInput::Stdin(b"hello".to_vec())).await.unwrap();
    feed.send(FanOutInput::StdinEnd).await.unwrap();
    let mut heard = Vec::new();
    while let Some(event) = events.recv().await {
        match event {
            FanOutEvent::Node(event) => {
                if let Event::Output { bytes, .. } = event.event {
                    heard.push((event.node, String::from_utf8(bytes).unwrap()));
                }
            }
            FanOutEvent::End => break,
        }
    }
    heard.sort();
    assert_eq!(
        heard,
        [("m1".to_owned(), "say hello\n".to_owned()), ("n1".to_owned(), "say hello\n".to_owned())]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_no_longer_listens_cancels_and_a_newer_connection_takes_the_place() {
    let cluster = Cluster::new(&["n1@sn1"]).await;
    let credentials = cluster.joined("sn1").await;
    let old = Rack::connect(&cluster, &credentials, 0, &["n1"]).await;
    let racks = &cluster.core().racks;
    until(|| racks.is_connected("n1")).await;
    let mut new = Rack::connect(&cluster, &credentials, 0, &[]).await;
    old.closed().await;
    until(|| !racks.is_connected("n1")).await;
    new.agents(&["n1"], &[]).await;
    until(|| racks.is_connected("n1")).await;
    new.agents(&[], &["n1"]).await;
    until(|| !racks.is_connected("n1")).await;
    let (_, input) = mpsc::channel(1);
    drop(racks.fan_out(order(NodeOp::PowerStat, &["n1"]), input));
    assert_eq!(racks.status().len(), 1);
}
