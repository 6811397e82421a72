//! Policy on the real path of requests: the matrix, what is written down of it, and what denied people are told.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use link::{Connection, Endpoint, Role, Settings};
use service::Clock;
use service::clock::Manual;
use state::RowChange;
use wire::client::{Answer, Request};
use wire::op::Stream;

use crate::cluster::{Cluster, call, credentials};

/// 2026-11-23, a Monday.
const MONDAY: u64 = 1_795_392_000;

fn golden(name: &str) -> String {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/policy");
    std::fs::read_to_string(folder.join(name)).unwrap()
}

/// The nodes and rules of the matrix. Rules that cannot be read are refused to clients, so they come from below.
fn world() -> Vec<RowChange> {
    let mut changes = vec![
        RowChange::Clear { table: "policy".into() },
        RowChange::set("site", &["excludenodes"], &[("value", "hidden1")]),
    ];
    for line in golden("world.txt").lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split(' ').collect();
        changes.push(RowChange::set("nodelist", &[words[0]], &[("groups", words[1])]));
        changes.push(RowChange::set("nodehm", &[words[0]], &[("mgt", "ipmi")]));
        if let Some(address) = words.get(2) {
            changes.push(RowChange::set("hosts", &[words[0]], &[("ip", address)]));
        }
    }
    let (columns, records) = commands::csv::parse(golden("rules.csv").as_bytes()).unwrap();
    for record in records {
        let cells: Vec<(String, String)> = columns.iter().cloned().zip(record.values).collect();
        let key = vec![cells[0].1.clone()];
        changes.push(RowChange::Set { table: "policy".into(), key, cells });
    }
    changes
}

/// Seconds from Monday to `2026-11-DDThh:mm`.
fn passed(text: &str) -> u64 {
    let number = |range: std::ops::Range<usize>| text[range].parse::<u64>().unwrap();
    (number(8..10) - 23) * 86_400 + number(11..13) * 3600 + number(14..16) * 60
}

/// Runs a line on a connection that is kept; gives standard error.
async fn said(connection: &Connection, line: &str) -> String {
    let mut exchange = connection.open().await.unwrap();
    exchange.send(&Request::Run(call(line).run)).await.unwrap();
    let mut err = String::new();
    while let Some(answer) = exchange.recv::<Answer>().await.unwrap() {
        match answer {
            Answer::Text(text) if text.stream == Stream::Err => {
                err.push_str(&String::from_utf8_lossy(&text.text));
            }
            Answer::Done { .. } => return err,
            _ => {}
        }
    }
    panic!("{line}: no end")
}

