//! `margay undo`: takes a revision back, as a new revision.

use state::Precondition;
use state::history::{Query, is_record};

use crate::cells;
use crate::log::too_old;
use crate::operate::read;
use crate::plan::{Change, Ctx, Output, Plan};
use crate::registry::{Command, Range};

/// Rows up to which each is guarded by itself; beyond, their tables are.
const GUARDS: usize = 1_000;
/// Clashes that are named.
const NAMED: usize = 20;

/// The command.
pub static COMMAND: Command = Command {
    name: "undo",
    aliases: &[],
    summary: "Take a change back",
    usage: "Usage: margay undo REV [--plan]\n\n   Nothing is done when later changes touched the same cells; they are \
            named then.\n",
    writes: true,
    range: Range::None,
    plan,
};

fn plan(ctx: &Ctx<'_>) -> Plan {
    undo(ctx).unwrap_or_else(|plan| plan)
}

fn undo(ctx: &Ctx<'_>) -> Result<Plan, Plan> {
    let given = read(ctx, COMMAND.usage, &[])?;
    let [text] = given.rest.as_slice() else { return Err(Plan::usage(COMMAND.usage, 1)) };
    // A time would name another revision after every change.
    let number: u64 = text.parse().map_err(|_| Plan::usage(COMMAND.usage, 1))?;
    let newest = ctx.state.revision();
    if number > newest || number == 0 {
        return Err(Plan::error(ctx, &format!("There is no revision {number}; the newest is {newest}")));
    }
    if number <= ctx.state.oldest() {
        return Err(too_old(ctx, number));
    }
    let reading = ctx.past(Query::all(number, number))?;
    let Some(revision) = reading.revisions.first() else {
        return Err(Plan::error(
            ctx,
            &format!("Revision {number} changed nothing but records of what was done"),
        ));
    };
    let undo = ctx.state.undo(&revision.rows);
    let mut output = Output::new();
    if !undo.clashes.is_empty() {
        output
            .error(ctx, &format!("Revision {number} cannot be undone: later changes touched the same cells"));
        for clash in undo.clashes.iter().take(NAMED) {
            let now = if clash.now.is_empty() { "no value".to_owned() } else { format!("{:?}", clash.now) };
            let (table, key, column) = (clash.table, &clash.key, clash.column);
            output.complain(&format!("{table} {key}.{column}: now {now} (revision {})", clash.revision));
        }
        let more = undo.clashes.len().saturating_sub(NAMED);
        if more > 0 {
            output.complain(&format!("and {} more", cells::count(more, "cell")));
        }
        return Err(output.into());
    }
    let preconditions = match undo.guards.len() {
        ..=GUARDS => undo.guards,
        _ => undo
            .tables
            .iter()
            .filter(|table| !is_record(table))
            .map(|table| Precondition::TableUnchanged { table: (*table).to_owned(), at: newest })
            .collect(),
    };
    let what = cells::summary(&revision.rows);
    output.line(&format!("revision {number} ({}, by {}) undone: {what}", revision.command, revision.author));
    Ok(Plan::Change(Change { changes: undo.changes, preconditions, output, ..Change::default() }))
}
