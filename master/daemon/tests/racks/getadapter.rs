//! getadapter from the command line to the nodes and back (spec/seeds.md 3.4).

use master::locks::Holder;
use state::RowChange;
use wire::agent::Report;
use wire::hardware::{Adapter, LinkState};
use wire::rack::RackAnswer;

use crate::client::{Client, id};
use crate::cluster::{Cluster, until};
use crate::rack::{Rack, adapter};

pub const LINE: &str =
    "[0]->eno1!mac=02:00:00:00:00:01|pci=/pci0000:00/0000:00:03.0|vendor=Red Hat|model=Virtio|linkstate=UP";
pub const STORED: &str = "eno1!mac=02:00:00:00:00:01 linkstate=UP pci=/pci0000:00/0000:00:03.0";

pub fn result(node: &str) -> String {
    format!("[{node}] scan successfully below is result:\n{node}:{LINE}\n")
}

pub fn booting(node: &str) -> String {
    format!("{node}: Booting into genesis, this could take several minutes...\n")
}

/// A cluster with one rack.
pub async fn rack(nodes: &[&str]) -> (Cluster, Rack) {
    let cluster = Cluster::new(nodes).await;
    let rack = Rack::new(&cluster, "sn1").await;
    until(|| cluster.core().racks.status().len() == 1).await;
    (cluster, rack)
}

