//! `margay import xcat`: takes over the tables of a directory of dumpxCATdb, of any version.
//!
//! Rows of the files are set, rows that only this cluster has stay. Each row is accounted for: it is new, changed
//! or as here already, some of its values went elsewhere or were left out, or it was left out, with the reason.
//! Invariant: a second run changes nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::LazyLock;

use state::{Precondition, RowChange, TableDef, TableId, schema};

use crate::cells::count;
use crate::checked::fault;
use crate::csv;
use crate::dump::tables;
use crate::export::is_private;
use crate::plan::{Change, Ctx, Output, Plan};

/// What other versions call otherwise: the file says how.
static LEGACY: LazyLock<Legacy> = LazyLock::new(Legacy::read);
/// Rows that are named in one line.
const NAMED: usize = 1_000;
/// Longest name of a node or group, in bytes.
const NAME: usize = 255;

#[derive(Debug, Default)]
struct Legacy {
    columns: HashMap<&'static str, (TableId, usize)>,
    reasons: HashMap<&'static str, &'static str>,
}

impl Legacy {
    fn read() -> Legacy {
        let mut legacy = Legacy::default();
        for line in include_str!("legacy.tsv").lines() {
            match line.split('\t').collect::<Vec<_>>()[..] {
                ["C", old, new] => legacy.columns.extend(schema().column(new).map(|place| (old, place))),
                ["X", table, reason] => legacy.reasons.extend([(table, reason)]),
                _ => {}
            }
        }
        legacy
    }
}

/// What became of the rows of one file.
#[derive(Debug, Default)]
struct Account {
    rows: usize,
    new: usize,
    changed: usize,
    same: usize,
    left: usize,
    /// What else there is to say, and of which rows.
    notes: BTreeMap<String, Vec<String>>,
}

impl Account {
    fn note(&mut self, what: String, row: String) {
        self.notes.entry(what).or_default().push(row);
    }

    fn leave(&mut self, why: &str, row: String) {
        self.left += 1;
        self.note(format!("left out, {why}"), row);
    }
}

/// A row as the files want it.
#[derive(Debug)]
struct Target {
    table: TableId,
    key: Vec<String>,
    cells: BTreeMap<usize, String>,
    /// The file it came from; none for a row that only values of other tables' rows make.
    file: Option<usize>,
}

/// A value that belongs to another place than it was found at.
#[derive(Debug)]
struct Moved {
    file: usize,
    row: String,
    from: String,
    to: (TableId, usize),
    key: Vec<String>,
    value: String,
}

/// Everything that is taken from the files.
#[derive(Debug, Default)]
struct Import<'c> {
    accounts: Vec<(&'c str, Account)>,
    targets: Vec<Target>,
    index: HashMap<(TableId, Vec<String>), usize>,
    moved: Vec<Moved>,
}

/// The plan for a folder.
pub(crate) fn import(ctx: &Ctx<'_>, folder: &str) -> Result<Plan, Plan> {
    let folder = if folder == "/" { folder } else { folder.trim_end_matches('/') };
    let mut files = tables(ctx, folder)?;
    if files.is_empty() {
        return Err(Plan::error(ctx, &format!("There is no file of a table in {folder}")));
    }
    // Tables under their own names first: they win over rows that come from elsewhere.
    files.sort_by_key(|(name, _)| schema().table(name).is_none_or(|table| schema().def(table).name != *name));
    let mut import = Import::default();
    let mut errors = Output::new();
    for (name, bytes) in files {
        if let Err(wrong) = import.file(name, bytes) {
            errors.error(ctx, &format!("{folder}/{name}.csv: {wrong}"));
        }
    }
    if errors.status > 0 {
        errors.error(ctx, "Nothing was imported");
        return Err(errors.into());
    }
    import.place();
    let (changes, tables) = import.changes(ctx);
    let mut notes = import.told();
    if changes.is_empty() {
        notes.line("Everything is here as the files say; nothing was changed");
        return Err(notes.into());
    }
    let at = ctx.state.revision();
    let unchanged =
        |table: TableId| Precondition::TableUnchanged { table: schema().def(table).name.to_owned(), at };
    let preconditions = tables.into_iter().map(unchanged).collect();
    Ok(Plan::Change(Change { changes, preconditions, notes, ..Change::default() }))
}

