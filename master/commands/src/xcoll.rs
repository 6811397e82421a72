//! xcoll: output of many nodes, equal ones together.
//!
//! Reads `node: text` lines from standard input. Groups whose members all gave the same are named instead of
//! them, the largest first, unless `-n` is given.

use std::collections::{BTreeMap, BTreeSet};

use crate::args::{flag, head};
use crate::plan::{Ctx, Output, Plan};
use crate::registry::{Command, Range};

/// The command.
pub(crate) static COMMAND: Command = Command {
    name: "xcoll",
    aliases: &["xdshcoll"],
    summary: "Show equal output of nodes together",
    usage: "Usage: xcoll [-n] [-c]\n       xcoll [-?|-h|--help]\n\n   -n  name nodes, not groups\n   -c  add the \
            number of nodes\n",
    writes: false,
    range: Range::None,
    plan,
};

const RULE: &str = "====================================";

fn plan(ctx: &Ctx<'_>) -> Plan {
    let given = match head(ctx, COMMAND.usage, &[flag('n', "nodes"), flag('c', "count")]) {
        Ok(given) if given.rest.is_empty() => given,
        Ok(_) => return Plan::usage(COMMAND.usage, 1),
        Err(plan) => return plan,
    };
    let input = match ctx.input() {
        Ok(input) => String::from_utf8_lossy(input).into_owned(),
        Err(plan) => return plan,
    };
    let mut order: Vec<&str> = Vec::new();
    let mut texts: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in input.lines() {
        let Some((node, text)) = line.split_once(':') else { continue };
        let lines = texts.entry(node).or_insert_with(|| {
            order.push(node);
            Vec::new()
        });
        lines.push(text.strip_prefix(' ').unwrap_or(text));
    }
    let mut equal: Vec<(&Vec<&str>, BTreeSet<&str>)> = Vec::new();
    for node in order {
        let text = &texts[node];
        match equal.iter_mut().find(|(known, _)| *known == text) {
            Some((_, nodes)) => {
                nodes.insert(node);
            }
            None => equal.push((text, BTreeSet::from([node]))),
        }
    }
    let mut output = Output::new();
    for (text, nodes) in equal {
        let count = if given.has("count") { format!(" ({})", nodes.len()) } else { String::new() };
        let names = if given.has("nodes") { nodes } else { with_groups(ctx, nodes) };
        let names: Vec<&str> = names.into_iter().collect();
        output.line(&format!("{RULE}\n{}{count}\n{RULE}", names.join(",")));
        for line in text {
            output.line(line);
        }
        output.line("");
    }
    output.into()
}

/// Puts the names of groups for members that are all there.
fn with_groups<'a>(ctx: &Ctx<'a>, mut nodes: BTreeSet<&'a str>) -> BTreeSet<&'a str> {
    let mut groups: Vec<(usize, &str, Vec<&str>)> = nodes
        .iter()
        .flat_map(|node| ctx.state.groups_of(node))
        .collect::<BTreeSet<_>>()
        .into_iter()
        .filter_map(|group| Some((group, ctx.state.members(group)?)))
        .filter(|(_, members)| members.len() > 1)
        .map(|(group, members)| (members.len(), group, members))
        .collect();
    groups.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
    let mut named = BTreeSet::new();
    for (_, group, members) in groups {
        if members.iter().all(|member| nodes.contains(member)) {
            nodes.retain(|node| !members.contains(node));
            named.insert(group);
        }
    }
    nodes.extend(named);
    nodes
}
