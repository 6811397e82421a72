//! xdshbak: output of many nodes, sorted by node under a header each, equal ones together if wanted.
//!
//! Reads `node: text` lines from standard input.

use std::collections::BTreeMap;

use crate::args::{flag, head};
use crate::plan::{Ctx, Output, Plan};
use crate::registry::{Command, Range};

/// The command.
pub(crate) static COMMAND: Command = Command {
    name: "xdshbak",
    aliases: &[],
    summary: "Show output of nodes under headers",
    usage: "Usage: xdshbak [-c | -x [-b]] [-q]\n       xdshbak [-h|--help]\n\n   -c  show equal output once, under \
            the names of all its nodes\n   -x  sort only: no headers, the names stay in front of the lines\n   -b  \
            with -x: without the names\n   -q  nothing about the progress (there is none to tell)\n",
    writes: false,
    range: Range::None,
    plan,
};

/// Width of the lines around the names.
const WIDTH: usize = 79;

fn plan(ctx: &Ctx<'_>) -> Plan {
    let own = [flag('c', ""), flag('x', ""), flag('b', ""), flag('q', "")];
    let given = match head(ctx, COMMAND.usage, &own) {
        Ok(given) if given.rest.is_empty() && !(given.has("c") && given.has("x")) => given,
        Ok(_) => return Plan::usage(COMMAND.usage, 1),
        Err(plan) => return plan,
    };
    let input = match ctx.input() {
        Ok(input) => String::from_utf8_lossy(input).into_owned(),
        Err(plan) => return plan,
    };
    let mut texts: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut node = "";
    for line in input.lines() {
        // A line without a name belongs to the node of the line before.
        let text = match line.split_once(':').filter(|(name, _)| !name.is_empty() && !name.contains(' ')) {
            Some((name, text)) => {
                node = name;
                text.strip_prefix(' ').unwrap_or(text)
            }
            None => line,
        };
        texts.entry(node).or_default().push(text);
    }
    let mut output = Output::new();
    if given.has("x") {
        for (node, text) in &texts {
            for line in text {
                match given.has("b") || node.is_empty() {
                    true => output.line(line),
                    false => output.line(&format!("{node}: {line}")),
                }
            }
        }
        return output.into();
    }
    let mut blocks: Vec<(Vec<&str>, &Vec<&str>)> = Vec::new();
    for (node, text) in &texts {
        match blocks.iter_mut().find(|(_, known)| given.has("c") && *known == text) {
            Some((nodes, _)) => nodes.push(node),
            None => blocks.push((vec![node], text)),
        }
    }
    for (nodes, text) in blocks {
        output.line(&format!("HOSTS {}\n{}\n{}", "-".repeat(WIDTH - 6), nodes.join(", "), "-".repeat(WIDTH)));
        for line in text {
            output.line(line);
        }
        output.line("");
    }
    output.into()
}
