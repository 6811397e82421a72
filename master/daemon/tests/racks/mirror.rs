//! What comes down to a service node.

use wire::rack::Down;

use crate::client::Client;
use crate::cluster::{Cluster, until};
use crate::rack::Rack;

#[tokio::test(flavor = "multi_thread")]
async fn a_new_mirror_gets_everything_of_its_rack_and_then_only_what_changes() {
    let cluster = Cluster::new(&["n1@sn1", "n2@sn2", "n3"]).await;
    let mut rack = Rack::new(&cluster, "sn1").await;
    assert!(
        matches!(rack.next().await, Some(Down::Masters(masters)) if masters == [cluster.address().to_string()])
    );
    let view = rack.view().await;
    let names: Vec<&str> = view.nodes.iter().map(|node| node.name.as_str()).collect();
    assert!(view.full && view.site.is_some_and(|site| site.cluster == "c1"));
    assert_eq!(names, ["n1", "n3"]);
    cluster.set("chain", &["n1"], &[("currstate", "shell")]).await;
    let view = rack.view().await;
    assert!(!view.full && view.site.is_none());
    assert_eq!((view.nodes.len(), view.nodes[0].destiny.as_str()), (1, "shell"));
    let generation = view.nodes[0].config.generation;
    cluster.set("nodemounts", &["n1", "/home"], &[("source", "nfs:/home"), ("kind", "nfs")]).await;
    let config = rack.view().await.nodes.remove(0).config;
    assert!(config.generation > generation && config.mounts.len() == 1);
    cluster.set("noderes", &["n1"], &[("servicenode", "sn2")]).await;
    assert_eq!(rack.view().await.removed, ["n1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_comes_back_gets_only_what_it_missed() {
    let cluster = Cluster::new(&["n1", "n2"]).await;
    let credentials = cluster.joined("sn1").await;
    let mut rack = Rack::connect(&cluster, &credentials, 0, &[]).await;
    let held = rack.view().await.revision.0;
    rack.close();
    cluster.set("chain", &["n2"], &[("currstate", "shell")]).await;
    let mut rack = Rack::connect(&cluster, &credentials, held, &[]).await;
    let view = rack.view().await;
    assert!(!view.full && view.nodes.len() == 1 && view.nodes[0].name == "n2");
    let mut rack = Rack::connect(&cluster, &credentials, view.revision.0, &[]).await;
    let view = rack.view().await;
    assert!(!view.full && view.nodes.is_empty() && view.revision.0 > held, "nothing was missed");
    let mut rack = Rack::connect(&cluster, &credentials, 1_000_000, &[]).await;
    assert!(rack.view().await.full, "a mirror of another history starts anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_rack_comes_in_pieces_that_fit() {
    let names: Vec<String> = (0..3000).map(|number| format!("n{number:04}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let cluster = Cluster::new(&names).await;
    let mut rack = Rack::new(&cluster, "sn1").await;
    let view = rack.view().await;
    assert_eq!(view.nodes.len(), 3000);
    cluster.set("bootparams", &["all"], &[("addkcmdline", "quiet")]).await;
    // Changes from before may come once more on their way.
    loop {
        let view = rack.view().await;
        assert!(!view.full);
        if view.nodes.iter().all(|node| node.kernel_arguments == "quiet") {
            assert_eq!(view.nodes.len(), 3000);
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_registered_key_is_served_and_only_while_it_is_registered() {
    let cluster = Cluster::new(&["n1"]).await;
    let forged = cluster.forged(link::Role::ServiceNode, "sn1");
    let mut rack = Rack::connect(&cluster, &forged, 0, &[]).await;
    assert!(matches!(rack.next().await, Some(Down::Refused(reason)) if reason.contains("not registered")));
    let credentials = cluster.joined("sn1").await;
    let mut rack = Rack::connect(&cluster, &forged, 0, &[]).await;
    assert!(
        matches!(rack.next().await, Some(Down::Refused(reason)) if reason.contains("not the registered one"))
    );
    let mut rack = Rack::connect(&cluster, &credentials, 0, &[]).await;
    rack.view().await;
    cluster.change(vec![state::RowChange::delete("servicenodes", &["sn1"])]).await;
    rack.closed().await;
    until(|| cluster.core().racks.status().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_or_admin_certificate_opens_no_uplink() {
    let cluster = Cluster::new(&["n1"]).await;
    let node = cluster.forged(link::Role::Node, "n1");
    let endpoint = link::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let connection =
        endpoint.dial(cluster.address(), &node, wire::ALPN_MAIN, link::Role::Master).await.unwrap();
    connection.closed().await;
    let (out, _, status) = Client::run(&cluster, "nodels n1").await;
    assert_eq!((out.as_str(), status), ("n1\n", 0));
}
