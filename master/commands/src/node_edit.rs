//! nodeadd, nodech, nodegrpch, noderm: nodes and their own rows.

use noderange::{Matcher, Selector, generic};
use state::{RowChange, TableId, schema};

use crate::args::{Given, flag, head};
use crate::defs::{column_of, no_column};
use crate::edit::Edit;
use crate::plan::{Change, Ctx, Output, Plan};
use crate::registry::{Command, Range};

/// Makes nodes.
pub(crate) static NODEADD: Command = Command {
    name: "nodeadd",
    aliases: &[],
    summary: "Add nodes",
    usage: "Usage: nodeadd <noderange> groups=<groupnames> [table.column=value] [...]\n       nodeadd {-v | \
            --version}\n       nodeadd [-? | -h | --help]\n",
    writes: true,
    range: Range::New,
    plan: nodeadd,
};

/// Changes attributes of nodes.
pub(crate) static NODECH: Command = Command {
    name: "nodech",
    aliases: &[],
    summary: "Change attributes of nodes",
    usage: "Usage: nodech <noderange> table.column=value [...]\n       nodech {-d | --delete} <noderange> \
            <table> [...]\n       nodech {-v | --version}\n       nodech [-? | -h | --help]\n",
    writes: true,
    range: Range::First,
    plan: nodech,
};

/// Changes attributes of groups.
pub(crate) static NODEGRPCH: Command = Command {
    name: "nodegrpch",
    aliases: &[],
    summary: "Change attributes of groups and clear those of their members",
    usage: "Usage: nodegrpch <group1,group2,...> table.column=value [...]\n       nodegrpch {-v | \
            --version}\n       nodegrpch [-? | -h | --help]\n",
    writes: true,
    range: Range::None,
    plan: nodegrpch,
};

/// Removes nodes.
pub(crate) static NODERM: Command = Command {
    name: "noderm",
    aliases: &[],
    summary: "Remove nodes",
    usage: "Usage:\n  noderm noderange\n  noderm {-v|--version}\n  noderm [-?|-h|--help]\n",
    writes: true,
    range: Range::First,
    plan: noderm,
};

/// Longest name of a node that is made.
const MAX_NAME: usize = 255;

/// How an assignment works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Set,
    Prepend,
    Remove,
}

struct Assignment {
    table: TableId,
    column: usize,
    op: Op,
    value: String,
}

/// Options and arguments, or the plan that `-h`, `-v` and mistakes answer with.
fn opened(ctx: &Ctx<'_>, usage: &str) -> Result<Given, Plan> {
    head(ctx, usage, &[flag('d', "delete")])
}

fn nodeadd(ctx: &Ctx<'_>) -> Plan {
    plan_or_answer(add(ctx))
}

fn add(ctx: &Ctx<'_>) -> Result<Plan, Plan> {
    let given = opened(ctx, NODEADD.usage)?;
    let Some((range, rest)) = given.rest.split_first().filter(|(_, rest)| !rest.is_empty()) else {
        return Err(Plan::usage(NODEADD.usage, 1));
    };
    let names = generic(range, &ctx.range_options()).map_err(|e| Plan::error(ctx, &e.to_string()))?;
    let groups = ctx.state.group_names();
    for name in &names {
        if !ctx.state.is_node(name) && groups.contains(name.as_str()) {
            let text = format!("'{name}' is the name of a group, a node cannot have it; nothing was changed");
            return Err(Plan::error(ctx, &text));
        }
        if name.len() > MAX_NAME || name.contains(|c: char| c.is_control() || c == '/') {
            let text = format!("'{}' cannot be the name of a node", name.escape_debug());
            return Err(Plan::error(ctx, &text));
        }
    }
    let mut edit = Edit::new(ctx.state);
    let assignments: Vec<Assignment> =
        rest.iter().map(|text| assignment(ctx, text)).collect::<Result<_, _>>()?;
    for name in &names {
        for item in &assignments {
            assign(ctx, &mut edit, name, item, false);
        }
    }
    Ok(Plan::Change(edit.finish(Output::new())))
}

fn nodech(ctx: &Ctx<'_>) -> Plan {
    plan_or_answer(change(ctx))
}

