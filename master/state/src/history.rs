//! The past of the state: which revisions the store still has, what one of them changed, how the state was then.
//!
//! The row changes of a revision lie in the store in pieces under [`crate::history_key`]; in memory is only how
//! many pieces and bytes each revision has. Who reads the store gives the pieces back, oldest first, to a
//! [`Rewind`] or a [`Reading`].
//!
//! Knows nothing of the store itself. Invariant: kept revisions have no gap, the oldest go first.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::Event;
use crate::apply::{Applied, Past, PastRow, State, Touched, history_key, row_of};
use crate::change::{Precondition, Refusal, RowChange};
use crate::row::Row;
use crate::schema::{TableId, schema};
use crate::tree::Tree;

/// Revisions whose row changes stay readable.
pub const HISTORY: u64 = 200_000;
/// Bytes of row changes that stay readable.
pub const HISTORY_BYTES: u64 = 4 << 30;
/// Revisions that one change may push out, so that no change has to wait for a large clearance.
const TRIM: usize = 4;

/// Pieces after which one entry that compacts forgets no further revision.
const COMPACT: usize = 1000;

/// Tables that tell what happened: they are no part of what is undone, compared or exported.
pub const RECORDS: [&str; 3] = ["auditlog", "eventlog", "actions"];

/// Whether the table is a record of what happened; see [`RECORDS`].
#[must_use]
pub fn is_record(table: &str) -> bool {
    RECORDS.contains(&table)
}

/// What the store has of the past: pieces and bytes of each revision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Shelf {
    kept: Tree<u64, (u32, u32)>,
    bytes: u64,
}

impl Shelf {
    /// Revision, number and size of a piece by the rest of its key.
    pub(crate) fn piece(rest: &[u8], size: usize) -> Option<(u64, u32, usize)> {
        let revision = u64::from_be_bytes(*rest.first_chunk()?);
        let piece = u32::from_be_bytes(rest.get(8..)?.try_into().ok()?);
        Some((revision, piece, size))
    }

    pub(crate) fn load(mut pieces: Vec<(u64, u32, usize)>) -> Shelf {
        pieces.sort_unstable();
        let mut shelf = Shelf::default();
        let mut pieces = pieces.into_iter().peekable();
        while let Some((revision, _, size)) = pieces.next() {
            let (mut count, mut bytes) = (1, size);
            while let Some((_, _, size)) = pieces.next_if(|(other, _, _)| *other == revision) {
                count += 1;
                bytes += size;
            }
            shelf.put(revision, count, bytes);
        }
        shelf
    }

    pub(crate) fn put(&mut self, revision: u64, pieces: u32, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.bytes += u64::from(bytes);
        self.kept.insert(revision, (pieces, bytes));
    }

    /// Forgets the oldest revisions beyond the limits, a few at a time.
    pub(crate) fn trim(&mut self, count: u64, bytes: u64, writes: &mut Vec<(Vec<u8>, Option<Vec<u8>>)>) {
        for _ in 0..TRIM {
            if self.kept.len() as u64 <= count && (self.bytes <= bytes || self.kept.len() <= 1) {
                return;
            }
            self.drop_first(writes);
        }
    }

    /// Forgets revisions up to one, a bounded number at a time.
    fn compact(&mut self, upto: u64, writes: &mut Vec<(Vec<u8>, Option<Vec<u8>>)>) {
        while writes.len() < COMPACT && self.kept.first().is_some_and(|(first, _)| *first <= upto) {
            self.drop_first(writes);
        }
    }

    fn drop_first(&mut self, writes: &mut Vec<(Vec<u8>, Option<Vec<u8>>)>) {
        let Some((&first, &(pieces, size))) = self.kept.first() else { return };
        self.kept.remove(&first);
        for piece in 0..pieces {
            writes.push((history_key(first, piece as usize), None));
        }
        self.bytes -= u64::from(size);
    }
}

/// A revision of the past with the rows that were asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// Its number.
    pub number: u64,
    /// Who.
    pub author: String,
    /// With which command.
    pub command: String,
    /// Unix seconds.
    pub time: u64,
    /// Its rows.
    pub rows: Vec<PastRow>,
}

/// Which part of the past is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Query {
    /// First revision.
    pub from: u64,
    /// Last revision.
    pub to: u64,
    /// Only rows of these tables; empty: of all but [`RECORDS`].
    pub tables: Vec<String>,
    /// Only rows of these nodes, when given.
    pub nodes: Option<BTreeSet<String>>,
    /// Only so many revisions, the newest ones.
    pub limit: usize,
    /// Most rows that are kept in memory; more end the reading.
    pub rows: usize,
}

