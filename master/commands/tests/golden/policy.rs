//! The matrix of policy: each request with its verdict, as `margay policy test` tells it, and as other rules would.

use std::collections::BTreeMap;

use commands::{Ctx, Inputs, Need, Plan, Record, resolve};
use state::{Entry, Files, RowChange, State, Transaction};
use wire::op::Stream;

use crate::world::golden;

struct Case {
    line: String,
    time: String,
    user: String,
    host: String,
    allowed: bool,
    rule: Option<String>,
    scope: String,
    words: Vec<String>,
}

fn text(name: &str) -> String {
    std::fs::read_to_string(golden("policy").join(name)).unwrap()
}

fn cases() -> Vec<Case> {
    let matrix = text("matrix.txt");
    let lines = matrix.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let case = |line: &str| {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let [time, user, host, verdict, rule, scope, words @ ..] = words.as_slice() else { panic!("{line}") };
        assert!(verdict == "allow" || verdict == "deny", "{line}");
        Case {
            line: line.to_owned(),
            time: time.clone(),
            user: user.clone(),
            host: format!("127.0.0.{host}"),
            allowed: verdict == "allow",
            rule: (rule != "-").then(|| rule.clone()),
            scope: scope.clone(),
            words: words.to_vec(),
        }
    };
    lines.map(case).collect()
}

fn world() -> State {
    let mut changes = vec![RowChange::set("site", &["excludenodes"], &[("value", "hidden1")])];
    for line in text("world.txt").lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split(' ').collect();
        changes.push(RowChange::set("nodelist", &[words[0]], &[("groups", words[1])]));
        changes.push(RowChange::set("nodehm", &[words[0]], &[("mgt", "ipmi")]));
        if let Some(address) = words.get(2) {
            changes.push(RowChange::set("hosts", &[words[0]], &[("ip", address)]));
        }
    }
    let (columns, records) = commands::csv::parse(text("rules.csv").as_bytes()).unwrap();
    for record in records {
        let cells: Vec<(String, String)> = columns.iter().cloned().zip(record.values).collect();
        let key = vec![cells[0].1.clone()];
        changes.push(RowChange::Set { table: "policy".into(), key, cells });
    }
    let mut state = State::new();
    state.apply(1, &Entry::Transaction(Transaction { changes, ..Transaction::default() }));
    state
}

/// Runs a verb of `margay` that changes nothing; gives standard output, standard error and the status.
fn margay(state: &State, words: &[&str], files: Files, reads: Vec<Record>, now: u64) -> (String, String, u8) {
    let argv: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let (command, args) = resolve("margay", &argv).unwrap();
    let mut inputs = Inputs { reads: Some(reads), status: Some(Vec::new()), ..Inputs::default() };
    loop {
        let ctx = Ctx {
            state,
            command: command.name,
            args,
            caller: "root",
            cluster: "mn01",
            now,
            version: "0",
            environment: &BTreeMap::new(),
            files: &files,
            stdin: None,
            inputs: &inputs,
            named: None,
            sink: None,
        };
        match (command.plan)(&ctx) {
            Plan::Answer(output) => return (output.all(Stream::Out), output.all(Stream::Err), output.status),
            Plan::Need(Need::Past(query)) => inputs.past = Some((query, Default::default())),
            other => panic!("{words:?}: {other:?}"),
        }
    }
}

