//! What the handlers of changes are told: the calls that a revision makes, and their bytes.
//!
//! Knows nothing of processes and networks. Invariant: which calls a revision makes, and their numbers, depend on
//! its rows only, never on who is registered for what.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use state::history::{Revision, merge};
use state::notify::{Cursor, Place, Step, TABLE, What};
use state::{PastRow, State, TableDef, schema};

/// Rows in one call; more make several calls.
const ROWS: usize = 4096;
/// The row of `site` that says how programs are told of changes unless their registration does.
pub const SITE: &str = "notifyformat";
/// A module that xCAT registers for its own bookkeeping; there is nothing behind it here.
const BOOKKEEPING: &str = "montbhandler.pm";

/// How a program is told of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `[old value]` and `[new value]`; values are quoted where they must be.
    Value,
    /// `[old data]` and `[new data]` with bare values, as xCAT 2 does it.
    Data,
    /// One JSON object.
    Json,
}

impl Format {
    /// The format of this name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Format> {
        match text {
            "value" => Some(Format::Value),
            "data" => Some(Format::Data),
            "json" => Some(Format::Json),
            _ => None,
        }
    }
}

/// What is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A program, which gets the change on its standard input.
    Program,
    /// A Perl module with `processTableChanges`.
    Module,
    /// An address that gets a POST.
    Web,
}

/// A registration that is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Path, module or address.
    pub file: String,
    /// What that is.
    pub kind: Kind,
    /// For programs.
    pub format: Format,
    /// A file with the certificates to trust instead of the system's.
    pub ca: String,
    /// The revision of its row.
    pub revision: u64,
    tables: Vec<String>,
    operations: String,
}

impl Registration {
    /// The registration of this name, if it is enabled.
    #[must_use]
    pub fn find(state: &State, file: &str) -> Option<Registration> {
        let table = state.named(TABLE)?;
        let (_, row) = table.find(&[file])?;
        if !table.enabled(row) {
            return None;
        }
        let cell = |column: &str| table.def().column(column).map_or("", |at| row.text(at));
        // A database that came from xCAT has no such row in site, and handlers that were written for xCAT.
        let format = [cell("format"), state.site(SITE).unwrap_or_default()];
        Some(Registration {
            file: file.to_owned(),
            kind: kind(file),
            format: format.into_iter().find_map(Format::parse).unwrap_or(Format::Data),
            ca: cell("ca").to_owned(),
            revision: row.revision,
            tables: cell("tables").split(',').map(|name| name.trim().to_owned()).collect(),
            operations: match cell("tableops") {
                "" => "a,d,u".to_owned(),
                operations => operations.to_owned(),
            },
        })
    }

    /// The newest revision that changed one of its tables.
    #[must_use]
    pub fn newest(&self, state: &State) -> u64 {
        match self.file == BOOKKEEPING {
            true => 0,
            false => self.tables.iter().map(|table| state.changed_at(table)).max().unwrap_or(0),
        }
    }

    /// Whether it is called for this.
    #[must_use]
    pub fn wants(&self, call: &Call) -> bool {
        self.operations.split(',').any(|word| word.trim() == call.action.letter())
            && self.watches(&call.table)
            && self.file != BOOKKEEPING
    }

    /// Whether it is told of changes of this table.
    #[must_use]
    pub fn watches(&self, table: &str) -> bool {
        self.tables.iter().any(|name| name == table)
    }
}

/// The handler that is behind most of those that have not been told everything, and the revision at which it stands.
#[must_use]
pub fn needed(state: &State) -> Option<(&str, u64)> {
    let stands = state.cursors().iter().map(|(file, cursor)| (file.as_str(), cursor.at.revision));
    let behind = |(file, at): &(&str, u64)| {
        Registration::find(state, file).is_some_and(|found| found.newest(state) >= *at)
    };
    stands.filter(behind).min_by_key(|(_, at)| *at)
}

/// The steps of handlers that want nothing up to a revision to the place behind it: were it forgotten first, they would
/// seem to have missed it.
#[must_use]
pub fn passes(state: &State, upto: u64) -> Vec<Step> {
    let at = Place::first(upto + 1);
    let done = |file: &str, cursor: &Cursor| {
        let newest = Registration::find(state, file).map_or(0, |found| found.newest(state));
        cursor.open.is_none() && cursor.at < at && newest < cursor.at.revision
    };
    let cursors = state.cursors().iter().filter(|(file, cursor)| done(file, cursor));
    cursors
        .map(|(file, cursor)| Step { file: file.clone(), since: cursor.since, at, what: What::Pass })
        .collect()
}

