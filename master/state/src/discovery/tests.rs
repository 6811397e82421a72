#![allow(clippy::unwrap_used)]
use wire::agent::{Booted, EnrolHello, Phase, Report};
use wire::hardware::{Adapter, BmcInBand, Hardware, LinkState};
use wire::ids::{ActionId, RequestId};
use wire::rack::{Enrol, Evidence, TokenProof};

use super::waits::{End, Open, Opened, Past, Stage};
use super::*;
use crate::view::column;
use crate::view::fake::Fake;

const NOW: u64 = 1_700_000_000;

/// Two racks with two nodes each and a chain.
fn cluster() -> Fake {
    let mut tables = Fake::default();
    for (node, rack) in [("n1", "sn1"), ("n2", "sn1"), ("m1", "sn2"), ("m2", "sn2")] {
        tables.add("nodelist", &[&format!("node={node}"), "groups=all"]);
        tables.add("noderes", &[&format!("node={node}"), &format!("servicenode={rack}")]);
        tables.add("switch", &[&format!("node={node}"), "switch=switch1", &format!("port={node}")]);
    }
    tables.add("chain", &["node=all", "chain=runcmd=bmcsetup,standby"]);
    tables
}

fn machine(serial: &str) -> Hardware {
    Hardware {
        arch: "x86_64".into(),
        uuid: format!("0000-{serial}"),
        mtm: "PE860".into(),
        serial: serial.into(),
        cpu_count: 8,
        cpu_model: "Cpu".into(),
        memory_mib: 2048,
        adapters: vec![Adapter {
            name: "eth0".into(),
            mac: format!("02:00:00:00:00:{serial}"),
            ..Adapter::default()
        }],
        boot_mac: format!("02:00:00:00:00:{serial}"),
        bmc: Some(BmcInBand { address: "10.8.0.1".into(), source: "static".into(), ..BmcInBand::default() }),
        ..Hardware::default()
    }
}

fn asks(rack: &str, key: &str, hardware: Hardware, evidence: &[(&str, &str)]) -> Enrolment {
    Enrolment {
        rack: rack.into(),
        fingerprint: key.into(),
        connected: Vec::new(),
        request: Enrol {
            hello: EnrolHello {
                version: 1,
                public_key: Vec::new(),
                proof: Vec::new(),
                hardware,
                boot_id: "b".into(),
                phase: Phase::Genesis,
            },
            address: "10.0.0.50".into(),
            evidence: evidence
                .iter()
                .map(|(method, node)| Evidence {
                    method: (*method).into(),
                    node: (*node).into(),
                    reason: format!("because {method}"),
                })
                .collect(),
            token: None,
        },
    }
}

fn with_token(mut enrolment: Enrolment, node: &str, generation: u64, expires: u64) -> Enrolment {
    let digest = format!("token-of-{node}-{generation}");
    enrolment.request.token = Some(TokenProof { node: node.into(), generation, digest, expires });
    enrolment
}

/// Decides and applies.
fn run(tables: &mut Fake, event: RackEvent, cluster: u64) -> Verdict {
    let verdict = decide(tables, &event, Times { wall: NOW, cluster, revision: 9 });
    tables.apply(&verdict.writes);
    verdict
}

fn enrol(tables: &mut Fake, enrolment: Enrolment) -> Outcome {
    run(tables, RackEvent::Enrol(Box::new(enrolment)), 0).outcome
}

fn report(tables: &mut Fake, rack: &str, node: &str, report: Report) -> Verdict {
    run(tables, RackEvent::Report { rack: rack.into(), node: node.into(), report, at: NOW }, 0)
}

fn cell(tables: &Fake, node: &str, table: &str, name: &str) -> String {
    tables.attribute(node, table, name)
}

fn audits(tables: &Fake) -> Vec<String> {
    tables
        .rows("auditlog")
        .iter()
        .filter(|row| column(row, "status") == "false")
        .map(|row| column(row, "args").to_owned())
        .collect()
}

