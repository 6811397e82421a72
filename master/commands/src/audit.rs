//! `margay audit`: who asked for what, newest last.

use crate::action::stamp;
use crate::args::{head, value, word, word_value};
use crate::plan::{Ctx, Need, Output, Plan, Record};
use crate::registry::{Command, Range};
use crate::rehearse::{recorded, since};

/// `margay audit`.
pub static AUDIT: Command = Command {
    name: "audit",
    aliases: &[],
    summary: "Show who asked for what: changes, deeds and denials, or plain reads",
    usage: "Usage: margay audit [--reads] [--denied] [-n <count>] [-u <user>] [--since <time>]

   --reads   plain reads that this master answered, instead of the audit log
   --denied  only what was denied
   -n        so many of the newest (20)
   -u        only of this user
   --since   only since then (24h)
",
    writes: false,
    range: Range::None,
    plan,
};

/// Fields of the output in rows.
const FIELDS: [&str; 8] = ["time", "user", "host", "status", "rule", "command", "noderange", "args"];
/// Lines without `-n`.
const NEWEST: usize = 20;

fn plan(ctx: &Ctx<'_>) -> Plan {
    audit(ctx).unwrap_or_else(|plan| plan)
}

fn audit(ctx: &Ctx<'_>) -> Result<Plan, Plan> {
    let own = [word("reads"), word("denied"), value('n', "number"), value('u', "user"), word_value("since")];
    let given = head(ctx, AUDIT.usage, &own)?;
    if !given.rest.is_empty() {
        return Err(Plan::usage(AUDIT.usage, 1));
    }
    let count = match given.value("number").map(str::parse) {
        None => NEWEST,
        Some(Ok(count)) => count,
        Some(Err(_)) => return Err(Plan::usage(AUDIT.usage, 1)),
    };
    let since = since(ctx, given.value("since"))?;
    let mut records = match (given.has("reads"), &ctx.inputs.reads) {
        (false, _) => recorded(ctx, since),
        (true, None) => return Err(Plan::Need(Need::Reads)),
        (true, Some(reads)) => reads.iter().filter(|record| record.time >= since).cloned().collect(),
    };
    let user = given.value("user");
    records.retain(|record| {
        user.is_none_or(|user| record.user == user) && (!given.has("denied") || record.status == "Denied")
    });
    let mut output = Output::new();
    if ctx.inputs.rows {
        output.fields(&FIELDS);
    }
    for record in records.iter().skip(records.len().saturating_sub(count)) {
        match ctx.inputs.rows {
            true => output.row(&cells(record)),
            false => output.line(&line(record)),
        }
    }
    Ok(output.into())
}

fn cells(record: &Record) -> [String; 8] {
    let Record { time, user, host, command, range, args, status, rule, .. } = record;
    [&stamp(*time), user, host, status, rule, command, range, args].map(String::clone)
}

fn line(record: &Record) -> String {
    let Record { time, user, host, command, args, status, rule, .. } = record;
    let rule = if rule.is_empty() { String::new() } else { format!(" by rule {rule}") };
    let status = if status.is_empty() { "Read" } else { status };
    let line = format!("{}  {user}  {host}  {status}{rule}  {command} {args}", stamp(*time));
    line.trim_end().replace(['\n', '\r'], " ")
}
