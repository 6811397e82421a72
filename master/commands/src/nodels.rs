//! nodels: names of nodes and values of their attributes, inherited and computed.

use noderange::Selector;
use state::{TableId, schema};

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
            nodes.retain(|node| {
                let value = ctx.state.value(node, table, column);
                matcher.matches(value.as_ref().map(|found| &*found.text))
            });
        } else if let Some((table, column)) = column_of(text) {
            wanted.push(Wanted::Column(table, column));
        } else if let Some(table) = schema().table(text) {
            wanted.push(Wanted::Table(table));
        } else {
            return no_column(ctx, text);
        }
    }
    if !given.has("S") && !given.has("show-hidden") {
        nodes.retain(|node| ctx.state.attribute(node, "nodelist.hidden").as_deref() != Some("1"));
    }
    if ctx.inputs.rows {
        rows(ctx, &nodes, &columns(&wanted), given.has("blame"), &mut output);
        return output.into();
    }
    if wanted.is_empty() {
        for node in &nodes {
            output.line(node);
        }
        return output.into();
    }
    let named = given.has("with-fieldname") || wanted.len() > 1 || matches!(wanted[..], [Wanted::Table(_)]);
    let columns = columns(&wanted);
    for node in &nodes {
        for &(table, column, name) in &columns {
            for value in values(ctx, node, table, column, given.has("blame")) {
                match named {
                    true => output.line(&format!("{node}: {}.{name}: {value}", schema().def(table).name)),
                    false => output.line(&format!("{node}: {value}")),
                }
            }
        }
    }
    output.into()
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
    for node in nodes {
        let found: Vec<Vec<String>> =
            columns.iter().map(|&(table, column, _)| values(ctx, node, table, column, blame)).collect();
        for number in 0..found.iter().map(Vec::len).max().unwrap_or(1) {
            let cell = |values: &Vec<String>| values.get(number).filter(|text| !text.is_empty()).cloned();
            output.cells(std::iter::once(Some(node.clone())).chain(found.iter().map(cell)).collect());
        }
    }
}

/// One text for each row of the node; one empty text when there is none.
fn values(ctx: &Ctx<'_>, node: &str, table: TableId, column: usize, blame: bool) -> Vec<String> {
    let own: Vec<String> = ctx
        .state
        .table(table)
        .of_node(node)
        .filter(|(_, row)| ctx.state.table(table).enabled(row))
        .filter_map(|(_, row)| Some(ctx.state.computed(row.get(column)?, node)?.into_owned()))
        .collect();
    if own.len() > 1 {
        return own;
    }
    let Some(found) = ctx.state.value(node, table, column) else { return vec![String::new()] };
    match found.group.filter(|_| blame) {
        Some(group) => vec![format!("{} (inherited from group {group})", found.text)],
        None => vec![found.text.into_owned()],
    }
}
