//! Handlers of changes: what they are told, that it is once and in order, and what a bad one does to others.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cluster::{Client, Cluster, LONG, make, until};
use crate::process::{Process, client};

/// A handler in a folder of its own.
fn handler(dir: &Path, name: &str, script: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    path
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

async fn says(path: &Path, wanted: &str) {
    let what = format!("{} says {wanted:?}", path.display());
    until(&what, || text(path).contains(wanted)).await;
}

/// A handler that ships.
fn sample(name: &str) -> String {
    text(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/handlers").join(name))
}

async fn cluster(set: impl Fn(&mut master::Config)) -> Cluster {
    Cluster::start_with(1, |config| {
        config.notify.runner = env!("CARGO_BIN_EXE_margayd").into();
        set(config);
    })
    .await
}

/// A web server that answers so many requests in turn with these lines, and gives what it got.
fn server(
    answers: &'static [&'static str],
    tls: Option<Arc<rustls::ServerConfig>>,
) -> (u16, std::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for answer in answers {
            let Ok((stream, _)) = listener.accept() else { return };
            stream.set_read_timeout(Some(LONG)).unwrap();
            let request = match &tls {
                None => serve(stream, answer),
                Some(config) => {
                    let connection = rustls::ServerConnection::new(config.clone()).unwrap();
                    serve(rustls::StreamOwned::new(connection, stream), answer)
                }
            };
            let _ = tell.send(request);
        }
    });
    (port, told)
}

