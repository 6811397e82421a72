//! `margay export` and `margay import`: all tables as files that a version control likes, and back.
//!
//! One file a table, rows in the order of their keys, so that a changed cell is a changed line.

use std::collections::HashSet;

use state::history::is_record;
use state::{Precondition, RowChange, Table, TableDef, TableId, schema};

use crate::cells::count;
use crate::csv;
use crate::operate::read;
use crate::plan::{Change, Ctx, Effect, MAX_INPUT, Need, Output, Plan};
use crate::registry::{Command, Range};

/// Tables that belong to one cluster, its machines and its present doings alone.
const PRIVATE: [&str; 7] =
    ["boottokens", "certificates", "cluster", "discovered", "identity", "servicenodes", "taskstate"];

/// `margay export`.
pub static EXPORT: Command = Command {
    name: "export",
    aliases: &[],
    summary: "Write all tables as files fit for version control",
    usage: "Usage: margay export DIR [--at REV|time]\n",
    writes: false,
    range: Range::None,
    plan: export,
};

/// `margay import`.
pub static IMPORT: Command = Command {
    name: "import",
    aliases: &[],
    summary: "Make the tables what exported files say",
    usage: "Usage: margay import DIR [--plan]\n       margay import xcat DIR [--plan]\n\n   DIR: a directory of margay \
            export; the tables become as its files say, those without a file stay as they are.\n   xcat DIR: a directory of \
            dumpxCATdb of any version; its rows are set, others stay, and each row is accounted for.\n",
    writes: true,
    range: Range::None,
    plan: import,
};

/// Whether the table is left out of an export.
pub(crate) fn is_private(table: &str) -> bool {
    is_record(table) || PRIVATE.contains(&table)
}

fn wanted() -> impl Iterator<Item = (TableId, &'static TableDef)> {
    let tables = schema().tables.iter().enumerate().map(|(at, def)| (TableId(at), def));
    tables.filter(|(_, def)| !is_private(def.name))
}

fn file(folder: &str, table: &TableDef) -> String {
    format!("{}/{}.csv", folder.trim_end_matches('/'), table.name)
}

fn export(ctx: &Ctx<'_>) -> Plan {
    let given = match read(ctx, EXPORT.usage, &[]) {
        Ok(given) => given,
        Err(plan) => return plan,
    };
    let [folder] = given.rest.as_slice() else { return Plan::usage(EXPORT.usage, 1) };
    let mut files = Vec::new();
    let mut rows = 0;
    for (table, def) in wanted() {
        let table = ctx.state.table(table);
        let text = text(table);
        rows += table.len();
        files.push((file(folder, def), text.into_bytes()));
    }
    let mut output = Output::new();
    output.line(&format!("{} and {} written to {folder}", count(files.len(), "table"), count(rows, "row")));
    Plan::Change(Change { effects: vec![Effect::ClientFiles(files)], output, ..Change::default() })
}

/// The table with all its columns, hidden ones too.
fn text(table: &Table) -> String {
    let def = table.def();
    let mut rows: Vec<(Vec<&str>, String)> = table
        .rows()
        .map(|(_, row)| (table.key_of(row), csv::line((0..def.columns.len()).map(|column| row.get(column)))))
        .collect();
    rows.sort_unstable();
    let names: Vec<&str> = def.columns.iter().map(|column| column.name).collect();
    let mut text = format!("#{}\n", names.join(","));
    for (_, row) in rows {
        text.push_str(&row);
        text.push('\n');
    }
    text
}

fn import(ctx: &Ctx<'_>) -> Plan {
    import_from(ctx).unwrap_or_else(|plan| plan)
}