fn is_admitted(outcome: &Outcome, name: &str, how: &str) -> bool {
    matches!(outcome, Outcome::Admitted { node, method, .. } if node == name && method == how)
}

#[test]
fn a_machine_on_a_nodes_port_becomes_that_node_with_all_its_rows() {
    let mut tables = cluster();
    let outcome = enrol(&mut tables, asks("sn1", "key1", machine("01"), &[("switch", "n1"), ("mtms", "")]));
    assert_eq!(outcome, Outcome::Admitted { node: "n1".into(), method: "switch".into(), generation: 1 });
    for (table, name, value) in [
        ("vpd", "serial", "01"),
        ("vpd", "mtm", "PE860"),
        ("vpd", "uuid", "0000-01"),
        ("mac", "mac", "02:00:00:00:00:01"),
        ("hwinv", "memory", "2048MB"),
        ("hwinv", "cpucount", "8"),
        ("nodetype", "arch", "x86_64"),
        ("noderes", "netboot", "xnba"),
        ("ipmi", "bmc", "10.8.0.1"),
        ("chain", "currstate", "runcmd=bmcsetup"),
        ("chain", "currchain", "standby"),
        ("nodelist", "status", "configuring"),
        ("identity", "fingerprint", "key1"),
        ("switch", "port", "n1"),
    ] {
        assert_eq!(cell(&tables, "n1", table, name), value, "{table}.{name}");
    }
    let seen = tables.row("discoverydata", &["0000-01"]).unwrap();
    assert_eq!((column(&seen, "node"), column(&seen, "method")), ("n1", "switch"));
    assert_eq!(column(&seen, "nichwaddr"), "eth0!02:00:00:00:00:01");
}

#[test]
fn what_an_admin_wrote_is_not_overwritten_by_discovery() {
    let mut tables = cluster();
    tables.add("ipmi", &["node=n1", "bmc=n1-bmc"]);
    tables.add("noderes", &["node=all", "netboot=grub2"]);
    tables.add("mac", &["node=n1", "mac=02:00:00:00:00:01|02:00:00:00:00:99!*NOIP*"]);
    enrol(&mut tables, asks("sn1", "key1", machine("01"), &[("switch", "n1")]));
    assert_eq!(cell(&tables, "n1", "ipmi", "bmc"), "n1-bmc");
    assert_eq!(cell(&tables, "n1", "noderes", "netboot"), "grub2");
    assert!(cell(&tables, "n1", "mac", "mac").contains("99"));
}

#[test]
fn the_same_key_again_gets_the_same_answer_and_changes_nothing() {
    let mut tables = cluster();
    let ask = asks("sn1", "key1", machine("01"), &[("switch", "n1")]);
    enrol(&mut tables, ask.clone());
    let verdict = run(&mut tables, RackEvent::Enrol(Box::new(ask)), 0);
    assert!(is_admitted(&verdict.outcome, "n1", "switch") && verdict.writes.is_empty());
}

#[test]
fn two_machines_that_claim_one_node_are_told_apart_and_the_first_stays() {
    let mut tables = cluster();
    assert!(is_admitted(
        &enrol(&mut tables, asks("sn1", "key1", machine("01"), &[("switch", "n1")])),
        "n1",
        "switch"
    ));
    let second = asks("sn1", "key2", machine("02"), &[("switch", "n1")]);
    let Outcome::Pending(reason) = enrol(&mut tables, second.clone()) else { panic!("not pending") };
    assert!(reason.contains("held by another machine"), "{reason}");
    assert_eq!(cell(&tables, "n1", "identity", "fingerprint"), "key1");
    assert_eq!(cell(&tables, "n1", "vpd", "serial"), "01");
    assert_eq!(audits(&tables).len(), 1);
    // It asks again every few seconds: one alarm, one entry.
    let again = run(&mut tables, RackEvent::Enrol(Box::new(second)), 0);
    assert!(again.writes.is_empty(), "{:?}", again.writes);
}