/// A client whose nodes have been sent into the discovery image.
pub async fn waiting(cluster: &Cluster, rack: &Rack, line: &str, nodes: &[&str]) -> Client {
    let client = Client::start(cluster, line).await;
    until(|| nodes.iter().all(|node| rack.boots(node) > 0 && cluster.task(node) == "waiting")).await;
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_data_is_booted_once_and_its_answer_shown_and_stored() {
    let (cluster, rack) = rack(&["n1"]).await;
    cluster.set("chain", &["n1"], &[("currstate", "boot")]).await;
    let mut client = waiting(&cluster, &rack, "getadapter n1", &["n1"]).await;
    client.hear().await;
    assert_eq!(client.out, booting("n1"));
    assert_eq!(
        cluster.text("n1", "chain.currstate"),
        "standby",
        "it stays in the image until it has answered"
    );
    let (out, ..) = Client::run(&cluster, "tabdump taskstate").await;
    assert_eq!(
        out.lines().filter(|line| line.contains("\"n1\",\"getadapter\",\"waiting\"")).count(),
        1,
        "{out}"
    );
    assert!(matches!(rack.answer("n1").await, RackAnswer::Stored(_)));
    assert_eq!(client.finish().await, 0);
    assert_eq!(client.out, booting("n1") + &result("n1"));
    assert_eq!(cluster.text("n1", "nics.nicsadapter"), STORED);
    assert_eq!((cluster.task("n1").as_str(), rack.boots("n1")), ("done", 1));
    assert_eq!(cluster.text("n1", "chain.currstate"), "boot", "it goes on where it was");
}

#[tokio::test(flavor = "multi_thread")]
async fn known_adapters_are_shown_at_once_and_inspected_again_only_when_asked() {
    let (cluster, rack) = rack(&["n1", "n2", "n3"]).await;
    cluster.set("nics", &["n3"], &[("nicsadapter", "eth0!pci=/x mac=aa linkstate=DOWN")]).await;
    let (out, _, status) = Client::run(&cluster, "getadapter n3").await;
    assert_eq!(
        (out.as_str(), status),
        (
            "n3: Adapter information exists, no need to inspect.\nn3:[0]->eth0!mac=aa|pci=/x|linkstate=DOWN\n\
             No adapter information need to inspect.\n",
            0
        )
    );
    assert!(rack.asked().is_empty());
    let mut client = waiting(&cluster, &rack, "getadapter n1-n3", &["n1", "n2"]).await;
    rack.answer("n1").await;
    rack.answer("n2").await;
    assert_eq!(client.finish().await, 0);
    assert!(client.out.contains("n3: Adapter information exists"), "{}", client.out);
    assert!(client.out.contains(&result("n1")) && client.out.contains(&result("n2")));
    assert_eq!(rack.boots("n3"), 0);
    let mut client = waiting(&cluster, &rack, "getadapter n3 -f", &["n3"]).await;
    rack.answer("n3").await;
    assert_eq!((client.finish().await, rack.boots("n3")), (0, 1));
    assert_eq!(cluster.text("n3", "nics.nicsadapter"), STORED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_request_joins_whatever_its_options_and_overlap() {
    let (cluster, rack) = rack(&["n1", "n2", "n3"]).await;
    let mut first = waiting(&cluster, &rack, "getadapter n1-n2", &["n1", "n2"]).await;
    let mut second = waiting(&cluster, &rack, "getadapter n2-n3 -f", &["n3"]).await;
    until(|| cluster.waiters("n2") == 2).await;
    for node in ["n1", "n2", "n3"] {
        rack.answer(node).await;
    }
    assert_eq!((first.finish().await, second.finish().await), (0, 0));
    assert!(first.out.contains(&result("n1")) && first.out.contains(&result("n2")));
    assert!(second.out.contains(&result("n2")) && second.out.contains(&result("n3")));
    assert_eq!(["n1", "n2", "n3"].map(|node| rack.boots(node)), [1, 1, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connected_agent_is_asked_and_nothing_is_booted() {
    let (cluster, mut rack) = rack(&["n1"]).await;
    rack.nodes.lock().unwrap().adapters.insert("n1".into(), vec![adapter("eno1")]);
    rack.agents(&["n1"], &[]).await;
    until(|| cluster.core().racks.is_connected("n1")).await;
    let (out, _, status) = Client::run(&cluster, "getadapter n1").await;
    assert_eq!((out, status), (result("n1"), 0));
    assert_eq!(rack.asked(), ["ask n1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_connects_while_it_is_waited_for_is_asked() {
    let (cluster, mut rack) = rack(&["n1"]).await;
    let mut client = waiting(&cluster, &rack, "getadapter n1", &["n1"]).await;
    rack.nodes.lock().unwrap().adapters.insert("n1".into(), vec![adapter("eno1")]);
    rack.agents(&["n1"], &[]).await;
    assert_eq!(client.finish().await, 0);
    assert!(client.out.ends_with(&result("n1")), "{}", client.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_node_without_an_agent_is_rebooted_only_by_force() {
    let (cluster, rack) = rack(&["n1"]).await;
    rack.nodes.lock().unwrap().on.push("n1".into());
    let (_, err, status) = Client::run(&cluster, "getadapter n1").await;
    assert!(err.contains("n1: [c1]: Error:") && err.contains("--force") && status == 1, "{err}");
    assert_eq!((rack.boots("n1"), cluster.task("n1").as_str()), (0, "failed"));
    let mut client = waiting(&cluster, &rack, "getadapter n1 --force", &["n1"]).await;
    rack.answer("n1").await;
    assert_eq!((client.finish().await, rack.boots("n1")), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_cannot_be_powered_fails_at_once_and_others_go_on() {
    let (cluster, rack) = rack(&["n1", "n2", "n3"]).await;
    cluster.change(vec![RowChange::delete("nodehm", &["n3"])]).await;
    rack.nodes.lock().unwrap().dead.push("n1".into());
    let mut client = waiting(&cluster, &rack, "getadapter n1-n3", &["n2"]).await;
    until(|| cluster.task("n1") == "failed" && cluster.task("n3") == "failed").await;
    assert_eq!(cluster.task("n2"), "waiting");
    rack.answer("n2").await;
    assert_eq!(client.finish().await, 1);
    assert!(client.err.contains("n1: [c1]: Error: 10.8.0.1: no answer within 2 s\n"), "{}", client.err);
    assert!(client.err.contains("n3: mgt configuration can not be found.\n"), "{}", client.err);
    assert!(client.out.contains(&result("n2")), "{}", client.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_node_ends_at_its_deadline_and_its_late_answer_is_stored() {
    let (cluster, rack) = rack(&["n1", "n2"]).await;
    cluster.set("site", &["getadaptertimeout"], &[("value", "2")]).await;
    let mut client = waiting(&cluster, &rack, "getadapter n1-n2", &["n1", "n2"]).await;
    rack.answer("n1").await;
    assert_eq!(client.finish().await, 1);
    assert!(client.out.contains(&result("n1")), "{}", client.out);
    assert_eq!(client.err, "n2: Timeout to get the adapter information\n");
    assert_eq!(cluster.task("n2"), "timeout");
    assert!(matches!(rack.answer("n2").await, RackAnswer::Stored(_)));
    assert_eq!(
        (cluster.task("n2").as_str(), cluster.text("n2", "nics.nicsadapter").as_str()),
        ("timeout", STORED)
    );
    let (out, ..) = Client::run(&cluster, "getadapter n2").await;
    assert!(out.contains("n2: Adapter information exists"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_answers_are_ordinary() {
    let (cluster, rack) = rack(&["n1", "n2"]).await;
    assert!(matches!(rack.answer("n2").await, RackAnswer::Stored(_)), "nobody asked");
    let mut client = waiting(&cluster, &rack, "getadapter n1", &["n1"]).await;
    assert!(matches!(rack.node("n1", Report::Adapters(Vec::new())).await, RackAnswer::Denied { .. }));
    let many = vec![adapter("eno1"); 1025];
    let answer = rack.node("n1", Report::Adapters(many)).await;
    assert!(matches!(&answer, RackAnswer::Denied { reason } if reason.contains("1024")), "{answer:?}");
    assert_eq!(cluster.task("n1"), "waiting");
    let nameless = Adapter { pci: "0000:03:00.0".into(), model: "Card".into(), ..Adapter::default() };
    rack.node("n1", Report::Adapters(vec![nameless])).await;
    assert_eq!(client.finish().await, 0);
    let shown = "n1:[0]->pci=0000:03:00.0|model=Card\n\
                 n1: nics table will not be updated as not any useful information could be found\n";
    assert!(client.out.ends_with(shown), "{}", client.out);
    let many: Vec<Adapter> = (0..64).map(|number| adapter(&format!("eth{number}"))).collect();
    rack.node("n1", Report::Adapters(many)).await;
    let stored = cluster.text("n1", "nics.nicsadapter");
    assert_eq!(stored.split(',').count(), 64);
    assert!(stored.split(',').enumerate().all(|(number, entry)| entry.starts_with(&format!("eth{number}!"))));
    let revision = cluster.core().read(state::State::revision);
    rack.answer("n2").await;
    assert_eq!(cluster.core().read(state::State::revision), revision, "the same answer again is no event");
    rack.node("n2", Report::Adapters(vec![adapter("eth9")])).await;
    assert!(cluster.text("n2", "nics.nicsadapter").starts_with("eth9!"), "a changed one is stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_dies_cancels_nothing_and_one_that_comes_back_gets_the_result() {
    let (cluster, rack) = rack(&["n1"]).await;
    let request = id();
    let client = Client::resume(&cluster, "getadapter n1", request).await;
    until(|| rack.boots("n1") == 1).await;
    client.kill();
    rack.answer("n1").await;
    assert_eq!(
        (cluster.task("n1").as_str(), cluster.text("n1", "nics.nicsadapter").as_str()),
        ("done", STORED)
    );
    until(|| cluster.core().actions.running().is_empty()).await;
    let mut client = Client::resume(&cluster, "getadapter n1", request).await;
    assert_eq!(client.finish().await, 0);
    assert_eq!((client.out.as_str(), rack.boots("n1")), ((booting("n1") + &result("n1")).as_str(), 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_ends_only_the_own_wait_and_the_answer_is_stored_all_the_same() {
    let (cluster, rack) = rack(&["n1"]).await;
    let mut first = waiting(&cluster, &rack, "getadapter n1", &["n1"]).await;
    let mut second = Client::start(&cluster, "getadapter n1").await;
    until(|| cluster.waiters("n1") == 2).await;
    first.cancel().await;
    assert_ne!(first.finish().await, 0);
    until(|| cluster.waiters("n1") == 1).await;
    assert_eq!(cluster.task("n1"), "waiting");
    second.cancel().await;
    assert_ne!(second.finish().await, 0);
    until(|| cluster.task("n1") == "cancelled").await;
    rack.answer("n1").await;
    assert_eq!(cluster.text("n1", "nics.nicsadapter"), STORED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_removed_ends_its_waits() {
    let (cluster, rack) = rack(&["n1"]).await;
    let mut client = waiting(&cluster, &rack, "getadapter n1", &["n1"]).await;
    assert_eq!(Client::run(&cluster, "noderm n1").await.2, 0);
    assert_eq!(client.finish().await, 1);
    assert!(client.err.contains("node removed"), "{}", client.err);
    assert!(matches!(rack.answer("n1").await, RackAnswer::Denied { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_answers_at_once_are_a_few_entries_and_none_is_lost() {
    let names: Vec<String> = (0..1000).map(|number| format!("n{number:03}")).collect();
    let nodes: Vec<&str> = names.iter().map(String::as_str).collect();
    let (cluster, rack) = rack(&nodes).await;
    let mut client = waiting(&cluster, &rack, "getadapter all", &nodes).await;
    let before = cluster.core().group.status().borrow().applied;
    let rack = std::sync::Arc::new(rack);
    let answers: Vec<_> = names
        .iter()
        .map(|name| {
            let (rack, name) = (rack.clone(), name.clone());
            tokio::spawn(async move { rack.answer(&name).await })
        })
        .collect();
    for answer in answers {
        assert!(matches!(answer.await.unwrap(), RackAnswer::Stored(_)));
    }
    let entries = cluster.core().group.status().borrow().applied - before;
    assert_eq!(client.finish().await, 0);
    assert_eq!(client.out.lines().filter(|line| line.contains(LINE)).count(), 1000);
    assert_eq!(client.err, "");
    assert!(names.iter().all(|name| cluster.text(name, "nics.nicsadapter") == STORED));
    assert!(entries < 200, "{entries} entries");
    assert!(names.iter().all(|name| rack.boots(name) == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_master_restarts_while_three_clients_wait_and_each_gets_its_answer() {
    let mut cluster = Cluster::new(&["n1", "n2", "n3"]).await;
    let credentials = cluster.joined("sn1").await;
    let rack = Rack::connect(&cluster, &credentials, 0, &[]).await;
    until(|| cluster.core().racks.status().len() == 1).await;
    let lines = ["getadapter n1", "getadapter n1-n2 -f", "getadapter n3"];
    let requests = [id(), id(), id()];
    let mut clients = Vec::new();
    for (line, request) in lines.iter().zip(requests) {
        clients.push(Client::resume(&cluster, line, request).await);
    }
    until(|| ["n1", "n2", "n3"].iter().all(|node| rack.boots(node) == 1)).await;
    rack.answer("n3").await;
    assert_eq!(clients.pop().unwrap().finish().await, 0);
    let deadline = cluster.wait("n1", "deadline");
    cluster.stop().await;
    cluster.start().await;
    assert_eq!((cluster.task("n1").as_str(), cluster.wait("n1", "deadline")), ("waiting", deadline));
    let again = rack.again(&cluster, &credentials).await;
    let mut clients = Vec::new();
    for (line, request) in lines.iter().zip(requests) {
        clients.push(Client::resume(&cluster, line, request).await);
    }
    assert_eq!((cluster.task("n1").as_str(), cluster.task("n2").as_str()), ("waiting", "waiting"));
    again.answer("n1").await;
    again.answer("n2").await;
    let expected = [vec!["n1"], vec!["n1", "n2"], vec!["n3"]];
    for (client, nodes) in clients.iter_mut().zip(expected) {
        assert_eq!(client.finish().await, 0, "{}", client.err);
        for node in nodes {
            assert!(client.out.contains(&format!("{node}:[0]->eno1!mac=")), "{}", client.out);
        }
    }
    assert_eq!(["n1", "n2", "n3"].map(|node| again.boots(node)), [1; 3], "nobody is booted again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_node_that_restarts_meanwhile_changes_nothing() {
    let cluster = Cluster::new(&["n1"]).await;
    let credentials = cluster.joined("sn1").await;
    let rack = Rack::connect(&cluster, &credentials, 0, &[]).await;
    until(|| cluster.core().racks.status().len() == 1).await;
    let mut client = waiting(&cluster, &rack, "getadapter n1", &["n1"]).await;
    rack.close();
    let mut again = Rack::connect(&cluster, &credentials, 0, &[]).await;
    again.nodes.lock().unwrap().adapters.insert("n1".into(), vec![adapter("eno1")]);
    again.agents(&["n1"], &[]).await;
    assert_eq!(client.finish().await, 0);
    assert_eq!((client.out, again.boots("n1")), (booting("n1") + &result("n1"), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_may_not_touch_a_node_opens_no_wait() {
    let (cluster, rack) = rack(&["n1", "n2"]).await;
    cluster.change(vec![RowChange::delete("policy", &["1"])]).await;
    cluster.set("policy", &["6"], &[("name", "root"), ("noderange", "n1"), ("rule", "allow")]).await;
    let (_, err, status) = Client::run(&cluster, "getadapter n1-n2").await;
    assert!(err.contains("Permission denied") && status != 0, "{err}");
    assert_eq!((cluster.task("n1").as_str(), cluster.task("n2").as_str()), ("", ""));
    assert!(rack.asked().is_empty());
    let mut client = waiting(&cluster, &rack, "getadapter n1", &["n1"]).await;
    rack.answer("n1").await;
    assert_eq!(client.finish().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_seeds_adapters_are_shown_by_every_command_that_shows_them() {
    let (cluster, rack) = rack(&["n1"]).await;
    let mut client = waiting(&cluster, &rack, "getadapter n1", &["n1"]).await;
    let card = |name: &str, mac: &str, pci: &str, link| Adapter {
        name: name.into(),
        mac: mac.into(),
        pci: pci.into(),
        link,
        ..Adapter::default()
    };
    let usb = "/pci0000:00/0000:00:1d.0/usb2/2-1/2-1.1/2-1.1.5/2-1.1.5:1.0";
    let cards = vec![
        card("enp12s0f1", "34:40:b5:be:6a:84", "/pci0000:00/0000:00:01.0/0000:0c:00.1", LinkState::Down),
        card("enp0s29u1u1u5", "36:40:b5:bf:44:33", usb, LinkState::Up),
    ];
    rack.node("n1", Report::Adapters(cards)).await;
    assert_eq!(client.finish().await, 0);
    let shown =
        "n1:[0]->enp12s0f1!mac=34:40:b5:be:6a:84|pci=/pci0000:00/0000:00:01.0/0000:0c:00.1|linkstate=DOWN\n";
    assert!(client.out.contains(shown), "{}", client.out);
    let first = "mac=34:40:b5:be:6a:84 linkstate=DOWN pci=/pci0000:00/0000:00:01.0/0000:0c:00.1";
    let second = format!("mac=36:40:b5:bf:44:33 linkstate=UP pci={usb}");
    let (out, ..) = Client::run(&cluster, "tabdump nics").await;
    assert!(out.contains(&format!("\"enp12s0f1!{first},enp0s29u1u1u5!{second}\"")), "{out}");
    let (out, ..) = Client::run(&cluster, "lsdef n1 -i nicsadapter").await;
    assert!(out.contains(&format!("    nicsadapter.enp12s0f1={first}\n")), "{out}");
    assert!(out.contains(&format!("    nicsadapter.enp0s29u1u1u5={second}\n")), "{out}");
    // As an admin wrote it, its attributes in another order.
    let seed = "enp12s0f1!pci=/pci0000:00/0000:00:01.0/0000:0c:00.1 mac=34:40:b5:be:6a:84 linkstate=DOWN";
    cluster.set("nics", &["n1"], &[("nicsadapter", seed)]).await;
    let (out, ..) = Client::run(&cluster, "getadapter n1").await;
    assert!(out.contains(shown), "{out}");
    let (out, ..) = Client::run(&cluster, "tabdump nics").await;
    assert!(out.contains(&format!("\"{seed}\"")), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_range_with_an_unknown_one_or_for_help_nothing_is_opened() {
    let (cluster, rack) = rack(&["n1"]).await;
    for (line, status, words) in [
        ("getadapter", 1, "Usage: getadapter"),
        ("getadapter nosuch", 1, "Invalid nodes and/or groups in noderange: nosuch"),
        ("getadapter -h", 0, "Usage: getadapter"),
        ("getadapter -v", 0, "Version"),
    ] {
        let (out, err, ended) = Client::run(&cluster, line).await;
        assert!(
            (out + &err).to_lowercase().contains(&words.to_lowercase()) && ended == status,
            "{line}: {err}"
        );
    }
    assert!(rack.asked().is_empty() && cluster.task("n1").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_power_another_action_changes_is_not_booted() {
    let (cluster, rack) = rack(&["n1"]).await;
    let holder = Holder { action: 77, command: "rpower n1 cycle".into(), user: "ann".into() };
    let (held, _) = cluster.core().locks.take(&["n1".into()], &holder);
    let (_, err, status) = Client::run(&cluster, "getadapter n1").await;
    assert_eq!(
        (err.as_str(), status),
        ("n1: [c1]: Error: action 77 (rpower n1 cycle, by ann) holds this node\n", 1)
    );
    drop(held);
    let mut client = waiting(&cluster, &rack, "getadapter n1", &["n1"]).await;
    rack.answer("n1").await;
    assert_eq!((client.finish().await, rack.boots("n1")), (0, 1));
}
