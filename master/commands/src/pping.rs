//! pping: which nodes can be reached.

use wire::op::NodeOp;

use crate::args::{flag, value};
use crate::fanout::{FanOut, Style};
use crate::operate::read;
use crate::plan::{Ctx, Output, Plan};
use crate::registry::{Command, Range};

/// The command.
pub static COMMAND: Command = Command {
    name: "pping",
    aliases: &[],
    summary: "Show which nodes can be reached",
    usage: "Usage: pping [-f|--use_fping] <noderange>\n       pping [-h|--help|-v|--version]\n",
    writes: false,
    range: Range::First,
    plan,
};

fn plan(ctx: &Ctx<'_>) -> Plan {
    show(ctx).unwrap_or_else(|plan| plan)
}

fn show(ctx: &Ctx<'_>) -> Result<Plan, Plan> {
    let own = [flag('f', "use_fping"), value('i', "interface")];
    let given = read(ctx, COMMAND.usage, &own)?;
    if given.has("interface") {
        return Err(Plan::error(ctx, "pping -i (other interfaces of the nodes) is not supported"));
    }
    let [range] = given.rest.as_slice() else { return Err(Plan::usage(COMMAND.usage, 1)) };
    let (nodes, missing) = ctx.expand(range)?;
    let mut output = Output::new();
    if !missing.is_empty() {
        output.line(&format!("Warning: Invalid nodes in noderange:{}", missing.join(",")));
    }
    if nodes.is_empty() {
        return Ok(output.status(1).into());
    }
    let fan_out = FanOut::hardware(NodeOp::NodeStat, nodes);
    Ok(Plan::FanOut(FanOut { style: Style::Ping, output, ..fan_out }))
}
