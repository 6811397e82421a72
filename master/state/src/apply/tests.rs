#![allow(clippy::unwrap_used)]
use std::collections::BTreeMap;

use super::*;
use crate::Files;

/// A state together with a store that takes its writes.
struct World {
    state: State,
    store: BTreeMap<Vec<u8>, Vec<u8>>,
    index: u64,
}

impl World {
    fn new() -> World {
        World { state: State::new(), store: BTreeMap::new(), index: 0 }
    }

    fn run(&mut self, transaction: Transaction) -> Applied {
        self.index += 1;
        let applied = self.state.apply(self.index, &Entry::Transaction(transaction));
        for (key, value) in &applied.writes {
            match value {
                Some(value) => self.store.insert(key.clone(), value.clone()),
                None => self.store.remove(key),
            };
        }
        applied
    }

    fn change(&mut self, changes: Vec<RowChange>) -> Outcome {
        self.run(Transaction { changes, ..Transaction::default() }).outcome.unwrap()
    }
}

fn dump(state: &State) -> Vec<String> {
    let line = |table: &Table, id: u64, row: &Row| {
        format!("{} {id} {:?}", table.def().name, row.values().collect::<Vec<_>>())
    };
    state.tables.iter().flat_map(|t| t.rows().map(move |(id, row)| line(t, id, row))).collect()
}

#[test]
fn a_transaction_over_two_tables_has_one_revision_and_a_past() {
    let mut world = World::new();
    let applied = world.run(Transaction {
        author: "root".into(),
        changes: vec![
            RowChange::set("nodelist", &["n1"], &[("groups", "all,rack1")]),
            RowChange::set("nodehm", &["n1"], &[("mgt", "ipmi")]),
        ],
        ..Transaction::default()
    });
    assert_eq!(applied.outcome.unwrap().revision, 1);
    assert_eq!(applied.events.len(), 2);
    let past: Past = wire::frame::decode(&world.store[&history_key(1, 0)]).unwrap();
    assert_eq!((past.author.as_str(), past.rows.len()), ("root", 2));
    assert!(past.rows.iter().all(|row| row.old.is_none() && row.new.is_some()));
}

#[test]
fn the_loaded_state_equals_the_one_that_wrote() {
    let mut world = World::new();
    let request = RequestId { client: 1, sequence: 1 };
    world.run(Transaction {
        request: Some(request),
        changes: (1..40)
            .map(|i| RowChange::set("nodelist", &[&format!("n{i}")], &[("groups", "all")]))
            .collect(),
        ..Transaction::default()
    });
    world.change(vec![RowChange::set("hosts", &["all"], &[("ip", r"|n(\d+)|10.0.0.($1)|")])]);
    world.change(vec![RowChange::ForgetNode { node: "n7".into() }, RowChange::delete("nodelist", &["n39"])]);
    let loaded = State::load(world.store.clone());
    assert_eq!(dump(&loaded), dump(&world.state));
    assert_eq!(loaded.revision(), 3);
    assert_eq!(loaded.nodes, world.state.nodes);
    assert_eq!(loaded.members, world.state.members);
    assert_eq!(loaded.changed, world.state.changed);
    assert_eq!(loaded.text("n8", "hosts.ip"), "10.0.0.8");
    assert_eq!(loaded.outcome(&request), world.state.outcome(&request));
    assert!(loaded.outcome(&request).is_some());
}

#[test]
fn a_request_that_comes_again_is_answered_and_not_done_again() {
    let mut world = World::new();
    let transaction = Transaction {
        request: Some(RequestId { client: 1, sequence: 9 }),
        changes: vec![RowChange::set("actions", &[""], &[("command", "x")])],
        ..Transaction::default()
    };
    let first = world.run(transaction.clone()).outcome.unwrap();
    let second = world.run(transaction).outcome.unwrap();
    assert!(!first.repeated && second.repeated);
    assert_eq!(first.revision, second.revision);
    assert_eq!(world.state.named("actions").unwrap().len(), 1);
}

#[test]
fn a_refused_request_may_be_planned_anew_under_its_id() {
    let mut world = World::new();
    let request = Some(RequestId { client: 1, sequence: 3 });
    let value = Precondition::Value {
        table: "site".into(),
        key: vec!["domain".into()],
        column: "value".into(),
        value: "a".into(),
    };
    let changes = vec![RowChange::set("site", &["x"], &[("value", "1")])];
    let first = Transaction { request, preconditions: vec![value], changes, ..Transaction::default() };
    let second = Transaction { preconditions: Vec::new(), ..first.clone() };
    assert!(world.run(first).outcome.unwrap().refused.is_some());
    let outcome = world.run(second).outcome.unwrap();
    assert_eq!((outcome.refused, outcome.repeated, outcome.rows), (None, false, 1));
}

