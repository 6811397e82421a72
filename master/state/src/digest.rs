//! Digests of tables: equal for equal rows, whatever their numbers, their order and the way they came.
//!
//! SHA-256 over the rows of a table in the order of their keys: of each row its cells (number of the column,
//! length and text), then an end mark. A digest of several tables is one of their names and digests.

use std::fmt;

use sha2::{Digest as _, Sha256};

use crate::apply::State;
use crate::history::is_record;
use crate::row::Row;
use crate::schema::TableDef;
use crate::table::Table;

/// A SHA-256 sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

/// What a table holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableDigest {
    /// Its name.
    pub name: &'static str,
    /// How many rows.
    pub rows: usize,
    /// Digest of the rows.
    pub digest: Digest,
}

impl State {
    /// Digests of all tables that have rows, without records of what was done.
    #[must_use]
    pub fn digests(&self) -> Vec<TableDigest> {
        let tables = self.tables.iter().filter(|table| !table.is_empty() && !is_record(table.def().name));
        tables.map(|table| digest(table)).collect()
    }

    /// The digest of all tables without records of what was done.
    #[must_use]
    pub fn digest(&self) -> Digest {
        together(&self.digests())
    }
}

/// The digest of several tables, which are given in the order of the schema.
#[must_use]
pub fn together<'a>(tables: impl IntoIterator<Item = &'a TableDigest>) -> Digest {
    let mut sum = Sha256::new();
    for table in tables {
        text(&mut sum, table.name);
        sum.update(table.digest.0);
    }
    Digest(sum.finalize().into())
}

fn digest(table: &Table) -> TableDigest {
    let def = table.def();
    let mut rows: Vec<&Row> = table.rows().map(|(_, row)| row).collect();
    rows.sort_unstable_by(|one, other| key(def, one).cmp(key(def, other)));
    let mut sum = Sha256::new();
    for row in &rows {
        for (column, value) in row.values() {
            sum.update(u16::try_from(column).unwrap_or(u16::MAX).to_be_bytes());
            text(&mut sum, value);
        }
        sum.update(u16::MAX.to_be_bytes());
    }
    TableDigest { name: def.name, rows: rows.len(), digest: Digest(sum.finalize().into()) }
}

fn key<'a>(def: &'a TableDef, row: &'a Row) -> impl Iterator<Item = &'a str> {
    def.keys.iter().map(|&column| row.text(column))
}

fn text(sum: &mut Sha256, text: &str) {
    sum.update((text.len() as u64).to_be_bytes());
    sum.update(text);
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::{Entry, RowChange, Transaction};

    fn state(steps: Vec<Vec<RowChange>>) -> State {
        let mut state = State::new();
        for (index, changes) in (1..).zip(steps) {
            state.apply(index, &Entry::Transaction(Transaction { changes, ..Transaction::default() }));
        }
        state
    }

    fn node(name: &str, groups: &str) -> RowChange {
        RowChange::set("nodelist", &[name], &[("groups", groups)])
    }

    #[test]
    fn equal_rows_have_one_digest_however_they_came_and_a_cell_makes_another() {
        let one = state(vec![vec![node("n1", "a"), node("n2", "b")]]);
        let swapped = vec![RowChange::delete("nodelist", &["n1"]), node("n1", "a")];
        let other = state(vec![vec![node("n1", "x"), node("n2", "b")], swapped]);
        assert_eq!(one.digests(), other.digests());
        assert_eq!(one.digest(), other.digest());
        let logged = state(vec![
            vec![node("n1", "a"), node("n2", "b")],
            vec![RowChange::set("auditlog", &[""], &[("userid", "root")])],
        ]);
        assert_eq!(one.digest(), logged.digest());
        for changes in [
            vec![node("n1", "ab"), node("n2", "")],
            vec![node("n1", "a"), node("n3", "b")],
            vec![node("n1", "a")],
            vec![RowChange::set("nodelist", &["n1"], &[("status", "a")]), node("n2", "b")],
            vec![
                RowChange::set("nodehm", &["n1"], &[("power", "a")]),
                RowChange::set("nodehm", &["n2"], &[("power", "b")]),
            ],
        ] {
            assert_ne!(one.digest(), state(vec![changes]).digest());
        }
    }

    /// Found once with another program: the bytes above may not change, members and clusters are compared by them.
    #[test]
    fn the_digest_is_the_described_one() {
        let one = state(vec![vec![node("n1", "a")]]);
        let found: Vec<String> = one.digests().iter().map(|table| table.digest.to_string()).collect();
        assert_eq!(found, ["f3982ca6cc201b0a65eaae7b3f6badd7360498078daef65e25f567f653267f27"]);
        assert_eq!(
            one.digest().to_string(),
            "ebb34755d6a4e59b165b70bad9c907f790a604c5d3215ef7043c40433365f1f9"
        );
    }
}
