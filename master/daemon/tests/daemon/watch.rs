//! `margay watch`: changes as they come, from a revision on, as lines and as JSON.

use std::time::Duration;

use link::Exchange;
use wire::client::{Answer, Input, Request};

use crate::cluster::{Client, Cluster, LONG, call};

/// A watcher.
struct Watch {
    exchange: Exchange,
    /// Where to go on.
    argv: Vec<String>,
    text: String,
}

impl Watch {
    async fn open(admin: &Client, line: &str) -> Self {
        let exchange = admin.open(0, &Request::Run(call(line).run)).await.unwrap();
        let mut watch = Self { exchange, argv: Vec::new(), text: String::new() };
        while watch.argv.is_empty() {
            assert_eq!(watch.step().await, None);
        }
        watch
    }

    /// One answer; the status when it was the last.
    async fn step(&mut self) -> Option<u8> {
        let answer = tokio::time::timeout(LONG, self.exchange.recv::<Answer>()).await.unwrap();
        match answer.unwrap().unwrap() {
            Answer::Text(text) => self.text += &String::from_utf8(text.text).unwrap(),
            Answer::GoOn(argv) => self.argv = argv,
            Answer::Done { status, .. } => return Some(status),
            other => panic!("{other:?}"),
        }
        None
    }

    async fn until(&mut self, wanted: &str) {
        while !self.text.contains(wanted) {
            assert_eq!(self.step().await, None, "{}", self.text);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_are_shown_as_they_come_and_the_watch_goes_on_where_it_was() {
    let cluster = Cluster::start(1).await;
    let admin = cluster.admin();
    admin.ok("nodeadd n1 groups=all").await;
    let mut lines = Watch::open(&admin, "margay watch -t nodelist,mac").await;
    let mut json = Watch::open(&admin, "margay watch -o json n1").await;
    admin.ok("nodeadd n2 groups=all").await;
    admin.ok("chtab node=n1 mac.mac=a").await;
    lines.until("+ mac n1.mac: \"a\"\n").await;
    assert!(!lines.text.contains("n1.groups"), "from now on only: {}", lines.text);
    assert!(
        lines.text.contains("  root  nodeadd n2 groups=all  (2 cells of 1 row in nodelist)\n"),
        "{}",
        lines.text
    );
    json.until("\n").await;
    let object: serde_json::Value = serde_json::from_str(&json.text).unwrap();
    assert_eq!((object["table"].as_str(), object["new"]["mac"].as_str()), (Some("mac"), Some("a")));

    // The place where it goes on is told behind what was shown.
    lines.argv.clear();
    while lines.argv.is_empty() {
        assert_eq!(lines.step().await, None);
    }
    let (mut again, goes_on) = (call("margay x"), lines.argv.clone());
    assert!(goes_on.last().unwrap().starts_with("--from="), "{goes_on:?}");
    drop(lines);
    admin.ok("nodech n2 groups=all,rack1").await;
    again.run.argv = goes_on;
    let exchange = admin.open(0, &Request::Run(again.run)).await.unwrap();
    let mut lines = Watch { exchange, argv: Vec::new(), text: String::new() };
    lines.until("n2.groups: \"all\" -> \"all,rack1\"\n").await;
    assert!(!lines.text.contains("mac"), "what was shown is not shown again: {}", lines.text);
    lines.exchange.send(&Input::Cancel).await.unwrap();
    let status = loop {
        if let Some(status) = lines.step().await {
            break status;
        }
    };
    assert_eq!(status, 130);
    let mut all = Watch::open(&admin, "margay watch --from 1 -t nodelist").await;
    all.until("rack1").await;
    assert_eq!(all.text.matches("+ nodelist n1.node: \"n1\"\n").count(), 1, "{}", all.text);
    assert!(admin.run("margay watch --from 99999").await.err.contains("There is no revision 99999"));
    assert!(admin.run("margay watch -t nosuch").await.err.contains("No such table: nosuch"));
    assert_eq!(admin.run("margay watch -o xml").await.status, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_that_does_not_read_delays_no_command() {
    let cluster = Cluster::start(1).await;
    let admin = cluster.admin();
    let _silent = Watch::open(&admin, "margay watch").await;
    let long = "x".repeat(50_000);
    for number in 0..100 {
        let line = format!("chtab key=k{number} site.value={long}");
        tokio::time::timeout(Duration::from_secs(20), admin.ok(&line)).await.unwrap();
    }
}