#[test]
fn a_transaction_without_effect_has_no_revision() {
    let mut world = World::new();
    let set = || RowChange::set("site", &["domain"], &[("value", "a.test")]);
    assert_eq!(world.change(vec![set()]).revision, 1);
    let second = world.change(vec![set()]);
    assert_eq!((second.revision, second.rows), (1, 0));
    let swing = vec![RowChange::set("site", &["x"], &[("value", "1")]), RowChange::delete("site", &["x"])];
    assert_eq!(world.change(swing).revision, 1);
}

#[test]
fn a_row_changed_since_it_was_read_refuses_the_whole() {
    let mut world = World::new();
    world.change(vec![RowChange::set("nodelist", &["n1"], &[("groups", "all")])]);
    world.change(vec![RowChange::set("nodelist", &["n1"], &[("groups", "all,a")])]);
    let at =
        |at| Precondition::Unchanged { table: "nodelist".into(), key: vec!["n1".into()], existed: true, at };
    let try_at = |world: &mut World, precondition| {
        let changes = vec![RowChange::set("nodelist", &["n1"], &[("groups", "all,b")])];
        let t = Transaction { preconditions: vec![precondition], changes, ..Transaction::default() };
        world.run(t).outcome.unwrap().refused
    };
    assert!(matches!(try_at(&mut world, at(1)), Some(Refusal::Conflict { .. })));
    assert_eq!(world.state.text("n1", "nodelist.groups"), "all,a");
    assert_eq!(try_at(&mut world, at(2)), None);
    let absent = Precondition::Absent { table: "nodelist".into(), key: vec!["n1".into()] };
    assert!(matches!(try_at(&mut world, absent), Some(Refusal::Exists { .. })));
}

#[test]
fn nonsense_in_an_entry_changes_nothing() {
    let mut world = World::new();
    let outcome = world.change(vec![
        RowChange::set("nosuch", &["x"], &[("a", "b")]),
        RowChange::set("nodehm", &["x", "y"], &[("mgt", "b")]),
        RowChange::delete("nosuch", &["x"]),
        RowChange::Clear { table: "nosuch".into() },
    ]);
    assert_eq!((outcome.revision, outcome.rows), (0, 0));
}

#[test]
fn values_come_from_the_node_then_its_groups_in_order_then_the_pattern() {
    let mut world = World::new();
    world.change(vec![
        RowChange::set("nodelist", &["n1"], &[("groups", "a,b")]),
        RowChange::set("nodehm", &["b"], &[("mgt", "ipmi"), ("power", "b")]),
        RowChange::set("nodehm", &["a"], &[("power", "a")]),
        RowChange::set("nodehm", &["n1"], &[("cons", "own")]),
    ]);
    let state = &world.state;
    let (table, column) = schema().column("nodehm.mgt").unwrap();
    assert_eq!(state.value("n1", table, column).unwrap().group, Some("b"));
    assert_eq!(state.text("n1", "nodehm.power"), "a");
    assert_eq!(state.text("n1", "nodehm.cons"), "own");
    world.change(vec![RowChange::set("nodehm", &["a"], &[("disable", "yes")])]);
    assert_eq!(world.state.text("n1", "nodehm.power"), "b");
    world.change(vec![RowChange::set("nodehm", &["n1"], &[("power", "|^.*$||")])]);
    assert_eq!(world.state.attribute("n1", "nodehm.power"), None);
}

#[test]
fn a_disabled_or_excluded_node_is_hidden() {
    let mut world = World::new();
    world.change(vec![
        RowChange::set("nodelist", &["n1"], &[("groups", "all")]),
        RowChange::set("nodelist", &["n2"], &[("groups", "all")]),
        RowChange::set("nodelist", &["n3"], &[("groups", "all"), ("disable", "1")]),
        RowChange::set("site", &["excludenodes"], &[("value", "n2")]),
    ]);
    let found = world.state.expand("all", &Files::new(), &Default::default()).unwrap();
    assert_eq!(found.nodes, ["n1"]);
    assert!(!world.state.is_node("n3"));
}

