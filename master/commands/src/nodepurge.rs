//! nodepurge: nodes, and what is left of them in files: hosts entries, host keys.
//!
//! DHCP answers, boot scripts and consoles are computed from the tables, so they go with the rows.

use crate::args::head;
use crate::knownhosts::{self, OWN_FILE};
use crate::makehosts;
use crate::plan::{Change, Ctx, Effect, Need, Output, Plan};
use crate::registry::{Command, Range};
use state::RowChange;

/// The command.
pub(crate) static COMMAND: Command = Command {
    name: "nodepurge",
    aliases: &[],
    summary: "Remove nodes and what is left of them in files",
    usage: "Usage:\n  nodepurge noderange\n  nodepurge {-v|--version}\n  nodepurge [-?|-h|--help]\n",
    writes: true,
    range: Range::First,
    plan,
};

fn plan(ctx: &Ctx<'_>) -> Plan {
    purge(ctx).unwrap_or_else(|plan| plan)
}

fn purge(ctx: &Ctx<'_>) -> Result<Plan, Plan> {
    let usage = || Plan::usage(COMMAND.usage, 1);
    let given = head(ctx, COMMAND.usage, &[])?;
    let [range] = given.rest.as_slice() else { return Err(usage()) };
    let nodes = ctx.nodes(range)?;
    if nodes.is_empty() {
        return Err(usage());
    }
    let Some(hosts) = &ctx.inputs.hosts else { return Err(Plan::Need(Need::Hosts)) };
    let mut effects = Vec::new();
    let text = makehosts::without(ctx, &nodes, hosts);
    if text != *hosts {
        effects.push(Effect::WriteHosts(text));
    }
    if let Some(old) = ctx.file(OWN_FILE)? {
        effects.extend(knownhosts::without(ctx, &nodes, old));
    }
    let mut output = Output::new();
    if given.has("verbose") {
        nodes.iter().for_each(|node| output.line(&format!("{node}: removed")));
    }
    let changes = nodes.into_iter().map(|node| RowChange::ForgetNode { node }).collect();
    Ok(Plan::Change(Change { changes, effects, output, ..Change::default() }))
}
