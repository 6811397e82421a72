//! chtab (tabch, ctab): add, change and delete rows of tables, found by the values of columns.

use state::{RowChange, TableId, schema};

use crate::args::{flag, head};
use crate::defs::{append, no_column};
use crate::edit::Edit;
use crate::plan::{Change, Ctx, Output, Plan};
use crate::registry::{Command, Range};

/// The command.
pub(crate) static COMMAND: Command = Command {
    name: "chtab",
    aliases: &["tabch", "ctab"],
    summary: "Add, change or delete rows of tables",
    usage: "Usage:\n To add or update rows for tables:\n   chtab keycolname=keyvalue[,keycolname=keyvalue...] \
            tablename.colname=newvalue [tablename.colname=newvalue...]\n To delete rows from tables:\n   chtab \
            -d|--delete keycolname=keyvalue[,keycolname=keyvalue...] tablename [tablename...]\n To display \
            usage and other information:\n   chtab [-h|--help|-v|--Version]\n\n   -d|--delete  Delete the \
            rows from a list of tables.\n   -v|--version Display the version of this command.\n   -h|--help    \
            Display this usage information.\n   keycolname=keyvalue   a column name-and-value pair that \
            identifies the rows in a table to be changed.\n   tablename.colname=newvalue    the new value for \
            the specified row and column of the table.\n",
    writes: true,
    range: Range::None,
    plan,
};

/// Column, text, and whether it is appended to the list there.
type Assigned<'t> = (usize, &'t str, bool);

fn plan(ctx: &Ctx<'_>) -> Plan {
    change(ctx).unwrap_or_else(|plan| plan)
}

fn change(ctx: &Ctx<'_>) -> Result<Plan, Plan> {
    let given = head(ctx, COMMAND.usage, &[flag('d', "delete")])?;
    let Some((keys, rest)) = given.rest.split_first() else { return Err(Plan::usage(COMMAND.usage, 1)) };
    let conditions: Vec<(&str, &str)> = keys
        .split(',')
        .map(|part| part.split_once('=').ok_or_else(|| Plan::usage(COMMAND.usage, 1)))
        .collect::<Result<_, _>>()?;
    if given.has("delete") {
        let default = ["nodelist".to_owned()];
        let tables = if rest.is_empty() && conditions[0].0 == "node" { &default } else { rest };
        if tables.is_empty() {
            return Err(Plan::usage(COMMAND.usage, 1));
        }
        return delete(ctx, &conditions, tables);
    }
    if rest.is_empty() {
        return Err(Plan::usage(COMMAND.usage, 1));
    }
    let mut edit = Edit::new(ctx.state);
    // A new row's key may come from several assignments, so they are gathered by table first.
    let mut tables: Vec<(TableId, Vec<Assigned<'_>>)> = Vec::new();
    for text in rest {
        if let Some(table) = text.split_once('.').and_then(|(table, _)| schema().table(table)) {
            tests(ctx, table, &conditions)?;
        }
        let (table, column, value, append) = assignment(ctx, text)?;
        match tables.iter_mut().find(|(known, _)| *known == table) {
            Some((_, list)) => list.push((column, value, append)),
            None => tables.push((table, vec![(column, value, append)])),
        }
    }
    for (table, assignments) in tables {
        let tests = tests(ctx, table, &conditions)?;
        for key in target_keys(ctx, table, &tests, &assignments) {
            let key: Vec<&str> = key.iter().map(String::as_str).collect();
            if ctx.state.table(table).find(&key).is_none() {
                for (column, value) in &tests {
                    edit.set(table, &key, *column, value);
                }
            }
            for (column, value, appended) in &assignments {
                let value = match appended {
                    true => {
                        edit.guard(table, &key);
                        append(&edit.text(table, &key, *column), value)
                    }
                    false => (*value).to_owned(),
                };
                edit.set(table, &key, *column, &value);
            }
        }
    }
    Ok(Plan::Change(edit.finish(Output::new())))
}

fn assignment<'t>(ctx: &Ctx<'_>, text: &'t str) -> Result<(TableId, usize, &'t str, bool), Plan> {
    let (name, value) = text.split_once('=').ok_or_else(|| Plan::usage(COMMAND.usage, 1))?;
    let (name, appended) = match name.strip_suffix('+') {
        Some(name) => (name, true),
        None => (name, false),
    };
    let (table, _) = name.split_once('.').ok_or_else(|| Plan::usage(COMMAND.usage, 1))?;
    schema().table(table).ok_or_else(|| no_table(table))?;
    let (id, column) = schema().column(name).ok_or_else(|| no_column(ctx, name))?;
    Ok((id, column, value, appended))
}

fn tests<'c>(
    ctx: &Ctx<'_>,
    table: TableId,
    conditions: &[(&str, &'c str)],
) -> Result<Vec<(usize, &'c str)>, Plan> {
    let def = schema().def(table);
    conditions
        .iter()
        .map(|(name, value)| {
            let column = def.column(name).ok_or_else(|| {
                Plan::error(ctx, &format!("no such column: {name} in the table {}", def.name))
            })?;
            Ok((column, *value))
        })
        .collect()
}

/// The keys of all rows that meet the conditions, else that of the row to be made.
fn target_keys(
    ctx: &Ctx<'_>,
    table: TableId,
    tests: &[(usize, &str)],
    assignments: &[Assigned<'_>],
) -> Vec<Vec<String>> {
    let found = matching(ctx, table, tests);
    if !found.is_empty() {
        return found;
    }
    let def = schema().def(table);
    let given = |column: usize| {
        let test = tests.iter().find(|(known, _)| *known == column).map(|(_, value)| *value);
        test.or_else(|| assignments.iter().find(|(known, _, _)| *known == column).map(|(_, value, _)| *value))
    };
    vec![def.keys.iter().map(|&key| given(key).unwrap_or("").to_owned()).collect()]
}

fn matching(ctx: &Ctx<'_>, table: TableId, tests: &[(usize, &str)]) -> Vec<Vec<String>> {
    let rows = ctx.state.table(table);
    let def = rows.def();
    let owned = |key: Vec<&str>| key.into_iter().map(str::to_owned).collect::<Vec<String>>();
    // The whole key is known: no walk through the table.
    let key: Option<Vec<&str>> = def
        .keys
        .iter()
        .map(|key| tests.iter().find(|(column, _)| column == key).map(|(_, value)| *value))
        .collect();
    if let Some((_, row)) = key.as_ref().and_then(|key| rows.find(key)) {
        let fits = tests.iter().all(|(column, value)| row.text(*column) == *value);
        return if fits { vec![owned(rows.key_of(row))] } else { Vec::new() };
    }
    if key.is_some() {
        return Vec::new();
    }
    rows.rows()
        .filter(|(_, row)| tests.iter().all(|(column, value)| row.text(*column) == *value))
        .map(|(_, row)| owned(rows.key_of(row)))
        .collect()
}

fn delete(ctx: &Ctx<'_>, conditions: &[(&str, &str)], tables: &[String]) -> Result<Plan, Plan> {
    let mut changes = Vec::new();
    for name in tables {
        let table = schema().table(name).ok_or_else(|| no_table(name))?;
        let tests = tests(ctx, table, conditions)?;
        for key in matching(ctx, table, &tests) {
            changes.push(RowChange::Delete { table: name.clone(), key });
        }
    }
    Ok(Plan::Change(Change { changes, ..Change::default() }))
}

fn no_table(name: &str) -> Plan {
    let mut output = Output::new();
    output.line(&format!("Table {name} does not exist.\n"));
    Plan::Answer(output.status(1))
}