#[test]
fn groups_follow_conditions_and_other_groups() {
    let mut world = World::new();
    world.change(vec![
        RowChange::set("nodelist", &["n1"], &[("groups", "all")]),
        RowChange::set("nodelist", &["n2"], &[("groups", "all")]),
        RowChange::set("nodehm", &["n2"], &[("mgt", "ipmi")]),
        RowChange::set("nodegroup", &["dyn"], &[("grouptype", "dynamic"), ("wherevals", "mgt==ipmi")]),
        RowChange::set("nodegroup", &["outer"], &[("grouptype", "static"), ("membergroups", "dyn,loop")]),
        RowChange::set("nodegroup", &["loop"], &[("grouptype", "static"), ("membergroups", "loop")]),
    ]);
    assert_eq!(world.state.members("dyn"), Some(vec!["n2"]));
    assert_eq!(world.state.members("outer"), Some(vec!["n2"]));
    assert_eq!(world.state.members("nosuch"), None);
}

#[test]
fn one_of_a_hundred_thousand_nodes_is_found_without_walking_through_them() {
    let mut world = World::new();
    let rows =
        (0..100_000u32).map(|i| RowChange::set("nodelist", &[&format!("n{i}")], &[("groups", "all,x")]));
    world.change(rows.collect());
    world.change(vec![RowChange::set("hosts", &["all"], &[("ip", r"|n(\d+)|10.0.($1/256).($1%256)|")])]);
    let start = std::time::Instant::now();
    for i in 0..1000 {
        let name = format!("n{}", i * 97);
        let found = world.state.expand(&name, &Files::new(), &Default::default()).unwrap();
        assert_eq!(found.nodes, [name.as_str()]);
        assert!(!world.state.text(&name, "hosts.ip").is_empty());
    }
    assert!(start.elapsed() < std::time::Duration::from_secs(5), "took {:?}", start.elapsed());
}

/// Events as `key before>key after value before>value after` of the table's second column.
fn told(applied: &Applied) -> Vec<String> {
    let text = |row: &Option<Row>, column| row.as_ref().map_or("-", |row| row.text(column)).to_owned();
    let line = |event: &Event| {
        let of = |column| format!("{}>{}", text(&event.old, column), text(&event.new, column));
        format!("{} {}", of(0), of(1))
    };
    applied.events.iter().map(line).collect()
}

#[test]
fn a_watcher_is_told_keys_and_does_not_take_a_used_number_for_a_renamed_row() {
    let set = |node: &str, groups: &str| RowChange::set("nodelist", &[node], &[("groups", groups)]);
    let rename = |node: &str, to: &str| RowChange::set("nodelist", &[node], &[("node", to)]);
    let remove = |node: &str| RowChange::delete("nodelist", &[node]);
    let clear = || RowChange::Clear { table: "nodelist".into() };
    let cases: [(&str, Vec<RowChange>, &[&str]); 9] = [
        ("another row under the number", vec![remove("n3"), set("n9", "x")], &["n3>- c>-", "->n9 ->x"]),
        ("a renamed row", vec![rename("n3", "n9")], &["n3>n9 c>c"]),
        (
            "renamed over another row, whose number is used again",
            vec![rename("n1", "n3"), set("n9", "x")],
            &["n3>- c>-", "n1>n3 a>a", "->n9 ->x"],
        ),
        ("renamed, then removed", vec![rename("n3", "n9"), remove("n9")], &["n3>- c>-"]),
        ("removed and made again", vec![remove("n1"), set("n1", "x")], &["n1>n1 a>x"]),
        (
            "removed and made again as it was",
            vec![remove("n2"), set("n2", "b"), set("n1", "x")],
            &["n1>n1 a>x"],
        ),
        (
            "a table replaced by fewer rows in another order",
            vec![clear(), set("n3", "c"), set("n1", "y")],
            &["n2>- b>-", "n1>n1 a>y"],
        ),
        (
            "the order alone",
            vec![clear(), set("n2", "b"), set("n1", "a"), set("n3", "c")],
            &["n2>n2 b>b", "n1>n1 a>a"],
        ),
        ("replaced by the same", vec![clear(), set("n1", "a"), set("n2", "b"), set("n3", "c")], &[]),
    ];
    for (what, changes, expected) in cases {
        let mut world = World::new();
        world.change(vec![set("n1", "a"), set("n2", "b"), set("n3", "c")]);
        let before = dump(&world.state);
        let applied = world.run(Transaction { changes, ..Transaction::default() });
        assert_eq!(told(&applied), expected, "{what}");
        assert_eq!(world.state.revision() == 1, expected.is_empty(), "{what}");
        assert_eq!(dump(&world.state) == before, expected.is_empty(), "{what}");
        assert_eq!(dump(&State::load(world.store.clone())), dump(&world.state), "{what}");
    }
}
