//! `margay log`, `diff` and `blame`: what was changed when, by whom, with which command.

use std::collections::BTreeSet;

use state::history::{self, Query, Reading, Revision, is_record};
use state::{TableId, schema};

use crate::action::stamp;
use crate::args::{flag, value};
use crate::cells;
use crate::operate::read;
use crate::plan::{Ctx, Need, Output, Plan};
use crate::registry::{Command, Range};

/// Revisions that `log` shows unless told otherwise.
const NEWEST: usize = 20;

/// `margay log`.
pub static LOG: Command = Command {
    name: "log",
    aliases: &[],
    summary: "Show who changed what and when, newest first",
    usage: "Usage: margay log [-t table[,table...]] [-n N] [-c] [noderange]\n\n   -t  only changes of these \
            tables\n   -n  so many revisions (20)\n   -c  with the cells\n",
    writes: false,
    range: Range::None,
    plan: log,
};

/// `margay diff`.
pub static DIFF: Command = Command {
    name: "diff",
    aliases: &[],
    summary: "Show the cells that differ between two points of the past",
    usage: "Usage: margay diff [-t table[,table...]] REV1 [REV2]\n\n   REV is a revision, a time (2026-11-20T09:30, \
            UTC), 2h (ago) or now\n",
    writes: false,
    range: Range::None,
    plan: diff,
};

/// `margay blame`.
pub static BLAME: Command = Command {
    name: "blame",
    aliases: &[],
    summary: "Show which change gave each value of a node",
    usage: "Usage: margay blame NODE [attribute|table.column]\n",
    writes: false,
    range: Range::None,
    plan: blame,
};

fn log(ctx: &Ctx<'_>) -> Plan {
    log_of(ctx).unwrap_or_else(|plan| plan)
}

fn log_of(ctx: &Ctx<'_>) -> Result<Plan, Plan> {
    let given = read(ctx, LOG.usage, &[value('t', "table"), value('n', "number"), flag('c', "cells")])?;
    let limit = match given.value("number").map(str::parse) {
        None => NEWEST,
        Some(Ok(number)) => number,
        Some(Err(_)) => return Err(Plan::usage(LOG.usage, 1)),
    };
    let nodes = match given.rest.as_slice() {
        [] => None,
        [range] => {
            // Nodes that are gone have a past, too.
            let (nodes, missing) = ctx.expand(range)?;
            Some(nodes.into_iter().chain(missing).collect::<BTreeSet<String>>())
        }
        _ => return Err(Plan::usage(LOG.usage, 1)),
    };
    let tables = tables(ctx, given.value("table"))?;
    let mut query = Query::all(ctx.state.oldest() + 1, ctx.state.revision());
    (query.tables, query.nodes, query.limit) = (tables, nodes, limit);
    let reading = ctx.past(query)?;
    let mut output = Output::new();
    if ctx.inputs.rows {
        let last: &[&str] = if given.has("cells") { &cells::FIELDS } else { &["changes"] };
        output.fields(&[&REVISION, last].concat());
    }
    for revision in &reading.revisions {
        let rows = history::merge(&revision.rows);
        match (ctx.inputs.rows, given.has("cells")) {
            (true, true) => cells::rows(&rows, &about(revision), &mut output),
            (true, false) => output.row(&[about(revision).as_slice(), &[cells::summary(&rows)]].concat()),
            _ => {}
        }
        output.line(&format!("{}  ({})", head(revision), cells::summary(&rows)));
        if given.has("cells") {
            cells::print(&rows, &mut output);
        }
    }
    end(ctx, reading, &mut output);
    Ok(output.into())
}

/// What is told of a revision.
const REVISION: [&str; 4] = ["revision", "time", "user", "command"];

fn about(revision: &Revision) -> [String; 4] {
    let Revision { number, author, command, time, .. } = revision;
    [number.to_string(), stamp(*time), author.clone(), command.clone()]
}

/// Revision, time, author and command.
fn head(revision: &Revision) -> String {
    let Revision { number, author, command, time, .. } = revision;
    let command = if command.is_empty() { "-" } else { command };
    format!("{number}  {}  {author}  {command}", stamp(*time))
}

fn end(ctx: &Ctx<'_>, reading: &Reading, output: &mut Output) {
    if reading.cut {
        output.warn(ctx, "There are more changes than can be shown; name a table, nodes or a number");
    }
}

fn tables(ctx: &Ctx<'_>, text: Option<&str>) -> Result<Vec<String>, Plan> {
    let names: Vec<String> = text.map_or_else(Vec::new, |text| text.split(',').map(str::to_owned).collect());
    match names.iter().find(|name| schema().table(name).is_none()) {
        Some(name) => Err(Plan::error(ctx, &format!("No such table: {name}"))),
        None => Ok(names),
    }
}

fn diff(ctx: &Ctx<'_>) -> Plan {
    diff_of(ctx).unwrap_or_else(|plan| plan)
}

