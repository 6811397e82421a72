#![allow(clippy::unwrap_used)]
use std::collections::BTreeMap;

use wire::agent::Report;
use wire::hardware::Adapter;
use wire::ids::{ActionId, RequestId};

use super::*;
use crate::change::Entry;
use crate::discovery::waits::Open;
use crate::discovery::{Notice, Outcome, RackEvent};

/// A state and the store it has written.
#[derive(Default)]
struct Store {
    state: State,
    index: u64,
    pairs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Store {
    fn apply(&mut self, entry: &Entry) -> Applied {
        self.index += 1;
        let mut applied = self.state.apply(self.index, entry);
        for (key, value) in std::mem::take(&mut applied.writes) {
            match value {
                Some(value) => self.pairs.insert(key, value),
                None => self.pairs.remove(&key),
            };
        }
        applied
    }

    fn change(&mut self, changes: Vec<RowChange>) {
        self.apply(&Entry::Transaction(Transaction { changes, ..Transaction::default() }));
    }

    fn rack(&mut self, cluster_time: u64, events: Vec<RackEvent>) -> Applied {
        self.apply(&Entry::Rack(RackEntry { time: 1_700_000_000, cluster_time, events }))
    }
}

fn nodes(names: &[&str]) -> Store {
    let mut store = Store::default();
    store
        .change(names.iter().map(|name| RowChange::set("nodelist", &[name], &[("groups", "all")])).collect());
    store
}

fn answer(node: &str, nic: &str) -> RackEvent {
    let adapter = Adapter { name: nic.into(), mac: "02:00:00:00:00:01".into(), ..Adapter::default() };
    RackEvent::Report {
        rack: "sn1".into(),
        node: node.into(),
        report: Report::Adapters(vec![adapter]),
        at: 0,
    }
}

fn open(sequence: u64, names: &[&str]) -> RackEvent {
    RackEvent::Open(Open {
        request: RequestId { client: 1, sequence },
        action: ActionId(sequence),
        nodes: names.iter().map(|name| (*name).to_owned()).collect(),
        timeout: 1_000,
    })
}

#[test]
fn a_storm_of_answers_is_one_revision_with_a_notice_for_each_that_is_waited_for() {
    let names: Vec<String> = (0..1000).map(|number| format!("n{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut store = nodes(&names);
    store.rack(1, vec![open(1, &names[..999])]);
    let before = store.state.revision();
    let applied = store.rack(2, names.iter().map(|name| answer(name, "eno1")).collect());
    assert_eq!(store.state.revision(), before + 1);
    assert_eq!(applied.rack, vec![Outcome::Stored; 1000]);
    assert_eq!(applied.notices.len(), 999);
    assert_eq!(store.state.text("n999", "nics.nicsadapter"), "eno1!mac=02:00:00:00:00:01");
}

#[test]
fn the_same_answer_again_makes_no_revision() {
    let mut store = nodes(&["n1"]);
    store.rack(1, vec![answer("n1", "eno1")]);
    let before = store.state.revision();
    assert!(store.rack(2, vec![answer("n1", "eno1")]).events.is_empty());
    assert_eq!(store.state.revision(), before);
    assert_eq!(store.rack(3, vec![answer("n1", "eno2")]).events.len(), 1, "a changed one is an event");
}

#[test]
fn waits_deadlines_and_cluster_time_survive_a_restart() {
    let mut store = nodes(&["n1", "n2"]);
    store.rack(5_000, vec![open(1, &["n1", "n2"])]);
    store.rack(5_500, vec![answer("n1", "eno1")]);
    store.state = State::load(store.pairs.clone());
    assert_eq!(store.state.cluster_time(), 5_500);
    store.rack(4_000, vec![RackEvent::Sweep { keep: 99_999 }]);
    assert_eq!(store.state.cluster_time(), 5_500, "cluster time never goes back");
    assert!(store.rack(5_999, vec![RackEvent::Sweep { keep: 99_999 }]).notices.is_empty());
    let applied = store.rack(6_000, vec![RackEvent::Sweep { keep: 99_999 }]);
    assert!(matches!(&applied.notices[..], [Notice::Closed { node, .. }] if node == "n2"));
}

#[test]
fn a_removed_node_has_no_wait_and_its_late_answer_is_refused() {
    let mut store = nodes(&["n1"]);
    store.rack(1, vec![open(1, &["n1"])]);
    store.change(vec![RowChange::ForgetNode { node: "n1".into() }]);
    assert_eq!(store.state.named("taskstate").unwrap().len(), 0);
    let applied = store.rack(2, vec![answer("n1", "eno1")]);
    assert!(matches!(&applied.rack[..], [Outcome::Rejected(_)]));
    assert_eq!(store.state.named("nics").unwrap().len(), 0);
}

#[test]
fn refusals_are_written_to_the_audit_log_with_numbers_of_their_own() {
    let mut store = nodes(&["n1"]);
    let tried = |what: &str| RackEvent::Audit { who: "sn1".into(), what: what.into() };
    store.rack(1, vec![tried("one"), tried("two")]);
    store.rack(1, vec![tried("three")]);
    let rows = view::Tables::rows(&store.state, "auditlog");
    let args: Vec<_> = rows.iter().map(|row| (row["recid"].as_str(), row["args"].as_str())).collect();
    assert_eq!(args, [("1", "one"), ("2", "two"), ("3", "three")]);
}

#[test]
fn a_configuration_rises_with_the_changes_that_touch_it_and_no_others() {
    let mut store = nodes(&["n1", "n2"]);
    let first = store.state.config_revision("n1");
    store.change(vec![RowChange::set("nodelist", &["n1"], &[("status", "booted")])]);
    store.change(vec![RowChange::set("selfconf", &["n1"], &[("startstatus", "0")])]);
    store.change(vec![RowChange::set("chain", &["n1"], &[("currstate", "boot")])]);
    assert_eq!(store.state.config_revision("n1"), first, "what the node reports is not what it is told");
    store.change(vec![RowChange::set("hosts", &["n1"], &[("ip", "10.0.0.1")])]);
    let third = store.state.config_revision("n1");
    assert!(third > first);
    assert_eq!(store.state.config_revision("n2"), first);
    store.change(vec![RowChange::set("selfconf", &["all"], &[("startcommand", "true")])]);
    assert!(store.state.config_revision("n2") > third && store.state.config_revision("n1") > third);
    let group = store.state.config_revision("n2");
    store.change(vec![RowChange::delete("selfconf", &["all"])]);
    assert!(store.state.config_revision("n2") > group, "a removed row rises too");
    let loaded = State::load(store.pairs.clone());
    assert_eq!(loaded.config_revision("n2"), store.state.config_revision("n2"));
    store.change(vec![RowChange::set("site", &["domain"], &[("value", "x.org")])]);
    assert_eq!(store.state.config_revision("n2"), store.state.revision());
}

#[test]
fn each_of_ten_thousand_waits_costs_less_than_a_kilobyte() {
    let names: Vec<String> = (0..10_000).map(|number| format!("n{number:06}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut store = nodes(&names);
    let before: usize = store.pairs.iter().map(|(key, value)| key.len() + value.len()).sum();
    for names in names.chunks(1000) {
        store.rack(1, vec![open(1, names)]);
    }
    // Each is stored as a row and once more in the history.
    let after: usize = store.pairs.iter().map(|(key, value)| key.len() + value.len()).sum();
    assert!((after - before) / names.len() < 1024, "{} bytes", (after - before) / names.len());
    let due = crate::discovery::waits::due(&store.state, 1, 999);
    assert!(due.waiting && !due.now);
    assert!(crate::discovery::waits::due(&store.state, 1, 1_001).now);
}
