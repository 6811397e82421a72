//! rmdef: remove objects.

use state::schema;
use state::schema::TypeDef;

use crate::args::{Opt, flag, read, value};
use crate::defs::with_types;
use crate::mkdef::object_type;
use crate::object_edit::removal;
use crate::plan::{Change, Ctx, Output, Plan};
use crate::registry::{Command, Range};

/// The command.
pub(crate) static COMMAND: Command = Command {
    name: "rmdef",
    aliases: &[],
    summary: "Remove objects",
    usage: "\nUsage: rmdef - Remove xCAT data object definitions.\n\n  rmdef [-h | --help ] [-t object-types]\n\n  \
            rmdef [-V | --verbose] [-t object-types] [-a | --all] [-f | --force]\n    [-o object-names] [-C | \
            --cleanup] [noderange]\n\n",
    writes: true,
    range: Range::Objects(OPTIONS),
    plan,
};

const OPTIONS: &[Opt] = &[
    flag('a', "all"),
    flag('C', "cleanup"),
    flag('f', "force"),
    flag('h', "help"),
    flag('?', ""),
    value('o', "objects"),
    value('t', "type"),
    flag('v', "version"),
    flag('V', "verbose"),
];

fn plan(ctx: &Ctx<'_>) -> Plan {
    remove(ctx).unwrap_or_else(|plan| plan)
}

fn remove(ctx: &Ctx<'_>) -> Result<Plan, Plan> {
    let usage = with_types(COMMAND.usage);
    let complain = |text: &str| {
        let mut output = Output::new();
        output.text(&usage);
        output.error(ctx, text);
        Plan::Answer(output)
    };
    let given = read(ctx.args, OPTIONS, true).map_err(|_| complain("Invalid option.."))?;
    if given.has("version") {
        let mut output = Output::new();
        output.line(&format!("rmdef - Version {}", ctx.version));
        return Err(output.into());
    }
    if ctx.args.is_empty() || given.has("help") || given.has("?") {
        return Err(Plan::usage(&usage, 0));
    }
    if given.has("all") && given.has("type") {
        return Err(complain("The flags '-a' and '-t' cannot be used together."));
    }
    if given.has("all") && !given.has("force") {
        return Err(complain("You must use the '-f' option when using the '-a' option."));
    }
    let mut output = Output::new();
    let mut objects: Vec<(&TypeDef, String)> = Vec::new();
    if given.has("all") {
        // Settings and rules stay: without them nobody could do anything any more.
        for kind in schema().types.iter().filter(|k| !matches!(k.name, "site" | "policy")) {
            objects.extend(ctx.state.object_names(kind).into_iter().map(|name| (kind, name)));
        }
    } else {
        let kind = object_type(ctx, given.value("type").unwrap_or("node"))?;
        let mut names = given.values("objects");
        names.extend(given.rest.first().map(String::as_str));
        if names.is_empty() {
            return Err(complain("No object names were provided."));
        }
        let (found, missing): (Vec<String>, Vec<String>) = match kind.name {
            "node" => ctx.expand(&names.join(","))?,
            _ => {
                let names = names.join(",");
                names.split(',').map(str::to_owned).partition(|name| ctx.state.has_object(kind, name))
            }
        };
        for name in missing {
            output.error(ctx, &format!("Could not find an object named '{name}' of type '{}'.", kind.name));
        }
        objects.extend(found.into_iter().map(|name| (kind, name)));
    }
    if objects.is_empty() {
        output.line("No objects have been removed from the xCAT database.");
        return Ok(output.into());
    }
    output.line(&format!("{} object definitions have been removed.", objects.len()));
    let changes = objects.iter().flat_map(|(kind, name)| removal(ctx, kind, name)).collect();
    Ok(Plan::Change(Change { changes, output, ..Change::default() }))
}