impl Query {
    /// Everything between two revisions.
    #[must_use]
    pub fn all(from: u64, to: u64) -> Query {
        Query { from, to, tables: Vec::new(), nodes: None, limit: usize::MAX, rows: ROWS }
    }

    /// Whether what was found for this question answers the other one: they differ at most by revisions that
    /// were made meanwhile, or have gone.
    #[must_use]
    pub fn same(&self, other: &Query) -> bool {
        let plain = |query: &Query| Query { from: 0, to: 0, ..query.clone() };
        let single = self.from == self.to || other.from == other.to;
        plain(self) == plain(other) && (!single || (self.from, self.to) == (other.from, other.to))
    }

    /// Whether the row is of a table and a node that are asked about.
    #[must_use]
    pub fn wants(&self, row: &PastRow) -> bool {
        let table = match self.tables.is_empty() {
            true => !is_record(&row.table),
            false => self.tables.contains(&row.table),
        };
        table && self.nodes.as_ref().is_none_or(|nodes| row.node().is_some_and(|node| nodes.contains(node)))
    }
}

/// Rows that one question about the past may bring into memory.
const ROWS: usize = 1_000_000;

/// What was found for a [`Query`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    /// Newest first.
    pub revisions: Vec<Revision>,
    /// The reading ended before everything was seen: too many rows.
    pub cut: bool,
    rows: usize,
}

impl Reading {
    /// Takes a piece; they come newest first. False: no more is wanted.
    pub fn add(&mut self, query: &Query, revision: u64, past: Past) -> bool {
        let known = self.revisions.last().is_some_and(|last| last.number == revision);
        if !known && self.revisions.len() >= query.limit {
            return false;
        }
        if self.rows >= query.rows {
            self.cut = true;
            return false;
        }
        let Past { author, command, time, rows, .. } = past;
        let mut rows: Vec<PastRow> =
            rows.into_iter().flat_map(PastRow::split).filter(|row| query.wants(row)).collect();
        if rows.is_empty() {
            return true;
        }
        self.rows += rows.len();
        match self.revisions.last_mut().filter(|_| known) {
            Some(last) => {
                // Pieces of one revision come last first.
                rows.append(&mut last.rows);
                last.rows = rows;
            }
            None => self.revisions.push(Revision { number: revision, author, command, time, rows }),
        }
        true
    }
}

impl PastRow {
    /// A row whose key changed as two: the old one removed, the new one made. Numbers of removed rows are used
    /// again, so the two may have nothing in common.
    pub fn split(self) -> impl Iterator<Item = PastRow> {
        let (mut gone, mut made) = (None, Some(self));
        if let Some(row) = made.as_mut()
            && row.old.is_some()
            && row.new.is_some()
            && row.key_in(row.old.as_deref()) != row.key_in(row.new.as_deref())
        {
            gone = Some(PastRow { table: row.table.clone(), id: row.id, old: row.old.take(), new: None });
        }
        gone.into_iter().chain(made)
    }

    /// The node or group it belongs to.
    #[must_use]
    pub fn node(&self) -> Option<&str> {
        let column = schema().def(schema().table(&self.table)?).node?;
        let cells = self.new.as_ref().or(self.old.as_ref())?;
        cells.iter().find(|(at, _)| usize::from(*at) == column).map(|(_, text)| text.as_str())
    }

    /// The texts of its key columns, as they are after it, or were before it was removed.
    #[must_use]
    pub fn key(&self) -> Vec<&str> {
        self.key_in(self.new.as_deref().or(self.old.as_deref()))
    }

    fn key_in<'a>(&self, cells: Option<&'a [(u16, String)]>) -> Vec<&'a str> {
        let keys = schema().table(&self.table).map(|table| schema().def(table).keys.as_slice());
        keys.unwrap_or_default().iter().map(|key| text_of(cells.unwrap_or_default(), *key)).collect()
    }

    /// Column, text before and text after of each cell that differs.
    #[must_use]
    pub fn cells(&self) -> Vec<(usize, &str, &str)> {
        let old = self.old.as_deref().unwrap_or_default();
        let new = self.new.as_deref().unwrap_or_default();
        let columns: BTreeSet<usize> = old.iter().chain(new).map(|(at, _)| usize::from(*at)).collect();
        let cells = columns.into_iter().map(|at| (at, text_of(old, at), text_of(new, at)));
        cells.filter(|(_, old, new)| old != new).collect()
    }
}