fn import_from(ctx: &Ctx<'_>) -> Result<Plan, Plan> {
    let given = read(ctx, IMPORT.usage, &[])?;
    let folder = match given.rest.as_slice() {
        [folder] => folder,
        [from, folder] if from == "xcat" => return crate::migrate::import(ctx, folder),
        _ => return Err(Plan::usage(IMPORT.usage, 1)),
    };
    let paths = || wanted().map(|(_, def)| file(folder, def));
    if paths().any(|path| !ctx.files.contains_key(&path)) {
        return Err(Plan::Need(Need::Files { paths: paths().collect(), limit: MAX_INPUT }));
    }
    let mut change = Change::default();
    let mut found = false;
    let mut errors = Output::new();
    for (table, def) in wanted() {
        let path = file(folder, def);
        let Some(Some(bytes)) = ctx.files.get(&path) else { continue };
        found = true;
        match differences(ctx.state.table(table), bytes) {
            Ok(changes) if changes.is_empty() => {}
            Ok(changes) => {
                change.output.line(&told(ctx, table, &changes));
                let at = ctx.state.revision();
                change.preconditions.push(Precondition::TableUnchanged { table: def.name.to_owned(), at });
                change.changes.extend(changes);
            }
            Err(wrong) => errors.error(ctx, &format!("{path}: {wrong}")),
        }
    }
    if errors.status > 0 {
        return Err(errors.into());
    }
    if !found {
        return Err(Plan::error(ctx, &format!("There is no file of a table in {folder}")));
    }
    if change.changes.is_empty() {
        change.output.line("The tables are as the files say; nothing was changed");
        return Err(Plan::Answer(change.output));
    }
    Ok(Plan::Change(change))
}

fn told(ctx: &Ctx<'_>, table: TableId, changes: &[RowChange]) -> String {
    let table = ctx.state.table(table);
    let (mut new, mut changed, mut removed) = (0, 0, 0);
    for change in changes {
        match change {
            RowChange::Set { key, .. } if table.find(key).is_some() => changed += 1,
            RowChange::Set { .. } => new += 1,
            _ => removed += 1,
        }
    }
    format!("{}: {} new, {changed} changed, {removed} removed", table.def().name, count(new, "row"))
}

/// The row changes that make the table what the file says. Columns that the file lacks stay.
fn differences(table: &Table, bytes: &[u8]) -> Result<Vec<RowChange>, String> {
    let def = table.def();
    let name = || def.name.to_owned();
    let (names, records) = csv::parse(bytes).map_err(|error| error.to_string())?;
    let mut columns = Vec::new();
    for column in &names {
        columns.push(def.column(column).ok_or_else(|| format!("table {} has no column {column}", def.name))?);
    }
    if let Some(key) = def.keys.iter().find(|key| !columns.contains(key)) {
        return Err(format!("the key column {} is missing", def.columns[*key].name));
    }
    let mut seen: HashSet<Vec<&str>> = HashSet::new();
    // New rows first: they shall not get the numbers of removed ones.
    let mut changes = Vec::new();
    for (number, record) in records.iter().enumerate() {
        let row = number + 1;
        if record.values.len() > columns.len() {
            return Err(format!("row {row} has more values than the header has columns"));
        }
        let value = |column: usize| {
            let at = columns.iter().position(|known| *known == column);
            at.and_then(|at| record.values.get(at)).map_or("", String::as_str)
        };
        let key: Vec<&str> = def.keys.iter().map(|key| value(*key)).collect();
        if !seen.insert(key.clone()) {
            return Err(format!("row {row} has the key {} of an earlier row", key.join(",")));
        }
        let now = table.find(&key).map(|(_, row)| row);
        let differs = |column: &&usize| value(**column) != now.map_or("", |now| now.text(**column));
        let cells: Vec<(String, String)> = columns
            .iter()
            .filter(differs)
            .map(|column| (def.columns[*column].name.to_owned(), value(*column).to_owned()))
            .collect();
        if now.is_none() || !cells.is_empty() {
            let key = key.into_iter().map(str::to_owned).collect();
            changes.push(RowChange::Set { table: name(), key, cells });
        }
    }
    for (_, row) in table.rows() {
        let key = table.key_of(row);
        if !seen.contains(&key) {
            changes
                .push(RowChange::Delete { table: name(), key: key.into_iter().map(str::to_owned).collect() });
        }
    }
    Ok(changes)
}