#[test]
fn a_stranger_with_a_nodes_uuid_changes_nothing_of_that_nodes_entry() {
    let mut tables = cluster();
    enrol(&mut tables, asks("sn1", "key1", machine("01"), &[("switch", "n1")]));
    let before = tables.row("discoverydata", &["0000-01"]).unwrap();
    let outcome = enrol(&mut tables, asks("sn1", "strange-key", machine("01"), &[("switch", "")]));
    assert!(matches!(outcome, Outcome::Pending(_)));
    assert_eq!(tables.row("discoverydata", &["0000-01"]).unwrap(), before);
    assert!(tables.row("discoverydata", &["0000-01#strange-"]).is_some());
}

#[test]
fn an_unknown_machine_is_listed_with_the_reason_of_each_method_until_a_row_names_it() {
    let mut tables = cluster();
    let ask = asks("sn1", "key9", machine("09"), &[("switch", ""), ("mtms", "")]);
    let Outcome::Pending(reason) = enrol(&mut tables, ask.clone()) else { panic!("not pending") };
    assert_eq!(reason, "switch: because switch; mtms: because mtms");
    let row = tables.row("discovered", &["0000-09"]).unwrap();
    assert_eq!((column(&row, "state"), column(&row, "reasons")), ("pending", reason.as_str()));
    assert_eq!(column(&tables.row("discoverydata", &["0000-09"]).unwrap(), "method"), "undef");
    let again = run(&mut tables, RackEvent::Enrol(Box::new(ask.clone())), 0);
    assert!(again.writes.is_empty(), "asking again writes nothing");
    let outcome = enrol(&mut tables, asks("sn1", "key9", machine("09"), &[("switch", "n2")]));
    assert!(is_admitted(&outcome, "n2", "switch"));
    let row = tables.row("discovered", &["0000-09"]).unwrap();
    assert_eq!((column(&row, "state"), column(&row, "node"), column(&row, "reasons")), ("matched", "n2", ""));
}

#[test]
fn methods_that_disagree_or_point_to_nothing_admit_nobody() {
    let mut tables = cluster();
    let reasons = [
        (asks("sn1", "k", machine("05"), &[("switch", "n1"), ("mtms", "n2")]), "the methods disagree"),
        (asks("sn1", "k", machine("05"), &[("switch", "nowhere")]), "not defined"),
        (asks("sn1", "k", machine("05"), &[("switch", "m1")]), "does not belong to service node sn1"),
        (asks("sn1", "k", machine("05"), &[("mac", "n1")]), "because mac"),
        (asks("sn1", "k", machine("05"), &[]), "no method"),
    ];
    for (ask, expected) in reasons {
        let Outcome::Pending(reason) = enrol(&mut tables, ask) else { panic!("not pending") };
        assert!(reason.contains(expected), "{reason}");
    }
    let outcome = enrol(&mut tables, asks("sn1", "k", machine("05"), &[("switch", "n1"), ("mtms", "n1")]));
    assert!(is_admitted(&outcome, "n1", "switch"), "methods that agree are one");
}

#[test]
fn an_admins_word_admits_the_machine_that_the_admin_saw() {
    let mut tables = cluster();
    let ask = asks("sn1", "key9", machine("09"), &[("switch", "")]);
    enrol(&mut tables, ask.clone());
    let word = |key: &str| {
        vec![
            Write::Set {
                table: "discoverydata",
                key: vec![("uuid", "0000-09".into())],
                values: vec![("node", "n2".into()), ("method", "manual".into())],
            },
            Write::Set {
                table: "discovered",
                key: vec![("id", "0000-09".into())],
                values: vec![
                    ("node", "n2".into()),
                    ("state", "approved".into()),
                    ("fingerprint", key.into()),
                ],
            },
        ]
    };
    let mut other = tables.clone();
    other.apply(&word("another-key"));
    assert!(matches!(enrol(&mut other, ask.clone()), Outcome::Pending(_)));
    tables.apply(&word("key9"));
    assert!(is_admitted(&enrol(&mut tables, ask), "n2", "manual"));
}

