//! What concerns one node, or a small group, costs the same in a small and in a large cluster: counted, not timed.
#![allow(clippy::unwrap_used)]

use noderange::Options;

use crate::policy::{Question, Rules};
use crate::tree::STEPS;
use crate::view::{self, Touch};
use crate::{Entry, Files, RowChange, State, Transaction, schema};

fn cluster(nodes: usize) -> State {
    let mut state = State::new();
    let mut changes = vec![
        RowChange::set("policy", &["1"], &[("name", "root"), ("rule", "allow")]),
        RowChange::set("networks", &["10_0", "255.255.0.0"], &[("netname", "net")]),
        RowChange::set("mp", &["rack3"], &[("id", r"|n(\d+)|($1+1)|")]),
    ];
    for node in 0..nodes {
        let (name, rack, address) =
            (format!("n{node}"), format!("rack{}", node / 40), format!("10.0.{}.{}", node / 250, node % 250));
        changes.push(RowChange::set("nodelist", &[&name], &[("groups", &format!("all,{rack}"))]));
        changes.push(RowChange::set("hosts", &[&name], &[("ip", &address)]));
        changes.push(RowChange::set("noderes", &[&name], &[("servicenode", "sn1")]));
        changes.push(RowChange::set("switch", &[&name, &rack, "1", ""], &[]));
    }
    change(&mut state, changes);
    state
}

fn change(state: &mut State, changes: Vec<RowChange>) -> crate::Applied {
    state.apply(1, &Entry::Transaction(Transaction { changes, ..Transaction::default() }))
}

fn expand(state: &State, text: &str) -> Vec<String> {
    state.expand(text, &Files::new(), &Options::default()).unwrap().nodes
}

type Work = (&'static str, fn(&mut State));

const WORKS: [Work; 12] = [
    ("one node", |state| assert_eq!(expand(state, "n130"), ["n130"])),
    ("a group", |state| assert_eq!(expand(state, "rack3").len(), 40)),
    ("a group without a node", |state| assert_eq!(expand(state, "rack3,-n130").len(), 39)),
    ("members in order", |state| assert_eq!(state.members("rack3").unwrap().len(), 40)),
    ("a computed value", |state| assert_eq!(state.text("n130", "mp.id"), "131")),
    ("an object", |state| {
        let kind = schema().object_type("node").unwrap();
        assert_eq!(state.object(kind, "n130")["ip"], "10.0.0.130");
    }),
    ("a verdict", |state| {
        let question = Question {
            user: Some("root"),
            host: "",
            command: "nodels",
            aliases: &[],
            arguments: &[],
            nodes: &["n130".into()],
            time: 0,
        };
        assert!(Rules::of(state).decide(&question).allowed);
    }),
    ("a view", |state| assert_eq!(view::node_view(state, "n130").ip, "10.0.0.130")),
    ("a copy", |state| assert!(state.derived().is_node("n130"))),
    ("a change and the views it touches", |state| {
        let applied = change(state, vec![RowChange::set("hosts", &["n130"], &[("ip", "10.9.9.9")])]);
        for event in &applied.events {
            let (old, new) = event.rows();
            let touch = Touch { table: event.table_name(), old: old.as_ref(), new: new.as_ref() };
            assert!(view::affected(state, touch).nodes.contains("n130"));
        }
    }),
    ("another group", |state| {
        change(state, vec![RowChange::set("nodelist", &["n130"], &[("groups", "all,rack2")])]);
        assert_eq!(expand(state, "rack2").len(), 41);
    }),
    ("a node less", |state| {
        change(state, vec![RowChange::ForgetNode { node: "n130".into() }]);
        assert!(!state.is_node("n130"));
    }),
];

#[test]
fn what_concerns_few_nodes_looks_at_no_more_in_a_cluster_fifty_times_as_large() {
    let (mut small, mut large) = (cluster(200), cluster(10_000));
    for (what, work) in WORKS {
        let [few, many] = [&mut small, &mut large].map(|state| {
            let before = STEPS.get();
            work(state);
            STEPS.get() - before
        });
        // Trees are deeper by a level or two.
        assert!(many <= 2 * few + 8, "{what}: {few} steps with 200 nodes, {many} with 10,000");
    }
}