fn serve(mut stream: impl Read + Write, answer: &str) -> String {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
            if body.len() >= length.parse().unwrap() {
                break;
            }
        }
        match stream.read(&mut buffer) {
            Ok(count) if count > 0 => request.extend_from_slice(&buffer[..count]),
            _ => break,
        }
    }
    let _ = stream.write_all(format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n").as_bytes());
    let _ = stream.flush();
    String::from_utf8(request).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn programs_modules_and_web_servers_are_told_of_the_changes_they_registered_for() {
    let cluster = cluster(|_| ()).await;
    let admin = cluster.admin();
    let dir = tempfile::tempdir().unwrap();
    let out = |name: &str| dir.path().join(name);
    let shown = |name: &str| out(name).display().to_string();
    let first = handler(
        dir.path(),
        "first.sh",
        &format!(
            "{{ echo \"$MARGAY_DELIVERY $MARGAY_ATTEMPT $MARGAY_AUTHOR $#\"; cat; }} >>{}",
            shown("first.out")
        ),
    );
    let json = handler(dir.path(), "json.sh", &format!("cat >>{}", shown("json.out")));
    let told = sample("told").replace("/var/log/told.log", &shown("told.out"));
    let told = handler(dir.path(), "told", told.split_once('\n').unwrap().1);
    admin.ok(&format!("regnotif {} nodelist -o d", told.display())).await;
    let module = sample("xCAT_monitoring/mycode.pm").replace("/var/log/mycode.log", &shown("sample.out"));
    std::fs::create_dir(out("sample")).unwrap();
    std::fs::write(out("sample/mycode.pm"), module).unwrap();
    admin.ok(&format!("regnotif {} nodelist -o d", shown("sample/mycode.pm"))).await;
    std::fs::write(
        out("mycode.pm"),
        format!(
            "package xCAT_monitoring::mycode;\nuse strict;\nsub processTableChanges {{\n  my ($op, $table, $old, $new) = @_;\n  \
             open my $out, '>>', '{}' or die;\n  print $out join('|', $op, $table, map({{ join(',', map {{ $_ // '' }} @$_) }} @$old), \
             map {{ \"$_=$new->{{$_}}\" }} sort keys %$new), \"\\n\";\n  close $out;\n}}\n1;\n",
            shown("mycode.out")
        ),
    )
    .unwrap();
    let (port, posted) = server(&["503 Busy", "204 No Content"], None);
    admin.ok(&format!("regnotif {} nodelist,mac", first.display())).await;
    admin.ok(&format!("regnotif {} nodelist -o a -f json", json.display())).await;
    admin.ok(&format!("regnotif {} nodelist -o u,d", shown("mycode.pm"))).await;
    admin.ok(&format!("regnotif http://127.0.0.1:{port}/hook?x=1 mac -o u")).await;
    admin.ok("nodeadd n1,n2 groups=all").await;
    admin.ok("nodech n1,n2 groups=all,rack1").await;
    admin.ok("chtab node=n1 mac.mac=a,b").await;
    admin.ok("chtab node=n1 mac.mac=c").await;
    admin.ok("noderm n1-n2").await;

    says(&out("first.out"), "d\nnodelist\n").await;
    let columns = "node,groups,status,statustime,appstatus,appstatustime,primarysn,hidden,updatestatus,\
                   updatestatustime,zonename,comments,disable";
    let told = text(&out("first.out"));
    let calls: Vec<&str> = told.split_inclusive('\n').filter(|line| line.ends_with(" 1 root 0\n")).collect();
    assert_eq!(calls.len(), 6, "{told}");
    assert!(
        told.contains("1 root 0\na\nnodelist\n[old value]\n[new value]\ngroups,node\nall,n1\nall,n2\n"),
        "{told}"
    );
    assert!(
        told.contains(&format!(
            "u\nnodelist\n[old value]\n{columns}\nn1,all,,,,,,,,,,,\nn2,all,,,,,,,,,,,\n[new value]\ngroups,node\n\
             \"all,rack1\",n1\n\"all,rack1\",n2\n"
        )),
        "{told}"
    );
    assert!(told.contains("a\nmac\n[old value]\n[new value]\nmac,node\n\"a,b\",n1\n"), "{told}");
    let object: serde_json::Value = serde_json::from_str(&text(&out("json.out"))).unwrap();
    assert_eq!((object["action"].as_str(), object["author"].as_str()), (Some("a"), Some("root")));
    assert_eq!(object["rows"][1]["new"]["node"], "n2");
    says(&out("told.out"), " d nodelist by root\n    [old value]\n").await;
    says(&out("sample.out"), " d nodelist\n    old: node,groups,").await;
    says(&out("sample.out"), "    old: n2,all,rack1,").await;
    says(&out("mycode.out"), "d|nodelist|").await;
    let told = text(&out("mycode.out"));
    assert_eq!(
        told,
        format!(
            "u|nodelist|{columns}|n1,all,,,,,,,,,,,|groups=all,rack1|node=n1\n\
             u|nodelist|{columns}|n2,all,,,,,,,,,,,|groups=all,rack1|node=n2\n\
             d|nodelist|{columns}|n1,all,rack1,,,,,,,,,,,|n2,all,rack1,,,,,,,,,,,\n"
        )
    );
    posted.recv_timeout(LONG).unwrap();
    let request = posted.recv_timeout(LONG).unwrap();
    assert!(request.starts_with("POST /hook?x=1 HTTP/1.1\r\nHost: 127.0.0.1:"), "{request}");
    assert!(
        request.contains("\r\nX-MARGAY-ATTEMPT: 2\r\n") && request.contains("\"mac\":\"a,b\""),
        "{request}"
    );

    let everything = |state: &state::State| {
        let last = state.changed_at("nodelist");
        state.cursors().len() == 6 && state.cursors().values().all(|cursor| cursor.at.revision > last)
    };
    until("everything is told", || cluster.core(0).read(everything)).await;
    let list = admin.ok("margay notification").await;
    assert_eq!(list.lines().filter(|line| line.contains(": has everything; ")).count(), 6, "{list}");
    assert!(list.contains("last failure: call ") && list.contains("503 Busy"), "{list}");
    assert!(admin.ok("margay status").await.contains("notification: 6 handlers, 0 not told"), "{list}");
    admin.ok(&format!("unregnotif {}", first.display())).await;
    assert!(admin.run("regnotif http://u:p@h/ mac").await.err.contains("would be seen by everybody"));
    assert!(admin.run("regnotif /x mac -f xml").await.err.contains("there are value, data and json"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_https_server_is_trusted_by_the_file_that_was_named_and_not_without() {
    let cluster = cluster(|config| config.notify.attempts = 1).await;
    let admin = cluster.admin();
    let dir = tempfile::tempdir().unwrap();
    let issued = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, issued.cert.pem()).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(issued.signing_key.serialize_der()).unwrap();
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![issued.cert.der().clone()], key)
            .unwrap();
    let config = Arc::new(config);
    let (good, posted) = server(&["200 OK"], Some(config.clone()));
    let (bad, _) = server(&["200 OK"], Some(config));
    admin.ok(&format!("regnotif https://localhost:{good}/ nodelist --ca {}", ca.display())).await;
    admin.ok(&format!("regnotif https://localhost:{bad}/ nodelist")).await;
    admin.ok("nodeadd n1 groups=all").await;
    let request = tokio::task::spawn_blocking(move || posted.recv_timeout(LONG).unwrap()).await.unwrap();
    assert!(request.contains("{\"groups\":\"all\",\"node\":\"n1\"}"), "{request}");
    let name = format!("https://localhost:{bad}/");
    let given_up = || cluster.core(0).read(|state| state.cursors()[&name].given_up == 1);
    until("the stranger is given up", given_up).await;
    assert!(admin.ok("margay notification").await.contains("certificate"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_handler_is_bounded_and_reported_and_delays_nobody() {
    let cluster = cluster(|config| {
        config.notify.deadline = 1;
        config.notify.attempts = 2;
        config.notify.pause = 10;
    })
    .await;
    let admin = cluster.admin();
    let dir = tempfile::tempdir().unwrap();
    let shown = |name: &str| dir.path().join(name).display().to_string();
    let hang = format!("sleep 1000 & setsid sleep 1000 & echo $! >>{}; sleep 1000", shown("pids"));
    let scripts = [
        ("hang", hang.as_str()),
        ("flood", "exec yes"),
        ("fail", "echo it is broken >&2; exit 3"),
        ("none", ""),
        ("good", &format!("cat >>{}", shown("good.out"))),
    ];
    for (name, script) in scripts {
        let path = handler(dir.path(), name, script);
        admin.ok(&format!("regnotif {} nodelist -o a", path.display())).await;
    }
    std::fs::remove_file(dir.path().join("none")).unwrap();
    let begin = Instant::now();
    for node in 1..=3 {
        admin.ok(&format!("nodeadd n{node} groups=all")).await;
    }
    says(&dir.path().join("good.out"), "all,n3\n").await;
    let took = begin.elapsed();
    let bad = ["hang", "flood", "fail", "none"];
    let given_up = |count: u64| {
        cluster.core(0).read(|state| bad.iter().all(|name| state.cursors()[&shown(name)].given_up == count))
    };
    until("all are given up", || given_up(3)).await;
    assert!(took < begin.elapsed(), "the good one did not wait for the others");
    let list = admin.ok("margay notification").await;
    for (name, why) in [
        ("hang", "did not end within 1 s and was killed"),
        ("flood", "signal: 13"),
        ("fail", "exit status: 3: it is broken"),
        ("none", "No such file"),
    ] {
        let line = list.lines().find(|line| line.starts_with(&format!("{}: FAILING", shown(name))));
        assert!(line.is_some_and(|line| line.contains(why)), "{list}");
    }
    let status = admin.ok("margay status").await;
    assert_eq!(status.matches("ALARM: notification").count(), 4, "{status}");
    let events = admin.ok("tabdump eventlog").await;
    assert_eq!(events.lines().filter(|line| line.contains("was not told of change")).count(), 4, "{events}");
    // Both attempts of the first change and one for each further change, all of them gone.
    let pids = text(&dir.path().join("pids"));
    assert_eq!(pids.lines().count(), 4);
    for pid in pids.lines() {
        assert!(
            !Path::new(&format!("/proc/{pid}")).exists(),
            "what a handler started beside its group lives"
        );
    }
    // A handler that is mended is told of what comes from then on.
    handler(dir.path(), "fail", &format!("cat >>{}", shown("fail.out")));
    admin.ok("nodeadd n4 groups=all").await;
    says(&dir.path().join("fail.out"), "all,n4\n").await;
    until("it is well", || cluster.core(0).read(|state| !state.cursors()[&shown("fail")].failing)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_compacted_before_a_handler_was_told_is_named_as_a_gap() {
    let cluster = cluster(|_| ()).await;
    let admin = cluster.admin();
    let dir = tempfile::tempdir().unwrap();
    let (gate, out) = (dir.path().join("gate"), dir.path().join("out"));
    // Stands at its first change until the gate is there.
    let fifo = std::process::Command::new("mkfifo").arg(&gate).status().unwrap();
    assert!(fifo.success());
    let script = format!("cat >>{}\ncat <{} >/dev/null", out.display(), gate.display());
    let path = handler(dir.path(), "slow", &script);
    admin.ok(&format!("regnotif {} nodelist -o a", path.display())).await;
    admin.ok("nodeadd n1 groups=all").await;
    says(&out, "all,n1\n").await;
    admin.ok("nodeadd n2 groups=all").await;
    admin.ok("chtab key=k site.value=x").await;
    let said = admin.run("margay compact now").await;
    assert!(
        said.err.contains("has not been told of everything up to revision") && said.status == 1,
        "{said:?}"
    );
    let said = admin.ok("margay compact now -f").await;
    assert!(said.starts_with("the oldest revision that can be looked at is "), "{said}");
    let oldest: u64 = said.split_whitespace().last().unwrap().parse().unwrap();
    // The watch that comes too late is told so.
    let said = admin.run("margay watch --from 2").await;
    assert!(
        said.err.contains(&format!(
            "compacted: revision 2 is not kept any more; the oldest change that is kept is {}",
            oldest + 1
        )),
        "{said:?}"
    );
    assert_eq!(said.status, 3);
    assert!(admin.run("nodels --at 1").await.err.contains("is not kept any more"));
    admin.ok("nodeadd n3 groups=all").await;
    tokio::task::spawn_blocking(move || {
        for _ in 0..2 {
            std::fs::write(&gate, "go\n").unwrap();
        }
    })
    .await
    .unwrap();
    says(&out, "all,n3\n").await;
    assert!(!text(&out).contains("n2"));
    let list = admin.ok("margay notification").await;
    assert!(
        list.contains("GAP: revisions ") && list.contains(&format!(" to {oldest} were not kept long enough")),
        "{list}"
    );
    assert!(admin.ok("margay status").await.contains("GAP: revisions"));
    until("the event log has it", || {
        cluster.core(0).read(|state| state.named("eventlog").is_some_and(|table| table.len() == 1))
    })
    .await;
}

/// What the handlers of [`exactly_once`] wrote, against what was changed.
fn complete(dir: &Path, handlers: usize, nodes: &BTreeSet<String>) -> Result<(), String> {
    for number in 0..handlers {
        let told = text(&dir.join(format!("h{number}.out")));
        let (mut places, mut seen) = (Vec::new(), Vec::new());
        for line in told.lines() {
            if let Some(place) = line.strip_prefix("call ") {
                let (revision, call) = place.split_once('.').unwrap();
                places.push((revision.parse::<u64>().unwrap(), call.parse::<u64>().unwrap()));
            } else if let Some(node) = line.strip_prefix("all,") {
                seen.push(node.to_owned());
            }
        }
        assert!(
            places.windows(2).all(|two| two[0] < two[1]),
            "handler {number}: not once and in order: {places:?}"
        );
        let set: BTreeSet<String> = seen.iter().cloned().collect();
        assert_eq!(set.len(), seen.len(), "handler {number} was told of something twice");
        assert!(set.is_subset(nodes), "handler {number} was told of something that was not changed");
        if set.len() < nodes.len() {
            return Err(format!("handler {number} has {} of {}", set.len(), nodes.len()));
        }
    }
    Ok(())
}

async fn register(client: &Client, dir: &Path, handlers: usize) {
    for number in 0..handlers {
        let out = dir.join(format!("h{number}.out"));
        let script = format!("{{ echo \"call $MARGAY_DELIVERY\"; cat; }} >>{}", out.display());
        let path = handler(dir, &format!("h{number}"), &script);
        client.ok(&format!("regnotif {} nodelist -o a", path.display())).await;
    }
}

/// Each of many handlers is told once of every change, whatever becomes of the daemons.
async fn exactly_once(members: usize, handlers: usize, changes: usize, nodes: usize, kills: usize) {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), members);
    let mut processes: Vec<Process> =
        (1..=members).map(|member| Process::start(dir.path(), member)).collect();
    let client = client(dir.path(), members);
    register(&client, dir.path(), handlers).await;
    let begin = Instant::now();
    let mut all = BTreeSet::new();
    for change in 0..changes {
        client.ok(&format!("nodeadd c{change}n[1-{nodes}] groups=all")).await;
        all.extend((1..=nodes).map(|node| format!("c{change}n{node}")));
        if change % (changes / (kills + 1)) == changes / (kills + 1) - 1 && change + 1 < changes {
            let status = client.ok("margay status").await;
            let leader = status.lines().find_map(|line| {
                line.strip_suffix(": leader").or_else(|| line.split_once(": leader").map(|(head, _)| head))
            });
            let leader: usize =
                leader.and_then(|line| line.strip_prefix("master m")).unwrap().parse().unwrap();
            processes[leader - 1].kill();
            processes[leader - 1] = Process::start(dir.path(), leader);
        }
    }
    let changed = begin.elapsed();
    let deadline = Instant::now() + 4 * LONG;
    while let Err(why) = complete(dir.path(), handlers, &all) {
        assert!(Instant::now() < deadline, "{why}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!(
        "{handlers} handlers, {} changes, {kills} kills: changed after {changed:?}, all told after {:?}",
        all.len(),
        begin.elapsed()
    );
    let list = client.ok("margay notification").await;
    assert!(!list.contains("given up") && !list.contains("twice"), "{list}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_handlers_are_told_of_ten_thousand_changes_once_and_in_order_though_the_daemon_is_killed() {
    // MARGAY_CHANGES changes in the whole amount, one transaction for every fifty.
    let changes = std::env::var("MARGAY_CHANGES").ok().and_then(|text| text.parse().ok()).unwrap_or(20);
    exactly_once(1, 20, changes, 10_000 / changes, (changes / 10).max(4)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_leader_tells_no_handler_twice() {
    exactly_once(3, 4, 9, 20, 2).await;
}
