#![allow(clippy::unwrap_used)]

use super::*;
use crate::change::{Entry, Transaction};

mod instants;

/// A state with the store that takes its writes, and the digest and rows after each revision.
struct World {
    state: State,
    store: BTreeMap<Vec<u8>, Vec<u8>>,
    index: u64,
}

impl World {
    fn new() -> World {
        World { state: State::new(), store: BTreeMap::new(), index: 0 }
    }

    fn change(&mut self, changes: Vec<RowChange>) -> u64 {
        self.guarded(Vec::new(), changes)
    }

    fn guarded(&mut self, preconditions: Vec<Precondition>, changes: Vec<RowChange>) -> u64 {
        self.index += 1;
        let author = "root".to_owned();
        let transaction = Transaction { author, preconditions, changes, ..Transaction::default() };
        let applied = self.state.apply(self.index, &Entry::Transaction(transaction));
        for (key, value) in applied.writes {
            match value {
                Some(value) => self.store.insert(key, value),
                None => self.store.remove(&key),
            };
        }
        assert_eq!(applied.outcome.unwrap().refused, None);
        self.state.revision()
    }

    fn pasts(&self, from: u64, to: u64) -> impl DoubleEndedIterator<Item = (u64, Past)> + '_ {
        self.store.range(history_key(from, 0)..history_key(to + 1, 0)).map(|(key, value)| {
            let revision = u64::from_be_bytes(key[2..10].try_into().unwrap());
            (revision, wire::frame::decode(value).unwrap())
        })
    }

    fn at(&self, revision: u64) -> State {
        let mut rewind = Rewind::default();
        let (from, to) = (revision + 1, self.state.revision());
        self.pasts(from, to).for_each(|(number, past)| rewind.add(number, past));
        assert!(rewind.covers(from, to));
        self.state.derived().rewound(rewind, revision)
    }

    fn read(&self, query: &Query) -> Reading {
        let mut reading = Reading::default();
        for (number, past) in self.pasts(query.from, query.to).rev() {
            if !reading.add(query, number, past) {
                break;
            }
        }
        reading
    }

    fn undo(&self, revision: u64) -> Undo {
        let reading = self.read(&Query::all(revision, revision));
        self.state.undo(&reading.revisions[0].rows)
    }
}

