//! Monitoring plug-ins: the tables monitoring and monsetting, and what plug-ins are asked for.
//!
//! The table says what should run; the leader sees to it. A command that starts or stops changes the row and shows what
//! came of it. Knows nothing of processes.

pub mod alive;

use state::{RowChange, State, Table};

use crate::args::{flag, head, value};
use crate::plan::{Change, Ctx, Effect, Helper, Need, Output, Plan};
use crate::registry::{Command, Range};

/// The plug-in that is part of the master.
pub const BUILT_IN: &str = "xcatmon";
/// What it says of itself.
const DESCRIPTION: &str = "Keeps nodelist.status and nodelist.appstatus: a node whose agent is connected or that answers \
    its service node is alive, another one is unreachable.\n  Settings:\n    ping-interval: minutes between two rounds, \
    or seconds as in 30s. The default is 3.\n    apps: names of applications to look for, separated by commas\n    \
    NAME: port=NUMBER[,group=GROUP] - the TCP port of such an application, and the nodes that have it";
/// Longest name of a plug-in.
const NAME: usize = 64;

/// monadd.
pub(crate) static ADD: Command = Command {
    name: "monadd",
    aliases: &[],
    summary: "Register a monitoring plug-in",
    usage: "Usage: monadd [-h|--help|-v|--version]\n       monadd <name> [-n|--nodestatmon] [-s|--settings \
            <key>=<value>]...\n",
    writes: true,
    range: Range::None,
    plan: |ctx| add(ctx).unwrap_or_else(|plan| plan),
};

/// monrm.
pub(crate) static RM: Command = Command {
    name: "monrm",
    aliases: &[],
    summary: "Take back the registration of a monitoring plug-in",
    usage: "Usage: monrm [-h|--help|-v|--version]\n       monrm <name>\n",
    writes: true,
    range: Range::None,
    plan: |ctx| remove(ctx).unwrap_or_else(|plan| plan),
};

/// monls.
pub(crate) static LS: Command = Command {
    name: "monls",
    aliases: &[],
    summary: "List monitoring plug-ins",
    usage: "Usage: monls [-h|--help|-v|--version]\n       monls <name> [-d|--description]\n       monls [-a|--all] \
            [-d|--description]\n",
    writes: false,
    range: Range::None,
    plan: |ctx| list(ctx).unwrap_or_else(|plan| plan),
};

/// monstart.
pub(crate) static START: Command = Command {
    name: "monstart",
    aliases: &["startmon"],
    summary: "Start a monitoring plug-in",
    usage: "Usage: monstart [-h|--help|-v|--version]\n       monstart <name> [<noderange>] [-r|--remote]\n",
    writes: true,
    range: Range::None,
    plan: |ctx| switch(ctx, &START, Deed::Start).unwrap_or_else(|plan| plan),
};

/// monstop.
pub(crate) static STOP: Command = Command {
    name: "monstop",
    aliases: &["stopmon"],
    summary: "Stop a monitoring plug-in",
    usage: "Usage: monstop [-h|--help|-v|--version]\n       monstop <name> [<noderange>] [-r|--remote]\n",
    writes: true,
    range: Range::None,
    plan: |ctx| switch(ctx, &STOP, Deed::Stop).unwrap_or_else(|plan| plan),
};

/// moncfg.
pub(crate) static CFG: Command = Command {
    name: "moncfg",
    aliases: &[],
    summary: "Have a monitoring plug-in configure its software",
    usage: "Usage: moncfg [-h|--help|-v|--version]\n       moncfg <name> [<noderange>] [-r|--remote]\n",
    writes: true,
    range: Range::None,
    plan: |ctx| configure(ctx, &CFG, Deed::Config).unwrap_or_else(|plan| plan),
};

/// mondecfg.
pub(crate) static DECFG: Command = Command {
    name: "mondecfg",
    aliases: &[],
    summary: "Have a monitoring plug-in undo its configuration",
    usage: "Usage: mondecfg [-h|--help|-v|--version]\n       mondecfg <name> [<noderange>] [-r|--remote]\n",
    writes: true,
    range: Range::None,
    plan: |ctx| configure(ctx, &DECFG, Deed::Deconfig).unwrap_or_else(|plan| plan),
};

/// What a plug-in is asked to do for a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// Begin to monitor.
    Start,
    /// End it.
    Stop,
    /// Configure the software that it speaks to.
    Config,
    /// Undo that.
    Deconfig,
    /// Say what it is.
    Describe,
}

/// What the leader is to do with a plug-in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Its name.
    pub plugin: String,
    /// What.
    pub deed: Deed,
    /// With these nodes; none is all.
    pub nodes: Vec<String>,
    /// At the nodes, too.
    pub remote: bool,
}