fn text_of(cells: &[(u16, String)], column: usize) -> &str {
    cells.iter().find(|(at, _)| usize::from(*at) == column).map_or("", |(_, text)| text.as_str())
}

/// What many revisions changed together: each key once, from its first old to its last new form.
#[must_use]
pub fn sum(reading: &Reading) -> Vec<PastRow> {
    merged(reading.revisions.iter().rev().map(|revision| revision.rows.as_slice()))
}

/// The rows of one revision, with a row that was removed and made again as one.
#[must_use]
pub fn merge(rows: &[PastRow]) -> Vec<PastRow> {
    merged(std::iter::once(rows))
}

fn merged<'a>(revisions: impl Iterator<Item = &'a [PastRow]>) -> Vec<PastRow> {
    let mut merged: BTreeMap<(&str, Vec<&str>), PastRow> = BTreeMap::new();
    for rows in revisions {
        // In one revision a key is removed before it is made again.
        let (gone, there): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.new.is_none());
        for row in gone.into_iter().chain(there) {
            match merged.get_mut(&(row.table.as_str(), row.key())) {
                Some(known) => known.new.clone_from(&row.new),
                None => {
                    merged.insert((&row.table, row.key()), row.clone());
                }
            }
        }
    }
    merged.into_values().filter(|row| row.old != row.new).collect()
}

/// How rows were before the pieces that it was given, oldest first.
#[derive(Debug, Default)]
pub struct Rewind {
    rows: HashMap<(TableId, u64), Option<Row>>,
    first: Option<u64>,
    last: u64,
}

impl Rewind {
    /// Takes a piece of a revision.
    pub fn add(&mut self, revision: u64, past: Past) {
        self.first.get_or_insert(revision);
        self.last = revision;
        for row in past.rows {
            let Some(table) = schema().table(&row.table) else { continue };
            self.rows.entry((table, row.id)).or_insert_with(|| row.old.map(|cells| row_of(&cells)));
        }
    }

    /// Whether it was given everything from one revision to another.
    #[must_use]
    pub fn covers(&self, from: u64, to: u64) -> bool {
        from > to || self.first == Some(from) && self.last == to
    }
}

impl State {
    /// The oldest revision that can be looked at: the one before the first change that is kept.
    #[must_use]
    pub fn oldest(&self) -> u64 {
        self.shelf.kept.first().map_or(self.revision, |(first, _)| first.saturating_sub(1))
    }

    /// Forgets what the revisions up to one changed; the newest one is always kept, and not everything goes at once.
    pub(crate) fn compact(&mut self, upto: u64) -> Applied {
        let mut applied = Applied::default();
        self.shelf.compact(upto.min(self.revision.saturating_sub(1)), &mut applied.writes);
        applied
    }

    /// A state of its own with equal rows, for questions. Everything is shared until one of the two changes it.
    #[must_use]
    pub fn derived(&self) -> State {
        self.clone()
    }

    /// Makes a derived state the one that it was at a revision.
    #[must_use]
    pub fn rewound(mut self, rewind: Rewind, revision: u64) -> State {
        // All out before any comes in: numbers and keys are used again by other rows.
        for (table, id) in rewind.rows.keys() {
            self.take(*table, *id);
        }
        for ((table, id), row) in rewind.rows {
            if let Some(row) = row {
                self.put(table, id, row);
            }
        }
        self.revision = revision;
        self
    }

    /// The rows that these changes would change now; nothing is changed.
    ///
    /// # Errors
    /// The precondition that does not hold.
    pub fn preview(
        &self,
        preconditions: &[Precondition],
        changes: &[RowChange],
    ) -> Result<Vec<Event>, Refusal> {
        if let Some(refusal) = preconditions.iter().find_map(|precondition| self.refuses(precondition)) {
            return Err(refusal);
        }
        let mut after = self.derived();
        let mut touched = Touched::default();
        for change in changes {
            after.change(change, self.revision + 1, &mut touched);
        }
        Ok(after.settle(touched).events())
    }

