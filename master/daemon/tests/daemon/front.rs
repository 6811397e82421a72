//! Who is let in, what is answered, what is written down.

use link::{Endpoint, Role};
use wire::client::{Answer, Request};

use crate::cluster::{Client, Cluster, call, credentials, make, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_change_rows_and_answer() {
    let cluster = Cluster::start(1).await;
    let admin = cluster.admin();
    assert_eq!(admin.ok("nodeadd n1-n3 groups=all,compute").await, "");
    assert_eq!(admin.ok("nodels compute").await, "n1\nn2\nn3\n");
    let said = admin.run("nodels n99").await;
    assert_eq!(
        (said.err.as_str(), said.status),
        ("Error: Invalid nodes and/or groups in noderange: n99\n", 1)
    );
    let said = admin.run("nosuchcommand").await;
    assert!(said.err.contains("Unknown command: nosuchcommand") && said.status == 1, "{said:?}");
    let said = admin.run("nodels --nosuchoption").await;
    assert_eq!(said.status, 1);
    let status = admin.ok("margay status").await;
    assert!(status.contains("master m1: leader"), "{status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_another_cluster_or_of_a_node_is_refused() {
    let cluster = Cluster::start(1).await;
    let other = tempfile::tempdir().unwrap();
    make(other.path(), 1);
    let stranger = Client::new(credentials(other.path(), Role::Admin, "root"), cluster.addresses());
    assert!(stranger.open(0, &Request::Run(call("nodels").run)).await.is_err());
    let node = cluster.client(Role::Node, "n1");
    if let Ok(mut exchange) = node.open(0, &Request::Run(call("nodels").run)).await {
        assert!(exchange.recv::<Answer>().await.is_err());
    }
    assert_eq!(cluster.admin().ok("nodels").await, "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_denial_names_the_rule_is_audited_and_changes_nothing() {
    let cluster = Cluster::start(1).await;
    let admin = cluster.admin();
    admin.ok("nodeadd n1,n2 groups=all").await;
    admin.ok("chtab priority=5 policy.name=bob policy.commands=nodels,rpower policy.noderange=n1 policy.rule=allow").await;
    admin.ok("chtab priority=6 policy.name=bob policy.commands=noderm policy.rule=deny").await;
    let bob = cluster.client(Role::Admin, "bob");
    assert_eq!(bob.ok("nodels n1").await, "n1\n");
    let said = bob.run("noderm n1").await;
    assert_eq!(said.err, "Error: [mn01]: Permission denied for request (policy rule 6)\n");
    assert_eq!(said.status, 1);
    let said = bob.run("nodels n2").await;
    assert!(said.err.contains("no policy rule allows it"), "{said:?}");
    assert_eq!(admin.ok("nodels all").await, "n1\nn2\n");
    let audit = admin.ok("tabdump auditlog").await;
    assert!(
        audit.lines().any(|l| l.contains("\"bob\"") && l.contains("\"noderm\"") && l.contains("\"Denied\"")),
        "{audit}"
    );
    assert!(
        audit
            .lines()
            .any(|l| l.contains("\"root\"") && l.contains("\"nodeadd\"") && l.contains("\"Allowed\""))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policy_knows_the_members_of_a_group_and_the_rows_that_a_restored_table_loses() {
    let cluster = Cluster::start(1).await;
    let admin = cluster.admin();
    admin.ok("nodeadd n1,n2 groups=all,g nodepos.rack=R1").await;
    admin.ok("nodeadd n3 groups=own").await;
    admin.ok("chtab priority=5 policy.name=bob policy.noderange=n2 policy.rule=deny").await;
    admin.ok("chtab priority=6 policy.name=bob policy.commands=chtab,tabrestore policy.rule=allow").await;
    let bob = cluster.client(Role::Admin, "bob");
    bob.ok("chtab node=own nodepos.rack=R9").await;
    let before = admin.ok("tabdump nodepos").await;
    let only = "#node,rack\n\"n1\",\"R2\"\n";
    for call in
        [call("chtab node=g nodepos.rack=R9"), call("tabrestore nodepos.csv").file("nodepos.csv", only)]
    {
        let said = bob.finish(call).await.unwrap();
        assert!(said.status == 1 && said.err.contains("policy rule 5"), "{said:?}");
    }
    assert_eq!(admin.ok("tabdump nodepos").await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_sent_twice_is_executed_once() {
    let cluster = Cluster::start(1).await;
    let admin = cluster.admin();
    let run = call("mkdef -t node -o n1 groups=all").run;
    let twice = || crate::cluster::Call { run: run.clone(), ..call("x") };
    let first = admin.finish(twice()).await.unwrap();
    assert_eq!((first.status, first.err.as_str()), (0, ""), "{first:?}");
    let revision = cluster.core(0).read(state::State::revision);
    assert_eq!(admin.finish(twice()).await.unwrap(), first);
    assert_eq!(cluster.core(0).read(state::State::revision), revision);
    assert_eq!(admin.run("mkdef -t node -o n1 groups=all").await.status, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_master_has_what_it_acknowledged() {
    let mut cluster = Cluster::start(1).await;
    cluster.admin().ok("nodeadd n1-n9 groups=all").await;
    cluster.stop_member(0).await;
    cluster.start_member(0).await;
    cluster.founded().await;
    assert_eq!(cluster.admin().ok("nodels all").await.lines().count(), 9);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_and_standard_input_come_from_the_client() {
    let cluster = Cluster::start(1).await;
    let admin = cluster.admin();
    admin.ok("nodeadd n1-n3 groups=all").await;
    let said = admin.finish(call("nodels ^/tmp/list").file("/tmp/list", "n2\nn3\n")).await.unwrap();
    assert_eq!(said.out, "n2\nn3\n");
    let table = "#node,os,arch,profile,provmethod,supportedarchs,nodetype,comments,disable\n\"n1\",,\"x86_64\",,,,,,\n";
    let said =
        admin.finish(call("tabrestore /tmp/nodetype.csv").file("/tmp/nodetype.csv", table)).await.unwrap();
    assert_eq!((said.status, said.err.as_str()), (0, ""));
    assert_eq!(admin.ok("nodels n1 nodetype.arch").await, "n1: x86_64\n");
    let said = admin.run("tabrestore /nonexistent/site.csv").await;
    assert_ne!(said.status, 0);
    let stanza = "n4:\n    objtype=node\n    groups=all\n";
    let said = admin.finish(call("mkdef -z").stdin(stanza.as_bytes())).await.unwrap();
    assert_eq!(said.status, 0, "{said:?}");
    assert_eq!(admin.ok("nodels n4").await, "n4\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edited_table_comes_back_from_the_client_and_what_cannot_be_stored_changes_nothing() {
    let cluster = Cluster::start(1).await;
    let admin = cluster.admin();
    admin.ok("nodeadd n1-n2 groups=all nodepos.rack=R1").await;
    let before = admin.ok("tabdump nodepos").await;
    let edited = before.replacen("R1", "R7", 1);
    let said = admin.finish(call("tabedit nodepos").file("nodepos.csv", &edited)).await.unwrap();
    assert_eq!((said.status, said.out.as_str(), said.err.as_str()), (0, "", ""));
    assert_eq!(admin.ok("tabdump nodepos").await, edited);
    // This client has no editor.
    let said = admin.run("tabedit nodepos").await;
    assert_eq!((said.status, said.err.contains("No such file or directory")), (1, true), "{said:?}");
    assert_eq!(admin.ok("tabdump nodepos").await, edited);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn makehosts_writes_the_hosts_file_of_the_master() {
    let cluster = Cluster::start(1).await;
    let hosts = cluster.dir.path().join("hosts");
    std::fs::write(&hosts, "127.0.0.1 localhost\n").unwrap();
    let admin = cluster.admin();
    admin.ok("nodeadd n1 groups=all hosts.ip=10.0.0.1").await;
    admin.ok("makehosts").await;
    let text = std::fs::read_to_string(&hosts).unwrap();
    assert!(
        text.starts_with("127.0.0.1 localhost\n") && text.contains("10.0.0.1 n1 n1.cluster.test"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_conversations_are_dropped_and_the_master_lives() {
    let cluster = Cluster::start(1).await;
    let admin = cluster.admin();
    let address = cluster.addresses()[0];
    let connection =
        admin.endpoint.dial(address, &admin.credentials, wire::ALPN_MAIN, Role::Master).await.unwrap();
    let mut garbage = connection.open().await.unwrap();
    garbage.sender.send_bytes(&[0xff; 100]).await.unwrap();
    assert!(garbage.recv::<Answer>().await.is_err());
    let mut huge = connection.open().await.unwrap();
    let mut run = call("nodels").run;
    run.argv = vec!["x".repeat(1024); 5000];
    assert!(huge.send(&Request::Run(run)).await.is_err(), "more than a frame holds");
    let mut cut = connection.open().await.unwrap();
    cut.send(&Request::Run(call("nodels").run)).await.unwrap();
    drop(cut);
    let raw = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    for length in [0, 1, 20, 1200, 1472] {
        raw.send_to(&vec![0xc3; length], address).unwrap();
    }
    assert_eq!(admin.ok("nodels").await, "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_passes_its_clients_on_to_the_leader() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().unwrap();
    let admin = cluster.admin();
    for index in (0..3).filter(|index| *index != leader) {
        let only = Client {
            endpoint: Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap(),
            credentials: admin.credentials.clone(),
            masters: vec![cluster.addresses()[index]],
        };
        let node = format!("n{index}");
        only.ok(&format!("nodeadd {node} groups=all")).await;
        assert_eq!(only.ok(&format!("nodels {node}")).await, format!("{node}\n"));
    }
    let audit = admin.ok("tabdump auditlog").await;
    assert_eq!(audit.matches("\"nodeadd\"").count(), 2);
    assert!(audit.contains("\"root\"") && audit.contains("\"127.0.0.1\""), "{audit}");
    until("all have the same rows", || {
        let revision = cluster.core(leader).read(state::State::revision);
        (0..3).all(|index| cluster.core(index).read(state::State::revision) == revision)
    })
    .await;
}
