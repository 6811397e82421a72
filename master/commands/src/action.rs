//! `margay action`: the queue of actions.

use std::fmt::Write;

use state::actions::{self, Action};
use wire::ids::ActionId;

use crate::args::{value, word};
use crate::operate::read;
use crate::plan::{Ctx, Output, Plan};
use crate::registry::{Command, Range};

/// `margay action`.
pub static ACTION: Command = Command {
    name: "action",
    aliases: &[],
    summary: "List, show, attach to or cancel actions",
    usage: "Usage: margay action list [-n <count>] [--running]
       margay action show <id>
       margay action attach <id>
       margay action cancel <id>
",
    writes: true,
    range: Range::None,
    plan,
};

/// Fields of the rows.
const FIELDS: [&str; 11] =
    ["id", "state", "status", "user", "started", "ended", "nodes", "command", "master", "detached", "text"];
/// Actions listed without `-n`.
const NEWEST: usize = 20;

fn plan(ctx: &Ctx<'_>) -> Plan {
    let given = match read(ctx, ACTION.usage, &[value('n', ""), word("running")]) {
        Ok(given) => given,
        Err(plan) => return plan,
    };
    let words: Vec<&str> = given.rest.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] | ["list"] => {
            let count = match given.value("n").map(str::parse) {
                None => NEWEST,
                Some(Ok(count)) => count,
                Some(Err(_)) => return Plan::usage(ACTION.usage, 1),
            };
            list(ctx, count, given.has("running")).into()
        }
        [verb @ ("show" | "attach" | "cancel"), id] => match found(ctx, id) {
            Err(text) => Plan::error(ctx, &text),
            Ok(action) => match *verb {
                "show" if ctx.inputs.rows => {
                    let mut output = Output::new();
                    output.fields(&FIELDS);
                    output.row(&cells(&action));
                    output.into()
                }
                "show" => show(&action).into(),
                "attach" => Plan::Attach(action.id),
                _ => Plan::Cancel(action.id),
            },
        },
        _ => Plan::usage(ACTION.usage, 1),
    }
}

fn found(ctx: &Ctx<'_>, id: &str) -> Result<Action, String> {
    let number = id.parse().map_err(|_| format!("'{id}' is not the number of an action"))?;
    actions::find(ctx.state, ActionId(number)).ok_or_else(|| format!("There is no action {id}"))
}

fn list(ctx: &Ctx<'_>, count: usize, running: bool) -> Output {
    let mut output = Output::new();
    let all: Vec<Action> = actions::list(ctx.state)
        .into_iter()
        .filter(|action| !running || action.phase == actions::Phase::Running)
        .collect();
    let newest = all.iter().skip(all.len().saturating_sub(count));
    if ctx.inputs.rows {
        output.fields(&FIELDS);
        newest.for_each(|action| output.row(&cells(action)));
        return output;
    }
    output.line("ID     STATE      STATUS USER       STARTED              NODES COMMAND");
    for action in newest {
        let status =
            if action.phase == actions::Phase::Running { "-".to_owned() } else { action.status.to_string() };
        output.line(&format!(
            "{:<6} {:<10} {:<6} {:<10} {:<20} {:<5} {}",
            action.id.0,
            action.phase.word(),
            status,
            action.author,
            stamp(action.created),
            action.nodes,
            action.command
        ));
    }
    output
}

fn cells(action: &Action) -> [String; 11] {
    let ended = action.phase != actions::Phase::Running;
    [
        action.id.0.to_string(),
        action.phase.word().to_owned(),
        if ended { action.status.to_string() } else { String::new() },
        action.author.clone(),
        stamp(action.created),
        if ended { stamp(action.ended) } else { String::new() },
        action.nodes.to_string(),
        action.command.clone(),
        action.master.clone(),
        if action.detached { "yes" } else { "no" }.to_owned(),
        action.text.clone(),
    ]
}

fn show(action: &Action) -> Output {
    let mut text = String::new();
    let _ = writeln!(text, "Action {}", action.id);
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "    {name}={value}");
        }
    };
    line("command", &action.command);
    line("user", &action.author);
    line("state", action.phase.word());
    if action.phase != actions::Phase::Running {
        line("status", &action.status.to_string());
        line("ended", &stamp(action.ended));
    }
    line("started", &stamp(action.created));
    line("nodes", &action.nodes.to_string());
    line("master", &action.master);
    line("detached", if action.detached { "yes" } else { "" });
    line("request", &action.request.map(|request| request.to_string()).unwrap_or_default());
    line("text", &action.text);
    let mut output = Output::new();
    output.text(&text);
    output
}

/// Unix seconds as `2026-11-20 09:30:11` (UTC).
#[must_use]
pub fn stamp(unix: u64) -> String {
    let (days, seconds) = (unix / 86_400, unix % 86_400);
    // Days to a date of the proleptic Gregorian calendar, counted in years that begin in March.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

/// Unix seconds as `nodelist.statustime` holds them: `11-20-2026 09:30:11` (UTC).
#[must_use]
pub fn status_time(unix: u64) -> String {
    let stamp = stamp(unix);
    match stamp.split_once(' ').map(|(date, time)| (date.split_once('-'), time)) {
        Some((Some((year, day)), time)) => format!("{day}-{year} {time}"),
        _ => stamp,
    }
}

#[cfg(test)]
mod tests {
    use super::{stamp, status_time};

    #[test]
    fn unix_seconds_become_dates() {
        assert_eq!(stamp(0), "1970-01-01 00:00:00");
        assert_eq!(stamp(951_782_399), "2000-02-28 23:59:59");
        assert_eq!(stamp(951_782_400), "2000-02-29 00:00:00");
        assert_eq!(stamp(1_795_176_000), "2026-11-20 12:00:00");
        assert_eq!(status_time(1_795_176_000), "11-20-2026 12:00:00");
    }
}