/// What a registered name is.
#[must_use]
pub fn kind(file: &str) -> Kind {
    let web = ["http://", "https://"]
        .iter()
        .any(|scheme| file.get(..scheme.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(scheme)));
    match web {
        true => Kind::Web,
        false if file.ends_with(".pm") => Kind::Module,
        false => Kind::Program,
    }
}

/// What happened to the rows of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// They were removed.
    Removed,
    /// Their cells were changed.
    Updated,
    /// They were made.
    Added,
}

impl Action {
    /// As xCAT writes it.
    #[must_use]
    pub fn letter(self) -> &'static str {
        match self {
            Action::Removed => "d",
            Action::Updated => "u",
            Action::Added => "a",
        }
    }
}

/// One call of a handler: rows of one table that one change treated alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Where in the history.
    pub place: Place,
    /// Table.
    pub table: String,
    /// What happened.
    pub action: Action,
    /// Unix seconds of the change.
    pub time: u64,
    /// Who made it.
    pub author: String,
    /// With which command.
    pub command: String,
    /// The rows, by their keys.
    pub rows: Vec<PastRow>,
}

/// The calls that a revision makes, in their order.
#[must_use]
pub fn calls(revision: &Revision) -> Vec<Call> {
    let mut groups: BTreeMap<(String, Action, Vec<usize>), Vec<PastRow>> = BTreeMap::new();
    let rows: Vec<PastRow> = revision.rows.iter().cloned().flat_map(PastRow::split).collect();
    for row in merge(&rows) {
        let Some(def) = table(&row.table) else { continue };
        let shown: Vec<usize> =
            row.cells().into_iter().map(|(at, _, _)| at).filter(|at| shows(def, *at)).collect();
        let (action, alike) = match (&row.old, &row.new) {
            (None, _) => (Action::Added, Vec::new()),
            (_, None) => (Action::Removed, Vec::new()),
            _ if shown.is_empty() => continue,
            _ => (Action::Updated, shown),
        };
        groups.entry((row.table.clone(), action, alike)).or_default().push(row);
    }
    let mut calls = Vec::new();
    let mut place = Place::first(revision.number);
    for ((table, action, _), rows) in groups {
        for rows in rows.chunks(ROWS) {
            calls.push(Call {
                place,
                table: table.clone(),
                action,
                time: revision.time,
                author: revision.author.clone(),
                command: revision.command.clone(),
                rows: rows.to_vec(),
            });
            place = place.next();
        }
    }
    calls
}

impl Call {
    /// What a program gets on its standard input.
    #[must_use]
    pub fn stdin(&self, format: Format) -> Vec<u8> {
        let word = match format {
            Format::Value => "value",
            Format::Data => "data",
            Format::Json => return self.json(),
        };
        let Some(def) = table(&self.table) else { return Vec::new() };
        let line = |values: &mut dyn Iterator<Item = &str>| {
            let values: Vec<String> = values
                .map(|value| if format == Format::Value { quoted(value) } else { value.to_owned() })
                .collect();
            values.join(",") + "\n"
        };
        let mut text = format!("{}\n{}\n[old {word}]\n", self.action.letter(), self.table);
        let all: Vec<usize> = (0..def.columns.len()).filter(|at| shows(def, *at)).collect();
        let old: Vec<_> = self.rows.iter().filter_map(|row| row.old.as_deref()).collect();
        if !old.is_empty() {
            text += &line(&mut all.iter().map(|at| def.columns[*at].name));
        }
        for cells in old {
            text += &line(&mut all.iter().map(|at| cell(cells, *at).unwrap_or_default()));
        }
        text += &format!("[new {word}]\n");
        let columns = self.new_columns(def);
        if self.action != Action::Removed {
            text += &line(&mut columns.iter().map(|at| def.columns[*at].name));
        }
        for cells in self.rows.iter().filter_map(|row| row.new.as_deref()) {
            text += &line(&mut columns.iter().map(|at| cell(cells, *at).unwrap_or_default()));
        }
        text.into_bytes()
    }

