//! gettab: single stored values, found by the values of other columns.

use state::{Row, schema};

use crate::args::{flag, head};
use crate::plan::{Ctx, Output, Plan};
use crate::registry::{Command, Range};

/// The command.
pub(crate) static COMMAND: Command = Command {
    name: "gettab",
    aliases: &[],
    summary: "Print single values of a table",
    usage: "Usage: gettab [-H|--with-fieldname] key=value,...  table.attribute ...\n       gettab [-?|-h|--help]\n",
    writes: false,
    range: Range::None,
    plan,
};

fn plan(ctx: &Ctx<'_>) -> Plan {
    let given = match head(ctx, COMMAND.usage, &[flag('H', "with-fieldname")]) {
        Ok(given) => given,
        Err(plan) => return plan,
    };
    let Some((keys, wanted)) = given.rest.split_first().filter(|(_, wanted)| !wanted.is_empty()) else {
        return Plan::usage(COMMAND.usage, 1);
    };
    let mut conditions = Vec::new();
    for part in keys.split(',') {
        match part.split_once('=') {
            Some(pair) => conditions.push(pair),
            None => return Plan::usage(COMMAND.usage, 1),
        }
    }
    let named = given.has("with-fieldname") || wanted.len() > 1;
    let mut output = Output::new();
    if ctx.inputs.rows {
        output.fields(&["attribute", "value"]);
    }
    for text in wanted {
        let Some((name, column)) = text.split_once('.') else { return Plan::usage(COMMAND.usage, 1) };
        let mut tests = Vec::new();
        for (key, value) in &conditions {
            let column = schema().table(name).and_then(|table| schema().def(table).column(key));
            match column {
                Some(column) => tests.push((column, *value)),
                None => return Plan::error(ctx, &format!("Unknown key {key} to {name}")),
            }
        }
        let Some(table) = ctx.state.named(name) else { continue };
        let fits = |row: &Row| table.enabled(row) && tests.iter().all(|(c, value)| row.text(*c) == *value);
        let found = table.rows().map(|(_, row)| row).find(|row| fits(row));
        let value = found.map(|row| table.def().column(column).map_or("", |column| row.text(column)));
        if ctx.inputs.rows {
            output.row(&[text.as_str(), value.unwrap_or("")]);
        }
        match value {
            Some(value) if named => output.line(&format!("{text}: {value}")),
            Some(value) => output.line(value),
            None if named && given.rest.len() > 2 => output.line(&format!("{text}: ")),
            None => {}
        }
    }
    output.into()
}