#[test]
fn every_verdict_of_the_matrix_is_explained_by_policy_test() {
    let state = world();
    let cases = cases();
    assert!(cases.len() >= 200, "{} cases", cases.len());
    let list = margay(&state, &["policy", "list"], Files::new(), Vec::new(), 0).0;
    let rules: Vec<&str> = list
        .lines()
        .filter(|line| !line.starts_with(' '))
        .map(|line| line.split(':').next().unwrap())
        .collect();
    let mut wrong = Vec::new();
    for case in &cases {
        let mut words = vec!["policy", "test", "-v", "--host", &case.host, "--at", &case.time, &case.user];
        words.extend(case.words.iter().map(String::as_str));
        let (out, err, status) = margay(&state, &words, Files::new(), Vec::new(), 0);
        assert_eq!(err, "", "{}", case.line);
        let sentence =
            out.lines().rfind(|line| line.starts_with("allowed") || line.starts_with("denied")).unwrap();
        let verdict = if case.allowed { "allowed" } else { "denied" };
        let rule = match &case.rule {
            Some(rule) => format!("(policy rule {rule}"),
            None => "(no policy rule allows it".to_owned(),
        };
        let told = sentence.strip_prefix(verdict).and_then(|rest| rest.trim_start().strip_prefix(&rule));
        let ended = told.is_some_and(|rest| rest.starts_with([')', ',']));
        let scope = match (sentence.contains("would touch"), sentence.contains("belong to no node")) {
            (true, _) => "touched",
            (_, true) => "beyond",
            _ => "request",
        };
        // Rule by rule: all that were asked before the deciding one, and it, or all when none decided.
        let section = match case.scope.as_str() {
            "request" => out.split("touched beside").next().unwrap(),
            _ => out.rsplit("touched beside").next().unwrap(),
        };
        let asked = section.lines().filter(|line| line.starts_with("    ")).count();
        let place = |rule: &String| rules.iter().position(|known| known == rule).unwrap() + 1;
        let expected = case.rule.as_ref().map_or(rules.len(), place);
        let decides = match &case.rule {
            Some(rule) => section.contains(&format!("    {rule} decides: {verdict}")),
            None => !section.contains("decides"),
        };
        let status_right = status == u8::from(!case.allowed);
        if !(ended && scope == case.scope && asked == expected && decides && status_right) {
            wrong.push(format!("{}\n{out}", case.line));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_rules_are_listed_in_their_order_with_what_cannot_be_read() {
    let (out, _, status) = margay(&world(), &["policy", "list"], Files::new(), Vec::new(), 0);
    let place = |text: &str| out.find(text).unwrap_or_else(|| panic!("{text} is not in\n{out}"));
    assert!(place("\n9: ") < place("\n10: ") && place("\n6.9: ") < place("\n7: "), "{out}");
    assert!(
        out.contains("20: name=fay commands=nodels noderange=(rack1 rule=allow\n    noderange: "),
        "{out}"
    );
    assert!(
        out.contains("    time: 'soon' is not days like Mon-Fri or Sat,Sun; it allows nothing\n"),
        "{out}"
    );
    assert!(out.contains("    parameters: ") && out.contains("it holds as if this were empty\n"), "{out}");
    assert!(out.ends_with("'first' is not a number; it is asked last\n"), "{out}");
    assert!(!out.contains("12.5") && status == 0, "{out}");
}

#[test]
fn recorded_requests_are_replayed_and_those_with_another_verdict_are_counted() {
    let mut state = world();
    let now = 1_795_428_000; // 2026-11-23 10:00
    let row = |hours: u64, user: &str, command: &str, range: &str, args: &str, more: &[(&str, &str)]| {
        let time = commands::action::stamp(now - hours * 3600);
        let mut cells = vec![
            ("audittime", time.as_str()),
            ("userid", user),
            ("clientname", "127.0.0.1"),
            ("command", command),
            ("noderange", range),
            ("args", args),
        ];
        cells.extend_from_slice(more);
        RowChange::set("auditlog", &[""], &cells)
    };
    let changes = vec![
        row(30, "bob", "rpower", "r1n1", "r1n1 on", &[("status", "Denied")]),
        row(2, "bob", "rpower", "r1n1", "r1n1 on", &[("status", "Allowed"), ("rule", "6")]),
        row(1, "bob", "rpower", "r1n2", "r1n2 off", &[("status", "Allowed"), ("rule", "6")]),
        row(1, "gus", "chtab", "", "node=r2n1 nodehm.cons=x", &[("touched", "r2n1")]),
        row(1, "gus", "chtab", "", "key=domain site.value=x", &[("beyond", "1")]),
        row(1, "zoe", "nodech", "r1n1", "r1n1 comments=x", &[("status", "Denied")]),
        row(1, "zoe", "gone", "r1n1", "r1n1", &[]),
    ];
    state.apply(2, &Entry::Transaction(Transaction { changes, ..Transaction::default() }));
    let read = |time, user: &str| Record {
        time,
        user: user.into(),
        host: "127.0.0.1".into(),
        command: "nodels".into(),
        ..Record::default()
    };
    let reads = vec![read(now - 90_000, "ann"), read(now - 60, "ann"), read(now - 50, "root")];
    // ann reads no more, bob may not switch on, gus loses rack2, zoe may change comments; a new row is unreadable.
    let rules = text("rules.csv")
        .replace("\"ann,bob\",,\"nodels,lsdef\"", "\"bob\",,\"nodels,lsdef\"")
        .replace("( on| off)$", "off$")
        .replace("rpower,mkdef,rmdef,tabprune\",\"rack1\"", "rpower,mkdef,rmdef,tabprune\",\"rack1,rack2\"")
        + "\"200\",\"zoe\",,\"nodech\",,,,\"allow\",,\n\"201\",\"zoe\",,,,,\"always\",\"allow\",,\n";
    let files = |text: &str| Files::from([("new.csv".to_owned(), Some(text.as_bytes().to_vec()))]);
    let rehearse = |text: &str, since: &[&str]| {
        let words = [&["policy", "rehearse", "new.csv"][..], since].concat();
        margay(&state, &words, files(text), reads.clone(), now)
    };
    let (out, err, status) = rehearse(&rules, &[]);
    assert!(err.contains("rule 201: time: 'always' is not days"), "{err}");
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], "8 requests since 2026-11-22 10:00:00: 6 of the audit log, 2 reads of this master");
    assert_eq!(lines[1], "3 would be denied and are allowed now:", "{out}");
    let has = |text: &str| assert!(out.contains(text), "{text} is not in\n{out}");
    has("       1  ann  nodels  (no rule; now rule 5)  last 2026-11-23 09:59:00 from 127.0.0.1: nodels \n");
    has(
        "       1  bob  rpower  (no rule; now rule 6)  last 2026-11-23 08:00:00 from 127.0.0.1: rpower r1n1 on\n",
    );
    has("       1  gus  chtab  (rule 40; now rule 41)");
    has("1 would be allowed and are denied now:\n       1  zoe  nodech  (rule 200; now no rule)");
    has("1 request of commands that are not known here\n");
    assert_eq!((status, lines.len()), (0, 8), "{out}");
    let (out, _, _) = rehearse(&text("rules.csv"), &["--since", "2d"]);
    assert!(out.starts_with("10 requests since 2026-11-21 10:00:00: 7 of"), "{out}");
    assert!(out.contains("No verdict would be another one.\n"), "{out}");
    let (_, err, status) = rehearse("#priority,nosuch\n", &[]);
    assert!(err.contains("new.csv: ") && err.contains("'nosuch'") && status == 1, "{err}");
}

#[test]
fn who_asked_for_what_is_told_by_kind_user_and_number() {
    let mut state = world();
    let row = |user: &str, status: &str, rule: &str| {
        let cells = [
            ("audittime", "2026-11-23 09:00:00"),
            ("userid", user),
            ("clientname", "127.0.0.1"),
            ("command", "nodech"),
            ("args", "n1 comments=x"),
            ("status", status),
            ("rule", rule),
        ];
        RowChange::set("auditlog", &[""], &cells)
    };
    let changes = vec![row("ann", "Allowed", "7"), row("bob", "Denied", ""), row("ann", "Denied", "6.9")];
    state.apply(2, &Entry::Transaction(Transaction { changes, ..Transaction::default() }));
    let now = 1_795_428_000;
    let audit = |words: &[&str]| {
        let read = Record {
            time: now,
            user: "eve".into(),
            host: "::1".into(),
            command: "nodels".into(),
            ..Record::default()
        };
        margay(&state, &[&["audit"][..], words].concat(), Files::new(), vec![read], now).0
    };
    assert_eq!(audit(&["-u", "ann"]).lines().count(), 2);
    assert_eq!(
        audit(&["--denied", "-n", "1"]),
        "2026-11-23 09:00:00  ann  127.0.0.1  Denied by rule 6.9  nodech n1 comments=x\n"
    );
    assert!(audit(&["-n", "2"]).starts_with("2026-11-23 09:00:00  bob  127.0.0.1  Denied  nodech"));
    assert_eq!(audit(&["--reads"]), "2026-11-23 10:00:00  eve  ::1  Read  nodels\n");
    assert_eq!(audit(&["--since", "30m"]), "");
}

#[test]
fn a_rule_that_cannot_be_read_is_not_written() {
    let mut world = crate::world::World::observed("transcript_files.json");
    for (cell, text) in [
        (
            "policy.time=soon",
            "policy rule 5: time: 'soon' is not days like Mon-Fri or Sat,Sun; nothing was changed",
        ),
        ("policy.parameters=(", "policy rule 5: parameters: "),
        ("policy.noderange=(n1", "policy rule 5: noderange: Unbalanced parentheses"),
    ] {
        let before = world.state.revision();
        let ran = world.run(&["chtab", "priority=5", "policy.name=bob", cell], "").unwrap();
        assert!(ran.err.contains(text) && ran.rc == 1, "{cell}: {ran:?}");
        assert_eq!(world.state.revision(), before);
    }
    let ran = world.run(&["chtab", "priority=5", "policy.name=bob", "policy.time=Mon-Fri"], "").unwrap();
    assert_eq!(ran.rc, 0);
}
