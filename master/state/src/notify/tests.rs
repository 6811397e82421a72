#![allow(clippy::unwrap_used)]
use super::*;
use crate::change::{Entry, RowChange, Transaction};

struct Log {
    state: State,
    index: u64,
    store: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Log {
    fn new() -> Log {
        Log { state: State::new(), index: 0, store: BTreeMap::new() }
    }

    fn apply(&mut self, entry: &Entry) {
        self.index += 1;
        for (key, value) in self.state.apply(self.index, entry).writes {
            match value {
                Some(value) => self.store.insert(key, value),
                None => self.store.remove(&key),
            };
        }
    }

    fn change(&mut self, changes: Vec<RowChange>) {
        self.apply(&Entry::Transaction(Transaction { changes, ..Transaction::default() }));
    }

    fn register(&mut self, file: &str) {
        self.change(vec![RowChange::set(TABLE, &[file], &[("tables", "nodelist"), ("tableops", "a,d,u")])]);
    }

    fn step(&mut self, file: &str, at: Place, what: What) {
        let since = self.cursor(file).since;
        self.apply(&Entry::Notify(vec![Step { file: file.to_owned(), since, at, what }]));
    }

    fn cursor(&self, file: &str) -> Cursor {
        self.state.cursors()[file].clone()
    }
}

fn begin(member: u64, attempt: u32) -> What {
    What::Begin { member, attempt }
}

fn end(attempt: u32, end: End) -> What {
    What::End { attempt, time: 7, end }
}

#[test]
fn a_cursor_lives_as_long_as_its_row_is_there_and_enabled() {
    let mut log = Log::new();
    log.change(vec![RowChange::set("nodelist", &["n1"], &[("groups", "all")])]);
    log.register("/h");
    assert_eq!(log.cursor("/h").at, Place::first(3));
    log.change(vec![RowChange::set(TABLE, &["/h"], &[("tables", "mac")])]);
    assert_eq!(log.cursor("/h").since, 2, "registered again it goes on");
    log.change(vec![RowChange::delete(TABLE, &["/h"]), RowChange::set(TABLE, &["/h"], &[("tables", "mac")])]);
    assert_eq!(log.cursor("/h").since, 2, "replaced in one change it goes on");
    log.change(vec![RowChange::set(TABLE, &["/h"], &[("disable", "1")])]);
    assert!(log.state.cursors().is_empty());
    log.change(vec![RowChange::set(TABLE, &["/h"], &[("disable", "")])]);
    assert_eq!((log.cursor("/h").since, log.cursor("/h").at), (6, Place::first(7)));
    let loaded = State::load(log.store.clone());
    assert_eq!(loaded.cursors(), log.state.cursors());
    log.change(vec![RowChange::delete(TABLE, &["/h"])]);
    assert!(State::load(log.store).cursors().is_empty());
}

#[test]
fn steps_make_no_revision_and_move_the_cursor_once() {
    let mut log = Log::new();
    log.register("/h");
    let (at, revision) = (Place { revision: 5, call: 2 }, log.state.revision());
    log.step("/h", at, begin(1, 1));
    log.step("/h", at, begin(2, 1));
    assert_eq!((log.cursor("/h").open, log.cursor("/h").attempt), (Some(1), 1), "the second was too late");
    log.step("/h", at, end(1, End::Delivered));
    log.step("/h", at, end(1, End::Delivered));
    let cursor = log.cursor("/h");
    assert_eq!((cursor.at, cursor.delivered, cursor.open), (at.next(), 1, None));
    log.step("/h", at, begin(1, 1));
    assert_eq!(log.cursor("/h").open, None, "what is done is not begun again");
    assert_eq!(log.state.revision(), revision);
    assert_eq!(State::load(log.store).cursors()["/h"], cursor);
}

#[test]
fn an_attempt_that_was_called_lost_cannot_end_the_call() {
    let mut log = Log::new();
    log.register("/h");
    let at = Place::first(2);
    log.step("/h", at, begin(1, 1));
    log.step("/h", at, begin(2, 2));
    assert_eq!(log.cursor("/h").open, Some(1), "as long as one may be at it no other begins");
    log.step("/h", at, end(1, End::Unknown("gone".into())));
    log.step("/h", at, begin(2, 2));
    log.step("/h", at, end(1, End::Delivered));
    let cursor = log.cursor("/h");
    assert_eq!((cursor.at, cursor.open, cursor.repeated, cursor.delivered), (at, Some(2), 1, 0));
    log.step("/h", at, end(2, End::Failed("no".repeat(1000))));
    let cursor = log.cursor("/h");
    assert_eq!((cursor.failures, cursor.trouble.as_ref().map(|t| t.text.len())), (1, Some(TEXT)));
    log.step("/h", at, begin(2, 3));
    log.step("/h", at, end(3, End::GivenUp("no".into())));
    let cursor = log.cursor("/h");
    assert_eq!((cursor.at, cursor.given_up, cursor.failing, cursor.failures), (at.next(), 1, true, 0));
}

#[test]
fn a_gap_is_remembered_and_an_old_registration_s_step_is_not_taken() {
    let mut log = Log::new();
    log.register("/h");
    log.step("/h", Place::first(9), What::Pass);
    log.step("/h", Place::first(4), What::Gap);
    assert_eq!((log.cursor("/h").at, log.cursor("/h").gap), (Place::first(9), None));
    log.step("/h", Place::first(20), What::Gap);
    assert_eq!(log.cursor("/h").gap, Some((9, 19)));
    let old = Step { file: "/h".into(), since: 77, at: Place::first(30), what: What::Pass };
    log.apply(&Entry::Notify(vec![old]));
    assert_eq!(log.cursor("/h").at, Place::first(20));
}