impl<'c> Import<'c> {
    /// Takes the rows of a file.
    fn file(&mut self, name: &'c str, bytes: &[u8]) -> Result<(), String> {
        let (columns, records) = csv::parse(bytes).map_err(|error| error.to_string())?;
        let mut account = Account { rows: records.len(), ..Account::default() };
        let table = schema().table(name).filter(|table| !is_private(schema().def(*table).name));
        let reason = LEGACY.reasons.get(name).copied();
        match (table, reason) {
            (Some(table), None) => self.rows(name, table, &columns, records, &mut account),
            (_, reason) => {
                let reason = reason.unwrap_or("there is no such table here");
                for (at, _) in records.iter().enumerate() {
                    account.leave(reason, format!("row {}", at + 1));
                }
            }
        }
        self.accounts.push((name, account));
        Ok(())
    }

    fn rows(
        &mut self,
        name: &str,
        table: TableId,
        columns: &[String],
        records: Vec<csv::Record>,
        account: &mut Account,
    ) {
        let def = schema().def(table);
        let file = self.accounts.len();
        let places: Vec<Place> = columns.iter().map(|column| Place::find(name, def, column)).collect();
        let renamed = def.name != name;
        for (at, record) in records.into_iter().enumerate() {
            let value = |wanted: usize| {
                let own = places.iter().position(|place| *place == Place::Here(wanted));
                own.and_then(|at| record.values.get(at)).map_or("", String::as_str)
            };
            let key: Vec<String> = def.keys.iter().map(|key| value(*key).to_owned()).collect();
            let row = match key.iter().all(String::is_empty) {
                true => format!("row {}", at + 1),
                false => key.join(","),
            };
            if let Some(why) = refused(def, &key, record.values.len() > columns.len()) {
                account.leave(&why, row);
                continue;
            }
            let mut cells = BTreeMap::new();
            let mut moved = Vec::new();
            for ((place, column), text) in places.iter().zip(columns).zip(&record.values) {
                let fault = match text.is_empty() || *place == Place::Nowhere {
                    true => None,
                    false => fault(text, def.node.is_some()),
                };
                if let Some(fault) = fault {
                    account.note(format!("the value of '{column}' is left out, {fault}"), row.clone());
                    continue;
                }
                match place {
                    Place::Here(column) => cells.extend([(*column, text.clone())]),
                    _ if text.is_empty() => {}
                    Place::There(to) => {
                        let from = format!("{name}.{column}");
                        let (row, key, value) = (row.clone(), key.clone(), text.clone());
                        moved.push(Moved { file, row, from, to: *to, key, value });
                    }
                    Place::Nowhere => {
                        let what = format!("column '{column}' is not known here, its value is left out");
                        account.note(what, format!("{row} ({text:?})"));
                    }
                }
            }
            if let Some(&known) = self.index.get(&(table, key.clone())) {
                let first = &self.targets[known];
                let file = first.file.and_then(|file| self.accounts.get(file)).map_or(name, |(name, _)| name);
                let why = match first.cells == cells {
                    true => format!("it repeats an earlier row of {file}"),
                    false => format!("an earlier row of {file} has its key and other values"),
                };
                account.leave(&why, row);
                continue;
            }
            if renamed {
                account.note(format!("goes to table {}", def.name), row);
            }
            self.index.insert((table, key.clone()), self.targets.len());
            self.targets.push(Target { table, key, cells, file: Some(file) });
            self.moved.append(&mut moved);
        }
    }

    /// Puts values that were found elsewhere where they belong.
    fn place(&mut self) {
        for Moved { file, row, from, to: (table, column), key, value } in std::mem::take(&mut self.moved) {
            let def = schema().def(table);
            let place = format!("{}.{}", def.name, def.columns[column].name);
            let at = *self.index.entry((table, key.clone())).or_insert_with(|| {
                let cells = def.keys.iter().copied().zip(key.iter().cloned()).collect();
                self.targets.push(Target { table, key, cells, file: None });
                self.targets.len() - 1
            });
            let cell = self.targets[at].cells.entry(column).or_default();
            let (_, account) = &mut self.accounts[file];
            if cell.is_empty() || *cell == value {
                account.note(format!("{from} goes to {place}"), row);
                *cell = value;
            } else {
                account.note(
                    format!("{from} is left out, {place} has another value"),
                    format!("{row} ({value:?})"),
                );
            }
        }
    }