#[test]
fn a_token_brings_a_known_node_back_with_a_new_key_and_works_once() {
    let mut tables = cluster();
    enrol(&mut tables, asks("sn1", "key1", machine("01"), &[("switch", "n1")]));
    tables.apply(&[Write::node("chain", "n1", vec![("currstate", "shell".into())])]);
    let fresh = with_token(asks("sn1", "key2", machine("01"), &[]), "n1", 1, NOW + 60);
    assert_eq!(
        enrol(&mut tables, fresh.clone()),
        Outcome::Admitted { node: "n1".into(), method: "token".into(), generation: 2 }
    );
    assert_eq!(cell(&tables, "n1", "identity", "fingerprint"), "key2");
    assert_eq!(cell(&tables, "n1", "chain", "currstate"), "shell", "a known node goes on where it is");
    assert_eq!(column(&tables.row("discoverydata", &["0000-01"]).unwrap(), "method"), "switch");
    let mut thief = fresh.clone();
    thief.fingerprint = "key3".into();
    let Outcome::Denied(reason) = enrol(&mut tables, thief) else { panic!("not denied") };
    assert!(reason.contains("used before"), "{reason}");
    assert_eq!(cell(&tables, "n1", "identity", "fingerprint"), "key2");
    assert_eq!(audits(&tables).len(), 1);
    assert!(
        is_admitted(&enrol(&mut tables, fresh), "n1", "token"),
        "its own machine may have lost the answer"
    );
}

#[test]
fn a_token_that_is_expired_old_or_anothers_is_refused_audited_and_changes_nothing() {
    let mut tables = cluster();
    enrol(&mut tables, asks("sn1", "key1", machine("01"), &[("switch", "n1")]));
    enrol(&mut tables, asks("sn1", "key2", machine("02"), &[("switch", "n2")]));
    let before = tables.row("identity", &["n1"]);
    let cases = [
        (with_token(asks("sn1", "x", machine("01"), &[]), "n1", 1, NOW - 1), "expired"),
        (with_token(asks("sn1", "x", machine("01"), &[]), "n1", 0, NOW + 60), "boot generation 0, now is 1"),
        (with_token(asks("sn1", "x", machine("01"), &[]), "n1", 7, NOW + 60), "boot generation 7"),
        (
            with_token(asks("sn1", "x", machine("02"), &[("switch", "n2")]), "n1", 1, NOW + 60),
            "without any of its adapters",
        ),
        (with_token(asks("sn1", "x", machine("01"), &[]), "n9", 0, NOW + 60), "not defined"),
        (
            with_token(asks("sn2", "x", machine("01"), &[]), "n1", 1, NOW + 60),
            "does not belong to service node sn2",
        ),
    ];
    for (count, (ask, expected)) in cases.into_iter().enumerate() {
        let Outcome::Denied(reason) = enrol(&mut tables, ask) else { panic!("{expected}: not denied") };
        assert!(reason.contains(expected), "{reason}");
        assert_eq!(audits(&tables).len(), count + 1);
    }
    assert_eq!(tables.row("identity", &["n1"]), before);
}

#[test]
fn a_held_node_returns_without_a_token_only_where_the_site_is_open_and_everything_agrees() {
    let mut tables = cluster();
    enrol(&mut tables, asks("sn1", "key1", machine("01"), &[("switch", "n1")]));
    let again = asks("sn1", "key2", machine("01"), &[("switch", "n1")]);
    assert!(matches!(enrol(&mut tables.clone(), again.clone()), Outcome::Pending(_)));
    tables.add("site", &["key=enrol", "value=open"]);
    let mut other = machine("01");
    other.serial = "77".into();
    assert!(matches!(
        enrol(&mut tables.clone(), asks("sn1", "k", other, &[("switch", "n1")])),
        Outcome::Pending(_)
    ));
    let mut connected = again.clone();
    connected.connected = vec!["n1".into()];
    assert!(matches!(enrol(&mut tables.clone(), connected), Outcome::Pending(_)));
    assert!(is_admitted(&enrol(&mut tables, again), "n1", "switch"));
}