/// How many requests were written down, and the rule and status of the newest, in the log and in the ring of reads.
fn written(cluster: &Cluster) -> [(usize, String); 2] {
    let core = cluster.core(0);
    let log = core.read(|state| {
        let table = state.named("auditlog").unwrap();
        let text = |row: &state::Row, column| row.text(table.def().column(column).unwrap()).to_owned();
        let newest = table.rows().last().map(|(_, row)| text(row, "rule") + " " + &text(row, "status"));
        (table.rows().count(), newest.unwrap_or_default())
    });
    let reads = core.questions.all();
    let newest = reads.last().map_or_else(String::new, |record| record.rule.clone() + " Read");
    [log, (reads.len(), newest)]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_verdict_of_the_matrix_is_what_happens_and_what_is_written_down() {
    let clock = Manual::new(MONDAY);
    let cluster = Cluster::start_all(1, Clock::Manual(clock.clone()), |_| ()).await;
    cluster.core(0).change("matrix", world()).await.unwrap();
    let mut connections: HashMap<(String, String), Connection> = HashMap::new();
    let mut now = 0;
    let mut wrong = Vec::new();
    let matrix = golden("matrix.txt");
    for line in matrix.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let words: Vec<&str> = line.splitn(7, ' ').collect();
        let [time, user, host, verdict, rule, scope, command] = words[..] else { panic!("{line}") };
        clock.advance(Duration::from_secs(passed(time).checked_sub(now).expect("the lines are in order")));
        now = passed(time);
        let key = (user.to_owned(), host.to_owned());
        if !connections.contains_key(&key) {
            let address = format!("127.0.0.{host}:0").parse().unwrap();
            let endpoint = Endpoint::client_with(address, Settings::small()).unwrap();
            let credentials = credentials(cluster.dir.path(), Role::Admin, user);
            let master = cluster.addresses()[0];
            let dialed = endpoint.dial(master, &credentials, wire::ALPN_MAIN, Role::Master).await.unwrap();
            connections.insert(key.clone(), dialed);
        }
        let before = written(&cluster);
        let err = said(&connections[&key], command).await;
        let after = written(&cluster);
        let rule = if rule == "-" { "" } else { rule };
        let newest = if after[0].0 > before[0].0 { &after[0].1 } else { &after[1].1 };
        let right = match verdict {
            "deny" => {
                let reason = match rule {
                    "" => "Permission denied for request (no policy rule allows it".to_owned(),
                    rule => format!("Permission denied for request (policy rule {rule}"),
                };
                let told = err.split_once(&reason).is_some_and(|(_, rest)| rest.starts_with([')', ',']));
                told && err.contains("would touch") == (scope == "touched")
                    && *newest == format!("{rule} Denied")
            }
            _ => {
                let read = format!("{rule} Read");
                !err.contains("Permission denied") && [read, format!("{rule} Allowed")].contains(newest)
            }
        };
        if !right {
            wrong.push(format!("{line}\n    {newest}: {err}"));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    for connection in connections.values() {
        connection.close(link::close::DONE, "done");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_are_tested_and_rehearsed_on_what_was_asked_before() {
    let cluster = Cluster::start(1).await;
    let admin = cluster.admin();
    admin.ok("nodeadd n1,n2 groups=all").await;
    admin.ok("chtab priority=5 policy.name=bob policy.commands=nodels,nodech,chtab policy.rule=allow").await;
    admin.ok("chtab priority=4 policy.noderange=n2 policy.commands=chtab policy.rule=deny").await;
    let bob = cluster.client(Role::Admin, "bob");
    bob.ok("nodels n1").await;
    bob.ok("nodech n1 nodelist.comments=x").await;
    let said = bob.run("chtab node=n2 nodehm.cons=x").await;
    let denial = "Permission denied for request (policy rule 4, for n2, which the command would touch)";
    assert_eq!((said.err, said.status), (format!("Error: [mn01]: {denial}\n"), 1));
    assert!(bob.run("noderm n1").await.err.contains("(no policy rule allows it)"));

    let said = admin.run("margay policy test bob chtab node=n2 nodehm.cons=x").await;
    assert!(said.out.starts_with("denied (policy rule 4, for n2,") && said.status == 1, "{said:?}");
    let out = admin.ok("margay policy test --host 10.0.0.1 bob margay nodels n1").await;
    assert_eq!(out, "allowed (policy rule 5): name=bob commands=nodels,nodech,chtab rule=allow\n");
    // What needs a file of the client, the past or the master's machine is planned all the same.
    let mut restore = call("margay policy test -v root tabrestore site.csv");
    restore = restore.file("site.csv", "#key,value\n\"domain\",\"x\"\n");
    let said = admin.finish(restore).await.unwrap();
    assert!(said.out.contains("allowed (policy rule 1)") && said.status == 0, "{said:?}");
    assert_eq!(admin.ok("margay policy test root margay undo 2").await.lines().count(), 1);
    assert_eq!(
        admin.ok("nodels n1 nodelist.comments nodehm.cons").await,
        "n1: nodehm.cons: \nn1: nodelist.comments: x\n"
    );
    assert!(admin.run("margay policy test bob nosuch").await.err.contains("Unknown command: nosuch"));
    assert_eq!(admin.run("margay policy test bob").await.status, 1);
    assert!(
        admin
            .run("chtab priority=6 policy.name=bob policy.time=soon")
            .await
            .err
            .contains("nothing was changed")
    );

    let rules = admin.ok("tabdump policy").await;
    let rehearsed = |text: String| {
        let call = call("margay policy rehearse new.csv --since 1h").file("new.csv", &text);
        let admin = &admin;
        async move { admin.finish(call).await.unwrap() }
    };
    assert!(rehearsed(rules.clone()).await.out.ends_with("No verdict would be another one.\n"));
    let said =
        rehearsed(rules.replace("nodels,nodech,chtab", "noderm,chtab").replace("\"n2\"", "\"n9\"")).await;
    assert!(said.out.contains("2 would be denied and are allowed now:\n"), "{said:?}");
    for line in [
        "       1  bob  nodech  (no rule; now rule 5)",
        "       1  bob  nodels  (no rule; now rule 5)",
        "       1  bob  chtab  (rule 5; now rule 4)",
        "       1  bob  noderm  (rule 5; now no rule)",
    ] {
        assert!(said.out.contains(line), "{line} is not in\n{}", said.out);
    }
    assert_eq!(admin.ok("tabdump policy").await, rules);

    let denied = admin.ok("margay audit --denied -u bob").await;
    assert!(denied.contains("  bob  127.0.0.1  Denied by rule 4  chtab node=n2 nodehm.cons=x\n"), "{denied}");
    assert_eq!(denied.lines().count(), 2, "{denied}");
    let reads = admin.ok("margay audit --reads -u bob").await;
    assert!(
        reads.ends_with("  bob  127.0.0.1  Read by rule 5  nodels n1\n") && reads.lines().count() == 1,
        "{reads}"
    );
    assert!(!admin.ok("tabdump -n 1 auditlog").await.contains("touched"), "hidden columns are not dumped");
}
