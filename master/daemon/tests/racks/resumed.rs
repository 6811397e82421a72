//! Waits that go on: another master, another service node, another client, a machine that is on its way.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::client::{Client, id};
use crate::cluster::{Cluster, until};
use crate::getadapter::{rack, result, waiting};
use crate::rack::{Nodes, Rack, adapter};

/// The result when it came while nobody listened: what is stored has no vendor and no model.
fn stored(node: &str) -> String {
    format!("[{node}] scan successfully below is result:\n{node}:[0]->eno1!mac=02:00:00:00:00:01|")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_the_master_before_booted_is_waited_for_and_not_judged_anew() {
    let mut cluster = Cluster::new(&["n1"]).await;
    let credentials = cluster.joined("sn1").await;
    let before = Rack::connect(&cluster, &credentials, 0, &[]).await;
    until(|| cluster.core().racks.status().len() == 1).await;
    let request = id();
    let _lost = Client::resume(&cluster, "getadapter n1", request).await;
    until(|| before.boots("n1") == 1).await;
    cluster.stop().await;
    cluster.start().await;
    let mut first = Client::resume(&cluster, "getadapter n1", request).await;
    let mut second = Client::start(&cluster, "getadapter n1 -f").await;
    let mut again = before.again(&cluster, &credentials).await;
    // Whoever asks now has been asked before the machine answers.
    let stats = || again.asked().iter().filter(|asked| *asked == "stat n1").count();
    until(|| cluster.waiters("n1") == 2 && stats() == 2).await;
    again.nodes.lock().unwrap().adapters.insert("n1".into(), vec![adapter("eno1")]);
    again.agents(&["n1"], &[]).await;
    assert_eq!((first.finish().await, second.finish().await), (0, 0), "{} {}", first.err, second.err);
    assert_eq!((first.out.as_str(), second.out.as_str()), (result("n1").as_str(), result("n1").as_str()));
    assert_eq!(again.boots("n1"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_whose_boot_was_ordered_and_lost_is_powered_on_by_the_next_master() {
    let mut cluster = Cluster::new(&["n1", "n2"]).await;
    let credentials = cluster.joined("sn1").await;
    let before = Rack::connect(&cluster, &credentials, 0, &[]).await;
    before.nodes.lock().unwrap().deaf.extend(["n1".into(), "n2".into()]);
    until(|| cluster.core().racks.status().len() == 1).await;
    let request = id();
    let _lost = Client::resume(&cluster, "getadapter n1-n2", request).await;
    until(|| before.boots("n1") == 1).await;
    cluster.stop().await;
    assert_eq!((before.boots("n1"), before.boots("n2")), (1, 0), "orders go one by one");
    // One order was lost; of the other only the answer was.
    let nodes = Nodes { on: vec!["n2".into()], ..Nodes::default() };
    cluster.start().await;
    let again = Rack::connect_with(&cluster, &credentials, 0, &[], Arc::new(Mutex::new(nodes))).await;
    until(|| again.boots("n1") == 1).await;
    let mut client = Client::resume(&cluster, "getadapter n1-n2", request).await;
    again.answer("n1").await;
    again.answer("n2").await;
    assert_eq!(client.finish().await, 0, "{}", client.err);
    assert_eq!((again.boots("n1"), again.boots("n2")), (1, 0), "the one that came up is left alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_whose_first_client_is_gone_is_taken_up_by_the_next_master() {
    let mut cluster = Cluster::new(&["n1"]).await;
    let credentials = cluster.joined("sn1").await;
    let before = Rack::connect(&cluster, &credentials, 0, &[]).await;
    before.nodes.lock().unwrap().held.push("n1".into());
    until(|| cluster.core().racks.status().len() == 1).await;
    let first = Client::start(&cluster, "getadapter n1").await;
    until(|| cluster.waiters("n1") == 1).await;
    let request = id();
    let _lost = Client::resume(&cluster, "getadapter n1", request).await;
    until(|| cluster.waiters("n1") == 2).await;
    first.kill();
    cluster.stop().await;
    assert_eq!(before.boots("n1"), 0, "nothing was ordered yet");
    cluster.start().await;
    assert_eq!(cluster.task("n1"), "waiting", "a master that stops ends no wait");
    before.nodes.lock().unwrap().held.clear();
    let again = before.again(&cluster, &credentials).await;
    until(|| again.boots("n1") == 1).await;
    let mut second = Client::resume(&cluster, "getadapter n1", request).await;
    again.answer("n1").await;
    assert_eq!(second.finish().await, 0, "{}", second.err);
    assert!(second.out.contains("[n1] scan successfully"), "{}", second.out);
    assert_eq!(again.boots("n1"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_counts_as_without_agent_before_every_service_node_had_time_to_come() {
    let mut cluster = Cluster::new(&["n1"]).await;
    let credentials = (cluster.joined("sn1").await, cluster.joined("sn2").await);
    cluster.stop().await;
    cluster.start().await;
    let mut client = Client::start(&cluster, "getadapter n1").await;
    let nodes = Nodes {
        on: vec!["n1".into()],
        adapters: BTreeMap::from([("n1".to_owned(), vec![adapter("eno1")])]),
        ..Nodes::default()
    };
    let nodes = Arc::new(Mutex::new(nodes));
    let one = Rack::connect_with(&cluster, &credentials.0, 0, &[], nodes.clone()).await;
    until(|| cluster.task("n1") == "waiting" && cluster.core().racks.status().len() == 1).await;
    let _other = Rack::connect_with(&cluster, &credentials.1, 0, &["n1"], nodes).await;
    assert_eq!(client.finish().await, 0, "{}", client.err);
    assert_eq!(client.out, result("n1"));
    // Asked once by its connection and once by the wait: never its BMC.
    assert!(one.asked().iter().all(|asked| asked == "ask n1"), "{:?}", one.asked());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_is_on_its_way_is_waited_for_and_rebooted_only_by_force() {
    let (cluster, mut rack) = rack(&["n1", "n2"]).await;
    let mut client = waiting(&cluster, &rack, "getadapter n1-n2", &["n1", "n2"]).await;
    rack.answer("n1").await;
    rack.answer("n2").await;
    assert_eq!(client.finish().await, 0);
    // They leave the image and boot their disks: for a while there is no agent.
    let mut again = Client::start(&cluster, "getadapter n1-n2 -f").await;
    until(|| rack.asked().iter().filter(|asked| asked.starts_with("stat")).count() == 4).await;
    let mut force = Client::start(&cluster, "getadapter n2 --force").await;
    until(|| rack.boots("n2") == 2).await;
    rack.answer("n2").await;
    assert_eq!(force.finish().await, 0, "{}", force.err);
    assert_eq!((cluster.task("n1").as_str(), rack.boots("n1")), ("waiting", 1));
    rack.nodes.lock().unwrap().adapters.insert("n1".into(), vec![adapter("eno1")]);
    rack.agents(&["n1"], &[]).await;
    assert_eq!(again.finish().await, 0, "{}", again.err);
    assert!(again.out.contains(&result("n1")) && again.out.contains(&result("n2")), "{}", again.out);
    assert_eq!(rack.boots("n1"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_never_gets_its_agent_is_refused_when_it_had_its_time() {
    let (cluster, clock) = Cluster::standing(&["n1"]).await;
    let rack = Rack::new(&cluster, "sn1").await;
    until(|| cluster.core().racks.status().len() == 1).await;
    rack.nodes.lock().unwrap().on.push("n1".into());
    let now = state::discovery::calendar::stamp(cluster.core().clock.unix());
    cluster.set("nodelist", &["n1"], &[("status", "booting"), ("statustime", &now)]).await;
    let mut client = Client::start(&cluster, "getadapter n1").await;
    until(|| rack.asked() == ["stat n1"]).await;
    assert_eq!(cluster.task("n1"), "waiting");
    until(|| {
        clock.advance(std::time::Duration::from_secs(10));
        cluster.task("n1") == "failed"
    })
    .await;
    assert_eq!(client.finish().await, 1);
    assert!(client.err.contains("no agent is connected") && client.err.contains("--force"), "{}", client.err);
    assert_eq!(rack.boots("n1"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_comes_back_finds_its_answer_though_a_later_wait_has_the_row() {
    let mut cluster = Cluster::new(&["n1", "n2"]).await;
    let credentials = cluster.joined("sn1").await;
    let before = Rack::connect(&cluster, &credentials, 0, &[]).await;
    until(|| cluster.core().racks.status().len() == 1).await;
    let request = id();
    let _lost = Client::resume(&cluster, "getadapter n1-n2 -f", request).await;
    until(|| before.boots("n1") == 1 && before.boots("n2") == 1).await;
    before.answer("n1").await;
    cluster.stop().await;
    cluster.start().await;
    let again = before.again(&cluster, &credentials).await;
    let mut later = Client::start(&cluster, "getadapter n1 -f").await;
    until(|| cluster.wait("n1", "attempt") == "2").await;
    let mut first = Client::resume(&cluster, "getadapter n1-n2 -f", request).await;
    while !first.out.contains(&stored("n1")) {
        first.hear().await;
    }
    assert_eq!(cluster.waiters("n1"), 1, "it does not wait there again");
    again.answer("n2").await;
    assert_eq!(first.finish().await, 0, "{}", first.err);
    again.answer("n1").await;
    assert_eq!(later.finish().await, 0, "{}", later.err);
    assert_eq!(later.out, result("n1"), "the machine is on its way");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_node_that_dies_in_the_middle_of_the_order_boots_each_machine_once() {
    let cluster = Cluster::new(&["n1", "n2"]).await;
    let credentials = cluster.joined("sn1").await;
    let before = Rack::connect(&cluster, &credentials, 0, &[]).await;
    before.nodes.lock().unwrap().deaf.extend(["n1".into(), "n2".into()]);
    until(|| cluster.core().racks.status().len() == 1).await;
    let mut client = Client::start(&cluster, "getadapter n1-n2").await;
    until(|| before.boots("n1") == 1).await;
    before.close();
    until(|| cluster.core().racks.status().is_empty()).await;
    let nodes = Nodes { on: vec!["n2".into()], ..Nodes::default() };
    let again = Rack::connect_with(&cluster, &credentials, 0, &[], Arc::new(Mutex::new(nodes))).await;
    until(|| again.boots("n1") == 1).await;
    again.answer("n1").await;
    again.answer("n2").await;
    assert_eq!(client.finish().await, 0, "{}", client.err);
    assert_eq!((again.boots("n1"), again.boots("n2")), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_is_cancelled_while_the_bmc_is_asked_boots_nothing() {
    let (cluster, rack) = rack(&["n1"]).await;
    rack.nodes.lock().unwrap().held.push("n1".into());
    let mut client = Client::start(&cluster, "getadapter n1").await;
    until(|| rack.asked() == ["stat n1"]).await;
    client.cancel().await;
    assert_ne!(client.finish().await, 0);
    until(|| cluster.task("n1") == "cancelled").await;
    rack.nodes.lock().unwrap().held.clear();
    let mut next = waiting(&cluster, &rack, "getadapter n1", &["n1"]).await;
    rack.answer("n1").await;
    assert_eq!((next.finish().await, rack.boots("n1")), (0, 1), "only the second wait booted it");
}
