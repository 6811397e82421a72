//! `margay compact`: forget the past before its time.

use crate::args::flag;
use crate::notice::needed;
use crate::operate::read;
use crate::plan::{Ctx, Plan};
use crate::registry::{Command, Range};

/// The command.
pub static COMMAND: Command = Command {
    name: "compact",
    aliases: &[],
    summary: "Forget what old revisions changed",
    usage: "Usage: margay compact [-f|--force] REV\n\n   REV is the first revision that can be looked at afterwards, a \
            time (2026-11-20T09:30, UTC), 30d (ago) or now\n",
    writes: true,
    range: Range::None,
    plan,
};

fn plan(ctx: &Ctx<'_>) -> Plan {
    compact(ctx).unwrap_or_else(|plan| plan)
}

fn compact(ctx: &Ctx<'_>) -> Result<Plan, Plan> {
    let given = read(ctx, COMMAND.usage, &[flag('f', "force")])?;
    let [text] = given.rest.as_slice() else { return Err(Plan::usage(COMMAND.usage, 1)) };
    // The newest change is always kept.
    let upto = ctx.revision(text)?.min(ctx.state.revision().saturating_sub(1));
    match needed(ctx.state).filter(|(_, at)| *at <= upto) {
        Some((file, _)) if !given.has("force") => Err(Plan::error(
            ctx,
            &format!(
                "{file} has not been told of everything up to revision {upto}; -f forgets it all the same"
            ),
        )),
        _ => Ok(Plan::Compact(upto)),
    }
}