#[test]
fn a_service_node_speaks_for_its_own_nodes_only() {
    let mut tables = cluster();
    let verdict = report(&mut tables, "sn2", "n1", Report::Status("booted".into()));
    assert!(matches!(verdict.outcome, Outcome::Rejected(_)));
    assert_eq!(cell(&tables, "n1", "nodelist", "status"), "");
    assert_eq!(audits(&tables).len(), 1);
    let verdict = report(&mut tables, "sn1", "n9", Report::Status("booted".into()));
    assert!(matches!(verdict.outcome, Outcome::Rejected(_)), "an undefined node");
}

#[test]
fn reports_become_rows() {
    let mut tables = cluster();
    report(&mut tables, "sn1", "n1", Report::Status("installing".into()));
    assert_eq!(cell(&tables, "n1", "nodelist", "status"), "installing");
    assert_eq!(cell(&tables, "n1", "nodelist", "statustime"), "11-14-2023 22:13:20");
    assert!(matches!(
        report(&mut tables, "sn1", "n1", Report::Status("a\nb".into())).outcome,
        Outcome::Rejected(_)
    ));
    let booted = Booted {
        generation: 7,
        failed_steps: vec![("mounts".into(), "nfs: no route".into())],
        start_status: Some(3),
    };
    report(&mut tables, "sn1", "n1", Report::Booted(booted));
    assert_eq!(cell(&tables, "n1", "nodelist", "status"), "booted");
    assert_eq!(cell(&tables, "n1", "selfconf", "failedsteps"), "mounts: nfs: no route");
    assert_eq!(cell(&tables, "n1", "selfconf", "startstatus"), "3");
    report(&mut tables, "sn1", "n1", Report::Hardware(Box::new(machine("44"))));
    assert_eq!(cell(&tables, "n1", "vpd", "serial"), "44");
    report(&mut tables, "sn1", "n1", Report::HostKeys(vec!["ssh-ed25519 AAAA".into()]));
    assert_eq!(cell(&tables, "n1", "identity", "hostkeys"), "ssh-ed25519 AAAA");
    tables.add("site", &["key=nodestatus", "value=n"]);
    report(&mut tables, "sn1", "n1", Report::Status("alive".into()));
    assert_eq!(cell(&tables, "n1", "nodelist", "status"), "booted", "the site wants no status");
}

#[test]
fn a_chain_step_that_is_reported_twice_is_taken_once() {
    let mut tables = cluster();
    enrol(&mut tables, asks("sn1", "key1", machine("01"), &[("switch", "n1")]));
    let done = Report::NextDestiny { done: "runcmd=bmcsetup".into(), status: 0 };
    report(&mut tables, "sn1", "n1", done.clone());
    assert_eq!(cell(&tables, "n1", "chain", "currstate"), "standby");
    assert_eq!(cell(&tables, "n1", "nodelist", "status"), "standingby");
    assert!(report(&mut tables, "sn1", "n1", done).writes.is_empty());
    let failed = Report::NextDestiny { done: "standby".into(), status: 3 };
    let verdict = report(&mut tables, "sn1", "n1", failed);
    assert!(
        verdict
            .writes
            .iter()
            .any(|write| matches!(write, Write::Audit { what, .. } if what.contains("status 3")))
    );
}

fn id(sequence: u64) -> RequestId {
    RequestId { client: 7, sequence }
}

fn open(tables: &mut Fake, sequence: u64, nodes: &[&str], cluster: u64) -> Vec<Opened> {
    let open = Open {
        request: id(sequence),
        action: ActionId(sequence),
        nodes: nodes.iter().map(|node| (*node).to_owned()).collect(),
        timeout: 3_000,
    };
    match run(tables, RackEvent::Open(open), cluster).outcome {
        Outcome::Opened(answers) => answers.into_iter().map(|(_, opened)| opened).collect(),
        other => panic!("{other:?}"),
    }
}

