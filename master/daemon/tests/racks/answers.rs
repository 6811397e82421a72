//! Answers that come split, large, twice, late, hostile or from the wrong one, and requests that meet.

use std::time::Duration;

use link::{Endpoint, Role};
use state::RowChange;
use wire::agent::Report;
use wire::hardware::Adapter;
use wire::rack::RackAnswer;

use crate::client::{Client, id};
use crate::cluster::{Cluster, LIMIT, until};
use crate::getadapter::{STORED, booting, rack, result, waiting};
use crate::rack::{Rack, adapter};

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_64_adapters_is_shown_and_stored_whole_and_in_order() {
    let (cluster, rack) = rack(&["n1"]).await;
    let mut client = waiting(&cluster, &rack, "getadapter n1", &["n1"]).await;
    let card = |number: usize| Adapter {
        name: format!("enp{number}s0f1"),
        candidate_names: vec![
            format!("enp{number}s0f1"),
            format!("eno{number}"),
            format!("enx0200000000{number:02x}"),
        ],
        mac: format!("02:00:00:00:00:{number:02x}"),
        pci: format!(
            "/pci0000:00/0000:00:{:02x}.0/0000:{number:02x}:00.1/{}",
            number / 2,
            "bridge/".repeat(24)
        ),
        ..adapter("")
    };
    let cards: Vec<Adapter> = (0..64).map(card).collect();
    assert!(wire::frame::encode(&Report::Adapters(cards.clone())).unwrap().len() > 16 * 1024);
    assert!(matches!(rack.node("n1", Report::Adapters(cards)).await, RackAnswer::Stored(_)));
    assert_eq!(client.finish().await, 0);
    let shown: Vec<&str> = client.out.lines().filter(|line| line.starts_with("n1:[")).collect();
    let stored = cluster.text("n1", "nics.nicsadapter");
    let stored: Vec<&str> = stored.split(',').collect();
    assert_eq!((shown.len(), stored.len()), (64, 64));
    for number in 0..64 {
        assert!(
            shown[number].starts_with(&format!("n1:[{number}]->enp{number}s0f1!mac=")),
            "{}",
            shown[number]
        );
        assert!(stored[number].starts_with(&format!("enp{number}s0f1!mac=")), "{}", stored[number]);
        assert!(stored[number].contains("bridge/bridge/ candidatename=enp"), "{}", stored[number]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_comes_byte_by_byte_is_as_good_as_any() {
    let (cluster, rack) = rack(&["n1"]).await;
    let mut client = waiting(&cluster, &rack, "getadapter n1", &["n1"]).await;
    assert!(matches!(rack.dribble("n1", vec![adapter("eno1")]).await, RackAnswer::Stored(_)));
    assert_eq!(client.finish().await, 0);
    assert_eq!(client.out, booting("n1") + &result("n1"));
    assert_eq!(
        (cluster.text("n1", "nics.nicsadapter").as_str(), cluster.task("n1").as_str()),
        (STORED, "done")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn two_requests_for_one_node_are_one_boot_one_row_and_the_same_result() {
    let (cluster, rack) = rack(&["n1"]).await;
    let mut first = waiting(&cluster, &rack, "getadapter n1", &["n1"]).await;
    let mut second = Client::start(&cluster, "getadapter n1").await;
    let mut again = Client::start(&cluster, "getadapter n1 -f").await;
    until(|| cluster.waiters("n1") == 3).await;
    let (out, ..) = Client::run(&cluster, "tabdump taskstate").await;
    assert_eq!(out.lines().filter(|line| line.starts_with("\"n1\",\"getadapter\"")).count(), 1, "{out}");
    rack.answer("n1").await;
    for client in [&mut first, &mut second, &mut again] {
        assert_eq!(client.finish().await, 0);
        assert!(client.out.ends_with(&result("n1")), "{}", client.out);
    }
    assert_eq!(rack.boots("n1"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_ranges_that_overlap_each_node_boots_once_and_each_client_gets_its_three() {
    let (cluster, rack) = rack(&["n1", "n2", "n3", "n4"]).await;
    let mut first = waiting(&cluster, &rack, "getadapter n1-n3", &["n1", "n2", "n3"]).await;
    let mut second = waiting(&cluster, &rack, "getadapter n2-n4", &["n4"]).await;
    until(|| cluster.waiters("n2") == 2 && cluster.waiters("n3") == 2).await;
    for node in ["n1", "n2", "n3", "n4"] {
        rack.answer(node).await;
    }
    for (client, nodes) in [(&mut first, ["n1", "n2", "n3"]), (&mut second, ["n2", "n3", "n4"])] {
        assert_eq!(client.finish().await, 0);
        assert!(nodes.iter().all(|node| client.out.contains(&result(node))), "{}", client.out);
        assert_eq!(client.out.matches("scan successfully").count(), 3, "{}", client.out);
    }
    assert_eq!(["n1", "n2", "n3", "n4"].map(|node| rack.boots(node)), [1; 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_answer_twice_is_one_result_and_no_second_event() {
    let (cluster, rack) = rack(&["n1"]).await;
    let mut client = waiting(&cluster, &rack, "getadapter n1", &["n1"]).await;
    rack.answer("n1").await;
    let revision = cluster.core().read(state::State::revision);
    let mut committed = cluster.core().committed();
    assert!(matches!(rack.answer("n1").await, RackAnswer::Stored(_)), "it is acknowledged all the same");
    assert_eq!(client.finish().await, 0);
    assert_eq!(client.out.matches("scan successfully").count(), 1, "{}", client.out);
    let changed = std::iter::from_fn(|| committed.try_recv().ok())
        .any(|change| change.events.iter().any(|event| event.table_name() == "nics"));
    assert!(!changed && cluster.core().read(state::State::revision) >= revision);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_different_answers_the_first_wakes_and_the_second_is_stored_as_a_change() {
    let (cluster, rack) = rack(&["n1"]).await;
    let mut client = waiting(&cluster, &rack, "getadapter n1", &["n1"]).await;
    rack.answer("n1").await;
    let mut committed = cluster.core().committed();
    rack.node("n1", Report::Adapters(vec![adapter("eth9")])).await;
    assert_eq!(client.finish().await, 0);
    assert_eq!(client.out, booting("n1") + &result("n1"));
    let mut nics = Vec::new();
    while let Ok(change) = committed.try_recv() {
        nics.extend(change.events.iter().filter(|event| event.table_name() == "nics").cloned());
    }
    assert_eq!(nics.len(), 1);
    assert!(nics[0].old.is_some() && nics[0].new_text("nicsadapter").starts_with("eth9!"), "{nics:?}");
    assert!(cluster.text("n1", "nics.nicsadapter").starts_with("eth9!"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_three_seconds_ends_exactly_the_wait_of_the_silent_node() {
    let (cluster, clock) = Cluster::standing(&["n1", "n2"]).await;
    let rack = Rack::new(&cluster, "sn1").await;
    cluster.set("site", &["getadaptertimeout"], &[("value", "3")]).await;
    let mut client = waiting(&cluster, &rack, "getadapter n1-n2", &["n1", "n2"]).await;
    rack.answer("n1").await;
    until(|| cluster.task("n1") == "done").await;
    clock.advance(Duration::from_millis(2_900));
    // Another commit shows that what the clock made due has been seen to.
    cluster.set("site", &["x"], &[("value", "1")]).await;
    assert_eq!(cluster.task("n2"), "waiting");
    until(|| {
        clock.advance(Duration::from_millis(50));
        cluster.task("n2") == "timeout"
    })
    .await;
    assert_ne!(client.finish().await, 0);
    assert!(client.out.ends_with(&result("n1")), "{}", client.out);
    assert_eq!(client.err, "n2: Timeout to get the adapter information\n");
    clock.advance(Duration::from_secs(1));
    assert!(matches!(rack.answer("n2").await, RackAnswer::Stored(_)));
    assert_eq!(cluster.task("n2"), "timeout");
    let (out, ..) = Client::run(&cluster, "getadapter n2").await;
    assert!(out.starts_with("n2: Adapter information exists, no need to inspect.\n"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_an_hour_ends_no_wait_early() {
    let (cluster, clock) = Cluster::standing(&["n1"]).await;
    let rack = Rack::new(&cluster, "sn1").await;
    cluster.set("site", &["getadaptertimeout"], &[("value", "60")]).await;
    let mut client = waiting(&cluster, &rack, "getadapter n1", &["n1"]).await;
    clock.jump(Duration::from_secs(3600));
    for _ in 0..20 {
        clock.advance(Duration::from_millis(500));
        cluster.set("site", &["x"], &[("value", "1")]).await;
    }
    assert_eq!(cluster.task("n1"), "waiting", "ten of sixty seconds have passed");
    rack.answer("n1").await;
    assert_eq!(client.finish().await, 0, "{}", client.err);
    assert!(client.out.ends_with(&result("n1")), "{}", client.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_names_and_values_leave_tables_that_parse() {
    let (cluster, rack) = rack(&["n1"]).await;
    let mut client = waiting(&cluster, &rack, "getadapter n1", &["n1"]).await;
    let hostile = Adapter {
        name: "e,t!h 0\n\"n2\",\"x\"".into(),
        mac: "a,b!c=d e|f".into(),
        pci: "\r\nn9:[0]->x".into(),
        model: "Card\nn9: lies|x".into(),
        ..adapter("")
    };
    rack.node("n1", Report::Adapters(vec![hostile, adapter("eno1")])).await;
    assert_eq!(client.finish().await, 0);
    let lines: Vec<&str> = client.out.lines().skip(2).collect();
    assert_eq!(lines.len(), 2, "{}", client.out);
    assert!(lines[0].starts_with("n1:[0]->e_t_h_0_") && lines[1].starts_with("n1:[1]->eno1!"), "{lines:?}");
    let stored = cluster.text("n1", "nics.nicsadapter");
    assert_eq!(stored.split(',').count(), 2, "{stored}");
    let (out, ..) = Client::run(&cluster, "tabdump nics").await;
    assert_eq!(out.lines().count(), 2, "{out}");
    let (out, ..) = Client::run(&cluster, "getadapter n1").await;
    assert_eq!(out.lines().filter(|line| line.starts_with("n1:[")).count(), 2, "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_three_nodes_are_waited_for_taskstate_has_a_row_for_each() {
    let (cluster, rack) = rack(&["n1", "n2", "n3"]).await;
    let mut client = waiting(&cluster, &rack, "getadapter n1-n3", &["n1", "n2", "n3"]).await;
    let (out, ..) = Client::run(&cluster, "tabdump taskstate").await;
    assert!(out.starts_with("#node,command,state,pid,reserve,disable\n"), "{out}");
    for node in ["n1", "n2", "n3"] {
        let row = format!("\"{node}\",\"getadapter\",\"waiting\",");
        assert_eq!(out.lines().filter(|line| line.starts_with(&row)).count(), 1, "{out}");
    }
    assert_eq!(out.lines().count(), 4, "{out}");
    for node in ["n1", "n2", "n3"] {
        rack.answer(node).await;
    }
    assert_eq!(client.finish().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wait_of_a_node_that_is_renamed_fails_clearly_and_nothing_is_stored_under_the_old_name() {
    let (cluster, rack) = rack(&["n1"]).await;
    let mut client = waiting(&cluster, &rack, "getadapter n1", &["n1"]).await;
    let (_, err, status) = Client::run(&cluster, "chdef -t node -o n1 -n n9").await;
    assert_eq!(status, 0, "{err}");
    assert_eq!(client.finish().await, 1);
    assert!(client.err.contains("n1: [c1]: Error: node removed"), "{}", client.err);
    assert!(matches!(rack.answer("n1").await, RackAnswer::Denied { .. }), "there is no such node any more");
    assert_eq!((cluster.text("n1", "nics.nicsadapter").as_str(), cluster.task("n1").as_str()), ("", ""));
    assert_eq!(cluster.task("n9"), "waiting", "the row has gone with the node");
    rack.answer("n9").await;
    assert_eq!(
        (cluster.text("n9", "nics.nicsadapter").as_str(), cluster.task("n9").as_str()),
        (STORED, "done")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_users_the_one_who_may_not_touch_a_node_opens_no_row_there() {
    let (cluster, rack) = rack(&["n1", "n2"]).await;
    cluster.set("policy", &["6"], &[("name", "ann"), ("noderange", "n1"), ("rule", "allow")]).await;
    let ann = cluster.forged(Role::Admin, "ann");
    let mut refused = Client::of(&cluster, &ann, "getadapter n1-n2", id()).await;
    let (mut root, mut allowed) = (
        Client::start(&cluster, "getadapter n1").await,
        Client::of(&cluster, &ann, "getadapter n1", id()).await,
    );
    assert_ne!(refused.finish().await, 0);
    assert!(refused.err.contains("Permission denied"), "{}", refused.err);
    until(|| cluster.waiters("n1") == 2 && rack.boots("n1") == 1).await;
    assert_eq!(cluster.task("n2"), "", "no row was written");
    rack.answer("n1").await;
    assert_eq!((root.finish().await, allowed.finish().await), (0, 0));
    assert!(!rack.asked().iter().any(|asked| asked.ends_with("n2")), "{:?}", rack.asked());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_from_somebody_without_a_certificate_reaches_nobody() {
    let (cluster, rack) = rack(&["n1"]).await;
    let mut client = waiting(&cluster, &rack, "getadapter n1", &["n1"]).await;
    let endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let pin = link::pki::pin(&cluster.admin().ca_pem).unwrap();
    if let Ok(connection) = endpoint.dial_pinned(cluster.address(), pin, wire::ALPN_MAIN).await {
        tokio::time::timeout(LIMIT, connection.closed()).await.expect("it is turned away");
    }
    // A node, an admin, and a service node that never joined are no service nodes either.
    for (role, name) in [(Role::Node, "n1"), (Role::Admin, "root"), (Role::ServiceNode, "sn7")] {
        let credentials = cluster.forged(role, name);
        let dial = endpoint.dial(cluster.address(), &credentials, wire::ALPN_MAIN, Role::Master);
        let Ok(connection) = dial.await else { continue };
        let Ok(mut exchange) = connection.open().await else { continue };
        let report = wire::rack::FromRack::Report(wire::rack::RackReport::Node {
            node: "n1".into(),
            report: Report::Adapters(vec![adapter("evil")]),
            at: 0,
        });
        let answer: Result<RackAnswer, _> = exchange.ask(&report, LIMIT).await;
        assert!(matches!(&answer, Err(_) | Ok(RackAnswer::Denied { .. })), "{role}: {answer:?}");
    }
    assert_eq!(
        (cluster.text("n1", "nics.nicsadapter").as_str(), cluster.task("n1").as_str()),
        ("", "waiting")
    );
    rack.answer("n1").await;
    assert_eq!(client.finish().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_message_of_2015_is_refused_and_nothing_is_stored() {
    let (cluster, rack) = rack(&["n1"]).await;
    let (_, err, status) = Client::run(&cluster, "findadapter n1").await;
    assert!(status != 0 && err.contains("findadapter"), "{err}");
    let xml = "<xcatrequest><command>findadapter</command><hostname>n1</hostname><nic><interface>eno1</interface>\
               <mac>02:00:00:00:00:01</mac></nic></xcatrequest>";
    let endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    for credentials in [cluster.admin(), cluster.forged(Role::ServiceNode, "sn7")] {
        let dial = endpoint.dial(cluster.address(), &credentials, wire::ALPN_MAIN, Role::Master);
        let connection = dial.await.unwrap();
        let mut exchange = connection.open().await.unwrap();
        exchange.sender.send_bytes(xml.as_bytes()).await.unwrap();
        let answer = tokio::time::timeout(LIMIT, exchange.receiver.recv_bytes()).await.expect("it is ended");
        assert!(!matches!(answer, Ok(Some(_))), "{answer:?}");
    }
    cluster.change(vec![RowChange::set("site", &["x"], &[("value", "1")])]).await;
    assert_eq!((cluster.text("n1", "nics.nicsadapter").as_str(), cluster.task("n1").as_str()), ("", ""));
    assert!(rack.asked().is_empty());
}
