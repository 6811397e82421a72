//! tabgrep: which tables know a node, by its own rows or by those of its groups.

use state::schema;

use crate::args::head;
use crate::plan::{Ctx, Output, Plan};
use crate::registry::{Command, Range};

/// The command.
pub(crate) static COMMAND: Command = Command {
    name: "tabgrep",
    aliases: &[],
    summary: "List the tables that have a row for a node",
    usage: "Usage: tabgrep nodename\n       tabgrep [-?|-h|--help]\n",
    writes: false,
    range: Range::First,
    plan,
};

fn plan(ctx: &Ctx<'_>) -> Plan {
    let given = match head(ctx, COMMAND.usage, &[]) {
        Ok(given) => given,
        Err(plan) => return plan,
    };
    let [range] = given.rest.as_slice() else { return Plan::usage(COMMAND.usage, 1) };
    let nodes = match ctx.nodes(range) {
        Ok(nodes) => nodes,
        Err(plan) => return plan,
    };
    let mut output = Output::new();
    if ctx.inputs.rows {
        output.fields(&["table"]);
    }
    for table in schema().node_tables() {
        let def = schema().def(table);
        let rows = ctx.state.table(table);
        let known = nodes.iter().any(|node| {
            let groups = ctx.state.groups_of(node).filter(|_| def.inherits);
            std::iter::once(node.as_str()).chain(groups).any(|owner| rows.of_node(owner).next().is_some())
        });
        if known && !def.own {
            output.line(def.name);
            if ctx.inputs.rows {
                output.row(&[def.name]);
            }
        }
    }
    output.into()
}