fn adapters() -> Report {
    let card = Adapter {
        name: "eno1".into(),
        mac: "02:00:00:00:00:01".into(),
        link: LinkState::Up,
        ..Adapter::default()
    };
    Report::Adapters(vec![card])
}

fn stage(tables: &Fake, node: &str) -> Stage {
    waits::stage(&tables.row("taskstate", &[node, waits::COMMAND]).unwrap())
}

fn state(tables: &Fake, node: &str) -> String {
    tables
        .row("taskstate", &[node, waits::COMMAND])
        .map(|row| column(&row, "state").to_owned())
        .unwrap_or_default()
}

#[test]
fn a_second_request_joins_and_one_answer_ends_both_waits() {
    let mut tables = cluster();
    assert_eq!(open(&mut tables, 1, &["n1", "n2", "n9"], 0), [Opened::First, Opened::First, Opened::Gone]);
    assert_eq!(open(&mut tables, 2, &["n1"], 0), [Opened::Joined]);
    assert_eq!(open(&mut tables, 2, &["n1"], 0), [Opened::Joined], "sent again it is the same request");
    assert_eq!(open(&mut tables, 1, &["n1"], 0), [Opened::Joined], "also of the first one");
    assert_eq!(stage(&tables, "n1"), Stage::Opened { force: false });
    run(&mut tables, RackEvent::Arm { nodes: vec!["n1".into(), "n2".into()] }, 0);
    assert_eq!(stage(&tables, "n1"), Stage::Ordered);
    assert_eq!(cell(&tables, "n1", "nodelist", "status"), "powering-on");
    assert_eq!(tables.rows("taskstate").len(), 2, "one row a node");
    let verdict = report(&mut tables, "sn1", "n1", adapters());
    let Notice::Adapters { node, lines, stored } = &verdict.notices[0] else { panic!("no notice") };
    assert_eq!((node.as_str(), *stored, lines.len()), ("n1", true, 1));
    assert_eq!((state(&tables, "n1").as_str(), state(&tables, "n2").as_str()), ("done", "waiting"));
    assert_eq!(cell(&tables, "n1", "nics", "nicsadapter"), "eno1!mac=02:00:00:00:00:01 linkstate=UP");
    assert_eq!(
        open(&mut tables, 1, &["n1", "n2"], 0),
        [Opened::Done, Opened::Joined],
        "a client that comes back"
    );
    assert_eq!(open(&mut tables, 3, &["n1"], 0), [Opened::First], "a new request asks again");
    assert_eq!(column(&tables.row("taskstate", &["n1", waits::COMMAND]).unwrap(), "attempt"), "2");
}

#[test]
fn a_row_remembers_how_the_requests_of_earlier_waits_ended() {
    let mut tables = cluster();
    open(&mut tables, 1, &["n1"], 0);
    report(&mut tables, "sn1", "n1", adapters());
    open(&mut tables, 2, &["n1"], 0);
    assert_eq!(open(&mut tables, 1, &["n1"], 0), [Opened::Done], "another request waits there now");
    run(&mut tables, RackEvent::Sweep { keep: 10_000 }, 3_000);
    open(&mut tables, 3, &["n1"], 3_000);
    let row = tables.row("taskstate", &["n1", waits::COMMAND]).unwrap();
    let pasts = [1, 2, 3, 4].map(|sequence| waits::past(&row, id(sequence)));
    assert_eq!(pasts, [Past::Done, Past::Ended(End::Timeout), Past::Waits, Past::Unknown]);
    for sequence in 4..200 {
        report(&mut tables, "sn1", "n1", adapters());
        open(&mut tables, sequence, &["n1"], 3_000);
    }
    let row = tables.row("taskstate", &["n1", waits::COMMAND]).unwrap();
    assert_eq!((waits::past(&row, id(1)), waits::past(&row, id(198))), (Past::Unknown, Past::Done));
    assert!(column(&row, "earlier").len() < 2_000, "bounded");
}

