//! Changes that are too large for one entry of the log: whole or not at all, whoever is killed meanwhile.

use std::sync::Arc;
use std::time::Duration;

use service::Drain;
use state::{Content, Entry, Part, RowChange};

use crate::cluster::{Call, Client, Cluster, call, make, until};
use crate::process::{Process, client};

/// Nodes of one change; with their comments it is several entries large.
const NODES: usize = 4_000;

fn large(name: &str) -> Call {
    call(&format!("nodeadd {name}[0001-{NODES}] groups=all,{name} nodelist.comments={}", "x".repeat(600)))
}

/// How many nodes the change has made, as anybody sees it.
async fn count(client: &Client, name: &str) -> usize {
    // Bare, for a group without nodes is an error.
    client.ok("nodels").await.lines().filter(|node| node.starts_with(name)).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_in_parts_is_whole_or_not_there_when_the_master_is_killed_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), 1);
    let client = Arc::new(client(dir.path(), 1));
    let mut process = Process::start(dir.path(), 1);
    let drain = Drain::new();
    for (name, moment) in [("a", 5), ("b", 40), ("c", 120)] {
        let wanted = large(name);
        let again = Call { run: wanted.run.clone(), ..large(name) };
        let working = client.clone();
        let work = drain.spawn("nodeadd", async move { working.finish(wanted).await });
        tokio::time::sleep(Duration::from_millis(moment)).await;
        process.kill();
        process = Process::start(dir.path(), 1);
        let found = count(&client, name).await;
        assert!([0, NODES].contains(&found), "{found} of {NODES}");
        assert_eq!(work.await.unwrap().unwrap().status, 0);
        assert_eq!(count(&client, name).await, NODES);
        // The same request once more changes nothing.
        let revision = client.ok("margay log -n 1").await;
        assert_eq!(client.finish(again).await.unwrap().status, 0);
        assert_eq!(client.ok("margay log -n 1").await, revision);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_that_their_leader_left_behind_are_swept_away_by_the_next_one() {
    let mut cluster = Cluster::start(3).await;
    let first = cluster.leader().unwrap();
    let changes = vec![RowChange::set("nodelist", &["n1"], &[("groups", "all")])];
    let part = Part { stage: 7, number: 0, time: u64::MAX, content: Content::Changes(changes) };
    cluster.core(first).propose(&Entry::Part(part)).await.unwrap();
    let stages = |cluster: &Cluster, index: usize| cluster.core(index).read(|s| s.stages().count());
    for index in 0..3 {
        until("every member has the part", || stages(&cluster, index) == 1).await;
    }
    cluster.stop_member(first).await;
    let others: Vec<usize> = (0..3).filter(|index| *index != first).collect();
    for index in &others {
        until("the part is gone", || stages(&cluster, *index) == 0).await;
    }
    cluster.start_member(first).await;
    until("the part is gone everywhere", || stages(&cluster, first) == 0).await;
    // A large change is the same on every member, and a member that was away gets it.
    cluster.stop_member(others[0]).await;
    let admin = cluster.admin();
    assert_eq!(admin.finish(large("big")).await.unwrap().status, 0);
    cluster.start_member(others[0]).await;
    let leader = cluster.leader().unwrap();
    let digest = cluster.core(leader).read(|state| state.digest());
    for index in 0..3 {
        until("the members are equal", || cluster.core(index).read(|state| state.digest()) == digest).await;
        assert_eq!(stages(&cluster, index), 0);
    }
    assert_eq!(count(&admin, "big").await, NODES);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_and_an_answer_larger_than_a_message_arrive_whole_and_a_reader_that_leaves_ends_the_work() {
    let cluster = Cluster::start(1).await;
    let admin = cluster.admin();
    for name in ["a", "b"] {
        assert_eq!(admin.finish(large(name)).await.unwrap().status, 0);
    }
    let shown = admin.ok("tabdump nodelist").await;
    assert!(shown.len() > wire::frame::MAX_FRAME, "{} bytes", shown.len());
    assert_eq!(shown.lines().count(), 2 * NODES + 1);
    let said = admin.run("tabdump -f all.csv nodelist").await;
    assert_eq!(said.files["all.csv"], shown.as_bytes());
    for (command, file) in
        [("margay export there", "there/nodelist.csv"), ("dumpxCATdb -p dumped", "dumped/nodelist.csv")]
    {
        let said = admin.run(command).await;
        assert_eq!(said.status, 0, "{command}: {}", said.err);
        assert_eq!(
            said.files[file].iter().filter(|byte| **byte == b'\n').count(),
            2 * NODES + 1,
            "{command}"
        );
    }
    // One that stops reading holds nobody up, and its request does not stay.
    let request = wire::client::Request::Run(call("tabdump nodelist").run);
    let exchange = admin.open(0, &request).await.unwrap();
    assert_eq!(admin.ok("nodels a0001").await, "a0001\n");
    admin.ok("nodech a0001 nodehm.mgt=ipmi").await;
    drop(exchange);
    assert_eq!(admin.ok("nodels a0001 nodehm.mgt").await, "a0001: ipmi\n");
}