fn change(ctx: &Ctx<'_>) -> Result<Plan, Plan> {
    let given = opened(ctx, NODECH.usage)?;
    let Some((range, rest)) = given.rest.split_first().filter(|(_, rest)| !rest.is_empty()) else {
        return Err(Plan::usage(NODECH.usage, 1));
    };
    let mut nodes = ctx.nodes(range)?;
    if nodes.is_empty() {
        return Err(Plan::usage(NODECH.usage, 1));
    }
    if given.has("delete") {
        return delete_rows(ctx, &nodes, rest);
    }
    let mut assignments = Vec::new();
    let mut filters: Vec<(TableId, usize, Matcher)> = Vec::new();
    for text in rest {
        if let Some(selector) = Selector::parse(text, false).filter(|_| !is_assignment(text)) {
            let (table, column) =
                column_of(&selector.attribute).ok_or_else(|| no_column(ctx, &selector.attribute))?;
            let matcher = selector.matcher().map_err(|e| Plan::error(ctx, &e.to_string()))?;
            filters.push((table, column, matcher));
        } else {
            assignments.push(assignment(ctx, text)?);
        }
    }
    nodes.retain(|node| {
        filters.iter().all(|(table, column, matcher)| {
            matcher.matches(ctx.state.value(node, *table, *column).as_ref().map(|found| &*found.text))
        })
    });
    let mut edit = Edit::new(ctx.state);
    for node in &nodes {
        for item in &assignments {
            assign(ctx, &mut edit, node, item, true);
        }
    }
    Ok(Plan::Change(edit.finish(Output::new())))
}

fn delete_rows(ctx: &Ctx<'_>, nodes: &[String], tables: &[String]) -> Result<Plan, Plan> {
    let mut changes = Vec::new();
    for name in tables {
        let table = schema().table(name).filter(|t| schema().def(*t).node.is_some());
        let table = table.ok_or_else(|| Plan::error(ctx, &format!("table {name} does not exist.")))?;
        for node in nodes {
            for (_, row) in ctx.state.table(table).of_node(node) {
                changes.push(RowChange::delete(name, &ctx.state.table(table).key_of(row)));
            }
        }
    }
    Ok(Plan::Change(Change { changes, ..Change::default() }))
}

fn nodegrpch(ctx: &Ctx<'_>) -> Plan {
    plan_or_answer(change_groups(ctx))
}

fn change_groups(ctx: &Ctx<'_>) -> Result<Plan, Plan> {
    let given = opened(ctx, NODEGRPCH.usage)?;
    let Some((groups, rest)) = given.rest.split_first().filter(|(_, rest)| !rest.is_empty()) else {
        return Err(Plan::usage(NODEGRPCH.usage, 1));
    };
    let assignments: Vec<Assignment> =
        rest.iter().map(|text| assignment(ctx, text)).collect::<Result<_, _>>()?;
    let mut edit = Edit::new(ctx.state);
    for group in groups.split(',').filter(|g| !g.is_empty()) {
        let members = ctx.state.members(group).unwrap_or_default();
        for item in &assignments {
            if item.op != Op::Set {
                let text = "only '=' is supported here; use nodech for lists of single nodes";
                return Err(Plan::error(ctx, text));
            }
            for (key, value) in members.iter().map(|node| (*node, "")).chain([(group, item.value.as_str())]) {
                if let Some(key) = own_key(item.table, key) {
                    let key: Vec<&str> = key.iter().map(String::as_str).collect();
                    edit.set(item.table, &key, item.column, value);
                }
            }
        }
    }
    Ok(Plan::Change(edit.finish(Output::new())))
}

fn noderm(ctx: &Ctx<'_>) -> Plan {
    plan_or_answer(remove(ctx))
}

fn remove(ctx: &Ctx<'_>) -> Result<Plan, Plan> {
    let given = opened(ctx, NODERM.usage)?;
    let [range] = given.rest.as_slice() else { return Err(Plan::usage(NODERM.usage, 1)) };
    let nodes = ctx.nodes(range)?;
    if nodes.is_empty() {
        return Err(Plan::usage(NODERM.usage, 1));
    }
    let changes = nodes.into_iter().map(|node| RowChange::ForgetNode { node }).collect();
    Ok(Plan::Change(Change { changes, ..Change::default() }))
}

