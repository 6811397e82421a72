//! tabrestore: replace the rows of a table by those of a file, or add them.
//!
//! All or nothing. Statuses: 1 the content is wrong, 2 usage, 3 the file cannot be read, 4 no such table or a
//! row that exists.

use std::collections::HashSet;

use state::{Precondition, RowChange, Table};

use crate::args::{flag, head_with};
use crate::csv;
use crate::plan::{Change, Ctx, Output, Plan};
use crate::registry::{Command, Range};

/// The command.
pub(crate) static COMMAND: Command = Command {
    name: "tabrestore",
    aliases: &[],
    summary: "Replace or extend a table from a file",
    usage: "Usage: tabrestore <tablename>.csv\n       tabrestore -a <tablename>.csv\n       tabrestore \
            [-?|-h|--help]\n       tabrestore [-v|--version]\n",
    writes: true,
    range: Range::None,
    plan,
};

fn plan(ctx: &Ctx<'_>) -> Plan {
    restore(ctx).unwrap_or_else(|plan| plan)
}

fn restore(ctx: &Ctx<'_>) -> Result<Plan, Plan> {
    let given = head_with(ctx, COMMAND.usage, &[flag('a', "addrows")], 2)?;
    let [path] = given.rest.as_slice() else { return Err(Plan::usage(COMMAND.usage, 2)) };
    let Some(bytes) = ctx.file(path)? else {
        let mut output = Output::new();
        output.line(&format!("Error: Unable to open {path} for reading."));
        return Err(Plan::Answer(output.status(3)));
    };
    let base = path.rsplit('/').next().unwrap_or(path);
    let name = base.strip_suffix(".csv").unwrap_or(base);
    let fail = |status: u8, text: String| {
        let mut output = Output::new();
        output.error(ctx, &text);
        Plan::Answer(output.status(status))
    };
    let Some(table) = ctx.state.named(name) else { return Err(fail(4, format!("Unable to open {name}"))) };
    let add = given.has("addrows");
    let taken = |key: &[String]| add && table.find(key).is_some();
    let rows = rows(table, bytes, taken).map_err(|(status, text)| fail(status, text))?;
    let mut change = Change::default();
    if !add {
        change.changes.push(RowChange::Clear { table: name.to_owned() });
    }
    for NewRow { key, cells, .. } in rows {
        if add {
            change.preconditions.push(Precondition::Absent { table: name.to_owned(), key: key.clone() });
        }
        change.changes.push(RowChange::Set { table: name.to_owned(), key, cells });
    }
    Ok(Plan::Change(change))
}

/// A row of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewRow {
    /// Texts of the key columns.
    pub key: Vec<String>,
    /// Column and text, in the order of the file.
    pub cells: Vec<(String, String)>,
    /// Its number is given by the table.
    pub numbered: bool,
}

impl NewRow {
    /// The text of a column; empty when the file does not have it.
    pub(crate) fn text(&self, column: &str) -> &str {
        self.cells.iter().find(|(known, _)| known == column).map_or("", |(_, text)| text)
    }
}

/// The rows of a file for a table. `taken` says which keys may not be used.
///
/// # Errors
/// An exit status and what is wrong.
pub(crate) fn rows(
    table: &Table,
    bytes: &[u8],
    taken: impl Fn(&[String]) -> bool,
) -> Result<Vec<NewRow>, (u8, String)> {
    let def = table.def();
    let name = def.name;
    let (columns, records) = csv::parse(bytes).map_err(|error| (1, error.to_string()))?;
    for column in &columns {
        if def.column(column).is_none() {
            let text = format!(
                "The header line indicates that column '{column}' should exist, which is not defined in the \
                 schema for '{name}'"
            );
            return Err((1, text));
        }
    }
    let mut seen: HashSet<Vec<String>> = HashSet::new();
    let mut rows = Vec::with_capacity(records.len());
    for (number, record) in records.into_iter().enumerate() {
        if record.values.len() > columns.len() {
            let text = format!(
                "line {}, value {}: there are more values than the {} columns of the header: {}",
                record.line,
                columns.len() + 1,
                columns.len(),
                record.text
            );
            return Err((1, text));
        }
        let value = |wanted: usize| {
            let at = columns.iter().position(|column| def.column(column) == Some(wanted))?;
            record.values.get(at).cloned()
        };
        let key: Vec<String> = def.keys.iter().map(|&k| value(k).unwrap_or_default()).collect();
        let numbered = def.keys.iter().any(|&k| def.columns[k].auto) && key.iter().all(String::is_empty);
        let exists = taken(&key) || !seen.insert(key.clone());
        if exists && !numbered {
            let names: Vec<String> =
                def.keys.iter().map(|&k| format!("{name}.{}", def.columns[k].name)).collect();
            let text = format!(
                "DB error UNIQUE constraint failed: {} with line {number}: {}",
                names.join(", "),
                record.text
            );
            return Err((4, text));
        }
        let cells = columns.iter().cloned().zip(record.values).collect();
        rows.push(NewRow { key, cells, numbered });
    }
    Ok(rows)
}
