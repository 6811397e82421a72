//! regnotif and unregnotif: the rows of the table notification.

use state::RowChange;

use crate::args::{head, value};
use crate::plan::{Change, Ctx, Output, Plan};
use crate::registry::{Command, Range};

/// regnotif.
pub(crate) static REGNOTIF: Command = Command {
    name: "regnotif",
    aliases: &[],
    summary: "Register a program for changes of tables",
    usage: "Usage: regnotif [-h|--help|-v|--version]\n       regnotif <filename> <table>[,<table>...] \
            [-o|--operation a,d,u]\n",
    writes: true,
    range: Range::None,
    plan: register,
};

/// unregnotif.
pub(crate) static UNREGNOTIF: Command = Command {
    name: "unregnotif",
    aliases: &[],
    summary: "Take back the registration of a program",
    usage: "Usage: unregnotif [-h|--help|-v|--version]\n       unregnotif <filename>\n",
    writes: true,
    range: Range::None,
    plan: unregister,
};

/// What is registered when nothing is said.
const ALL: &str = "a,d,u";

fn register(ctx: &Ctx<'_>) -> Plan {
    let words = match words(ctx, &REGNOTIF) {
        Ok(words) => words,
        Err(plan) => return plan,
    };
    let operations = words.value("operation").unwrap_or(ALL);
    let [file, tables] = words.rest.as_slice() else { return Plan::usage(REGNOTIF.usage, 1) };
    if operations.split(',').any(|word| !matches!(word, "a" | "d" | "u")) {
        // On standard output and with status 0, as xCAT has it (observation w187).
        let mut output = Output::new();
        output.line(&format!("Invalid table operations: {operations}"));
        return output.into();
    }
    let cells = [("tables", tables.as_str()), ("tableops", operations)];
    changed(RowChange::set("notification", &[file], &cells))
}

fn unregister(ctx: &Ctx<'_>) -> Plan {
    match words(ctx, &UNREGNOTIF) {
        Ok(words) => match words.rest.as_slice() {
            [file] => changed(RowChange::delete("notification", &[file])),
            _ => Plan::usage(UNREGNOTIF.usage, 1),
        },
        Err(plan) => plan,
    }
}

fn words(ctx: &Ctx<'_>, command: &Command) -> Result<crate::args::Given, Plan> {
    head(ctx, command.usage, &[value('o', "operation")])
}

fn changed(change: RowChange) -> Plan {
    Plan::Change(Change { changes: vec![change], ..Change::default() })
}
