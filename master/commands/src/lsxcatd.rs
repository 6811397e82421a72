//! lsxcatd: what the masters are.

use crate::args::{flag, read};
use crate::plan::{Ctx, Output, Plan};
use crate::registry::{Command, Range};

/// The command.
pub(crate) static COMMAND: Command = Command {
    name: "lsxcatd",
    aliases: &[],
    summary: "Show version, role and store of the masters",
    usage: "       lsxcatd [-v|--version]\n       lsxcatd [-h|--help]\n       lsxcatd [-d|--database]\n       \
            lsxcatd [-t|--nodetype]\n       lsxcatd [-a|--all]\n",
    writes: false,
    range: Range::None,
    plan,
};

fn plan(ctx: &Ctx<'_>) -> Plan {
    let known = [
        flag('v', "version"),
        flag('h', "help"),
        flag('d', "database"),
        flag('t', "nodetype"),
        flag('a', "all"),
        flag('V', "verbose"),
        flag('?', ""),
    ];
    let given = match read(ctx.args, &known, true) {
        Ok(given) if !ctx.args.is_empty() => given,
        _ => return Plan::usage(COMMAND.usage, 1),
    };
    if given.has("help") || given.has("?") {
        return Plan::usage(COMMAND.usage, 0);
    }
    let all = given.has("all");
    let mut output = Output::new();
    if ctx.inputs.rows {
        output.fields(&["name", "value"]);
        let known = [("version", ctx.version), ("nodetype", "Management Node"), ("database", "SQLite")];
        for (name, value) in known.into_iter().filter(|(name, _)| all || given.has(name)) {
            output.row(&[name, value]);
        }
    }
    if all || given.has("version") {
        output.line(&format!("Version {}", ctx.version));
    }
    if all || given.has("nodetype") {
        output.line("This is a Management Node");
    }
    if all || given.has("database") {
        output.line("dbengine=SQLite");
    }
    output.into()
}
