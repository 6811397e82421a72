//! nodels: names of nodes and values of their attributes, inherited and computed.

use noderange::Selector;
use state::{Column, TableId, schema};

use crate::args::{flag, head, word};
use crate::defs::{column_of, no_column};
use crate::plan::{Ctx, Output, Plan};
use crate::registry::{Command, Range};

/// The command.
pub(crate) static COMMAND: Command = Command {
    name: "nodels",
    aliases: &[],
    summary: "List nodes and their attributes",
    usage: "Usage:\n  nodels [noderange] [-b|--blame] [-H|--with-fieldname] [table.attribute | shortname] \
            [-S][...]\n  nodels {-v|--version}\n  nodels [-?|-h|--help]\n",
    writes: false,
    range: Range::First,
    plan,
};

/// What is printed of each node.
enum Wanted {
    Column(TableId, usize),
    Table(TableId),
}

fn plan(ctx: &Ctx<'_>) -> Plan {
    let given = match head(
        ctx,
        COMMAND.usage,
        &[flag('b', "blame"), flag('H', "with-fieldname"), flag('S', "S"), word("show-hidden")],
    ) {
        Ok(given) => given,
        Err(plan) => return plan,
    };
    let mut nodes = match given.rest.first().filter(|range| !range.trim_matches(',').is_empty()) {
        Some(range) => match ctx.nodes(range) {
            Ok(nodes) => nodes,
            Err(plan) => return plan,
        },
        None => match ctx.nodes("/.*") {
            Ok(nodes) => nodes,
            Err(plan) => return plan,
        },
    };
    let mut wanted = Vec::new();
    let mut output = Output::new();
    for text in given.rest.iter().skip(1) {
        if let Some(selector) = Selector::parse(text, false) {
            let Some((table, column)) = column_of(&selector.attribute) else {
                return no_column(ctx, &selector.attribute);
            };
            let matcher = match selector.matcher() {
                Ok(matcher) => matcher,
                Err(error) => return Plan::error(ctx, &error.to_string()),
            };
            let values = ctx.state.column(table, column);
            nodes.retain(|node| matcher.matches(values.value(node).as_ref().map(|found| &*found.text)));
        } else if let Some((table, column)) = column_of(text) {
            wanted.push(Wanted::Column(table, column));
        } else if let Some(table) = schema().table(text) {
            wanted.push(Wanted::Table(table));
        } else {
            return no_column(ctx, text);
        }
    }
    if !given.has("S") && !given.has("show-hidden") {
        drop_hidden(ctx, &mut nodes);
    }
    if ctx.inputs.rows {
        rows(ctx, &nodes, &columns(&wanted), given.has("blame"), &mut output);
        return output.into();
    }
    if wanted.is_empty() {
        for node in &nodes {
            output.line(node);
            if !ctx.stream(&mut output) {
                break;
            }
        }
        return output.into();
    }
    let named = given.has("with-fieldname") || wanted.len() > 1 || matches!(wanted[..], [Wanted::Table(_)]);
    let columns: Vec<_> = columns(&wanted)
        .into_iter()
        .map(|(table, column, name)| (table, column, name, ctx.state.column(table, column)))
        .collect();
    for node in &nodes {
        for (table, column, name, found) in &columns {
            for value in values(ctx, node, (*table, *column, found), given.has("blame")) {
                match named {
                    true => output.line(&format!("{node}: {}.{name}: {value}", schema().def(*table).name)),
                    false => output.line(&format!("{node}: {value}")),
                }
            }
        }
        if !ctx.stream(&mut output) {
            break;
        }
    }
    output.into()
}

/// Takes out nodes that are not shown.
fn drop_hidden(ctx: &Ctx<'_>, nodes: &mut Vec<String>) {
    if let Some((table, column)) = schema().column("nodelist.hidden") {
        let hidden = ctx.state.column(table, column);
        nodes.retain(|node| hidden.value(node).is_none_or(|found| found.text != "1"));
    }
}

/// The columns to print, by name.
fn columns(wanted: &[Wanted]) -> Vec<(TableId, usize, &'static str)> {
    let mut columns = Vec::new();
    for item in wanted {
        match *item {
            Wanted::Column(table, column) => {
                columns.push((table, column, schema().def(table).columns[column].name));
            }
            Wanted::Table(table) => {
                columns.extend(schema().def(table).shown().map(|(column, def)| (table, column, def.name)));
            }
        }
    }
    columns.sort_by_key(|&(table, _, name)| (schema().def(table).name, name));
    columns.dedup();
    columns
}

/// One row for each node, and one for each of its rows where a table has several.
fn rows(
    ctx: &Ctx<'_>,
    nodes: &[String],
    columns: &[(TableId, usize, &'static str)],
    blame: bool,
    output: &mut Output,
) {
    let name = |&(table, _, name): &(TableId, usize, &str)| format!("{}.{name}", schema().def(table).name);
    output.fields(&std::iter::once("node".to_owned()).chain(columns.iter().map(name)).collect::<Vec<_>>());
    let found: Vec<_> =
        columns.iter().map(|&(table, column, _)| (table, column, ctx.state.column(table, column))).collect();
    for node in nodes {
        let found: Vec<Vec<String>> = found
            .iter()
            .map(|(table, column, found)| values(ctx, node, (*table, *column, found), blame))
            .collect();
        for number in 0..found.iter().map(Vec::len).max().unwrap_or(1) {
            let cell = |values: &Vec<String>| values.get(number).filter(|text| !text.is_empty()).cloned();
            output.cells(std::iter::once(Some(node.clone())).chain(found.iter().map(cell)).collect());
        }
    }
}

/// One text for each row of the node; one empty text when there is none.
fn values(
    ctx: &Ctx<'_>,
    node: &str,
    (table, column, found): (TableId, usize, &Column<'_>),
    blame: bool,
) -> Vec<String> {
    let rows = ctx.state.table(table);
    if rows.of_node(node).nth(1).is_some() {
        let own: Vec<String> = rows
            .of_node(node)
            .filter(|(_, row)| rows.enabled(row))
            .filter_map(|(_, row)| Some(ctx.state.computed(row.get(column)?, node)?.into_owned()))
            .collect();
        if own.len() > 1 {
            return own;
        }
    }
    let Some(found) = found.value(node) else { return vec![String::new()] };
    match found.group.filter(|_| blame) {
        Some(group) => vec![format!("{} (inherited from group {group})", found.text)],
        None => vec![found.text.into_owned()],
    }
}
