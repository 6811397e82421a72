//! Agents and a service node over loopback.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;
use std::time::{Duration, Instant};

use agent::Outcome;
use link::{Endpoint, Role, pki};
use rack::{Crowd, PATIENCE, Rack, Running, eventually, finals, node_credentials, order};
use wire::agent::{AgentHello, EnrolAnswer, EnrolHello, FromAgent, Phase, Report};
use wire::hardware::Adapter;
use wire::op::{App, Event, Exec, Fault, LifeQuestion, NodeOp, NodeReply, Stream};
use wire::rack::{FanOutEvent, FanOutInput};
use wire::view::{AccountConfig, StartCommand};

fn shell(command: &str) -> NodeOp {
    NodeOp::Exec(Exec { command: command.to_owned(), ..Exec::default() })
}

fn text(events: &[wire::op::NodeEvent], node: &str, wanted: Stream) -> String {
    let mut all = Vec::new();
    for event in events.iter().filter(|event| event.node == node) {
        if let Event::Output { stream, bytes } = &event.event
            && *stream == wanted
        {
            all.extend(bytes);
        }
    }
    String::from_utf8(all).unwrap()
}

/// A rack with one admitted agent of phase `system`.
async fn with_agent(root: &Path) -> (Rack, Running) {
    let rack = Rack::start().await.unwrap();
    rack.master.tables(|tables| tables.admit.insert("S1".to_owned(), "n1".to_owned()));
    rack.master.node("n1", |_| {});
    let running = Running::start(rack.agent(root, "S1", Phase::System).unwrap());
    eventually("the agent is connected", || rack.node().agents().find("n1").is_some()).await.unwrap();
    (rack, running)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_machine_waits_on_its_stream_until_it_is_admitted() {
    let rack = Rack::start().await.unwrap();
    let root = tempfile::tempdir().unwrap();
    let running = Running::start(rack.agent(root.path(), "S9", Phase::Genesis).unwrap());
    eventually("it has asked", || rack.master.tables(|tables| !tables.enrolments.is_empty())).await.unwrap();
    rack.master.tables(|tables| {
        let evidence = &tables.enrolments[0].evidence;
        assert!(evidence.iter().any(|one| one.method == "switch" && one.node.is_empty()), "{evidence:?}");
        assert!(tables.enrolments[0].token.is_none());
        tables.admit.insert("S9".to_owned(), "n9".to_owned());
    });
    // The definition changes what the evidence says: the machine is asked about again at once.
    rack.master.node("n9", |node| node.serial = "S9".to_owned());
    eventually("the agent is connected", || rack.node().agents().find("n9").is_some()).await.unwrap();
    eventually("its hardware is stored", || {
        rack.master.count("n9", |report| matches!(report, Report::Hardware(_))) == 1
    })
    .await
    .unwrap();
    eventually("the master knows", || rack.master.tables(|tables| tables.agents.contains("n9")))
        .await
        .unwrap();
    assert_eq!(running.stop().await.unwrap(), Outcome::Stopped);
    eventually("the master knows", || rack.master.tables(|tables| tables.agents.is_empty())).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_admits_its_node_once_and_a_wrong_one_is_refused_and_audited() {
    let rack = Rack::start().await.unwrap();
    rack.master.node("n1", |_| {});
    let now = service::Clock::Real.unix();
    let token = rack.node().tokens().mint("n1", 4, now).unwrap();
    let root = tempfile::tempdir().unwrap();
    let with = |token: &str| {
        let mut config = rack.agent(root.path(), "S1", Phase::Genesis).unwrap();
        config.token = Some(token.to_owned());
        config
    };
    let first = Running::start(with(&token));
    eventually("the agent is connected", || rack.node().agents().find("n1").is_some()).await.unwrap();
    rack.master.tables(|tables| {
        let proof = tables.enrolments[0].token.clone().unwrap();
        assert_eq!((proof.node.as_str(), proof.generation), ("n1", 4));
    });
    let second = Running::start(with(&token));
    eventually("the second use has come", || rack.master.tables(|tables| tables.enrolments.len() > 1))
        .await
        .unwrap();
    let third = Running::start(with("wrong"));
    eventually("the refusal is audited", || {
        rack.master.tables(|tables| tables.audits.iter().any(|(_, what)| what.contains("token")))
    })
    .await
    .unwrap();
    assert!(rack.node().health().counter("enrol_bad_token").value() >= 1);
    first.stop().await.unwrap();
    second.kill();
    third.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_is_followed_step_by_step_to_the_boot() {
    let rack = Rack::start().await.unwrap();
    let root = tempfile::tempdir().unwrap();
    rack.master.tables(|tables| tables.admit.insert("S1".to_owned(), "n1".to_owned()));
    rack.master.node("n1", |node| {
        node.kernel_arguments =
            "runcmd=echo a >> $MARGAY_ROOT/steps,runcmd=echo a >> $MARGAY_ROOT/steps,boot".to_owned();
    });
    let running = Running::start(rack.agent(root.path(), "S1", Phase::Genesis).unwrap());
    assert_eq!(running.outcome().await.unwrap(), Outcome::BootDisk);
    assert_eq!(std::fs::read_to_string(root.path().join("steps")).unwrap(), "a\na\n");
    let done = |report: &Report| matches!(report, Report::NextDestiny { .. });
    assert_eq!(rack.master.count("n1", done), 3);
    assert_eq!(rack.master.count("n1", |report| *report == Report::Status("booting".to_owned())), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_destiny_ends_the_step_that_runs() {
    let rack = Rack::start().await.unwrap();
    let root = tempfile::tempdir().unwrap();
    rack.master.tables(|tables| tables.admit.insert("S1".to_owned(), "n1".to_owned()));
    rack.master.node("n1", |node| node.destiny = "runcmd=touch $MARGAY_ROOT/begun; sleep 1000".to_owned());
    let running = Running::start(rack.agent(root.path(), "S1", Phase::Genesis).unwrap());
    eventually("the step runs", || root.path().join("begun").exists()).await.unwrap();
    rack.master.node("n1", |node| node.destiny = "shutdown".to_owned());
    assert_eq!(running.outcome().await.unwrap(), Outcome::PowerOff);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_gives_lines_status_and_takes_input() {
    let root = tempfile::tempdir().unwrap();
    let (rack, running) = with_agent(root.path()).await;
    let events = rack.fan_out(shell("echo out; echo err >&2; exit 7"), &["n1"], PATIENCE).await.unwrap();
    assert_eq!(text(&events, "n1", Stream::Out), "out\n");
    assert_eq!(text(&events, "n1", Stream::Err), "err\n");
    assert_eq!(finals(&events), [("n1".to_owned(), Event::Exit(7))]);

    let mut exchange = rack.master.open().await.unwrap();
    let cat = NodeOp::Exec(Exec { command: "cat".to_owned(), stdin: true, ..Exec::default() });
    exchange.send(&order(cat, vec!["n1".to_owned()], PATIENCE)).await.unwrap();
    exchange.send(&FanOutInput::Stdin(b"hello\n".to_vec())).await.unwrap();
    exchange.send(&FanOutInput::StdinEnd).await.unwrap();
    let mut events = Vec::new();
    while let FanOutEvent::Node(event) = exchange.expect(PATIENCE).await.unwrap() {
        events.push(event);
    }
    assert_eq!(text(&events, "n1", Stream::Out), "hello\n");
    assert_eq!(finals(&events), [("n1".to_owned(), Event::Exit(0))]);
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_and_a_lost_master_end_the_process_on_the_node() {
    let root = tempfile::tempdir().unwrap();
    let (rack, running) = with_agent(root.path()).await;
    for gently in [true, false] {
        let pid_file = root.path().join("pid");
        let _ = std::fs::remove_file(&pid_file);
        let command = "echo $$ > $MARGAY_ROOT/x; mv $MARGAY_ROOT/x $MARGAY_ROOT/pid; exec sleep 1000";
        let mut exchange = rack.master.open().await.unwrap();
        exchange.send(&order(shell(command), vec!["n1".to_owned()], PATIENCE)).await.unwrap();
        eventually("the command runs", || pid_file.exists()).await.unwrap();
        let pid = std::fs::read_to_string(&pid_file).unwrap().trim().to_owned();
        if gently {
            exchange.send(&FanOutInput::Cancel).await.unwrap();
            let event = exchange.expect::<FanOutEvent>(PATIENCE).await.unwrap();
            let FanOutEvent::Node(event) = event else { panic!("{event:?}") };
            assert!(matches!(event.event, Event::Failed { fault: Fault::Cancelled, .. }), "{event:?}");
            assert_eq!(exchange.expect::<FanOutEvent>(PATIENCE).await.unwrap(), FanOutEvent::End);
        } else {
            drop(exchange);
        }
        let stat = format!("/proc/{pid}/stat");
        eventually("the process is dead", || {
            !std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z"))
        })
        .await
        .unwrap();
    }
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_hung_node_delays_nobody_and_absent_and_unknown_ones_have_their_own_lines() {
    let root = tempfile::tempdir().unwrap();
    let (rack, running) = with_agent(root.path()).await;
    rack.master.tables(|tables| tables.admit.insert("S2".to_owned(), "n2".to_owned()));
    rack.master.node("n2", |_| {});
    rack.master.node("n3", |_| {});
    let other = tempfile::tempdir().unwrap();
    let hung = Running::start(rack.agent(other.path(), "S2", Phase::System).unwrap());
    eventually("the agent is connected", || rack.node().agents().find("n2").is_some()).await.unwrap();
    std::fs::write(other.path().join("hang"), "").unwrap();
    let op = shell("if [ -e $MARGAY_ROOT/hang ]; then sleep 1000; fi; echo done");
    let mut exchange = rack.master.open().await.unwrap();
    let nodes = ["n2", "n1", "n3", "n4"].map(str::to_owned).to_vec();
    exchange.send(&order(op, nodes, Duration::from_secs(3))).await.unwrap();
    let mut ends = Vec::new();
    while let FanOutEvent::Node(event) = exchange.expect(PATIENCE).await.unwrap() {
        if !matches!(event.event, Event::Output { .. }) {
            ends.push(event);
        }
    }
    assert_eq!(ends.len(), 4);
    assert_eq!(ends[3].node, "n2", "{ends:?}");
    assert!(matches!(ends[3].event, Event::Failed { fault: Fault::Timeout, .. }), "{ends:?}");
    let of = |node: &str| ends.iter().find(|event| event.node == node).unwrap().event.clone();
    assert_eq!(of("n1"), Event::Exit(0));
    assert!(matches!(of("n3"), Event::Failed { fault: Fault::Unreachable, .. }));
    assert!(matches!(of("n4"), Event::Failed { fault: Fault::Undefined, .. }));
    running.stop().await.unwrap();
    hung.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_configuration_reaches_the_node_at_once_and_is_reported() {
    let root = tempfile::tempdir().unwrap();
    let (rack, running) = with_agent(root.path()).await;
    let booted = |generation: u64| {
        rack.master.tables(|tables| {
            tables.reports.iter().any(
                |(_, report)| matches!(report, Report::Booted(booted) if booted.generation == generation),
            )
        })
    };
    eventually("an empty configuration is reported too", || booted(0)).await.unwrap();
    let began = Instant::now();
    rack.master.node("n1", |node| {
        node.config.generation = 12;
        node.config.hostname = "n1".to_owned();
        node.config.accounts = vec![AccountConfig {
            name: "ada".to_owned(),
            uid: 5001,
            gid: 5001,
            keys: vec!["ssh-ed25519 AAAA ada".to_owned()],
            ..AccountConfig::default()
        }];
        let command = "exit 5".to_owned();
        node.config.start_command = Some(StartCommand { command, ..StartCommand::default() });
    });
    eventually("the new generation is reported", || booted(12)).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert!(std::fs::read_to_string(root.path().join("etc/passwd")).unwrap().contains("ada:x:5001:5001:"));
    rack.master.tables(|tables| {
        let last = tables.reports.iter().rev().find_map(|(_, report)| match report {
            Report::Booted(booted) => Some(booted.clone()),
            _ => None,
        });
        assert_eq!(last.unwrap().start_status, Some(5));
    });
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_come_back_after_the_service_node_was_killed_and_reports_wait_for_a_master() {
    let root = tempfile::tempdir().unwrap();
    let (mut rack, running) = with_agent(root.path()).await;
    eventually("the mirror is durable", || rack.master.tables(|tables| tables.mirrored.0 > 1)).await.unwrap();
    rack.master.tables(|tables| tables.again = 3);
    rack.restart().await.unwrap();
    eventually("the agent is back", || rack.node().agents().find("n1").is_some()).await.unwrap();
    eventually("the rack is back", || rack.master.has_rack()).await.unwrap();
    rack.master.cut();
    rack.master.node("n1", |node| node.config.generation = 33);
    eventually("the new generation is reported", || {
        let at_33 = |report: &Report| matches!(report, Report::Booted(booted) if booted.generation == 33);
        rack.master.count("n1", at_33) > 0
    })
    .await
    .unwrap();
    let last = rack.master.tables(|tables| tables.hellos.last().cloned()).unwrap();
    assert!(last.mirror.0 > 0, "a connection that was cut goes on from the mirror: {last:?}");
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_on_disk_lets_known_agents_in_while_no_master_is_there() {
    let root = tempfile::tempdir().unwrap();
    let (mut rack, running) = with_agent(root.path()).await;
    eventually("the mirror is durable", || {
        rack.master.tables(|tables| tables.mirrored.0 > 1)
            && rack.node().mirror().rack().node("n1").is_some_and(|n| n.claimed)
    })
    .await
    .unwrap();
    let revision = rack.node().mirror().rack().revision();
    eventually("it is durable", || rack.master.tables(|tables| tables.mirrored >= revision)).await.unwrap();
    std::fs::remove_file(rack.folder().join("masters")).unwrap();
    rack.restart().await.unwrap();
    eventually("the agent is back", || rack.node().agents().find("n1").is_some()).await.unwrap();
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_key_is_put_out_and_the_agent_asks_for_a_new_identity() {
    let root = tempfile::tempdir().unwrap();
    let (rack, running) = with_agent(root.path()).await;
    eventually("the mirror shows the key", || {
        rack.node().mirror().rack().node("n1").is_some_and(|node| !node.key_fingerprint.is_empty())
    })
    .await
    .unwrap();
    let before = rack.master.tables(|tables| tables.enrolments.len());
    rack.master.tables(|tables| tables.admit.clear());
    rack.master.node("n1", |node| node.key_fingerprint = "00".repeat(32));
    eventually("it asks again", || rack.master.tables(|tables| tables.enrolments.len() > before))
        .await
        .unwrap();
    eventually("it is out", || rack.node().agents().is_empty()).await.unwrap();
    running.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_another_role_or_for_an_unregistered_key_is_refused_and_audited() {
    let rack = Rack::start().await.unwrap();
    rack.master.node("n1", |node| node.key_fingerprint = "11".repeat(32));
    let address = rack.node().agent_address().unwrap();
    let endpoint = Endpoint::client(rack::localhost()).unwrap();
    let admin = rack.ca.credentials(Role::Admin, "eve", service::Clock::Real.unix(), PATIENCE).unwrap();
    for credentials in [admin, node_credentials(&rack.ca, "n1").unwrap()] {
        let connection =
            endpoint.dial(address, &credentials, wire::ALPN_MAIN, Role::ServiceNode).await.unwrap();
        tokio::time::timeout(PATIENCE, connection.closed()).await.unwrap();
    }
    eventually("both are audited", || rack.master.tables(|tables| tables.audits.len() >= 2)).await.unwrap();
    assert!(rack.node().agents().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_does_not_enrol_with_a_service_node_of_another_cluster() {
    let rack = Rack::start().await.unwrap();
    let root = tempfile::tempdir().unwrap();
    let mut config = rack.agent(root.path(), "S1", Phase::Genesis).unwrap();
    config.pin = [7; 32];
    let running = Running::start(config);
    let strange =
        node_credentials(&link::pki::Authority::create("other", 1_700_000_000).unwrap(), "n1").unwrap();
    let endpoint = Endpoint::client(rack::localhost()).unwrap();
    let address = rack.node().agent_address().unwrap();
    assert!(endpoint.dial(address, &strange, wire::ALPN_MAIN, Role::ServiceNode).await.is_err());
    assert!(rack.master.tables(|tables| tables.enrolments.is_empty()));
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_and_oversized_greetings_are_dropped_and_counted() {
    let rack = Rack::start().await.unwrap();
    let address = rack.node().agent_address().unwrap();
    let pin = pki::pin(rack.ca.ca_pem()).unwrap();
    let endpoint = Endpoint::client(rack::localhost()).unwrap();
    for payload in [vec![0xff; 100], vec![7; 3 * 1024 * 1024]] {
        let connection = endpoint.dial_pinned(address, pin, wire::ALPN_ENROL).await.unwrap();
        let mut exchange = connection.open().await.unwrap();
        let _ = exchange.sender.send_bytes(&payload).await;
        tokio::time::timeout(PATIENCE, connection.closed()).await.unwrap();
    }
    eventually("both are counted", || rack.node().health().counter("enrol_malformed").value() == 2)
        .await
        .unwrap();
    let connection = endpoint.dial_pinned(address, pin, wire::ALPN_ENROL).await.unwrap();
    let mut exchange = connection.open().await.unwrap();
    let old = EnrolHello {
        version: 0,
        public_key: vec![1],
        proof: Vec::new(),
        hardware: wire::hardware::Hardware::default(),
        boot_id: String::new(),
        phase: Phase::Genesis,
    };
    exchange.send(&old).await.unwrap();
    let answer: EnrolAnswer = exchange.expect(PATIENCE).await.unwrap();
    assert!(matches!(answer, EnrolAnswer::Denied(reason) if reason.contains("version")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_booted_for_its_adapters_tells_them_before_it_goes_on() {
    let rack = Rack::start().await.unwrap();
    let root = tempfile::tempdir().unwrap();
    rack.master.tables(|tables| tables.admit.insert("S1".to_owned(), "n1".to_owned()));
    rack.master.node("n1", |node| node.destiny = "boot".to_owned());
    rack.node().boots().genesis_next("n1", Instant::now());
    let mut config = rack.agent(root.path(), "S1", Phase::Genesis).unwrap();
    let adapter = wire::hardware::Adapter { name: "eno1".to_owned(), ..Default::default() };
    config.hardware.as_mut().unwrap().adapters.push(adapter);
    assert_eq!(Running::start(config).outcome().await.unwrap(), Outcome::BootDisk);
    rack.master.tables(|tables| {
        let told = tables.reports.iter().position(
            |(_, report)| matches!(report, Report::Adapters(adapters) if adapters[0].name == "eno1"),
        );
        let gone = tables.reports.iter().position(|(_, report)| matches!(report, Report::Status(_)));
        assert!(told.unwrap() < gone.unwrap(), "{:?}", tables.reports);
    });
    assert!(!rack.node().boots().is_genesis_next("n1", Instant::now()));
}

/// An agent's conversation, held by the test itself.
async fn played_agent(rack: &Rack, node: &str) -> (link::Connection, link::Exchange) {
    let credentials = node_credentials(&rack.ca, node).unwrap();
    let key = pki::Key::load(&credentials.key_pem).unwrap();
    let fingerprint = pki::digest(&key.public_der).iter().map(|byte| format!("{byte:02x}")).collect();
    rack.master.node(node, |view| view.key_fingerprint = fingerprint);
    let endpoint = Endpoint::client(rack::localhost()).unwrap();
    let address = rack.node().agent_address().unwrap();
    let connection = endpoint.dial(address, &credentials, wire::ALPN_MAIN, Role::ServiceNode).await.unwrap();
    let mut exchange = connection.open().await.unwrap();
    let hello = AgentHello {
        version: wire::version::CURRENT,
        program: "test".to_owned(),
        boot_id: "b".to_owned(),
        phase: Phase::System,
        generation: 0,
    };
    exchange.send(&hello).await.unwrap();
    (connection, exchange)
}

fn card(name: &str) -> Adapter {
    Adapter { name: name.to_owned(), mac: "02:00:00:00:00:01".to_owned(), ..Adapter::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agents_answer_that_comes_byte_by_byte_arrives_whole() {
    let rack = Rack::start().await.unwrap();
    let (_connection, mut exchange) = played_agent(&rack, "n1").await;
    let cards: Vec<Adapter> = (0..4).map(|number| card(&format!("eth{number}"))).collect();
    let message = FromAgent { sequence: 1, report: Report::Adapters(cards.clone()) };
    for byte in wire::frame::frame(&message).unwrap() {
        exchange.sender.send_part(&[byte]).await.unwrap();
        // Gives the connection the time to send it off.
        tokio::task::yield_now().await;
    }
    eventually("it is stored", || {
        rack.master.count("n1", |report| matches!(report, Report::Adapters(told) if *told == cards)) == 1
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_speaks_of_another_node_is_its_senders_own() {
    let rack = Rack::start().await.unwrap();
    rack.master.node("n2", |_| {});
    let (_connection, mut exchange) = played_agent(&rack, "n1").await;
    // No message of an agent has a place for a node's name: who it is stands in its certificate.
    let report = Report::Adapters(vec![card("n2"), card("n2!mac=02:00:00:00:00:02")]);
    exchange.send(&FromAgent { sequence: 1, report }).await.unwrap();
    let told = |node: &str| rack.master.count(node, |report| matches!(report, Report::Adapters(_)));
    eventually("it is stored", || told("n1") == 1).await.unwrap();
    assert_eq!(told("n2"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_from_somebody_without_a_certificate_is_turned_away_and_audited() {
    let rack = Rack::start().await.unwrap();
    let endpoint = Endpoint::client(rack::localhost()).unwrap();
    let (address, pin) = (rack.node().agent_address().unwrap(), pki::pin(rack.ca.ca_pem()).unwrap());
    // The refusal may come in the handshake or right after it.
    if let Ok(connection) = endpoint.dial_pinned(address, pin, wire::ALPN_MAIN).await {
        if let Ok(mut exchange) = connection.open().await {
            let report = Report::Adapters(vec![card("evil")]);
            let _ = exchange.send(&FromAgent { sequence: 1, report }).await;
        }
        tokio::time::timeout(PATIENCE, connection.closed()).await.unwrap();
    }
    let turned_away = |audits: &[(String, String)]| {
        audits.iter().any(|(_, what)| what.contains("without a valid certificate"))
    };
    eventually("it is audited", || rack.master.tables(|tables| turned_away(&tables.audits))).await.unwrap();
    assert!(rack.master.tables(|tables| tables.reports.is_empty()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_agents_run_a_command() {
    const AGENTS: usize = 200;
    let rack = Rack::start().await.unwrap();
    let crowd = Crowd::gather(&rack, AGENTS).await.unwrap();
    let names: Vec<_> = (0..AGENTS).map(|number| format!("n{number}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let began = Instant::now();
    let events = rack.fan_out(shell("true"), &names, PATIENCE).await.unwrap();
    let took = began.elapsed();
    println!("xdsh of true on {AGENTS} agents in this process: {took:?}");
    let ends = finals(&events);
    assert_eq!(ends.len(), AGENTS);
    assert!(ends.iter().all(|(_, event)| *event == Event::Exit(0)));
    let asked = rack.fan_out(NodeOp::Adapters, &names[..3], PATIENCE).await.unwrap();
    assert!(finals(&asked).iter().all(|(_, event)| matches!(event, Event::Reply(NodeReply::Adapters(_)))));
    crowd.part().await.unwrap();
}

/// Names the child of the next test.
const IN_NAMESPACE: &str = "RACK_TEST_ECHO";

#[test]
fn a_node_that_answers_echo_with_its_ports_filtered_is_there_and_one_that_answers_nothing_is_not() {
    // What is sent to 192.0.2.0/24 comes back to a machine that has no such address: it is dropped without a word.
    let prepare = "ip link set lo up && ip route add 192.0.2.0/24 dev lo && \
                   echo 0 0 > /proc/sys/net/ipv4/ping_group_range && \
                   exec \"$0\" --exact child_that_looks_at_nodes_in_its_own_network --nocapture";
    let child = std::process::Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "sh", "-c", prepare])
        .arg(std::env::current_exe().unwrap())
        .env(IN_NAMESPACE, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success(), "{text}\n{}", String::from_utf8_lossy(&child.stdout));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_looks_at_nodes_in_its_own_network() {
    if std::env::var_os(IN_NAMESPACE).is_none() {
        return;
    }
    let filtered: std::net::SocketAddr = "127.0.0.2:22".parse().unwrap();
    let _full = std::net::TcpListener::bind(filtered).unwrap();
    // A queue that nobody empties: when it is full, the kernel drops what else comes to the port.
    let limit = Duration::from_millis(200);
    let held: Vec<_> = std::iter::from_fn(|| std::net::TcpStream::connect_timeout(&filtered, limit).ok())
        .take(5_000)
        .collect();
    assert!(held.len() < 5_000);
    let _ssh = std::net::TcpListener::bind("127.0.0.4:22").unwrap();
    let app = std::net::TcpListener::bind("127.0.0.2:0").unwrap();

    let rack = Rack::start().await.unwrap();
    let silent: Vec<String> = (1..=100).map(|n| format!("s{n}")).collect();
    for (n, name) in silent.iter().enumerate() {
        rack.master.node(name, |node| node.ip = format!("192.0.2.{}", n + 1));
    }
    let known = [("filtered", "127.0.0.2"), ("closed", "127.0.0.3"), ("nowhere", ""), ("open", "127.0.0.4")];
    for (name, ip) in known {
        rack.master.node(name, |node| node.ip = ip.to_owned());
    }
    let said = |word: &str| Event::Reply(NodeReply::Text(word.to_owned()));
    let begun = Instant::now();
    // Until the service node knows the last of them.
    while finals(&rack.fan_out(NodeOp::NodeStat, &["open"], PATIENCE).await.unwrap())[0].1 != said("sshd") {
        assert!(begun.elapsed() < PATIENCE);
    }
    let mut names: Vec<&str> = silent.iter().map(String::as_str).collect();
    names.extend(known.map(|(name, _)| name));
    let app = App { name: "db".to_owned(), port: app.local_addr().unwrap().port(), nodes: Vec::new() };
    let question = LifeQuestion { power: false, apps: vec![app] };
    let begun = Instant::now();
    let events = rack.fan_out(NodeOp::NodeLife(question), &names, PATIENCE).await.unwrap();
    let took = begun.elapsed();
    let mut found: std::collections::BTreeMap<_, _> = finals(&events).into_iter().collect();
    for (name, word) in [("filtered", "ping,db"), ("closed", "ping"), ("nowhere", "noping"), ("open", "sshd")]
    {
        assert_eq!(found.remove(name), Some(said(word)), "{name}");
    }
    assert_eq!(found.len(), 100);
    assert!(found.values().all(|event| *event == said("noping")), "{found:?}");
    assert!(took < Duration::from_secs(20), "one after the other: {took:?}");
}