/// `,=` and `^=` assign though a selector could begin inside their value.
fn is_assignment(text: &str) -> bool {
    let Some(at) = text.find('=') else { return false };
    let next = text[at + 1..].chars().next();
    let before = text[..at].chars().next_back();
    match before {
        Some(',' | '^') => true,
        Some('!') => false,
        _ => !matches!(next, Some('=' | '~')) || text[at + 1..].starts_with("=@"),
    }
}

fn assignment(ctx: &Ctx<'_>, text: &str) -> Result<Assignment, Plan> {
    let Some((name, value)) = text.split_once('=') else {
        return Err(no_column(ctx, text));
    };
    let (name, op) = match (name.strip_suffix(','), name.strip_suffix('^')) {
        (Some(name), _) => (name, Op::Prepend),
        (_, Some(name)) => (name, Op::Remove),
        _ => (name, Op::Set),
    };
    let long = if name == "switch" { "switch.switch" } else { name };
    let (table, column) = column_of(long).ok_or_else(|| no_column(ctx, name))?;
    let value = value.strip_prefix('@').filter(|_| op == Op::Set).unwrap_or(value);
    Ok(Assignment { table, column, op, value: value.to_owned() })
}

/// Sets a value in the node's own row. `mask`: an emptied value must not be inherited.
fn assign(ctx: &Ctx<'_>, edit: &mut Edit<'_>, node: &str, item: &Assignment, mask: bool) {
    let Some(key) = row_key(ctx, item.table, node) else { return };
    let key: Vec<&str> = key.iter().map(String::as_str).collect();
    if item.op == Op::Set {
        edit.set(item.table, &key, item.column, &item.value);
        if item.value.is_empty() && mask {
            let value = if inherited(ctx, node, item) { "|^.*$||" } else { "" };
            edit.set(item.table, &key, item.column, value);
        }
        return;
    }
    let pending = edit.text(item.table, &key, item.column);
    let old = match pending.is_empty() {
        true => {
            ctx.state.value(node, item.table, item.column).map(|f| f.text.into_owned()).unwrap_or_default()
        }
        false => pending,
    };
    let mut parts: Vec<&str> = old.split(',').filter(|p| !p.is_empty()).collect();
    for part in item.value.split(',').filter(|p| !p.is_empty()) {
        match item.op {
            Op::Prepend if !parts.contains(&part) => parts.insert(0, part),
            Op::Remove => parts.retain(|known| *known != part),
            _ => {}
        }
    }
    let new = parts.join(",");
    if new != old {
        edit.guard(item.table, &key);
        edit.set(item.table, &key, item.column, &new);
    }
}

/// Whether a value of a group would show if the node had none.
fn inherited(ctx: &Ctx<'_>, node: &str, item: &Assignment) -> bool {
    let def = schema().def(item.table);
    def.inherits
        && ctx.state.groups_of(node).any(|group| {
            let table = ctx.state.table(item.table);
            table.of_node(group).any(|(_, row)| table.enabled(row) && row.get(item.column).is_some())
        })
}

/// The key of the node's own row: its first row, else that of a new one.
fn row_key(ctx: &Ctx<'_>, table: TableId, node: &str) -> Option<Vec<String>> {
    let rows = ctx.state.table(table);
    match rows.of_node(node).next() {
        Some((_, row)) => Some(rows.key_of(row).into_iter().map(str::to_owned).collect()),
        None => own_key(table, node),
    }
}

/// The key of a new row of a node or group: its name, the other key columns empty.
pub(crate) fn own_key(table: TableId, name: &str) -> Option<Vec<String>> {
    let def = schema().def(table);
    let node = def.node?;
    Some(def.keys.iter().map(|&k| if k == node { name.to_owned() } else { String::new() }).collect())
}

fn plan_or_answer(result: Result<Plan, Plan>) -> Plan {
    result.unwrap_or_else(|plan| plan)
}