type Line = (&'static str, u64, Vec<(usize, String)>);

fn rows(state: &State) -> Vec<Line> {
    let of = |table: &crate::Table| {
        let name = table.def().name;
        table
            .rows()
            .map(|(id, row)| (name, id, row.values().map(|(at, text)| (at, text.to_owned())).collect()))
            .collect::<Vec<_>>()
    };
    state.tables.iter().flat_map(|table| of(table)).collect()
}

fn nodes(count: u32, groups: &str) -> Vec<RowChange> {
    (0..count).map(|i| RowChange::set("nodelist", &[&format!("n{i}")], &[("groups", groups)])).collect()
}

#[test]
fn undoing_a_change_of_ten_thousand_nodes_restores_the_digest() {
    let mut world = World::new();
    world.change(nodes(10_000, "all"));
    let forget = (0..10_000).map(|i| RowChange::ForgetNode { node: format!("n{i}") }).collect();
    let renamed = (0..10_000)
        .map(|i| RowChange::set("nodehm", &[&format!("n{i}")], &[("mgt", "ipmi"), ("cons", "bmc")]))
        .collect();
    for changes in [nodes(10_000, "all,rack1"), renamed, forget] {
        let before = (world.state.digest(), rows(&world.state));
        let revision = world.change(changes);
        assert_ne!(world.state.digest(), before.0);
        let undo = world.undo(revision);
        assert_eq!(undo.clashes, []);
        world.guarded(undo.guards, undo.changes);
        assert_eq!((world.state.digest(), rows(&world.state)), before);
        let undo = world.undo(world.state.revision());
        world.change(undo.changes);
    }
}

#[test]
fn undo_names_the_cells_that_were_changed_since() {
    let mut world = World::new();
    world.change(nodes(3, "all"));
    let revision = world.change(nodes(3, "all,rack1"));
    let later = world.change(vec![
        RowChange::set("nodelist", &["n1"], &[("groups", "all,rack2"), ("comments", "moved")]),
        RowChange::delete("nodelist", &["n2"]),
    ]);
    let clashes = world.undo(revision).clashes;
    let said: Vec<_> =
        clashes.iter().map(|c| (c.key.as_str(), c.column, c.now.as_str(), c.revision)).collect();
    assert_eq!(said, [("n1", "groups", "all,rack2", later), ("n2", "node", "", later)]);
    // Another cell of the same row is no clash, but a row that was made and then extended is one.
    world.change(nodes(3, "all,rack1"));
    assert_eq!(world.undo(world.state.revision()).clashes, []);
    let made = world.change(vec![RowChange::set("nodehm", &["n0"], &[("mgt", "ipmi")])]);
    world.change(vec![RowChange::set("nodehm", &["n0"], &[("cons", "bmc")])]);
    assert_eq!(world.undo(made).clashes[0].column, "cons");
}

#[test]
fn a_renamed_row_and_one_that_got_a_removed_row_s_number_come_back() {
    let mut world = World::new();
    world.change(nodes(3, "all"));
    let before = (world.state.digest(), rows(&world.state));
    let restored = vec![
        RowChange::Clear { table: "nodelist".to_owned() },
        RowChange::set("nodelist", &["n2"], &[("groups", "x")]),
        RowChange::set("nodelist", &["n9"], &[("groups", "y")]),
    ];
    let renamed = vec![RowChange::set("nodelist", &["n2"], &[("node", "n8")])];
    for changes in [restored, renamed] {
        let revision = world.change(changes);
        let undo = world.undo(revision);
        assert_eq!(undo.clashes, []);
        world.guarded(undo.guards, undo.changes);
        assert_eq!((world.state.digest(), rows(&world.state)), before);
    }
    let sum = sum(&world.read(&Query::all(1, world.state.revision())));
    assert_eq!(sum.iter().map(PastRow::key).collect::<Vec<_>>(), [["n0"], ["n1"], ["n2"]]);
}

#[test]
fn a_preview_tells_the_rows_and_changes_nothing() {
    let mut world = World::new();
    world.change(nodes(2, "all"));
    let before = (rows(&world.state), world.state.revision());
    let changes =
        vec![RowChange::delete("nodelist", &["n0"]), RowChange::set("mac", &["n1"], &[("mac", "x")])];
    let events = world.state.preview(&[], &changes).unwrap();
    let said: Vec<PastRow> = events.iter().map(PastRow::from).collect();
    assert_eq!(
        said.iter().map(|row| (row.table.as_str(), row.key())).collect::<Vec<_>>(),
        [("mac", vec!["n1"]), ("nodelist", vec!["n0"])]
    );
    assert_eq!((rows(&world.state), world.state.revision()), before);
    let absent = Precondition::Absent { table: "nodelist".to_owned(), key: vec!["n0".to_owned()] };
    assert!(world.state.preview(&[absent], &changes).is_err());
}

#[test]
fn the_oldest_revisions_go_first_a_few_at_a_time_and_a_loaded_shelf_is_equal() {
    let mut shelf = Shelf::default();
    for revision in 5..25 {
        shelf.put(revision, 2, 100);
    }
    let mut writes = Vec::new();
    shelf.trim(10, u64::MAX, &mut writes);
    assert_eq!(
        (writes.len(), shelf.kept.first().map_or(0, |(first, _)| *first), shelf.bytes),
        (2 * TRIM, 9, 1600)
    );
    assert_eq!(writes[1].0, history_key(5, 1));
    for _ in 0..9 {
        shelf.trim(10, 250, &mut writes);
    }
    assert_eq!(
        (shelf.kept.len(), shelf.kept.first().map_or(0, |(first, _)| *first), shelf.bytes),
        (2, 23, 200)
    );
    let pieces = vec![(23, 1, 50), (24, 0, 50), (23, 0, 50), (24, 1, 50)];
    assert_eq!(Shelf::load(pieces), shelf);
    let mut world = World::new();
    world.change(nodes(1_000, "all"));
    world.change(nodes(3, "x"));
    assert_eq!(State::load(world.store.clone()).shelf, world.state.shelf);
    assert_eq!(world.state.oldest(), 0);
}

#[test]
fn a_reading_filters_by_table_and_node_and_puts_pieces_together() {
    let mut world = World::new();
    world.change(nodes(600, "all"));
    world.change(vec![RowChange::set("auditlog", &[""], &[("userid", "root")])]);
    world.change(vec![RowChange::set("nodehm", &["n1"], &[("mgt", "ipmi")])]);
    let all = world.read(&Query::all(0, 9));
    assert_eq!(
        all.revisions.iter().map(|r| (r.number, r.rows.len())).collect::<Vec<_>>(),
        [(3, 1), (1, 600)]
    );
    assert_eq!(all.revisions[1].rows[599].key(), ["n599"]);
    let one = Query { nodes: Some(["n1".to_owned()].into()), limit: 1, ..Query::all(0, 9) };
    assert_eq!(world.read(&one).revisions.len(), 1);
    assert_eq!(world.read(&Query { limit: 9, ..one }).revisions[1].rows.len(), 1);
    let audit = Query { tables: vec!["auditlog".to_owned()], ..Query::all(0, 9) };
    assert_eq!(world.read(&audit).revisions[0].number, 2);
    let cut = world.read(&Query { rows: 1, ..Query::all(0, 9) });
    assert!(cut.cut && cut.revisions.len() == 1);
    assert_eq!(sum(&all).len(), 601);
}
