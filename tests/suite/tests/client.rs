//! The real client against real masters, one of which is killed.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cli::config::Config;
use cli::render::Render;
use master::init::{Init, init};
use master::{Master, Surroundings};
use service::Drain;
use storage::{OnFault, Timing};

struct Cluster {
    dir: tempfile::TempDir,
    masters: Vec<Option<Master>>,
}

impl Cluster {
    async fn start(count: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let arguments = Init {
            dir: Some(dir.path().to_owned()),
            masters: count,
            cluster: Some("mn01".into()),
            domain: String::new(),
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            admin: Some("root".into()),
            admin_dir: None,
            hosts: dir.path().join("hosts"),
            no_networks: true,
        };
        init(&arguments).unwrap();
        let mut masters = Vec::new();
        for member in 1..=count {
            let config = master::Config::read(&dir.path().join(format!("m{member}/margayd.toml"))).unwrap();
            let timing = Timing { tick: Duration::from_millis(25), heartbeat_ticks: 2, election_ticks: 20 };
            let surroundings = Surroundings { timing, on_fault: OnFault::Report, ..Surroundings::default() };
            masters.push(Some(Master::spawn(config, Drain::new(), surroundings).unwrap()));
        }
        Self { dir, masters }
    }

    fn client(&self) -> Config {
        Config::read(&self.dir.path().join("admin/client.toml")).unwrap()
    }

    fn leader(&self) -> Option<usize> {
        self.masters.iter().position(|master| master.as_ref().is_some_and(|master| master.core().leads()))
    }
}