    /// Keys and what was changed or set, by their names in the order of the alphabet.
    fn new_columns(&self, def: &TableDef) -> Vec<usize> {
        let changed = self.rows.iter().flat_map(|row| row.cells().into_iter().map(|(at, _, _)| at));
        let named = changed.chain(def.keys.iter().copied()).filter(|at| shows(def, *at));
        let columns: BTreeMap<&str, usize> = named.map(|at| (def.columns[at].name, at)).collect();
        columns.into_values().collect()
    }

    /// The call as one JSON object with a line feed.
    #[must_use]
    pub fn json(&self) -> Vec<u8> {
        let rows: Vec<Value> = self.rows.iter().map(row_json).collect();
        let object = json!({
            "revision": self.place.revision,
            "delivery": self.place.to_string(),
            "time": self.time,
            "author": self.author,
            "command": self.command,
            "table": self.table,
            "action": self.action.letter(),
            "rows": rows,
        });
        (object.to_string() + "\n").into_bytes()
    }

    /// The call for the program that calls a Perl module: lines of words, each text in hexadecimal behind an `x`.
    #[must_use]
    pub fn perl(&self) -> Vec<u8> {
        let Some(def) = table(&self.table) else { return Vec::new() };
        let hex = |text: &str| {
            let digits: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
            format!(" x{digits}")
        };
        let all: Vec<usize> = (0..def.columns.len()).filter(|at| shows(def, *at)).collect();
        let columns: String = all.iter().map(|at| hex(def.columns[*at].name)).collect();
        let new_columns = self.new_columns(def);
        let head = format!("call {} {}\n", self.action.letter(), self.table);
        let mut text = String::new();
        // New values are one hash, so each row with new values is a call; removed rows go together.
        let mut open = false;
        for row in &self.rows {
            if !open {
                text += &head;
                if row.old.is_some() {
                    text += &format!("row{columns}\n");
                }
                open = true;
            }
            if let Some(cells) = &row.old {
                let values: String =
                    all.iter().map(|at| cell(cells, *at).map_or_else(|| " u".to_owned(), hex)).collect();
                text += &format!("row{values}\n");
            }
            if let Some(cells) = &row.new {
                for at in &new_columns {
                    let value = hex(cell(cells, *at).unwrap_or_default());
                    text += &format!("new{}{value}\n", hex(def.columns[*at].name));
                }
                text += "end\n";
                open = false;
            }
        }
        if open {
            text += "end\n";
        }
        text.into_bytes()
    }
}

/// A changed row: its key, and what changed of it.
#[must_use]
pub fn row_json(row: &PastRow) -> Value {
    let Some(def) = table(&row.table) else { return Value::Null };
    let texts = |columns: &mut dyn Iterator<Item = (usize, &str)>| -> Value {
        let named = columns.filter(|(at, _)| shows(def, *at));
        let map: Map<String, Value> =
            named.map(|(at, text)| (def.columns[at].name.to_owned(), Value::from(text))).collect();
        Value::Object(map)
    };
    let cells = row.cells();
    let mut object = Map::new();
    object.insert("key".into(), texts(&mut def.keys.iter().copied().zip(row.key())));
    if row.old.is_some() {
        object.insert("old".into(), texts(&mut cells.iter().map(|(at, old, _)| (*at, *old))));
    }
    if row.new.is_some() {
        object.insert("new".into(), texts(&mut cells.iter().map(|(at, _, new)| (*at, *new))));
    }
    Value::Object(object)
}

fn table(name: &str) -> Option<&'static TableDef> {
    Some(schema().def(schema().table(name)?))
}

fn shows(def: &TableDef, column: usize) -> bool {
    def.columns.get(column).is_some_and(|column| !column.hidden)
}

fn cell(cells: &[(u16, String)], column: usize) -> Option<&str> {
    cells.iter().find(|(at, _)| usize::from(*at) == column).map(|(_, text)| text.as_str())
}

/// A value as one field: in quotes when it would not be one otherwise.
fn quoted(value: &str) -> String {
    match value.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", value.replace('"', "\"\"")),
        false => value.to_owned(),
    }
}

#[cfg(test)]
mod tests;