    /// How to undo a revision: the row changes, and what has changed since in the same cells.
    #[must_use]
    pub fn undo(&self, rows: &[PastRow]) -> Undo {
        let mut undo = Undo::default();
        let made: BTreeSet<(&str, Vec<&str>)> =
            rows.iter().filter(|row| row.old.is_none()).map(|row| (row.table.as_str(), row.key())).collect();
        for row in rows.iter().filter(|row| !is_record(&row.table)) {
            let Some(table) = schema().table(&row.table) else { continue };
            let again = row.new.is_none() && made.contains(&(row.table.as_str(), row.key()));
            self.undo_row(table, row, again, &mut undo);
        }
        // What was made goes first: the rows that come back want its numbers.
        undo.changes.sort_by_key(|change| !matches!(change, RowChange::Delete { .. }));
        undo
    }

    /// `again`: the revision made the row anew after it had removed it.
    fn undo_row(&self, table: TableId, row: &PastRow, again: bool, undo: &mut Undo) {
        let def = schema().def(table);
        let key = || row.key().into_iter().map(str::to_owned).collect::<Vec<_>>();
        let named = |cells: &[(u16, String)]| -> Vec<(String, String)> {
            let name = |at: u16| def.columns.get(usize::from(at)).map(|column| column.name.to_owned());
            cells.iter().filter_map(|(at, text)| Some((name(*at)?, text.clone()))).collect()
        };
        let now = self.table(table).find(&row.key());
        let guard = Precondition::Unchanged {
            table: def.name.to_owned(),
            key: key(),
            existed: now.is_some(),
            at: self.revision,
        };
        let first = def.keys.first().copied().unwrap_or(0);
        let mut clashes = Vec::new();
        let mut clash = |column: usize, now: &str, revision: u64| {
            let column = def.columns.get(column).map_or("", |column| column.name);
            clashes.push(Clash {
                table: def.name,
                key: key().join(","),
                column,
                now: now.to_owned(),
                revision,
            });
        };
        let change = match (&row.old, &row.new, now) {
            (None, None, _) => return,
            (_, Some(_), None) => {
                clash(first, "", self.changed[table.0]);
                None
            }
            (_, None, Some((_, now))) if !again => {
                clash(first, now.text(first), now.revision);
                None
            }
            (Some(old), None, _) => {
                Some(RowChange::Restore { table: def.name.to_owned(), id: row.id, cells: named(old) })
            }
            (None, Some(new), Some((_, now))) => {
                // The row goes as a whole, so everything in it must be as it was made.
                let made = new.iter().map(|(at, _)| usize::from(*at));
                let columns: BTreeSet<usize> = made.chain(now.values().map(|(at, _)| at)).collect();
                for at in columns.into_iter().filter(|at| now.text(*at) != text_of(new, *at)) {
                    clash(at, now.text(at), now.revision);
                }
                Some(RowChange::Delete { table: def.name.to_owned(), key: key() })
            }
            (Some(_), Some(_), Some((_, now))) => {
                let mut cells = Vec::new();
                for (at, old, new) in row.cells() {
                    match now.text(at) == new {
                        true => cells.push((def.columns[at].name.to_owned(), old.to_owned())),
                        false => clash(at, now.text(at), now.revision),
                    }
                }
                Some(RowChange::Set { table: def.name.to_owned(), key: key(), cells })
            }
        };
        undo.changes.extend(change.filter(|_| clashes.is_empty()));
        undo.clashes.append(&mut clashes);
        undo.guards.push(guard);
        undo.tables.insert(def.name);
    }
}

/// What undoing a revision would do; see [`State::undo`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Undo {
    /// In order.
    pub changes: Vec<RowChange>,
    /// One a row.
    pub guards: Vec<Precondition>,
    /// Tables of the rows.
    pub tables: BTreeSet<&'static str>,
    /// Cells that were changed since; none may be left.
    pub clashes: Vec<Clash>,
}

/// A cell that has been changed since the revision that is to be undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clash {
    /// Table.
    pub table: &'static str,
    /// Key texts joined by commas.
    pub key: String,
    /// Column.
    pub column: &'static str,
    /// What it is now.
    pub now: String,
    /// The last revision that changed the row, or the table when the row is gone.
    pub revision: u64,
}

impl From<&Event> for PastRow {
    fn from(event: &Event) -> PastRow {
        let cells = |row: &Row| {
            row.values().filter_map(|(at, text)| Some((u16::try_from(at).ok()?, text.to_owned()))).collect()
        };
        PastRow {
            table: event.table_name().to_owned(),
            id: event.id,
            old: event.old.as_ref().map(cells),
            new: event.new.as_ref().map(cells),
        }
    }
}

#[cfg(test)]
mod tests;