async fn margay(config: &Config, line: &str) -> (String, String, i32) {
    let mut words = line.split(' ').map(str::to_owned);
    let mut run = cli::request(words.next().unwrap(), words.collect());
    run.stdin_piped = false;
    let mut render = Render::new(Vec::new(), Vec::new(), false);
    let status = cli::session::run_on(config, run, &mut render).await;
    let (out, err) = render.into_parts();
    (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap(), status)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_prints_streams_and_ends_with_the_status() {
    let cluster = Cluster::start(1).await;
    let config = cluster.client();
    assert_eq!(margay(&config, "nodeadd n1-n2 groups=all").await, (String::new(), String::new(), 0));
    assert_eq!(margay(&config, "nodels").await, ("n1\nn2\n".into(), String::new(), 0));
    let (out, err, status) = margay(&config, "nodels n9").await;
    assert_eq!((out.as_str(), status), ("", 1));
    assert_eq!(err, "Error: Invalid nodes and/or groups in noderange: n9\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn output_comes_in_the_form_that_was_asked_for() {
    let cluster = Cluster::start(1).await;
    let config = cluster.client();
    assert_eq!(margay(&config, "nodeadd n1,n2,n10 groups=all hosts.ip=10.0.0.9").await.2, 0);
    let out = async |line| margay(&config, line).await.0;
    assert_eq!(out("nodels all --output value --sort -node").await, "n10\nn2\nn1\n");
    let json = "[\n  {\"node\": \"n1\", \"hosts.ip\": \"10.0.0.9\"}\n]\n";
    assert_eq!(out("nodels n1 hosts.ip -o json").await, json);
    let csv = "name,type,groups\nn1,node,all\nn2,node,all\n";
    assert_eq!(out("lsdef -o n1,n2 -i groups --output csv").await, csv);
    assert_eq!(out("lsdef -o n1 -i groups").await, "Object name: n1\n    groups=all\n");
    // Nodes that no service node has: their errors stay lines, the list is empty.
    let (out, err, status) = margay(&config, "nodestat n1-n2 -o yaml").await;
    assert!(!out.contains("n1: "), "{out}");
    assert!(!out.is_empty() && (status == 0 || err.contains("n1: ")), "{out} {err}");
    let complete = cli::request("margay".into(), vec!["complete".into(), "nodels n1".into()]);
    let mut render = Render::new(Vec::new(), Vec::new(), false);
    assert_eq!(cli::session::run_on(&config, complete, &mut render).await, 0);
    assert_eq!(render.into_parts(), (b"n1\nn10\n".to_vec(), Vec::new()));
    let (out, err, status) = margay(&config, "nodels -o csv --sort nosuch").await;
    assert_eq!((out.as_str(), status), ("node\nn1\nn10\nn2\n", 1));
    assert!(err.contains("no field 'nosuch'"), "{err}");
    let (out, err, status) = margay(&config, "nodels -o xml").await;
    assert!(out.is_empty() && err.contains("table, wide, json, yaml, csv, value") && status == 1, "{err}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_without_a_master_names_the_addresses_and_ends_with_status_1() {
    let cluster = Cluster::start(1).await;
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let silent = socket.local_addr().unwrap().to_string();
    let config = Config { masters: vec![silent.clone()], patience: 1, ..cluster.client() };
    let (_, err, status) = margay(&config, "nodels").await;
    assert!(err.contains("cannot reach any master") && err.contains(&silent), "{err}");
    assert_eq!(status, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_with_a_certificate_of_another_cluster_is_told_so() {
    let (own, other) = (Cluster::start(1).await, Cluster::start(1).await);
    let config = Config { masters: own.client().masters, patience: 1, ..other.client() };
    let (_, err, status) = margay(&config, "nodels").await;
    assert!(err.contains("cannot reach any master"), "{err}");
    assert_eq!(status, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_go_on_when_the_leader_goes_away() {
    service::log::init("warn");
    let mut cluster = Cluster::start(3).await;
    let config = Config { patience: 60, ..cluster.client() };
    assert_eq!(margay(&config, "nodeadd n0 groups=all").await.2, 0);
    let drain = Drain::new();
    let work: Vec<_> = (1..=20)
        .map(|number| {
            let config = config.clone();
            let line = format!("nodeadd n{number} groups=all");
            drain.spawn("client", async move { margay(&config, &line).await })
        })
        .collect();
    let leader = cluster.leader().unwrap();
    cluster.masters[leader].take().unwrap().finish().await;
    for task in work {
        assert_eq!(task.await.unwrap(), (String::new(), String::new(), 0));
    }
    let (out, _, status) = margay(&config, "nodels all").await;
    assert_eq!((out.lines().collect::<BTreeSet<_>>().len(), status), (21, 0));
}

#[test]
fn every_command_has_a_link_and_every_link_a_command() {
    let links: BTreeSet<&str> = cli::names::LINKS.iter().copied().collect();
    // Verbs of margay itself, which are no xCAT names, have none: a link `diff` would hide the system's.
    let verbs = [
        "action",
        "audit",
        "blame",
        "compact",
        "complete",
        "diff",
        "digest",
        "export",
        "help",
        "import",
        "log",
        "man",
        "noderange",
        "notification",
        "policy",
        "sn",
        "status",
        "undo",
        "watch",
    ];
    let alias = ["power", "setboot", "beacon", "inventory", "run", "makedhcpd"];
    let mut names = BTreeSet::new();
    for command in commands::commands() {
        names.extend(std::iter::once(command.name).chain(command.aliases.iter().copied()));
    }
    let wanted: BTreeSet<&str> =
        names.iter().copied().filter(|name| !verbs.contains(name) && !alias.contains(name)).collect();
    assert_eq!(links, wanted);
}

#[test]
fn a_client_configuration_s_paths_are_relative_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let path: PathBuf = dir.path().join("client.toml");
    std::fs::write(&path, "masters = [\"127.0.0.1:1\"]\nca = \"x/ca.pem\"\n").unwrap();
    let config = Config::read(&path).unwrap();
    assert_eq!(config.ca, dir.path().join(Path::new("x/ca.pem")));
    std::fs::write(&path, "masters = []\nmaster = 1\n").unwrap();
    assert!(Config::read(&path).unwrap_err().contains("master"));
}
