//! The state, and how a log entry changes it.

use std::sync::Arc;

use wire::frame::{decode, encode};
use wire::ids::RequestId;
use wire::{Decode, Encode};

use crate::change::{Content, Entry, Outcome, Precondition, Refusal, RowChange, Transaction};
use crate::history::{HISTORY, HISTORY_BYTES, Shelf};
use crate::pattern::Patterns;
use crate::row::Row;
use crate::schema::{TableDef, TableId, schema};
use crate::table::Table;
use crate::tree::Tree;
pub(crate) use settled::{Settled, Touched};
pub(crate) use stages::Stage;
pub use stages::{STAGE_LIFE, STAGED};

/// Requests whose outcome is remembered.
pub const REQUESTS: usize = 100_000;

/// Rows in one piece of a revision's history, and about how many bytes.
const PIECE: usize = 256;
const PIECE_BYTES: usize = 1 << 20;

const KEY_REVISION: &[u8] = b"s/revision";

/// All tables of a cluster at one revision. A copy costs nothing: it shares everything with the state it was made of
/// until one of the two changes.
#[derive(Debug, Clone)]
pub struct State {
    pub(crate) revision: u64,
    /// Shared with derived states until one of them changes a table.
    pub(crate) tables: Vec<Arc<Table>>,
    pub(crate) changed: Vec<u64>,
    pub(crate) shelf: Shelf,
    /// Visible nodes with their groups in order.
    pub(crate) nodes: Tree<Arc<str>, Groups>,
    /// Visible members of groups that nodes name.
    pub(crate) members: Tree<Arc<str>, Tree<Arc<str>, ()>>,
    /// The groups of each text of `nodelist.groups`, and how many nodes have it.
    pub(crate) groups: Tree<Arc<str>, (usize, Groups)>,
    pub(crate) patterns: Patterns,
    pub(crate) clocks: rack::Clocks,
    pub(crate) cursors: Arc<std::collections::BTreeMap<String, crate::notify::Cursor>>,
    pub(crate) outcomes: Tree<RequestId, Outcome>,
    /// Requests by the index of their entry.
    pub(crate) order: Tree<u64, RequestId>,
    pub(crate) stages: Tree<u64, Stage>,
}

/// Groups in order; nodes with the same groups share one list.
pub(crate) type Groups = Arc<[Arc<str>]>;

/// What applying an entry made.
#[derive(Debug, Default)]
pub struct Applied {
    /// The answer for the proposer.
    pub outcome: Option<Outcome>,
    /// Rows that changed, for watchers; all at the outcome's revision. Each key is told once: removed rows
    /// first, then the others by their numbers. A row whose key differs before and after was renamed. Rows that
    /// are equal before and after only changed their place in the table; they are told when nothing else changed.
    pub events: Vec<Event>,
    /// What became of each event of racks.
    pub rack: Vec<crate::discovery::Outcome>,
    /// For those who wait at nodes, on every master.
    pub notices: Vec<crate::discovery::Notice>,
    /// For the store, in order: key and value, or `None` to delete.
    pub writes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// A row that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Table.
    pub table: TableId,
    /// Its number in the table.
    pub id: u64,
    /// Before; `None` for a new row.
    pub old: Option<Row>,
    /// After; `None` for a removed row.
    pub new: Option<Row>,
}

impl Event {
    /// The name of the table.
    pub fn table_name(&self) -> &'static str {
        schema().def(self.table).name
    }

    /// The node or group the row belongs to, in a node table.
    pub fn node(&self) -> Option<&str> {
        let column = schema().def(self.table).node?;
        self.new.as_ref().or(self.old.as_ref())?.get(column)
    }

    /// New text of a column (empty: none).
    pub fn new_text(&self, column: &str) -> &str {
        text_of(self.table, self.new.as_ref(), column)
    }

    /// Old text of a column (empty: none).
    pub fn old_text(&self, column: &str) -> &str {
        text_of(self.table, self.old.as_ref(), column)
    }
}

fn text_of<'a>(table: TableId, row: Option<&'a Row>, column: &str) -> &'a str {
    match (row, schema().def(table).column(column)) {
        (Some(row), Some(column)) => row.text(column),
        _ => "",
    }
}