/// A row of the table monitoring that is not disabled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// The plug-in.
    pub name: String,
    /// It keeps the status of nodes.
    pub nodestatmon: bool,
}

/// What should run.
#[must_use]
pub fn wishes(state: &State) -> Vec<Wish> {
    let Some(table) = state.named("monitoring") else { return Vec::new() };
    let rows = table.rows().filter(|(_, row)| works(table, row));
    rows.map(|(_, row)| Wish { name: cell(table, row, "name").to_owned(), nodestatmon: feeds(table, row) })
        .filter(|wish| named_well(&wish.name))
        .collect()
}

/// The settings of a plug-in, by key.
#[must_use]
pub fn settings(state: &State, plugin: &str) -> std::collections::BTreeMap<String, String> {
    let Some(table) = state.named("monsetting") else { return Default::default() };
    let of = table.rows().filter(|(_, row)| works(table, row) && cell(table, row, "name") == plugin);
    of.map(|(_, row)| (cell(table, row, "key").to_owned(), cell(table, row, "value").to_owned())).collect()
}

/// Whether this can be the name of a plug-in: its file is found by it.
#[must_use]
pub fn named_well(name: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    name.len() <= NAME && name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(good)
}

fn cell<'a>(table: &Table, row: &'a state::Row, column: &str) -> &'a str {
    table.def().column(column).map_or("", |at| row.text(at))
}

/// `0` and `no` say that a row is not disabled, as xCAT writes it.
fn works(table: &Table, row: &state::Row) -> bool {
    matches!(cell(table, row, "disable").to_ascii_lowercase().as_str(), "" | "0" | "n" | "no")
}

fn feeds(table: &Table, row: &state::Row) -> bool {
    matches!(cell(table, row, "nodestatmon").to_ascii_lowercase().as_str(), "1" | "y" | "yes")
}

/// A plug-in that must be registered: whether it works, and whether it keeps the status of nodes.
fn registered(ctx: &Ctx<'_>, name: &str) -> Result<(bool, bool), Plan> {
    let table = ctx.state.named("monitoring");
    let found = table.and_then(|table| Some((table, table.find(&[name])?.1)));
    match found {
        Some((table, row)) => Ok((works(table, row), feeds(table, row))),
        None => {
            Err(Plan::error(ctx, &format!("{name} is not in the table monitoring; 'monadd {name}' adds it")))
        }
    }
}

/// A plug-in that must be there.
fn exists(ctx: &Ctx<'_>, name: &str) -> Result<(), Plan> {
    let Some(plugins) = &ctx.inputs.plugins else { return Err(Plan::Need(Need::Plugins)) };
    match plugins.iter().any(|plugin| plugin == name) {
        true => Ok(()),
        false => Err(Plan::error(
            ctx,
            &format!("There is no monitoring plug-in '{name}'; 'monls -a' lists those that are there"),
        )),
    }
}

fn add(ctx: &Ctx<'_>) -> Result<Plan, Plan> {
    let given = head(ctx, ADD.usage, &[flag('n', "nodestatmon"), value('s', "settings")])?;
    let [name] = given.rest.as_slice() else { return Err(Plan::usage(ADD.usage, 1)) };
    exists(ctx, name)?;
    if registered(ctx, name).is_ok() {
        return Err(Plan::error(ctx, &format!("{name} is in the table monitoring already")));
    }
    let mut changes = Vec::new();
    for text in given.values("settings") {
        // Older scripts put all of them into one word: [key=value],[key=value].
        let pieces: Vec<&str> = match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
            Some(inner) => inner.split("],[").collect(),
            None => vec![text],
        };
        for piece in pieces {
            let Some((key, value)) = piece.split_once('=').filter(|(key, _)| !key.is_empty()) else {
                return Err(Plan::error(ctx, &format!("'{piece}' is not a setting; settings are key=value")));
            };
            changes.push(RowChange::set("monsetting", &[name, key], &[("value", value)]));
        }
    }
    let feeds = if given.has("nodestatmon") { "Y" } else { "N" };
    changes.push(RowChange::set("monitoring", &[name], &[("nodestatmon", feeds), ("disable", "1")]));
    Ok(changed(changes, Vec::new()))
}

fn remove(ctx: &Ctx<'_>) -> Result<Plan, Plan> {
    let given = head(ctx, RM.usage, &[])?;
    let [name] = given.rest.as_slice() else { return Err(Plan::usage(RM.usage, 1)) };
    let (works, _) = registered(ctx, name)?;
    if works {
        return Err(Plan::error(ctx, &format!("{name} monitors; 'monstop {name}' comes first")));
    }
    Ok(changed(vec![RowChange::delete("monitoring", &[name])], Vec::new()))
}