fn diff_of(ctx: &Ctx<'_>) -> Result<Plan, Plan> {
    let given = read(ctx, DIFF.usage, &[value('t', "table")])?;
    let (one, two) = match given.rest.as_slice() {
        [one] => (ctx.revision(one)?, ctx.state.revision()),
        [one, two] => (ctx.revision(one)?, ctx.revision(two)?),
        _ => return Err(Plan::usage(DIFF.usage, 1)),
    };
    let (from, to) = (one.min(two), one.max(two));
    if from < ctx.state.oldest() {
        return Err(too_old(ctx, from));
    }
    let mut query = Query::all(from + 1, to);
    query.tables = tables(ctx, given.value("table"))?;
    let reading = ctx.past(query)?;
    if reading.cut {
        return Err(Plan::error(ctx, "Too much has changed between the two; name a table"));
    }
    let mut rows = history::sum(reading);
    if one > two {
        rows.iter_mut().for_each(|row| std::mem::swap(&mut row.old, &mut row.new));
    }
    let mut output = Output::new();
    if ctx.inputs.rows {
        output.fields(&cells::FIELDS);
        cells::rows(&rows, &[], &mut output);
        return Ok(output.into());
    }
    cells::print(&rows, &mut output);
    Ok(output.into())
}

/// The answer when the past does not reach back so far.
pub(crate) fn too_old(ctx: &Ctx<'_>, revision: u64) -> Plan {
    let oldest = ctx.state.oldest();
    Plan::error(ctx, &format!("Revision {revision} is not kept any more; the oldest is {oldest}"))
}

fn blame(ctx: &Ctx<'_>) -> Plan {
    blame_of(ctx).unwrap_or_else(|plan| plan)
}

fn blame_of(ctx: &Ctx<'_>) -> Result<Plan, Plan> {
    let given = read(ctx, BLAME.usage, &[])?;
    let (node, attribute) = match given.rest.as_slice() {
        [node] => (node, None),
        [node, attribute] => (node, Some(attribute.as_str())),
        _ => return Err(Plan::usage(BLAME.usage, 1)),
    };
    let mut wanted: Vec<Blamed> = Vec::new();
    for table in schema().node_tables().filter(|table| !is_record(schema().def(*table).name)) {
        for (id, row) in ctx.state.table(table).of_node(node) {
            let values = row.values().filter(|(column, _)| !schema().def(table).keys.contains(column));
            for (column, text) in values.filter(|(column, _)| meant(attribute, table, *column)) {
                wanted.push(Blamed { table, id, column, text, by: None });
            }
        }
    }
    if wanted.is_empty() {
        let what = attribute.map_or_else(|| "value".to_owned(), |name| format!("value of {name}"));
        return Err(Plan::error(ctx, &format!("{node} has no {what} of its own")));
    }
    let mut query = Query::all(ctx.state.oldest() + 1, ctx.state.revision());
    query.nodes = Some([node.clone()].into());
    query.tables = wanted.iter().map(|cell| schema().def(cell.table).name.to_owned()).collect();
    query.tables.dedup();
    let reading = ctx.past(query)?;
    for revision in &reading.revisions {
        for row in &revision.rows {
            let Some(table) = schema().table(&row.table) else { continue };
            for (column, _, _) in row.cells() {
                let same = |cell: &&mut Blamed<'_>| {
                    cell.by.is_none() && (cell.table, cell.id, cell.column) == (table, row.id, column)
                };
                if let Some(cell) = wanted.iter_mut().find(same) {
                    cell.by = Some(revision);
                }
            }
        }
    }
    let mut output = Output::new();
    if ctx.inputs.rows {
        output.fields(&[&["table", "column", "value"], REVISION.as_slice()].concat());
    }
    for cell in &wanted {
        let def = schema().def(cell.table);
        if ctx.inputs.rows {
            let what = [def.name, def.columns[cell.column].name, cell.text].map(str::to_owned);
            let by = cell.by.map(about).unwrap_or_default();
            output.row(&[what.as_slice(), &by].concat());
        }
        let by = cell.by.map_or_else(|| "before the history that is kept".to_owned(), head);
        output.line(&format!("{}.{}={:?}  {by}", def.name, def.columns[cell.column].name, cell.text));
    }
    end(ctx, reading, &mut output);
    Ok(output.into())
}

struct Blamed<'a> {
    table: TableId,
    id: u64,
    column: usize,
    text: &'a str,
    by: Option<&'a Revision>,
}

/// Whether a cell is what was asked for: a column, `table.column`, or an attribute of lsdef.
fn meant(attribute: Option<&str>, table: TableId, column: usize) -> bool {
    let Some(name) = attribute else { return true };
    if schema().column(name).is_some_and(|found| found == (table, column)) {
        return true;
    }
    let attributes = schema().object_type("node").map(|kind| kind.attributes.as_slice()).unwrap_or_default();
    let mut named = attributes.iter().filter(|attribute| attribute.name == name).peekable();
    match named.peek() {
        Some(_) => named.any(|attribute| (attribute.table, attribute.column) == (table, column)),
        None => schema().def(table).columns[column].name == name,
    }
}

impl<'a> Ctx<'a> {
    /// A part of the past. `Err` is the plan to answer with.
    pub(crate) fn past(&self, query: Query) -> Result<&'a Reading, Plan> {
        match &self.inputs.past {
            // Revisions that came meanwhile would only add to what was asked.
            Some((known, reading)) if known.same(&query) => Ok(reading),
            _ => Err(Plan::Need(Need::Past(query))),
        }
    }
}