/// A revision of the past, as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Past {
    /// Who.
    pub author: String,
    /// With which command.
    pub command: String,
    /// Request.
    pub request: Option<RequestId>,
    /// Unix seconds at the proposer.
    pub time: u64,
    /// Rows of this piece; further pieces follow under the next keys.
    pub rows: Vec<PastRow>,
}

/// A row change of the past.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct PastRow {
    /// Table.
    pub table: String,
    /// Row number.
    pub id: u64,
    /// Column numbers and texts before; `None` when there was no row.
    pub old: Option<Vec<(u16, String)>>,
    /// After; `None` when the row was removed.
    pub new: Option<Vec<(u16, String)>>,
}

/// A row as the store keeps it.
#[derive(Decode)]
struct Stored {
    revision: u64,
    cells: Vec<(u16, String)>,
}

/// [`Stored`] on its way to the store.
#[derive(Encode)]
struct Storing<'a> {
    revision: u64,
    cells: Vec<(u16, &'a str)>,
}

/// [`Past`] on its way to the store.
#[derive(Encode)]
struct Passing<'a> {
    author: &'a str,
    command: &'a str,
    request: Option<RequestId>,
    time: u64,
    rows: Vec<PassingRow<'a>>,
}

/// [`PastRow`] on its way to the store.
#[derive(Encode)]
struct PassingRow<'a> {
    table: &'a str,
    id: u64,
    old: Option<Vec<(u16, &'a str)>>,
    new: Option<Vec<(u16, &'a str)>>,
}

impl<'a> From<&'a Event> for PassingRow<'a> {
    fn from(event: &'a Event) -> PassingRow<'a> {
        let [old, new] = [&event.old, &event.new].map(|row| row.as_ref().map(cells));
        PassingRow { table: event.table_name(), id: event.id, old, new }
    }
}

impl Default for State {
    fn default() -> State {
        State::new()
    }
}

impl State {
    /// An empty state.
    pub fn new() -> State {
        let count = schema().tables.len();
        State {
            revision: 0,
            tables: (0..count).map(|i| Arc::new(Table::new(TableId(i)))).collect(),
            changed: vec![0; count],
            shelf: Shelf::default(),
            nodes: Tree::default(),
            members: Tree::default(),
            groups: Tree::default(),
            patterns: Patterns::default(),
            clocks: rack::Clocks::default(),
            cursors: Arc::default(),
            outcomes: Tree::default(),
            order: Tree::default(),
            stages: Tree::default(),
        }
    }

    /// The state whose writes these are. Keys that are not ours are passed over.
    pub fn load(pairs: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> State {
        let mut state = State::new();
        let mut outcomes = Vec::new();
        let mut pieces = Vec::new();
        let mut parts = Vec::new();
        for (key, value) in pairs {
            if stages::is_part(&key) {
                parts.push((key, value));
                continue;
            }
            if let Some(piece) = key.strip_prefix(b"h/") {
                pieces.extend(Shelf::piece(piece, value.len()));
                continue;
            }
            if state.load_clocks(&key, &value) || state.load_cursor(&key, &value) {
                continue;
            }
            if key == KEY_REVISION {
                state.revision = number(&value).unwrap_or(0);
            } else if let Some(rest) = key.strip_prefix(b"t/") {
                state.load_row(rest, &value);
            } else if let Some(name) = key.strip_prefix(b"v/") {
                let table = std::str::from_utf8(name).ok().and_then(|name| schema().table(name));
                if let (Some(table), Some(revision)) = (table, number(&value)) {
                    state.changed[table.0] = revision;
                }
            } else if let Some(index) = key.strip_prefix(b"q/").and_then(number)
                && let Ok((request, outcome)) = decode::<(RequestId, Outcome)>(&value)
            {
                outcomes.push((index, request, outcome));
            }
        }
        state.load_stages(parts);
        state.shelf = Shelf::load(pieces);
        outcomes.sort_by_key(|(index, _, _)| *index);
        for (index, request, outcome) in outcomes {
            state.order.insert(index, request);
            state.outcomes.insert(request, outcome);
        }
        state
    }

    fn load_row(&mut self, rest: &[u8], value: &[u8]) {
        let Some(slash) = rest.iter().position(|b| *b == b'/') else { return };
        let table = std::str::from_utf8(&rest[..slash]).ok().and_then(|name| schema().table(name));
        let (Some(table), Some(id), Ok(stored)) =
            (table, number(&rest[slash + 1..]), decode::<Stored>(value))
        else {
            return;
        };
        let mut row = row_of(&stored.cells);
        row.revision = stored.revision;
        self.put(table, id, row);
    }

    /// The number of the last transaction that changed something.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// A table.
    pub fn table(&self, table: TableId) -> &Table {
        &self.tables[table.0]
    }

    /// A table by name.
    pub fn named(&self, table: &str) -> Option<&Table> {
        Some(self.table(schema().table(table)?))
    }

    /// The recorded outcome of a request.
    pub fn outcome(&self, request: &RequestId) -> Option<&Outcome> {
        self.outcomes.get(request)
    }

    /// Applies the entry at this index of the log.
    pub fn apply(&mut self, index: u64, entry: &Entry) -> Applied {
        match entry {
            Entry::Transaction(transaction) => self.transact(index, transaction, None),
            Entry::Rack(entry) => self.rack(entry),
            Entry::Part(part) => self.stage(part),
            Entry::Whole(whole) => self.transact(index, &whole.transaction, Some((whole.stage, whole.parts))),
            Entry::Forget(stages) => self.forget_stages(stages),
            Entry::Notify(steps) => self.take_steps(steps),
            Entry::Compact(upto) => self.compact(*upto),
        }
    }

    /// `rest`: the number of its stage and how many parts are there, when it has parts.
    fn transact(&mut self, index: u64, transaction: &Transaction, rest: Option<(u64, u32)>) -> Applied {
        let mut applied = Applied::default();
        let rest = rest.map(|(stage, parts)| self.staged(stage, parts, &mut applied)).transpose();
        self.forget_overdue(transaction.time, &mut applied);
        if let Some(known) = transaction.request.and_then(|request| self.outcomes.get(&request)) {
            applied.outcome = Some(Outcome { repeated: true, ..known.clone() });
            return applied;
        }
        let refused = transaction.preconditions.iter().find_map(|p| self.refuses(p));
        let (rest, refused) = match rest {
            Ok(rest) => (rest, refused),
            Err(incomplete) => (None, refused.or(Some(incomplete))),
        };
        let mut contents = rest.iter().flat_map(Stage::contents).peekable();
        let refused = refused.or_else(|| {
            std::iter::from_fn(|| contents.next_if(|content| matches!(content, Content::Preconditions(_))))
                .find_map(|content| match content {
                    Content::Preconditions(list) => list.iter().find_map(|p| self.refuses(p)),
                    Content::Changes(_) => None,
                })
        });
        if refused.is_none() {
            let next = self.revision + 1;
            let mut touched = Touched::default();
            for content in contents {
                if let Content::Changes(changes) = content {
                    changes.iter().for_each(|change| self.change(change, next, &mut touched));
                }
            }
            for change in &transaction.changes {
                self.change(change, next, &mut touched);
            }
            let settled = self.settle(touched);
            self.keep(settled, transaction, &mut applied);
        }
        let rows = u64::try_from(applied.events.len()).unwrap_or(u64::MAX);
        let outcome = Outcome { revision: self.revision, refused, repeated: false, rows };
        // A refused request has done nothing: planned anew it may be applied under the same id.
        if let Some(request) = transaction.request.filter(|_| outcome.refused.is_none()) {
            self.remember(index, request, &outcome, &mut applied);
        }
        applied.outcome = Some(outcome);
        applied
    }

    pub(crate) fn refuses(&self, precondition: &Precondition) -> Option<Refusal> {
        let find = |table: &str, key: &[String]| self.named(table).and_then(|t| t.find(key));
        match precondition {
            Precondition::Unchanged { table, key, existed, at } => {
                let row = find(table, key);
                let holds = row.is_some() == *existed && row.is_none_or(|(_, row)| row.revision <= *at);
                (!holds).then(|| Refusal::Conflict { table: table.clone(), key: key.join(",") })
            }
            Precondition::Absent { table, key } => {
                find(table, key).map(|_| Refusal::Exists { table: table.clone(), key: key.join(",") })
            }
            Precondition::Value { table, key, column, value } => {
                let column_id = schema().table(table).and_then(|t| schema().def(t).column(column));
                let text = find(table, key).zip(column_id).map(|((_, row), column)| row.text(column));
                (text != Some(value)).then(|| Refusal::Differs {
                    table: table.clone(),
                    key: key.join(","),
                    column: column.clone(),
                })
            }
            Precondition::TableUnchanged { table, at } => {
                let changed = schema().table(table).map_or(0, |table| self.changed[table.0]);
                (changed > *at).then(|| Refusal::Conflict { table: table.clone(), key: String::new() })
            }
        }
    }

    /// Carries a change out; remembers each row's first old form.
    pub(crate) fn change(&mut self, change: &RowChange, revision: u64, touched: &mut Touched) {
        match change {
            RowChange::Set { table, key, cells } => {
                if let Some(table) = schema().table(table) {
                    self.set(table, key, cells, revision, touched);
                }
            }
            RowChange::Delete { table, key } => {
                if let Some(table) = schema().table(table)
                    && let Some((id, _)) = self.table(table).find(key)
                {
                    self.delete(table, id, touched);
                }
            }
            RowChange::Clear { table } => {
                if let Some(table) = schema().table(table) {
                    let ids: Vec<u64> = self.table(table).rows().map(|(id, _)| id).collect();
                    for id in ids {
                        self.delete(table, id, touched);
                    }
                }
            }
            RowChange::Restore { table, id, cells } => {
                if let Some(table) = schema().table(table) {
                    self.restore(table, *id, cells, revision, touched);
                }
            }
            RowChange::ForgetNode { node } => {
                for table in schema().node_tables() {
                    let ids: Vec<u64> = self.table(table).of_node(node).map(|(id, _)| id).collect();
                    for id in ids {
                        self.delete(table, id, touched);
                    }
                }
            }
        }
    }

    fn set(
        &mut self,
        table: TableId,
        key: &[String],
        cells: &[(String, String)],
        revision: u64,
        touched: &mut Touched,
    ) {
        let def = schema().def(table);
        if key.len() != def.keys.len() {
            return;
        }
        let numbered = def.keys.iter().any(|&k| def.columns[k].auto);
        let found = self.table(table).find(key).map(|(id, row)| (id, row.clone()));
        let (id, mut row) = match found {
            Some(found) => found,
            None => {
                let id = self.table(table).next();
                let mut row = Row::empty(def);
                let given = id.to_string();
                let text = |text| if numbered && str::is_empty(text) { given.as_str() } else { text };
                let keys: Vec<(usize, &str)> =
                    def.keys.iter().zip(key).map(|(&column, key)| (column, text(key.as_str()))).collect();
                row.set_all(&keys);
                (id, row)
            }
        };
        row.set_all(&numbers(def, cells));
        self.place_row(table, id, row, revision, touched);
    }

    fn restore(
        &mut self,
        table: TableId,
        id: u64,
        cells: &[(String, String)],
        revision: u64,
        touched: &mut Touched,
    ) {
        let def = schema().def(table);
        let mut row = Row::empty(def);
        row.set_all(&numbers(def, cells));
        let held = self.table(table).row(id).is_some() || id == 0 || id == u64::MAX;
        let id = if held { self.table(table).next() } else { id };
        self.place_row(table, id, row, revision, touched);
    }

    fn place_row(&mut self, table: TableId, id: u64, mut row: Row, revision: u64, touched: &mut Touched) {
        row.revision = revision;
        // A changed key may meet another row: that one gives way, as a key is unique.
        let rival = self.table(table).find(&self.table(table).key_of(&row)).map(|(rival, _)| rival);
        if let Some(rival) = rival.filter(|rival| *rival != id) {
            self.delete(table, rival, touched);
        }
        let old = self.put(table, id, row);
        touched.first.entry((table, id)).or_insert(old);
    }

    fn delete(&mut self, table: TableId, id: u64, touched: &mut Touched) {
        let old = self.take(table, id);
        touched.first.entry((table, id)).or_insert(old);
        touched.removed.insert((table, id));
    }

    /// What is really different now.
    pub(crate) fn settle(&mut self, touched: Touched) -> Settled {
        let mut moves = Vec::new();
        for ((table, id), old) in touched.first {
            let new = self.table(table).row(id).cloned();
            let same = match (&old, &new) {
                (Some(old), Some(new)) => old.values().eq(new.values()),
                (None, None) => true,
                _ => false,
            };
            match same {
                true => {
                    if let Some(old) = old {
                        self.put(table, id, old);
                    }
                }
                false => moves.push(Event { table, id, old, new }),
            }
        }
        Settled { moves, removed: touched.removed }
    }

    /// Makes what is different a revision.
    fn keep(&mut self, settled: Settled, transaction: &Transaction, applied: &mut Applied) {
        if settled.moves.is_empty() {
            return;
        }
        self.revision += 1;
        self.record(transaction, &settled.moves, applied);
        applied.events = settled.events();
        self.note_config(applied);
        self.note_registrations(applied);
    }

    fn record(&mut self, transaction: &Transaction, moves: &[Event], applied: &mut Applied) {
        let revision = self.revision;
        for event in moves {
            let name = schema().def(event.table).name;
            let mut key = format!("t/{name}/").into_bytes();
            key.extend_from_slice(&event.id.to_be_bytes());
            let stored = event.new.as_ref().map(|row| Storing { revision, cells: cells(row) });
            applied.writes.push((key, stored.and_then(|stored| encode(&stored).ok())));
            if self.changed[event.table.0] != revision {
                self.changed[event.table.0] = revision;
                applied
                    .writes
                    .push((format!("v/{name}").into_bytes(), Some(revision.to_be_bytes().to_vec())));
            }
        }
        let mut pieces = 0;
        let mut bytes = 0;
        for (piece, events) in in_pieces(moves).enumerate() {
            let past = Passing {
                author: &transaction.author,
                command: &transaction.command,
                request: transaction.request,
                time: transaction.time,
                rows: events.iter().map(PassingRow::from).collect(),
            };
            if let Ok(value) = encode(&past) {
                pieces += 1;
                bytes += value.len();
                applied.writes.push((history_key(revision, piece), Some(value)));
            }
        }
        self.shelf.put(revision, pieces, bytes);
        self.shelf.trim(HISTORY, HISTORY_BYTES, &mut applied.writes);
        applied.writes.push((KEY_REVISION.to_vec(), Some(revision.to_be_bytes().to_vec())));
    }

    fn remember(&mut self, index: u64, request: RequestId, outcome: &Outcome, applied: &mut Applied) {
        if let Ok(value) = encode(&(request, outcome.clone())) {
            applied.writes.push((outcome_key(index), Some(value)));
        }
        self.order.insert(index, request);
        self.outcomes.insert(request, outcome.clone());
        while self.order.len() > REQUESTS
            && let Some((&index, &request)) = self.order.first()
        {
            self.order.remove(&index);
            self.outcomes.remove(&request);
            applied.writes.push((outcome_key(index), None));
        }
    }

    pub(crate) fn put(&mut self, table: TableId, id: u64, row: Row) -> Option<Row> {
        for (_, value) in row.values() {
            self.patterns.add(value);
        }
        let old = Arc::make_mut(&mut self.tables[table.0]).put(id, row.clone());
        for (_, value) in old.iter().flat_map(Row::values) {
            self.patterns.drop(value);
        }
        self.place(table, old.as_ref(), Some(&row));
        old
    }

    pub(crate) fn take(&mut self, table: TableId, id: u64) -> Option<Row> {
        self.tables[table.0].row(id)?;
        let row = Arc::make_mut(&mut self.tables[table.0]).remove(id)?;
        for (_, value) in row.values() {
            self.patterns.drop(value);
        }
        self.place(table, Some(&row), None);
        Some(row)
    }

    /// Keeps the indexes of nodes and groups in step with nodelist.
    fn place(&mut self, table: TableId, old: Option<&Row>, new: Option<&Row>) {
        let def = schema().def(table);
        if def.name != "nodelist" {
            return;
        }
        let place = |row: &Row| {
            let enabled = def.disable.is_none_or(|column| row.get(column).is_none());
            enabled.then(|| (row.text(0).to_owned(), row.text(1).to_owned()))
        };
        let (old, new) = (old.and_then(place), new.and_then(place));
        if old == new {
            return;
        }
        if let Some((name, groups)) = old {
            self.leave(&name, &groups);
        }
        if let Some((name, groups)) = new {
            self.enter(&name, &groups);
        }
    }

    fn leave(&mut self, name: &str, text: &str) {
        self.nodes.remove(name);
        let Some((count, groups)) = self.groups.get_mut(text) else { return };
        *count -= 1;
        let (count, groups) = (*count, groups.clone());
        if count == 0 {
            self.groups.remove(text);
        }
        for group in groups.iter() {
            if let Some(members) = self.members.get_mut(&**group) {
                members.remove(name);
                if members.is_empty() {
                    self.members.remove(&**group);
                }
            }
        }
    }

    fn enter(&mut self, name: &str, text: &str) {
        let name: Arc<str> = name.into();
        let groups = match self.groups.get_mut(text) {
            Some((count, groups)) => {
                *count += 1;
                groups.clone()
            }
            None => {
                let names = text.split(',').map(str::trim).filter(|group| !group.is_empty());
                let known = |name: &str| self.members.get_key_value(name).map(|(name, _)| name.clone());
                let groups: Groups = names.map(|name| known(name).unwrap_or_else(|| name.into())).collect();
                self.groups.insert(text.into(), (1, groups.clone()));
                groups
            }
        };
        for group in groups.iter() {
            match self.members.get_mut(&**group) {
                Some(members) => {
                    members.insert(name.clone(), ());
                }
                None => {
                    self.members.insert(group.clone(), [(name.clone(), ())].into_iter().collect());
                }
            }
        }
        self.nodes.insert(name, groups);
    }
}

/// Numbers of columns with their texts; what the table does not have is left out.
fn numbers<'a>(def: &TableDef, cells: &'a [(String, String)]) -> Vec<(usize, &'a str)> {
    cells.iter().filter_map(|(column, text)| Some((def.column(column)?, text.as_str()))).collect()
}

/// A stored row.
pub(crate) fn row_of(cells: &[(u16, String)]) -> Row {
    let cells: Vec<(usize, &str)> =
        cells.iter().map(|(at, text)| (usize::from(*at), text.as_str())).collect();
    Row::of(&cells)
}

/// Events in parts whose history fits into one value of the store.
fn in_pieces(mut events: &[Event]) -> impl Iterator<Item = &[Event]> {
    let weight = |event: &Event| {
        let rows = event.old.iter().chain(&event.new);
        64 + rows.map(|row| row.values().map(|(_, text)| text.len() + 8).sum::<usize>()).sum::<usize>()
    };
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let more = events.iter().take(PIECE).take_while(|event| {
            let first = bytes == 0;
            bytes += weight(event);
            first || bytes <= PIECE_BYTES
        });
        let (piece, rest) = events.split_at(more.count());
        events = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

/// The store's key of a piece of a revision's history. Pieces count from 0.
pub fn history_key(revision: u64, piece: usize) -> Vec<u8> {
    let mut key = b"h/".to_vec();
    key.extend_from_slice(&revision.to_be_bytes());
    key.extend_from_slice(&u32::try_from(piece).unwrap_or(u32::MAX).to_be_bytes());
    key
}

fn outcome_key(index: u64) -> Vec<u8> {
    let mut key = b"q/".to_vec();
    key.extend_from_slice(&index.to_be_bytes());
    key
}

fn number(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

fn cells(row: &Row) -> Vec<(u16, &str)> {
    row.values().filter_map(|(i, v)| Some((u16::try_from(i).ok()?, v))).collect()
}

mod rack;
mod settled;
mod stages;
#[cfg(test)]
mod tests;
