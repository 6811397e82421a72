//! `margay digest`: sums of the tables, to tell whether two clusters, or one at two times, hold the same.

use state::digest::{TableDigest, together};

use crate::args::flag;
use crate::cells::count;
use crate::export::is_private;
use crate::operate::read;
use crate::plan::{Ctx, Output, Plan};
use crate::registry::{Command, Range};

/// The command.
pub static COMMAND: Command = Command {
    name: "digest",
    aliases: &[],
    summary: "Print sums by which the tables of two clusters or two times are compared",
    usage: "Usage: margay digest [-l] [--at REV|time]\n\n   all: every table but records of what was done; data: the \
            tables of an export.\n   -l: each table that has rows, too. SHA-256; the order of rows does not count.\n",
    writes: false,
    range: Range::None,
    plan,
};

fn plan(ctx: &Ctx<'_>) -> Plan {
    let given = match read(ctx, COMMAND.usage, &[flag('l', "long")]) {
        Ok(given) => given,
        Err(plan) => return plan,
    };
    if !given.rest.is_empty() {
        return Plan::usage(COMMAND.usage, 1);
    }
    let tables = ctx.state.digests();
    let data: Vec<&TableDigest> = tables.iter().filter(|table| !is_private(table.name)).collect();
    let mut output = Output::new();
    if ctx.inputs.rows {
        output.fields(&["name", "digest", "rows"]);
        let sum = |tables: &[&TableDigest]| tables.iter().map(|table| table.rows).sum::<usize>().to_string();
        let all: Vec<&TableDigest> = tables.iter().collect();
        output.row(&["all".to_owned(), together(&tables).to_string(), sum(&all)]);
        output.row(&["data".to_owned(), together(data.iter().copied()).to_string(), sum(&data)]);
        for table in tables.iter().filter(|_| given.has("long")) {
            output.row(&[table.name.to_owned(), table.digest.to_string(), table.rows.to_string()]);
        }
    }
    output.line(&format!("{}  all", together(&tables)));
    output.line(&format!("{}  data", together(data)));
    for table in tables.iter().filter(|_| given.has("long")) {
        output.line(&format!("{}  {} ({})", table.digest, table.name, count(table.rows, "row")));
    }
    output.into()
}