#[test]
fn who_may_reboot_is_in_the_row_until_the_boot_is_ordered() {
    let mut tables = cluster();
    let by_force = |sequence| {
        RackEvent::OpenByForce(Open {
            request: id(sequence),
            action: ActionId(sequence),
            nodes: vec!["n1".into()],
            timeout: 3_000,
        })
    };
    open(&mut tables, 1, &["n1"], 0);
    run(&mut tables, by_force(2), 0);
    assert_eq!(stage(&tables, "n1"), Stage::Opened { force: true }, "who joins may allow it");
    run(&mut tables, RackEvent::Arm { nodes: vec!["n1".into()] }, 0);
    run(&mut tables, by_force(3), 0);
    assert_eq!(stage(&tables, "n1"), Stage::Ordered, "nothing is ordered twice");
    report(&mut tables, "sn1", "n1", adapters());
    run(&mut tables, by_force(4), 0);
    assert_eq!(stage(&tables, "n1"), Stage::Opened { force: true });
}

#[test]
fn late_double_and_unasked_answers_are_stored_and_wake_nobody() {
    let mut tables = cluster();
    let verdict = report(&mut tables, "sn1", "n1", adapters());
    assert!(verdict.notices.is_empty() && verdict.outcome == Outcome::Stored);
    assert!(!cell(&tables, "n1", "nics", "nicsadapter").is_empty());
    assert!(report(&mut tables, "sn1", "n1", adapters()).writes.is_empty(), "the same again changes nothing");
    open(&mut tables, 1, &["n2"], 0);
    run(&mut tables, RackEvent::Sweep { keep: 10_000 }, 2_999);
    assert_eq!(state(&tables, "n2"), "waiting");
    let verdict = run(&mut tables, RackEvent::Sweep { keep: 10_000 }, 3_000);
    assert_eq!(
        verdict.notices,
        [Notice::Closed { node: "n2".into(), end: End::Timeout, request: None, text: "".into() }]
    );
    report(&mut tables, "sn1", "n2", adapters());
    assert_eq!(state(&tables, "n2"), "timeout");
    assert!(!cell(&tables, "n2", "nics", "nicsadapter").is_empty(), "the late answer is stored");
    assert_eq!(open(&mut tables, 1, &["n2"], 3_000), [Opened::Ended(End::Timeout)]);
    run(&mut tables, RackEvent::Sweep { keep: 10_000 }, 12_999);
    assert_eq!(state(&tables, "n2"), "timeout");
    run(&mut tables, RackEvent::Sweep { keep: 10_000 }, 13_000);
    assert_eq!(state(&tables, "n2"), "", "dropped after its time");
}

#[test]
fn an_empty_answer_is_refused_and_a_nameless_one_ends_the_wait_without_a_row() {
    let mut tables = cluster();
    open(&mut tables, 1, &["n1"], 0);
    let verdict = report(&mut tables, "sn1", "n1", Report::Adapters(Vec::new()));
    assert!(matches!(verdict.outcome, Outcome::Rejected(_)));
    assert_eq!(state(&tables, "n1"), "waiting");
    let nameless = Adapter { pci: "0000:01:00.0".into(), ..Adapter::default() };
    let verdict = report(&mut tables, "sn1", "n1", Report::Adapters(vec![nameless]));
    assert!(matches!(&verdict.notices[0], Notice::Adapters { stored: false, .. }));
    assert_eq!(
        (state(&tables, "n1").as_str(), cell(&tables, "n1", "nics", "nicsadapter").as_str()),
        ("done", "")
    );
}

