#![allow(clippy::unwrap_used)]
use std::collections::BTreeMap;

use wire::ids::RequestId;

use super::*;
use crate::{Entry, Outcome, Precondition, RowChange, Transaction, Whole};

/// A member with its store, which may be started anew at any entry.
#[derive(Default)]
struct Member {
    state: State,
    store: BTreeMap<Vec<u8>, Vec<u8>>,
    index: u64,
}

impl Member {
    fn run(&mut self, entry: &Entry) -> Applied {
        self.index += 1;
        let applied = self.state.apply(self.index, entry);
        for (key, value) in &applied.writes {
            match value {
                Some(value) => self.store.insert(key.clone(), value.clone()),
                None => self.store.remove(key),
            };
        }
        applied
    }

    fn restart(&mut self) {
        self.state = State::load(self.store.clone());
    }

    fn left(&self) -> usize {
        self.store.keys().filter(|key| is_part(key)).count()
    }
}

fn part(stage: u64, number: u32, time: u64, content: Content) -> Entry {
    Entry::Part(Part { stage, number, time, content })
}

fn nodes(from: u32, to: u32) -> Content {
    let set = |node: u32| RowChange::set("nodelist", &[&format!("n{node}")], &[("groups", "all")]);
    Content::Changes((from..to).map(set).collect())
}

fn whole(stage: u64, parts: u32, request: Option<RequestId>) -> Entry {
    let changes = vec![RowChange::set("site", &["domain"], &[("value", "c1")])];
    let transaction = Transaction { request, changes, ..Transaction::default() };
    Entry::Whole(Whole { transaction, stage, parts })
}

fn request(sequence: u64) -> Option<RequestId> {
    Some(RequestId { client: 7, sequence })
}

fn outcome(applied: Applied) -> Outcome {
    applied.outcome.unwrap()
}

#[test]
fn a_transaction_in_parts_has_one_revision_and_parts_alone_change_nothing() {
    let mut member = Member::default();
    for (number, from) in [(0, 0), (1, 100), (2, 200)] {
        let applied = member.run(&part(9, number, 1, nodes(from, from + 100)));
        assert!(applied.events.is_empty() && applied.outcome.is_none());
    }
    assert_eq!((member.state.revision(), member.left()), (0, 3));
    let applied = member.run(&whole(9, 3, request(1)));
    assert_eq!(applied.events.len(), 301);
    assert_eq!((outcome(applied).revision, member.left()), (1, 0));
    assert_eq!(member.state.node_names().count(), 300);
    member.restart();
    assert_eq!(member.state.node_names().count(), 300);
}

#[test]
fn a_member_that_starts_anew_between_any_two_entries_ends_like_the_others() {
    let guard = Precondition::Absent { table: "nodelist".into(), key: vec!["n1".into()] };
    let entries = [
        part(1, 0, 1, Content::Preconditions(vec![guard.clone()])),
        part(2, 0, 1, nodes(0, 10)),
        part(1, 1, 1, nodes(0, 20)),
        part(1, 2, 1, nodes(20, 50)),
        whole(1, 3, request(1)),
        part(3, 0, 1, Content::Preconditions(vec![guard])),
        part(3, 1, 1, nodes(50, 60)),
        whole(3, 2, request(2)),
        whole(2, 1, request(3)),
        Entry::Forget(vec![2, 3]),
    ];
    let mut steady = Member::default();
    let said: Vec<_> = entries.iter().map(|entry| steady.run(entry).outcome).collect();
    assert!(matches!(said[7].as_ref().unwrap().refused, Some(Refusal::Exists { .. })));
    for at in 0..entries.len() {
        let mut other = Member::default();
        for (index, entry) in entries.iter().enumerate() {
            assert_eq!(other.run(entry).outcome, said[index]);
            if index == at {
                other.restart();
            }
        }
        assert_eq!(other.store, steady.store);
        assert_eq!(other.state.digest(), steady.state.digest());
    }
    assert_eq!((steady.left(), steady.state.node_names().count()), (0, 50));
}

#[test]
fn a_request_in_parts_is_carried_out_once() {
    let mut member = Member::default();
    for stage in [5, 6] {
        member.run(&part(stage, 0, 1, nodes(0, 10)));
        member.restart();
    }
    assert!(!outcome(member.run(&whole(5, 1, request(1)))).repeated);
    let again = outcome(member.run(&whole(6, 1, request(1))));
    assert!(again.repeated && again.revision == 1);
    assert_eq!((member.left(), member.state.stages().count()), (0, 0));
}

#[test]
fn missing_and_misplaced_parts_refuse_the_whole_and_leave_nothing() {
    let guard = || Content::Preconditions(Vec::new());
    let wrong: [(&str, Vec<Entry>, u32); 5] = [
        ("none came", vec![], 1),
        ("the last is missing", vec![part(1, 0, 1, nodes(0, 1))], 2),
        ("one is missing between", vec![part(1, 0, 1, nodes(0, 1)), part(1, 2, 1, nodes(2, 3))], 2),
        ("one came twice", vec![part(1, 0, 1, nodes(0, 1)), part(1, 0, 1, nodes(0, 1))], 1),
        ("a precondition late", vec![part(1, 0, 1, nodes(0, 1)), part(1, 1, 1, guard())], 2),
    ];
    for (what, parts, count) in wrong {
        let mut member = Member::default();
        for entry in &parts {
            member.run(entry);
        }
        let said = outcome(member.run(&whole(1, count, request(1))));
        assert_eq!(said.refused, Some(Refusal::Incomplete), "{what}");
        assert_eq!((member.state.revision(), member.left()), (0, 0), "{what}");
    }
}

#[test]
fn a_stage_that_nobody_completes_is_forgotten_and_a_full_place_takes_no_more() {
    let mut member = Member::default();
    member.run(&part(1, 0, 1_000, nodes(0, 10)));
    member.run(&part(2, 0, 1_000 + STAGE_LIFE, nodes(0, 10)));
    assert_eq!(member.state.stages().map(|(stage, _)| stage).collect::<Vec<_>>(), [1, 2]);
    let later = Transaction { time: 1_001 + STAGE_LIFE, ..Transaction::default() };
    member.run(&Entry::Transaction(later));
    assert_eq!((member.state.stages().count(), member.left()), (1, 1));
    let part = |number| Part { stage: 3, number, time: 1_500, content: nodes(0, 100) };
    let size = encode(&part(0)).unwrap().len();
    let waiting: usize = member.state.stages.values().map(|stage| stage.bytes).sum();
    for (number, stages) in [(0, 2), (1, 2), (2, 1)] {
        member.state.stage_within(&part(number), waiting + 2 * size);
        assert_eq!(member.state.stages().count(), stages, "after part {number}");
    }
}
