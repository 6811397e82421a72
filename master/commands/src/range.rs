//! margay noderange: what a noderange stands for, one name a line.

use noderange::{fold, generic};

use crate::args::{head, word};
use crate::plan::{Ctx, Output, Plan, invalid};
use crate::registry::{Command, Range};

/// The command.
pub(crate) static COMMAND: Command = Command {
    name: "noderange",
    aliases: &[],
    summary: "Expand or fold a noderange",
    usage: "Usage: margay noderange [--generic] [--fold] <noderange>\n       margay noderange [-h|--help]\n\n   \
            --generic  by syntax alone; the names need not exist\n   --fold     the shortest noderange for \
            the same names\n",
    writes: false,
    range: Range::None,
    plan,
};

fn plan(ctx: &Ctx<'_>) -> Plan {
    let given = match head(ctx, COMMAND.usage, &[word("generic"), word("fold")]) {
        Ok(given) => given,
        Err(plan) => return plan,
    };
    let [text] = given.rest.as_slice() else { return Plan::usage(COMMAND.usage, 1) };
    let names = if given.has("generic") {
        match generic(text, &ctx.range_options()) {
            Ok(names) => names,
            Err(error) => return Plan::error(ctx, &error.to_string()),
        }
    } else {
        match ctx.state.expand(text, ctx.files, &ctx.range_options()) {
            Ok(found) if found.missing.is_empty() => found.nodes,
            Ok(found) => {
                let names: Vec<String> = found.missing.iter().map(|m| m.name.clone()).collect();
                let mut output = Output::new();
                output.complain(&invalid(&names));
                let mut told = Vec::new();
                for missing in &found.missing {
                    if !told.contains(&missing.position) {
                        told.push(missing.position);
                        output.complain(&format!("{text}\n{:>1$} not found", "^", missing.position));
                    }
                }
                return Plan::Answer(output.status(1));
            }
            Err(_) => match ctx.nodes(text) {
                Ok(names) => names,
                Err(plan) => return plan,
            },
        }
    };
    let mut output = Output::new();
    if given.has("fold") {
        if !names.is_empty() {
            output.line(&fold(&names));
        }
    } else {
        for name in &names {
            output.line(name);
        }
        if ctx.inputs.rows {
            output.fields(&["node"]);
            names.iter().for_each(|name| output.row(&[name]));
        }
    }
    output.into()
}