fn changed(changes: Vec<RowChange>, effects: Vec<Effect>) -> Plan {
    Plan::Change(Change { changes, effects, ..Change::default() })
}

fn list(ctx: &Ctx<'_>) -> Result<Plan, Plan> {
    let given = head(ctx, LS.usage, &[flag('a', "all"), flag('d', "description")])?;
    let named = match given.rest.as_slice() {
        [] => None,
        [name] if !given.has("all") => Some(name),
        _ => return Err(Plan::usage(LS.usage, 1)),
    };
    let table = ctx.state.named("monitoring");
    let rows = table.iter().flat_map(|table| table.rows().map(move |(_, row)| (*table, row)));
    let mut lines: Vec<(String, bool, bool)> = rows
        .map(|(table, row)| (cell(table, row, "name").to_owned(), works(table, row), feeds(table, row)))
        .collect();
    if given.has("all") || named.is_some() {
        let Some(plugins) = &ctx.inputs.plugins else { return Err(Plan::Need(Need::Plugins)) };
        let known: Vec<String> = lines.iter().map(|(name, ..)| name.clone()).collect();
        let others = plugins.iter().filter(|plugin| !known.contains(plugin));
        lines.extend(others.map(|plugin| (plugin.clone(), false, false)));
    }
    if let Some(name) = named {
        lines.retain(|(known, ..)| known == name);
        if lines.is_empty() {
            exists(ctx, name)?;
        }
    }
    let mut output = Output::new();
    output.fields(&["name", "monitored", "nodestatmon"]);
    let mut described = Vec::new();
    for (name, works, feeds) in lines {
        let state = if works { "monitored" } else { "not-monitored" };
        let status = if works && feeds { "\tnode-status-monitored" } else { "" };
        output.line(&format!("{name}\t\t{state}{status}"));
        output.row(&[name.as_str(), if works { "yes" } else { "no" }, if feeds { "yes" } else { "no" }]);
        described.push(name);
    }
    if !given.has("description") {
        return Ok(output.into());
    }
    match described.as_slice() {
        [name] if name != BUILT_IN => Ok(helped(
            &output,
            Order { plugin: name.clone(), deed: Deed::Describe, nodes: Vec::new(), remote: false },
        )),
        _ => {
            if described.iter().any(|name| name == BUILT_IN) {
                output.line(&format!("{BUILT_IN}: {DESCRIPTION}"));
            }
            for name in described.iter().filter(|name| *name != BUILT_IN) {
                output.line(&format!("{name}: 'monls {name} -d' asks it"));
            }
            Ok(output.into())
        }
    }
}

fn helped(output: &Output, order: Order) -> Plan {
    Plan::Helper(Helper::Monitor(Box::new((output.clone(), order))))
}

/// Reads NAME [NODERANGE] [-r] of a registered plug-in.
fn order(ctx: &Ctx<'_>, command: &Command, deed: Deed) -> Result<(Order, bool), Plan> {
    let given = head(ctx, command.usage, &[flag('r', "remote")])?;
    let (name, range) = match given.rest.as_slice() {
        [name] => (name, None),
        [name, range] => (name, Some(range)),
        _ => return Err(Plan::usage(command.usage, 1)),
    };
    let (works, _) = registered(ctx, name)?;
    if deed != Deed::Stop {
        exists(ctx, name)?;
    }
    let nodes = range.map_or(Ok(Vec::new()), |range| ctx.nodes(range))?;
    if range.is_some() && nodes.is_empty() {
        return Err(Plan::error(ctx, "There are no such nodes"));
    }
    let order = Order { plugin: name.clone(), deed, nodes, remote: given.has("remote") };
    Ok((order, works))
}

/// monstart and monstop.
fn switch(ctx: &Ctx<'_>, command: &Command, deed: Deed) -> Result<Plan, Plan> {
    let (order, works) = order(ctx, command, deed)?;
    let wanted = deed == Deed::Start;
    // Some nodes less: it goes on with the others.
    let partly = !wanted && !order.nodes.is_empty();
    if works == wanted || partly {
        return Ok(helped(&Output::new(), order));
    }
    let disable = if wanted { "0" } else { "1" };
    let row = RowChange::set("monitoring", &[&order.plugin], &[("disable", disable)]);
    Ok(changed(vec![row], vec![Effect::Monitor(order)]))
}

/// moncfg and mondecfg.
fn configure(ctx: &Ctx<'_>, command: &Command, deed: Deed) -> Result<Plan, Plan> {
    let (order, _) = order(ctx, command, deed)?;
    Ok(helped(&Output::new(), order))
}

#[cfg(test)]
mod tests;
