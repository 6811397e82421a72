//! Monitoring plug-ins: programs and Perl modules that a real daemon's process asks, and what a bad one does to others.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use wire::op::{Event, NodeOp, NodeReply};

use crate::cluster::{Cluster, LONG, until};
use crate::rack::Rack;

/// A plug-in that writes down what it is asked, with the nodes and its settings.
fn program(dir: &Path, name: &str, more: &str) -> PathBuf {
    let script = format!(
        "#!/bin/sh\nnodes=$(tr '\\n' ' ')\necho \"$1 $MARGAY_SCOPE $nodes$MARGAY_SETTINGS\" >>{0}/{name}.log\n\
         case $1 in {more}\nsupportNodeStatusMon) echo 1;;\nprocessSettingChanges) exit 3;;\n\
         start) echo watching;;\nesac\n",
        dir.display()
    );
    let path = dir.join(name);
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    path
}

/// The same as a Perl module.
fn module(dir: &Path, name: &str) {
    let functions = ["stop", "startNodeStatusMon", "stopNodeStatusMon", "addNodes", "removeNodes", "config"];
    let subs: String = functions
        .iter()
        .map(|name| format!("sub {name} {{ note('{name}', @_); return (0, '') }}\n"))
        .collect();
    let text = format!(
        "package xCAT_monitoring::{name};\nuse strict;\nuse xCAT_monitoring::monitorctrl;\n\
         sub note {{\n  my ($function, $nodes, $scope) = @_;\n  \
         my %set = xCAT_monitoring::monitorctrl->getPluginSettings('{name}');\n  \
         open my $out, '>>', '{0}/{name}.log' or die;\n  \
         print $out join(' ', $function, $scope, @$nodes, map({{ \"$_=$set{{$_}}\" }} sort keys %set)), \"\\n\";\n}}\n\
         sub start {{ note('start', @_); $_[2]->({{data => ['from the callback']}}); return (0, 'on') }}\n\
         sub supportNodeStatusMon {{ 1 }}\nsub getDescription {{ \"  It is Perl.\" }}\n\
         sub deconfig {{ return (5, 'cannot be undone') }}\n{subs}1;\n",
        dir.display()
    );
    std::fs::write(dir.join(format!("{name}.pm")), text).unwrap();
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

async fn says(path: &Path, wanted: &str) {
    until(&format!("{} says {wanted:?}", path.display()), || text(path).contains(wanted)).await;
}

async fn cluster(count: usize, plugins: &Path, deadline: u64) -> Cluster {
    Cluster::start_with(count, |config| {
        config.monitor.runner = env!("CARGO_BIN_EXE_margayd").into();
        config.monitor.plugins = plugins.to_owned();
        config.monitor.deadline = deadline;
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn programs_and_perl_modules_are_started_told_of_nodes_and_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let log = |name: &str| dir.path().join(format!("{name}.log"));
    program(dir.path(), "shellmon", "");
    module(dir.path(), "perlmon");
    std::fs::write(dir.path().join("no-program"), "").unwrap();
    let mut cluster = cluster(1, dir.path(), 60).await;
    let admin = cluster.admin();
    admin.ok("nodeadd n1,n2 groups=all").await;

    let all = admin.ok("monls -a").await;
    assert_eq!(all, "perlmon\t\tnot-monitored\nshellmon\t\tnot-monitored\nxcatmon\t\tnot-monitored\n");
    admin.ok("monadd shellmon -n -s colour=red").await;
    admin.ok("monadd perlmon -s colour=blue").await;
    assert_eq!(admin.ok("monstart shellmon").await, "m1: watching\n");
    assert_eq!(admin.ok("startmon perlmon").await, "m1: from the callback\nm1: on\n");
    assert_eq!(
        admin.ok("monls").await,
        "shellmon\t\tmonitored\tnode-status-monitored\nperlmon\t\tmonitored\n"
    );
    assert!(admin.ok("monls perlmon -d").await.ends_with("\n  It is Perl.\n"));
    assert!(admin.ok("margay status").await.contains("monitoring: perlmon, shellmon\n"));
    assert_eq!(admin.ok("monstart shellmon n2 -r").await, "m1: watching\n");
    admin.ok("moncfg perlmon n1").await;
    let wrong = admin.run("mondecfg perlmon").await;
    assert!(wrong.status == 1 && wrong.out == "m1: cannot be undone\n", "{wrong:?}");

    admin.ok("nodeadd n3,n4 groups=all").await;
    says(&log("shellmon"), "addNodes 0 n3 n4 ").await;
    says(&log("perlmon"), "addNodes 0 n3 n4 ").await;
    admin.ok("noderm n1").await;
    says(&log("shellmon"), "removeNodes 0 n1 ").await;
    says(&log("perlmon"), "removeNodes 0 n1 ").await;
    admin.ok("chtab name=perlmon,key=colour monsetting.value=green").await;
    assert_eq!(admin.ok("monstop perlmon").await, "m1: stopped\n");
    admin.ok("monrm perlmon").await;
    assert_eq!(
        text(&log("perlmon")),
        "start 0 colour=blue\nconfig 0 n1 colour=blue\naddNodes 0 n3 n4 colour=blue\n\
         removeNodes 0 n1 colour=blue\nstop 0 colour=green\n"
    );

    // The row of the table starts it again with the master, and its end stops it.
    cluster.stop_member(0).await;
    cluster.start_member(0).await;
    let red = "{\"colour\":\"red\"}";
    let expected = format!(
        "start 0 {red}\nsupportNodeStatusMon 0 {red}\nstartNodeStatusMon 0 {red}\nstart 2 n2 {red}\n\
         addNodes 0 n3 n4 {red}\nremoveNodes 0 n1 {red}\nstopNodeStatusMon 0 {red}\nstop 0 {red}\n\
         start 0 {red}\nsupportNodeStatusMon 0 {red}\nstartNodeStatusMon 0 {red}\n"
    );
    until("it runs again", || text(&log("shellmon")) == expected).await;
    let admin = cluster.admin();
    admin.ok("chtab name=shellmon monitoring.nodestatmon=N").await;
    until("it keeps no status", || text(&log("shellmon")).matches("stopNodeStatusMon").count() == 2).await;
    admin.ok("chtab -d name=shellmon monitoring").await;
    until("it is stopped", || text(&log("shellmon")).matches("\nstop ").count() == 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plug_in_runs_where_the_leader_is_and_stops_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    program(dir.path(), "shellmon", "");
    let log = dir.path().join("shellmon.log");
    let mut cluster = cluster(3, dir.path(), 60).await;
    let admin = cluster.admin();
    admin.ok("chtab name=shellmon monitoring.nodestatmon=N").await;
    says(&log, "start 0").await;
    let leader = cluster.leader().unwrap();
    cluster.stop_member(leader).await;
    until("the next leader starts it", || text(&log).matches("start 0").count() == 2).await;
    assert_eq!(text(&log).matches("stop 0").count(), 1, "{}", text(&log));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_plug_in_is_ended_and_reported_and_delays_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let pids = dir.path().join("pids");
    let hang = format!("start) setsid sleep 1000 & echo $! >>{}; sleep 1000;;", pids.display());
    program(dir.path(), "hangmon", &hang);
    program(dir.path(), "floodmon", "start) exec yes;;");
    program(dir.path(), "failmon", "start) echo no licence >&2; exit 7;;");
    program(dir.path(), "blindmon", "supportNodeStatusMon) echo 0; exit 0;;");
    program(dir.path(), "goodmon", "");
    std::fs::write(dir.path().join("brokenmon.pm"), "package xCAT_monitoring::brokenmon;\nsub start { oops")
        .unwrap();
    let cluster = cluster(1, dir.path(), 1).await;
    let admin = cluster.admin();
    let why = [
        ("hangmon", "start: it did not end within 1 s and was killed"),
        ("floodmon", "start: it ended with signal: 13"),
        ("failmon", "start: it ended with exit status: 7: no licence"),
        ("blindmon", "it does not keep the status of nodes"),
        ("brokenmon", "start: it ended with exit status: 255"),
    ];
    for (name, _) in why {
        admin.ok(&format!("chtab name={name} monitoring.nodestatmon=Y")).await;
    }
    let begin = Instant::now();
    admin.ok("monadd goodmon").await;
    assert_eq!(admin.ok("monstart goodmon").await, "m1: watching\n");
    let alarms = async || {
        let deadline = Instant::now() + LONG;
        loop {
            let status = admin.ok("margay status").await;
            if status.matches("ALARM: monitoring plug-in").count() == why.len() || Instant::now() > deadline {
                return status;
            }
            tokio::task::yield_now().await;
        }
    };
    let status = alarms().await;
    for (name, why) in why {
        let alarm = format!("ALARM: monitoring plug-in {name}: {why}");
        assert!(status.contains(&alarm), "{alarm}: {status} after {:?}", begin.elapsed());
    }
    for pid in text(&pids).lines() {
        assert!(
            !Path::new(&format!("/proc/{pid}")).exists(),
            "what a plug-in started beside its group lives"
        );
    }
    // One that is mended is started at once when somebody asks for it.
    program(dir.path(), "failmon", "");
    assert_eq!(admin.ok("monstart failmon").await, "m1: watching\n");
    let missing = dir.path().join("goodmon");
    std::fs::remove_file(&missing).unwrap();
    let said = admin.run("monstop goodmon").await;
    assert!(said.status == 1 && said.err.contains("there is no program"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_templates_do_every_function() {
    let dir = tempfile::tempdir().unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/monitoring");
    for name in ["templatemon", "perltemplatemon.pm"] {
        std::fs::copy(from.join(name), dir.path().join(name)).unwrap();
    }
    let cluster = cluster(1, dir.path(), 60).await;
    let admin = cluster.admin();
    for name in ["templatemon", "perltemplatemon"] {
        admin.ok(&format!("monadd {name} -n -s a=1")).await;
        assert_eq!(admin.ok(&format!("monstart {name}")).await, "m1: started\n");
        assert!(admin.ok(&format!("monls {name} -d")).await.contains("  A template.\n"));
        admin.ok(&format!("moncfg {name}")).await;
        admin.ok(&format!("mondecfg {name}")).await;
        admin.ok(&format!("nodeadd {name}1 groups=all")).await;
        admin.ok(&format!("chtab name={name},key=a monsetting.value=2")).await;
        assert_eq!(admin.ok(&format!("monstop {name}")).await, "m1: stopped\n");
    }
    assert!(!admin.ok("margay status").await.contains("ALARM"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn xcatmon_writes_the_status_of_nodes_when_it_changes_and_only_then() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = cluster(1, dir.path(), 60).await;
    let admin = cluster.admin();
    admin.ok("nodeadd n[1-3] groups=all").await;
    admin.ok("nodech n3 nodelist.status=booted").await;
    let answers = ["sshd,db", "noping", "booted"].map(str::to_owned);
    let answers = Arc::new(Mutex::new(BTreeMap::from_iter((1..=3).map(|n| format!("n{n}")).zip(answers))));
    let rounds = Arc::new(AtomicU32::new(0));
    let (told, count) = (answers.clone(), rounds.clone());
    let rack = Rack::join(&cluster, "rack1sn").await;
    let drain = rack.answer(move |order, node| {
        let NodeOp::NodeLife(question) = &order.op else { panic!("{:?}", order.op) };
        assert_eq!(
            question.apps.iter().map(|app| (app.name.as_str(), app.port)).collect::<Vec<_>>(),
            [("db", 5432)]
        );
        if node == "n1" {
            count.fetch_add(1, Ordering::SeqCst);
        }
        Event::Reply(NodeReply::Text(told.lock().unwrap()[node].clone()))
    });
    let more_rounds = async || {
        let now = rounds.load(Ordering::SeqCst);
        // The second one begins when the first has written all it had.
        until("two more rounds", || rounds.load(Ordering::SeqCst) >= now + 2).await;
    };
    admin.ok("monadd xcatmon -n -s ping-interval=1s -s apps=db -s db=port=5432").await;
    assert_eq!(admin.ok("monstart xcatmon").await, "m1: started. Refresh interval is 1 second(s).\n");
    more_rounds().await;
    let cells = |node: &str| {
        cluster.core(0).read(|state| {
            ["status", "appstatus", "statustime"]
                .map(|column| state.text(node, &format!("nodelist.{column}")))
        })
    };
    assert_eq!(cells("n1")[..2], ["alive", "sshd,db"]);
    assert_eq!(
        (cells("n1")[2].len(), &cells("n2")[..2]),
        (19, &["unreachable".to_owned(), String::new()][..])
    );
    assert_eq!(cells("n3"), ["booted", "", ""]);
    let revision = cluster.core(0).read(state::State::revision);
    more_rounds().await;
    assert_eq!(cluster.core(0).read(state::State::revision), revision, "a round without news writes nothing");

    answers.lock().unwrap().insert("n3".into(), "noping".into());
    answers.lock().unwrap().insert("n2".into(), "ping".into());
    until("n3 is unreachable", || cells("n3")[0] == "unreachable" && cells("n2")[0] == "alive").await;
    assert_eq!(
        cluster.core(0).read(state::State::revision),
        revision + 1,
        "one write for all news of a round"
    );
    admin.ok("monstop xcatmon").await;
    let stopped = rounds.load(Ordering::SeqCst);
    admin.ok("monls").await;
    assert!(rounds.load(Ordering::SeqCst) <= stopped + 1);
    drain.stop();
}
