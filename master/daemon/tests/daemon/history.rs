//! The past through the client: log, diff, blame, --at, --plan, undo, export and import.

use crate::cluster::{Cluster, call};

/// The newest revision that changed one of these nodes.
fn newest(log: &str) -> u64 {
    log.split_whitespace().next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_past_is_told_and_read_and_taken_back() {
    let cluster = Cluster::start(1).await;
    let admin = cluster.admin();
    admin.ok("nodeadd n1-n3 groups=all").await;
    let made = newest(&admin.ok("margay log n1").await);
    admin.ok("nodech n1,n2 groups=all,rack1 nodehm.mgt=ipmi").await;
    let log = admin.ok("margay log n1-n9").await;
    let changed = newest(&log);
    assert_eq!(log.lines().count(), 2, "{log}");
    assert!(
        log.contains("  root  nodech n1,n2 groups=all,rack1 nodehm.mgt=ipmi  (6 cells of 4 rows in"),
        "{log}"
    );
    assert_eq!(admin.ok("margay log -t nodehm -n 5").await.lines().count(), 1);

    let diff = admin.ok(&format!("margay diff {made} {changed}")).await;
    assert!(diff.contains("~ nodelist n2.groups: \"all\" -> \"all,rack1\"\n"), "{diff}");
    assert!(diff.contains("+ nodehm n1.mgt: \"ipmi\"\n"), "{diff}");
    let back = admin.ok(&format!("margay diff -t nodelist {changed} {made}")).await;
    assert_eq!(back.lines().next(), Some("~ nodelist n1.groups: \"all,rack1\" -> \"all\""), "{back}");
    assert_eq!(admin.ok("margay diff now").await, "");
    let blame = admin.ok("margay blame n1 mgt").await;
    assert!(blame.starts_with(&format!("nodehm.mgt=\"ipmi\"  {changed}  ")), "{blame}");
    assert_eq!(admin.ok("margay blame n1").await.lines().count(), 2);

    assert_eq!(admin.ok("nodels rack1").await, "n1\nn2\n");
    assert_eq!(admin.run(&format!("nodels --at {made} rack1")).await.status, 1);
    assert_eq!(
        admin.ok(&format!("margay --at {made} nodels all groups")).await,
        "n1: all\nn2: all\nn3: all\n"
    );
    assert_eq!(admin.ok("nodels --at now rack1").await, "n1\nn2\n");
    assert_eq!(admin.ok("nodels --at 0s rack1").await, "n1\nn2\n");
    assert_eq!(admin.ok("nodels --at 5h").await, "");
    let said = admin.run("nodels --at 999999").await;
    assert!(said.err.contains("There is no revision 999999"), "{said:?}");
    assert!(admin.run("nodels --at soon").await.err.contains("neither a revision nor a time"));

    let plan = admin.ok("noderm n3 --plan").await;
    assert!(plan.ends_with("would be changed: 2 cells of 1 row in nodelist\n"), "{plan}");
    assert_eq!(admin.ok("nodels all").await, "n1\nn2\nn3\n");

    admin.ok("nodech n2 groups=all,rack2").await;
    let said = admin.run(&format!("margay undo {changed}")).await;
    assert!(said.err.contains("later changes touched the same cells"), "{said:?}");
    assert!(said.err.contains("nodelist n2.groups: now \"all,rack2\" (revision "), "{said:?}");
    assert_eq!(said.status, 1);
    admin.ok("nodech n2 groups=all,rack1").await;
    let told = admin.ok(&format!("margay undo {changed}")).await;
    assert!(told.starts_with(&format!("revision {changed} (nodech")), "{told}");
    assert_eq!(admin.ok("nodels all groups nodehm.mgt").await.matches("ipmi").count(), 0);
    assert_eq!(admin.ok(&format!("nodels --at {changed} rack1")).await, "n1\nn2\n");
    let last = newest(&admin.ok("margay log -n 1").await);
    admin.ok(&format!("margay undo {last}")).await;
    assert_eq!(admin.ok("nodels rack1").await, "n1\nn2\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn very_many_nodes_are_asked_about_and_come_back_with_undo() {
    let cluster = Cluster::start(1).await;
    let admin = cluster.admin();
    let mut add = call("nodeadd n1-n600 groups=all");
    add.run.terminal_width = 80;
    add.reply = "n".to_owned();
    let said = admin.finish(add).await.unwrap();
    assert!(
        said.err.contains("This changes 600 nodes, more than 500. Go on?") && said.status == 1,
        "{said:?}"
    );
    let mut add = call("nodeadd n1-n600 groups=all");
    add.run.terminal_width = 80;
    add.reply = "y".to_owned();
    assert_eq!(admin.finish(add).await.unwrap().status, 0);
    let said = admin.run("noderm n1-n600 --max-nodes 10").await;
    assert!(said.err.contains("-y changes so many nodes") && said.status == 1, "{said:?}");
    admin.ok("noderm n1-n600 --max-nodes 10 -y").await;
    assert_eq!(admin.ok("nodels").await, "");
    let removed = newest(&admin.ok("margay log -n 1").await);
    admin.ok(&format!("margay undo {removed}")).await;
    assert_eq!(admin.ok("nodels").await.lines().count(), 600);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn undoing_a_change_of_ten_thousand_nodes_gives_the_digest_of_before() {
    let cluster = Cluster::start(1).await;
    let admin = cluster.admin();
    admin.ok("nodeadd n1-n10000 groups=all").await;
    let before = admin.ok("margay digest -l").await;
    assert!(before.contains("  nodelist (10000 rows)\n"), "{before}");
    admin.ok("nodech n1-n10000 groups=all,rack1 nodehm.mgt=ipmi").await;
    let changed = newest(&admin.ok("margay log -n 1").await);
    let after = admin.ok("margay digest -l").await;
    assert!(after != before && after.contains("  nodehm (10000 rows)\n"), "{after}");
    admin.ok(&format!("margay undo {changed}")).await;
    assert_eq!(admin.ok("margay digest -l").await, before);
    assert_eq!(admin.ok(&format!("margay digest -l --at {changed}")).await, after);
    assert_eq!(admin.ok(&format!("margay digest -l --at {}", changed - 1)).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_exported_imported_elsewhere_and_exported_again_is_equal() {
    let cluster = Cluster::start(1).await;
    let admin = cluster.admin();
    admin.ok("nodeadd n10,n2,n1 groups=all").await;
    admin.ok("nodech n1 nodelist.comments=a,\"b").await;
    admin.ok("chtab key=domain site.value=example.org").await;
    let first = admin.finish(call("margay export d/")).await.unwrap();
    assert_eq!((first.status, first.err.as_str()), (0, ""));
    let text = String::from_utf8(first.files["d/nodelist.csv"].clone()).unwrap();
    let keys: Vec<&str> = text.lines().skip(1).map(|line| line.split(',').next().unwrap()).collect();
    assert_eq!(keys, ["\"n1\"", "\"n10\"", "\"n2\""]);
    assert!(!first.files.contains_key("d/auditlog.csv"));

    let elsewhere = Cluster::start(1).await;
    let other = elsewhere.admin();
    other.ok("nodeadd n7 groups=all").await;
    let with_files = |line: &str| {
        let mut call = call(line);
        call.files.clone_from(&first.files);
        call
    };
    let planned = other.finish(with_files("margay import d --plan")).await.unwrap();
    assert!(planned.out.contains("- nodelist n7.node: \"n7\"\n"), "{planned:?}");
    assert_eq!(other.ok("nodels").await, "n7\n");
    let done = other.finish(with_files("margay import d")).await.unwrap();
    assert!(done.out.contains("nodelist: 3 rows new, 0 changed, 1 removed\n"), "{done:?}");
    let again = other.finish(with_files("margay import d")).await.unwrap();
    assert!(again.out.contains("nothing was changed"), "{again:?}");
    let second = other.finish(call("margay export d/")).await.unwrap();
    assert_eq!(second.files, first.files);

    let mut wrong = with_files("margay import d");
    wrong.files.insert("d/nodelist.csv".to_owned(), b"#node,colour\n\"n1\",\"red\"\n".to_vec());
    let said = other.finish(wrong).await.unwrap();
    assert!(said.err.contains("d/nodelist.csv: table nodelist has no column colour") && said.status == 1);
    assert!(other.run("margay import nowhere").await.err.contains("There is no file of a table in nowhere"));
}