    /// The row changes, and the tables they are in.
    fn changes(&mut self, ctx: &Ctx<'_>) -> (Vec<RowChange>, BTreeSet<TableId>) {
        let mut changes = Vec::new();
        let mut tables = BTreeSet::new();
        for target in &self.targets {
            let def = schema().def(target.table);
            let now = ctx.state.table(target.table).find(&target.key).map(|(_, row)| row);
            let differs = |(column, text): &(&usize, &String)| {
                now.map_or("", |now| now.text(**column)) != text.as_str()
            };
            let cells: Vec<(String, String)> = target
                .cells
                .iter()
                .filter(differs)
                .map(|(column, text)| (def.columns[*column].name.to_owned(), text.clone()))
                .collect();
            let mut account = target.file.map(|file| &mut self.accounts[file].1);
            let mut add = |counter: fn(&mut Account) -> &mut usize| {
                if let Some(account) = account.as_deref_mut() {
                    *counter(account) += 1;
                }
            };
            match (now, cells.is_empty()) {
                (None, _) => add(|account| &mut account.new),
                (Some(_), false) => add(|account| &mut account.changed),
                (Some(_), true) => {
                    add(|account| &mut account.same);
                    continue;
                }
            }
            tables.insert(target.table);
            changes.push(RowChange::Set { table: def.name.to_owned(), key: target.key.clone(), cells });
        }
        (changes, tables)
    }

    /// The accounts as lines.
    fn told(mut self) -> Output {
        let mut output = Output::new();
        let mut sum = Account::default();
        self.accounts.sort_by_key(|(name, _)| *name);
        for (name, account) in &self.accounts {
            let Account { rows, new, changed, same, left, notes } = account;
            (sum.rows, sum.new, sum.changed) = (sum.rows + rows, sum.new + new, sum.changed + changed);
            (sum.same, sum.left) = (sum.same + same, sum.left + left);
            if *rows == 0 {
                continue;
            }
            let rows = count(*rows, "row");
            output.line(&format!(
                "{name}: {rows}: {new} new, {changed} changed, {same} as here, {left} left out"
            ));
            for (what, rows) in notes {
                let more = rows.len().saturating_sub(NAMED);
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                let named = &rows[..rows.len().min(NAMED)];
                output.line(&format!("    {what}: {}{more}", named.join(", ")));
            }
        }
        let Account { rows, new, changed, same, left, .. } = sum;
        let (files, rows) = (count(self.accounts.len(), "file"), count(rows, "row"));
        output
            .line(&format!("{files}, {rows}: {new} new, {changed} changed, {same} as here, {left} left out"));
        output
    }
}

/// Where the values of a column of a file go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Here(usize),
    There((TableId, usize)),
    Nowhere,
}

impl Place {
    fn find(file: &str, def: &TableDef, column: &str) -> Place {
        if let Some(column) = def.column(column) {
            return Place::Here(column);
        }
        let text = format!("{file}.{column}");
        match schema().column(&text).or_else(|| LEGACY.columns.get(text.as_str()).copied()) {
            Some((table, column)) if schema().def(table).name == def.name => Place::Here(column),
            Some(to) => Place::There(to),
            None => Place::Nowhere,
        }
    }
}

/// Why a row cannot be taken.
fn refused(def: &TableDef, key: &[String], too_long: bool) -> Option<String> {
    if too_long {
        return Some("it has more values than the header has columns".to_owned());
    }
    if key.iter().all(String::is_empty) {
        return Some("it has no key".to_owned());
    }
    let at = def.keys.iter().position(|column| Some(*column) == def.node);
    let name = at.and_then(|at| key.get(at)).map_or("", String::as_str);
    let wrong = |c: char| c.is_whitespace() || c.is_control() || c == ',';
    if at.is_some() && (name.is_empty() || name.len() > NAME || name.contains(wrong)) {
        return Some(format!("{name:?} cannot be the name of a node or group"));
    }
    key.iter().find_map(|text| fault(text, false)).map(|fault| format!("its key cannot be stored: {fault}"))
}