#[test]
fn a_cancel_ends_the_wait_only_of_the_one_who_cancels() {
    let mut tables = cluster();
    open(&mut tables, 1, &["n1"], 0);
    open(&mut tables, 2, &["n1"], 0);
    let cancel = |sequence| RackEvent::Close {
        nodes: vec!["n1".into()],
        end: End::Cancelled,
        request: Some(id(sequence)),
        text: "why".into(),
    };
    let verdict = run(&mut tables, cancel(1), 0);
    assert_eq!(
        verdict.notices,
        [Notice::Closed { node: "n1".into(), end: End::Cancelled, request: Some(id(1)), text: "why".into() }]
    );
    assert_eq!(state(&tables, "n1"), "waiting");
    assert!(run(&mut tables, cancel(5), 0).writes.is_empty(), "who does not wait cannot cancel");
    run(&mut tables, cancel(2), 0);
    assert_eq!(state(&tables, "n1"), "cancelled");
    report(&mut tables, "sn1", "n1", adapters());
    assert!(!cell(&tables, "n1", "nics", "nicsadapter").is_empty(), "its answer is stored all the same");
}

#[test]
fn the_room_of_a_node_is_bounded() {
    let mut tables = cluster();
    open(&mut tables, 0, &["n1"], 0);
    for sequence in 1..waits::ROOM as u64 {
        assert_eq!(open(&mut tables, sequence, &["n1"], 0), [Opened::Joined]);
    }
    assert_eq!(open(&mut tables, 9_999, &["n1"], 0), [Opened::Full]);
}

#[test]
fn a_node_that_is_booted_for_a_wait_gets_its_boot_state_back() {
    let mut tables = cluster();
    tables.add("chain", &["node=n1", "currstate=boot"]);
    tables.add("chain", &["node=n2", "currstate=shell"]);
    open(&mut tables, 1, &["n1", "n2"], 0);
    let arm = RackEvent::Arm { nodes: vec!["n1".into(), "n2".into(), "m1".into()] };
    run(&mut tables, arm.clone(), 0);
    assert_eq!(cell(&tables, "n1", "chain", "currstate"), "standby");
    assert_eq!(cell(&tables, "n2", "chain", "currstate"), "shell", "it stays in the image anyway");
    assert_eq!(cell(&tables, "m1", "chain", "currstate"), "", "nobody waits there");
    assert!(run(&mut tables, arm, 0).writes.is_empty());
    report(&mut tables, "sn1", "n1", adapters());
    assert_eq!(cell(&tables, "n1", "chain", "currstate"), "boot");
    open(&mut tables, 2, &["n1"], 0);
    run(&mut tables, RackEvent::Arm { nodes: vec!["n1".into()] }, 0);
    tables.apply(&[Write::node("chain", "n1", vec![("currstate", "install x".into())])]);
    run(&mut tables, RackEvent::Sweep { keep: 1 }, 3_000);
    assert_eq!(
        cell(&tables, "n1", "chain", "currstate"),
        "install x",
        "somebody gave it another state meanwhile"
    );
}

#[test]
fn a_join_token_works_once_for_its_service_node_within_its_time() {
    let mut tables = cluster();
    tables.add("servicenodes", &["name=sn1", "tokenhash=aa", &format!("expires={}", NOW + 5)]);
    tables.add("servicenodes", &["name=sn2", "tokenhash=bb", &format!("expires={}", NOW - 5)]);
    let join = |name: &str, digest: &str, key: &str| RackEvent::Join {
        name: name.into(),
        digest: digest.into(),
        fingerprint: key.into(),
    };
    for (event, expected) in [
        (join("sn1", "zz", "k"), "not the join token"),
        (join("sn1", "", "k"), "not the join token"),
        (join("sn2", "bb", "k"), "expired"),
        (join("sn3", "aa", "k"), "no service node"),
    ] {
        let Outcome::Denied(reason) = run(&mut tables, event, 0).outcome else { panic!("{expected}") };
        assert!(reason.contains(expected), "{reason}");
    }
    assert_eq!(run(&mut tables, join("sn1", "aa", "k1"), 0).outcome, Outcome::Joined);
    assert_eq!(run(&mut tables, join("sn1", "aa", "k1"), 0).outcome, Outcome::Joined, "its answer was lost");
    let Outcome::Denied(reason) = run(&mut tables, join("sn1", "aa", "k2"), 0).outcome else {
        panic!("twice")
    };
    assert!(reason.contains("used before"), "{reason}");
    assert_eq!(audits(&tables).len(), 5);
}
